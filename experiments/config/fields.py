"""The groups and fields of a command, for messages and Tab completion: read from schemas and configs/, not composed."""

import functools
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from experiments.config.metadata import choices
from experiments.config.paths import CONFIGS

TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list, as [a,b]"}


@dataclass(frozen=True)
class Field:
    """A field of a command's configuration."""

    type: Any  # as its schema declares it; Any where only a file has it
    values: tuple[str, ...] = ()  # what may be written behind its =, where that is a list of words
    selected_by: tuple[str, ...] = ()  # choices that bring it, as norm=gn; none: it is there whatever is chosen


def groups_of(config_name: str) -> dict[str, list[str]]:
    """Return the choices of every group that the command's configuration is composed of."""
    entries = _read(CONFIGS / f"{config_name}.yaml")["defaults"]
    groups = [group for entry in entries if isinstance(entry, dict) for group in entry]
    return {group: choices_of(group) for group in groups if not group.startswith("override ")}


def choices_of(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@functools.cache
def fields_of(config_name: str) -> dict[str, Field]:
    """Return every field by its dotted key, those of all choices included."""
    [root, *_] = _read(CONFIGS / f"{config_name}.yaml")["defaults"]
    known = dict(_declared(_schema(root), ""))
    for group, names in groups_of(config_name).items():
        for name in names:
            for key, field in _fields_of_choice(group, name):
                earlier = known.get(key, field)
                known[key] = Field(earlier.type, earlier.values, (*earlier.selected_by, f"{group}={name}"))
    return known


def _fields_of_choice(group: str, name: str) -> Iterator[tuple[str, Field]]:
    """Yield (dotted key, field) of one choice: what its schema declares, and the keys that only its file has."""
    content = _read(CONFIGS / group / f"{name}.yaml")
    content.pop("defaults", None)
    schema = schema_of(group, name)
    declared = dict(_declared(schema, f"{group}.")) if schema else {}
    in_file = [] if group in content else [f"{group}.{key}" for key in content]  # a global file sets other sections
    yield from declared.items()
    yield from ((key, Field(Any)) for key in in_file if key not in declared)


@functools.cache
def schema_of(group: str, choice: str) -> type | None:
    """Return the dataclass of a choice, as Recurrent of model=lstm; None where its file names no schema."""
    path = CONFIGS / group / f"{choice}.yaml"
    first = str(_read(path).get("defaults", [""])[0]) if path.exists() else ""
    return _schema(first) if first.startswith("/schema/") else None


def _read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _schema(name: str) -> type:
    """Return the dataclass that a defaults list names, as /schema/model/cnn@_here_."""
    schema: Any = OmegaConf.get_type(ConfigStore.instance().load(f"{name.partition('@')[0]}.yaml").node)
    return schema


def _declared(schema: Any, prefix: str) -> Iterator[tuple[str, Field]]:
    """Yield (dotted key, field) of a schema and of the dataclasses inside it."""
    hints = typing.get_type_hints(schema)
    for field in fields(schema):
        hint, words = hints[field.name], choices(schema, field.name)
        if typing.get_origin(hint) is list:
            words = tuple(f"[{word}]" for word in words)
        yield prefix + field.name, Field(hint, words)
        if is_dataclass(hint):
            yield from _declared(hint, f"{prefix}{field.name}.")


def unknown(key: str, config_name: str) -> str:
    """Return the message for a key that the configuration does not have."""
    if key.startswith("hydra"):
        return f"{key} is no field of Hydra's; --cfg hydra lists them"
    known = fields_of(config_name)
    if key in known and (selected_by := known[key].selected_by):
        remedy = "choose that" if len(selected_by) == 1 else "choose one of these"
        return f"{key} is a field of {', '.join(selected_by)}; {remedy}, or leave it out"
    return f"{key} is unknown; nearest: {_nearest_key(key, known)}; --cfg job lists all"


def _nearest_key(key: str, known: dict[str, Field]) -> str:
    """Return the known key that is spelled most like the key as a whole, or like its last word: trainer.steps of steps.

    A likeness of the last words alone counts 0.15 less.
    """

    def likeness(other: str) -> float:
        whole = SequenceMatcher(None, key, other).ratio()
        return max(whole, SequenceMatcher(None, key.rpartition(".")[2], other.rpartition(".")[2]).ratio() - 0.15)

    return max((other for other in known if "." in other or "." not in key), key=likeness)


def wrong_type(key: str, value: Any, config_name: str) -> str | None:
    """Return the message for a value that is not of its field's type; None where no type is declared."""
    name, _, element = re.sub(r"\[\d+\]$", "[]", key).partition("[")
    field = fields_of(config_name).get(name)
    if field is None or field.type is Any:
        return None
    members = set(typing.get_args(field.type)) if isinstance(field.type, types.UnionType) else {field.type}
    optional = " or null" if type(None) in members and not element else ""
    [hint] = members - {type(None)}
    given = f"{key}={'null' if value is None else value}"
    if is_dataclass(hint):
        return f"{given} is no section; set its fields, as {name}.{fields(hint)[0].name}=..."
    kind = typing.get_origin(hint) or hint
    if element and kind is list:
        [kind] = typing.get_args(hint)
    return f"{given} is not {TYPE_NAMES.get(kind, 'such a value')}{optional}; give one, or leave it out for the default"
