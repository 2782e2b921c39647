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
    measure: list[str] = field(default_factory=list)  # of the trained model: invariance, train_test_gap


@dataclass
class Wandb:
    mode: str = "offline"  # online, offline or disabled
    project: str = "layer-normalization"
    entity: str | None = None


@dataclass
class Claim:
    """One claim's rule, written down before its runs. experiments/claims.py says how each kind is decided.

    A cell is a dictionary of columns of the rows, as {norm: bn, batch_size: 2}. A claim has a contrast for every entry
    of `over` (columns that hold on both sides) and of `b`, and is a statement about all of them.
    """

    id: str = MISSING
    statement: str = MISSING
    stated: str = MISSING  # where: paper and section
    kind: str = MISSING  # difference, interaction, share, share_contrast or exact
    metric: str | None = None  # in place of the experiment's ...
    unit: str | None = None  # ... and its unit
    over: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    a: dict[str, Any] = field(default_factory=dict)  # the cell that the claim is about
    b: list[dict[str, Any]] = field(default_factory=lambda: [{}])  # those that it is compared with
    claimed: str = "lower"  # what the claim asserts of a - b: lower, higher, same or not_higher
    margin: float = 0.0  # smallest effect of interest, in the metric's unit
    at: list[dict[str, Any]] = field(default_factory=list)  # interaction: two cells; the second is subtracted
    base: dict[str, Any] = field(default_factory=dict)  # shares: what the gains are measured from
    at_most: float = 0.0  # share: largest gain(a)/gain(b) that still counts as claimed; exact: bound of what holds
    surely_below: float = 0.0  # share: what the upper end of its interval must stay below
    rivals: list[str] = field(default_factory=list)  # share_contrast: the normalisers among which the best is sought
    families: list[Any] = field(default_factory=list)  # share_contrast: two of {cell: {...}, metric: ...}
    holds: list[str] = field(default_factory=list)  # exact: columns that stay within at_most in every run
    breaks: list[str] = field(default_factory=list)  # exact: columns that reach at_least in every run
    at_least: float = 0.0


@dataclass
class Experiment:
    name: str = "train"  # of no experiment
    question: str = ""
    metric: str = "test/loss"  # the column that decides; lower is better
    unit: str = "nats"
    claims: list[Claim] = field(default_factory=list)
    networks: list[dict[str, Any]] = field(default_factory=list)  # that the claims are about, where profiles differ
    deviations: list[str] = field(default_factory=list)  # from the papers, in this profile; for the reader
    sources: list[str] = field(default_factory=list)  # other experiments whose rows are judged here
    # The grid of runs: hydra.sweeper.params, once for each entry of `grids`, whose choices are added.
    grids: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    axes: dict[str, str] = field(default_factory=dict)  # further columns of a cell, and the setting each one shows
    arm: str = ""  # the part of the experiment that a run belongs to, where budgets differ (an axis shows it)
    final_seeds: list[int] = field(default_factory=list)  # fresh ones: none of them took part in tuning
    tune_seeds: list[int] = field(default_factory=list)
    tune_lr: list[float] = field(default_factory=list)  # the same grid for every cell
    tune_metric: str = ""  # what chooses a rate; "": the metric's twin on the validation split


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


@dataclass
class Sync:
    runs_dir: str = "results/runs"
    project: str | None = None  # null: the one that each run was logged for
    entity: str | None = None  # null: the run's own, else the account of the key on this machine
    timeout: float = 60.0  # seconds that one run's upload may take, and as many again until the server shows it


@dataclass
class Dashboard:
    profile: Any = MISSING
    project: str = "layer-normalization"
    entity: str | None = None  # null: the account of the key on this machine
    output: str | None = None  # a file for the specification, in place of a server


def register() -> None:
    """Make the schemas and resolvers known to Hydra. Called on import: a sweep's worker process imports this module."""
    store = ConfigStore.instance()
    store.store(name="config_schema", node=Config)
    store.store(name="report_schema", node=Report)
    store.store(name="wandb_sync_schema", node=Sync)
    store.store(name="dashboard_schema", node=Dashboard)
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
        chosen = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    except yaml.YAMLError:
        raise ConfigError(f"{path.relative_to(ROOT)} is not valid YAML; restore it with git checkout") from None
    if wanted not in chosen:
        raise ConfigError(
            f"no tuned learning rate for {wanted} in {path.relative_to(ROOT)}; give optim.lr=... or run "
            f"python -m experiments.tune experiment={experiment} profile={profile}"
        )
    return chosen[wanted]


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
    """`<slug>-<hash8>`: folder, wandb id and key of the row.

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
    return f"{slug(cell(cfg), cfg.experiment.name, cfg.data.name, cfg.optim.lr, cfg.seed)}-{digest}"


def nearest(word: str, allowed) -> str:
    import difflib

    return difflib.get_close_matches(str(word), list(allowed), 1, cutoff=0.0)[0]


register()
