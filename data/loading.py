"""From settings to a data set in memory, and to the fingerprint of what it comes from."""

import difflib
import hashlib
import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from platform import python_version

from .files import DataError, verified
from .sets import SETS, DataSet
from .settings import (
    BinaryData,
    ClozeData,
    Crohme,
    DataSettings,
    DrawnLines,
    ImageData,
    PairData,
    SentenceData,
    TextData,
)
from .types import Binary, Cloze, Images, Pairs, Sentences, Strokes, Text

Content = Text | Images | Binary | Strokes | Pairs | Sentences | Cloze
# The module that assembles a set of these settings, and whether its examples are stored as published and split when
# assembled, so that no option changes what is stored.
ASSEMBLED_BY = {
    TextData: ("text", False),
    ImageData: ("images", True),
    BinaryData: ("binary", True),
    Crohme: ("strokes", True),
    DrawnLines: ("strokes", False),
    PairData: ("pairs", False),
    SentenceData: ("sentences", False),
    ClozeData: ("cloze", False),
}

# Settings that say where to look or how to batch. All others, and the sources, decide what is prepared.
PLACES = {"root", "cache", "path"}
BATCHING = {"batch_size", "eval_batch_size", "seq_len"}


def load(settings: DataSettings) -> Content:
    """The set that `settings` name, whole and in memory; the same object again for the same content.

    Read from the cache if it was prepared before, which needs no raw file. Raises DataError (one line) for an unknown
    name, settings that do not fit, files that are missing or not the published ones, or a cache that cannot be written.
    """
    # Batch and window sizes are no part of the content, so a sweep over them loads once.
    values = json.dumps(_without(settings, BATCHING))
    loaded = _load(values, fingerprint(settings))
    if isinstance(loaded, Text) and isinstance(settings, TextData) and loaded.row_length is None:
        _long_enough(settings, loaded)
        if len(loaded.vocabulary) < 2:
            raise DataError(f"{settings.name}: the text is one symbol over and over; there is nothing to predict")
    return loaded


def fingerprint(settings: DataSettings) -> str:
    """One sha256 of what the set comes from: the pinned files, or the content as it is now; and how it is prepared.

    Needs neither torch nor, where hashes are pinned, the files. Together with the settings it decides every number.
    """
    entry = _entry(settings)
    return _fingerprint(entry.version, entry.files.values() or [s.sha256 for s in _named(entry.sources)(settings)])


def recorded_fingerprint(manifest: dict) -> str:
    """The fingerprint of the set that a manifest is of, wherever that was prepared."""
    return _fingerprint(manifest["preparation"], [source["sha256"] for source in manifest["sources"]])


def _fingerprint(version: int, sha256s: Iterable[str]) -> str:
    return hashlib.sha256("\n".join([f"version {version}", *sha256s]).encode()).hexdigest()


@lru_cache(maxsize=4)
def _load(values: str, fingerprint: str) -> Content:
    from .cache import cache_folder, cached

    entry = SETS[json.loads(values)["name"]]
    settings = entry.settings(**json.loads(values))
    options = _without(settings, PLACES | BATCHING)

    def make():
        if entry.files:
            sources = verified(settings, entry.files, entry.way(settings.name))
        else:
            sources = _named(entry.sources)(settings)
        manifest = {
            "name": settings.name,
            "preparation": entry.version,
            "python": python_version(),
            "sources": [source.record() for source in sources],
        }
        return _named(entry.read)(settings, sources), manifest

    [(module, as_published)] = (found for kind, found in ASSEMBLED_BY.items() if isinstance(settings, kind))
    content = json.dumps([settings.name, fingerprint, None if as_published else options], sort_keys=True)
    name = f"{settings.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    arrays, manifest = cached(cache_folder(settings.cache), name, make)
    return _named(f"{module}.assemble")(settings, arrays, manifest | {"options": options})


def _named(function: str) -> Callable:
    module, _, name = function.partition(".")
    return getattr(importlib.import_module(f".{module}", __package__), name)


def _without(settings: DataSettings, left_out: set[str]) -> dict:
    return {name: value for name, value in asdict(settings).items() if name not in left_out}


def _entry(settings: DataSettings) -> DataSet:
    entry = SETS.get(settings.name)
    if entry is None:
        [nearest] = difflib.get_close_matches(settings.name, SETS, n=1, cutoff=0)
        raise DataError(f"no data set is called {settings.name!r}; the nearest is {nearest!r} of: {', '.join(SETS)}")
    if type(settings) is not entry.settings:
        raise DataError(
            f"{settings.name} takes the settings {entry.settings.__name__}, not {type(settings).__name__}; "
            f"choose the whole set with data={settings.name}"
        )
    if isinstance(settings, TextData) and settings.unit not in entry.units:
        raise DataError(
            f"{settings.name}: data.unit={settings.unit!r}, but it comes as: {', '.join(entry.units)}; give one"
        )
    return entry


def _long_enough(settings: TextData, text: Text) -> None:
    for split, tokens in text.tokens.items():
        if len(tokens) <= settings.seq_len:
            raise DataError(
                f"{settings.name}: the {split} split has {len(tokens)} symbols, data.seq_len={settings.seq_len} needs "
                "one more than that at least; give a longer text, a larger fraction or a shorter seq_len"
            )
