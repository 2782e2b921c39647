"""What the runs of a sweep will take, learnt from runs that are finished, and the table of them: plan=true.

An unfinished run is compared with finished ones of its own cell (experiment, profile, stage, data, model, normaliser,
batch size, axes); else with those of the same model and data, of these with the nearest batch size and, if there are
any, the same normaliser. Their median training time a step is taken times the run's steps, and their median time for
all else (evaluation, test, start) is added. The runs of `runs_dir` are asked first, then the committed rows of the
profile, which were made on another machine.
"""

import csv
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from omegaconf import DictConfig
from tabulate import tabulate

from experiments.config import ROOT, Trainer, cell, settings
from experiments.progress import Watched, duration
from experiments.run_folder import RunFolder, read_json

REFERENCE = "reference, "
NUMBERS = ("steps", "examples", "epochs", "seconds", "wall_seconds")  # of a row, that are used here


@dataclass(frozen=True)
class Estimate:
    seconds: float
    source: str  # in words: which runs it was learnt from


class Finished:
    """Rows of finished runs, found by what they have in common with another run."""

    def __init__(self, rows: Iterable[Mapping], columns: Iterable[str], place: str):
        """columns: of a cell. place: where the rows are from, in words."""
        self.columns, self.place = tuple(columns), place
        self.by_cell, self.by_family = defaultdict(list), defaultdict(list)
        for row in rows:
            if row["status"] == "done":  # a diverged run ended early
                row = {**row, **{name: float(row[name]) for name in NUMBERS}, "batch_size": int(row["batch_size"])}
                self.by_cell[self._cell(row)].append(row)
                self.by_family[row["model"], row["data"]].append(row)

    def estimate(self, run: Mapping, trainer: Trainer) -> Estimate | None:
        """run: the columns that identify it, as in a row. None when there is nothing to learn from."""
        if alike := self.by_cell[self._cell(run)]:
            return Estimate(_seconds(alike, run, trainer), f"{self.place}same cell")
        if family := self.by_family[run["model"], run["data"]]:
            apart = {row["batch_size"]: abs(math.log(row["batch_size"] / run["batch_size"])) for row in family}
            near = [row for row in family if row["batch_size"] == min(apart, key=apart.get)]
            alike = [row for row in near if row["norm"] == run["norm"]] or near
            return Estimate(_seconds(alike, run, trainer), f"{self.place}similar")
        return None

    def _cell(self, row: Mapping) -> tuple:
        names = ("experiment", "profile", "stage", "data", *self.columns)
        return tuple(str(row.get(name, "")) for name in names)


def _seconds(alike: list[Mapping], run: Mapping, trainer: Trainer) -> float:
    from experiments.trainer import budget  # imports torch

    epoch = median(row["examples"] / row["epochs"] for row in alike)
    steps = budget(trainer, round(epoch / run["batch_size"]), run["batch_size"])
    training = median(row["seconds"] / row["steps"] for row in alike) * steps
    # A resumed run knows the seconds of its last attempt alone: it may have less of them than of training.
    return training + max(0.0, median(row["wall_seconds"] - row["seconds"] for row in alike))


def estimates(configs: list[DictConfig], folders: list[RunFolder]) -> list[Estimate | None]:
    """What each run will take from start to end; None for a finished one, or when nothing like it is finished."""
    profile, columns = configs[0].profile.name, cell(configs[0])
    summaries = (read_json(path) for path in Path(configs[0].runs_dir).glob("*/summary.json"))
    here = Finished(filter(None, summaries), columns, "")
    committed = Finished(_reference(profile), columns, REFERENCE)
    found = []
    for cfg, folder in zip(configs, folders, strict=True):
        same = {"experiment": cfg.experiment.name, "profile": profile, "stage": cfg.stage, "data": cfg.data.name}
        run, trainer = {**same, **cell(cfg)}, settings(cfg.trainer)
        known = None if folder.finished else here.estimate(run, trainer) or committed.estimate(run, trainer)
        found.append(known)
    return found


def _reference(profile: str) -> list[dict]:
    path = ROOT / "results" / "reference" / profile / "runs.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def print_plan(configs: list[DictConfig], folders: list[RunFolder], workers: int) -> None:
    """A line a run: state, seconds that it took or will take, what that is learnt from. Then the sums."""
    lines, left, sources = [], [], Counter()
    for folder, estimate in zip(folders, estimates(configs, folders), strict=True):
        state, status = folder.state, folder.status
        if folder.finished:
            lines.append((state, f"{folder.summary['wall_seconds']:.1f}", "", folder.run_id))
            continue
        part = status["step"] / status["steps"] if "steps" in status else 0.0
        source, seconds = "nothing", "?"
        if estimate is not None:
            left.append(estimate.seconds * (1 - part))
            source, seconds = estimate.source, f"~{left[-1]:.1f}"
        sources[source] += 1
        lines.append((f"{state} {part:.0%}" if part else state, seconds, source, folder.run_id))
    headers = ("state", "seconds", "learnt from", "run")
    print(tabulate(lines, headers, "plain", disable_numparse=True, colalign=("left", "right", "left", "left")))
    count = f"{len(folders)} runs, {len(folders) - sources.total()} done"
    if not sources:
        return print(count)
    side_by_side = f"{workers} at a time" if workers > 1 else "one at a time; hydra/launcher=joblib runs several"
    total = f"about {duration(makespan(left, workers))} left" if left else "time unknown"
    print(f"{count}; {total}, {side_by_side}")
    print("learnt from: " + ", ".join(f"{source} ({count})" for source, count in sources.most_common()))
    if any(source.startswith(REFERENCE) for source in sources):
        print(f"reference: results/reference/{configs[0].profile.name}/runs.csv, of another machine")


def watched(configs: list[DictConfig], folders: list[RunFolder], pending: list[int]) -> list[Watched]:
    """The pending runs for a progress display, with what each one will take."""
    expected = estimates(configs, folders)
    seconds = {index: expected[index].seconds if expected[index] else None for index in pending}
    return [Watched(folders[index], configs[index].data.batch_size, seconds[index]) for index in pending]


def makespan(seconds: list[float], workers: int) -> float:
    """When the last of these runs ends, if they are started in this order as workers come free."""
    free = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def workers(launcher: DictConfig) -> int:
    """How many runs a launcher of Hydra's has in progress at a time."""
    from joblib import effective_n_jobs

    return effective_n_jobs(launcher.n_jobs) if "n_jobs" in launcher else launcher.get("array_parallelism", 1)
