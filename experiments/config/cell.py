"""A cell of an experiment: the columns for which one learning rate is tuned, its name, and its tuned rate."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from experiments.config.errors import ConfigError
from experiments.config.paths import ROOT, tuned_path


def cell(cfg: DictConfig) -> dict[str, Any]:
    """The columns for which one learning rate is tuned: model, norm, batch size, and the experiment's own axes.

    An axis is text, "" where the run has no such setting (groups of a batch normalisation).
    """
    shown = {column: OmegaConf.select(cfg, path) for column, path in cfg.experiment.axes.items()}
    axes = {column: "" if value is None else str(value) for column, value in shown.items()}
    return {"model": cfg.model.name, "norm": cfg.norm.name, "batch_size": cfg.data.batch_size, **axes}


def slug(columns: dict[str, Any], experiment: str, data: str, lr: float, seed: int) -> str:
    """The readable part of a run's name: `<experiment>-<model>-<norm>[-<axis>...]-<data>-b<batch>-lr<lr>-s<seed>`."""
    model, norm, batch_size, *axes = columns.items()
    parts = [experiment, model[1], norm[1], *(f"{name}{value}" for name, value in axes if value), data]
    return "-".join([*parts, f"b{batch_size[1]}", f"lr{lr:g}", f"s{seed}"])


def cell_key(columns: dict[str, Any]) -> str:
    """A cell's name in configs/tuned: cnn/gn/b128/groups=4."""
    model, norm, batch_size, *axes = columns.items()
    return "/".join([model[1], norm[1], f"b{batch_size[1]}", *(f"{name}={value}" for name, value in axes if value)])


def tuned_lr(*, _root_: DictConfig) -> float:
    """The learning rate that the tuning stage chose for the run's cell. Raises ConfigError when there is none."""
    profile, experiment, wanted = _root_.profile.name, _root_.experiment.name, cell_key(cell(_root_))
    path = tuned_path(profile, experiment)
    try:
        chosen = _rates(path, path.stat().st_mtime_ns) if path.exists() else {}
    except yaml.YAMLError:
        raise ConfigError(f"{path.relative_to(ROOT)} is not valid YAML; restore it with git checkout") from None
    if wanted not in chosen:
        raise ConfigError(
            f"no tuned learning rate for {wanted} in {path.relative_to(ROOT)}; give optim.lr=... or run "
            f"python -m experiments.tune experiment={experiment} profile={profile}"
        )
    return chosen[wanted]


@cache
def _rates(path: Path, changed: int) -> dict[str, float]:
    """A file of configs/tuned as it was last changed. A run asks it half a dozen times, whenever its rate is read."""
    return yaml.safe_load(path.read_text()) or {}
