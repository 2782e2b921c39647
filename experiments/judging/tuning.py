"""The rule that chooses a learning rate for every cell, from the rows of the tuning stage."""

import pandas as pd

from experiments.config.cell import cell_key
from experiments.config.errors import ConfigError


def tuning_metric(experiment) -> str:
    """What a rate is chosen by: the experiment's own word, else the deciding metric on the validation split.

    Raises ConfigError for a metric of the test split.
    """
    metric = experiment.tune_metric or experiment.metric.replace("test/", "val/")
    if metric.startswith("test/"):
        raise ConfigError(f"experiment.tune_metric={metric} is of the test split; tuning sees val/... alone")
    return metric


def chosen_rates(rows: pd.DataFrame, columns: list[str], metric: str) -> dict[str, float]:
    """The chosen rate by the cell's name, as the file of tuned rates holds it."""
    chosen = choose(rows, columns, metric)["chosen"]
    return {cell_key(dict(zip(columns, values, strict=True))): rate for values, rate in chosen.items()}


def choose(rows: pd.DataFrame, columns: list[str], metric: str) -> pd.DataFrame:
    """The chosen rate of each cell, and the mean metric of every rate (inf where a seed diverged)."""
    value = rows[metric].where(rows["status"] == "done", float("inf"))
    means = rows.assign(value=value).groupby([*columns, "lr"])["value"].mean().unstack("lr")
    return means.assign(chosen=means.idxmin(axis=1))
