"""What the benchmark's figure needs of matplotlib. The report's charts are in experiments/charts.py."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from experiments.style import OTHER, STYLE

__all__ = ["OTHER", "STYLE", "plt", "save"]

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
