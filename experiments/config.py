"""What may be set, its types, what is refused, and the identity of a run.

The dataclasses here, in models.settings and in data.settings are the one definition of the configuration: Hydra
composes into them, so that a typo or a wrong type ends at compose time. Imports no torch.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

import data
import data.settings
import models.settings

ROOT = Path(__file__).resolve().parents[1]


class ConfigError(ValueError):
    """A configuration that is refused. The message is one line: what was given, what is allowed, what to do."""


@dataclass
class Adam:
    name: str = "adam"
    lr: float = 0.003  # per step, before the schedule
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0  # L2, added to the gradient
    schedule: str = "constant"  # constant, cosine (down to 0 at the end) or step (x 0.1 at 1/2 and 3/4 of the steps)
    warmup_steps: int = 0  # linear from 0
    clip: float | None = 1.0  # largest norm of the whole gradient; null: no clipping
    reference_batch: int | None = None  # lr is for this batch size and scales in proportion; null: lr as it stands


@dataclass
class SGD:
    name: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_steps: int = 0
    clip: float | None = None
    reference_batch: int | None = None


@dataclass
class Trainer:
    # The budget: one of the three; with none of them, 1000 steps.
    steps: int | None = None
    epochs: int | None = None
    examples: int | None = None
    evaluations: int = 10  # on the validation split, evenly spaced over the steps, the last step included
    log_every: int = 10  # steps between two rows of training metrics
    checkpoint_every: float = 30.0  # seconds between two checkpoints
    capture: bool = True  # on CUDA: the training step as one CUDA graph (experiments/step.py)
    # gradient norm of each parameter, mean and deviation of the summed inputs; at the logged steps
    statistics: bool = False


@dataclass
class Wandb:
    mode: str = "offline"  # online, offline or disabled
    project: str = "layer-normalization"
    entity: str | None = None


@dataclass
class Claim:
    """One claim's rule, written down before its runs. experiments/claims.py says what each kind does."""

    id: str = MISSING
    statement: str = MISSING
    stated: str = MISSING  # where: paper and section
    kind: str = MISSING  # difference, interaction or share
    cell: dict[str, Any] = field(default_factory=dict)  # columns that hold for every row of the claim
    a: str = MISSING  # the normaliser that the claim is about
    b: str = MISSING  # the one that it is compared with
    claimed: str = "lower"  # sign of the difference a - b that the claim asserts: lower or higher
    margin: float = 0.0  # smallest effect of interest, in the metric's unit
    at: list[int] = field(default_factory=list)  # interaction: the two batch sizes; the second is subtracted
    base: str = "none"  # share: what both gains are measured from
    at_most: float = 0.0  # share: largest gain(a)/gain(b) that still counts as claimed ...
    surely_below: float = 0.0  # ... if the upper end of its interval is below this


@dataclass
class Experiment:
    name: str = "train"  # of no experiment
    question: str = ""
    metric: str = "test/loss"  # the column that decides; lower is better
    unit: str = "nats"
    claims: list[Claim] = field(default_factory=list)
    final_seeds: list[int] = field(default_factory=list)  # fresh ones: none of them took part in tuning
    tune_seeds: list[int] = field(default_factory=list)
    tune_lr: list[float] = field(default_factory=list)  # the same grid for every cell


@dataclass
class Profile:
    name: str = MISSING
    experiments: list[str] = field(default_factory=list)  # what the report covers


@dataclass
class Config:
    model: Any = MISSING
    norm: Any = MISSING
    data: Any = MISSING
    optim: Any = MISSING
    profile: Any = MISSING
    trainer: Trainer = field(default_factory=Trainer)
    wandb: Wandb = field(default_factory=Wandb)
    experiment: Experiment = field(default_factory=Experiment)
    stage: str = "final"  # tune never looks at the test split; final evaluates it once, after the last step
    seed: int = 0  # of the initial weights, the data order and dropout
    device: str = "auto"  # auto, cpu, cuda or mps
    threads: int = 1  # of one run; small networks gain more from two runs side by side
    runs_dir: str = "results/runs"
    plan: bool = False  # print the table of runs and stop


@dataclass
class Report:
    profile: Any = MISSING
    runs_dir: str = "results/runs"
    rows: str | None = None  # a folder with runs.csv and curves.csv, to rebuild from in place of the run folders
    output: str = MISSING
    readme: bool = False  # put the verdicts into README.md; for the reference results


def register() -> None:
    """Make the schemas and resolvers known to Hydra. Called on import: a sweep's worker process imports this module."""
    store = ConfigStore.instance()
    store.store(name="config_schema", node=Config)
    store.store(name="report_schema", node=Report)
    store.store(group="schema/optim", name="adam", node=Adam)
    store.store(group="schema/optim", name="sgd", node=SGD)
    store.store(group="schema", name="profile", node=Profile)
    for name, node in models.settings.SCHEMAS.items():
        store.store(group="schema/model", name=name, node=node)
    for name, node in data.settings.SCHEMAS.items():
        store.store(group="schema/data", name=name, node=node)
    OmegaConf.register_new_resolver("tuned_lr", tuned_lr, replace=True)
    OmegaConf.register_new_resolver("join", lambda values: ",".join(map(str, values)), replace=True)


def tuned_path(profile: str, experiment: str) -> Path:
    return ROOT / "configs" / "tuned" / profile / f"{experiment}.yaml"


def tuned_lr(profile: str, experiment: str, model: str, norm: str, batch_size: int) -> float:
    """The learning rate that the tuning stage chose for a cell. Raises ConfigError when there is none."""
    path, cell = tuned_path(profile, experiment), f"{model}/{norm}/b{batch_size}"
    try:
        chosen = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    except yaml.YAMLError:
        raise ConfigError(f"{path.relative_to(ROOT)} is not valid YAML; restore it with git checkout") from None
    if cell not in chosen:
        raise ConfigError(
            f"no tuned learning rate for {cell} in {path.relative_to(ROOT)}; give optim.lr=... or run "
            f"python -m experiments.tune experiment={experiment} profile={profile}"
        )
    return chosen[cell]


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


def settings(node: DictConfig) -> Any:
    """A node of the configuration as the plain dataclass that it was declared as."""
    return OmegaConf.to_object(node)


def norm_options(cfg: DictConfig) -> dict:
    return {key: value for key, value in OmegaConf.to_container(cfg.norm, resolve=True).items() if key != "name"}


def run_id(cfg: DictConfig) -> str:
    """`<experiment>-<model>-<norm>-<data>-b<batch>-lr<lr>-s<seed>-<hash8>`: folder, wandb id and key of the row.

    The hash is over everything that can change the numbers: not the clock, not where files lie, not how a run is
    watched. It includes the content of data that are not pinned by a checksum (a text of one's own; the Python
    documentation, which differs between Python versions).
    """
    plain = OmegaConf.to_container(cfg, resolve=True)
    identity = {key: plain[key] for key in ("model", "norm", "data", "optim", "trainer", "stage", "seed", "threads")}
    for section, name in (("data", "root"), ("data", "cache"), ("data", "path"), ("trainer", "checkpoint_every")):
        identity[section].pop(name, None)  # places and habits; what lies at a path is in the fingerprint
    device = device_name(cfg)
    if device != "cuda":
        del identity["trainer"]["capture"]  # changes nothing elsewhere
    identity |= {
        "experiment": cfg.experiment.name,
        "device": device,
        "fingerprint": data.fingerprint(settings(cfg.data)),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    slug = f"{cfg.experiment.name}-{cfg.model.name}-{cfg.norm.name}-{cfg.data.name}"
    return f"{slug}-b{cfg.data.batch_size}-lr{cfg.optim.lr:g}-s{cfg.seed}-{digest}"


def nearest(word: str, allowed) -> str:
    import difflib

    return difflib.get_close_matches(str(word), list(allowed), 1, cutoff=0.0)[0]


register()
