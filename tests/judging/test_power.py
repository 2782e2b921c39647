"""The number of pairs that a claim needs, from the spread of its differences on the tuning seeds."""

import numpy as np
import pandas as pd
import pytest

from experiments.config.experiment import Claim, Experiment
from experiments.judging.power import pairs_for, pairs_needed
from experiments.judging.tuning import at_chosen_rates, choose

CELL = ["model", "norm", "batch_size"]
LOSSES = {"none": [2.0, 2.1, 1.9], "ln": [1.80, 1.85, 1.75]}


def tuning_rows() -> pd.DataFrame:
    """Three seeds at two rates, of which the second is the better one."""
    lines = []
    for norm, losses in LOSSES.items():
        for lr, worse in ((0.1, 1.0), (0.3, 0.0)):
            for seed, loss in enumerate(losses):
                cell = {"model": "lstm", "norm": norm, "batch_size": 32, "lr": lr, "experiment": "e"}
                row = {**cell, "seed": seed, "run_id": f"{norm}-{lr}-{seed}", "status": "done"}
                lines.append({**row, "val/bpc": loss + worse, "stage": "tune"})
    return pd.DataFrame(lines)


def experiment(**fields) -> Experiment:
    rule = {"statement": "s", "stated": "here", "a": {"norm": "ln"}, "b": [{"norm": "none"}], "margin": 0.1}
    claims = [Claim(id="level", kind="difference", **rule), Claim(id="sooner", kind="speed", **rule)]
    about = {"name": "e", "metric": "test/bpc", "tune_seeds": [0, 1, 2], "final_seeds": [20, 21], "claims": claims}
    return Experiment(**{**about, **fields})


def test_pairs_follow_from_the_spread_at_the_chosen_rates():
    rows = tuning_rows()
    chosen = at_chosen_rates(rows, choose(rows, CELL, "val/bpc"))
    assert set(chosen["lr"]) == {0.3} and len(chosen) == 6
    d = np.subtract(LOSSES["ln"], LOSSES["none"])
    expected = {"level": pairs_for(abs(d.mean()) / d.std(ddof=1), 0.05)}
    assert pairs_needed(experiment(), chosen) == expected, "and speed has no tuning rows"


def test_two_seeds_tell_no_spread():
    assert pairs_needed(experiment(tune_seeds=[0, 1]), tuning_rows()) == {}


@pytest.mark.parametrize("margin, pairs", [(1.0, 5), (0.001, 20)])
def test_pairs_stay_within_bounds_where_no_effect_is_seen(margin, pairs):
    rows = tuning_rows()
    rows.loc[rows["norm"] == "ln", "val/bpc"] = [3.1, 3.0, 2.9, 2.1, 2.0, 1.9]
    rule = experiment()
    rule.claims[0].margin = margin
    assert pairs_needed(rule, at_chosen_rates(rows, choose(rows, CELL, "val/bpc"))) == {"level": pairs}
