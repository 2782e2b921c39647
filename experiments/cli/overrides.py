"""What was typed, looked at before Hydra composes it: mistakes that Hydra lets pass or tells in a way of its own."""

from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from experiments.config.errors import ConfigError
from experiments.config.fields import fields_of, groups_of, unknown


def refuse(arguments: list[str], config_name: str, sweeps: bool) -> None:
    """Raises ConfigError for what cannot be meant, and Hydra's OverrideParseException for what cannot be read.

    sweeps: the command runs sweeps with -m.
    """
    parser = get_args_parser()
    # argparse would print its usage, which is Hydra's and eight lines long
    parser.error = _refuse_flag  # type: ignore[method-assign]
    flags = parser.parse_args(arguments)
    if flags.shell_completion:  # what is being typed is not finished
        return
    if flags.config_dir and not Path(flags.config_dir).is_dir():
        raise ConfigError(f"--config-dir={flags.config_dir} is no folder; name one that holds YAML files")
    if flags.multirun and not sweeps:
        raise ConfigError("-m makes sweeps, and this command has none; leave it out")
    given = OverridesParser.create().parse_overrides(flags.overrides)
    if any(override.key_or_group == "hydra/sweeper" for override in given):
        raise ConfigError("hydra/sweeper has one choice, which checks every run before the first; leave it out")
    own = [override for override in given if not _of_hydra(override)]
    for override in own:
        _refuse_form(override, config_name)
        if override.is_sweep_override() and not flags.multirun:
            remedy = "add -m to make a sweep of them, or write [a,b] for a list" if sweeps else "give one"
            raise ConfigError(f"{override.input_line} gives several values; {remedy}")
    _refuse_twice(own)


def _refuse_flag(message: str) -> NoReturn:
    raise ConfigError(f"{message}; a setting is written key=value without dashes, as norm=ln; --hydra-help lists flags")


def _of_hydra(override: Override) -> bool:
    return override.key_or_group.startswith("hydra")


def _refuse_form(override: Override, config_name: str) -> None:
    """Additions and deletions, since every field is declared and needed; an empty value; a group without one choice."""
    key, value = override.key_or_group, str(override.input_line).partition("=")[2]
    if override.is_delete():
        raise ConfigError(f"~{key} takes out what is needed; leave it out for the default")
    if override.is_add() or override.is_force_add():
        known = key in fields_of(config_name) or key in groups_of(config_name)
        if known:
            raise ConfigError(f"{override.input_line} adds what is there already; write {key}={value}")
        raise ConfigError(unknown(key, config_name))
    groups = groups_of(config_name)
    if "/" in key and key not in groups:
        raise ConfigError(f"{key} is no group; groups are: {', '.join(groups)}")
    if override.is_sweep_override():
        return
    if override.value() == "":
        allowed = f"allowed: {', '.join(groups[key])}" if key in groups else "give a value, or leave it out"
        raise ConfigError(f"{key}= is empty; {allowed}")
    if key in groups and not isinstance(override.value(), str):
        raise ConfigError(f"{key}={value} is no choice; give one of: {', '.join(groups[key])}; or leave it out")


def _refuse_twice(overrides: list[Override]) -> None:
    """Of two values Hydra takes the last, in a sweep the product."""
    seen: dict[str, Override] = {}
    for override in overrides:
        before = seen.setdefault(override.key_or_group, override)
        if before is not override:
            both = f"{before.input_line} and {override.input_line}"
            raise ConfigError(f"{override.key_or_group} is given twice, as {both}; give it once")
