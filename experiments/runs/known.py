"""Runs that are known by their rows alone: finished on another machine, or before their folders were deleted."""

import csv
from pathlib import Path

from experiments.config.errors import ConfigError
from experiments.runs.records import FINISHED


def known_rows(place: str, named_by: str = "known") -> dict[str, dict[str, str]]:
    """Return the rows of the finished runs by their id, as text.

    place: a CSV file, or a folder with runs.csv. named_by: the option that names it. Raises ConfigError.
    """
    given, path = f"{named_by}={place}", Path(place)
    path = path / "runs.csv" if path.is_dir() else path
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, restval=""))
    except FileNotFoundError:
        raise ConfigError(f"{given} has no runs.csv; name a folder that a report wrote") from None
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{given} is no table of runs ({error}); name a folder that a report wrote") from None
    if not rows or not {"run_id", "status"} <= rows[0].keys():
        raise ConfigError(f"{given} is no table of runs; name a folder that a report wrote")
    return {row["run_id"]: row for row in rows if row["status"] in FINISHED}
