"""The runs of an experiment, composed without starting any."""

import copy
import itertools
from collections.abc import Callable, Iterable
from contextlib import contextmanager

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from experiments.cli import CONFIGS


@contextmanager
def hydra_configs():
    """Hydra's compose API on configs/, also inside an entry point that Hydra itself started."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        yield


def compose_all(jobs: Iterable[list[str]], compose_one: Callable[[list[str]], DictConfig]) -> list[DictConfig]:
    """Every job's configuration. Jobs that differ in the seed alone are composed once: Hydra takes 0.1 s for each."""
    cells: dict[tuple, DictConfig] = {}
    configs = []
    for job in jobs:
        seeds = [override for override in job if override.startswith("seed=")]
        cell = tuple(override for override in job if override not in seeds)
        if cell not in cells:
            cells[cell] = compose_one(list(cell))
        cfg = copy.deepcopy(cells[cell])
        for seed in seeds:
            cfg.seed = seed.removeprefix("seed=")
        configs.append(cfg)
    return configs


def base(experiment: str, profile: str) -> DictConfig:
    """The experiment's configuration: its rule under `experiment`, its grid under `hydra.sweeper.params`."""
    with hydra_configs():
        return compose("train", [f"experiment={experiment}", f"profile={profile}"], return_hydra_config=True)


def expand(experiment: str, profile: str, overrides: Iterable[str] = ()) -> list[DictConfig]:
    """Every run of the experiment's grid; an override wins over the grid's choice of the same key."""
    params = base(experiment, profile).hydra.sweeper.params
    chosen = [f"experiment={experiment}", f"profile={profile}", *(f"{k}={v}" for k, v in params.items()), *overrides]
    with hydra_configs():
        parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(chosen)
        jobs = itertools.chain.from_iterable(BasicSweeper.split_arguments(parsed, max_batch_size=None))
        return compose_all(jobs, lambda job: compose("train", job))
