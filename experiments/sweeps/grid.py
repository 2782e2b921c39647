"""The runs of an experiment's grid, composed without starting any."""

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from experiments.cli.compose import compose_all, hydra_configs
from experiments.cli.hydra_private import BasicSweeper
from experiments.config.cell import cell
from experiments.config.errors import ConfigError, nearest
from experiments.runs.identity import run_identity, run_name


def apart_from_seed(job: list[str]) -> tuple[str, ...]:
    """Return a job's overrides without the seed: equal for jobs that differ in their seed alone.

    Returns all of them where a value may be made from the seed, as data.noise_seed=${seed}.
    """
    if any("$" in override for override in job):  # Hydra escapes the brace behind it
        return tuple(job)
    return tuple(override for override in job if not override.startswith("seed="))


def jobs(params: Mapping, grids: Iterable[Mapping], arguments: list[str], parser: OverridesParser) -> list[list[str]]:
    """Return the overrides of every run: the product of `params`, once for each of `grids`, whose choices are added.

    An argument of the command line wins over `params`. Of the grids it selects: norm=ln leaves out those that have
    other normalisers only. A value that none of the grids has replaces theirs.
    """
    chosen = {override.get_key_element(): values(override) for override in parser.parse_overrides(arguments)}
    overrides = []
    for part in select(list(grids), chosen):
        free = {key: value for key, value in params.items() if key not in part}
        rest = [argument for argument in arguments if argument.lstrip("+~").partition("=")[0] not in part]
        texts = [f"{key}={value}" for key, value in {**free, **part}.items()] + rest
        overrides += BasicSweeper.split_arguments(parser.parse_overrides(texts), max_batch_size=None)[0]
    return overrides


def values(override: Override) -> list[str]:
    """Return the values that an override gives its key, as text: several in a sweep."""
    given = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
    return [str(value).lower() if str(value) in ("True", "False") else str(value) for value in given]


def select(grids: list[Mapping], chosen: Mapping[str, list[str]]) -> list[dict]:
    """Return the parts of the grids with the chosen values; a key that no grid has with one is taken out of all.

    Raises ConfigError where the grids have some of the values of a key and not the others.
    """
    parts = [dict(grid) for grid in grids]
    for key, choices in chosen.items():
        if not any(key in part for part in parts):
            continue
        common = [[value for value in str(part.get(key, "")).split(",") if value in choices] for part in parts]
        kept = [{**part, key: ",".join(both)} for part, both in zip(parts, common, strict=True) if both]
        if kept and (strange := [value for value in choices if not any(value in both for both in common)]):
            known = list(dict.fromkeys(value for part in grids for value in str(part.get(key, "")).split(",") if value))
            raise ConfigError(
                f"{key}={strange[0]} is in no part of the experiment's grid, and others of {key} are; it has: "
                f"{', '.join(known)}; nearest: {nearest(strange[0], known)}"
            )
        parts = kept or [{name: value for name, value in part.items() if name != key} for part in parts]
    return parts


@cache
def base(experiment: str, profile: str, *overrides: str) -> DictConfig:
    """Return the experiment's configuration, read-only: its rule is `experiment`, its grid `hydra.sweeper.params`.

    overrides: of the profile, as profile.first_seed=40.
    """
    arguments = [f"experiment={experiment}", f"profile={profile}", *overrides]
    with hydra_configs():
        return compose("train", arguments, return_hydra_config=True)


def run_columns(configs: Iterable[DictConfig]) -> list[dict[str, Any]]:
    """Return the columns of runs that a claim's cells are sought in."""
    return [{"experiment": cfg.experiment.name, **cell(cfg), "seed": cfg.seed} for cfg in configs]


def narrows(arguments: Iterable[str], params: Mapping, grids: Iterable[Mapping]) -> bool:
    """Return whether an argument of the command line changes which runs an experiment has."""
    keys = grid_keys(params, grids)
    return any(argument.lstrip("+~").partition("=")[0] in keys for argument in arguments)


def first_seed_override(first_seed: int) -> str:
    return f"profile.first_seed={first_seed}"


def grid_keys(params: Mapping, grids: Iterable[Mapping]) -> set[str]:
    return {*params, *(key for part in grids for key in part)}


def expand(experiment: str, profile: str, overrides: Iterable[str] = ()) -> list[DictConfig]:
    """Return the configuration of every run of an experiment's grid; none for one that judges the runs of others.

    overrides: as on the command line, see `jobs`.
    """
    with _experiment_jobs(experiment, profile, overrides) as experiment_jobs:
        return compose_all(experiment_jobs, lambda job: compose("train", job))


def run_ids(experiment: str, profile: str, overrides: Iterable[str] = ()) -> list[str]:
    """Return the ids of the runs that `expand` composes, in its order; runs that differ in the seed are composed once.

    Ten thousand ids take seconds this way, their configurations a minute.
    """
    with _experiment_jobs(experiment, profile, overrides) as experiment_jobs:
        kinds = list(dict.fromkeys(map(apart_from_seed, experiment_jobs)))
        configs = compose_all(map(list, kinds), lambda job: compose("train", job))
        identities = {kind: (cell(cfg), run_identity(cfg)) for kind, cfg in zip(kinds, configs, strict=True)}
    ids = []
    for job in experiment_jobs:
        columns, identity = identities[apart_from_seed(job)]
        seeds = [int(override.removeprefix("seed=")) for override in job if override.startswith("seed=")]
        ids.append(run_name(columns, identity | ({"seed": seeds[-1]} if seeds else {})))
    return ids


@contextmanager
def _experiment_jobs(experiment: str, profile: str, overrides: Iterable[str]):
    """Yield the overrides of every run, with Hydra ready to compose them."""
    cfg = base(experiment, profile, *(override for override in overrides if override.startswith("profile.")))
    arguments = [f"experiment={experiment}", f"profile={profile}", *overrides]
    with hydra_configs():
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        judges_others = bool(cfg.experiment.sources)
        yield [] if judges_others else jobs(cfg.hydra.sweeper.params, cfg.experiment.grids, arguments, parser)
