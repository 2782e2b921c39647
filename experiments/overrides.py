"""What was typed, looked at before Hydra composes it: mistakes that Hydra lets pass or tells in a way of its own."""

from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from experiments.config import ConfigError
from experiments.fields import fields_of, groups_of, unknown


def refuse(arguments: list[str], config_name: str, sweeps: bool) -> None:
    """Raises ConfigError for what cannot be meant, and Hydra's OverrideParseException for what cannot be read.

    sweeps: the command runs sweeps with -m.
    """
    parser = get_args_parser()
    parser.error = _refuse_flag  # argparse would print its usage, which is Hydra's and eight lines long
    flags = parser.parse_args(arguments)
    if flags.shell_completion:  # what is being typed is not finished
        return
    for flag, folder in (("--config-dir", flags.config_dir), ("--config-path", flags.config_path)):
        if folder and not Path(folder).is_dir():
            raise ConfigError(f"{flag}={folder} is no folder; name one that holds YAML files")
    if flags.multirun and not sweeps:
        raise ConfigError("-m makes sweeps, and this command has none; leave it out")
    own = [
        override for override in OverridesParser.create().parse_overrides(flags.overrides) if not _of_hydra(override)
    ]
    for override in own:
        _refuse_form(override, config_name)
        if override.is_sweep_override() and not flags.multirun:
            remedy = "add -m to make a sweep of them, or write [a,b] for a list" if sweeps else "give one"
            raise ConfigError(f"{override.input_line} gives several values; {remedy}")
    _refuse_twice(own)


def _refuse_flag(message: str) -> None:
    raise ConfigError(f"{message}; a setting is written key=value without dashes, as norm=ln; --hydra-help lists flags")


def _of_hydra(override: Override) -> bool:
    return override.key_or_group.startswith("hydra")


def _refuse_form(override: Override, config_name: str) -> None:
    """Additions and deletions, since every field is declared and needed; a group without one choice."""
    key, value = override.key_or_group, override.input_line.partition("=")[2]
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
    choices = groups.get(key)
    if choices and not override.is_sweep_override() and not isinstance(override.value(), str):
        raise ConfigError(f"{key}={value} is no choice; give one of: {', '.join(choices)}; or leave it out")


def _refuse_twice(overrides: list[Override]) -> None:
    """Of two values Hydra takes the last, in a sweep the product."""
    seen: dict[str, Override] = {}
    for override in overrides:
        before = seen.setdefault(override.key_or_group, override)
        if before is not override:
            both = f"{before.input_line} and {override.input_line}"
            raise ConfigError(f"{override.key_or_group} is given twice, as {both}; give it once")
