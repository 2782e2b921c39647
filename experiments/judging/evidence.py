"""What a report is about: a profile's runs, from the run folders or from tables of rows, and the verdicts on them."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from experiments.config.errors import ConfigError
from experiments.config.experiment import Experiment, Floor
from experiments.config.paths import tuned_path
from experiments.config.schema import settings
from experiments.judging.cells import mask
from experiments.judging.integrity import problems
from experiments.judging.judge import judge
from experiments.judging.verdict import Verdict
from experiments.runs.rows import CURVE_COLUMNS, GRADIENT_COLUMNS, ROW_COLUMNS, collect, read_rows
from experiments.sweeps.grid import base, first_seed_override, run_ids

NUMBERS = ("batch_size", "seed", "lr", "wall_seconds")
NEEDED = (*ROW_COLUMNS, "profile", "stage", "data", "wall_seconds", "git", "dirty", "torch", "python")
GRADIENTS = "gradients.csv"  # of the experiments that ask for them, from the runs whose checkpoints are there


@dataclass(frozen=True)
class RunTables:
    """A profile's runs: rows, curves, and of some experiments the gradients through time.

    source: where they come from; missing: run ids without a result.
    """

    rows: pd.DataFrame
    curves: pd.DataFrame
    source: Path
    missing: list[str]
    gradients: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=GRADIENT_COLUMNS))

    def of(self, experiments: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the rows and curves of some experiments."""
        rows = self.rows[self.rows["experiment"].isin(experiments)].reset_index(drop=True)
        return rows, self.curves[self.curves["run_id"].isin(rows["run_id"])]

    def write(self, folder: Path) -> None:
        self.rows.to_csv(folder / "runs.csv", index=False)
        self.curves.to_csv(folder / "curves.csv", index=False)
        if len(self.gradients):
            self.gradients.to_csv(folder / GRADIENTS, index=False)


@dataclass(frozen=True)
class ExperimentResult:
    """One experiment's share of the report: its runs, and the verdicts, which may rest on other experiments' too."""

    experiment: Experiment
    config: DictConfig  # its recipe in this profile
    rows: pd.DataFrame
    curves: pd.DataFrame
    gradients: pd.DataFrame
    tuned: pd.DataFrame  # the runs that chose the learning rates; empty where none is tuned
    missing: list[str]
    problems: list[str]  # why these rows should not be trusted (experiments.judging.integrity)
    verdicts: list[Verdict]


def configs_of(profile: DictConfig, first_seed: int) -> dict[str, DictConfig]:
    """Return every experiment of the profile and those whose rows they read, composed for these final seeds."""
    if not profile.experiments:
        raise ConfigError("profile.experiments=[] leaves nothing to report; name an experiment, as [conv_gain]")
    seeds = first_seed_override(first_seed)
    configs = {name: base(name, profile.name, seeds) for name in profile.experiments}
    for cfg in list(configs.values()):
        configs |= {name: base(name, profile.name, seeds) for name in cfg.experiment.sources if name not in configs}
    return configs


def from_folders(configs: dict[str, DictConfig], profile: str, runs_dir: str) -> RunTables | None:
    """Return the finished runs of exactly these grids; None when there is none.

    An experiment without a folder of any of these runs counts as not started; its runs are not reported as missing.
    """
    rows, curves, missing = [], [], []
    for name, cfg in configs.items():
        if not any(Path(runs_dir).glob(f"{name}-*")):  # ids take long
            continue
        if cfg.experiment.tune_lr and not tuned_path(profile, name).exists():
            continue
        ids = run_ids(name, profile, [first_seed_override(cfg.profile.first_seed)])
        if not any((Path(runs_dir) / run_id).exists() for run_id in ids):
            continue
        its_rows, its_curves, its_missing = collect(ids, runs_dir)
        rows.append(its_rows)
        curves.append(its_curves)
        missing += its_missing
    if not sum(map(len, rows)):
        return None
    rows = pd.concat([some for some in rows if len(some)])
    curves = pd.concat([some for some in curves if len(some)] or [pd.DataFrame(columns=CURVE_COLUMNS)])
    # Through CSV, so that a rebuild from the committed tables starts from the very same values and types.
    rows, curves = read(_text(rows), _text(curves), configs)
    gradients = pd.read_csv(_text(_gradients(configs, rows, runs_dir)))
    return RunTables(rows, curves, Path(runs_dir), missing, gradients)


def _text(frame: pd.DataFrame) -> StringIO:
    return StringIO(frame.to_csv(index=False))


def _gradients(configs: dict[str, DictConfig], rows: pd.DataFrame, runs_dir: str) -> pd.DataFrame:
    """Measure the gradients through time in the finished runs of the cells that experiments name for it."""
    chosen: list[str] = []
    for name, cfg in configs.items():
        runs = rows[(rows["experiment"] == name) & (rows["status"] == "done")]
        for cell in cfg.experiment.gradients:
            chosen += runs.loc[mask(runs, cell), "run_id"].tolist()
    if not chosen:
        return pd.DataFrame(columns=GRADIENT_COLUMNS)
    from experiments.training.gradients import gradients_of_runs  # here, since it imports torch

    return gradients_of_runs(dict.fromkeys(chosen), runs_dir)


def with_known(found: RunTables | None, known: RunTables) -> RunTables:
    """Return the runs that were found, and those of `known` that were not.

    Of an experiment with runs that were found, `known` adds the runs of the present grid alone; a line on stderr counts
    the others, which are of an earlier one.
    """
    if found is None:
        return known
    others = known.rows[~known.rows["run_id"].isin(found.rows["run_id"])]
    earlier = others["experiment"].isin(found.rows["experiment"]) & ~others["run_id"].isin(found.missing)
    if count := earlier.sum():
        print(
            f"{count} rows of {known.source} are of no run of the present grids, left out", file=sys.stderr, flush=True
        )
    others = others[~earlier]
    rest = [table[table["run_id"].isin(others["run_id"])] for table in (known.curves, known.gradients)]
    rows, curves, gradients = (
        pd.concat([some for some in pair if len(some)] or pair[:1], ignore_index=True)
        for pair in zip((others, *rest), (found.rows, found.curves, found.gradients), strict=True)
    )
    missing = [run_id for run_id in found.missing if run_id not in set(others["run_id"])]
    return RunTables(rows, curves, found.source, missing, gradients)


def from_tables(configs: dict[str, DictConfig], folder: Path, named_by: str = "rows") -> RunTables:
    """Read the tables that a report wrote. Raises ConfigError when they are not there or not whole.

    named_by: the option that names the folder.
    """
    for file in ("runs.csv", "curves.csv"):
        if not (folder / file).exists():
            raise ConfigError(f"{named_by}={folder} has no {file}; name a folder that a report wrote")
    try:
        rows, curves = read(folder / "runs.csv", folder / "curves.csv", configs)
        measured = (folder / GRADIENTS).exists()
        gradients = pd.read_csv(folder / GRADIENTS) if measured else pd.DataFrame(columns=GRADIENT_COLUMNS)
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{named_by}={folder}: one of its tables is damaged ({reason}); name another folder"
        ) from None
    for file, content, columns in (
        ("runs.csv", rows, NEEDED),
        ("curves.csv", curves, CURVE_COLUMNS),
        (GRADIENTS, gradients, GRADIENT_COLUMNS),
    ):
        if absent := [column for column in columns if column not in content]:
            raise ConfigError(f"{folder / file} has no column {', '.join(absent)}; name a folder that a report wrote")
    if not all(pd.api.types.is_numeric_dtype(gradients[column]) for column in ("lag", "norm") if len(gradients)):
        raise ConfigError(f"{folder / GRADIENTS} is damaged in the column lag or norm; restore it, or delete the file")
    if rows.empty:
        raise ConfigError(f"{folder / 'runs.csv'} holds no run; name another folder")
    if len(repeated := rows["run_id"][rows["run_id"].duplicated()]):
        raise ConfigError(f"{folder / 'runs.csv'} holds {repeated.iloc[0]} more than once; leave each run one row")
    for file, table in (("runs.csv", rows), ("curves.csv", curves)):
        if wrong := damaged_columns(table):
            raise ConfigError(f"{folder / file} is damaged in the column {', '.join(wrong)}; restore it")
    profile = next(iter(configs.values())).profile.name
    if others := sorted(set(rows["profile"]) - {profile}):
        raise ConfigError(f"{named_by}={folder} holds runs of profile {', '.join(others)}; give profile={others[0]}")
    rows = rows[rows["experiment"].isin(configs)]
    if rows.empty:
        raise ConfigError(f"{folder / 'runs.csv'} holds no run of {', '.join(configs)}; name another folder")
    curves, gradients = (table[table["run_id"].isin(rows["run_id"])] for table in (curves, gradients))
    return RunTables(rows, curves, folder, [], gradients)


def damaged_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of runs or curves that have holes, or text in place of numbers or of True and False."""
    holes = table.columns[table.isna().any()].intersection(NEEDED)
    metrics = [column for column in table if "/" in column]
    numbers = [column for column in (*NUMBERS, *CURVE_COLUMNS[1:], *metrics) if column in table]
    text = [column for column in numbers if not pd.api.types.is_numeric_dtype(table[column]) and len(table)]
    flags = [column for column in ("dirty",) if column in table and not pd.api.types.is_bool_dtype(table[column])]
    return list(dict.fromkeys([*holes, *text, *flags]))


def read(rows, curves, configs: dict[str, DictConfig]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read runs.csv and curves.csv. An axis is text, "" where a run has none."""
    axes = sorted({axis for cfg in configs.values() for axis in cfg.experiment.axes})
    rows = pd.read_csv(rows, dtype=dict.fromkeys((*axes, "git", "torch", "python"), str), low_memory=False)
    rows = rows.assign(**dict.fromkeys([axis for axis in axes if axis not in rows], ""))
    return rows.fillna(dict.fromkeys(axes, "")), pd.read_csv(curves)


def results_of(tables: RunTables, configs: dict[str, DictConfig], profile: DictConfig) -> list[ExperimentResult]:
    """Return the profile's experiments with their verdicts."""
    results = []
    for name in profile.experiments:
        experiment = settings(configs[name].experiment)
        theirs = floors_of(settings(configs[source].experiment) for source in experiment.sources)
        judged = replace(experiment, floors=[*experiment.floors, *theirs])
        results.append(_result(judged, configs[name], tables, profile.name))
    return results


def floors_of(sources: Iterable[Experiment]) -> list[Floor]:
    """Return the floors of the experiments whose rows another one judges: they count there too."""
    return [
        Floor({"experiment": source.name, **floor.cell}, floor.at_most, floor.metric or source.metric)
        for source in sources
        for floor in source.floors
    ]


def _result(experiment: Experiment, cfg: DictConfig, tables: RunTables, profile: str) -> ExperimentResult:
    name = experiment.name
    rows, curves = tables.of([name])
    judged = tables.of([name, *experiment.sources])
    choice = tuned_path(profile, name)
    tuning_rows = choice.with_suffix(".csv")
    tuned = read_rows(tuning_rows, experiment.axes) if tuning_rows.exists() else pd.DataFrame()
    lacking = [column for column in experiment.axes if len(tuned) and column not in tuned]
    if lacking and len(rows):
        inconsistent = [
            f"tuned/{tuning_rows.name} has no column {', '.join(lacking)}: it was made under other rules, tune again"
        ]
    else:
        inconsistent = problems(experiment, rows, choice)
    return ExperimentResult(
        experiment=experiment,
        config=cfg,
        rows=rows,
        curves=curves,
        gradients=tables.gradients[tables.gradients["run_id"].isin(rows["run_id"])],
        tuned=tuned,
        missing=[run_id for run_id in tables.missing if run_id.startswith(f"{name}-")],
        problems=inconsistent,
        verdicts=judge(experiment, *judged),
    )
