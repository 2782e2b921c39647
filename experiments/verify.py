"""Check that everything in a results folder is what it was when it was written.

python -m experiments.verify                                results/runs, and the tables of the reports beside it
python -m experiments.verify runs_dir=FOLDER rows=[FOLDER/runs.csv]
python -m experiments.verify against=results/reference/quick tolerance=0.001   runs that were trained once more

Of every run: its name against the hash of its configuration, device and data; rows and summary against each other; the
checksums of its checkpoints; what a dead process left. Of every table: its rows against the runs. Prints a line for
each problem and exits with 1 if there is one. Changes nothing.

With `against`, also a line for every run that has a committed row: equal to the last bit, or by how much each metric
differs, and which commit and processor the row is of. A difference is no damage: another processor and another commit
round otherwise. It counts as a problem only beyond a `tolerance`.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.progress import track

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS, ROOT
from experiments.config.schema import RUNS_DIR
from experiments.runs.consistency import run_problems, table_problems
from experiments.runs.folder import RunFolder, folders_in
from experiments.runs.known import known_rows
from experiments.runs.repeated import Repeated, repeated


@dataclass
class Verify:
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    rows: list[str] = field(
        default_factory=lambda: ["results/*/runs.csv"], metadata={"help": "tables that are compared with the runs"}
    )
    against: str | None = field(
        default=None, metadata={"help": "a report's folder, whose rows are compared with the runs of the same ids"}
    )
    tolerance: float | None = field(
        default=None,
        metadata={
            "help": "largest difference from `against`, in the unit of each metric, that is no problem; null: any",
            "range": ">= 0",
        },
    )


ConfigStore.instance().store(name="verify_schema", node=Verify)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="verify")
def verify(cfg: DictConfig) -> None:
    runs_dir = Path(cfg.runs_dir)
    with refusals_in_one_line("verify"):
        runs = folders_in(runs_dir)
        tables = sorted({path for pattern in cfg.rows for path in tables_of(pattern)})
        if not runs and not tables:
            raise ConfigError(f"runs_dir={cfg.runs_dir} holds no run and rows={list(cfg.rows)} name no table")
        once_more = list(repeat(cfg, runs))
    count = 0
    for path, problem in check_all(runs, tables, runs_dir):
        print(f"{path}: {problem}")
        count += 1
    print(f"{len(runs)} runs and {len(tables)} tables: " + (f"{count} problems" if count else "all as written"))
    count += say_repeated(once_more, cfg)
    sys.exit(1 if count else 0)


def tables_of(pattern: str) -> list[Path]:
    """Return the files of a pattern, from here or else from the repository's root."""
    return [Path(path) for path in glob(pattern)] or [ROOT / path for path in glob(pattern, root_dir=ROOT)]


def repeat(cfg: DictConfig, runs: list[RunFolder]) -> list[Repeated]:
    """Return the runs that have a row in `against`. Raises ConfigError where none has, or it has no rows."""
    if cfg.tolerance is not None and not cfg.tolerance >= 0:
        raise ConfigError(f"tolerance={cfg.tolerance:g} is no distance; give 0 or more, or leave it out")
    if cfg.against is None:
        if cfg.tolerance is not None:
            raise ConfigError(f"tolerance={cfg.tolerance:g} needs rows; give against=results/reference/quick as well")
        return []
    found = list(repeated(runs, known_rows(cfg.against, named_by="against")))
    if not found:
        lacking = f"none of the {len(runs)} runs in {cfg.runs_dir} is finished and has a row in {cfg.against}"
        raise ConfigError(f"{lacking}; train one by its id, as python -m experiments.train run=ID")
    return found


def say_repeated(once_more: list[Repeated], cfg: DictConfig) -> int:
    """Print a line for each run that has a committed row; return how many differ by more than `tolerance`."""
    for one in once_more:
        print(one)
    if not once_more:
        return 0
    equal = sum(one.equal for one in once_more)
    beyond = 0 if cfg.tolerance is None else sum(one.beyond(cfg.tolerance) for one in once_more)
    limit = "" if cfg.tolerance is None else f", {beyond} by more than {cfg.tolerance:g}"
    print(f"{len(once_more)} runs against {cfg.against}: {equal} equal, {len(once_more) - equal} differ{limit}")
    return beyond


def check_all(runs: list[RunFolder], tables: list[Path], runs_dir: Path) -> Iterator[tuple[Path, str]]:
    """Yield each problem of each run and table, with its path. A terminal shows the progress."""
    for folder in track(runs, "runs", transient=True, disable=not sys.stdout.isatty()):
        for problem in run_problems(folder):
            yield folder.path, problem
    for path in tables:
        for problem in table_problems(path, runs_dir):
            yield path, problem


def main() -> None:
    command(verify, "verify")


if __name__ == "__main__":
    main()
