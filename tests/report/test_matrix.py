"""The matrix on top of the page: gains over no normalisation, and what they are called."""

import math

import pandas as pd
import pytest
from hydra import compose
from scipy import stats

from experiments.cli.compose import hydra_configs
from experiments.config.paths import ROOT
from experiments.judging.evidence import configs_of, from_tables, results_of
from experiments.judging.intervals import Interval
from experiments.report import matrix
from experiments.report.charts.gains import GainPanel
from experiments.report.charts.layout import Layout


@pytest.fixture(scope="module")
def rows() -> tuple[list[str], list[matrix.Row]]:
    """The matrix of the committed rows of quick."""
    with hydra_configs():
        quick = compose("train", ["+profile=quick"]).profile
    configs = configs_of(quick, quick.first_seed)
    return matrix.matrix(results_of(from_tables(configs, ROOT / "results" / "reference" / "quick"), configs, quick))


def test_a_gain_is_the_paired_difference_of_the_runs(rows):
    runs = pd.read_csv(ROOT / "results" / "reference" / "quick" / "runs.csv")
    runs = runs[(runs["experiment"] == "recurrent_gain") & (runs["schedule"] == "constant")].set_index("seed")
    d = runs[runs["norm"] == "ln"]["test/bpc"] - runs[runs["norm"] == "none"]["test/bpc"]
    low, high = stats.t.interval(0.95, len(d) - 1, d.mean(), stats.sem(d))
    (row,) = [row for row in rows[1] if (row.experiment, row.network) == ("recurrent_gain", "LSTM, constant rate")]
    (gain,) = row.gains["ln"]
    assert (gain.mean, gain.interval) == (f"{d.mean():+.3f}", f"[{low:+.3f}, {high:+.3f}]")
    assert row.unit == "bits per character" and "none" not in row.gains


def test_normalisers_stand_in_their_order_and_networks_have_names_of_their_own(rows):
    norms, networks = rows
    assert norms[:2] == ["bn", "ln"]
    assert len({(row.network, row.experiment) for row in networks}) == len(networks) > 3


def test_a_gain_over_the_runs_that_survive_has_no_interval_in_the_matrix_nor_in_the_chart():
    with hydra_configs():
        quick = compose("train", ["+profile=quick", "profile.experiments=[conv_gain]"]).profile
    configs = configs_of(quick, quick.first_seed)
    tables = from_tables(configs, ROOT / "results" / "reference" / "quick")
    of_ln = tables.rows.index[tables.rows["norm"] == "ln"]
    tables.rows.loc[of_ln[0], "status"] = "diverged"
    (result,) = results_of(tables, configs, quick)
    (row,) = matrix.matrix([result])[1]
    assert row.gains["ln"][0].what == "unfit" and row.gains["ln"][0].interval == ""
    assert "1 of 7 pairs lack a result" in row.gains["ln"][0].why and row.gains["bn"][0].interval
    panel = GainPanel.of(result.rows, result.experiment, Layout.of(result.rows, result.experiment), "")
    shown = {record["norm"]: record for record in panel.records}
    assert shown["LN"]["low"] is None and shown["LN"]["difference"] == "no interval" and shown["LN"]["n"] == 6
    assert shown["BN"]["low"] is not None


@pytest.mark.parametrize(
    ("estimate", "low", "high", "what"),
    [
        (-0.3, -0.4, -0.2, "better"),
        (0.3, 0.2, 0.4, "worse"),
        (0.0, -0.05, 0.05, "same"),
        (-0.05, -0.08, -0.02, "same"),  # surely below 0, and surely too little to matter
        (-0.08, -0.12, -0.04, "open"),  # surely below 0, and perhaps too little to matter
        (-0.3, -0.7, 0.1, "open"),
        (0.2, -math.inf, math.inf, "open"),  # a single pair
    ],
)
def test_what_a_gain_is_called(estimate, low, high, what):
    assert matrix.meaning(Interval(estimate, low, high, 5), 0.1)[0] == what
