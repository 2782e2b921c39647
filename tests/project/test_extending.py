"""docs/extending.md is executed: its blocks are applied to a copy of the repository, and its commands run there."""

import os
import shlex
from pathlib import Path

from markdown_it import MarkdownIt

from tests.helpers import commands
from tests.helpers.commands import ROOT
from tests.helpers.copies import copy_repository
from tests.project.test_documentation import missing_paths

PAGE = ROOT / "docs" / "extending.md"


def blocks() -> list[tuple[str, list[str], str]]:
    """Return (section, instruction, content) of every block. The instruction is the paragraph above it, in pieces."""
    tokens, result, section = MarkdownIt().parse(PAGE.read_text()), [], ""
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline" and before.type == "heading_open":
            section = token.content
        elif token.type == "inline":
            parts = [child.content.replace("\n", " ") for child in token.children if child.type != "softbreak"]
        elif token.type == "fence":
            result.append((section, parts, token.content))
            parts = []  # an instruction is for one block
    return result


def edited(where: list[str]) -> tuple[str, str, str] | None:
    """Return (file, how, line) from "In `file`, before `line`:", or None if the instruction is no edit."""
    match where:
        case [*_, words, file, how, line, ":"] if words.endswith("In ") and how in (", before ", ", after "):
            return file, how.strip(", "), line
        case [*_, words, file, ":"] if words.endswith(("New file ", "At the end of ")):
            return file, "new" if words.endswith("New file ") else "end", ""
    return None


def apply(content: str, path: Path, how: str, line: str) -> None:
    whole = not content.startswith(" ") and path.suffix == ".py" and content.startswith(("def ", "class ", "@"))
    if how == "new":
        assert not path.exists(), f"{path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return
    text = path.read_text()
    if how == "end":
        path.write_text(text + ("\n\n" if whole else "") + content)
        return
    lines = text.splitlines(keepends=True)
    matching = [number for number, present in enumerate(lines) if present.strip().startswith(line.strip())]
    assert len(matching) == 1, f"{path.name} has {len(matching)} lines that begin with {line}"
    at = matching[0] + (how == "after")
    path.write_text("".join([*lines[:at], content, *(["\n\n"] if whole else []), *lines[at:]]))


def run(command: str, folder: Path) -> None:
    """Run a line `python -m ...` of the page in the folder."""
    python, option, module, *arguments = shlex.split(command)
    assert (python, option) == ("python", "-m")
    environment = os.environ | {"WANDB_MODE": "offline"}
    result = commands.run(module, *arguments, environment=environment, timeout=600, folder=folder)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"


def test_a_normaliser_takes_four_edits():
    edits = [where for section, where, _ in blocks() if section == "A normaliser" and edited(where)]
    assert len(edits) == 4


def test_every_block_applies_and_every_command_runs(tmp_path):
    copy = copy_repository(tmp_path)
    for _, where, content in blocks():
        if edit := edited(where):
            file, how, line = edit
            apply(content, copy / file, how, line)
            continue
        for command in content.splitlines():
            run(command, copy)
    assert "| l1_is_enough |" in (copy / "results" / "l1" / "claims.md").read_text()
    assert not missing_paths(PAGE, copy)
    run("python -m ruff check .", copy)
    run("python -m ruff format --check .", copy)
