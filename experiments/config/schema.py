"""What may be set for a run, and its types.

The dataclasses here, in models.settings and in data.settings are the one definition of the configuration: Hydra
composes into them, so that a typo or a wrong type ends at compose time. Imports no torch.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from experiments.config.experiment import Experiment


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


def settings(node: DictConfig) -> Any:
    """A node of the configuration as the plain dataclass that it was declared as."""
    return OmegaConf.to_object(node)


def norm_options(cfg: DictConfig) -> dict:
    options: Any = OmegaConf.to_container(cfg.norm, resolve=True)
    return {key: value for key, value in options.items() if key != "name"}
