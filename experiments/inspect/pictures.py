"""All pictures that the networks of some runs have: measured, then drawn."""

import sys
from collections.abc import Callable
from typing import TypeVar

import matplotlib
import torch
from matplotlib.figure import Figure

from experiments.inspect import draw, measure
from experiments.inspect.cells import Cells, Look
from experiments.report.style import FIGURE
from experiments.training.gradients import batches as batches_of
from experiments.training.load import UNITS, Trained

T = TypeVar("T")


@matplotlib.rc_context(FIGURE)
def draw_all(cells: Cells) -> dict[str, Figure]:
    """Return the pictures by name. Reports on stderr which runs lack what a picture would need."""
    first = next(iter(cells.values()))[0]
    torch.set_num_threads(first.cfg.threads)
    batches = batches_of(first)  # of the validation split, the same for every run of these data
    caption = caption_of(cells, batches)
    is_recurrent = hasattr(first.model, "recurrent")

    values = "$h_t$" if is_recurrent or first.cfg.model.kind == "strokes" else "the normaliser's output"
    activations = by_cell(cells, lambda runs: measure.pooled_activations(runs, batches))
    pictures = {"activations": draw.activations(activations, values, caption)}
    if is_recurrent and first.model.recurrent.cell in measure.GATE_CHUNKS:
        saturations = by_cell(cells, lambda runs: measure.saturation(runs, batches))
        pictures["gates"] = draw.gates(saturations, caption)
    if is_recurrent and first.cfg.data.get("seq_len") != 1:
        gradients = by_cell(cells, lambda runs: measure.gradients(runs, batches))
        pictures["gradients"] = draw.gradients(gradients, caption)
    summed_inputs = by_cell(cells, measure.mean_summed_inputs)
    if lacking := [look.name for look, rows in summed_inputs.items() if rows.empty]:
        print(
            f"summed_inputs: {'; '.join(lacking)} logged no mean and std; train with trainer.statistics=true, "
            "which makes another run",
            file=sys.stderr,
        )
    if logged := {look: rows for look, rows in summed_inputs.items() if not rows.empty}:
        pictures["summed_inputs"] = draw.summed_inputs(logged, caption_of(cells))
    return pictures


def by_cell(cells: Cells, measured: Callable[[list[Trained]], T]) -> dict[Look, T]:
    return {look: measured(runs) for look, runs in cells.items()}


def caption_of(cells: Cells, batches: list | None = None) -> str:
    """Return the line under a title: network, data, how much of the data, how many runs a cell has."""
    cfg = next(iter(cells.values()))[0].cfg
    parts = [f"{cfg.model.name} on {cfg.data.name}"]
    if batches:
        count = sum(len(x) for x, _ in batches)
        others = {
            "strokes": "trajectories",
            "pairs": "pairs of sentences",
            "cloze": "questions",
            "sentences": "sentences",
        }
        cases = others.get(cfg.data.kind, "images")
        if cfg.data.kind == "text":
            cases = f"windows of {batches[0][0].shape[1]} {UNITS[cfg.data.unit]}s"
        parts.append(f"{count} {cases} of the validation split")
    counts = sorted({len(runs) for runs in cells.values()})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts.append(f"n = {seeds} seed{'s' * (seeds != '1')}")
    return "; ".join(parts)
