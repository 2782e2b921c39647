"""The command line of every entry point: Hydra's, with each of the user's mistakes told in one line and exit code 2."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data import DataError
from experiments.config import ROOT, ConfigError, nearest
from experiments.interruption import stop_request
from models.errors import ModelError

CONFIGS = str(ROOT / "configs")
REFUSALS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ConfigError, DataError, ModelError)

# Hydra looks for plugins (the sweeper) on the path, when it first starts.
sys.path.append(str(ROOT / "experiments" / "plugins"))


def command(entry: Callable[[], None], config_name: str) -> None:
    """Call a function made by hydra.main; what is refused ends in one line, a signal with the exit code of a shell.

    --help prints its module's docstring, and what of the configuration can be set.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets errors pass through Hydra, which would print them its own way
    try:
        with refusals_in_one_line(config_name):
            if {"-h", "--help"} & set(sys.argv):
                return print_help(entry, config_name)
            if {"-sc", "--shell-completion"} & set(sys.argv):
                from experiments.completion import prepare

                prepare()
            entry()
            sys.stdout.flush()
    except BrokenPipeError:  # who read the output has left, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains once more at its end
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(stop_request.exit_code if stop_request.number is not None else 130)


def print_help(entry: Callable[[], None], config_name: str) -> None:
    from experiments.help import help_text

    doc = sys.modules[entry.__module__].__doc__
    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    print(help_text(doc, config_name, overrides, width=shutil.get_terminal_size().columns), flush=True)


@contextmanager
def refusals_in_one_line(config_name: str = "train"):
    """A refusal inside the block becomes one line on stderr and exit code 2.

    Used inside Hydra's job function too: an exception that leaves it makes Hydra print lines of its own.
    """
    try:
        yield
    except REFUSALS as error:
        print(f"error: {one_line(error, config_name)}", file=sys.stderr)
        sys.exit(2)


def one_line(error: Exception, config_name: str = "train") -> str:
    """What was given, what is allowed, the nearest valid choice."""
    cause = error.__cause__ or error
    text = str(error)
    if isinstance(cause, (ConfigError, DataError, ModelError)):
        return str(cause)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, given = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
        return (
            f"{group}={given} is unknown; allowed: {', '.join(error.options)}; nearest: {nearest(given, error.options)}"
        )
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read as an override; write key=value, lists as [a,b], sweeps as a,b with -m"
        )
    if match := re.search(r"Could not override '([^']+)'", text):
        keys = known_keys(config_name)
        if match[1] in keys:
            return f"{match[1]} is not a field of the choices made here; drop it or choose another group, as norm=ln"
        return f"{match[1]} is unknown; nearest: {nearest(match[1], keys)}; --cfg job lists all"
    if key := getattr(cause, "full_key", None):
        reason = str(getattr(cause, "msg", None) or cause).strip().splitlines()[0]
        own = re.match(r"ConfigError raised while resolving interpolation: (.*)", reason)
        return own[1] if own else f"{key}: {reason}"
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{Path(mark.name).name}, line {mark.line + 1}" if mark else "a configuration file"
        return f"{where}: not valid YAML ({getattr(error, 'problem', 'unreadable')}); mend the file"
    return " ".join(text.split())


def known_keys(config_name: str) -> list[str]:
    """Every dotted key of the default configuration, groups included."""
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        plain = OmegaConf.to_container(compose(config_name), resolve=False)

    def walk(node: dict, prefix: str = ""):
        for key, value in node.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")

    return list(walk(plain))
