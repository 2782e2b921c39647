"""The report's page: one HTML file that needs no network, with the charts' library inside."""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import vl_convert
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from experiments.judging.evidence import ExperimentResult, RunTables
from experiments.report import charts, tables, vega
from experiments.report.answers import answers
from experiments.report.cell_runs import CellRuns, cell_runs, recipe
from experiments.report.claim_view import ClaimView, claim_view
from experiments.report.columns import plain
from experiments.report.matrix import matrix
from experiments.report.replication import Replication
from experiments.report.style import norms_of

MARKS = {  # paths within a circle of radius 1, as the charts draw them
    "circle": "M1,0A1,1 0 1,1 -1,0A1,1 0 1,1 1,0Z",
    "square": "M-.9,-.9H.9V.9H-.9Z",
    "diamond": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "triangle-up": "M0,-1.1L1.2,1L-1.2,1Z",
    "triangle-down": "M0,1.1L1.2,-1L-1.2,-1Z",
    "cross": "M-1.2,-.4H-.4V-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2Z",
}
SUMMARY = "Gains over no normalisation, and the metric by batch size, of all experiments"
NORMS = {
    "none": "no normalisation",
    "bn": "batch",
    "ln": "layer",
    "wn": "weight",
    "gn": "group",
    "in": "instance",
    "rms": "root mean square",
}


@dataclass(frozen=True)
class Section:
    """What the template shows of one experiment."""

    result: ExperimentResult
    claims: list[ClaimView]
    figures: list[charts.Figure]
    specs: dict[str, Markup]
    cells: pd.DataFrame
    runs: list[CellRuns]
    not_run: list[str]
    recipe: list[tuple[str, str]]
    script: str


def page(
    results: list[ExperimentResult],
    figures: dict[str, list[charts.Figure]],
    run_tables: RunTables,
    reference: list[ExperimentResult] | None,
    replications: list[Replication],
    output: Path,
    profile: str,
    provenance: str,
) -> str:
    """Return the whole page. reference: the results of the committed rows, where these rows are the user's own."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    compared = tables.comparison(results, reference) if reference else pd.DataFrame()
    everything = run_tables.rows.set_index("run_id", drop=False)
    norms = NORMS | {norm: "" for norm in norms_of(everything["norm"]) if norm not in NORMS}  # a user's, in grey
    has_folders = "reference" not in output.resolve().parts and any(run_tables.source.glob("*/summary.json"))
    return templates.get_template("page.html.j2").render(
        profile=profile,
        provenance=provenance,
        counts=tables.counts_of(results),
        answers=answers([plain(verdict.as_dict()) for result in results for verdict in result.verdicts]),
        replications=replications,
        source=tables.source,
        left_out=tables.left_out,
        sign=tables.SIGN,
        norms=norms,
        matrix=matrix(results),
        looks={norm: (colour, MARKS.get(shape, shape)) for norm in norms for colour, shape in [vega.look(norm)]},
        summary=Markup(vega.inline(charts.summary(results, background=None), "summary", SUMMARY)),
        sections=[section(result, figures[result.experiment.name], everything, profile) for result in results],
        comparison=compared if len(compared) else None,
        folder=os.path.relpath(run_tables.source, output) if has_folders else None,
        library=Markup(library()),
    )


def section(result: ExperimentResult, figures: list[charts.Figure], everything: pd.DataFrame, profile: str) -> Section:
    return Section(
        result,
        [claim_view(verdict, result, everything, profile) for verdict in tables.judged(result)],
        figures,
        {figure.name: script_json(figure.specs()) for figure in figures},
        tables.cell_table(result),
        cell_runs(result.rows, result, profile),
        tables.not_run(result),
        recipe(result.config),
        f"bash scripts/{result.experiment.name}.sh profile={profile}",
    )


@cache
def library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed in one script. A `</script>` inside it would end it."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega.VERSION)
    return script.replace("</script", r"<\/script")


def script_json(content) -> Markup:
    """Return JSON for inside a script element, which `</script` would end and `<!--<script` hold open."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("</", r"<\/")
    return Markup(re.sub("<(?=!--|script)", r"\\u003c", text, flags=re.IGNORECASE))
