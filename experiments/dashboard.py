"""The Weights & Biases workspace as code: a saved view for every experiment of a profile.

python -m experiments.dashboard project=layer-normalization            create the views, or bring them up to date
python -m experiments.dashboard output=views.json                      their specification in a file, without an account

All panels of a view share one choice of runs, so each experiment has a view of its own: its final runs, those of a cell
together (median over the seeds, shaded from lowest to highest), in the report's colours. A section for each claim has
its rule and the metric that decides it; learning curves by step and by examples follow, then what diverged, and
gradients and summed inputs of runs with trainer.statistics=true. Needs the extra `dashboard`.
"""

import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import first_line
from experiments.config.paths import CONFIGS
from experiments.config.writable import check_file


@dataclass
class Dashboard:
    profile: Any = field(default=MISSING, metadata={"help": "the profile whose experiments get a view each"})
    project: str = field(default="layer-normalization", metadata={"help": "project of the workspace"})
    entity: str | None = field(
        default=None,
        metadata={"help": "user or team that owns the project; null: the account of the key on this machine"},
    )
    output: str | None = field(default=None, metadata={"help": "a file for the specification; null: a server gets it"})


ConfigStore.instance().store(name="dashboard_schema", node=Dashboard)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="dashboard")
def dashboard(cfg: DictConfig) -> None:
    try:
        from experiments.report import wandb_views
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("wandb_workspaces"):
            raise
        sys.exit("the dashboard needs its extra: pip install -c constraints.txt 'wandb-workspaces>=0.4,<0.5'")
    random.seed(0)  # the ids of panels are drawn at random; the same views must give the same file
    with refusals_in_one_line("dashboard"):
        if cfg.output:
            check_file("output", cfg.output, begins=b"{")
        entity = cfg.entity or ("" if cfg.output else wandb_views.default_entity())
        views = [wandb_views.view(name, cfg.profile.name, cfg.project, entity) for name in cfg.profile.experiments]
    if cfg.output:
        wandb_views.write(views, Path(cfg.output))
        print(f"{len(views)} views: {cfg.output}")
        return
    for view in views:
        try:
            print(f"{view.name}: {wandb_views.save(view)}")
        except Exception as error:
            sys.exit(f"{view.name} is not saved: {first_line(error)}")


def main() -> None:
    command(dashboard, "dashboard")


if __name__ == "__main__":
    main()
