"""The command line of every entry point: Hydra's, with each of the user's mistakes told in one line and exit code 2."""

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

import experiments.config.registry  # noqa: F401  (what Hydra composes into, in a worker of a sweep too)
from data import DataError
from experiments.cli import overrides
from experiments.config import fields
from experiments.config.errors import ConfigError, nearest
from experiments.config.paths import CONFIGS
from experiments.runs.signals import stop_request
from experiments.runs.torchrun import rank
from models.errors import ModelError

OWN = (ConfigError, DataError, ModelError)
REFUSALS = (*OWN, HydraException, OmegaConfBaseException, yaml.YAMLError)
OURS = ("__main__", "experiments.", "hydra_plugins.resumable_sweeper")  # modules of this repository that call Hydra
HEARD = 10  # seconds in which the first rank will have told what is refused

# configs/hydra/launcher sets the defaults of launchers under their own names. Hydra checks them against the plugins'
# schemas, which is wanted, and calls it deprecated.
warnings.filterwarnings("ignore", "\n'hydra/launcher/", UserWarning)


def command(entry: Callable[[], None], config_name: str, sweeps: bool = False) -> None:
    """Call a function made by hydra.main; what is refused ends in one line, a signal with the exit code of a shell.

    sweeps: the command runs sweeps with -m. --help prints its module's docstring, and what can be set.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets errors pass through Hydra, which would print them its own way
    try:
        with refusals_in_one_line(config_name):
            if {"-h", "--help"} & set(sys.argv):
                print_help(entry, config_name)
            elif {"-sc", "--shell-completion"} & set(sys.argv):
                from experiments.cli.completion import prepare

                prepare()
                entry()
            else:
                overrides.refuse(sys.argv[1:], config_name, sweeps)
                entry()
            sys.stdout.flush()
    except BrokenPipeError:  # who read the output has left, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains once more at its end
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(stop_request.exit_code if stop_request.number is not None else 130)


def print_help(entry: Callable[[], None], config_name: str) -> None:
    from experiments.cli.help import help_text

    doc = sys.modules[entry.__module__].__doc__ or ""
    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    print(help_text(doc, config_name, overrides, width=shutil.get_terminal_size().columns), flush=True)


@contextmanager
def refusals_in_one_line(config_name: str = "train"):
    """A refusal inside the block becomes one line on stderr and exit code 2.

    Used inside Hydra's job function too: an exception that leaves it makes Hydra print lines of its own.
    """
    try:
        yield
    except Exception as error:
        if not (isinstance(error, REFUSALS) or _raised_by_hydra(error)):
            raise
        if rank() == 0:  # all of a run's processes find the same mistake
            print(f"error: {one_line(error, config_name)}", file=sys.stderr)
        else:
            time.sleep(HEARD)  # torchrun ends all of them with the first that ends: let it be the one that speaks
        sys.exit(2)


def _raised_by_hydra(error: Exception) -> bool:
    """Whether it comes from Hydra, that is from what the user gave it; below a call of ours it may be anything."""
    modules = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    last = max(index for index, name in enumerate(modules) if name.startswith(OURS))
    return last + 1 < len(modules) and modules[last + 1].startswith("hydra.")


def one_line(error: Exception, config_name: str = "train") -> str:
    """What was given, what is allowed, the nearest valid choice, what to do."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, OWN):  # raised below a resolver, as by ${tuned_lr:}
            return str(cause)
        if isinstance(cause, MissingConfigException):
            return _missing_file(cause)
        if isinstance(cause, OverrideParseException):
            return (
                f"{cause.override!r} cannot be read as an override; write key=value, lists as [a,b], sweeps as a,b "
                "with -m; quote what has other signs in it"
            )
        if isinstance(cause, yaml.YAMLError):
            mark = getattr(cause, "problem_mark", None)
            where = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
            return f"{where}: not valid YAML ({getattr(cause, 'problem', 'unreadable')}); mend the file"
        if isinstance(cause, UnicodeDecodeError):
            return f"a configuration file is not UTF-8 ({cause.reason}, byte {cause.start}); convert it"
    file = re.match(r"In '([^']+)': ", str(error))  # a configuration file of the user's own
    place = f"{file[1]}.yaml: " if file else ""
    for cause in causes:
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return place + _field(cause, config_name)
    return " ".join(str(error).split()) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _missing_file(error: MissingConfigException) -> str:
    group, _, given = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
    if error.options:
        options = sorted(error.options)
        return f"{group}={given} is unknown; allowed: {', '.join(options)}; nearest: {nearest(given, options)}"
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    return f"there is no configuration {given}.yaml; leave --config-name out, or name one of: {names}"


def _field(error: OmegaConfBaseException, config_name: str) -> str:
    """What is said of a field that OmegaConf refuses."""
    key = str(error.full_key)
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        return fields.unknown(key, config_name)
    if isinstance(error, MissingMandatoryValue):
        return f"{key} is missing; give it, as {key}=..."
    if isinstance(error, ValidationError) and (told := fields.unfit(key, error.value, config_name)):
        return told
    return f"{key}: {str(error.msg or error).strip().splitlines()[0]}; see --cfg job"
