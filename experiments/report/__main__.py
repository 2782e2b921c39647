"""Rows to verdicts, tables, figures and one page.

python -m experiments.report profile=quick                            from the run folders, or the committed rows
python -m experiments.report rows=results/reference/quick             from rows alone, without the runs

Writes into `output`: runs.csv (a row a run), curves.csv, differences.csv (a row a contrast), cells.csv, claims.md,
claims.json, figures/*.svg, provenance.json and report.html, one page that needs no network. Where the rows are of one's
own runs, the page sets them beside the committed ones of the same profile.
"""

from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from experiments.cli.command import command
from experiments.config.paths import CONFIGS


@dataclass
class Report:
    profile: Any = MISSING  # the size of the experiments
    runs_dir: str = "results/runs"  # folder of the run folders; relative to the working directory
    rows: str | None = None  # a folder with runs.csv and curves.csv, to rebuild from in place of the run folders
    output: str = MISSING  # folder that is written
    readme: bool = False  # put the verdicts into README.md; for the reference results


ConfigStore.instance().store(name="report_schema", node=Report)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="report")
def report(cfg: DictConfig) -> None:
    from experiments.report.build import write_all  # here, since --help needs no tables and charts

    write_all(cfg)


def main() -> None:
    command(report, "report")


if __name__ == "__main__":
    main()
