"""What a command can be told: its groups with their choices, its fields with their types. Read without composing.

From the schemas that Hydra composes into and from the files of configs/, for messages that name the nearest valid word.
"""

import functools
import re
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from experiments.config.paths import CONFIGS

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list, as [a,b]"}


@dataclass(frozen=True)
class Field:
    """A field's type as declared, Any where a file alone declares it; and the choices that have it, as norm=gn."""

    type: Any
    choices: tuple[str, ...] = ()  # none: it is there whatever is chosen


def groups_of(config_name: str) -> dict[str, list[str]]:
    """The choices of every group that the command's configuration is composed of."""
    chosen = [
        name for entry in _file(CONFIGS / f"{config_name}.yaml")["defaults"] if type(entry) is dict for name in entry
    ]
    return {group: choices_of(group) for group in chosen if " " not in group}


def choices_of(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@functools.cache
def fields_of(config_name: str) -> dict[str, Field]:
    """Every field by its dotted key, with those of choices that are not made."""
    found = dict(_declared(_schema(_file(CONFIGS / f"{config_name}.yaml")["defaults"][0]), ""))
    for group, choices in groups_of(config_name).items():
        for choice in choices:
            content = _file(CONFIGS / group / f"{choice}.yaml")
            schema = str(content.pop("defaults", [""])[0])
            own = {f"{group}.{key}": Any for key in content} if group not in content else {}
            if schema.startswith("/schema/"):
                own |= {key: field.type for key, field in _declared(_schema(schema), f"{group}.")}
            for key, hint in own.items():
                before = found.get(key, Field(hint))
                found[key] = Field(before.type, (*before.choices, f"{group}={choice}"))
    return found


@functools.cache
def schema_of(group: str, choice: str) -> type | None:
    """The dataclass of a choice, as Recurrent of model=lstm; None where no file says."""
    path = CONFIGS / group / f"{choice}.yaml"
    schema = str(_file(path).get("defaults", [""])[0]) if path.exists() else ""
    return _schema(schema) if schema.startswith("/schema/") else None


def _file(path: Path) -> dict:
    return yaml.safe_load(path.read_text()) or {}


def _schema(name: str) -> type | None:
    """The dataclass that a defaults list names, as /schema/model/cnn@_here_."""
    return OmegaConf.get_type(ConfigStore.instance().load(f"{name.partition('@')[0]}.yaml").node)


def _declared(schema: Any, prefix: str):
    hints = typing.get_type_hints(schema)
    for field in fields(schema):
        hint = hints[field.name]
        yield prefix + field.name, Field(hint)
        if is_dataclass(hint):
            yield from _declared(hint, f"{prefix}{field.name}.")


def unknown(key: str, config_name: str) -> str:
    """What is said of a key that the configuration does not have."""
    if key.startswith("hydra"):
        return f"{key} is no field of Hydra's; --cfg hydra lists them"
    known = fields_of(config_name)
    if key in known and (choices := known[key].choices):
        remedy = "choose that" if len(choices) == 1 else "choose one of these"
        return f"{key} is a field of {', '.join(choices)}; {remedy}, or leave it out"
    return f"{key} is unknown; nearest: {_nearest_key(key, known)}; --cfg job lists all"


def _nearest_key(key: str, known: dict[str, Field]) -> str:
    """By the whole key or by its last word alone: steps is near trainer.steps."""

    def likeness(other: str) -> float:
        whole = SequenceMatcher(None, key, other).ratio()
        return max(whole, SequenceMatcher(None, key.rpartition(".")[2], other.rpartition(".")[2]).ratio() - 0.15)

    return max((other for other in known if "." in other or "." not in key), key=likeness)


def unfit(key: str, value: Any, config_name: str) -> str | None:
    """What is said of a value of another type than its field's; None where no type is declared."""
    name, _, element = re.sub(r"\[\d+\]$", "[]", key).partition("[")
    field = fields_of(config_name).get(name)
    if field is None or field.type is Any:
        return None
    options = set(typing.get_args(field.type)) if isinstance(field.type, types.UnionType) else {field.type}
    optional = " or null" if type(None) in options and not element else ""
    [hint] = options - {type(None)}
    given = f"{key}={'null' if value is None else value}"
    if is_dataclass(hint):
        return f"{given} is no section; set its fields, as {name}.{fields(hint)[0].name}=..."
    kind = typing.get_origin(hint) or hint
    if element and kind is list:
        [kind] = typing.get_args(hint)
    return f"{given} is not {WORDS.get(kind, 'such a value')}{optional}; give one, or leave it out for the default"
