"""Folders that are written into: refused before anything is, where that will not go."""

import functools
import os
import tempfile
from pathlib import Path

from experiments.config.errors import ConfigError


def check_folder(key: str, given: str) -> None:
    """Refuse a folder that cannot be made or written into. Raises ConfigError."""
    check_path(key, given)
    path = Path(given).absolute()
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if reason := _not_writable(there):
        raise ConfigError(f"{key}={given} cannot be written: {there} is no writable folder ({reason}); choose another")


def check_path(key: str, given: str) -> None:
    """Refuse what cannot be the path of a folder. Raises ConfigError."""
    try:
        Path(given).lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # it will be made, or a file is in its way
    except (OSError, ValueError) as error:  # too long, in a loop of links, or with a NUL
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{key}={shortened(given)} cannot be a folder ({reason}); choose another") from None


def shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


@functools.cache
def _not_writable(folder: Path) -> str | None:
    """Tried, not asked: permissions let root write where no file can be, as in /proc."""
    try:
        with tempfile.TemporaryFile(dir=folder):  # without a name, where the system has that: nobody sees it
            return None
    except OSError as error:
        return error.strerror
