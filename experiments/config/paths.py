"""Where things are in the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"


def tuned_path(profile: str, experiment: str) -> Path:
    return CONFIGS / "tuned" / profile / f"{experiment}.yaml"
