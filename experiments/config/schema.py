"""The schema of a run's configuration.

The dataclasses here, in models.settings and in data.settings are the one definition of the configuration: Hydra
composes into them, so that a typo or a wrong type is an error at compose time. A field's meaning, range and choices
stand in its metadata (experiments/config/metadata.py). Imports no torch.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from data.settings import COUNT, INT32_MAX
from experiments.config.experiment import Experiment

SECTIONS = ("model", "norm", "data", "optim", "trainer")  # what a run computes; the rest names, judges and watches it
PLACES = ("data.root", "data.cache", "trainer.checkpoint_every")  # of a machine and its user's habits, not of a run
RUNS_DIR = {
    "help": "folder of the run folders; relative to the working directory"
}  # of a field that most commands have


@dataclass
class Optimizer:
    """What both optimisers have."""

    name: str = MISSING
    lr: float = field(default=MISSING, metadata={"help": "learning rate per step, before the schedule", "range": "> 0"})
    weight_decay: float = field(default=0.0, metadata={"help": "L2 penalty, added to the gradient", "range": ">= 0"})
    schedule: str = field(
        default="constant",
        metadata={
            "help": "course of the rate: cosine falls to 0, step is x 0.1 at 1/2 and at 3/4 of the steps",
            "choices": ("constant", "cosine", "step"),
        },
    )
    warmup_steps: int = field(
        default=0, metadata={"help": "steps over which the rate grows linearly from 0", "range": (0, INT32_MAX)}
    )
    clip: float | None = field(
        default=1.0, metadata={"help": "largest norm of the whole gradient; null: no clipping", "range": "> 0"}
    )
    reference_batch: int | None = field(
        default=None,
        metadata={
            "help": "batch size for which lr is given; lr scales in proportion to the batch; null: lr as it stands",
            "range": COUNT,
        },
    )


@dataclass
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015)."""

    name: str = "adam"
    lr: float = 0.003
    beta1: float = field(
        default=0.9, metadata={"help": "decay per step of the gradient's running mean", "range": "0 <= x < 1"}
    )
    beta2: float = field(
        default=0.999, metadata={"help": "decay per step of the squared gradient's running mean", "range": "0 <= x < 1"}
    )


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    name: str = "sgd"
    lr: float = 0.1
    momentum: float = field(
        default=0.9, metadata={"help": "decay per step of the sum of past gradients", "range": "0 <= x < 1"}
    )
    schedule: str = "cosine"


@dataclass
class Trainer:
    """Budget, evaluations, logging and checkpoints of one run."""

    steps: int | None = field(
        default=None,
        metadata={
            "help": "budget in steps; of steps, epochs and examples give one; with none of them, 1000 steps",
            "range": COUNT,
        },
    )
    epochs: int | None = field(
        default=None, metadata={"help": "budget in passes over the training data", "range": COUNT}
    )
    examples: int | None = field(
        default=None, metadata={"help": "budget in examples, rounded down to whole batches", "range": COUNT}
    )
    evaluations: int = field(
        default=10,
        metadata={
            "help": "evaluations on the validation split, evenly spaced over the steps, the last step included",
            "range": (1, 10**6),
        },
    )
    population_batches: int = field(
        default=100,
        metadata={
            "help": "training batches over which bn's statistics are estimated anew before each evaluation; "
            "0: the running averages",
            "range": (0, 10**6),
        },
    )
    log_every: int = field(default=10, metadata={"help": "steps between two rows of training metrics", "range": COUNT})
    checkpoint_every: float = field(default=30.0, metadata={"help": "seconds between two checkpoints", "range": ">= 0"})
    capture: bool = field(default=True, metadata={"help": "on CUDA: run the training step as one CUDA graph"})
    statistics: bool = field(
        default=False,
        metadata={
            "help": "log at the logged steps each parameter's gradient norm, and mean and std of the summed inputs"
        },
    )
    measure: list[str] = field(
        default_factory=list,
        metadata={
            "help": "what is measured on the trained model; transfer: in stage=final at each quarter of training",
            "choices": ("invariance", "train_test_gap", "training_loss", "transfer"),
        },
    )


@dataclass
class Wandb:
    """Where Weights & Biases shows the run."""

    mode: str = field(
        default="offline",
        metadata={
            "help": "where metrics go; offline: a mirror in the run's folder",
            "choices": ("online", "offline", "disabled"),
        },
    )
    project: str = field(default="layer-normalization", metadata={"help": "project that the runs belong to"})
    entity: str | None = field(
        default=None, metadata={"help": "user or team that owns the project; null: the account's own"}
    )


@dataclass
class Profile:
    """The size of every experiment: data, networks, budgets."""

    name: str = MISSING
    experiments: list[str] = field(default_factory=list, metadata={"help": "the experiments that the report covers"})
    first_seed: int = field(
        default=20,
        metadata={
            "help": "lowest seed of the final runs; one beyond theirs, as 40, replicates an experiment",
        },
    )


@dataclass
class Config:
    """One run."""

    model: Any = field(default=MISSING, metadata={"help": "the network"})
    norm: Any = field(default=MISSING, metadata={"help": "its normaliser"})
    data: Any = field(default=MISSING, metadata={"help": "the data set"})
    optim: Any = field(default=MISSING, metadata={"help": "the optimiser"})
    profile: Any = field(default=MISSING, metadata={"help": "the size of an experiment"})
    trainer: Trainer = field(default_factory=Trainer, metadata={"help": "budget, evaluations, logging and checkpoints"})
    wandb: Wandb = field(default_factory=Wandb, metadata={"help": "the mirror for Weights & Biases"})
    experiment: Experiment = field(
        default_factory=Experiment, metadata={"help": "a question, its grid of runs, and its rule"}
    )
    stage: str = field(
        default="final",
        metadata={
            "help": "tune never evaluates the test split; final evaluates it once, after the last step",
            "choices": ("tune", "final"),
        },
    )
    seed: int = field(
        default=0, metadata={"help": "seed of the initial weights, the data order and dropout", "range": (0, INT32_MAX)}
    )
    device: str = field(
        default="auto",
        metadata={
            "help": "device that trains; auto: the fastest of this machine",
            "choices": ("auto", "cpu", "cuda", "mps"),
        },
    )
    threads: int = field(
        default=1,
        metadata={
            "help": "CPU threads of one run; small networks gain more from two runs side by side",
            "range": (1, 1000),
        },
    )
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    known: str | None = field(
        default=None,
        metadata={
            "help": "finished runs whose folders are elsewhere, which a sweep leaves out: a report's folder or a CSV"
        },
    )
    plan: bool = field(
        default=False, metadata={"help": "print the table of runs with the time that they will take, and stop"}
    )
    quiet: bool = field(default=False, metadata={"help": "show no progress, only errors and the last lines"})


def settings(node: DictConfig) -> Any:
    """Return a node of the configuration as an object of its schema, a plain dataclass."""
    return OmegaConf.to_object(node)


def norm_options(cfg: DictConfig) -> dict:
    """Return the options of the normaliser, without its name."""
    options: Any = OmegaConf.to_container(cfg.norm, resolve=True)
    return {key: value for key, value in options.items() if key != "name"}
