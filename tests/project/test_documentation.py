"""The pages are true: links, functions, paths, commands, lines of Python, the data card, the deviations."""

import ast
import functools
import importlib
import importlib.util
import itertools
import json
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from markdown_it import MarkdownIt
from markdown_it.token import Token

import data
from experiments.cli.compose import hydra_configs
from experiments.sweeps.again import again
from experiments.sweeps.grid import expand, values
from tests.helpers.commands import ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "data" / "README.md", ROOT / "results" / "README.md"]
EXTENDING = ROOT / "docs" / "extending.md"  # true once its edits are made: tests/project/test_extending.py
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CHECKED = [page for page in PAGES if page != EXTENDING]
TOP = ("configs", "data", "docs", "experiments", "models", "results", "scripts", "tests")
PATH = re.compile(rf"({'|'.join(TOP)})/[\w./*{{}},<>-]*")
ELSEWHERE = ("cd", "export", "git", "pip", "source")  # programs whose arguments are not checked

name = pytest.mark.parametrize("page", CHECKED, ids=lambda page: page.relative_to(ROOT).as_posix())


# --- reading a page ---------------------------------------------------------------------------------------------------


@functools.cache
def tokens(page: Path) -> list[Token]:
    """Return the blocks of a page and the parts of their lines, in order."""
    parsed = MarkdownIt().parse(page.read_text())
    return [inner for token in parsed for inner in (token, *(token.children or ()))]


def contents(page: Path, kind: str, *languages: str) -> Iterator[str]:
    return (token.content for token in tokens(page) if token.type == kind and token.info in (languages or ("",)))


def anchors(page: Path) -> set[str]:
    """Return the headings as GitHub names them in links."""
    after = itertools.pairwise(tokens(page))
    titles = [token.content for before, token in after if before.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every line of an unnamed block, and of code in a sentence that begins like a command."""
    lines = [line for block in contents(page, "fence", "", "bash", "console") for line in block.splitlines()]
    lines += [code for code in contents(page, "code_inline") if code.startswith(("python -m ", "bash "))]
    for line in lines:
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch("[A-Z_]+=.*", words[0]):  # a variable for this command
                words.pop(0)
            if words:
                yield words


# --- links and paths --------------------------------------------------------------------------------------------------


@name
def test_links_lead_somewhere(page):
    targets = [token.attrs.get("href") or token.attrs.get("src") for token in tokens(page) if token.attrs]
    for target in targets:
        if re.match(r"[a-z]+:", str(target)) or not isinstance(target, str):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}, which has {anchors(linked)}"


def linked_names(page: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of every link from a name in code to a file of Python."""
    for token in tokens(page):
        children = token.children or []
        for opened, inside in itertools.pairwise(children):
            if opened.type == "link_open" and inside.type == "code_inline" and opened.attrs["href"].endswith(".py"):
                yield inside.content, page.parent / opened.attrs["href"]


def defined_names(file: Path) -> set[str]:
    """Functions, classes, methods as Class.method, and constants of a module."""

    def names(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{name}" for name in names(node.body))
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (target.id for target in targets if isinstance(target, ast.Name))

    return set(names(ast.parse(file.read_text()).body)) if file.exists() else set()


@name
def test_linked_functions_stand_in_the_linked_file(page):
    missing = [f"{link} in {file.name}" for link, file in linked_names(page) if link not in defined_names(file)]
    assert not missing, f"{page.name} links to {missing}"


def test_the_way_of_one_run_takes_less_than_400_words_and_ends_every_step_at_a_function():
    _, _, rest = ARCHITECTURE.read_text().partition("## The path of one run\n")
    section = rest.partition("\n## ")[0]
    assert len(re.sub(r"\]\([^)]*\)", "]", section).split()) < 400
    steps = re.findall(r"^\d+\. .*(?:\n   .*)*", section, re.MULTILINE)
    assert len(steps) > 5 and all(re.search(r"\[`\w[\w.]*`\]\([^)]+\.py\)", step) for step in steps)


def missing_paths(page: Path, root: Path) -> list[str]:
    """Return the paths that a page names and that are not below `root`; what a user's runs write is left out."""
    named = [*contents(page, "code_inline"), *(word for words in commands(page) for word in words)]
    paths = [path for code in named if PATH.fullmatch(code) for path in spelled_out(code)]
    return [path for path in paths if not any(root.glob(path.rstrip("/"))) and not git_ignores(path)]


def git_ignores(path: str) -> bool:
    return not subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode


def spelled_out(path: str) -> list[str]:
    """a/{b,c}/<name> -> a/b/*, a/c/*"""
    if choice := re.search(r"\{([^{}]*)\}", path):
        return [one for part in choice[1].split(",") for one in spelled_out(path.replace(choice[0], part, 1))]
    return [re.sub("<[^>]+>", "*", path)]


@name
def test_paths_are_there(page):
    assert not missing_paths(page, ROOT)


# --- commands ---------------------------------------------------------------------------------------------------------


@name
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries
def test_commands_are_understood(page):
    for words in commands(page):
        if "/" not in words[0]:  # a listing of files
            check_command(words)


def check_command(words: list[str]) -> None:
    program, *arguments = words
    assert not re.search("<.*>", " ".join(words)), f"{words} cannot be pasted: the shell redirects at <"
    if "-m" in words and program in ("python", "torchrun"):
        check_module(arguments[arguments.index("-m") + 1], arguments[arguments.index("-m") + 2 :])
    elif program == "bash":
        check_script(*arguments)
    elif program == "wandb":
        from wandb.cli.cli import cli

        assert arguments[0] in cli.commands, words
    else:
        assert program in ELSEWHERE, f"{words}: add to tests/project/test_documentation.py how {program} is checked"


def check_script(script: str, *arguments: str) -> None:
    """A script that passes its arguments on is checked by the command that gets them; others take a profile."""
    if script == "scripts/experiment.sh":
        experiment, *arguments = arguments
        return check_command(["python", "-m", "experiments.train", "-m", f"experiment={experiment}", *arguments])
    lines = [line for line in (ROOT / script).read_text().splitlines() if line.endswith(' "$@"')]
    for line in lines:
        program, *words = shlex.split(line)[:-1]
        if program == "exec":  # exec bash "$(dirname "$0")/experiment.sh" conv_gain "$@"
            check_script("scripts/experiment.sh", words[-1], *arguments)
        else:
            check_command([program, *words, *arguments])
    if not lines:
        assert all((ROOT / "configs" / "profile" / f"{argument}.yaml").exists() for argument in arguments), arguments


def check_module(module: str, arguments: list[str]) -> None:
    spec = importlib.util.find_spec(module)
    assert spec, f"there is no module {module}"
    if module == "pytest":
        assert all((ROOT / argument).exists() for argument in arguments if argument.startswith("tests/")), arguments
    elif config := config_of(spec):
        remarks = [argument for argument in arguments if not re.search("=|^-|/", argument)]
        assert not remarks, f"python -m {module} does not take {remarks}: a remark begins with #"
        check_overrides(config, arguments)
    elif options := [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]:
        printed = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
        assert all(option in printed.stdout for option in options), (module, arguments)


def config_of(spec) -> str | None:
    """Return the name of the configuration that a command reads, after importing the command, which registers it."""
    folders = spec.submodule_search_locations or []
    files = [Path(spec.origin)] if spec.origin else [file for folder in folders for file in Path(folder).glob("*.py")]
    for file in files:
        if name := re.search(r'config_name="(\w+)"', file.read_text()):
            importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
            return name[1]
    return None


def check_overrides(config: str, arguments: list[str]) -> None:
    """Check that they compose, each value of a sweep once. An experiment with the user's choices is taken as a grid."""
    overrides = [argument for argument in arguments if "=" in argument]
    chosen = dict(override.split("=", 1) for override in overrides)
    if config == "train" and "run" in chosen:
        assert again(arguments)
        return
    launcher = chosen.pop("hydra/launcher", "basic")
    if launcher not in ("basic", "joblib"):  # the plugin of another may not be installed
        assert (ROOT / "configs" / "hydra" / "launcher" / f"{launcher}.yaml").exists(), launcher
        overrides = [override for override in overrides if not re.match("hydra.launcher", override)]
    if config == "train" and set(chosen) - {"experiment", "profile", "plan"} and "experiment" in chosen:
        rest = [o for o in overrides if not o.startswith(("experiment=", "profile=", "plan=", "hydra"))]
        assert expand(chosen["experiment"], chosen.get("profile", "quick"), rest)
        return
    with hydra_configs():
        parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)
        choices = {override.get_key_element(): values(override) for override in parsed}
        for turn in range(max(map(len, choices.values()), default=1)):
            compose(config, [f"{key}={each[turn % len(each)]}" for key, each in choices.items()])


# --- lines of Python --------------------------------------------------------------------------------------------------


@name
def test_lines_of_python_run(page):
    """Those of the installed package run outside the repository: tests/project/test_package.py."""
    for block in contents(page, "fence", "python"):
        if "layer_normalization" not in block and page.name != "layers.md":
            exec(compile(block, page.name, "exec"), {})


# --- tables that repeat something else --------------------------------------------------------------------------------


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading, without its head."""
    _, _, below = page.read_text().partition(f"# {heading}\n")
    lines = list(itertools.takewhile(lambda line: line.startswith("|"), below[below.index("\n|") + 1 :].splitlines()))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_estimate_for_ten_thousand_runs_starts_from_the_committed_costs():
    """Training from the quick profile's rows, the overhead of a run from the benchmark, tables from the campaign."""
    page, reference = (ROOT / "docs" / "clusters.md").read_text(), ROOT / "results" / "reference"
    quick = json.loads((reference / "quick" / "provenance.json").read_text())
    seconds = quick["core_seconds"] / quick["runs"]
    assert (
        f"| {seconds:.1f} s of a core | {seconds * 1e4 / 3600:.0f} core hours; {seconds * 1e4 / 60 / 64:.0f} min"
        in page
    )
    benchmark = json.loads((reference / "benchmark" / "benchmark.json").read_text())
    (sweep,) = [case["milliseconds"] for case in benchmark["cases"] if case["kind"] == "sweep"]
    rest = statistics.median(sweep["wandb offline"]) / 1e3
    assert f"of a reused worker | {rest:.1f} s |" in page
    faults = json.loads((reference / "faults" / "faults.json").read_text())
    (scale,) = [row["figure"] for row in faults["rows"] if row["scorecard"][1] == "run folders as a table"]
    read = float(re.search(r"10000 folders read in ([\d.]+) s", scale)[1])
    assert f"tables | {read / 10:.1f} ms | {read:.0f} s" in page


def test_the_data_card_names_every_set_and_every_checksum():
    card = ROOT / "data" / "README.md"
    assert sorted(row[0].strip("`") for row in rows(card, "Data")) == sorted(data.SETS)
    listed = {file.strip("`"): sha256.strip("`") for file, sha256 in rows(card, "Checksums")}
    assert listed == {file: sha256 for each in data.SETS.values() for file, sha256 in each.files.items()}


def test_the_deviations_are_numbered_and_those_of_the_experiments_are_all_there():
    page = ROOT / "docs" / "deviations.md"
    *sections, history = re.findall("^## (.+)$", page.read_text(), re.MULTILINE)
    assert history == "History of the rules"
    table = [row for section in sections for row in rows(page, section)]
    assert [int(row[0]) for row in table] == list(range(1, len(table) + 1))
    assert all(row[-1] for row in table), "a deviation without its reason"
    listed = {(row[1], profile, row[3]) for row in rows(page, sections[-1]) for profile in row[2].split(", ")}
    assert listed == set(configured_deviations())


def configured_deviations() -> Iterator[tuple[str, str, str]]:
    """(experiment, profile or all, deviation) as configs/experiment has them."""
    folder = ROOT / "configs" / "experiment"
    for path in folder.rglob("*.yaml"):
        in_profile = path.parent != folder
        for deviation in (yaml.safe_load(path.read_text()).get("experiment") or {}).get("deviations", []):
            yield (path.parent.name, path.stem, deviation) if in_profile else (path.stem, "all", deviation)
