"""Check that everything in a results folder is what it was when it was written.

python -m experiments.verify                                results/runs, and the tables of the reports beside it
python -m experiments.verify runs_dir=FOLDER rows=[FOLDER/runs.csv]

Of every run: its name against the hash of its configuration, device and data; rows and summary against each other; the
checksums of its checkpoints; what a dead process left. Of every table: its rows against the runs. Prints a line for
each problem and exits with 1 if there is one. Changes nothing.
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


@dataclass
class Verify:
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    rows: list[str] = field(
        default_factory=lambda: ["results/*/runs.csv"], metadata={"help": "tables that are compared with the runs"}
    )


ConfigStore.instance().store(name="verify_schema", node=Verify)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="verify")
def verify(cfg: DictConfig) -> None:
    runs_dir = Path(cfg.runs_dir)
    with refusals_in_one_line("verify"):
        runs = folders_in(runs_dir)
        tables = sorted({Path(path) for pattern in cfg.rows for path in glob(str(ROOT / pattern))})
        if not runs and not tables:
            raise ConfigError(f"runs_dir={cfg.runs_dir} holds no run and rows={list(cfg.rows)} name no table")
    count = 0
    for path, problem in check_all(runs, tables, runs_dir):
        print(f"{path}: {problem}")
        count += 1
    print(f"{len(runs)} runs and {len(tables)} tables: " + (f"{count} problems" if count else "all as written"))
    sys.exit(1 if count else 0)


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
