"""Configurations as a command line composes them, and their runs, in this process."""

from hydra import compose
from omegaconf import DictConfig

from experiments.cli.compose import hydra_configs
from experiments.runs.run import Run
from experiments.training.run import Outcome, train_run


def composed(*overrides: str) -> DictConfig:
    """Return the configuration of experiments.train; of two overrides of one key the last counts."""
    by_key = {override.partition("=")[0]: override for override in overrides}
    with hydra_configs():
        return compose("train", list(by_key.values()))


def trained(*overrides: str) -> Outcome:
    """Train the configuration and return what became of the run."""
    return train_run(Run.of(composed(*overrides)))
