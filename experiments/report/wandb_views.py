"""The views of a Weights & Biases workspace: one for each experiment, with a section for each claim.

Needs the extra `dashboard` (wandb-workspaces).
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
import yaml
from omegaconf import OmegaConf
from wandb_workspaces import expr

from experiments.config.errors import ConfigError, first_line
from experiments.config.experiment import Claim, Experiment
from experiments.config.schema import settings
from experiments.judging.claims import kinds_of
from experiments.judging.claims.base import Kind
from experiments.report.charts.curves import AXES
from experiments.report.style import OTHER, STYLE
from experiments.report.tables import stated_by
from experiments.runs.folder import write_atomically
from experiments.runs.wandb_mirror import PATIENCE, labels, set_up_wandb
from experiments.sweeps.grid import base, expand

PROBES = {  # title: metrics of runs with trainer.statistics=true, one for each layer
    "norm of each parameter's gradient": "^grad/.*",
    "mean of the summed inputs": "^in/.*/mean$",
    "std of the summed inputs": "^in/.*/std$",
    "mean after the normaliser": "^out/.*/mean$",
    "std after the normaliser": "^out/.*/std$",
}


def view(name: str, profile: str, project: str, entity: str) -> ws.Workspace:
    """Return the view of an experiment, or of the experiments whose runs it judges."""
    experiment: Experiment = settings(base(name, profile).experiment)
    groups = list(experiment.sources) or [name]
    runs = [run for group in groups for run in expand(group, profile, [f"seed={experiment.final_seeds[0]}"])]
    cells = [labels(cast(dict, OmegaConf.to_container(run))) for run in runs]
    deciding = list(dict.fromkeys(metric for kind in kinds_of(experiment).values() for metric in kind.logged_metrics()))
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{name} ({profile})",
        sections=sections(experiment, deciding),
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=len(cells)),
        runset_settings=ws.RunsetSettings(
            filters=[
                expr.Metric("Group").isin(groups),
                expr.Metric("JobType") == "final",
                expr.Tags().isin([f"profile:{profile}"]),
            ],
            groupby=[expr.Config("cell.place"), expr.Config("cell.norm")],
            group_colors={
                ws.GroupPath(cell["place"], cell["norm"]): STYLE.get(cell["norm"], OTHER)[0] for cell in cells
            },
            pinned_columns=["run:state", *(f"summary:{metric}" for metric in (*deciding, "diverged"))],
        ),
    )


def sections(experiment: Experiment, deciding: list[str]) -> list[ws.Section]:
    """Return a section for each claim, then the learning curves, the diverged runs and the probes."""
    return [
        *(section(name, [rule(kind.claim), *claim_panels(kind)]) for name, kind in kinds_of(experiment).items()),
        section("learning curves", [curve(metric, axis) for metric in curve_metrics(deciding) for axis in AXES]),
        section("diverged runs", [bars("diverged", "runs that diverged", groupby_aggfunc="sum")]),
        section("gradients and summed inputs", [probe(title, regex) for title, regex in PROBES.items()]),
    ]


# --- metrics ----------------------------------------------------------------------------------------------------------


def curve_metrics(deciding: list[str]) -> list[str]:
    """Return the metrics that have curves: the deciding ones, on the validation split, and the losses."""
    of_validation = [metric.replace("test/", "val/") for metric in deciding if metric.startswith("test/")]
    return list(dict.fromkeys([*of_validation, "val/loss", "train/loss"]))


# --- sections and panels ----------------------------------------------------------------------------------------------


def section(name: str, panels: list) -> ws.Section:
    return ws.Section(name=name, panels=panels, is_open=True)


def claim_panels(kind: Kind) -> list:
    """Return a panel for each metric that decides a claim; the validation loss by step if none is logged."""
    return [bars(metric, metric) for metric in kind.logged_metrics()] or [curve("val/loss", "step")]


def rule(claim: Claim) -> wr.MarkdownPanel:
    """Return the claim, and its rule as it was committed: the fields that differ from their defaults."""
    apart = ("id", "statement", "stated")
    defaults = asdict(Claim())
    fields = {key: value for key, value in asdict(claim).items() if value != defaults[key] and key not in apart}
    text = yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=60)
    return wr.MarkdownPanel(markdown=f"**{claim.statement}**\n\n{stated_by(claim.stated)}\n\n```yaml\n{text}```")


def curve(metric: str, axis: str) -> wr.LinePlot:
    """Return a panel with a line for each cell: median over the seeds, shaded from lowest to highest."""
    titles: dict[str, Any] = {"title": f"{metric} by {AXES[axis]}", "title_x": AXES[axis], "title_y": metric}
    return wr.LinePlot(x=axis, y=[metric], groupby_aggfunc="median", groupby_rangefunc="minmax", **titles)


def bars(metric: str, title: str, groupby_aggfunc: Literal["median", "sum"] = "median") -> wr.BarPlot:
    return wr.BarPlot(metrics=[metric], title=title, groupby_aggfunc=groupby_aggfunc, groupby_rangefunc="minmax")


def probe(title: str, regex: str) -> wr.LinePlot:
    titles: dict[str, Any] = {"title": title, "title_x": AXES["step"]}
    return wr.LinePlot(x="step", metric_regex=regex, groupby_aggfunc="median", groupby_rangefunc="minmax", **titles)


# --- where views go ---------------------------------------------------------------------------------------------------


def write(views: list[ws.Workspace], path: Path) -> None:
    """Write the specifications of the views into a file, by name."""
    specs = {view.name: view._to_model().spec.model_dump(by_alias=True, exclude_none=True) for view in views}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(json.dumps(specs, indent=1).encode()))


def default_entity() -> str:
    """Return the account of the key on this machine. Raises ConfigError without a key, or without a server."""
    try:
        return set_up_wandb("online").Api(timeout=PATIENCE).default_entity
    except Exception as error:
        raise ConfigError(f"{first_line(error)}; output=views.json needs neither key nor server") from None


def save(view: ws.Workspace) -> str:
    """Create the view on the server, or replace the one of that name; return its address."""
    short_name = "".join(filter(str.isalnum, view.name))
    address = f"https://wandb.ai/{view.entity}/{view.project}?nw={short_name}"  # of any host: only names are read
    try:
        saved = ws.Workspace.from_url(address)
    except ValueError:  # there is no such view, and perhaps no such project
        set_up_wandb("online").Api(timeout=PATIENCE).create_project(view.project, view.entity)
        view._internal_name = f"nw-{short_name}-v"
        return view.save().url
    saved.sections = view.sections
    saved.settings = view.settings
    saved.runset_settings = view.runset_settings
    return saved.save().url
