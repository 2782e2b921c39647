"""README.md and results/README.md: short enough, and their generated parts are those of the committed results."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.benchmark import readme as benchmark
from experiments.benchmark.results import read
from experiments.config.errors import ConfigError
from experiments.judging.evidence import REFERENCE
from experiments.report.readme import (
    FINDINGS,
    FINDINGS_END,
    FINDINGS_START,
    VERDICTS_END,
    VERDICTS_START,
    Answer,
    answer_text,
    common_verdict,
    deciding,
    findings,
    flips,
    replace_block,
    replication,
    verdicts,
)
from tests.conftest import ROOT

README, RESULTS = ROOT / "README.md", ROOT / "results" / "README.md"
PROFILES = [path.parent for path in sorted(REFERENCE.glob("*/claims.json"))]


def between(page: Path, start: str, end: str) -> str:
    _, started, rest = page.read_text().partition(start)
    text, ended, _ = rest.partition(end)
    assert started and ended, f"{page.name} lacks {start} or {end}"
    return text.strip()


# --- the pages --------------------------------------------------------------------------------------------------------


def test_the_readme_is_read_in_one_sitting():
    text = README.read_text()
    assert len(text.split()) <= 1400
    assert text.splitlines().index("```") < 40, "the first command comes late"


def test_the_generated_parts_are_those_of_the_committed_results():
    assert between(README, FINDINGS_START, FINDINGS_END) == findings(REFERENCE)
    assert between(RESULTS, VERDICTS_START, VERDICTS_END) == verdicts(REFERENCE)
    times = read(REFERENCE / "benchmark")
    assert between(README, benchmark.START, benchmark.END) == benchmark.speed_table(times)


def test_every_claim_of_every_profile_stands_in_the_results():
    shown = between(RESULTS, VERDICTS_START, VERDICTS_END)
    for profile in PROFILES:
        claims = json.loads((profile / "claims.json").read_text())["claims"]
        assert shown.count("<sub>") >= len(claims) > 30
        assert f"reference/{profile.name}/claims.md" in shown


def test_the_stated_limits_are_those_of_the_committed_rows():
    rows = pd.read_csv(REFERENCE / "standard" / "runs.csv")
    resnet = rows[(rows.experiment == "conv_gain") & (rows.model == "resnet20") & (rows.norm == "none")]
    assert len(resnet) and (resnet["test/error"].round(1) == 90.0).all(), "chance level on ten classes"
    for profile in ("quick", "standard"):
        rows = pd.read_csv(REFERENCE / profile / "runs.csv")
        longer = rows[(rows.experiment == "recurrent_batch_size") & (rows.model == "lstm") & (rows.arm == "examples")]
        bpc = longer[longer.batch_size == 4].pivot(index="seed", columns="norm", values="test/bpc")
        assert len(bpc) > 1 and bpc["ln"].mean() < bpc["none"].mean()


# --- how they are generated -------------------------------------------------------------------------------------------


def claim(verdict: str, *contrasts: tuple[str, str]) -> dict:
    return {"verdict": verdict, "outcomes": [{"where": where, "verdict": each} for where, each in contrasts]}


def test_every_finding_draws_on_claims_that_exist_and_has_a_text_for_each_verdict():
    claims = {
        (each["experiment"], each["claim"])
        for profile in PROFILES
        for each in json.loads((profile / "claims.json").read_text())["claims"]
    }
    for answer in (answer for finding in FINDINGS for answer in finding.answers):
        assert {(answer.experiment, each) for each in answer.claims} <= claims
        assert len({answer.text(verdict) for verdict in ("reproduced", "contradicted", "not resolved")}) == 3


def test_the_answer_follows_the_verdict_and_names_the_networks_it_rests_on():
    answer = Answer("e", ("c",), "yes", "no, not in the {where}")
    three = claim("contradicted", ("lstm", "contradicted"), ("gru, batch 4", "contradicted"), ("rnn", "reproduced"))
    assert answer_text(answer, {("e", "c"): three}) == "no, not in the LSTM and GRU"
    assert answer_text(answer, {("e", "c"): claim("reproduced", ("lstm", "reproduced"))}) == "yes"
    assert answer_text(answer, {("e", "c"): claim("not resolved", ("lstm", "not resolved"))}) == "open"


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (("reproduced", "reproduced"), "reproduced"),
        (("reproduced", "not resolved"), "not resolved"),
        (("not resolved", "contradicted", "reproduced"), "contradicted"),
    ],
)
def test_claims_are_answered_together_as_the_contrasts_of_one_claim_are(verdicts, together):
    assert common_verdict([claim(verdict) for verdict in verdicts]) == together


def test_verdicts_that_flip_on_another_processor_are_named(tmp_path):
    claims = [{"experiment": "e", "claim": str(k), "verdict": "reproduced"} for k in range(3)]
    other = [*claims[:2], claims[2] | {"verdict": "not resolved"}]
    (tmp_path / "quick_elsewhere").mkdir()
    (tmp_path / "quick_elsewhere" / "claims.json").write_text(json.dumps({"claims": other}))
    (tmp_path / "quick_elsewhere" / "provenance.json").write_text(json.dumps({"processor": ["A", "B"]}))
    by_id = {(each["experiment"], each["claim"]): each for each in claims}
    assert flips(tmp_path / "quick", by_id) == {("e", "2"): ("reproduced", "not resolved")}
    assert replication(tmp_path / "quick", by_id).endswith(
        "(A, B): 2 of 3 verdicts are the same; these differ (†): e/2 (here reproduced, there not resolved)."
    )
    assert flips(tmp_path / "standard", by_id) == {}, "a profile that has not been run elsewhere"


def test_the_contrast_that_a_verdict_depends_on_is_shown():
    def outcome(verdict: str, estimate: float) -> dict:
        return {"verdict": verdict, "interval": {"estimate": estimate, "low": estimate - 1, "high": estimate + 1}}

    three = [outcome("reproduced", -3.0), outcome("contradicted", 2.0), outcome("contradicted", 4.0)]
    assert deciding("contradicted", three)["interval"]["estimate"] == 4.0
    assert deciding("reproduced", [outcome("reproduced", -3.0), outcome("reproduced", -2.0)]) == (
        outcome("reproduced", -2.0)
    )


def test_a_block_is_replaced_and_nothing_else(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<start>\nold\n<end>\nafter\n")
    for _ in range(2):
        replace_block(page, "<start>", "<end>", "new")
        assert page.read_text() == "before\n<start>\n\nnew\n\n<end>\nafter\n"
    page.write_text("<start> without an end")
    with pytest.raises(ConfigError, match=r"README\.md lacks '<start>' or '<end>'"):
        replace_block(page, "<start>", "<end>", "new")
    assert page.read_text() == "<start> without an end"
