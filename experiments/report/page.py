"""The report's page: one HTML file that needs no network, with the charts' library inside."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import vl_convert
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from omegaconf import DictConfig, OmegaConf

from experiments.config.paths import ROOT
from experiments.judging.claims import CONTRADICTED, NOT_RESOLVED, REPRODUCED, Outcome, Verdict, describe
from experiments.judging.evidence import Part, Tables
from experiments.report import charts, tables, vega
from experiments.report.style import norms_of

MARKS = {  # paths within a circle of radius 1, as the charts draw them
    "circle": "M1,0A1,1 0 1,1 -1,0A1,1 0 1,1 1,0Z",
    "square": "M-.9,-.9H.9V.9H-.9Z",
    "diamond": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "triangle-up": "M0,-1.1L1.2,1L-1.2,1Z",
    "triangle-down": "M0,1.1L1.2,-1L-1.2,-1Z",
    "cross": "M-1.2,-.4H-.4V-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2Z",
}
SIGN = {REPRODUCED: "✓", CONTRADICTED: "✗", NOT_RESOLVED: "?"}
NORMS = {
    "none": "no normalisation",
    "bn": "batch",
    "ln": "layer",
    "wn": "weight",
    "gn": "group",
    "in": "instance",
    "rms": "root mean square",
}


def page(
    parts: list[Part],
    figures: dict[str, list[charts.Figure]],
    found: Tables,
    reference: list[Part] | None,
    output: Path,
    profile: str,
    provenance: str,
) -> str:
    """The whole page. reference: the parts of the committed rows, where these rows are one's own."""
    templates = Environment(
        loader=FileSystemLoader(ROOT / "experiments" / "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters["signed"] = tables.signed
    everything = found.rows.set_index("run_id", drop=False)
    norms = NORMS | {norm: "" for norm in norms_of(everything["norm"]) if norm not in NORMS}  # one's own, in grey
    own = "reference" not in output.resolve().parts and any(found.place.glob("*/summary.json"))
    return templates.get_template("page.html.j2").render(
        profile=profile,
        provenance=provenance,
        counts=tables.counts(parts),
        sign=SIGN,
        norms=norms,
        looks={norm: (colour, MARKS.get(shape, shape)) for norm in norms for colour, shape in [vega.look(norm)]},
        summary=Markup(vega.inline(charts.summary(parts, background=None), "summary")),
        sections=[section(part, figures[part.experiment.name], everything, profile) for part in parts],
        comparison=tables.comparison(parts, reference) if reference else None,
        place=os.path.relpath(found.place, output) if own else None,
        library=Markup(library()),
    )


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script. A `</script>` inside it would end it."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega.VERSION)
    return script.replace("</script", r"<\/script")


# --- a section of the page: one experiment ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """What the template shows of one experiment."""

    part: Part
    claims: list["Shown"]
    figures: list[charts.Figure]
    specs: dict[str, Markup]
    cells: pd.DataFrame
    groups: list["Group"]
    recipe: list[tuple[str, str]]
    script: str


@dataclass(frozen=True)
class Shown:
    """One claim: its verdict, a strip for its card, the forest plot, and its contrasts with their runs."""

    verdict: Verdict
    because: str
    strips: list["Strip"]
    forest: Markup
    caption: str
    columns: list[str]
    lines: list[tuple[list[str], list["Group"]]]


@dataclass(frozen=True)
class Strip:
    """An interval against the margin; positions in percent of the strip's width."""

    name: str
    verdict: str
    zero: float
    band: tuple[float, float]
    interval: tuple[float, float, float] | None  # low, estimate, high
    numbers: str


@dataclass(frozen=True)
class Group:
    """Runs of one cell: what they share, and each run as a row of the table."""

    cell: str
    lr: str
    commits: str
    command: str
    runs: list[dict]


def section(part: Part, figures: list[charts.Figure], everything: pd.DataFrame, profile: str) -> Section:
    experiment = part.experiment
    return Section(
        part,
        [shown(verdict, part, everything, profile) for verdict in part.verdicts],
        figures,
        {figure.name: script_json(figure.specs()) for figure in figures},
        tables.cell_table(part),
        groups(part.rows, part, profile),
        recipe(part.config),
        f"bash scripts/{experiment.name}.sh profile={profile}",
    )


def shown(verdict: Verdict, part: Part, everything: pd.DataFrame, profile: str) -> Shown:
    frame = tables.difference_table(verdict)
    lines = []
    for values, outcome in zip(frame.itertuples(index=False), verdict.outcomes, strict=True):
        rows = everything.loc[[run_id for run_id in outcome.run_ids if run_id in everything.index]]
        lines.append((list(values), groups(rows, part, profile)))
    drawn = ""
    if verdict.kind != "exact":
        name = f"{verdict.experiment}-{verdict.claim}"
        drawn = vega.inline(charts.forest_drawing(verdict, part.experiment, background=None), name)
    return Shown(
        verdict,
        because(verdict),
        strips(verdict, part),
        Markup(drawn),
        charts.forest_caption(verdict),
        list(frame),
        lines,
    )


def name_of(outcome: Outcome, verdict: Verdict) -> str:
    """What tells a contrast from the claim's others: its place, its label, or both."""
    if len(verdict.outcomes) == 1:
        return outcome.where or outcome.label
    places = [other.where for other in verdict.outcomes]
    if len(set(places)) == len(places) > 1:
        return outcome.where
    short = outcome.label.partition(" at ")[0] if verdict.kind == "interaction" else outcome.label
    return f"{outcome.where}: {short}" if outcome.where not in ("", outcome.label) else outcome.label


def because(verdict: Verdict) -> str:
    """The sentence on a claim's card: the reason of the contrasts that decide."""
    deciding = [outcome for outcome in verdict.outcomes if outcome.verdict == verdict.verdict]
    if len(verdict.outcomes) == 1:
        return f"{deciding[0].label}: {deciding[0].why}."
    if verdict.verdict == REPRODUCED:
        return f"{'Both' if len(deciding) == 2 else f'All {len(deciding)}'} contrasts are as claimed."
    told = f"{name_of(deciding[0], verdict)}: {deciding[0].why}"
    others = len(deciding) - 1
    return f"{told}; {others} more of {len(verdict.outcomes)} {verdict.verdict}." if others else f"{told}."


def strips(verdict: Verdict, part: Part) -> list[Strip]:
    """The contrasts' intervals on one scale; those of an exact claim have none."""
    bounds = charts.bounds_of(verdict, part.experiment)
    low, high = charts.domain(verdict, bounds)

    def percent(x: float) -> float:
        return round(100 * float(np.clip((x - low) / (high - low), 0, 1)), 2)

    def strip(outcome: Outcome) -> Strip:
        t = outcome.interval
        return Strip(
            name_of(outcome, verdict),
            outcome.verdict,
            percent(0.0),
            (
                percent(low if verdict.kind == "share" else bounds[0]),
                percent(bounds[1 if verdict.kind != "share" else 0]),
            ),
            (percent(t.low), percent(t.estimate), percent(t.high)) if t else None,
            tables.told(t),
        )

    return [strip(outcome) for outcome in verdict.outcomes]


def groups(rows: pd.DataFrame, part: Part, profile: str) -> list[Group]:
    """Runs by cell. Runs of another experiment (a source) are grouped by what they have in common with this one's."""
    found = []
    for name, own in rows.groupby("experiment", sort=False):
        same = name == part.experiment.name
        for cell, runs in tables.each_cell(own, part.experiment):
            metric, _ = tables.metric_of(runs, part.experiment)
            found.append(
                Group(
                    ("" if same else f"{name}: ")
                    + describe({key: value for key, value in cell.items() if value != ""}),
                    ", ".join(f"{lr:g}" for lr in sorted(set(runs["lr"]))),
                    ", ".join(sorted({commit[:12] for commit in runs["git"]})),
                    command(cell, part, profile, runs["seed"]) if same else f"bash scripts/{name}.sh profile={profile}",
                    [
                        {
                            "run_id": row["run_id"],
                            "seed": row["seed"],
                            "status": row["status"],
                            "value": "" if pd.isna(row.get(metric)) else f"{row[metric]:.4g}",
                            "seconds": "" if pd.isna(row.get("seconds")) else f"{row['seconds']:.1f}",
                        }
                        for _, row in runs.iterrows()
                    ],
                )
            )
    return found


def overrides(cell: dict, axes: Mapping[str, str]) -> list[str]:
    """What selects a cell from its experiment's grid. axes: column -> setting (Experiment.axes)."""
    chosen = [f"model={cell['model']}", f"norm={cell['norm']}", f"data.batch_size={cell['batch_size']}"]
    return chosen + [f"{path}={cell[axis]}" for axis, path in axes.items() if cell.get(axis)]


def command(cell: dict, part: Part, profile: str, seeds: pd.Series) -> str:
    """The command that makes a cell's runs again, and only them."""
    own = " ".join(overrides(cell, part.experiment.axes))
    seeds = ",".join(map(str, dict.fromkeys(seeds)))
    return f"python -m experiments.train -m experiment={part.experiment.name} profile={profile} {own} seed={seeds}"


def recipe(cfg: DictConfig) -> list[tuple[str, str]]:
    """The settings that the experiment's runs share, and its grid."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    lines = [(key, _settings(plain[key])) for key in ("data", "model", "optim", "trainer")]
    params: Any = OmegaConf.to_container(cfg.hydra.sweeper.params or OmegaConf.create(), resolve=True)
    grids: Any = OmegaConf.to_container(cfg.experiment.grids, resolve=True)
    for number, grid in enumerate(grids, 1):
        lines.append((f"grid {number}" if len(grids) > 1 else "grid", _settings({**params, **grid})))
    lines.append(("seeds", ", ".join(map(str, cfg.experiment.final_seeds))))
    if cfg.experiment.tune_lr:
        tried = ", ".join(f"{lr:g}" for lr in cfg.experiment.tune_lr)
        seeds = ", ".join(map(str, cfg.experiment.tune_seeds))
        lines.append(
            ("learning rates", f"of {tried}, the best in the validation split on seeds {seeds}, for every cell")
        )
    return lines


def _settings(node: dict) -> str:
    """key=value of a group, without what is not set and without places on a disk."""
    left_out = ("root", "cache", "path", "kind", "checkpoint_every", "capture", "log_every")
    shown_ = {key: value for key, value in node.items() if value not in (None, [], "") and key not in left_out}
    return ", ".join(f"{key}={'tuned' if 'tuned_lr' in str(value) else value}" for key, value in shown_.items())


def script_json(content) -> Markup:
    """JSON for inside a script element."""
    return Markup(json.dumps(content, separators=(",", ":"), allow_nan=False).replace("</", r"<\/"))
