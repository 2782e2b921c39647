"""The kinds of claims: a file each with everything that depends on the kind. Another is another file and a line here.

A claim has one or several contrasts and is about all of them. The metric is one where lower is better; differences are
paired over seeds, which share initial weights and the order of the data.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.config.errors import ConfigError, nearest, unknown_word
from experiments.config.experiment import Claim, Experiment
from experiments.judging.claims.base import UNITS_OF, Kind, check_metric, matching, written
from experiments.judging.claims.difference import Difference
from experiments.judging.claims.exact import Exact
from experiments.judging.claims.interaction import Interaction
from experiments.judging.claims.reversal import Reversal
from experiments.judging.claims.sensitivity import Sensitivity
from experiments.judging.claims.share import Share
from experiments.judging.claims.speed import Speed

KINDS: dict[str, type[Kind]] = {
    kind.name: kind for kind in (Difference, Interaction, Speed, Sensitivity, Reversal, Share, Exact)
}


def kind_of(claim: Claim, experiment: Experiment) -> Kind:
    """Return the claim as its kind. Raises ConfigError for a kind that does not exist."""
    if claim.kind not in KINDS:
        raise ConfigError(f"claim {claim.id}: {unknown_word('kind', claim.kind, KINDS)}")
    return KINDS[claim.kind](claim, experiment)


def kinds_of(experiment: Experiment) -> dict[str, Kind]:
    """Return an experiment's claims as their kinds, by the claim's id, without those that its profile leaves out."""
    judged = [claim for claim in experiment.claims if claim.id not in experiment.without]
    return {claim.id: kind_of(claim, experiment) for claim in judged}


def check_cells(experiment: Experiment, runs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse claims, floors and measurements about cells that the grid has not, or not once a seed. Raises ConfigError.

    runs: the columns of every run of the grid, or of those of the experiment's sources, with seed and experiment.
    """
    for kind in kinds_of(experiment).values():
        kind.check_cells(runs)
    for floor in experiment.floors:
        if len(matching(floor.cell, runs)) != len(experiment.final_seeds):
            raise ConfigError(
                f"floor {written(floor.cell)}: {len(matching(floor.cell, runs))} runs have it in place of "
                f"{len(experiment.final_seeds)}; name one cell of the grid"
            )
    for cell in experiment.gradients:
        if not matching(cell, runs):
            raise ConfigError(f"gradients {written(cell)}: no run has it; name cells of the grid")


def check_logged(experiment: Experiment, stage: str, kinds_of_data: Iterable[str]) -> None:
    """Refuse a metric that no run of the grid logs. Raises ConfigError.

    stage: tune, where one metric chooses the learning rate, or final. kinds_of_data: keys of UNITS_OF.
    """
    if experiment.sources:  # it judges the runs of others
        return
    units = {unit for kind in kinds_of_data for unit in UNITS_OF[kind]}
    named = [
        (f"claim {kind.claim.id}", metric) for kind in kinds_of(experiment).values() for metric in kind.logged_metrics()
    ]
    if stage == "tune":
        named = [("tuning", experiment.tune_metric or experiment.metric)]
    for what, metric in named:
        split, _, unit = metric.partition("/")
        if split in ("test", "val", "train") and unit not in units:
            given = f"{what}: no run of this grid logs {metric}"
            raise ConfigError(f"{given}; allowed: {', '.join(f'{split}/{unit}' for unit in sorted(units))}")


def check_claims(experiment: Experiment) -> None:
    """Refuse rules that could not be judged, before their runs. Raises ConfigError."""
    if experiment.seeds < 1:
        raise ConfigError(f"experiment.seeds={experiment.seeds} leaves no run to judge; give 5 or more")
    if shared := sorted(set(experiment.final_seeds) & set(experiment.tune_seeds)):
        raise ConfigError(
            f"experiment.final_seeds holds seeds that choose the learning rates ({', '.join(map(str, shared))}); "
            f"give profile.first_seed={max(experiment.tune_seeds) + 1} or more"
        )
    ids = [claim.id for claim in experiment.claims]
    for twice in {name for name in ids if ids.count(name) > 1}:
        raise ConfigError(f"claim {twice} stands twice among experiment.claims; give each an id of its own")
    for unknown in (name for name in experiment.without if name not in ids):
        raise ConfigError(
            f"experiment.without={unknown} is no claim; allowed: {', '.join(ids)}; nearest: {nearest(unknown, ids)}"
        )
    if experiment.claims:
        check_metric("experiment.metric", experiment.metric)
    for floor in experiment.floors:
        check_metric(f"floor {written(floor.cell)}: metric", floor.metric or experiment.metric)
    if experiment.tune_metric:
        check_metric("experiment.tune_metric", experiment.tune_metric)
    for kind in kinds_of(experiment).values():
        kind.check()
