"""Any Hugging Face text set: by name from the hub, or from local files. `datasets` is imported only when it is used."""

import contextlib
import difflib
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from . import files
from .files import DataError, Source
from .settings import HubText
from .text import carve, encode, symbols

HUB_NAME = r"\w[\w.-]*(/\w[\w.-]*)?"


def sources(settings: HubText) -> list[Source]:
    """What identifies the set: for local files their content, for a set on the hub its name and revision."""
    local = files.home_expanded("data.path", settings.path)
    if not os.path.exists(local) and not re.fullmatch(HUB_NAME, settings.path):
        raise DataError(
            f"{settings.name}: there is no data.path={settings.path} (looked for {local.absolute()}), and a set on the "
            "hub is called name or owner/name; mend the path"
        )
    name = "local files" if os.path.exists(local) else settings.path
    identity = json.dumps([name, settings.config, settings.column, settings.revision])
    asked = Source(name, hashlib.sha256(identity.encode()).hexdigest())
    return [asked, *(files.current(path, str(path.relative_to(local))) for path in _files(local))]


def _files(local: Path) -> list[Path]:
    found = [local] if local.is_file() else sorted(local.rglob("*"))
    hidden = (any(part.startswith(".") for part in path.relative_to(local).parts) for path in found)
    return [path for path, is_hidden in zip(found, hidden, strict=True) if path.is_file() and not is_hidden]


def read(settings: HubText, _: list[Source]) -> dict[str, np.ndarray]:
    """Rows are joined by line ends; a split that the set lacks is cut off the end of its train."""
    texts = _local(settings) if os.path.exists(os.path.expanduser(settings.path)) else _hub(settings)
    if "train" not in texts:
        raise DataError(f"{settings.name}: {settings.path} has no split called train, only {', '.join(texts)}")
    names = {"train": "train", "val": "validation", "test": "test"}
    given = {split: symbols(texts[name], settings.unit) for split, name in names.items() if name in texts}
    return encode(carve(settings, given), settings.unit)


def _local(settings: HubText) -> dict[str, str]:
    path = files.home_expanded("data.path", settings.path).absolute()
    where: dict[str, Any] = {"path": str(path)}
    if path.is_file():
        where = {"path": str(path.parent), "data_files": {"train": path.name}}
    if _files(path) and all(file.suffix in (".csv", ".tsv") for file in _files(path)):
        where["keep_default_na"] = False  # else the words NA, null and nan would be no text
    # A cache of its own, since that of `datasets` knows a file by its time and size, not by its content.
    with tempfile.TemporaryDirectory() as own, _offline():
        return _texts(settings, "cannot be read as a data set", cache_dir=own, **where)


def _hub(settings: HubText) -> dict[str, str]:
    problem = "could not be had from the Hugging Face hub (a local folder of parquet files as data.path works too)"
    return _texts(settings, problem, path=settings.path, revision=settings.revision)


def _texts(settings: HubText, problem: str, **where) -> dict[str, str]:
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the error itself is reported below
    try:
        found = datasets.load_dataset(name=settings.config, **where)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        # `datasets` says of some that an error occurred, and has the error itself as the cause.
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise DataError(
            f"{settings.name}: data.path={settings.path} {problem}: {reason}; mend data.path or data.config"
        ) from error
    return {split: _column(settings, rows) for split, rows in found.items()}


def _column(settings: HubText, rows) -> str:
    if settings.column not in rows.column_names:
        [nearest] = difflib.get_close_matches(settings.column, rows.column_names, n=1, cutoff=0)
        raise DataError(
            f"{settings.name}: {settings.path} has no column {settings.column!r}; the nearest is {nearest!r}; "
            "give data.column"
        )
    if getattr(rows.features[settings.column], "dtype", None) not in ("string", "large_string"):
        raise DataError(
            f"{settings.name}: column {settings.column!r} of {settings.path} does not hold text; give data.column"
        )
    lines = rows[settings.column]
    if missing := sum(line is None for line in lines):
        raise DataError(
            f"{settings.name}: {missing} of {len(lines)} rows of {settings.path} have no text in column "
            f"{settings.column!r} (null); fill or drop them"
        )
    if any(line.startswith("\N{BYTE ORDER MARK}") for line in lines):  # it would be a symbol of its own
        raise DataError(f"{settings.name}: a row of {settings.path} starts with a byte order mark; cut it off")
    return "\n".join(lines)


@contextlib.contextmanager
def _offline():
    """HF_HUB_OFFLINE for one call: both libraries read the variable once, when imported, so it is set in them."""
    import datasets
    import huggingface_hub

    holders: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [holder.HF_HUB_OFFLINE for holder in holders]
    try:
        for holder in holders:
            holder.HF_HUB_OFFLINE = True
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.HF_HUB_OFFLINE = value
