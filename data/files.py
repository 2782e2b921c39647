"""Raw files: where they are looked for, and the proof that they are the published ones before anything reads them."""

import functools
import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .settings import DataSettings

# Published files that may lie there packed, by how their names end: 110 MB of zeros and ones pack to 3 MB.
PACKED: dict[str, tuple[str, Callable]] = {".amat": (".xz", lzma.open), ".txt": (".gz", gzip.open)}


class DataError(ValueError):
    """Data that cannot be had. The message is one line: what was given, where it was looked for, what to do."""


@dataclass(frozen=True)
class Source:
    """One thing the numbers come from, identified by its content."""

    file: str
    sha256: str
    bytes: int | None = None  # None: not known before it is fetched
    path: Path = field(default=Path(), compare=False)  # of a file of this machine

    def record(self) -> dict:
        return {"file": self.file, "bytes": self.bytes, "sha256": self.sha256}


def home_expanded(key: str, path: str) -> Path:
    """Return the path with a leading ~ replaced by the home folder. Raises DataError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{key}={path}: {error}; write the path without ~") from error


def verified(settings: DataSettings, files: dict[str, str], get: str) -> list[Source]:
    """The files (path below the root -> sha256) of a set, each one's content proved by its sha256.

    Raises DataError where one is missing, unreadable, damaged or another edition; `get` says how to get it.
    """
    return [_verified(settings, file, sha256, get) for file, sha256 in files.items()]


def _verified(settings: DataSettings, file: str, expected: str, get: str) -> Source:
    path = _find(settings, file, get)
    try:
        actual, size = digest(path)
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError):
        actual, size = f"no whole {path.suffix[1:]} file", None
    except OSError as error:
        raise DataError(f"{settings.name}: {path} cannot be read ({error.strerror}); replace it: {get}") from error
    if actual != expected:
        raise DataError(
            f"{settings.name}: {path} is damaged or another edition (sha256 expected {expected[:12]}, "
            f"found {actual[:16]}); replace it: {get}"
        )
    return Source(file, expected, size, path)


def _find(settings: DataSettings, file: str, get: str) -> Path:
    root = settings.root or os.environ.get("LAYERNORM_DATA")
    if not root:
        raise DataError(
            f"{settings.name}: neither data.root nor LAYERNORM_DATA is set, so there is nowhere to look for {file}; "
            f"to get it: {get}"
        )
    where = "data.root" if settings.root else "LAYERNORM_DATA"
    folder = home_expanded(where, root)
    for candidate in candidates(folder / file):
        if os.path.exists(candidate):  # False for a path that is too long, where Path.exists raises
            return candidate
    raise DataError(f"{settings.name}: {file} is not in {folder} ({where}); to get it: {get}")


def candidates(path: Path) -> list[Path]:
    """The files that may hold the content of a published one: itself, or packed."""
    packed = [path.with_name(path.name + packing) for ending, (packing, _) in PACKED.items() if path.suffix == ending]
    return [path, *packed]


def unpacked(path: Path):
    """Opens for reading what the hashes are of: the content, not the packing."""
    openers = (opener for ending, (packing, opener) in PACKED.items() if path.name.endswith(ending + packing))
    return next(openers, functools.partial(open, mode="rb"))(path)


def digest(path: Path) -> tuple[str, int]:
    """(sha256, bytes) of the content, streamed."""
    with unpacked(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()


def current(path: Path, name: str) -> Source:
    """A file nobody pinned, identified as it is now. Raises OSError."""
    status = path.stat()
    sha256, size = _current_digest(path, status.st_size, status.st_mtime_ns)
    return Source(name, sha256, size, path)


def given(name: str, path: str, kind: str) -> Source:
    """The file of the user's that data.path of the set `name` is. Raises DataError; kind: what it should be."""
    found = home_expanded("data.path", path)
    if os.path.exists(found) and not found.is_file():  # to open a named pipe would wait for ever
        raise DataError(f"{name}: data.path={path} is a folder or a device; name {kind}")
    try:
        return current(found, found.name)
    except OSError as error:
        raise DataError(
            f"{name}: data.path={path} cannot be read ({error.strerror}); looked for {found.absolute()}; mend the path"
        ) from error


@functools.lru_cache
def _current_digest(path: Path, size: int, mtime_ns: int) -> tuple[str, int]:
    return digest(path)
