"""Check what was typed before Hydra composes it: mistakes that Hydra accepts, or reports in many lines."""

import math
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep

from experiments.cli.hydra_private import get_args_parser
from experiments.config.errors import ConfigError, unknown_word
from experiments.config.fields import fields_of, groups_of, unknown

MOST_JOBS = 100_000  # of one sweep


def check_arguments(arguments: list[str], config_name: str, sweeps: bool) -> None:
    """Check a command line. sweeps: the command runs sweeps with -m.

    Raises ConfigError for a mistake, and Hydra's OverrideParseException for what cannot be read.
    """
    parser = get_args_parser()
    # argparse would print its usage, which is Hydra's and eight lines long
    parser.error = _refuse_flag  # type: ignore[method-assign]
    flags = parser.parse_args(arguments)
    if flags.shell_completion:  # what is being typed is not finished
        return
    _check_flags(flags, sweeps)
    overrides = OverridesParser.create().parse_overrides(flags.overrides)
    if any(override.key_or_group == "hydra/sweeper" for override in overrides):
        raise ConfigError("hydra/sweeper has one choice, which checks every run before the first; leave it out")
    if any(override.key_or_group == "hydra.job.chdir" and override.value() for override in overrides):
        raise ConfigError(
            "hydra.job.chdir=true moves every run to another folder, from where a relative runs_dir or data.path is "
            "another; leave it out: a run's files are in its folder below runs_dir"
        )
    for_task = [override for override in overrides if not override.key_or_group.startswith("hydra")]
    for override in for_task:
        _check_additions_and_deletions(override, config_name)
        _check_group(override, config_name)
        if override.is_sweep_override() and not flags.multirun:
            remedy = "add -m to make a sweep of them, or write [a,b] for a list" if sweeps else "give one"
            raise ConfigError(f"{override.input_line} gives several values; {remedy}")
    _check_given_once(for_task)
    _check_number_of_jobs(for_task)


def _refuse_flag(message: str) -> NoReturn:
    raise ConfigError(f"{message}; a setting is written key=value without dashes, as norm=ln; --hydra-help lists flags")


def _check_flags(flags, sweeps: bool) -> None:
    if flags.config_path:
        raise ConfigError(
            f"--config-path={flags.config_path} would replace configs/, which every command needs; leave it out, and "
            "add a folder of your own by --config-dir"
        )
    if flags.config_dir and not Path(flags.config_dir).is_dir():
        raise ConfigError(f"--config-dir={flags.config_dir} is no folder; name one that holds YAML files")
    if flags.multirun and not sweeps:
        raise ConfigError("-m makes sweeps, and this command has none; leave it out")


def _check_additions_and_deletions(override: Override, config_name: str) -> None:
    """Refuse +key=value and ~key: every field is declared and needed."""
    key = override.key_or_group
    if override.is_delete():
        raise ConfigError(f"~{key} takes out what is needed; leave it out for the default")
    if override.is_add() or override.is_force_add():
        if key in fields_of(config_name) or key in groups_of(config_name):
            raise ConfigError(f"{override.input_line} adds what is there already; write {key}={_value(override)}")
        raise ConfigError(unknown(key, config_name))


def _check_group(override: Override, config_name: str) -> None:
    """Refuse a group that does not exist, an empty value, and what is not one choice of its group."""
    key, groups = override.key_or_group, groups_of(config_name)
    if "/" in key and key not in groups:
        raise ConfigError(f"{key} is no group; groups are: {', '.join(groups)}")
    if override.is_sweep_override():
        for choice in getattr(override.value(), "list", []):
            _check_within_group(override, choice, config_name)
        return
    _check_within_group(override, override.value(), config_name)
    if override.value() == "":
        allowed = f"allowed: {', '.join(groups[key])}" if key in groups else "give a value, or leave it out"
        raise ConfigError(f"{key}= is empty; {allowed}")
    if key in groups and not isinstance(override.value(), str):
        remedy = f"give one of: {', '.join(groups[key])}; or leave it out"
        raise ConfigError(f"{key}={_value(override)} is no choice; {remedy}")


def _check_within_group(override: Override, choice: object, config_name: str) -> None:
    """Refuse a path in place of a choice: Hydra would read any YAML file below or beside the group's folder."""
    key, groups = override.key_or_group, groups_of(config_name)
    if key in groups and isinstance(choice, str) and "/" in choice:
        raise ConfigError(unknown_word(key, choice, groups[key]))


def _value(override: Override) -> str:
    """Return the value as it was typed."""
    return str(override.input_line).partition("=")[2]


def _check_given_once(overrides: list[Override]) -> None:
    """Refuse a key with two values: Hydra would take the last, in a sweep the product."""
    first: dict[str, Override] = {}
    for override in overrides:
        earlier = first.setdefault(override.key_or_group, override)
        if earlier is not override:
            both = f"{earlier.input_line} and {override.input_line}"
            raise ConfigError(f"{override.key_or_group} is given twice, as {both}; give it once")


def _check_number_of_jobs(overrides: list[Override]) -> None:
    """Refuse a sweep that is too large to be listed, before it is: range(1,1000000000) is quickly typed."""
    counts: list[int] = [_number_of_values(override.value()) for override in overrides if override.is_sweep_override()]
    jobs = math.prod(counts)
    if jobs > MOST_JOBS:
        raise ConfigError(f"these are {jobs:,} runs; a sweep has {MOST_JOBS:,} at most, so split it")


def _number_of_values(sweep: object) -> int:
    if isinstance(sweep, RangeSweep):
        start, stop, step = (float(number or 0) for number in (sweep.start, sweep.stop, sweep.step))
        return max(math.ceil((stop - start) / step), 0) if step else 0
    return len(sweep.list) if isinstance(sweep, ChoiceSweep) else 1
