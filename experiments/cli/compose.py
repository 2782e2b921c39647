"""Compose configurations with Hydra: one, many that share their groups, and the jobs of a sweep."""

import pickle
import re
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import experiments.config.registry  # noqa: F401  (the schemas that Hydra composes into)
from experiments.cli.hydra_private import ConfigLoaderImpl, get_overrides_dirname
from experiments.config.paths import CONFIGS

# An override that sets a value; all others choose groups, or belong to Hydra.
SETS_VALUE = re.compile(r"(?!hydra\.)(seed|stage|\w+(\.\w+)+)=")


@contextmanager
def hydra_configs():
    """Inside the block Hydra's compose API reads configs/, also below an entry point that Hydra itself started."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def compose_all(jobs: Iterable[list[str]], compose_one: Callable[[list[str]], DictConfig]) -> list[DictConfig]:
    """Return every job's configuration. Raises what Hydra and OmegaConf raise."""
    by_groups: dict[tuple, bytes] = {}
    return [compose_job(job, compose_one, by_groups) for job in jobs]


def compose_job(
    job: list[str], compose_one: Callable[[list[str]], DictConfig], by_groups: dict[tuple, bytes]
) -> DictConfig:
    """Return a job's configuration. Jobs that choose the same groups are composed once; Hydra takes 0.1 s for each.

    Their values, as data.batch_size=8, are then set as Hydra sets them. by_groups: the configurations composed so far,
    pickled: a copy made that way takes a quarter of the time of copy.deepcopy.
    """
    values = [override for override in job if SETS_VALUE.match(override)]
    groups = tuple(override for override in job if override not in values)
    if groups not in by_groups:
        by_groups[groups] = pickle.dumps(compose_one(list(groups)))
    cfg = pickle.loads(by_groups[groups])
    for override in values:
        OmegaConf.update(cfg, *_key_and_value(override), merge=True)
    return cfg


@cache
def _key_and_value(override: str) -> tuple[str, Any]:
    """Parse an override. Cached: a sweep's jobs share most of them, and Hydra's parser takes a millisecond for each."""
    parsed = OverridesParser.create().parse_override(override)
    return parsed.key_or_group, parsed.value()


# compose_job's by_groups, by the name and the hydra.* overrides of a sweep. A global and no attribute of the loader,
# which a launcher pickles with every job.
_composed: dict[tuple, dict[tuple, bytes]] = {}


class SweepLoader(ConfigLoaderImpl):
    """Hydra's loader, but jobs of a sweep that choose the same groups are composed once in a process."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        hydra = master_config.hydra
        by_groups = _composed.setdefault((hydra.job.config_name, *hydra.overrides.hydra), {})
        load = super().load_sweep_config
        cfg = compose_job(sweep_overrides, lambda groups: load(master_config, groups), by_groups)
        overrides = OverridesParser.create().parse_overrides(sweep_overrides)
        task = [override for override in overrides if not override.is_hydra_override()]
        cfg.hydra.overrides.task = [override.input_line for override in task]
        cfg.hydra.job.override_dirname = get_overrides_dirname(task, **cfg.hydra.job.config.override_dirname)
        return cfg
