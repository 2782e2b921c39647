"""The command line of every entry point: Hydra's, with each mistake of the user's in one line and exit code 2."""

import os
import re
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

import experiments.config.registry  # noqa: F401  (the schemas that Hydra composes into, in a sweep's worker too)
from data import DataError
from experiments.cli.overrides import check_arguments
from experiments.cli.surroundings import environment_errors_in_one_line, prepare_streams
from experiments.cli.typed_paths import typed_paths
from experiments.config import fields
from experiments.config.errors import ConfigError, unknown_word
from experiments.config.paths import CONFIGS
from experiments.runs.records import DamagedFileError
from experiments.runs.signals import stop_request
from experiments.runs.torchrun import rank
from models.errors import ModelError

PROJECT_ERRORS = (ConfigError, DamagedFileError, DataError, ModelError)  # their message is the line that is printed
REFUSALS = (*PROJECT_ERRORS, HydraException, OmegaConfBaseException, yaml.YAMLError)
CALLERS_OF_HYDRA = ("__main__", "experiments.", "hydra_plugins.resumable_sweeper")  # modules of this repository
RANK0_DELAY_S = 10  # lets rank 0 print the error before torchrun ends all ranks with the first that exits

# configs/hydra/launcher sets the defaults of launchers under their own names. Hydra checks them against the plugins'
# schemas, which is wanted, and calls it deprecated.
warnings.filterwarnings("ignore", "\n'hydra/launcher/", UserWarning)


def command(entry: Callable[[], None], config_name: str, sweeps: bool = False) -> None:
    """Call a function made by hydra.main: a refusal ends in one line, a signal with the exit code of a shell.

    sweeps: the command runs sweeps with -m. --help prints its module's docstring and what can be set.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets errors pass through Hydra, which would print many lines
    # A folder of configurations that is not there: Hydra would say so in two lines, and go on without it.
    warnings.filterwarnings("error", "provider=hydra.searchpath", UserWarning)
    prepare_streams()
    try:
        with environment_errors_in_one_line(), refusals_in_one_line(config_name):
            sys.argv[1:] = typed_paths(sys.argv[1:])
            _answer(entry, config_name, sweeps)
    except KeyboardInterrupt:
        sys.exit(stop_request.exit_code if stop_request.number is not None else 130)


def _answer(entry: Callable[[], None], config_name: str, sweeps: bool) -> None:
    """Print the help, complete a word, or run the command."""
    if {"-h", "--help"} & set(sys.argv):
        print_help(entry, config_name)
    elif {"-sc", "--shell-completion"} & set(sys.argv):
        from experiments.cli.completion import prepare

        prepare()
        entry()
    else:
        check_arguments(sys.argv[1:], config_name, sweeps)
        entry()


def print_help(entry: Callable[[], None], config_name: str) -> None:
    from experiments.cli.help import help_text

    doc = sys.modules[entry.__module__].__doc__ or ""
    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    print(help_text(doc, config_name, overrides, width=shutil.get_terminal_size().columns), flush=True)


@contextmanager
def refusals_in_one_line(config_name: str = "train"):
    """Inside the block a refusal becomes one line on stderr and exit code 2.

    Used inside Hydra's job function too: for an exception that leaves it Hydra prints lines of its own.
    """
    try:
        yield
    except Exception as error:
        if not (isinstance(error, REFUSALS) or _raised_by_hydra(error)):
            raise
        if rank() == 0:  # every rank meets the same mistake
            print(f"error: {one_line(error, config_name)}", file=sys.stderr)
        else:
            time.sleep(RANK0_DELAY_S)
        sys.exit(2)


def _raised_by_hydra(error: Exception) -> bool:
    """Return whether Hydra raised it, of what the user typed; below a call of this repository's it may be a bug."""
    modules = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    last = max(index for index, name in enumerate(modules) if name.startswith(CALLERS_OF_HYDRA))
    return last + 1 < len(modules) and modules[last + 1].startswith("hydra.")


def one_line(error: Exception, config_name: str = "train") -> str:
    """Return the error as one line: what was given, what is allowed, the nearest valid choice, what to do."""
    causes = list(_causes(error))
    for cause in causes:
        if message := _message_of_type(cause):
            return message
    file = re.match(r"In '([^']+)': ", str(error))  # a configuration file of the user's
    source = f"{file[1]}.yaml: " if file else ""
    for cause in causes:
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return source + _message_of_field(cause, config_name)
    return " ".join(str(error).split()) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and those that it was raised from, as a ConfigError below a resolver such as ${tuned_lr:}."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _message_of_type(error: BaseException) -> str | None:
    """Return the line for an error whose type tells what is wrong; None for any other."""
    if isinstance(error, PROJECT_ERRORS):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing_file(error)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read as an override; write key=value, lists as [a,b], sweeps as a,b "
            "with -m; quote what has other signs in it"
        )
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
        return f"{where}: not valid YAML ({getattr(error, 'problem', 'unreadable')}); mend the file"
    if isinstance(error, UserWarning) and (missing := re.search("path=(.*) is not available", str(error))):
        return f"hydra.searchpath names {missing[1]}, which is not there; name a folder, as file:///home/me/configs"
    if isinstance(error, UnicodeDecodeError):
        return f"a configuration file is not UTF-8 ({error.reason}, byte {error.start}); convert it"
    return None


def _missing_file(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
    if error.options:
        return unknown_word(group, name, sorted(error.options))
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    return f"there is no configuration {name}.yaml; leave --config-name out, or name one of: {names}"


def _message_of_field(error: OmegaConfBaseException, config_name: str) -> str:
    """Return the line for a field that OmegaConf refuses."""
    key = str(error.full_key)
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        return fields.unknown(key, config_name)
    if isinstance(error, MissingMandatoryValue):
        return f"{key} is missing; give it, as {key}=..."
    if isinstance(error, ValidationError) and (message := fields.wrong_type(key, error.value, config_name)):
        return message
    return f"{key}: {str(error.msg or error).strip().splitlines()[0]}; see --cfg job"
