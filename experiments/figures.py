"""Figures from the rows: the same colour and marker for a normaliser everywhere, colour-blind safe (Okabe & Ito)."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.claims import values
from experiments.config import Experiment
from experiments.statistics import paired_t

STYLE = {  # norm: (colour, marker)
    "none": ("#000000", "o"),
    "bn": ("#E69F00", "s"),
    "ln": ("#0072B2", "D"),
    "wn": ("#009E73", "^"),
    "gn": ("#D55E00", "v"),
    "in": ("#CC79A7", "P"),
    "rms": ("#56B4E9", "X"),
}
OTHER = ("#777777", "*")
plt.rcParams.update(
    {
        "svg.hashsalt": "layer-normalization",  # the same rows give the same bytes
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "legend.frameon": False,
    }
)


def save(figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return path


def norms_of(rows: pd.DataFrame) -> list[str]:
    """The normalisers of the rows, in the order of STYLE; one that is not there yet comes last, in grey."""
    present = list(dict.fromkeys(rows["norm"]))
    return sorted(present, key=lambda norm: list(STYLE).index(norm) if norm in STYLE else len(STYLE))


def draw(experiment: Experiment, rows: pd.DataFrame, curves: pd.DataFrame, folder: Path) -> list[Path]:
    """The figures of one experiment: gain over no normalisation, learning curves, and the batch sizes if they vary."""
    models = list(dict.fromkeys(rows["model"]))
    name = experiment.name
    if rows["batch_size"].nunique() > 1:
        figure, axis = plt.subplots(figsize=(5.2, 3.4))
        batch_axis(axis, experiment, rows)
        return [save(figure, folder / f"{name}_batch_size.svg")]
    gain, axes = plt.subplots(1, len(models), figsize=(3.2 * len(models) + 1, 2.8), squeeze=False, sharey=True)
    for axis, model in zip(axes[0], models, strict=True):
        gain_axis(axis, experiment, rows[rows["model"] == model], model)
    learning, axes = plt.subplots(1, len(models), figsize=(3.2 * len(models) + 1, 3.2), squeeze=False)
    for axis, model in zip(axes[0], models, strict=True):
        learning_axis(axis, rows[rows["model"] == model], curves, model)
    axes[0][-1].legend()
    return [save(gain, folder / f"{name}_gain.svg"), save(learning, folder / f"{name}_learning.svg")]


def gain_axis(axis, experiment: Experiment, rows: pd.DataFrame, model: str) -> None:
    """Paired difference to no normalisation for each normaliser, mean and 95 % t interval; left of 0 is better."""
    norms = [norm for norm in norms_of(rows) if norm != "none"]
    base = values(rows, experiment.metric, {"norm": "none"})
    for y, norm in enumerate(norms):
        d = (values(rows, experiment.metric, {"norm": norm}) - base).dropna()
        colour, marker = STYLE.get(norm, OTHER)
        diverged = int((rows.loc[rows["norm"] == norm, "status"] == "diverged").sum())
        if len(d) > 1:
            t = paired_t(d)
            axis.errorbar(
                t.estimate, y, xerr=[[t.estimate - t.low], [t.high - t.estimate]], color=colour, marker=marker
            )
        if diverged:
            axis.annotate(f"{diverged} diverged", (1, y), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(norms)), [norm.upper() for norm in norms])
    axis.invert_yaxis()
    axis.set_xlabel(f"difference to none ({experiment.unit})")
    axis.set_title(f"{model}, {experiment.metric}\nmean and 95 % t interval, n = {len(base)} seeds", fontsize=9)


def learning_axis(axis, rows: pd.DataFrame, curves: pd.DataFrame, model: str) -> None:
    """Validation loss by step: median over seeds, and the range from the lowest to the highest."""
    for norm in norms_of(rows):
        own = curves[curves["run_id"].isin(rows.loc[rows["norm"] == norm, "run_id"])]
        if own.empty:
            continue
        by_step = own.groupby("step")["val/loss"]
        colour, marker = STYLE.get(norm, OTHER)
        steps = by_step.median().index
        axis.plot(steps, by_step.median(), color=colour, marker=marker, markersize=4, label=norm.upper())
        axis.fill_between(steps, by_step.min(), by_step.max(), color=colour, alpha=0.12, linewidth=0)
    axis.set_xlabel("step")
    axis.set_ylabel("validation loss (nats)")
    axis.set_title(f"{model}\nmedian and range of {rows['seed'].nunique()} seeds", fontsize=9)


def batch_axis(axis, experiment: Experiment, rows: pd.DataFrame) -> None:
    """The deciding metric by batch size: median over seeds, and the range."""
    for offset, norm in enumerate(norms_of(rows)):
        done = rows[(rows["norm"] == norm) & (rows["status"] == "done")]
        by_batch = done.groupby("batch_size")[experiment.metric]
        median = by_batch.median()
        colour, marker = STYLE.get(norm, OTHER)
        x = median.index.to_numpy() * 1.04 ** (offset - 1.5)  # side by side, so that the bars can be told apart
        spread = np.array([median - by_batch.min(), by_batch.max() - median])
        lost = int(((rows["norm"] == norm) & (rows["status"] == "diverged")).sum())
        label = norm.upper() + (f" ({lost} diverged)" if lost else "")
        axis.errorbar(x, median, yerr=spread, color=colour, marker=marker, label=label, markersize=5)
    sizes = sorted(set(rows["batch_size"]))
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.set_xlabel("batch size (equal epochs)")
    axis.set_ylabel(f"{experiment.metric} ({experiment.unit})")
    model = ", ".join(dict.fromkeys(rows["model"]))
    axis.set_title(f"{model}\nmedian and range of {rows['seed'].nunique()} seeds", fontsize=9)
    axis.legend(loc="upper left")


def summary(parts: list[tuple[Experiment, pd.DataFrame]], folder: Path) -> Path:
    """All experiments side by side: the gains over no normalisation, and the batch sizes."""
    panels = []
    for experiment, rows in parts:
        if rows["batch_size"].nunique() > 1:
            panels.append((batch_axis, experiment, rows))
        else:
            for model in dict.fromkeys(rows["model"]):
                panels.append((gain_axis, experiment, rows[rows["model"] == model], model))
    columns = 3 if len(panels) > 2 else len(panels)
    height = -(-len(panels) // columns)
    figure, axes = plt.subplots(height, columns, figsize=(4.2 * columns, 2.9 * height), squeeze=False)
    for axis, (panel, *arguments) in zip(axes.flat, panels, strict=False):
        panel(axis, *arguments)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    return save(figure, folder / "summary.svg")
