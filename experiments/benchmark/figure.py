"""The figure of a benchmark: every candidate's time relative to torch.nn."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.benchmark.peers import BASE, BOTH, CANDIDATES, FORWARD, TORCH, Candidate
from experiments.benchmark.results import FLOOR, cases_of, cells_of, label, ratio
from experiments.report.style import FIGURE, OTHER, STYLE

INK = "#444444"


@matplotlib.rc_context(FIGURE)
def draw(data: dict, path: Path) -> None:
    """Draw a row for each cell type and a column for each size: every candidate's time, and the floor."""
    cells = cells_of(data)
    sizes = [size for size in data["sizes"] if cases_of(data, cells[0], size)]
    candidates = {cell: candidates_of(data, cell, sizes) for cell in cells}
    heights = [len(candidates[cell]) for cell in cells]
    figure = Figure(figsize=(2.9 * len(sizes) + 1.6, 0.19 * sum(heights) + len(cells)), layout="tight")
    axes = figure.subplots(
        len(cells), len(sizes), squeeze=False, sharex="row", sharey="row", gridspec_kw={"height_ratios": heights}
    )
    for row, cell in zip(axes, cells, strict=True):
        for axis, size in zip(row, sizes, strict=True):
            panel(axis, {case["mode"]: case for case in cases_of(data, cell, size)}, candidates[cell])
            shape = ", ".join(map(str, data["sizes"][size].values()))
            axis.set_title(f"{TORCH[cell].__name__}, size {size}: {shape}", fontsize=9)
        labels = [label(candidate.name, cell) for candidate in candidates[cell]]
        row[0].set_yticks(range(len(labels)), labels, fontsize=8)
        row[0].invert_yaxis()
    for axis in axes[-1]:
        axis.set_xlabel(f"time / {BASE}")
    figure.legend(handles=key(), loc="upper center", ncols=min(4, len(sizes)), bbox_to_anchor=(0.5, 0.0))
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def candidates_of(data: dict, cell: str, sizes: list[str]) -> list[Candidate]:
    """Return the candidates of a cell type that were timed at any of the sizes."""
    names = {name for size in sizes for case in cases_of(data, cell, size) for name in case["milliseconds"]}
    return [candidate for candidate in CANDIDATES if candidate.name in names]


def key() -> list[Line2D]:
    """Return the entries of the legend."""
    marker: dict[str, Any] = {"color": INK, "linestyle": "none", "marker": "o", "markersize": 5}
    return [
        Line2D([], [], **marker, label="forward and backward, median (number on the right) and quartiles"),
        Line2D([], [], **marker, markerfacecolor="white", label="forward alone"),
        Line2D([], [], color=INK, linestyle="--", label="floor of forward and backward"),
        Line2D([], [], color=INK, linestyle=":", label="floor of forward"),
    ]


def panel(axis, cases: dict[str, dict], candidates: list[Candidate]) -> None:
    """Draw one cell type at one size: a line for each candidate."""
    for mode, linestyle, fill in ((FORWARD, ":", "white"), (BOTH, "--", None)):
        case = cases[mode]
        axis.axvline(ratio(case, FLOOR, BASE).median, color=INK, linestyle=linestyle, linewidth=1)
        for y, candidate in enumerate(candidates):
            if candidate.name not in case["milliseconds"]:
                continue
            r = ratio(case, candidate.name, BASE)
            colour, marker = STYLE.get(candidate.norm, OTHER)
            whiskers = [[r.median - r.low], [r.high - r.median]] if mode == BOTH else None
            axis.errorbar(r.median, y, xerr=whiskers, color=colour, marker=marker, markersize=5, markerfacecolor=fill)
            if mode == BOTH:
                axis.annotate(f"{r.median:.2f}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
