"""From the rows to verdicts. Reads the rule (configs/experiment) and the rows, and nothing else.

Intervals need no correction: a claim that needs all of its contrasts is no easier met for having several. A contrast
with a diverged or missing run is not resolved, nor is one of networks that have not learnt (Experiment.floors, chance).
"""

import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.cells import CellReader
from experiments.judging.claims import check_claims, kinds_of
from experiments.judging.claims.base import Kind
from experiments.judging.verdict import Verdict, combined, reason


def judge(experiment: Experiment, rows: pd.DataFrame, curves: pd.DataFrame) -> list[Verdict]:
    """Return the verdicts on an experiment's claims. Raises ConfigError for a rule that cannot be judged.

    rows, curves: the final runs of the experiment and of its sources, and their evaluations (experiments.runs.rows).
    """
    check_claims(experiment)
    return [_judge(kind, rows, curves) for kind in kinds_of(experiment).values()]


def _judge(kind: Kind, rows: pd.DataFrame, curves: pd.DataFrame) -> Verdict:
    claim, experiment = kind.claim, kind.experiment
    outcomes = kind.judge(CellReader(rows, curves, experiment, kind.metric))
    return Verdict(
        experiment=experiment.name,
        claim=claim.id,
        statement=claim.statement,
        stated=claim.stated,
        identity=kind.is_identity,
        kind=claim.kind,
        claimed=claim.claimed,
        metric=kind.decided_by(),
        unit=kind.unit,
        margin=claim.margin,
        margin_from=claim.margin_from,
        verdict=combined(outcomes),
        why=reason(outcomes, kind.unit),
        outcomes=outcomes,
    )
