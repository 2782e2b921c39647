"""Downloads published data sets: python -m data.fetch mnist cifar10

Into LAYERNORM_DATA, or --root. What is there already stays, what was cut off goes on where it stopped, and no file
counts before its sha256 is the published one (data/sets.py). Sets that may not be redistributed must be brought.
"""

import argparse
import difflib
import hashlib
import os
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from .files import DataError, candidates, digest, home_expanded
from .sets import SETS, DataSet

CHUNK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without a byte
ARCHIVE = ".tar.gz"


def main(arguments: list[str]) -> None:
    """Download the named sets. Raises DataError, whose message is one line."""
    fetched = [name for name, entry in SETS.items() if entry.address]
    parser = argparse.ArgumentParser(prog="python -m data.fetch", description="Download published data sets.")
    parser.add_argument("names", nargs="+", metavar="set", help=", ".join(fetched))
    parser.add_argument("--root", help="folder of data sets; default: the variable LAYERNORM_DATA")
    parser.error = _refuse  # type: ignore[method-assign]  # argparse would print its usage as well
    given = parser.parse_args(arguments)
    root = given.root or os.environ.get("LAYERNORM_DATA")
    if not root:
        raise DataError("neither --root nor LAYERNORM_DATA names a folder to download to; give one")
    for name in given.names:
        _check(name, fetched)
    for name in given.names:
        fetch(name, SETS[name], home_expanded("--root", root))


def _refuse(message: str) -> NoReturn:
    raise DataError(f"{' '.join(message.split())}; --help lists the sets")


def _check(name: str, fetched: list[str]) -> None:
    if name not in SETS:
        [nearest] = difflib.get_close_matches(name, SETS, n=1, cutoff=0)
        known = ", ".join(fetched)
        raise DataError(f"no data set is called {name!r}; nearest: {nearest}; to download there are: {known}")
    if name not in fetched:
        way = SETS[name].get or f"nothing has to be downloaded: choose it with data={name}"
        raise DataError(f"{name} is no set to download; {way}")


def fetch(name: str, entry: DataSet, root: Path) -> None:
    """Download the files of a set that are not there, or not the published ones. Raises DataError."""
    try:
        missing = [file for file in entry.files if not _is_published(root / file, entry.files[file])]
        if not missing:
            print(f"{name}: all {len(entry.files)} files are in {root}")
            return
        for file in missing:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"), _progress() as progress:
            if entry.address.endswith(ARCHIVE):
                _fetch_archive(name, entry, missing, root, progress)
            else:
                for file in missing:
                    _fetch_file(name, entry, file, root, progress)
    except OSError as error:  # requests' errors are OSErrors too
        raise DataError(_reason(name, entry, root, error)) from error
    with suppress(OSError):
        (root / f".{name}.lock").unlink()
    print(f"{name}: {len(missing)} files downloaded to {root}")


def _is_published(path: Path, sha256: str) -> bool:
    return any(candidate.exists() and digest(candidate)[0] == sha256 for candidate in candidates(path))


def _fetch_file(name: str, entry: DataSet, file: str, root: Path, progress: Progress) -> None:
    path = root / file
    part = path.with_name(f"{path.name}.part")
    address = entry.address.format(name=path.name)
    download(address, part, progress)
    _proved(name, part, entry.files[file], address, entry.get).replace(path)


def _fetch_archive(name: str, entry: DataSet, missing: list[str], root: Path, progress: Progress) -> None:
    """Download the archive and unpack the missing files, which lie in it under their own paths."""
    part = root / f"{name}{ARCHIVE}.part"
    download(entry.address, part, progress)
    try:
        with tarfile.open(part) as archive:
            for file in missing:
                unpacked = (root / file).with_name(f"{Path(file).name}.part")
                member = archive.extractfile(file)
                unpacked.write_bytes(member.read() if member else b"")
                _proved(name, unpacked, entry.files[file], entry.address, entry.get).replace(root / file)
    except (tarfile.TarError, EOFError, KeyError) as error:
        part.unlink()
        raise DataError(f"{name}: {entry.address} is not the published archive ({error}); {entry.get}") from error
    part.unlink()


def _proved(name: str, part: Path, expected: str, address: str, get: str) -> Path:
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        part.unlink()
        raise DataError(
            f"{name}: {address} gave another edition than the published one (sha256 expected {expected[:12]}, found "
            f"{found[:12]}); it was deleted; {get}"
        )
    return part


def download(address: str, part: Path, progress: Progress) -> None:
    """Download to `part`, from where an earlier attempt stopped if the server can do that. Raises OSError."""
    there = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={there}-"} if there else {}
    with requests.get(address, stream=True, timeout=TIMEOUT, headers=headers) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # it was whole
        response.raise_for_status()
        goes_on = response.status_code == requests.codes.partial_content
        done = there if goes_on else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        task = progress.add_task(address.rpartition("/")[2], total=total, completed=done)
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _reason(name: str, entry: DataSet, root: Path, error: OSError) -> str:
    if not isinstance(error, requests.RequestException):
        return f"{name}: {error.filename or root} cannot be written ({error.strerror or error})"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        found = f"answers {error.response.status_code} {error.response.reason}"
    else:
        found = f"cannot be reached, or stopped ({type(error).__name__})"
    host = urlsplit(entry.address).netloc
    return f"{name}: {host} {found}; run the same command again, which goes on from there, or {entry.get}"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DataError as error:
        sys.exit(f"data.fetch: {error}")
    except KeyboardInterrupt:
        sys.exit("data.fetch: stopped; the same command goes on from there")
