"""Rows to verdicts, tables, figures and one page.

python -m experiments.report profile=quick                            from the run folders
python -m experiments.report rows=results/reference/quick             from rows alone, without the runs

Writes runs.csv (a row a run), curves.csv, claims.md, claims.json, figures/*.svg, provenance.json and report.html into
`output`. The page needs no network.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import hydra
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from omegaconf import DictConfig, OmegaConf

from experiments import figures
from experiments.claims import CONTRADICTED, NOT_RESOLVED, REPRODUCED, Verdict, judge, values
from experiments.cli import CONFIGS, command, refusals_in_one_line
from experiments.config import ROOT, ConfigError, Experiment
from experiments.grid import base, expand
from experiments.progress import duration
from experiments.run_folder import write_json
from experiments.table import cell_columns, collect


@dataclass(frozen=True)
class Part:
    """One experiment's share of the report. curves: validation loss; missing: run ids without a result."""

    experiment: Experiment
    rows: pd.DataFrame
    curves: pd.DataFrame
    missing: list[str]
    verdicts: list[Verdict]


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="report")
def report(cfg: DictConfig) -> None:
    with refusals_in_one_line("report"):
        output = Path(cfg.output)
        parts = [load_part(name, cfg) for name in cfg.profile.experiments]
        run = [part for part in parts if len(part.rows)]
        if not run:
            place = cfg.rows or cfg.runs_dir
            raise ConfigError(
                f"no finished run of profile={cfg.profile.name} in {place}; run bash scripts/reproduce.sh"
            )
    output.mkdir(parents=True, exist_ok=True)
    pd.concat([part.rows for part in run]).to_csv(output / "runs.csv", index=False)
    pd.concat([part.curves for part in run]).to_csv(output / "curves.csv", index=False)
    verdicts = [verdict.as_dict() for part in parts for verdict in part.verdicts]
    write_json(output / "claims.json", {"claims": verdicts})
    provenance = origin(run, cfg.profile.name)
    write_json(output / "provenance.json", provenance)
    (output / "claims.md").write_text(markdown(parts, provenance))

    folder = output / "figures"
    drawn = {part.experiment.name: figures.draw(part.experiment, part.rows, part.curves, folder) for part in run}
    overview = figures.summary([(part.experiment, part.rows) for part in run], folder)
    (output / "report.html").write_text(page(parts, drawn, overview, provenance))
    if cfg.readme:
        put_into_readme(f"{counts(parts)}\n\n{verdict_table(parts)}")

    print(time_table(run), verdict_table(parts), counts(parts), sep="\n\n", end="\n\n")
    print(f"report: {(output / 'report.html').resolve()}")
    if missing := [run_id for part in parts for run_id in part.missing]:
        sys.exit(f"{len(missing)} runs lack a result, first {missing[0]}; run bash scripts/reproduce.sh again")


def load_part(name: str, cfg: DictConfig) -> Part:
    """An experiment's rows, from the run folders or from a folder of rows, and the verdicts on them."""
    experiment = OmegaConf.to_object(base(name, cfg.profile.name).experiment)
    if cfg.rows is None:
        rows, curves, missing = collect(expand(name, cfg.profile.name), cfg.runs_dir)
    else:
        try:
            rows, curves = (pd.read_csv(Path(cfg.rows) / file) for file in ("runs.csv", "curves.csv"))
        except FileNotFoundError as error:
            file = Path(error.filename).name
            raise ConfigError(f"rows={cfg.rows} has no {file}; name a folder that a report wrote") from None
        rows = rows[rows["experiment"] == name]
        rows = rows.dropna(axis="columns", how="all") if len(rows) else rows  # columns of other experiments
        curves, missing = curves[curves["run_id"].isin(rows["run_id"])], []
    return Part(experiment, rows, curves, missing, judge(experiment, rows))


def origin(parts: list[Part], profile: str) -> dict:
    """Where the numbers come from: the commits and versions that the rows themselves carry."""
    rows = pd.concat([part.rows for part in parts])
    commits = rows["git"] + rows["dirty"].map({True: " (with uncommitted changes)", False: ""})
    return {
        "command": f"bash scripts/reproduce.sh (profile={profile})",
        "commits": sorted(set(commits)),
        "python": sorted(set(rows["python"].astype(str))),
        "torch": sorted(set(rows["torch"].astype(str))),
        "runs": len(rows),
        "diverged": int((rows["status"] == "diverged").sum()),
        "core_seconds": round(float(rows["wall_seconds"].sum()), 1),
    }


def counts(parts: list[Part]) -> str:
    """How many claims came out how, in a sentence."""
    verdicts = [verdict.verdict for part in parts for verdict in part.verdicts]
    told = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in (REPRODUCED, CONTRADICTED, NOT_RESOLVED))
    return f"Of {len(verdicts)} claims: {told}."


def verdict_table(parts: list[Part]) -> str:
    """The claims and their verdicts, Markdown."""
    lines = [
        [verdict.experiment, verdict.statement, f"**{verdict.verdict}**", verdict.why, verdict.pairs]
        for part in parts
        for verdict in part.verdicts
    ]
    frame = pd.DataFrame(lines, columns=["experiment", "claim", "verdict", "because (paired over seeds, 95 %)", "n"])
    return frame.to_markdown(index=False, tablefmt="github")


def cell_table(part: Part) -> pd.DataFrame:
    """For each cell: learning rate, the deciding metric's median and range, finished and diverged runs, seconds."""
    lines = []
    columns = cell_columns(part.experiment.axes)
    for cell, rows in part.rows.groupby(columns, sort=False):
        keys = dict(zip(columns, cell, strict=True))
        metric = values(part.rows, part.experiment.metric, keys).dropna()
        spread = f"{metric.median():.3f} [{metric.min():.3f}, {metric.max():.3f}]" if len(metric) else "-"
        lines.append(
            {
                **keys,
                "learning rate": f"{rows['lr'].iloc[0]:g}",
                f"{part.experiment.metric}, median [range]": spread,
                "n": len(metric),
                "diverged": int((rows["status"] == "diverged").sum()),
                "seconds of training": f"{rows['seconds'].median():.1f}" if "seconds" in rows else "-",
            }
        )
    return pd.DataFrame(lines)


def time_table(parts: list[Part]) -> str:
    """Experiment, runs, seconds of one core, the slowest run, verdicts; Markdown."""
    lines = []
    for part in parts:
        outcomes = pd.Series([verdict.verdict for verdict in part.verdicts]).value_counts()
        slowest = part.rows.loc[part.rows["wall_seconds"].idxmax()]
        lines.append(
            {
                "experiment": part.experiment.name,
                "runs": len(part.rows),
                "core seconds": round(part.rows["wall_seconds"].sum()),
                "slowest run": f"{slowest['run_id']}, {slowest['wall_seconds']:.0f} s",
                "verdicts": ", ".join(f"{count} {verdict}" for verdict, count in outcomes.items()),
            }
        )
    return pd.DataFrame(lines).to_markdown(index=False, tablefmt="github")


def provenance_line(provenance: dict) -> str:
    total = duration(provenance["core_seconds"])
    return (
        f"{provenance['runs']} runs, {provenance['diverged']} diverged, {total} of one core, torch "
        f"{', '.join(provenance['torch'])}, Python {', '.join(provenance['python'])}; commit "
        f"{', '.join(provenance['commits'])}; made by {provenance['command']}."
    )


def markdown(parts: list[Part], provenance: dict) -> str:
    sections = ["# Verdicts", provenance_line(provenance), counts(parts), verdict_table(parts)]
    for part in (part for part in parts if len(part.rows)):
        sections += [f"## {part.experiment.name}", part.experiment.question]
        sections.append(cell_table(part).to_markdown(index=False, tablefmt="github", disable_numparse=True))
    return "\n\n".join(sections) + "\n"


def inline_svg(path: Path) -> Markup:
    """The drawing without its XML prologue; ids made unique, since all drawings share one page."""
    svg = path.read_text()
    svg = svg[svg.index("<svg") :]
    return Markup(re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{path.stem}-", svg))


def page(parts: list[Part], drawn: dict[str, list[Path]], overview: Path, provenance: dict) -> str:
    """One self-contained page."""
    templates = Environment(loader=FileSystemLoader(ROOT / "experiments"), autoescape=True, trim_blocks=True)
    return templates.get_template("report.html.j2").render(
        parts=parts,
        tables={part.experiment.name: cell_table(part) for part in parts if len(part.rows)},
        drawings={name: [inline_svg(path) for path in paths] for name, paths in drawn.items()},
        overview=inline_svg(overview),
        provenance=provenance_line(provenance),
        counts=counts(parts),
    )


def put_into_readme(table: str) -> None:
    """Replace what stands between the README's markers."""
    readme = ROOT / "README.md"
    start, end = "<!-- verdicts: written by experiments.report -->", "<!-- end of verdicts -->"
    before, _, rest = readme.read_text().partition(start)
    readme.write_text(f"{before}{start}\n\n{table}\n\n{end}{rest.partition(end)[2]}")


def main() -> None:
    command(report, "report")


if __name__ == "__main__":
    main()
