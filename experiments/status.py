"""Show where the runs of a sweep stand: state, step, time left, last message.

python -m experiments.status                                every run below runs_dir
python -m experiments.status profile=standard               every run of the profile's experiments, started or not
python -m experiments.status profile=standard only=conv_gain
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError, nearest
from experiments.config.paths import CONFIGS, tuned_path
from experiments.config.schema import RUNS_DIR
from experiments.runs.folder import RunFolder, RunStatus, folders_in
from experiments.runs.progress import format_duration
from experiments.sweeps.grid import base, first_seed_override, run_ids

ORDER = (  # what needs attention comes first
    RunStatus.RUNNING,
    RunStatus.DIED,
    RunStatus.DAMAGED,
    RunStatus.FAILED,
    RunStatus.INTERRUPTED,
    RunStatus.NEW,
    RunStatus.DIVERGED,
    RunStatus.DONE,
)


@dataclass
class Status:
    profile: Any = field(
        default=None, metadata={"help": "the profile whose experiments are shown; null: every run below runs_dir"}
    )
    only: str | None = field(default=None, metadata={"help": "one of the profile's experiments"})
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)


ConfigStore.instance().store(name="status_schema", node=Status)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="status")
def status(cfg: DictConfig) -> None:
    with refusals_in_one_line("status"):
        folders = folders_of(cfg)
    states = {folder: folder.state for folder in folders}
    table = Table(box=None, pad_edge=False)
    for column in ("run", "state", "step", "left", "last word"):
        table.add_column(column, no_wrap=column != "last word", overflow="fold")
    for folder in sorted(folders, key=lambda folder: (ORDER.index(states[folder]), folder.run_id)):
        table.add_row(*line(folder, states[folder]))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
    counts = Counter(states.values())
    print(f"{len(folders)} runs: " + ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state]))


def folders_of(cfg: DictConfig) -> list[RunFolder]:
    """Return the folders of the runs that are asked for. Raises ConfigError."""
    if cfg.profile is not None:
        names = list(cfg.profile.experiments)
        if cfg.only is not None and cfg.only not in names:
            allowed = f"allowed: {', '.join(names)}; nearest: {nearest(cfg.only, names)}"
            raise ConfigError(f"only={cfg.only} is not of profile={cfg.profile.name}; {allowed}")
        chosen = [cfg.only] if cfg.only else names
        return [RunFolder(cfg.runs_dir, run) for name in chosen for run in planned(name, cfg.profile)]
    if cfg.only is not None:
        raise ConfigError(f"only={cfg.only} needs a profile as well; give profile=quick or another")
    folders = folders_in(cfg.runs_dir)
    if not folders:
        raise ConfigError(f"runs_dir={cfg.runs_dir} holds no run; name the folder of the runs, or start one")
    return folders


def planned(experiment: str, profile: DictConfig) -> list[str]:
    """Return the ids of an experiment's runs; none, with a line, where its learning rates are not chosen yet."""
    if base(experiment, profile.name).experiment.tune_lr and not tuned_path(profile.name, experiment).exists():
        print(f"{experiment}: not tuned yet; python -m experiments.tune experiment={experiment} profile={profile.name}")
        return []
    return run_ids(experiment, profile.name, [first_seed_override(profile.first_seed)])


def line(folder: RunFolder, state: RunStatus) -> list[str]:
    """Return a row of the table. The time left is that of the steps, at the speed so far."""
    status = folder.status
    step = f"{status['step']}/{status['steps']}" if status.get("steps") else ""
    left = ""
    if state == RunStatus.RUNNING and status.get("seconds") and status.get("step"):
        left = format_duration((status["steps"] - status["step"]) * status["seconds"] / status["step"])
    message = status.get("message", "")
    if state == RunStatus.DIED:
        message = f"process {status['pid']} is gone; start the command again"
    elif state == RunStatus.DAMAGED:
        message = f"{folder.damage}; start the command again"
    return [folder.run_id, state, step, left, escape(message)]


def main() -> None:
    command(status, "status")


if __name__ == "__main__":
    main()
