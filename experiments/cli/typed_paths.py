"""Paths on the command line, taken as typed: Hydra's grammar would refuse `text (1).txt`, `k=v` and `~/runs`."""

import os
import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from experiments.config.errors import ConfigError

# Fields that hold one
PATHS = ("run", "runs_dir", "runs", "output", "rows", "known", "against", "data.path", "data.root", "data.cache")


def typed_paths(arguments: list[str]) -> list[str]:
    """Return the arguments with their paths quoted for Hydra where they need it, and ~ replaced by the home folder.

    Raises ConfigError for the home folder of nobody.
    """
    sweeps = bool({"-m", "--multirun"} & set(arguments))
    return [_typed_path(argument, sweeps) for argument in arguments]


def _typed_path(argument: str, sweeps: bool) -> str:
    key, given, value = argument.partition("=")
    if key not in PATHS or not given or value in ("", "null"):
        return argument
    quoted = re.fullmatch(r"""(["'])(.*)\1""", value, re.DOTALL)
    if quoted is None and _is_read_as_typed(argument, sweeps) and not value.startswith("~"):
        return argument
    text = quoted[2].replace(f"\\{quoted[1]}", quoted[1]) if quoted else value
    expanded = os.path.expanduser(text)
    if expanded.startswith("~") and "/" in expanded[1:]:
        raise ConfigError(f"{key}={text}: there is no home folder {text.partition('/')[0]}; write the path out")
    if quoted and expanded == text:
        return argument
    return f"{key}={QuotedString(expanded, Quote.double).with_quotes()}"


def _is_read_as_typed(argument: str, sweeps: bool) -> bool:
    """Return whether Hydra reads the value as it stands, in a sweep several, or a list where the field can be one."""
    key, _, value = argument.partition("=")
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    if override.is_sweep_override():
        return sweeps
    return str(override.value()) == value or (key in ("rows", "run", "runs") and isinstance(override.value(), list))
