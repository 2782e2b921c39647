"""The runs of an experiment, composed without starting any."""

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from functools import cache

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from experiments.cli.compose import compose_all, hydra_configs
from experiments.cli.hydra_private import BasicSweeper
from experiments.config.cell import cell
from experiments.runs.identity import identity, run_name


def apart_from_seed(job: list[str]) -> tuple[str, ...]:
    """What a job has in common with those that differ from it in their seed alone: all but the seed.

    All of it where a value may be made from the seed, as data.noise_seed=${seed}.
    """
    if any("$" in override for override in job):  # Hydra escapes the brace behind it
        return tuple(job)
    return tuple(override for override in job if not override.startswith("seed="))


def jobs(params: Mapping, grids: Iterable[Mapping], arguments: list[str], parser: OverridesParser) -> list[list[str]]:
    """The overrides of every run: the product of `params`, once for each of `grids`, whose choices are added.

    An argument of the command line wins over `params`. Of the grids it selects: norm=ln leaves out those that have
    other normalisers only. A value that none of them has takes the place of theirs.
    """
    given = {override.get_key_element(): values(override) for override in parser.parse_overrides(arguments)}
    found = []
    for part in select(list(grids), given):
        free = {key: value for key, value in params.items() if key not in part}
        rest = [argument for argument in arguments if argument.lstrip("+~").partition("=")[0] not in part]
        texts = [f"{key}={value}" for key, value in {**free, **part}.items()] + rest
        found += BasicSweeper.split_arguments(parser.parse_overrides(texts), max_batch_size=None)[0]
    return found


def values(override: Override) -> list[str]:
    """What an override gives its key, as text: several values in a sweep."""
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def select(grids: list[Mapping], given: Mapping[str, list[str]]) -> list[dict]:
    """The parts of the grids that have the given values; a key of which no grid has them is taken out of all."""
    parts = [dict(grid) for grid in grids]
    for key, wanted in given.items():
        if not any(key in part for part in parts):
            continue
        shared = [[choice for choice in str(part.get(key, "")).split(",") if choice in wanted] for part in parts]
        kept = [{**part, key: ",".join(both)} for part, both in zip(parts, shared, strict=True) if both]
        parts = kept or [{name: value for name, value in part.items() if name != key} for part in parts]
    return parts


@cache
def base(experiment: str, profile: str) -> DictConfig:
    """The experiment's configuration, to be read: its rule is `experiment`, its grid `hydra.sweeper.params`."""
    with hydra_configs():
        return compose("train", [f"experiment={experiment}", f"profile={profile}"], return_hydra_config=True)


def expand(experiment: str, profile: str, overrides: Iterable[str] = ()) -> list[DictConfig]:
    """Every run of the experiment's grid; for the overrides see `jobs`. None for one that judges the runs of others."""
    with _experiment_jobs(experiment, profile, overrides) as found:
        return compose_all(found, lambda job: compose("train", job))


def run_ids(experiment: str, profile: str, overrides: Iterable[str] = ()) -> list[str]:
    """The names of the runs that `expand` composes, in its order; of runs that differ in their seed only one is.

    Ten thousand names take seconds this way, their configurations a minute.
    """
    with _experiment_jobs(experiment, profile, overrides) as found:
        seeds = [[override for override in job if override.startswith("seed=")] for job in found]
        others = [apart_from_seed(job) for job in found]
        distinct = list(dict.fromkeys(others))
        configs = compose_all(map(list, distinct), lambda job: compose("train", job))
        known = {job: (cell(cfg), identity(cfg)) for job, cfg in zip(distinct, configs, strict=True)}
    names = []
    for job, given in zip(others, seeds, strict=True):
        columns, same = known[job]
        seed = {"seed": int(given[-1].removeprefix("seed="))} if given else {}
        names.append(run_name(columns, same | seed))
    return names


@contextmanager
def _experiment_jobs(experiment: str, profile: str, overrides: Iterable[str]):
    """The overrides of every run, and Hydra ready to compose them."""
    cfg = base(experiment, profile)
    arguments = [f"experiment={experiment}", f"profile={profile}", *overrides]
    with hydra_configs():
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        none = bool(cfg.experiment.sources)
        yield [] if none else jobs(cfg.hydra.sweeper.params, cfg.experiment.grids, arguments, parser)
