"""Paths in the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
REFERENCE = ROOT / "results" / "reference"  # a folder for each committed report


def tuned_path(profile: str, experiment: str) -> Path:
    """Return the file of an experiment's tuned learning rates; the rows that chose them lie beside it as CSV."""
    return CONFIGS / "experiment" / experiment / "tuned" / f"{profile}.yaml"
