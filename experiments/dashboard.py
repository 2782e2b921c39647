"""The Weights & Biases workspace as code: a saved view for every experiment of a profile.

python -m experiments.dashboard project=layer-normalization            create the views, or bring them up to date
python -m experiments.dashboard output=views.json                      their specification in a file, without an account

All panels of a view share one choice of runs, so each experiment has a view of its own: its final runs, those of a cell
together (median over the seeds, shaded from lowest to highest), in the report's colours. A section for each claim has
its rule and the metric that decides it; learning curves by step, by examples and by seconds follow, then what diverged,
and gradients and summed inputs of runs with trainer.statistics=true. Needs the extra `dashboard`.
"""

import json
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError, first_line
from experiments.config.experiment import Claim, Experiment
from experiments.config.paths import CONFIGS
from experiments.config.schema import settings
from experiments.judging.claims import kind_of
from experiments.report.style import OTHER, STYLE
from experiments.runs.folder import write_atomically
from experiments.runs.wandb_mirror import PATIENCE, labels, ready
from experiments.sweeps.grid import base, expand

try:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr
except ImportError:
    sys.exit("the dashboard needs its extra: pip install -c constraints.txt 'wandb-workspaces>=0.4,<0.5'")

AXES = {"step": "step", "examples": "examples seen", "seconds": "seconds of training"}
PROBES = {  # of runs with trainer.statistics=true; a metric for every layer
    "norm of each parameter's gradient": "^grad/.*",
    "mean of the summed inputs": "^in/.*/mean$",
    "deviation of the summed inputs": "^in/.*/std$",
    "mean after the normaliser": "^out/.*/mean$",
    "deviation after the normaliser": "^out/.*/std$",
}


@dataclass
class Dashboard:
    profile: Any = MISSING  # whose experiments get a section each
    project: str = "layer-normalization"  # that the workspace is of
    entity: str | None = None  # null: the account of the key on this machine
    output: str | None = None  # a file for the specification, in place of a server


ConfigStore.instance().store(name="dashboard_schema", node=Dashboard)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="dashboard")
def dashboard(cfg: DictConfig) -> None:
    random.seed(0)  # panels' ids are drawn at random; the same views are to be the same file
    with refusals_in_one_line("dashboard"):
        entity = cfg.entity or ("" if cfg.output else account())
        views = [view(name, cfg.profile.name, cfg.project, entity) for name in cfg.profile.experiments]
    if cfg.output:
        specs = {made.name: made._to_model().spec.model_dump(by_alias=True, exclude_none=True) for made in views}
        write_atomically(Path(cfg.output), lambda file: file.write(json.dumps(specs, indent=1).encode()))
        print(f"{len(views)} views: {cfg.output}")
        return
    for made in views:
        try:
            print(f"{made.name}: {save(made)}")
        except Exception as error:
            sys.exit(f"{made.name} is not saved: {first_line(error)}")


def account() -> str:
    """Whose key is on this machine. Raises ConfigError without one, or without a server."""
    try:
        return ready("online").Api(timeout=PATIENCE).default_entity
    except Exception as error:
        raise ConfigError(f"{first_line(error)}; output=views.json needs neither key nor server") from None


def view(name: str, profile: str, project: str, entity: str) -> ws.Workspace:
    """The view of an experiment, or of those whose runs it judges."""
    experiment: Experiment = settings(base(name, profile).experiment)
    groups = list(experiment.sources) or [name]
    runs = [run for group in groups for run in expand(group, profile, [f"seed={experiment.final_seeds[0]}"])]
    cells = [labels(cast(dict, OmegaConf.to_container(run))) for run in runs]
    deciding = list(
        dict.fromkeys(metric for claim in experiment.claims for metric in kind_of(claim, experiment).logged_metrics())
    )
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{name} ({profile})",
        sections=[
            *(section(claim.id, rule(claim), *decided(claim, experiment)) for claim in experiment.claims),
            section("learning curves", *(curve(metric, axis) for metric in learning(deciding) for axis in AXES)),
            section("diverged runs", bars("diverged", "runs that diverged", groupby_aggfunc="sum")),
            section("gradients and summed inputs", *(probe(title, regex) for title, regex in PROBES.items())),
        ],
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


# --- sections and panels ----------------------------------------------------------------------------------------------


def section(name: str, *panels) -> ws.Section:
    return ws.Section(name=name, panels=list(panels), is_open=True)


def rule(claim: Claim) -> wr.MarkdownPanel:
    """The claim, and its rule as it was committed."""
    spoken, bare = ("id", "statement", "stated"), asdict(Claim())
    told = {key: value for key, value in asdict(claim).items() if value != bare[key] and key not in spoken}
    text = yaml.safe_dump(told, sort_keys=False, default_flow_style=None, width=60)
    return wr.MarkdownPanel(markdown=f"**{claim.statement}**\n\nStated: {claim.stated}.\n\n```yaml\n{text}```")


def decided(claim: Claim, experiment: Experiment) -> list:
    found = kind_of(claim, experiment).logged_metrics()
    return [bars(metric, metric) for metric in found] or [curve("val/loss", "step")]


def learning(deciding: list[str]) -> list[str]:
    """The metrics that have curves: those that decide, on the validation split, and the losses."""
    twins = [metric.replace("test/", "val/") for metric in deciding if metric.startswith("test/")]
    return list(dict.fromkeys([*twins, "val/loss", "train/loss"]))


def curve(metric: str, axis: str) -> wr.LinePlot:
    """A line for a cell: median over the seeds, shaded from lowest to highest."""
    shown: dict[str, Any] = {"title": f"{metric} by {AXES[axis]}", "title_x": AXES[axis], "title_y": metric}
    return wr.LinePlot(x=axis, y=[metric], groupby_aggfunc="median", groupby_rangefunc="minmax", **shown)


def bars(metric: str, title: str, groupby_aggfunc: Literal["median", "sum"] = "median") -> wr.BarPlot:
    return wr.BarPlot(metrics=[metric], title=title, groupby_aggfunc=groupby_aggfunc, groupby_rangefunc="minmax")


def probe(title: str, regex: str) -> wr.LinePlot:
    shown: dict[str, Any] = {"title": title, "title_x": AXES["step"]}
    return wr.LinePlot(x="step", metric_regex=regex, groupby_aggfunc="median", groupby_rangefunc="minmax", **shown)


# --- on a server ------------------------------------------------------------------------------------------------------


def save(made: ws.Workspace) -> str:
    """Create the view, or replace the one of that name; returns its address."""
    short = "".join(filter(str.isalnum, made.name))
    try:
        known = ws.Workspace.from_url(f"https://wandb.ai/{made.entity}/{made.project}?nw={short}")  # any host will do
        known.sections, known.settings, known.runset_settings = made.sections, made.settings, made.runset_settings
    except ValueError:  # there is none yet, nor perhaps a project
        ready("online").Api(timeout=PATIENCE).create_project(made.project, made.entity)
        made._internal_name, known = f"nw-{short}-v", made
    return known.save().url


def main() -> None:
    command(dashboard, "dashboard")


if __name__ == "__main__":
    main()
