"""The pictures. Each takes what was measured by `Look`, the line of a cell, and gives a matplotlib figure."""

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from experiments.report.style import FIGURE, OTHER, STYLE
from experiments.runs.folder import write_atomically

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

plt.rcParams.update(FIGURE)

INK = "#444444"
LAYERS = 4  # that a figure has room for
DASHES = ("-", "--", ":", "-.")
FURTHER = ("<", ">", "p", "h")  # markers of the second cell of a normaliser, and of the next
PLACES = {  # of a normaliser in a recurrent layer
    "norm_ih": "$W_x x_t$",
    "norm_hh": "$W_h h_{t-1}$",
    "norm_sum": "$W_x x_t + W_h h_{t-1}$",
    "norm_cell": "$c_t$",
    "norm_out": "$h_t$",
}


@dataclass(frozen=True)
class Look:
    """How a cell is drawn, and what it is called in legends."""

    name: str
    colour: str
    marker: str
    dash: str

    @staticmethod
    def of(norm: str, name: str, place: int) -> "Look":
        """place: 0 for the first cell of a normaliser, which has the colour and marker of every figure."""
        colour, marker = STYLE.get(norm, OTHER)
        place = place % len(DASHES)
        return Look(name, colour, FURTHER[place - 1] if place else marker, DASHES[place])

    def line(self, points: int) -> dict:
        """matplotlib's arguments for a line of so many points, of which ten have a marker."""
        every = max(points // 10, 1)
        return {"color": self.colour, "marker": self.marker, "markersize": 4, "markevery": every, "linewidth": 1.3}


def save(figure: Figure, stem: Path) -> list[Path]:
    """stem.svg and stem.png, on white."""
    paths = [stem.with_suffix(f".{kind}") for kind in ("svg", "png")]
    for path in paths:
        kind = path.suffix[1:]
        metadata = {"Date": None} if kind == "svg" else {}
        write_atomically(path, lambda file, k=kind, m=metadata: figure.savefig(file, format=k, dpi=150, metadata=m))
    plt.close(figure)
    return paths


def evenly(names: list[str], most: int = LAYERS) -> list[str]:
    """At most so many of the names, evenly spread, first and last among them."""
    if len(names) <= most:
        return names
    return [names[round(k * (len(names) - 1) / (most - 1))] for k in range(most)]


def of_all(shown: list[str], names: list[str]) -> str:
    """What a caption says of layers that are left out."""
    return "" if len(shown) == len(names) else f"; {len(shown)} of {len(names)} layers"


def panels(rows: int, columns: int, size: tuple[float, float], title: str, caption: str, **options):
    """A figure under its title and a line that says what is drawn. size: of a panel, inches."""
    width = max(columns * size[0], 6.0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, rows * size[1] + 1.1), squeeze=False, layout="constrained", **options
    )
    lines = textwrap.wrap(caption, int(16 * width))
    figure.suptitle(title + "\n" * len(lines), x=0.01, ha="left", fontsize=11, linespacing=1.4)  # room for the caption
    below = figure.transFigure + ScaledTranslation(0, -0.28, figure.dpi_scale_trans)  # inches under the top
    figure.text(0.01, 1, "\n".join(lines), ha="left", va="top", fontsize=8, color=INK, transform=below)
    return figure, axes


def legend(figure: Figure, looks, *more: Line2D | Patch) -> None:
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


# --- the pictures -----------------------------------------------------------------------------------------------------


def activations(found: dict[Look, dict[str, np.ndarray]], what: str, caption: str) -> Figure:
    """Histograms of each layer's values. what: is drawn along x."""
    layers = list(next(iter(found.values())))
    shown = evenly(layers)
    figure, axes = panels(1, len(shown), (2.6, 2.3), "Activations after training", caption + of_all(shown, layers))
    for axis, layer in zip(axes[0], shown, strict=True):
        # All but a hundredth at each end, which would make the rest a spike.
        low, high = np.quantile(np.concatenate([by_layer[layer] for by_layer in found.values()]), (0.01, 0.99))
        edges = np.linspace(low, high, 51)
        for look, by_layer in found.items():
            values = by_layer[layer]
            density = np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
            centres = (edges[1:] + edges[:-1]) / 2
            axis.plot(centres, density, linestyle=look.dash, drawstyle="steps-mid", **look.line(len(centres)))
        axis.set_title(layer, fontsize=9)
        axis.set_xlabel(what)
        axis.set_ylim(bottom=0)
    axes[0][0].set_ylabel("density")
    legend(figure, found)
    return figure


@dataclass(frozen=True)
class Saturation:
    """Shares of a gate's values: below 0.1 ("closed") and above 0.9 ("open"), by unit (H,) and by time step (T,)."""

    closed_by_unit: np.ndarray
    open_by_unit: np.ndarray
    closed_by_step: np.ndarray
    open_by_step: np.ndarray


def gates(found: dict[Look, list[dict[str, Saturation]]], caption: str) -> Figure:
    """For the first layer, and the last where there are several: each unit of each gate, and the course over time."""
    layers = next(iter(found.values()))
    shown = sorted({0, len(layers) - 1})
    names = list(layers[0])
    figure, axes = panels(
        2 * len(shown),
        len(names),
        (2.7, 2.2),
        "Saturation of the gates after training",
        caption,
        sharey="row",
        sharex="row",
    )
    for k, layer in enumerate(shown):
        units, steps = axes[2 * k], axes[2 * k + 1]
        for gate, by_unit, by_step in zip(names, units, steps, strict=True):
            by_unit.plot([0, 1], [1, 0], color=INK, linewidth=0.6)
            for look, by_layer in found.items():
                s = by_layer[layer][gate]
                marks = {"s": 14, "alpha": 0.55, "linewidths": 0, "color": look.colour, "marker": look.marker}
                by_unit.scatter(s.open_by_unit, s.closed_by_unit, **marks)
                t = np.arange(1, len(s.open_by_step) + 1)
                line = look.line(len(t))
                by_step.plot(t, s.open_by_step, **line)
                by_step.plot(t, s.closed_by_step, **line, linestyle="--", markerfacecolor="white")
            by_unit.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="share above 0.9")
            by_unit.set_title(f"{gate} gate" + (f", layer {layer + 1}" if len(layers) > 1 else ""), fontsize=9)
            by_step.set(xlabel="time step $t$", ylim=(-0.03, 1.03))
        units[0].set_ylabel("share below 0.1\n(a point a unit)")
        steps[0].set_ylabel("share of units")
    key: dict[str, Any] = {"color": INK, "marker": "o", "markersize": 5}
    over = Line2D([], [], **key, label="above 0.9")
    under = Line2D([], [], **key, linestyle="--", markerfacecolor="white", label="below 0.1")
    legend(figure, found, over, under)
    return figure


def gradients(found: dict[Look, dict[str, dict[str, list[float]]]], caption: str) -> Figure:
    """The norm of the last step's gradient at every step before it; a row at the start and one after training."""
    moments = list(next(iter(found.values())))
    states = list(next(iter(found.values()))[moments[0]])
    figure, axes = panels(
        len(moments),
        len(states),
        (3.4, 1.9),
        "Gradients through time",
        caption + "; norm of a case, mean over cases",
        sharex=True,
        sharey=True,
    )
    for row, moment in zip(axes, moments, strict=True):
        for axis, state in zip(row, states, strict=True):
            for look, by_moment in found.items():
                norms = by_moment[moment][state]
                t = np.arange(1, len(norms) + 1)
                axis.plot(t, norms, linestyle=look.dash, **look.line(len(t)))
            axis.set_yscale("log")
            axis.set_title(f"{moment}: state ${state}_t$", fontsize=9)
        row[0].set_ylabel(r"$\|\partial\,\mathrm{loss}_T / \partial\,\mathrm{state}_t\|$")
    for axis in axes[-1]:
        axis.set_xlabel("time step $t$")
    legend(figure, found)
    return figure


def summed_inputs(found: dict[Look, pd.DataFrame], caption: str) -> Figure:
    """Mean and deviation over training, a column a cell, a row a place; the same axes along a row."""
    places = normalised_places(found)
    shown = evenly(places)
    figure, axes = panels(
        len(shown),
        len(found),
        (2.1, 1.6),
        "Mean and deviation of the summed inputs over training",
        caption + of_all(shown, places),
        sharex=True,
        sharey="row",
    )
    for row, place in zip(axes, shown, strict=True):
        for axis, (look, rows) in zip(row, found.items(), strict=True):
            own = rows[rows["place"] == place]
            step, mean, std = own["step"], own["after/mean"], own["after/std"]
            axis.fill_between(step, mean - std, mean + std, color=look.colour, alpha=0.25, linewidth=0)
            axis.plot(step, mean, **look.line(len(step)))
            if own["normalised"].any():
                for sign in (-1, 1):
                    edge = own["before/mean"] + sign * own["before/std"]
                    axis.plot(step, edge, color=INK, linestyle=":", linewidth=1)
        row[0].set_ylabel(in_words(place), fontsize=8)
    for axis, look in zip(axes[0], found, strict=True):
        axis.set_title(look.name.replace(", ", "\n"), fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    band = Patch(color=INK, alpha=0.25, label="mean ± deviation of what goes on")
    before = Line2D([], [], color=INK, linestyle=":", label="mean ± deviation before the normaliser")
    figure.legend(handles=[band, before], loc="outside lower left", ncols=2, fontsize=8)
    return figure


def normalised_places(found: dict[Look, pd.DataFrame]) -> list[str]:
    """Where any of the cells normalises, in the network's order; all places where none does."""
    rows = pd.concat(found.values())
    chosen = rows[rows["normalised"]] if rows["normalised"].any() else rows
    return list(dict.fromkeys(chosen["place"]))


def in_words(place: str) -> str:
    """recurrent.norm_ih_l0 -> W_x x_t, layer 1; convs.0.1 -> convs.0."""
    role, _, layer = place.removeprefix("recurrent.").rpartition("_l")
    return f"{PLACES[role]}, layer {int(layer) + 1}" if role in PLACES else place.removesuffix(".1")
