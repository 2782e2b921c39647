"""The rule that chooses a learning rate for every cell, from the rows of the tuning stage."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from experiments.config.cell import cell_key
from experiments.config.errors import ConfigError
from experiments.judging.power import FEWEST, MOST
from experiments.runs.folder import write_atomically

SET_BY_TUNING = {  # settings that the tuning sweep makes itself, and what to give in their place
    "optim.lr": "experiment.tune_lr=[...]",
    "seed": "experiment.tune_seeds=[...]",
    "stage": "no stage",
    "trainer.evaluations": "no number of evaluations",
}


def tuning_metric(experiment) -> str:
    """Return the metric that chooses a rate: the experiment's tune_metric, else its metric on the validation split.

    Raises ConfigError for a metric of the test split.
    """
    metric = experiment.tune_metric or experiment.metric.replace("test/", "val/")
    if metric.startswith("test/"):
        raise ConfigError(f"experiment.tune_metric={metric} is of the test split; tuning sees val/... alone")
    return metric


def chosen_rates(rows: pd.DataFrame, columns: list[str], metric: str) -> dict[str, float]:
    """Return the chosen rate by the cell's name, as the file of tuned rates holds it."""
    return _rate_of_cell(choose(rows, columns, metric))


def choose(rows: pd.DataFrame, columns: list[str], metric: str) -> pd.DataFrame:
    """Return the chosen rate of each cell, and the mean metric of every rate (inf where a seed diverged).

    NaN in place of the rate of a cell that diverged at all of them. Raises ConfigError where no run has the metric.
    """
    if metric not in rows:
        raise ConfigError(f"no tuning run has {metric}, which is to choose the rate; give experiment.tune_metric")
    value = rows[metric].where(rows["status"] == "done", float("inf"))
    means = rows.assign(value=value).groupby([*columns, "lr"])["value"].mean().unstack("lr")
    return means.assign(chosen=means.idxmin(axis=1).where(means.min(axis=1) < float("inf")))


def _rate_of_cell(means: pd.DataFrame) -> dict[str, float]:
    columns = means.index.names
    rates = means["chosen"].dropna().items()
    return {cell_key(dict(zip(columns, values, strict=True))): rate for values, rate in rates}


def tuning_overrides(experiment, arguments: Iterable[str]) -> list[str]:
    """Return the user's overrides with those of the tuning sweep: every rate of tune_lr for every one of tune_seeds.

    Raises ConfigError for an experiment without rates to choose from, and for a setting that tuning makes itself.
    """
    rates, seeds = list(experiment.tune_lr), list(experiment.tune_seeds)
    if not rates:
        raise ConfigError("nothing to tune; name an experiment with tune_lr, as experiment=recurrent_gain")
    for argument in arguments:
        if (key := argument.partition("=")[0]) in SET_BY_TUNING:
            raise ConfigError(f"{argument}: tuning sets {key} itself; give {SET_BY_TUNING[key]}")
    fixed = ["stage=tune", "trainer.evaluations=1"]  # the last evaluation chooses; no other is looked at
    grid = [f"optim.lr={','.join(map(str, rates))}", f"seed={','.join(map(str, seeds))}"]
    return [*arguments, *fixed, *grid]


def at_chosen_rates(rows: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the chosen rates. means: from `choose`."""
    chosen = means["chosen"].rename("chosen").reset_index()
    joined = rows.merge(chosen, on=list(means.index.names))
    return joined[joined["lr"] == joined["chosen"]].drop(columns="chosen")


def write_chosen_rates(
    path: Path, rows: pd.DataFrame, means: pd.DataFrame, command: str, needed: Mapping[str, int]
) -> None:
    """Write the chosen rates as YAML to `path`, which names the command, and the rows that chose them as CSV beside it.

    means: from `choose`. needed: pairs of runs by claim (judging/power.py).
    """
    commits = ", ".join(sorted(set(rows["git"].str[:12] + rows["dirty"].map({True: "-dirty", False: ""}))))
    lines = [
        f"# Chosen by: {command}",
        f"# at commit {commits}; the rows that chose are in {path.stem}.csv. Not edited by hand.",
    ]
    if needed:
        each = ", ".join(f"{claim} {pairs}" for claim, pairs in needed.items())
        lines.append(
            f"# Pairs with which each contrast's t test has a power of 80 % at these rows' effect, or at the margin "
            f"where that is larger ({FEWEST} to {MOST}): {each}."
        )
    lines += [f"{key}: {_written(rate)}" for key, rate in _rate_of_cell(means).items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    # The rows first: rates without them would be trusted.
    write_atomically(path.with_suffix(".csv"), lambda file: file.write(rows.to_csv(index=False).encode()))
    write_atomically(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))


def _written(rate: float) -> str:
    """Return a rate with all its digits, as YAML reads a number: 1.0e-05, where 1e-05 would be a word."""
    mantissa, e, exponent = repr(float(rate)).partition("e")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"


def all_diverged(means: pd.DataFrame) -> list[str]:
    """Return the cells that diverged at every rate."""
    columns = means.index.names
    return [cell_key(dict(zip(columns, values, strict=True))) for values in means.index[means["chosen"].isna()]]


def at_edge_of_grid(means: pd.DataFrame, rates: list[float]) -> list[str]:
    """Return the cells whose chosen rate is the lowest or highest of the grid, with the rate, in words."""
    return [f"{key} at {rate:g}" for key, rate in _rate_of_cell(means).items() if rate in (min(rates), max(rates))]
