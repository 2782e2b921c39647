"""--help: what a command does, what can be chosen, what every field means.

Put together from what is written elsewhere once: the command's docstring, the files of configs/, the metadata of the
schemas' fields. It explains the choices made beside it: `model=cnn --help` has the fields of the CNN.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from experiments.cli.compose import hydra_configs
from experiments.config.metadata import explanation
from experiments.config.paths import CONFIGS

FLAGS = {
    "--cfg job": "print the configuration and stop; with --resolve what its ${...} stand for",
    "--info defaults": "print the files of configs/ that it is composed of and stop",
    "--hydra-help": "Hydra's other flags",
}
CHOSEN_BY_GROUP = ("name", "kind", "question")  # fields that no one sets, or that the heading has
LONGEST_VALUE = 44  # characters of a value that is printed whole


def help_text(doc: str, config_name: str, overrides: list[str], width: int) -> str:
    """Return the whole text, in lines of `width` characters at most. Raises what Hydra raises for the overrides.

    doc: the command's docstring; its examples start with `python -m` and have a remark behind two spaces.
    """
    with hydra_configs():
        cfg = compose(config_name, overrides, return_hydra_config=True)
        chosen = cfg.hydra.runtime.choices
        groups = group_rows(cfg, chosen)
    parts = list(prose(doc, width))
    if groups:
        parts.append(columns("Groups, set with group=choice; in brackets what is chosen here", groups, width, left=18))
    parts.append("Fields, set with field=value; behind each = what it is here")
    parts += [columns(heading, rows, width, left=34) for heading, rows in sections(cfg, chosen)]
    parts.append(columns("Flags", FLAGS, width, left=18))
    return "\n\n".join(parts)


def prose(doc: str, width: int) -> Iterator[str]:
    """Yield the paragraphs of a docstring, wrapped; of examples the remarks below the commands."""
    for paragraph in doc.strip().split("\n\n"):
        if paragraph.startswith("python -m"):
            parted = (line.partition("  ") for line in paragraph.splitlines())
            examples = {command: remark.strip() for command, _, remark in parted}
            yield columns("", examples, width, left=8, below=True)
        else:
            yield textwrap.fill(" ".join(paragraph.split()), width)


def columns(heading: str, rows: dict[str, str], width: int, left: int, below: bool = False) -> str:
    """Return names, and their meanings wrapped into a column of their own, which starts at `left`.

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


def group_rows(cfg: DictConfig, chosen: DictConfig) -> dict[str, str]:
    """Return {group=: meaning and choices} of the defaults list, and where there is a sweep of its launcher."""
    root: Any = OmegaConf.get_type(cfg)
    meanings = {str(key): explanation(root, str(key)) for key in cfg if key in chosen}
    if chosen["hydra/sweeper"] == "resumable":
        meanings["hydra/launcher"] = "what starts the runs of a sweep"
    loader = GlobalHydra.instance().config_loader()
    rows = {}
    for group, meaning in meanings.items():
        names = [f"[{name}]" if name == chosen[group] else name for name in loader.get_group_options(group)]
        rows[f"{group}="] = f"{meaning}: {', '.join(names)}"
    return rows


def sections(cfg: DictConfig, chosen: DictConfig) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (heading, {field=value: meaning}): the fields of the run itself, then those of every part of it."""
    root: Any = OmegaConf.get_type(cfg)
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    del plain["hydra"]
    parts = {key: plain.pop(key) for key, value in list(plain.items()) if isinstance(value, dict)}
    yield "", {f"{key}={shown(value)}": explanation(root, key) for key, value in plain.items()}
    for part, values in parts.items():
        if part in chosen and chosen[part] is None:
            continue
        schema: Any = OmegaConf.get_type(cfg, part)
        file = CONFIGS / part / f"{chosen.get(part)}.yaml"
        comments = comments_behind_keys(file)
        rows = {
            f"{part}.{key}={shown(value)}": comments.get(key) or explanation(schema, key)
            for key, value in values.items()
            if key not in CHOSEN_BY_GROUP
        }
        if part in chosen:
            about = values.get("question") or first_comment(file) or schema.__doc__.splitlines()[0]
            yield f"{part}={chosen[part]}: {about}", rows
        else:
            yield f"{part}: {explanation(root, part)}", rows


def shown(value) -> str:
    """Return a value as it is written on the command line; a long one by its size."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("\n...")
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE - 3]}..." if isinstance(value, str) else f"[{len(value)} entries]"


def comments_behind_keys(file: Path) -> dict[str, str]:
    """Return {key: the comment behind it} of a file of configs/.

    The options of a normaliser have no schema: their file declares them, with the meaning in a comment.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return dict(re.findall(r"^(\w+): .*? # (.*)$", text, re.MULTILINE))


def first_comment(file: Path) -> str:
    """Return the comment in a file's first line, which says what the choice is."""
    match = re.match(r"# (?!@package)(.*)", file.read_text(encoding="utf-8")) if file.exists() else None
    return match[1] if match else ""
