"""The pictures. Each takes measurements by `Look`, the line of a cell, and returns a matplotlib figure."""

import math
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from experiments.inspect.cells import Look
from experiments.inspect.measure import Saturation
from experiments.report.style import FIGURE
from experiments.runs.folder import write_atomically

INK = "#444444"
MAX_LAYERS = 4  # that a figure has room for
LOCATIONS = {  # of a normaliser in a recurrent layer
    "norm_ih": "$W_x x_t$",
    "norm_hh": "$W_h h_{t-1}$",
    "norm_sum": "$W_x x_t + W_h h_{t-1}$",
    "norm_cell": "$c_t$",
    "norm_out": "$h_t$",
}


# --- figures ----------------------------------------------------------------------------------------------------------


@matplotlib.rc_context(FIGURE)
def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.svg and stem.png, on white; return their paths."""
    paths = []
    for kind, metadata in (
        ("svg", {"Date": None}),
        ("png", {}),
    ):  # without the date, the same numbers give the same bytes
        path = stem.with_suffix(f".{kind}")
        options: dict[str, Any] = {"format": kind, "dpi": 150, "metadata": metadata}
        write_atomically(path, lambda file, options=options: figure.savefig(file, **options))
        paths.append(path)
    return paths


def panels(rows: int, columns: int, size: tuple[float, float], title: str, caption: str, **options):
    """Return a figure and its axes, under a title and a line that says what is drawn. size: of a panel, inches."""
    width = max(columns * size[0], 6.0)
    figure = Figure(figsize=(width, rows * size[1] + 1.1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    lines = textwrap.wrap(caption, int(16 * width))
    figure.suptitle(title + "\n" * len(lines), x=0.01, ha="left", fontsize=11, linespacing=1.4)  # room for the caption
    below = figure.transFigure + ScaledTranslation(0, -0.28, figure.dpi_scale_trans)  # inches under the top
    figure.text(0.01, 1, "\n".join(lines), ha="left", va="top", fontsize=8, color=INK, transform=below)
    return figure, axes


def legend(figure: Figure, looks, *more: Line2D | Patch) -> None:
    """Add a legend of the cells below the panels, in as many columns as fit; its further rows enlarge the figure."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5, label=look.name)
        for look in looks
    ]
    handles += more
    # A letter of this size is about 0.062 inches wide, a line's sign with the gaps 0.65, and a row 0.18 high.
    widest = max(len(str(handle.get_label())) for handle in handles) * 0.062 + 0.65
    columns = max(1, min(len(handles), 6, int(figure.get_figwidth() / widest)))
    further = math.ceil(len(handles) / columns) - 2  # rows that the panels have left no room for
    figure.set_figheight(figure.get_figheight() + 0.18 * max(further, 0))
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, fontsize=8, handlelength=3)


def evenly(names: list[str], most: int = MAX_LAYERS) -> list[str]:
    """Return at most so many of the names, evenly spread, with the first and the last."""
    if len(names) <= most:
        return names
    return [names[round(k * (len(names) - 1) / (most - 1))] for k in range(most)]


def omission(shown: list[str], names: list[str]) -> str:
    """Return what a caption adds if layers are left out."""
    return "" if len(shown) == len(names) else f"; {len(shown)} of {len(names)} layers"


# --- the pictures -----------------------------------------------------------------------------------------------------


def activations(values: dict[Look, dict[str, np.ndarray]], label: str, caption: str) -> Figure:
    """Draw histograms of each layer's values. label: of the values, along x."""
    layers = list(next(iter(values.values())))
    shown = evenly(layers)
    figure, axes = panels(1, len(shown), (2.6, 2.3), "Activations after training", caption + omission(shown, layers))
    for axis, layer in zip(axes[0], shown, strict=True):
        # All but a hundredth at each end, which would make the rest a spike.
        low, high = np.quantile(np.concatenate([by_layer[layer] for by_layer in values.values()]), (0.01, 0.99))
        edges = np.linspace(low, high, 51)
        centres = (edges[1:] + edges[:-1]) / 2
        for look, by_layer in values.items():
            of_layer = by_layer[layer]
            density = np.histogram(of_layer, edges)[0] / (len(of_layer) * np.diff(edges))
            axis.plot(centres, density, linestyle=look.dash, drawstyle="steps-mid", **look.line(len(centres)))
        axis.set_title(layer, fontsize=9)
        axis.set_xlabel(label)
        axis.set_ylim(bottom=0)
    axes[0][0].set_ylabel("density")
    legend(figure, values)
    return figure


def gates(saturations: dict[Look, list[dict[str, Saturation]]], caption: str) -> Figure:
    """Draw each unit of each gate, and the course over time, for the first layer and the last."""
    layers = next(iter(saturations.values()))
    shown = sorted({0, len(layers) - 1})
    names = list(layers[0])
    title = "Saturation of the gates after training"
    figure, axes = panels(2 * len(shown), len(names), (2.7, 2.2), title, caption, sharey="row", sharex="row")
    for k, layer in enumerate(shown):
        units, steps = axes[2 * k], axes[2 * k + 1]
        for gate, by_unit, by_step in zip(names, units, steps, strict=True):
            of_gate = {look: by_layer[layer][gate] for look, by_layer in saturations.items()}
            saturation_by_unit(by_unit, of_gate)
            saturation_by_step(by_step, of_gate)
            by_unit.set_title(f"{gate} gate" + (f", layer {layer + 1}" if len(layers) > 1 else ""), fontsize=9)
        units[0].set_ylabel("share below 0.1\n(a point a unit)")
        steps[0].set_ylabel("share of units")
    key: dict[str, Any] = {"color": INK, "marker": "o", "markersize": 5}
    over = Line2D([], [], **key, label="above 0.9")
    under = Line2D([], [], **key, linestyle="--", markerfacecolor="white", label="below 0.1")
    legend(figure, saturations, over, under)
    return figure


def saturation_by_unit(axis, saturations: dict[Look, Saturation]) -> None:
    axis.plot([0, 1], [1, 0], color=INK, linewidth=0.6)
    for look, saturation in saturations.items():
        points = {"s": 14, "alpha": 0.55, "linewidths": 0, "color": look.colour, "marker": look.marker}
        axis.scatter(saturation.open_by_unit, saturation.closed_by_unit, **points)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="share above 0.9")


def saturation_by_step(axis, saturations: dict[Look, Saturation]) -> None:
    for look, saturation in saturations.items():
        t = np.arange(1, len(saturation.open_by_step) + 1)
        line = look.line(len(t))
        axis.plot(t, saturation.open_by_step, **line)
        axis.plot(t, saturation.closed_by_step, **line, linestyle="--", markerfacecolor="white")
    axis.set(xlabel="time step $t$", ylim=(-0.03, 1.03))


def gradients(norms: dict[Look, dict[str, dict[str, list[float]]]], caption: str) -> Figure:
    """Draw the norm of the last step's gradient at every step before it; a row at the start, one after training."""
    moments = list(next(iter(norms.values())))
    states = list(next(iter(norms.values()))[moments[0]])
    caption += "; norm of a case, mean over cases"
    figure, axes = panels(
        len(moments), len(states), (3.4, 1.9), "Gradients through time", caption, sharex=True, sharey=True
    )
    for row, moment in zip(axes, moments, strict=True):
        for axis, state in zip(row, states, strict=True):
            for look, by_moment in norms.items():
                by_step = by_moment[moment][state]
                t = np.arange(1, len(by_step) + 1)
                axis.plot(t, by_step, linestyle=look.dash, **look.line(len(t)))
            axis.set_yscale("log")
            axis.set_title(f"{moment}: state ${state}_t$", fontsize=9)
        row[0].set_ylabel(r"$\|\partial\,\mathrm{loss}_T / \partial\,\mathrm{state}_t\|$")
    for axis in axes[-1]:
        axis.set_xlabel("time step $t$")
    legend(figure, norms)
    return figure


def summed_inputs(logged: dict[Look, pd.DataFrame], caption: str) -> Figure:
    """Draw mean and std over training: a column for each cell, a row for each location, with the same axes in a row."""
    locations = normalised_locations(logged)
    shown = evenly(locations)
    title = "Mean and std of the summed inputs over training"
    caption += omission(shown, locations)
    figure, axes = panels(len(shown), len(logged), (2.1, 1.6), title, caption, sharex=True, sharey="row")
    for row, location in zip(axes, shown, strict=True):
        for axis, (look, rows) in zip(row, logged.items(), strict=True):
            mean_and_std(axis, look, rows[rows["location"] == location])
        row[0].set_ylabel(location_in_words(location), fontsize=8)
    for axis, look in zip(axes[0], logged, strict=True):
        axis.set_title(look.name.replace(", ", "\n"), fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    band = Patch(color=INK, alpha=0.25, label="mean ± std after the normaliser")
    before = Line2D([], [], color=INK, linestyle=":", label="mean ± std before the normaliser")
    figure.legend(handles=[band, before], loc="outside lower left", ncols=2, fontsize=8)
    return figure


def mean_and_std(axis, look: Look, rows: pd.DataFrame) -> None:
    """Draw the mean in a band of one std after the normaliser, and the edges of that band before it."""
    step, mean, std = rows["step"], rows["after/mean"], rows["after/std"]
    axis.fill_between(step, mean - std, mean + std, color=look.colour, alpha=0.25, linewidth=0)
    axis.plot(step, mean, **look.line(len(step)))
    if rows["normalised"].any():
        for sign in (-1, 1):
            edge = rows["before/mean"] + sign * rows["before/std"]
            axis.plot(step, edge, color=INK, linestyle=":", linewidth=1)


def normalised_locations(logged: dict[Look, pd.DataFrame]) -> list[str]:
    """Return where any of the cells normalises, in the network's order; all locations if none does."""
    rows = pd.concat(logged.values())
    chosen = rows[rows["normalised"]] if rows["normalised"].any() else rows
    return list(dict.fromkeys(chosen["location"]))


def location_in_words(location: str) -> str:
    """Return the label of a location: recurrent.norm_ih_l0 -> W_x x_t, layer 1; convs.0.1 -> convs.0."""
    role, _, layer = location.removeprefix("recurrent.").rpartition("_l")
    return f"{LOCATIONS[role]}, layer {int(layer) + 1}" if role in LOCATIONS else location.removesuffix(".1")
