"""Rows to verdicts, tables, figures and one page.

python -m experiments.report profile=quick                            from the run folders, or the committed rows
python -m experiments.report rows=results/reference/quick             from rows alone, without the runs

Writes into `output`: runs.csv (a row a run), curves.csv, differences.csv (a row a contrast), cells.csv, claims.md,
claims.json, figures/*.svg, provenance.json and report.html, one page that needs no network. Where the rows are of one's
own runs, the page sets them beside the committed ones of the same profile.
"""

import hydra
from omegaconf import DictConfig

from experiments.cli import CONFIGS, command


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="report")
def report(cfg: DictConfig) -> None:
    from experiments.report.report import write_all  # here, since --help needs no tables and charts

    write_all(cfg)


def main() -> None:
    command(report, "report")


if __name__ == "__main__":
    main()
