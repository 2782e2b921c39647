"""The fields of a run's configuration that differ from the defaults of its choices."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import yaml
from omegaconf import OmegaConf

import experiments.config.registry  # noqa: F401  (the schemas of the choices)
from experiments.config.fields import schema_of
from experiments.config.paths import CONFIGS
from experiments.config.schema import SECTIONS, Config, Trainer

NAMED = ("model.name", "norm.name", "data.name", "optim.name", "optim.lr", "data.batch_size")  # in every run's name


def set_by_hand(identity: Mapping[str, Any], room: int) -> dict[str, str]:
    """Return the fields of a run's identity (experiments/runs/identity.py) that were set, as words of its name.

    room: the characters that its name has left. What does not fit is left out: the hash tells such runs apart.
    """
    words: dict[str, str] = {}
    for section in SECTIONS:
        default = _defaults(section, identity[section].get("name", ""))
        for field, value in identity[section].items():
            if f"{section}.{field}" not in NAMED and field in default and value != default[field]:
                words[field] = _word(value)
    words |= {
        field: _word(identity[field]) for field in ("stage", "threads") if identity[field] != getattr(Config, field)
    }
    kept: dict[str, str] = {}
    for field, word in words.items():
        if len(part := f"-{field}{word}") <= room:
            kept[field] = word
            room -= len(part)
    return kept


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = (
        f"{value:g}"
        if isinstance(value, float)
        else "_".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
    return re.sub(r"[^\w.+-]", "_", text) or "empty"


@functools.cache
def _defaults(section: str, choice: str) -> dict[str, Any]:
    """Return the fields of a choice, of its schema and its file; none where it has no file."""
    if section == "trainer":
        return _plain(OmegaConf.structured(Trainer))
    path, schema = CONFIGS / section / f"{choice}.yaml", schema_of(section, choice)
    if not path.exists():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    content.pop("defaults", None)
    return _plain(OmegaConf.merge(OmegaConf.structured(schema), content) if schema else OmegaConf.create(content))


def _plain(cfg: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    return plain
