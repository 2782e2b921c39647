"""A configuration of experiments.train as Hydra composes it, in this process."""

from hydra import compose
from omegaconf import DictConfig

from experiments.cli.compose import hydra_configs


def composed(*overrides: str) -> DictConfig:
    """Return the configuration; of two overrides of one key the last counts."""
    by_key = {override.partition("=")[0]: override for override in overrides}
    with hydra_configs():
        return compose("train", list(by_key.values()))
