"""The identity of a run: everything that can change its numbers, and the name that is made of it."""

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

import data
from experiments.config.cell import cell, slug
from experiments.config.errors import ConfigError
from experiments.config.schema import settings
from experiments.runs.torchrun import num_ranks


def device_name(cfg: DictConfig) -> str:
    """The device that `device` stands for on this machine: cpu, cuda or mps. Raises ConfigError if it is not there."""
    if cfg.device == "cpu":  # spares an import of torch where only a plan is asked for
        return "cpu"
    import torch

    there = ["cpu"]
    there += ["cuda"] if torch.cuda.is_available() else []
    there += ["mps"] if torch.backends.mps.is_available() else []
    if cfg.device == "auto":
        return "cuda" if "cuda" in there else there[-1]
    if cfg.device not in there:
        raise ConfigError(f"device={cfg.device} is not on this machine; it has: {', '.join(there)}; use device=auto")
    return cfg.device


def run_id(cfg: DictConfig, device: str | None = None, fingerprint: str | None = None, ranks: int | None = None) -> str:
    """`<slug>-<hash8>`: folder, wandb id and key of the row.

    device, fingerprint, ranks: of a run that was made elsewhere; by default what this machine and process have.
    """
    return run_name(cell(cfg), identity(cfg, device, fingerprint, ranks))


def identity(
    cfg: DictConfig, device: str | None = None, fingerprint: str | None = None, ranks: int | None = None
) -> dict[str, Any]:
    """Everything that can change a run's numbers: not the clock, not where files lie, not how a run is watched.

    It includes the content of data that are not pinned by a checksum (a text of one's own; the Python documentation,
    which differs between Python versions).
    """
    found: dict[str, Any] = {
        key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "norm", "data", "optim", "trainer")
    }
    for section, name in (("data", "root"), ("data", "cache"), ("data", "path"), ("trainer", "checkpoint_every")):
        found[section].pop(name, None)  # places and habits; what lies at a path is in the fingerprint
    device = device or device_name(cfg)
    if device != "cuda":
        del found["trainer"]["capture"]  # changes nothing elsewhere
    if (ranks := ranks or num_ranks()) > 1:  # like `threads` they change the rounding, and dropout's masks too
        found["ranks"] = ranks
    return found | {
        "stage": cfg.stage,
        "seed": cfg.seed,
        "threads": cfg.threads,
        "experiment": cfg.experiment.name,
        "device": device,
        "fingerprint": fingerprint or data.fingerprint(settings(cfg.data)),
    }


def run_name(columns: dict[str, Any], identity: dict[str, Any]) -> str:
    """The name of the run with this identity, in the cell of these columns."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    shown = identity["experiment"], identity["data"]["name"], identity["optim"]["lr"], identity["seed"]
    return f"{slug(columns, *shown)}-{digest}"
