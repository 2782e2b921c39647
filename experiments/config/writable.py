"""Check a folder that will be written into, before anything is."""

import functools
import os
import tempfile
from pathlib import Path

from experiments.config.errors import ConfigError


def check_folder(key: str, value: str) -> None:
    """Check that a folder exists and is writable, or can be made. Raises ConfigError."""
    check_path(key, value)
    path = Path(value).absolute()
    nearest = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if reason := _not_writable(nearest):
        raise ConfigError(
            f"{key}={value} cannot be written: {nearest} is no writable folder ({reason}); choose another"
        )


def check_file(key: str, value: str, begins: bytes) -> None:
    """Check that a file can be written, and that one of its name is of the same kind. Raises ConfigError.

    begins: the first bytes of a file of this kind.
    """
    path = Path(value)
    check_folder(key, str(path.parent))
    check_path(key, value)
    if path.is_dir():
        raise ConfigError(f"{key}={value} is a folder; give the name of a file in it")
    if path.exists():
        with open(path, "rb") as file:
            if file.read(len(begins)) != begins:
                raise ConfigError(f"{key}={value} is a file of another kind; name another, or move it away")


def check_path(key: str, value: str) -> None:
    """Check that a text can be the path of a folder. Raises ConfigError."""
    if value.startswith("~/"):
        raise ConfigError(f"{key}={value}: ~ stands for the home folder on the command line alone; write it out")
    try:
        Path(value).lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # it will be made, or a file is in its way
    except (OSError, ValueError) as error:  # too long, in a loop of links, or with a NUL
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{key}={shortened(value)} cannot be a folder ({reason}); choose another") from None


def shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


@functools.cache
def _not_writable(folder: Path) -> str | None:
    """Return why no file can be made in a folder, or None.

    Tried and not asked: permissions let root write where no file can be, as in /proc.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):  # without a name, where the system can: nobody sees it
            return None
    except OSError as error:
        return error.strerror
