"""The matrix on top of the page: networks by normalisers, each gain over no normalisation with its interval."""

from dataclasses import dataclass

import pandas as pd

from experiments.judging.cells import CellReader
from experiments.judging.evidence import ExperimentResult
from experiments.judging.intervals import Interval
from experiments.judging.numbers import ends, signed
from experiments.report.charts.gains import compares_with_none, gain, margin_of, reader_of
from experiments.report.charts.layout import Layout
from experiments.report.names import in_words
from experiments.report.style import norms_of

BETTER, WORSE, SAME, OPEN, UNFIT = "better", "worse", "same", "open", "unfit"


@dataclass(frozen=True)
class Gain:
    """One normaliser's paired difference to none in one network. name: the variant, where a normaliser has several."""

    name: str
    mean: str
    interval: str
    what: str  # better, worse, same, open, unfit
    why: str


@dataclass(frozen=True)
class Row:
    network: str
    unit: str
    experiment: str
    gains: dict[str, list[Gain]]  # by normaliser; none for one that was not run


def matrix(results: list[ExperimentResult]) -> tuple[list[str], list[Row]]:
    """Return the normalisers, in their order, and a row for each network and regime of the experiments."""
    rows = [row for result in results if compares_with_none(result) for row in _rows(result)]
    return norms_of(norm for row in rows for norm in row.gains), rows


def _rows(result: ExperimentResult) -> list[Row]:
    experiment, layout = result.experiment, Layout.of(result.rows, result.experiment)
    reader, unit = reader_of(result.rows, experiment)
    rows = []
    for network, runs in layout.split(result.rows):
        none = runs[runs["norm"] == "none"]
        gains: dict[str, list[Gain]] = {}
        for norm, name, of_norm in layout.series(runs):
            if norm != "none" and len(none):
                gains.setdefault(norm, []).append(_gain(in_words(name), of_norm, none, reader, result, unit))
        rows.append(Row(network, unit, experiment.name, gains))
    return rows


def _gain(
    name: str, of_norm: pd.DataFrame, of_none: pd.DataFrame, reader: CellReader, result: ExperimentResult, unit: str
) -> Gain:
    _, interval, unfit = gain(reader, of_norm, of_none)
    if interval is None:
        return Gain(name, "", "", UNFIT, unfit)
    numbers = signed(interval.estimate, unit), ends(interval, unit)
    if unfit:
        return Gain(name, *numbers, UNFIT, unfit)
    return Gain(name, *numbers, *meaning(interval, margin_of(result.experiment, reader.metric)))


def meaning(interval: Interval, margin: float) -> tuple[str, str]:
    if -margin < interval.low and interval.high < margin:
        return SAME, f"a difference of {margin:g} is ruled out"
    if interval.high < 0 and interval.estimate <= -margin:
        return BETTER, "better than no normalisation"
    if interval.low > 0 and interval.estimate >= margin:
        return WORSE, "worse than no normalisation"
    return OPEN, "neither a difference nor its absence is shown"
