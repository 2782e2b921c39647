"""Runs that are known by their rows alone: finished on another machine, or before their folders were deleted."""

import csv
from pathlib import Path

from experiments.config.errors import ConfigError
from experiments.runs.records import FINISHED


def known_rows(place: str) -> dict[str, dict[str, str]]:
    """Return the rows of the finished runs by their id, as text.

    place: a CSV file, or a folder with runs.csv. Raises ConfigError.
    """
    path = Path(place)
    path = path / "runs.csv" if path.is_dir() else path
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"known={place}: {path} cannot be read ({reason}); name a report's folder") from None
    if not rows or not {"run_id", "status"} <= rows[0].keys():
        raise ConfigError(f"known={place}: {path} is no table of runs; name a report's folder")
    return {row["run_id"]: row for row in rows if row["status"] in set(FINISHED)}
