"""Configurations as a command line composes them, and their runs, in this process."""

from hydra import compose
from omegaconf import DictConfig

from experiments.cli.compose import hydra_configs
from experiments.runs.run import Run
from experiments.training.run import Outcome, train_run


def composed(*overrides: str) -> DictConfig:
    with hydra_configs():
        return compose("train", list(overrides))


def trained(*overrides: str) -> Outcome:
    return train_run(Run.of(composed(*overrides)))
