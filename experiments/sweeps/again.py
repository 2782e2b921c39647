"""A run once more from its id alone: the arguments that compose it, from a committed row or from its folder."""

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from experiments.cli.compose import hydra_configs
from experiments.config.errors import ConfigError, nearest
from experiments.config.paths import CONFIGS, REFERENCE, ROOT
from experiments.config.schema import PLACES, SECTIONS
from experiments.runs.folder import RunFolder, folders_in
from experiments.runs.identity import run_names
from experiments.runs.records import DamagedFileError, read_config, read_environment
from experiments.sweeps.grid import base, grid_keys, run_ids

RUN = "run="


def again(arguments: list[str]) -> list[str]:
    """Return the arguments with `run=` replaced by those that compose this run; unchanged without it.

    Raises ConfigError where no run or more than one has the name, and where it would be another run here.
    """
    named = [_value(argument) for argument in arguments if argument.startswith(RUN)]
    if not named:
        return arguments
    rest = [argument for argument in arguments if not argument.startswith(RUN)]
    if len(named) > 1:
        raise ConfigError(f"run= is given {len(named)} times; give one, or the experiment's grid with -m")
    given = [argument for argument in rest if not argument.startswith("-") and not argument.startswith("hydra")]
    runs_dir = next((_value(argument) for argument in given if argument.startswith("runs_dir=")), "results/runs")
    found = find(named[0], runs_dir)
    overrides = _of_folder(found, given) if isinstance(found, RunFolder) else _of_row(found, given)
    print(f"python -m experiments.train {shlex.join([*overrides, *rest])}")
    return [*overrides, *rest]


def _value(argument: str) -> str:
    """Return the value of an override without the quotes that a path may need."""
    return str(OverridesParser.create().parse_override(argument).value())


def find(name: str, runs_dir: str) -> RunFolder | dict[str, str]:
    """Return the committed row, or else the folder, that `name` names: an id, the start of one, a folder's path.

    Raises ConfigError when there is none, or more than one.
    """
    path = Path(name or "").absolute()
    if name and (path / "config.yaml").is_file():
        return RunFolder(path.parent, path.name)
    known: dict[str, RunFolder | dict[str, str]] = {folder.run_id: folder for folder in folders_in(runs_dir)}
    known |= {row["run_id"]: row for row in committed_rows()}
    matching = [name] if name in known else [one for one in sorted(known) if name and one.startswith(name)]
    if len(matching) > 1:
        both = f"{matching[0]} and {matching[-1]}"
        raise ConfigError(f"run={name} is the start of {len(matching)} runs, as {both}; give more of the name")
    if not matching:
        where = f"a committed row, a run in {runs_dir} or a run's folder"
        raise ConfigError(f"run={name} is not the id of {where}; nearest: {nearest(name, known)}")
    return known[matching[0]]


def committed_rows() -> Iterable[dict[str, str]]:
    """Yield the rows of results/reference, as text, with the folder that each is in."""
    for path in sorted(REFERENCE.glob("*/runs.csv")):
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield {**row, "table": str(path.relative_to(ROOT))}


def cell_overrides(cell: Mapping, axes: Mapping[str, str]) -> list[str]:
    """Return the overrides that select a cell from its experiment's grid. axes: column -> setting (Experiment.axes)."""
    chosen = [f"model={cell['model']}", f"norm={cell['norm']}", f"data.batch_size={cell['batch_size']}"]
    return chosen + [f"{path}={cell[axis]}" for axis, path in axes.items() if cell.get(axis)]


def _of_row(row: Mapping[str, str], given: Sequence[str]) -> list[str]:
    """Return the arguments of a committed row: its cell of its experiment's grid, at its rate and seed."""
    experiment, profile = row["experiment"], row["profile"]
    axes = base(experiment, profile).experiment.axes
    overrides = [*cell_overrides(row, axes), f"optim.lr={row['lr']}", f"seed={row['seed']}", f"stage={row['stage']}"]
    ids = []
    for device in ([], ["device=cpu"]):  # a row does not say which device it was trained on
        ids += run_ids(experiment, profile, [*overrides, *device, *given])
        if ids[-1:] == [row["run_id"]]:
            return ["-m", f"experiment={experiment}", f"profile={profile}", *overrides, *device]
        if any(argument.startswith("device=") for argument in given):
            break
    origin = f"the row in {row['table']} is of commit {row['git'][:12]}, Python {row['python']}"
    raise ConfigError(_another(row["run_id"], ids[0] if ids else "", origin))


def _of_folder(folder: RunFolder, given: Sequence[str]) -> list[str]:
    """Return the arguments of a run's folder: what config.yaml has and the composed configuration has not."""
    try:
        config = read_config(folder.path / "config.yaml")
        environment = read_environment(folder.path / "environment.json") or {}
    except DamagedFileError as error:
        raise ConfigError(f"run={folder.path}: {error}; name another run") from None
    experiment, profile = config["experiment"]["name"], config["profile"]["name"]
    of_experiment = (CONFIGS / "experiment" / f"{experiment}.yaml").is_file()
    groups = [f"experiment={experiment}", f"profile={profile}"] if of_experiment else []
    varied: set[str] = set()  # the keys that select the run from the grid
    if of_experiment:
        cfg = base(experiment, profile)
        varied = grid_keys(cfg.hydra.sweeper.params or {}, cfg.experiment.grids)
    groups += [f"{group}={config[group]['name']}" for group in ("model", "norm", "data", "optim")]
    with hydra_configs():
        composed: Any = OmegaConf.to_container(compose("train", groups), resolve=False)
        wanted = {f"{section}.{name}": value for section in SECTIONS for name, value in config[section].items()}
        wanted |= {name: config[name] for name in ("stage", "seed", "threads")}
        wanted |= {"device": environment["device"]} if "device" in environment else {}
        taken = {argument.partition("=")[0] for argument in given}
        overrides = groups + [
            f"{name}={typed(value)}"
            for name, value in wanted.items()
            if name not in {*PLACES, *taken} and (name in varied or value != _at(composed, name))
        ]
        names = run_names(compose("train", [*overrides, *given]))
    if folder.run_id not in names:
        origin = f"its folder is of commit {environment.get('git', 'unknown')[:12]}"
        raise ConfigError(_another(folder.run_id, names[0], origin))
    return overrides


def _another(wanted: str, here: str, origin: str) -> str:
    """Return the line that says that a run cannot be made again here."""
    now = f"its configuration, data and device here are those of {here}" if here else "its experiment has it no more"
    return f"run={wanted} would be another run: {now}; {origin}; check that out, or leave out what is given beside run="


def _at(config: dict, name: str) -> Any:
    section, _, field = name.rpartition(".")
    return (config[section] if section else config).get(field)


def typed(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    return str(value) if isinstance(value, (int, float)) else QuotedString(str(value), Quote.double).with_quotes()
