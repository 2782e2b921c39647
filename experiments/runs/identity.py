"""The identity of a run: everything that can change its numbers, and the run id that is made of it."""

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

import data
from experiments.config.by_hand import set_by_hand
from experiments.config.cell import cell, slug
from experiments.config.errors import ConfigError
from experiments.config.experiment import Experiment
from experiments.config.schema import PLACES, SECTIONS, settings
from experiments.runs.torchrun import num_ranks

LONGEST_NAME = 128  # characters of a run's name that wandb takes


def device_name(cfg: DictConfig) -> str:
    """Return the device that `device` stands for on this machine: cpu, cuda or mps. Raises ConfigError without it."""
    if cfg.device == "cpu":  # spares an import of torch where only a plan is asked for
        return "cpu"
    import torch

    available = ["cpu"]
    available += ["cuda"] if torch.cuda.is_available() else []
    available += ["mps"] if torch.backends.mps.is_available() else []
    if cfg.device == "auto":
        return "cuda" if "cuda" in available else available[-1]
    if cfg.device not in available:
        listed = ", ".join(available)
        raise ConfigError(f"device={cfg.device} is not on this machine; it has: {listed}; use device=auto")
    return cfg.device


def run_id(cfg: DictConfig, device: str | None = None, fingerprint: str | None = None, ranks: int | None = None) -> str:
    """Return `<slug>-<hash8>`, the name of the run's folder, its id in wandb and the key of its row.

    device, fingerprint, ranks: those of a run that was trained elsewhere; by default this machine's and process's.
    """
    return run_names(cfg, device, fingerprint, ranks)[0]


def run_names(
    cfg: DictConfig, device: str | None = None, fingerprint: str | None = None, ranks: int | None = None
) -> tuple[str, str]:
    """Return the run's id and the one without the fields that were set, which a folder of that name keeps."""
    columns, identity = cell(cfg), run_identity(cfg, device, fingerprint, ranks)
    return run_name(columns, identity), _named(columns, identity)


def run_identity(
    cfg: DictConfig, device: str | None = None, fingerprint: str | None = None, ranks: int | None = None
) -> dict[str, Any]:
    """Return everything that can change a run's numbers: not the clock, not paths, not how a run is watched.

    It includes the content of data that are not pinned by a checksum (a user's text; the Python documentation, which
    differs between Python versions). device, fingerprint, ranks: as in `run_id`.
    """
    identity: dict[str, Any] = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in SECTIONS}
    for field in (*PLACES, "data.path"):  # the content of a path is in the fingerprint
        section, _, name = field.partition(".")
        identity[section].pop(name, None)
    device = device or device_name(cfg)
    if device != "cuda":
        del identity["trainer"]["capture"]  # changes nothing elsewhere
    ranks = ranks or num_ranks()
    if ranks > 1:  # like `threads` they change the rounding, and dropout's masks too
        identity["ranks"] = ranks
    return identity | {
        "stage": cfg.stage,
        "seed": cfg.seed,
        "threads": cfg.threads,
        "experiment": cfg.experiment.name,
        "device": device,
        "fingerprint": fingerprint or data.fingerprint(settings(cfg.data)),
    }


def run_name(columns: dict[str, Any], identity: dict[str, Any]) -> str:
    """Return the id of the run with this identity. columns: of its cell, for the readable part.

    An experiment names its axes; outside of experiments the fields that were set stand in their place.
    """
    name = _named(columns, identity)
    if identity["experiment"] != Experiment.name:
        return name
    return _named(columns | set_by_hand(identity, LONGEST_NAME - len(name)), identity)


def _named(columns: dict[str, Any], identity: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    readable = slug(
        columns, identity["experiment"], identity["data"]["name"], identity["optim"]["lr"], identity["seed"]
    )
    return f"{readable}-{digest}"
