"""Rows to verdicts, tables, figures and one page.

python -m experiments.report profile=quick                            from the run folders, or the committed rows
python -m experiments.report rows=results/reference/quick             from rows alone, without the runs
python -m experiments.report known=results/reference/quick            from rows, and the run folders that they lack

Writes into `output`: runs.csv (a row a run), curves.csv, gradients.csv (where an experiment asks for them),
differences.csv (a row a contrast), cells.csv, claims.md, claims.json, figures/*.svg, provenance.json and report.html,
one page that needs no network. Where the rows are of one's own runs, the page sets them beside the committed ones of
the same profile.
"""

from dataclasses import dataclass, field
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from experiments.cli.command import command
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR


@dataclass
class Report:
    profile: Any = field(default=MISSING, metadata={"help": "the size of the experiments"})
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    rows: str | None = field(
        default=None, metadata={"help": "a folder with runs.csv and curves.csv to rebuild from; null: the run folders"}
    )
    known: str | None = field(
        default=None, metadata={"help": "a folder like `rows`, which is taken beside the run folders"}
    )
    output: str = field(default=MISSING, metadata={"help": "folder that is written"})
    readme: bool = field(default=False, metadata={"help": "put the verdicts into README.md; for the reference results"})


ConfigStore.instance().store(name="report_schema", node=Report)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="report")
def report(cfg: DictConfig) -> None:
    from experiments.report.build import write_all  # here, since --help needs no tables and charts

    write_all(cfg)


def main() -> None:
    command(report, "report")


if __name__ == "__main__":
    main()
