"""What may be set, its types, what is refused, and the identity of a run.

The dataclasses here, in models.settings and in data.settings are the one definition of the configuration: Hydra
composes into them, so that a typo or a wrong type ends at compose time, and --help prints the comment behind a field,
or above it, as what it means (experiments/help.py). Imports no torch.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

import data
import data.settings
import models.settings
from experiments.torchrun import num_ranks

ROOT = Path(__file__).resolve().parents[1]


class ConfigError(ValueError):
    """A configuration that is refused. The message is one line: what was given, what is allowed, what to do."""


@dataclass
class Optimizer:
    """What both optimisers have."""

    name: str = MISSING
    lr: float = MISSING  # learning rate per step, before the schedule
    weight_decay: float = 0.0  # L2, added to the gradient
    schedule: str = "constant"  # constant, cosine (down to 0 at the end) or step (x 0.1 at 1/2 and 3/4 of the steps)
    warmup_steps: int = 0  # steps over which the rate grows linearly from 0
    clip: float | None = None  # largest norm of the whole gradient; null: no clipping
    reference_batch: int | None = None  # lr is for this batch size and scales in proportion; null: lr as it stands


@dataclass
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015)."""

    name: str = "adam"
    lr: float = 0.003
    beta1: float = 0.9  # decay per step of the gradient's running mean
    beta2: float = 0.999  # decay per step of the squared gradient's running mean
    clip: float | None = 1.0


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    name: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9  # decay per step of the sum of past gradients
    schedule: str = "cosine"


@dataclass
class Trainer:
    steps: int | None = None  # the budget: one of steps, epochs and examples; with none of them, 1000 steps
    epochs: int | None = None  # the budget in passes over the training data
    examples: int | None = None  # the budget in examples, rounded down to whole batches
    evaluations: int = 10  # on the validation split, evenly spaced over the steps, the last step included
    log_every: int = 10  # steps between two rows of training metrics
    checkpoint_every: float = 30.0  # seconds between two checkpoints
    capture: bool = True  # on CUDA: the training step as one CUDA graph
    # log the gradient norm of each parameter, and mean and deviation of the summed inputs, at the logged steps
    statistics: bool = False
    measure: list[str] = field(default_factory=list)  # of the trained model: invariance, train_test_gap


@dataclass
class Wandb:
    mode: str = "offline"  # online, offline (a mirror in the run's folder) or disabled
    project: str = "layer-normalization"  # that the runs belong to
    entity: str | None = None  # user or team that owns the project; null: the account's own


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
    """What a set of runs is for. Written down in configs/experiment; to train one model, none of it is needed."""

    name: str = "train"  # of no experiment
    question: str = ""  # in one sentence
    metric: str = "test/loss"  # the column that decides; lower is better
    unit: str = "nats"  # of the metric
    claims: list[Claim] = field(default_factory=list)  # the rules, written before the runs
    networks: list[dict[str, Any]] = field(default_factory=list)  # that the claims are about, where profiles differ
    deviations: list[str] = field(default_factory=list)  # from the papers, in this profile; for the reader
    sources: list[str] = field(default_factory=list)  # other experiments whose rows are judged here
    # the grid of runs is hydra.sweeper.params, once for each of these, whose choices are added
    grids: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    axes: dict[str, str] = field(default_factory=dict)  # further columns of a cell, and the setting each one shows
    arm: str = ""  # the part of the experiment that a run belongs to, where budgets differ (an axis shows it)
    final_seeds: list[int] = field(default_factory=list)  # fresh ones: none of them took part in tuning
    tune_seeds: list[int] = field(default_factory=list)  # those that choose the learning rates
    tune_lr: list[float] = field(default_factory=list)  # the rates to choose from, the same for every cell
    tune_metric: str = ""  # what chooses a rate; "": the metric's twin on the validation split


@dataclass
class Profile:
    """The size of every experiment: data, networks, budgets."""

    name: str = MISSING
    experiments: list[str] = field(default_factory=list)  # what the report covers


@dataclass
class Config:
    model: Any = MISSING  # the network
    norm: Any = MISSING  # its normaliser
    data: Any = MISSING  # what it learns
    optim: Any = MISSING  # the optimiser
    profile: Any = MISSING  # the size of an experiment
    trainer: Trainer = field(default_factory=Trainer)  # budget, and what is written down on the way
    wandb: Wandb = field(default_factory=Wandb)  # the mirror for Weights & Biases
    experiment: Experiment = field(default_factory=Experiment)  # a question, its grid of runs, and its rule
    stage: str = "final"  # tune never looks at the test split; final evaluates it once, after the last step
    seed: int = 0  # of the initial weights, the data order and dropout
    device: str = "auto"  # cpu, cuda, mps, or auto: the fastest that is there
    threads: int = 1  # of one run; small networks gain more from two runs side by side
    runs_dir: str = "results/runs"  # folder of the run folders; relative to the working directory
    plan: bool = False  # print the table of runs with the time that they will take, and stop
    quiet: bool = False  # no progress: errors and the last lines alone


@dataclass
class Report:
    profile: Any = MISSING  # the size of the experiments
    runs_dir: str = "results/runs"  # folder of the run folders; relative to the working directory
    rows: str | None = None  # a folder with runs.csv and curves.csv, to rebuild from in place of the run folders
    output: str = MISSING  # folder that is written
    readme: bool = False  # put the verdicts into README.md; for the reference results


@dataclass
class Status:
    profile: Any = None  # whose experiments; null: every run below runs_dir
    only: str | None = None  # one of the profile's experiments
    runs_dir: str = "results/runs"  # folder of the run folders; relative to the working directory


@dataclass
class Verify:
    runs_dir: str = "results/runs"  # folder of the run folders; relative to the working directory
    rows: list[str] = field(default_factory=lambda: ["results/*/runs.csv"])  # tables that are compared with the runs


@dataclass
class Sync:
    runs_dir: str = "results/runs"  # folder of the run folders; relative to the working directory
    project: str | None = None  # null: the one that each run was logged for
    entity: str | None = None  # null: the run's own, else the account of the key on this machine
    timeout: float = 60.0  # seconds that one run's upload may take, and as many again until the server shows it


@dataclass
class Dashboard:
    profile: Any = MISSING  # whose experiments get a section each
    project: str = "layer-normalization"  # that the workspace is of
    entity: str | None = None  # null: the account of the key on this machine
    output: str | None = None  # a file for the specification, in place of a server


def register() -> None:
    """Make the schemas and resolvers known to Hydra. Called on import: a sweep's worker process imports this module."""
    store = ConfigStore.instance()
    # Hydra copies its store whenever it composes or lists a group, though it is a singleton and copies what it gives
    # out: 10 ms each time, which is felt in tab completion and in a sweep.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    store.store(name="config_schema", node=Config)
    store.store(name="report_schema", node=Report)
    store.store(name="status_schema", node=Status)
    store.store(name="verify_schema", node=Verify)
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
    options: Any = OmegaConf.to_container(cfg.norm, resolve=True)
    return {key: value for key, value in options.items() if key != "name"}


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


def nearest(word: str, allowed) -> str:
    """The allowed word that is spelled most like the given one, in whatever case."""
    import difflib

    written = {other.lower(): other for other in allowed}
    return written[difflib.get_close_matches(str(word).lower(), list(written), 1, cutoff=0.0)[0]]


register()
