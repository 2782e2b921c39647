"""A kind of claim is one class in one file: another is checked, judged, printed and charted like the others."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.config.errors import ConfigError
from experiments.config.experiment import Claim, Experiment, Floor
from experiments.config.paths import CONFIGS, ROOT
from experiments.judging import claims
from experiments.judging.claims.base import CLAIMED, Kind
from experiments.judging.intervals import paired_t
from experiments.judging.judge import judge
from experiments.judging.numbers import interval_text
from experiments.judging.verdict import CONTRADICTED, REPRODUCED
from experiments.report import charts, tables
from experiments.report.claim_view import strips
from experiments.sweeps.grid import base
from tests.judging.test_claims import NO_CURVES, NOISE, SEEDS, rows


class Level(Kind):
    """A claim about one cell alone: its metric stays below at_most."""

    name = "level"
    fields = ("metric", "a", "at_most")
    has_margin = False

    def check(self):
        super().check()
        if self.claim.at_most <= 0:
            self.refuse("at_most= must be positive; give the level")

    def subjects(self):
        return [{**over, **self.claim.a} for over in self.contexts()]

    cells = subjects

    def judge(self, reader):
        outcomes = []
        for cell in self.subjects():
            values = reader.values(cell).dropna()
            interval = paired_t(values)
            verdict = REPRODUCED if interval.high < self.claim.at_most else CONTRADICTED
            compared = reader.compared("level", str(cell), len(values), [cell])
            outcomes.append(compared.outcome(verdict, interval_text(interval), interval))
        return outcomes

    def bounds(self):
        return [self.claim.at_most]

    def bands(self, low):
        return [(low, self.claim.at_most)]

    def caption(self):
        return "Line: Student's interval of the level."


@pytest.fixture
def experiment(monkeypatch) -> Experiment:
    monkeypatch.setitem(claims.KINDS, Level.name, Level)
    claim = Claim(
        id="c", statement="s", stated="here", kind="level", a={"norm": "ln"}, at_most=2.5, over={"model": "lstm"}
    )
    return Experiment(name="e", metric="test/bpc", unit="bits", claims=[claim], final_seeds=SEEDS)


def test_another_kind_is_judged_printed_and_charted(experiment):
    (verdict,) = judge(experiment, rows(ln=2.0 + NOISE), NO_CURVES)
    assert verdict.verdict == REPRODUCED and verdict.kind == "level" and verdict.metric == "test/bpc"
    assert tables.difference_table(verdict)["verdict"].tolist() == [REPRODUCED]
    kind = claims.kinds_of(experiment)["c"]
    assert "Student's interval of the level" in charts.forest_drawing(verdict, kind)
    (strip,) = strips(verdict, kind)
    assert strip.band[0] == 0.0 and strip.interval is not None


def test_another_kind_is_checked_before_its_runs(experiment):
    experiment.claims[0].at_most = 0.0
    with pytest.raises(ConfigError, match="claim c: at_most= must be positive"):
        claims.check_claims(experiment)


def test_no_other_module_asks_for_a_kind():
    """What depends on the kind is a method of its class."""
    files = [*Path(ROOT / "experiments").rglob("*.py"), *Path(ROOT / "experiments").rglob("*.j2")]
    of_other_uses = ("difference", "interaction", "share", "speed")
    names = [f'"{name}"' for name in claims.KINDS if name not in of_other_uses]
    for path in files:
        if "claims" not in path.parts:
            text = path.read_text()
            assert "verdict.kind ==" not in text and "claim.kind ==" not in text, path
            assert not [name for name in names if name in text], path


@pytest.mark.parametrize(
    "over, expected",
    [
        (None, [()]),
        ({"model": "lstm"}, [("lstm",)]),
        ({"model": ["lstm", "rnn"], "arm": ["a", "b"]}, [("lstm", "a"), ("lstm", "b"), ("rnn", "a"), ("rnn", "b")]),
        ([{"arm": ["a", "b"], "norm": "ln"}, {"arm": "a"}], [("a", "ln"), ("b", "ln"), ("a",)]),
    ],
)
def test_over_is_a_product(over, expected, experiment):
    claim = Claim(id="c", statement="s", stated="here", kind="difference", over=over)
    cells = claims.kind_of(claim, experiment).contexts()
    assert [tuple(cell.values()) for cell in cells] == expected


def test_claimed_names_the_nearest():
    claim = Claim(id="c", statement="s", stated="here", kind="difference", margin=1.0, claimed="lowr")
    with pytest.raises(ConfigError, match=f"claimed=lowr is unknown; allowed: {', '.join(CLAIMED)}; nearest: lower"):
        claims.check_claims(Experiment(claims=[claim]))


def test_a_kind_that_does_not_exist_names_the_nearest():
    claim = OmegaConf.to_object(OmegaConf.structured(Claim(id="c", statement="s", stated="here", kind="shares")))
    with pytest.raises(ConfigError, match=r"claim c: kind=shares is unknown; .*nearest: share"):
        claims.check_claims(Experiment(claims=[claim]))


def test_a_claim_that_a_profile_leaves_out_is_not_judged(experiment):
    experiment.without = ["c"]
    claims.check_claims(experiment)
    assert judge(experiment, rows(ln=2.0 + NOISE), NO_CURVES) == []
    experiment.without = ["d"]
    with pytest.raises(ConfigError, match=r"experiment.without=d is no claim; allowed: c; nearest: c"):
        claims.check_claims(experiment)


def test_null_stands_for_an_axis_that_a_run_lacks(experiment):
    experiment.claims[0].a = {"norm": "ln", "groups": None}
    runs = [{"model": "lstm", "norm": "ln", "groups": groups, "seed": s} for groups in ("", "4") for s in SEEDS]
    claims.check_cells(experiment, runs)
    experiment.claims[0].a = {"norm": "ln", "groups": 8}
    with pytest.raises(ConfigError, match=r"claim c: no run has \{model: lstm, norm: ln, groups: 8\}; nearest: \{"):
        claims.check_cells(experiment, runs)


@pytest.mark.parametrize("profile", ["quick", "standard", "full"])
def test_every_experiment_that_is_judged_by_statistics_has_floors_or_a_level_of_chance(profile):
    """Of its own, or of the experiments whose rows it reads."""
    for path in (CONFIGS / "experiment").glob(f"*/{profile}.yaml"):
        rule = base(path.parent.name, profile).experiment
        judged = [claim for claim in rule.claims if claim.kind != "exact" and claim.id not in rule.without]
        assert rule.floors or rule.sources or rule.chance or not judged, path


def test_a_floor_names_one_cell(experiment):
    runs = [
        {"model": "lstm", "norm": norm, "batch_size": n, "seed": s}
        for norm, n in (("none", 4), ("none", 8), ("ln", 4))
        for s in SEEDS
    ]
    experiment.floors = [Floor(cell={"norm": "none"}, at_most=1.0)]
    with pytest.raises(ConfigError, match=r"floor \{norm: none\}: 10 runs have it in place of 5; name one cell"):
        claims.check_cells(experiment, runs)
    experiment.floors[0].cell["batch_size"] = 8
    claims.check_cells(experiment, runs)
