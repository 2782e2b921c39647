"""--help: what a command does, what can be chosen, what every field means.

Put together from what stands elsewhere once: the command's docstring, the files of configs/, the dataclasses with the
comments behind their fields. It explains the choices made beside it: `model=cnn --help` has the fields of the CNN.
"""

import functools
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from experiments.cli.compose import hydra_configs
from experiments.config.paths import ROOT

FLAGS = {
    "--cfg job": "print the configuration and stop; with --resolve what its ${...} stand for",
    "--info defaults": "print the files of configs/ that it is composed of and stop",
    "--hydra-help": "Hydra's other flags",
}
CHOSEN_BY_GROUP = ("name", "kind", "question")  # fields that no one sets, or that the heading has
LONGEST = 44  # characters of a value that is printed whole


def help_text(doc: str, config_name: str, overrides: list[str], width: int) -> str:
    """The whole text, in lines of `width` characters at most. doc: the command's docstring; its examples start with
    `python -m` and have a remark behind two spaces. Raises what Hydra raises for the overrides."""
    with hydra_configs():
        cfg = compose(config_name, overrides, return_hydra_config=True)
        chosen = cfg.hydra.runtime.choices
        groups = groups_of(cfg, chosen)
    parts = list(prose(doc, width))
    if groups:
        parts.append(columns("Groups, set with group=choice; in brackets what is chosen here", groups, width, left=18))
    parts.append("Fields, set with field=value; behind each = what it is here")
    parts += [columns(heading, rows, width, left=34) for heading, rows in sections(cfg, chosen)]
    parts.append(columns("Flags", FLAGS, width, left=18))
    return "\n\n".join(parts)


def prose(doc: str, width: int) -> Iterator[str]:
    for paragraph in doc.strip().split("\n\n"):
        if paragraph.startswith("python -m"):
            parted = (line.partition("  ") for line in paragraph.splitlines())
            examples = {command: remark.strip() for command, _, remark in parted}
            yield columns("", examples, width, left=8, below=True)
        else:
            yield textwrap.fill(" ".join(paragraph.split()), width)


def columns(heading: str, rows: dict[str, str], width: int, left: int, below: bool = False) -> str:
    """Names, and their meanings wrapped into a column of their own, which starts at `left`.

    below: every meaning under its name, as is done for a name that is too long for its column.
    """
    lines = textwrap.wrap(heading, width)
    for name, meaning in rows.items():
        head, indent = f"  {name}", " " * left
        if below or len(head) >= left:
            lines.append(head)
            head = ""
        lines += textwrap.wrap(meaning, width, initial_indent=head.ljust(left), subsequent_indent=indent)
        lines += [head] if head and not meaning else []
    return "\n".join(lines)


def groups_of(cfg: DictConfig, chosen: DictConfig) -> dict[str, str]:
    """The groups of the defaults list, and where there is a sweep its launcher: {group=: meaning and choices}."""
    root: Any = OmegaConf.get_type(cfg)
    groups = {str(key): meaning(root, str(key)) for key in cfg if key in chosen}
    if chosen["hydra/sweeper"] == "resumable":
        groups["hydra/launcher"] = "what starts the runs of a sweep"
    options = {group: GlobalHydra.instance().config_loader().get_group_options(group) for group in groups}
    marked = {group: [f"[{name}]" if name == chosen[group] else name for name in options[group]] for group in groups}
    return {f"{group}=": f"{about}: {', '.join(marked[group])}" for group, about in groups.items()}


def sections(cfg: DictConfig, chosen: DictConfig) -> Iterator[tuple[str, dict[str, str]]]:
    """(heading, {field=value: meaning}): the fields of the run itself, then those of every part of it."""
    root: Any = OmegaConf.get_type(cfg)
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    del plain["hydra"]
    parts = {key: plain.pop(key) for key, value in list(plain.items()) if isinstance(value, dict)}
    yield "", {f"{key}={shown(value)}": meaning(root, key) for key, value in plain.items()}
    for part, values in parts.items():
        if part in chosen and chosen[part] is None:
            continue
        kind: Any = OmegaConf.get_type(cfg, part)
        file = ROOT / "configs" / part / f"{chosen.get(part)}.yaml"
        rows = {
            f"{part}.{key}={shown(value)}": behind_keys(file).get(key) or meaning(kind, key)
            for key, value in values.items()
            if key not in CHOSEN_BY_GROUP
        }
        if part in chosen:
            about = values.get("question") or first_comment(file) or kind.__doc__.splitlines()[0]
            yield f"{part}={chosen[part]}: {about}", rows
        else:
            yield f"{part}: {meaning(root, part)}", rows


def shown(value) -> str:
    """A value as it is written on the command line; a long one by its size."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("\n...")
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 3]}..." if isinstance(value, str) else f"[{len(value)} entries]"


def meaning(kind: type, field: str) -> str:
    """The comment behind the field of a dataclass or above it, its own or that of a class it extends."""
    for base in kind.__mro__:
        declared = base.__dict__.get("__dataclass_fields__", {})
        if field in declared and (text := declared[field].metadata.get("help")):
            return text
        if text := comments(base.__module__).get(base.__name__, {}).get(field):
            return text
    return ""


@functools.cache
def comments(module: str) -> dict[str, dict[str, str]]:
    """{class: {field: comment}} of a module whose fields stand on a line each."""
    found: dict[str, dict[str, str]] = {}
    fields: dict[str, str] = {}
    above: list[str] = []
    file = getattr(sys.modules[module], "__file__", None)  # builtins have none
    for line in Path(file).read_text().splitlines() if file else ():
        if comment := re.match(r"    # (.*)", line):
            above.append(comment[1])
            continue
        if name := re.match(r"class (\w+)", line):
            fields = found[name[1]] = {}
        elif re.match(r"\S", line):
            fields = {}  # of no class
        elif field := re.match(r"    (\w+): .*?(?:  # (.*))?$", line):
            fields[field[1]] = field[2] or " ".join(above)
        above = []
    return found


def behind_keys(file: Path) -> dict[str, str]:
    """{key: the comment behind it} of a file of configs/: the options of a normaliser are declared there alone."""
    text = file.read_text() if file.exists() else ""
    return dict(re.findall(r"^(\w+): .*? # (.*)$", text, re.MULTILINE))


def first_comment(file: Path) -> str:
    match = re.match(r"# (?!@package)(.*)", file.read_text()) if file.exists() else None
    return match[1] if match else ""
