"""From the rows to everything that a report consists of; the command is in __main__.py."""

import json
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from experiments.cli.command import refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import REFERENCE, ROOT
from experiments.judging.claims import kinds_of
from experiments.judging.evidence import (
    GRADIENTS,
    ExperimentResult,
    RunTables,
    configs_of,
    from_folders,
    from_tables,
    results_of,
    with_known,
)
from experiments.report import charts, replication, tables
from experiments.report.columns import markdown, plain
from experiments.report.page import page
from experiments.report.readme import put_into_readme
from experiments.runs.folder import folders_in, write_json
from experiments.runs.known import known_rows
from experiments.runs.outputs import check_output, written_as_one
from experiments.runs.progress import format_duration

FILES = (
    *("runs.csv", "curves.csv", GRADIENTS, "differences.csv", "cells.csv"),
    *("claims.md", "claims.json", "provenance.json", "report.html"),
)


def write_all(cfg: DictConfig) -> None:
    """Write what `output` is to hold and print the verdicts. Exits with 1 when runs lack a result."""
    with refusals_in_one_line("report"):
        profile, output = cfg.profile, Path(cfg.output)
        check_output(output, FILES, known_by="provenance.json")
        configs = configs_of(profile, profile.first_seed)
        run_tables = find(cfg, configs)
        results = results_of(run_tables, configs, profile)
        reference = reference_beside(run_tables, output, profile)
        with written_as_one(output, known_by="provenance.json") as folder:
            write_report(cfg, folder, results, run_tables, reference)
    if cfg.readme:
        put_into_readme()
    say(results)
    if reference is not None:
        say_replication(replication.of(results, reference, "against the committed runs"))
    print(f"report: {(output / 'report.html').resolve()}")
    if run_tables.missing:
        sys.exit(
            f"{len(run_tables.missing)} runs lack a result, first {run_tables.missing[0]}; "
            "run the experiment's script again"
        )


def write_report(
    cfg: DictConfig,
    folder: Path,
    results: list[ExperimentResult],
    run_tables: RunTables,
    reference: list[ExperimentResult] | None,
) -> None:
    """Write all files of the report into an empty folder, from where they get into `output`."""
    profile, output = cfg.profile, Path(cfg.output)
    write(results, run_tables, folder, profile.name)
    provenance = origin(run_tables, profile)
    write_json(folder / "provenance.json", provenance)
    (folder / "claims.md").write_text(claims_markdown(results, provenance), encoding="utf-8")
    figures = draw(results, folder / "figures")
    replicated = replication.beside(output if cfg.rows is None else Path(cfg.rows), replication.verdicts_of(results))
    line = provenance_line(provenance)
    text = page(results, figures, run_tables, reference, replicated, output, profile.name, line)
    (folder / "report.html").write_text(text, encoding="utf-8")


def find(cfg: DictConfig, configs: dict[str, DictConfig]) -> RunTables:
    """Return the rows that `rows` names, else of the run folders and of `known`, else the committed ones."""
    if cfg.rows is not None and cfg.known is not None:
        raise ConfigError("rows= is a report from rows alone, known= adds rows to those of the run folders; give one")
    if cfg.rows is not None:
        return from_tables(configs, Path(cfg.rows))
    run_tables = from_folders(configs, cfg.profile.name, cfg.runs_dir)
    if cfg.known is not None:
        return with_known(run_tables, from_tables(configs, Path(cfg.known), "known"))
    if run_tables is not None:
        return run_tables
    committed = REFERENCE / cfg.profile.name
    lacking = f"no finished run of the experiments of profile={cfg.profile.name} in {cfg.runs_dir}"
    if not (committed / "runs.csv").exists():
        raise ConfigError(
            f"{lacking}, and no committed rows in {committed.relative_to(ROOT)}; run bash scripts/reproduce.sh"
        )
    if others := runs_of_others(cfg):
        print(others, file=sys.stderr, flush=True)
    print(f"{lacking}: from {committed.relative_to(ROOT)}, the committed rows, none of your own", flush=True)
    return from_tables(configs, committed)


def runs_of_others(cfg: DictConfig) -> str:
    """Return a line about finished runs that the report is not about, which a user may take it for; "" without any."""
    rows = [folder.summary for folder in folders_in(cfg.runs_dir) if folder.finished]
    count = Counter(f"{row['experiment']} (profile {row['profile']})" for row in rows if row)
    if not count:
        return ""
    each = ", ".join(f"{number} of {name}" for name, number in sorted(count.items()))
    return (
        f"warning: {cfg.runs_dir} holds {count.total()} finished runs that this report is not about: {each}; "
        "python -m experiments.compare compares runs of any kind"
    )


def reference_beside(run_tables: RunTables, output: Path, profile: DictConfig) -> list[ExperimentResult] | None:
    """Return the verdicts on the committed rows, to compare with.

    None where the rows are the committed ones, and where there are none of these experiments or of one with claims.
    """
    committed = REFERENCE / profile.name
    if not (committed / "runs.csv").exists() or committed in (run_tables.source.resolve(), output.resolve()):
        return None
    reported = {*profile.experiments, *run_tables.rows["experiment"]}
    if reported.isdisjoint(row["experiment"] for row in known_rows(str(committed), "reference").values()):
        return None
    configs = configs_of(profile, json.loads((committed / "provenance.json").read_text(encoding="utf-8"))["first_seed"])
    results = results_of(from_tables(configs, committed), configs, profile)
    known = [result for result in results if result.verdicts and (len(result.rows) or result.experiment.sources)]
    return known or None


def write(results: list[ExperimentResult], run_tables: RunTables, output: Path, profile: str) -> None:
    """Write all tables."""
    run_tables.write(output)
    tables.differences(results).to_csv(output / "differences.csv", index=False)
    cells = [frame for result in results if len(frame := tables.cells(result))]
    pd.concat(cells or [pd.DataFrame(columns=["experiment"])]).to_csv(output / "cells.csv", index=False)
    verdicts = [plain(verdict.as_dict()) for result in results for verdict in result.verdicts]
    write_json(output / "claims.json", {"profile": profile, "claims": verdicts})


def draw(results: list[ExperimentResult], folder: Path) -> dict[str, list[charts.Figure]]:
    """Draw the figures of every experiment as SVG."""
    folder.mkdir()
    figures = {result.experiment.name: charts.figures(result) for result in results}
    drawn = {"summary": charts.summary(results)}
    for result in results:
        for figure in figures[result.experiment.name]:
            drawn |= figure.drawings()
        kinds = kinds_of(result.experiment)
        for verdict in tables.judged(result):
            if kinds[verdict.claim].has_interval:
                name = f"{verdict.experiment}_claim_{verdict.claim}"
                drawn[name] = charts.forest_drawing(verdict, kinds[verdict.claim])
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    return figures


def origin(run_tables: RunTables, profile: DictConfig) -> dict:
    """Return where the numbers come from: the commits and versions that the rows themselves carry."""
    rows = run_tables.rows
    commits = rows["git"] + rows["dirty"].map({True: " (with uncommitted changes)", False: ""})
    return {
        "command": f"bash scripts/<experiment>.sh profile={profile.name}",
        "first_seed": profile.first_seed,
        "commits": sorted(set(commits)),
        "python": sorted(set(rows["python"])),
        "torch": sorted(set(rows["torch"])),
        # rows of before it was kept have none
        **({"processor": sorted(set(rows["processor"].dropna()))} if "processor" in rows else {}),
        "runs": len(rows),
        "diverged": int((rows["status"] == "diverged").sum()),
        "core_seconds": round(float(rows["wall_seconds"].sum()), 1),
    }


def provenance_line(provenance: dict, quote: str = "") -> str:
    """Return where the rows come from, in a sentence. quote: what encloses the command, a backtick in Markdown."""
    total = format_duration(provenance["core_seconds"])
    where = "".join(f", {name}" for name in provenance.get("processor", []))
    return (
        f"{provenance['runs']} runs, {provenance['diverged']} diverged, {total} of one core{where}, torch "
        f"{', '.join(provenance['torch'])}, Python {', '.join(provenance['python'])}; commit "
        f"{', '.join(provenance['commits'])}; made by {quote}{provenance['command']}{quote}, for every "
        "experiment."
    )


def claims_markdown(results: list[ExperimentResult], provenance: dict) -> str:
    """Return claims.md: the verdicts, then the paired differences and the cells of every experiment."""
    sections = ["# Verdicts", provenance_line(provenance, quote="`"), tables.counts_of(results)]
    headline = tables.headline(results)
    sections += [*([markdown(headline)] if len(headline) else []), *filter(None, [tables.waiting(results)])]
    sections.append("Every number, with the ids of the runs behind it: differences.csv, cells.csv, runs.csv.")
    for result in results:
        sections += [f"## {result.experiment.name}", result.experiment.question]
        sections += [f"These rows are not consistent: {problem}." for problem in result.problems]
        if result.experiment.without:
            sections.append(f"Not judged in this profile: {' '.join(tables.left_out(result.experiment))}")
        if waiting := tables.not_run(result):
            sections.append(f"These claims wait for runs: {' '.join(waiting)}")
        for verdict in tables.judged(result):
            about = f"**{verdict.statement}** {verdict.verdict} ({verdict.metric}, {verdict.unit})"
            sections += [about, tables.source(verdict), markdown(tables.difference_table(verdict))]
        if len(result.rows):
            sections.append(markdown(tables.cell_table(result)))
        elif not result.experiment.sources:
            sections.append("No run of this experiment yet.")
    return "\n\n".join(sections) + "\n"


def say_replication(repeated: replication.Replication) -> None:
    """Print claim by claim whether the verdict is the committed one, then the counts."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    shown = Table()
    for column in ("experiment", "claim", "here", "committed", "same"):
        shown.add_column(column)
    for (experiment, claim), (here, there) in repeated.pairs.items():
        shown.add_row(experiment, claim, here, there, "yes" if here == there else "no")
    console.print(shown)
    print(f"{repeated.counts()}.")


def say(results: list[ExperimentResult]) -> None:
    """Print the times and the verdicts."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for frame in (tables.times(results), tables.headline(results)):
        shown = Table(show_lines=len(frame) > 0, expand=True)
        for column in frame.columns:
            shown.add_column(
                column, overflow="fold", ratio={"claim": 3}.get(column, 5 if "because" in column else None)
            )
        for line in frame.itertuples(index=False):
            shown.add_row(*(str(value).replace("**", "").replace("[", r"\[") for value in line))
        console.print(shown)
    for result in results:
        for problem in result.problems:
            print(f"{result.experiment.name}: {problem}")
    for line in filter(None, (tables.counts_of(results), tables.waiting(results))):
        console.print(line)
