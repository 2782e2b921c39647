"""A cell of an experiment: the columns for which one learning rate is tuned, its name, and its tuned rate."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from experiments.config.errors import ConfigError
from experiments.config.paths import ROOT, tuned_path

OF_THE_NORMALISER = ("model.placement", "model.norm_output")  # settings that change nothing with norm=none


def cell(cfg: DictConfig) -> dict[str, Any]:
    """Return the columns for which one learning rate is tuned: model, norm, batch size, and the experiment's axes.

    An axis is text, "" where the run has no such setting (groups of a batch normalisation) or has no normaliser for it.
    """
    axes = {column: _axis_value(cfg, key) for column, key in cfg.experiment.axes.items()}
    return {"model": cfg.model.name, "norm": cfg.norm.name, "batch_size": cfg.data.batch_size, **axes}


def _axis_value(cfg: DictConfig, key: str) -> str:
    value = OmegaConf.select(cfg, key)
    if value is None or (cfg.norm.name == "none" and key in OF_THE_NORMALISER):
        return ""
    return str(value)


def slug(columns: dict[str, Any], experiment: str, data: str, lr: float, seed: int) -> str:
    """Return `<experiment>-<model>-<norm>[-<axis>...]-<data>-b<batch>-lr<lr>-s<seed>`, the start of a run's name."""
    axes = [f"{name}{value}" for name, value in _axes(columns) if value]
    return "-".join(
        [
            experiment,
            columns["model"],
            columns["norm"],
            *axes,
            data,
            f"b{columns['batch_size']}",
            f"lr{lr:g}",
            f"s{seed}",
        ]
    )


def cell_key(columns: dict[str, Any]) -> str:
    """Return a cell's name in the file of tuned rates: cnn/gn/b128/groups=4."""
    axes = [f"{name}={value}" for name, value in _axes(columns) if value]
    return "/".join([columns["model"], columns["norm"], f"b{columns['batch_size']}", *axes])


def _axes(columns: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in columns.items() if name not in ("model", "norm", "batch_size")]


def tuned_lr(*, _root_: DictConfig) -> float:
    """Return the learning rate that tuning chose for the run's cell. Raises ConfigError when there is none."""
    profile, experiment = _root_.profile.name, _root_.experiment.name
    key = cell_key(cell(_root_))
    path = tuned_path(profile, experiment)
    try:
        chosen = _rates(path, path.stat().st_mtime_ns) if path.exists() else {}
    except yaml.YAMLError:
        raise ConfigError(f"{path.relative_to(ROOT)} is not valid YAML; restore it with git checkout") from None
    if key not in chosen:
        raise ConfigError(
            f"no tuned learning rate for {key} in {path.relative_to(ROOT)}; give optim.lr=... or run "
            f"python -m experiments.tune experiment={experiment} profile={profile}"
        )
    return chosen[key]


@cache
def _rates(path: Path, modified: int) -> dict[str, float]:
    """Return a file of tuned rates. Cached by its time of modification: a run reads its rate half a dozen times."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
