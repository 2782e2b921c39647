"""Compare runs of one's own: a table, a forest plot and the curves, without a rule, a claim or a tuned rate.

python -m experiments.compare runs=train-lstm                              against norm:none, in the task's own metric
python -m experiments.compare runs=[results/runs,elsewhere/runs] baseline=schedule:constant metric=val/loss
python -m experiments.compare runs=train-* baseline=[norm:none,seq_len:25]  every cell against one

A cell is what differs between the runs' configurations, the seed and what is never a cause (paths, wandb, logging) left
out. Every cell is compared with the cell that has the baseline's values and is like it in all else; runs of one seed
make a pair. Where a further field varies, so does the difference: that is the second table. Writes into `output`:
compare.md, compare.html (needs no network), differences.csv, cells.csv, runs.csv, forest.svg, curves.svg.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR
from experiments.runs.outputs import check_output, written_as_one


@dataclass
class Compare:
    runs: Any = field(
        default=None,
        metadata={
            "help": "the beginning of names in runs_dir, or a pattern with *; a folder of runs; a list of these; "
            "null: every run in runs_dir"
        },
    )
    baseline: Any = field(
        default=None,
        metadata={"help": "field:value of the runs that the others are compared with, or a list; null: norm:none"},
    )
    metric: str | None = field(
        default=None, metadata={"help": "a column of the runs' results, as test/bpc; null: their task's own"}
    )
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    output: str | None = field(
        default=None, metadata={"help": "folder that is written; null: compare/ beside runs_dir"}
    )


ConfigStore.instance().store(name="compare_schema", node=Compare)
FILES = ("compare.md", "compare.html", "differences.csv", "cells.csv", "runs.csv", "forest.svg", "curves.svg")


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="compare")
def compare(cfg: DictConfig) -> None:
    from experiments.compare.comparison import compared  # here, since --help needs no tables and charts
    from experiments.compare.reading import read_runs
    from experiments.compare.writing import say, write

    with refusals_in_one_line("compare"):
        output = Path(cfg.output or Path(cfg.runs_dir).parent / "compare")
        check_output(output, FILES)
        runs, notices = read_runs(listed(cfg.runs), cfg.runs_dir)
        comparison = compared(runs, listed(cfg.baseline), cfg.metric, notices)
        with written_as_one(output) as folder:
            write(comparison, folder)
    say(comparison)
    print(f"comparison: {(output / 'compare.html').resolve()}")


def listed(value: Any) -> list[str]:
    """Return what a field holds, one text or a list of them."""
    values = value if OmegaConf.is_list(value) else [value]
    return [str(one) for one in values if one is not None]


def main() -> None:
    command(compare, "compare")
