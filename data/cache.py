"""Prepared arrays on disk: one folder per content, written whole or not at all, checked each time it is read."""

import hashlib
import io
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from .files import DataError, home_expanded

OTHERS = stat.S_IWGRP | stat.S_IWOTH  # who may not change an entry

Prepared = tuple[dict[str, np.ndarray], dict]  # arrays by name, manifest


def cache_folder(setting: str | None) -> Path:
    """Return the folder of prepared data: the setting, else LAYERNORM_CACHE, else the platform's cache of the user."""
    chosen = setting or os.environ.get("LAYERNORM_CACHE")
    if not chosen:
        return user_cache_path("layer-normalization")
    return home_expanded("data.cache" if setting else "LAYERNORM_CACHE", chosen)


def cached(folder: Path, entry: str, make: Callable[[], Prepared]) -> Prepared:
    """The arrays and manifest stored as `folder/entry`, made by `make` if they are not there or not intact.

    Safe with any number of processes at once: one makes, the others wait and read. Raises DataError where the folder
    cannot be written, and whatever `make` raises.
    """
    try:
        return _trusted(folder / entry)
    except (OSError, ValueError):
        pass  # absent, damaged, or being replaced right now: look again as the only writer
    with _writable(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(folder / f".{entry}.lock")
        lock.acquire()
    try:
        try:
            return _trusted(folder / entry)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            # Not by logging, which Hydra silences in the commands.
            print(f"prepared data in {folder / entry} is not used ({error}); preparing it again", file=sys.stderr)
        arrays, manifest = make()
        with _writable(folder):
            _write(folder / entry, arrays, manifest)
        # Not `arrays`: with the strides that these may have, convolutions round otherwise than with those of a file.
        return _read(folder / entry)
    finally:
        lock.release()


def _trusted(path: Path) -> Prepared:
    """Return an entry that only this user, root or the cache's owner can have written. Raises OSError, ValueError."""
    _check_owner(path)
    return _read(path)


def _read(path: Path) -> Prepared:
    manifest = json.loads((path / "manifest.json").read_bytes())
    stored = (path / "arrays.npz").read_bytes()
    expected = manifest.pop("arrays_sha256", None)
    if hashlib.sha256(stored).hexdigest() != expected:
        raise ValueError("arrays.npz does not have the sha256 in manifest.json")
    with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
        return dict(arrays), manifest


def _check_owner(path: Path) -> None:
    """Check that an entry is of this user, of root, or of the owner of the whole cache. Raises ValueError.

    Its checksum lies beside it, so it proves nothing of what another user has put into a folder that all can write.
    """
    trusted = {os.geteuid(), 0, path.parent.stat().st_uid}
    for part in (path, path / "arrays.npz", path / "manifest.json"):
        status = part.lstat()
        if status.st_uid not in trusted or stat.S_ISLNK(status.st_mode) or status.st_mode & OTHERS:
            raise ValueError(f"{part.name} is another user's, or others can change it")


def _write(path: Path, arrays: dict[str, Any], manifest: dict) -> None:
    # The name is fixed because the caller holds the entry's lock: what lies there was left by a killed process.
    draft = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o755)
    try:
        np.savez(draft / "arrays.npz", **arrays)
        with open(draft / "arrays.npz", "rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        text = json.dumps(manifest | {"arrays_sha256": sha256}, indent=1)
        (draft / "manifest.json").write_text(text, encoding="utf-8")
        for part in (draft, *draft.iterdir()):
            part.chmod(part.stat().st_mode & ~OTHERS)  # whatever the umask is
        shutil.rmtree(path, ignore_errors=True)  # a folder can only be renamed onto nothing
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _writable(folder: Path):
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"the cache folder {folder} cannot be written ({reason}); set data.cache or LAYERNORM_CACHE to another"
        ) from error
