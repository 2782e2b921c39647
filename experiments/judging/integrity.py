"""Consistency of an experiment's rows, and of those that chose its learning rates."""

from pathlib import Path

import pandas as pd
import yaml

from experiments.config.cell import cell_key, slug
from experiments.config.experiment import Experiment
from experiments.judging.tuning import chosen_rates, tuning_metric
from experiments.runs.rows import cell_columns, read_rows


def problems(experiment: Experiment, rows: pd.DataFrame, tuned: Path) -> list[str]:
    """Return what is inconsistent, a sentence each; an empty list when the rows can be judged.

    rows: the experiment's final runs. tuned: its file of tuned rates (paths.tuned_path), beside its rows as CSV; not
    there for an experiment that is not tuned. Runs that are missing altogether are not the rows' fault: the report
    names them.
    """
    if rows.empty:
        return []
    columns = cell_columns(experiment.axes)
    return [*_of_rows(experiment, rows, columns), *_of_tuning(experiment, rows, columns, tuned)]


def _of_rows(experiment: Experiment, rows: pd.DataFrame, columns: list[str]) -> list[str]:
    messages = []
    labels = []
    for _, row in rows.iterrows():
        name = slug(dict(row[columns]), experiment.name, row["data"], row["lr"], row["seed"])
        if not row["run_id"].startswith(f"{name}-"):
            labels.append(row["run_id"])
    if labels:
        messages.append(f"{len(labels)} rows have labels that their run's name contradicts, first {labels[0]}")
    if (twice := rows["run_id"].duplicated()).any():
        messages.append(f"{twice.sum()} runs occur twice, first {rows.loc[twice, 'run_id'].iloc[0]}")
    if (stages := set(rows["stage"])) != {"final"}:
        messages.append(f"rows of stage {', '.join(sorted(stages - {'final'}))} among the final ones")
    for values, seeds in rows.groupby(columns)["seed"]:
        cell = cell_key(dict(zip(columns, values, strict=True)))
        if lost := sorted(set(experiment.final_seeds) - set(seeds)):
            messages.append(f"{cell} lacks seeds {', '.join(map(str, lost))}")
        if foreign := sorted(set(seeds) - set(experiment.final_seeds)):
            messages.append(f"{cell} has seeds that the rule does not name: {', '.join(map(str, foreign))}")
    return messages


def _of_tuning(experiment: Experiment, rows: pd.DataFrame, columns: list[str], tuned: Path) -> list[str]:
    if not experiment.tune_lr:
        return []
    if not tuned.exists():
        return [f"tuned/{tuned.name} is not there, which chose the learning rates"]
    if not tuned.with_suffix(".csv").exists():
        return [f"tuned/{tuned.stem}.csv is not there, whose rows chose the learning rates"]
    try:
        chosen = yaml.safe_load(tuned.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return [f"tuned/{tuned.name} is not valid YAML; restore it with git checkout"]
    if not isinstance(chosen, dict):
        return [f"tuned/{tuned.name} holds no rates"]
    tuning = read_rows(tuned.with_suffix(".csv"), experiment.axes)
    messages = []
    if tests := [column for column in tuning if column.startswith("test/") and tuning[column].notna().any()]:
        messages.append(f"the tuning rows hold {', '.join(tests)}: tuning must not see the test split")
    if (stages := set(tuning["stage"])) != {"tune"}:
        messages.append(f"rows of stage {', '.join(sorted(stages - {'tune'}))} among the tuning ones")
    if shared := sorted(set(tuning["seed"]) & set(experiment.final_seeds)):
        messages.append(f"seeds {', '.join(map(str, shared))} took part in tuning and in the final runs")
    grid = {(lr, seed) for lr in experiment.tune_lr for seed in experiment.tune_seeds}
    for values, of_cell in tuning.groupby(columns)[["lr", "seed"]]:
        if set(of_cell.itertuples(index=False, name=None)) != grid:
            cell = cell_key(dict(zip(columns, values, strict=True)))
            messages.append(f"{cell} was not tuned over the same rates and seeds as the rule names")
    if chosen_rates(tuning, columns, metric := tuning_metric(experiment)) != chosen:
        messages.append(f"tuned/{tuned.name} is not what its rows choose by {metric}")
    for values, rates in rows.groupby(columns)["lr"]:
        cell = cell_key(dict(zip(columns, values, strict=True)))
        if set(rates) != {chosen.get(cell)}:
            messages.append(f"{cell} ran at {', '.join(map(str, sorted(set(rates))))}, tuned was {chosen.get(cell)}")
    return messages
