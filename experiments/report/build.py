"""From the rows to everything that a report consists of; the command is in __main__.py."""

import shutil
import sys
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from experiments.cli.command import refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import ROOT
from experiments.config.writable import check_folder
from experiments.judging.evidence import REFERENCE, Part, Tables, configs_of, from_folders, from_tables, parts_of
from experiments.report import charts, tables
from experiments.report.page import page
from experiments.report.readme import put_into_readme
from experiments.runs.folder import write_json
from experiments.runs.progress import format_duration


def write_all(cfg: DictConfig) -> None:
    """Write what `output` is to hold and print the verdicts. Exits with 1 when runs lack a result."""
    with refusals_in_one_line("report"):
        profile, output = cfg.profile, Path(cfg.output)
        check_folder("output", cfg.output)
        configs = configs_of(profile)
        found = find(cfg, configs)
        parts = parts_of(found, configs, profile)
        reference = reference_beside(found, output, configs, profile)
        output.mkdir(parents=True, exist_ok=True)
    write(parts, found, output, profile.name)
    provenance = origin(found, profile.name)
    write_json(output / "provenance.json", provenance)
    (output / "claims.md").write_text(markdown(parts, provenance))
    figures = draw(parts, output / "figures")
    text = page(parts, figures, found, reference, output, profile.name, provenance_line(provenance))
    (output / "report.html").write_text(text)
    if cfg.readme:
        put_into_readme()
    say(parts)
    print(f"report: {(output / 'report.html').resolve()}")
    if found.missing:
        sys.exit(
            f"{len(found.missing)} runs lack a result, first {found.missing[0]}; run the experiment's script again"
        )


def find(cfg: DictConfig, configs: dict[str, DictConfig]) -> Tables:
    """The rows that `rows` names, else of the run folders, else the committed ones."""
    if cfg.rows is not None:
        return from_tables(configs, Path(cfg.rows))
    found = from_folders(configs, cfg.profile.name, cfg.runs_dir)
    if found is not None:
        return found
    committed = REFERENCE / cfg.profile.name
    lacking = f"no finished run of the experiments of profile={cfg.profile.name} in {cfg.runs_dir}"
    if not (committed / "runs.csv").exists():
        raise ConfigError(
            f"{lacking}, and no committed rows in {committed.relative_to(ROOT)}; run bash scripts/reproduce.sh"
        )
    print(f"{lacking}: from {committed.relative_to(ROOT)}")
    return from_tables(configs, committed)


def reference_beside(found: Tables, output: Path, configs: dict, profile: DictConfig) -> list[Part] | None:
    """The verdicts on the committed rows, to be set beside one's own; None where these are the committed ones."""
    committed = REFERENCE / profile.name
    if not (committed / "runs.csv").exists() or committed in (found.place.resolve(), output.resolve()):
        return None
    return parts_of(from_tables(configs, committed), configs, profile)


def write(parts: list[Part], found: Tables, output: Path, profile: str) -> None:
    """All tables."""
    found.write(output)
    tables.differences(parts).to_csv(output / "differences.csv", index=False)
    cells = [frame for part in parts if len(frame := tables.cells(part))]
    pd.concat(cells).to_csv(output / "cells.csv", index=False)
    verdicts = [tables.plain(verdict.as_dict()) for part in parts for verdict in part.verdicts]
    write_json(output / "claims.json", {"profile": profile, "claims": verdicts})


def draw(parts: list[Part], folder: Path) -> dict[str, list[charts.Figure]]:
    """The figures of every experiment, written as SVG; drawings of an earlier report are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = {part.experiment.name: charts.figures(part) for part in parts}
    drawn = {"summary": charts.summary(parts)}
    for part in parts:
        for figure in figures[part.experiment.name]:
            drawn |= figure.drawings()
        for verdict in part.verdicts:
            if verdict.kind != "exact":
                drawn[f"{verdict.experiment}_claim_{verdict.claim}"] = charts.forest_drawing(verdict, part.experiment)
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(svg)
    return figures


def origin(found: Tables, profile: str) -> dict:
    """Where the numbers come from: the commits and versions that the rows themselves carry."""
    rows = found.rows
    commits = rows["git"] + rows["dirty"].map({True: " (with uncommitted changes)", False: ""})
    return {
        "command": f"bash scripts/<experiment>.sh profile={profile}, for every experiment",
        "commits": sorted(set(commits)),
        "python": sorted(set(rows["python"])),
        "torch": sorted(set(rows["torch"])),
        # rows of before it was kept have none
        **({"processor": sorted(set(rows["processor"].dropna()))} if "processor" in rows else {}),
        "runs": len(rows),
        "diverged": int((rows["status"] == "diverged").sum()),
        "core_seconds": round(float(rows["wall_seconds"].sum()), 1),
    }


def provenance_line(provenance: dict) -> str:
    total = format_duration(provenance["core_seconds"])
    where = "".join(f", {name}" for name in provenance.get("processor", []))
    return (
        f"{provenance['runs']} runs, {provenance['diverged']} diverged, {total} of one core{where}, torch "
        f"{', '.join(provenance['torch'])}, Python {', '.join(provenance['python'])}; commit "
        f"{', '.join(provenance['commits'])}; made by {provenance['command']}."
    )


def markdown(parts: list[Part], provenance: dict) -> str:
    """claims.md: the verdicts, then the paired differences and the cells of every experiment."""
    sections = ["# Verdicts", provenance_line(provenance), tables.counts(parts)]
    sections.append(tables.markdown(tables.headline(parts)))
    sections.append("Every number, with the ids of the runs behind it: differences.csv, cells.csv, runs.csv.")
    for part in parts:
        sections += [f"## {part.experiment.name}", part.experiment.question]
        sections += [f"These rows do not hold together: {problem}." for problem in part.problems]
        for verdict in part.verdicts:
            about = f"**{verdict.statement}** {verdict.verdict} ({verdict.metric}, {verdict.unit})"
            sections += [about, tables.markdown(tables.difference_table(verdict))]
        if len(part.rows):
            sections.append(tables.markdown(tables.cell_table(part)))
        elif not part.experiment.sources:
            sections.append("No run of this experiment yet.")
    return "\n\n".join(sections) + "\n"


def say(parts: list[Part]) -> None:
    """The times and the verdicts, for a terminal."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for frame in (tables.times(parts), tables.headline(parts)):
        shown = Table(show_lines=len(frame) > 0, expand=True)
        for column in frame.columns:
            shown.add_column(
                column, overflow="fold", ratio={"claim": 3}.get(column, 5 if "because" in column else None)
            )
        for line in frame.itertuples(index=False):
            shown.add_row(*(str(value).replace("**", "").replace("[", r"\[") for value in line))
        console.print(shown)
    for part in parts:
        for problem in part.problems:
            print(f"{part.experiment.name}: {problem}")
    print(tables.counts(parts))
