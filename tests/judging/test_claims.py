"""Verdicts on rows made by hand, and how the whole machinery behaves on simulated experiments."""

import math

import numpy as np
import pandas as pd
import pytest

from experiments.config.errors import ConfigError
from experiments.config.experiment import Claim, Experiment, Floor
from experiments.judging.intervals import holm, p_difference
from experiments.judging.judge import judge
from experiments.judging.verdict import CONTRADICTED, MIXED, NOT_RESOLVED, REPRODUCED
from experiments.runs.rows import CURVE_COLUMNS

SEEDS = [20, 21, 22, 23, 24]
NOISE = np.array([0.01, -0.02, 0.0, 0.02, -0.01])


def rows(model: str = "lstm", **cells: float | list[float]) -> pd.DataFrame:
    """rows(ln=1.0, bn_b2=2.0): five seeds a cell, the mean or the five values of the metric."""
    lines = []
    for cell, metric in cells.items():
        norm, _, batch = cell.partition("_b")
        for seed, value in zip(SEEDS, np.broadcast_to(metric, 5), strict=True):
            line = {"experiment": "e", "model": model, "norm": norm, "batch_size": int(batch or 32), "seed": seed}
            status = "done" if np.isfinite(value) else "diverged"
            lines.append({**line, "run_id": f"{model}-{cell}-s{seed}", "test/bpc": value, "status": status})
    return pd.DataFrame(lines)


NO_CURVES = pd.DataFrame(columns=CURVE_COLUMNS)


def verdict(table: pd.DataFrame, curves: pd.DataFrame = NO_CURVES, about: dict | None = None, **rule):
    """The verdict on one claim. about: fields of its experiment."""
    usual = {"id": "c", "statement": "s", "stated": "here", "a": {"norm": "ln"}, "b": [{"norm": "none"}]}
    claim = Claim(**{**usual, **rule})
    fields = {"name": "e", "metric": "test/bpc", "unit": "bits", "final_seeds": SEEDS, **(about or {})}
    (result,) = judge(Experiment(claims=[claim], **fields), table, curves)
    return result


DIFFERENCE = {"kind": "difference", "margin": 0.1}


@pytest.mark.parametrize(
    "ln, claimed, expected",
    [
        (2.0 - 0.3 + NOISE, "lower", REPRODUCED),
        (2.0 - 0.05 + NOISE, "lower", NOT_RESOLVED),  # surely lower, but by less than the margin
        (2.0 + NOISE, "lower", NOT_RESOLVED),
        (2.0 + 0.05 + NOISE, "lower", NOT_RESOLVED),  # surely higher, but by less than the margin
        (2.0 + 0.3 + NOISE, "lower", CONTRADICTED),
        (2.0 + 0.3 + NOISE, "higher", REPRODUCED),
        (2.0 - 0.3 + NOISE, "higher", CONTRADICTED),
        (2.0 - 0.3 + 40 * NOISE, "lower", NOT_RESOLVED),  # beyond the margin, but not surely on one side of 0
        (2.0 + NOISE, "same", REPRODUCED),
        (2.0 + 0.3 + NOISE, "same", CONTRADICTED),
        (2.0 - 0.3 + NOISE, "same", CONTRADICTED),
        (2.0 + 10 * NOISE, "same", NOT_RESOLVED),  # no difference shown, none ruled out
        (2.0 - 0.3 + NOISE, "not_higher", REPRODUCED),
        (2.0 + 0.05 + NOISE, "not_higher", REPRODUCED),  # surely higher, and surely by less than the margin
        (2.0 + 0.3 + NOISE, "not_higher", CONTRADICTED),
        (2.0 + 10 * NOISE, "not_higher", NOT_RESOLVED),
    ],
)
def test_difference(ln, claimed, expected):
    result = verdict(rows(ln=ln, none=2.0), claimed=claimed, **DIFFERENCE)
    assert result.verdict == expected, result.why
    assert result.outcomes[0].pairs == 5 and result.outcomes[0].diverged == 0


def test_difference_is_paired_by_seed_not_by_order():
    level = np.array([1.0, 2.0, 3.0, 4.0, 5.0])  # seeds differ by far more than the effect
    table = rows(ln=level - 0.3 + NOISE, none=level)
    assert verdict(table.sample(frac=1, random_state=0), **DIFFERENCE).verdict == REPRODUCED


def test_swapped_labels_turn_the_verdict():
    table = rows(ln=1.5 + NOISE, none=2.0)
    table["norm"] = table["norm"].map({"ln": "none", "none": "ln"})
    assert verdict(table, **DIFFERENCE).verdict == CONTRADICTED


def test_a_diverged_run_leaves_the_claim_unresolved_and_is_counted():
    result = verdict(rows(ln=[1.0, 1.0, 1.0, 1.0, np.nan], none=2.0), **DIFFERENCE)
    assert result.verdict == NOT_RESOLVED and result.outcomes[0].diverged == 1 and "1 of 5 pairs" in result.why


def test_a_dropped_seed_leaves_the_claim_unresolved():
    table = rows(ln=1.0 + NOISE, none=2.0)
    result = verdict(table[(table["seed"] != 22) | (table["norm"] != "ln")], **DIFFERENCE)
    assert result.verdict == NOT_RESOLVED and result.outcomes[0].pairs == 4 and "1 of 5 pairs" in result.why


def test_rows_of_other_cells_do_not_enter():
    other = rows(model="gru", ln=99.0, none=0.0)
    table = pd.concat([rows(ln=1.5 + NOISE, none=2.0), other])
    (outcome,) = verdict(table, over=[{"model": "lstm"}], **DIFFERENCE).outcomes
    assert outcome.interval.estimate == pytest.approx(-0.5)
    assert len(outcome.run_ids) == 10 and all(run_id.startswith("lstm") for run_id in outcome.run_ids)


def test_two_rows_for_one_seed_are_an_error():
    table = pd.concat([rows(ln=1.0, none=2.0), rows(ln=1.0)])
    with pytest.raises(ValueError, match="two rows for one seed"):
        verdict(table, **DIFFERENCE)


def test_an_axis_is_text_in_the_rows_and_a_number_in_the_rule():
    table = pd.concat([rows(gn=1.0 + NOISE).assign(groups="8"), rows(gn=2.0).assign(groups="16")])
    sides = {"a": {"norm": "gn", "groups": 8}, "b": [{"norm": "gn", "groups": 16}]}
    result = verdict(table, about={"axes": {"groups": "norm.groups"}}, **sides, **DIFFERENCE)
    assert result.verdict == REPRODUCED and result.outcomes[0].label == "groups 8 - groups 16"


# --- several contrasts ------------------------------------------------------------------------------------------------

OVER = [{"model": "lstm"}, {"model": "gru"}, {"model": "rnn"}]


def three(lstm, gru, rnn) -> pd.DataFrame:
    return pd.concat([rows(m, ln=2.0 + d, none=2.0) for m, d in (("lstm", lstm), ("gru", gru), ("rnn", rnn))])


def test_a_claim_is_about_all_its_contrasts():
    helps, nothing, hurts = -0.3 + NOISE, NOISE, 0.3 + NOISE
    rule = {"over": OVER, **DIFFERENCE}
    assert verdict(three(helps, helps, helps), **rule).verdict == REPRODUCED
    assert verdict(three(helps, nothing, helps), **rule).verdict == NOT_RESOLVED
    assert verdict(three(hurts, nothing, nothing), **rule).verdict == CONTRADICTED
    assert verdict(three(helps, nothing, hurts), **rule).verdict == MIXED
    assert verdict(three(helps, helps, hurts), **rule).why.startswith("2 of 3 contrasts reproduced, 1 contradicted: ")
    assert [o.verdict for o in verdict(three(helps, nothing, hurts), **rule).outcomes] == [
        REPRODUCED,
        NOT_RESOLVED,
        CONTRADICTED,
    ]


def test_holms_correction_is_over_the_contrasts_of_one_claim():
    d = -0.11 + 4 * NOISE  # p = 0.02 alone
    alone = verdict(three(d, d, d), over=OVER[:1], **DIFFERENCE)
    assert alone.verdict == REPRODUCED and 0.01 < alone.outcomes[0].p < 0.05
    among = verdict(three(d, 30 * NOISE, 30 * NOISE), over=OVER, **DIFFERENCE)
    assert among.outcomes[0].p == alone.outcomes[0].p
    assert [o.p_holm for o in among.outcomes] == holm([o.p for o in among.outcomes])
    assert among.outcomes[0].p_holm > 0.05 and among.outcomes[0].verdict == NOT_RESOLVED


def test_a_contrast_without_a_result_counts_in_the_correction():
    d = -0.11 + 4 * NOISE
    result = verdict(three(d, np.nan, np.nan), over=OVER, **DIFFERENCE)
    assert result.outcomes[0].p_holm == pytest.approx(3 * p_difference(d)) and result.verdict == NOT_RESOLVED


def test_a_is_compared_with_every_b():
    table = rows(ln=1.0 + NOISE, bn=2.0, wn=1.02 + 3 * NOISE)
    result = verdict(table, b=[{"norm": "bn"}, {"norm": "wn"}], **DIFFERENCE)
    assert [o.label for o in result.outcomes] == ["LN - BN", "LN - WN"] and result.verdict == NOT_RESOLVED


# --- interactions and shares ------------------------------------------------------------------------------------------

INTERACTION = {
    "kind": "interaction",
    "a": {"norm": "bn"},
    "b": [{"norm": "ln"}],
    "at": [{"batch_size": 2}, {"batch_size": 64}],
    "claimed": "higher",
    "margin": 0.1,
}


def test_interaction_is_the_difference_of_differences():
    falls_apart = verdict(rows(bn_b2=3.0 + NOISE, ln_b2=2.0, bn_b64=1.0, ln_b64=1.5), **INTERACTION)
    assert falls_apart.outcomes[0].interval.estimate == pytest.approx(1.0 + 0.5)
    assert falls_apart.verdict == REPRODUCED
    # everything gets worse at batch 2 alike: no curve alone may decide
    assert verdict(rows(bn_b2=3.0 + NOISE, ln_b2=3.5, bn_b64=1.0, ln_b64=1.5), **INTERACTION).verdict == NOT_RESOLVED


def test_an_interaction_counts_the_diverged_runs_of_its_own_batches():
    table = rows(bn_b2=3.0 + NOISE, ln_b2=2.0, bn_b64=1.0, ln_b64=1.5, bn_b8=np.nan)
    assert verdict(table, **INTERACTION).outcomes[0].diverged == 0


SHARE = {"kind": "share", "b": [{"norm": "bn"}], "base": {"norm": "none"}, "at_most": 0.5, "surely_below": 0.75}


def test_share_of_the_gain():
    assert verdict(rows(none=3.0, ln=2.8 + NOISE, bn=2.0 - NOISE), **SHARE).verdict == REPRODUCED
    assert verdict(rows(none=3.0, ln=2.1 + NOISE, bn=2.0 - NOISE), **SHARE).verdict == CONTRADICTED
    assert verdict(rows(none=3.0, ln=2.55 + 20 * NOISE, bn=2.0), **SHARE).verdict == NOT_RESOLVED
    vanishing = verdict(rows(none=3.0, ln=2.9, bn=3.0 + NOISE), **SHARE)
    assert vanishing.verdict == NOT_RESOLVED and "not surely above 0" in vanishing.why


def test_share_of_a_loss_says_nothing():
    """BN that hurts is no yardstick, whatever LN does."""
    for ln in (1.0, 5.0):
        result = verdict(rows(none=3.0, ln=ln + NOISE, bn=4.0 - NOISE), **SHARE)
        assert result.verdict == NOT_RESOLVED and "not surely above 0" in result.why


RECURRENT = {"over": {"experiment": "e", "model": "lstm"}, "metric": "test/bpc", "unit": "bits", "claimed": "lower"}
CONVOLUTIONAL = {"over": {"experiment": "o", "model": "cnn"}, "metric": "test/error", "unit": "%", "claimed": "higher"}
REVERSAL = {
    "kind": "reversal",
    "a": {"norm": "ln"},
    "b": [{"norm": "bn"}],
    "rivals": ["none", "bn", "ln"],
    "families": [{**RECURRENT, "margin": 0.1}, {**CONVOLUTIONAL, "margin": 2.0}],
}


def families(recurrent: dict, conv: dict) -> pd.DataFrame:
    other = rows(model="cnn", **conv).assign(experiment="o").rename(columns={"test/bpc": "test/error"})
    return pd.concat([rows(**recurrent), other])


def test_the_sign_of_a_difference_is_reversed_between_families():
    ahead = {"none": 3.0, "ln": 2.0 + NOISE, "bn": 2.5 - NOISE}
    behind = {"none": 90.0, "ln": 60.0 + NOISE, "bn": 50 - NOISE}
    result = verdict(families(ahead, behind), **REVERSAL)
    assert result.verdict == REPRODUCED
    first, second = result.outcomes
    assert first.interval.estimate == pytest.approx(-0.5 / 0.1) and "LN is number 1 of 3 (none, bn, ln)" in first.why
    assert second.interval.estimate == pytest.approx(10 / 2) and "LN is number 2 of 3" in second.why
    turned = {"none": 90.0, "ln": 50.0 + NOISE, "bn": 60 - NOISE}
    assert verdict(families(ahead, turned), **REVERSAL).verdict == MIXED
    level = {"none": 3.0, "ln": 2.5 + NOISE, "bn": 2.5 - NOISE}
    assert verdict(families(level, behind), **REVERSAL).verdict == NOT_RESOLVED


def test_a_network_that_diverges_has_no_rank():
    lost = {"none": 3.0, "ln": np.nan, "bn": 2.5 - NOISE}
    result = verdict(families(lost, {"none": 90.0, "ln": 60.0 + NOISE, "bn": 50 - NOISE}), **REVERSAL)
    assert result.outcomes[0].why == "5 of 5 pairs lack a result (5 runs diverged); a rank needs every run"


def test_holms_correction_of_a_reversal_is_over_both_families():
    """One contrast a family: without the other's, either p value would stand as it is."""
    ahead = {"none": 3.0, "ln": 2.0 + NOISE, "bn": 2.5 - NOISE}
    behind = {"none": 90.0, "ln": 60.0 + NOISE, "bn": 50 - NOISE}
    outcomes = verdict(families(ahead, behind), **REVERSAL).outcomes
    assert [one.p_holm for one in outcomes] == pytest.approx(holm([one.p for one in outcomes]))
    assert min(one.p_holm / one.p for one in outcomes) < 2.001 and max(one.p_holm / one.p for one in outcomes) > 1.999


@pytest.mark.parametrize("families", [[], [{**REVERSAL["families"][0]}] * 2])
def test_a_reversal_is_between_opposite_claims(families):
    with pytest.raises(ConfigError, match="claim c: a reversal is between two families"):
        verdict(rows(ln=1.0, bn=2.0), **{**REVERSAL, "families": families})


def test_exact_statements_are_about_every_run():
    table = rows(ln=1.0).assign(**{"gap/output": 0.0, "change/dataset_rescaling": 0.3})
    rule = {
        "kind": "exact",
        "b": [{}],
        "holds": ["gap/output"],
        "breaks": ["change/dataset_rescaling"],
        "at_most": 0.0,
        "at_least": 0.1,
    }
    assert verdict(table, **rule).verdict == REPRODUCED
    table.loc[3, "gap/output"] = 1e-12
    assert verdict(table, **rule).verdict == CONTRADICTED
    assert verdict(table.drop(index=2), **rule).verdict == NOT_RESOLVED


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "ratio"},
        {"claimed": "Lower"},
        {"kind": "interaction", "at": [{"batch_size": 2}]},
        {"kind": "interaction", "at": [{"batch_size": 2}] * 2},
        {"margin": 0.0},
        {"margin": math.nan},
        {"margin": math.inf},
        {"b": []},
        {"over": []},
        {"over": {"model": []}},
        {"a": {}, "b": [{}]},
        {"a": {"nrom": "ln"}},
        {"metric": "test/bcp"},
        {"kind": "share", "base": {"norm": "none"}, "b": [{"norm": "bn"}], "at_most": math.nan},
        {"kind": "share", "base": {"norm": "ln"}, "b": [{"norm": "bn"}], "at_most": 0.5},
        {"kind": "exact", "holds": ["nope"]},
        {"kind": "reversal", "families": [1, 2]},
        {"kind": "reversal", "families": [{"over": {}, "claimed": "lower"}] * 2},
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_judged_is_refused(rule):
    with pytest.raises(ConfigError, match="claim c: "):
        verdict(rows(ln=1.0, none=2.0), **{**DIFFERENCE, **rule})


# --- networks that have not learnt ------------------------------------------------------------------------------------


def test_no_verdict_rests_on_a_cell_at_chance():
    table = rows(ln=2.0 + NOISE, none=4.99 + NOISE, bn=1.5 + NOISE)
    result = verdict(table, about={"chance": 5.0}, **DIFFERENCE)
    assert result.verdict == NOT_RESOLVED and "NONE has not learnt: 4.99 [4.97, 5.01] bits, chance is 5" in result.why
    assert verdict(table, about={"chance": 5.1}, **DIFFERENCE).verdict == REPRODUCED
    assert verdict(table, about={"chance": 5.0}, b=[{"norm": "bn"}], **DIFFERENCE).verdict == CONTRADICTED


def test_no_verdict_counts_where_the_un_normalised_network_is_above_its_floor():
    floor = Floor(cell={"model": "lstm", "norm": "none"}, at_most=1.9)
    table = pd.concat([rows(m, ln=1.5 + NOISE, bn=1.0 + NOISE, none=2.0) for m in ("lstm", "gru")])
    rule = {"over": {"model": ["lstm", "gru"]}, "about": {"floors": [floor]}, **DIFFERENCE}
    for b in ("none", "bn"):  # of the LSTM nothing is decided, not even between two normalisers
        lstm, gru = verdict(table, b=[{"norm": b}], **rule).outcomes
        assert lstm.verdict == NOT_RESOLVED and lstm.why == "lstm, NONE stands at 2, above its floor of 1.9 (test/bpc)"
        assert gru.verdict != NOT_RESOLVED and lstm.interval is not None, "its numbers are shown all the same"
    floor.at_most = 2.0
    assert verdict(table, **rule).verdict == REPRODUCED


def test_a_floor_is_not_met_by_the_runs_that_survive():
    table = rows(ln=1.5 + NOISE, bn=1.0 + NOISE, none=[np.nan, np.nan, 1.0, np.nan, np.nan])
    floor = Floor(cell={"norm": "none"}, at_most=1.9)
    result = verdict(table, b=[{"norm": "bn"}], about={"floors": [floor]}, **DIFFERENCE)
    assert result.verdict == NOT_RESOLVED and "NONE, which has a floor, lacks 4 of 5 results" in result.why


def test_a_floor_that_was_never_run_is_not_met():
    floor = Floor(cell={"norm": "none"}, at_most=9.0)
    table = rows(ln=1.5 + NOISE, bn=1.0 + NOISE)
    assert verdict(table, b=[{"norm": "bn"}], about={"floors": [floor]}, **DIFFERENCE).verdict == NOT_RESOLVED


# --- how soon two runs reach a common loss ----------------------------------------------------------------------------

SPEED = {"kind": "speed", "margin": 0.1}


def curves_of(table: pd.DataFrame, losses: dict[str, list[float]]) -> pd.DataFrame:
    """Evaluations at steps 10, 20, 30 ... of every run of a normaliser."""
    return pd.DataFrame(
        {"run_id": row.run_id, "step": step, "examples": 4 * step, "seconds": step**2, "val/loss": loss}
        for row in table.itertuples()
        for step, loss in enumerate(losses[row.norm], start=1)
    ).assign(step=lambda frame: 10 * frame["step"])


def test_speed_is_the_ratio_of_steps_to_a_loss_that_both_reach():
    table = rows(ln=1.0, none=1.0)
    # none's best is the common loss, 2.0: half-way between LN's first and second value
    result = verdict(table, curves_of(table, {"none": [4.0, 3.0, 2.0], "ln": [3.0, 1.0, 0.5]}), **SPEED)
    assert result.outcomes[0].interval.estimate == pytest.approx(np.log(15 / 30)) and result.verdict == REPRODUCED
    assert "0.50 [0.50, 0.50] of the steps" in result.why and result.unit == "log ratio of steps"
    # the slower one is as slow as the other is fast, whoever ends lower
    behind = verdict(table, curves_of(table, {"ln": [4.0, 3.0, 2.0], "none": [3.0, 1.0, 0.5]}), **SPEED)
    assert behind.outcomes[0].interval.estimate == pytest.approx(np.log(30 / 15)) and behind.verdict == CONTRADICTED


def test_speed_by_other_clocks():
    table = rows(ln=1.0, none=1.0)
    curves = curves_of(table, {"none": [4.0, 3.0, 2.0], "ln": [2.0, 1.0, 0.5]})
    for clock, ratio in (("steps", 1 / 3), ("examples", 1 / 3), ("seconds", 1 / 9)):
        assert verdict(table, curves, clock=clock, **SPEED).outcomes[0].interval.estimate == pytest.approx(
            np.log(ratio)
        )
    with pytest.raises(ConfigError, match=r"clock=second is unknown; allowed: .*; nearest: seconds"):
        verdict(table, curves, clock="second", **SPEED)


def test_speed_of_a_run_that_diverged_is_not_resolved():
    table = rows(ln=[1.0, 1.0, np.nan, 1.0, 1.0], none=1.0)
    curves = curves_of(table, {"none": [4.0, 3.0, 2.0], "ln": [3.0, 1.0, 0.5]})
    result = verdict(table, curves, **SPEED)
    assert result.verdict == NOT_RESOLVED and "1 of 5 pairs lack a result (1 runs diverged)" in result.why


# --- sensitivity to the learning rate ---------------------------------------------------------------------------------

SENSITIVITY = {"kind": "sensitivity", "margin": 0.05}
RATED = {"chance": 5.0, "axes": {"rate": "optim.lr"}}


def by_rate(**losses: list[float]) -> pd.DataFrame:
    """Five seeds of each normaliser at four rates."""
    return pd.concat(
        rows(**{norm: loss + NOISE}).assign(rate=str(rate))
        for norm, of_rate in losses.items()
        for rate, loss in zip((0.001, 0.01, 0.1, 1.0), of_rate, strict=True)
    )


def test_sensitivity_is_the_mean_loss_over_the_rates_less_the_lowest():
    result = verdict(by_rate(ln=[2.1, 2.0, 2.0, 2.1], none=[3.0, 2.0, 2.0, 4.0]), about=RATED, **SENSITIVITY)
    assert result.verdict == REPRODUCED
    assert result.outcomes[0].interval.estimate == pytest.approx(0.05 - 0.75)


def test_a_diverged_run_counts_as_chance_in_a_sensitivity():
    result = verdict(by_rate(ln=[2.1, 2.0, 2.0, 2.1], none=[3.0, 2.0, 9.0, np.nan]), about=RATED, **SENSITIVITY)
    assert result.outcomes[0].interval.estimate == pytest.approx(0.05 - (1.0 + 0.0 + 3.0 + 3.0) / 4)
    assert result.verdict == REPRODUCED and result.outcomes[0].diverged == 5


def test_a_sensitivity_needs_every_rate():
    table = by_rate(ln=[2.1, 2.0, 2.0, 2.1], none=[3.0, 2.0, 2.0, 4.0])
    lost = table[(table["seed"] != 22) | (table["rate"] != "0.1")]
    assert verdict(lost, about=RATED, **SENSITIVITY).verdict == NOT_RESOLVED
    unlike = table[(table["norm"] != "ln") | (table["rate"] != "1.0")]  # one that all seeds of one side lack
    result = verdict(unlike, about=RATED, **SENSITIVITY)
    assert result.verdict == NOT_RESOLVED and result.outcomes[0].pairs == 0
    holes = table[(table["norm"] != "ln") | ((table["seed"] == 20) != (table["rate"] == "1.0"))]  # no seed has all
    assert verdict(holes, about=RATED, **SENSITIVITY).verdict == NOT_RESOLVED
    with pytest.raises(ConfigError, match=r"needs experiment\.axes\.rate=optim\.lr and experiment.chance"):
        verdict(table, **SENSITIVITY)


def test_a_logarithm_of_nothing_is_no_result():
    table = rows(ln=[0.0, 1.0, 1.0, 1.0, 1.0], none=10.0)
    result = verdict(table, **DIFFERENCE, log10=True)
    assert result.verdict == NOT_RESOLVED and "1 of 5 pairs lack a result" in result.why


SHARE = {"kind": "share", "base": {"norm": "none"}, "b": [{"norm": "bn"}], "at_most": 0.5, "surely_below": 0.75}


@pytest.mark.parametrize(
    "rule, reason",
    [
        ({**DIFFERENCE, "clock": "examples"}, "clock has no meaning for kind=difference"),
        ({**DIFFERENCE, "at": [{"batch_size": 4}, {"batch_size": 8}]}, "at has no meaning"),
        ({"kind": "speed", "margin": 0.1, "metric": "test/bpc"}, "metric has no meaning for kind=speed"),
        ({**SHARE, "margin": 0.1}, "margin has no meaning for kind=share"),
        ({**SHARE, "at_most": 0.0}, "a share needs 0 < at_most < surely_below"),
    ],
)
def test_a_field_that_a_kind_does_not_read_is_refused(rule, reason):
    with pytest.raises(ConfigError, match=f"claim c: {reason}"):
        verdict(rows(ln=1.0, none=2.0, bn=1.5), **rule)


def test_two_claims_of_one_id_are_refused():
    claim = Claim(id="c", statement="s", stated="here", a={"norm": "ln"}, b=[{"norm": "none"}], **DIFFERENCE)
    rule = Experiment(name="e", metric="test/bpc", unit="bits", final_seeds=SEEDS, claims=[claim, claim])
    with pytest.raises(ConfigError, match="claim c stands twice"):
        judge(rule, rows(ln=1.0, none=2.0), NO_CURVES)


# --- simulated experiments --------------------------------------------------------------------------------------------


def simulate(
    effect: float, rng: np.random.Generator, times: int, spread: float = 0.1, seed_spread: float = 1.0, **rule
):
    """Verdicts on experiments of five seeds, whose seeds differ by `seed_spread` and whose runs differ by `spread`."""
    found = []
    for _ in range(times):
        level = rng.normal(2.0, seed_spread, 5)
        ln, none = (level + shift + rng.normal(0, spread, 5) for shift in (effect, 0.0))
        found.append(verdict(rows(ln=ln, none=none), **{**DIFFERENCE, **rule}).verdict)
    return pd.Series(found).value_counts(normalize=True)


def test_one_cell_under_two_names_comes_out_not_resolved():
    """An A/A comparison, at a margin so small that it cannot be what holds the verdict back."""
    shares = simulate(0.0, np.random.default_rng(0), 600, margin=1e-6)
    assert shares[NOT_RESOLVED] >= 0.935  # 95 % less two standard errors of 600 experiments
    assert abs(shares.get(REPRODUCED, 0) - shares.get(CONTRADICTED, 0)) < 0.03
    assert simulate(0.0, np.random.default_rng(1), 300)[NOT_RESOLVED] >= 0.95  # the smallest effect of interest helps


def test_planted_effects_are_found():
    """An effect of 3 standard deviations of a pair's difference, sqrt(2) x 0.1: power 0.998 by the noncentral t."""
    rng = np.random.default_rng(2)
    assert simulate(-3 * 2**0.5 * 0.1, rng, 200)[REPRODUCED] >= 0.94
    assert simulate(3 * 2**0.5 * 0.1, rng, 200)[CONTRADICTED] >= 0.94
    # no difference, with a margin of 4 standard deviations: TOST finds it
    assert simulate(0.0, rng, 200, claimed="same", margin=4 * 2**0.5 * 0.1)[REPRODUCED] >= 0.94


def test_unpaired_seeds_would_hide_the_effect():
    """The pairing is what makes five seeds enough: the same effect between seeds shuffled on one side is lost."""
    rng = np.random.default_rng(3)
    level = rng.normal(2.0, 1.0, 5)
    assert verdict(rows(ln=level - 0.4 + NOISE, none=level), **DIFFERENCE).verdict == REPRODUCED
    assert verdict(rows(ln=level[::-1] - 0.4 + NOISE, none=level), **DIFFERENCE).verdict == NOT_RESOLVED


def test_a_metric_that_is_not_finite_is_a_missing_result():
    table = rows(ln=2.0 + NOISE, none=3.0)
    table.loc[1, "test/bpc"] = math.inf
    result = verdict(table, **DIFFERENCE)
    assert result.verdict == NOT_RESOLVED and result.outcomes[0].pairs == 4
