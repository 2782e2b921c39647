"""The raw times of a benchmark: its files, and the ratios within rounds that follow from them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.benchmark.peers import BASE, TORCH
from experiments.benchmark.timing import GEMM
from experiments.config.errors import ConfigError
from experiments.runs.folder import write_atomically

FLOOR = "floor"


# --- ratios -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over `n` rounds."""

    median: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n < 3:  # no quartiles to speak of
            return f"{self.median:.2f}"
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def spread(values) -> Spread:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return Spread(float(median), float(low), float(high), len(values))


def times(case: dict) -> dict[str, list[float | None]]:
    """Return milliseconds by candidate and round, and the floor: the case's products at GEMM's speed in the round."""
    measured = dict(case["milliseconds"])
    if GEMM in measured:
        measured[FLOOR] = [case["flop"] * ms / case["gemm_flop"] for ms in measured.pop(GEMM)]
    return measured


def ratio(case: dict, a: str, b: str) -> Spread:
    """Return a's time divided by b's, over the rounds that both took part in."""
    both = zip(times(case)[a], times(case)[b], strict=True)
    return spread([x / y for x, y in both if x is not None and y is not None])


def milliseconds(case: dict, name: str) -> float:
    """Return the median over the rounds that a candidate took part in."""
    return spread([ms for ms in times(case)[name] if ms is not None]).median


def cases_of(data: dict, cell: str, size: str) -> list[dict]:
    return [c for c in data["cases"] if c["kind"] == "cell" and c["cell"] == cell and c["size"] == size]


def cells_of(data: dict) -> list[str]:
    return list(dict.fromkeys(case["cell"] for case in data["cases"] if case["kind"] == "cell"))


def label(name: str, cell: str) -> str:
    return f"{name}.{TORCH[cell].__name__}, no norm" if name == BASE else name


# --- files -----------------------------------------------------------------------------------------------------------


def read(folder: Path) -> dict:
    """Return the content of a folder's benchmark.json. Raises ConfigError without one."""
    path = folder / "benchmark.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"rows={folder} has no benchmark.json; name a folder that a benchmark wrote") from None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); restore it, or name another folder") from None
    if not (isinstance(data, dict) and {"machine", "sizes", "absent", "cases"} <= data.keys()):
        raise ConfigError(f"{path} is not what a benchmark wrote; name another folder")
    return data


def write(data: dict, folder: Path) -> None:
    """Write benchmark.json, a list of times on one line."""
    text = json.dumps(data, indent=1)
    numbers = r"\[(?:null|[-+\deE.,\s])*\]"
    text = re.sub(numbers, lambda flat: json.dumps(json.loads(flat[0])), text)
    write_atomically(folder / "benchmark.json", lambda file: file.write(f"{text}\n".encode()))
