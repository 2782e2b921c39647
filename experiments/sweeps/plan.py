"""Estimates of how long the runs of a sweep will take, learnt from finished runs, and their table: plan=true.

An unfinished run is compared with finished ones of its cell (experiment, profile, stage, data, model, normaliser, batch
size, axes); without any, with those of the same model and data, and among these with those of the same experiment, the
nearest batch size and the same normaliser, as far as there are any. The estimate is their median training time per step
times the run's steps, plus their median time for all else (evaluation, test, start-up). The runs of `runs_dir` come
first, then the committed rows of the profile, which were made on another machine.
"""

import csv
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from omegaconf import DictConfig
from tabulate import tabulate

from experiments.config.paths import REFERENCE
from experiments.config.schema import Trainer
from experiments.runs.folder import RunFolder, RunStatus
from experiments.runs.progress import Watched, format_duration
from experiments.runs.run import Run
from experiments.runs.schedule import budget

COMMITTED = "reference, "
NUMBERS = ("steps", "examples", "epochs", "seconds", "wall_seconds")  # columns of a row that an estimate reads


@dataclass(frozen=True)
class Estimate:
    seconds: float
    source: str  # which runs it was learnt from, in words


class FinishedRuns:
    """Rows of finished runs, to estimate others from. source: where they are from, in words."""

    def __init__(self, rows: Iterable[Mapping], source: str):
        self.source = source
        self.rows_of: defaultdict[tuple[str, str], list[dict]] = defaultdict(list)  # by model and data
        for row in rows:
            if row["status"] == RunStatus.DONE:  # a diverged run ended early
                numbers = {name: float(row[name]) for name in NUMBERS} | {"batch_size": int(row["batch_size"])}
                self.rows_of[row["model"], row["data"]].append({**row, **numbers})

    def estimate(self, columns: Mapping, trainer: Trainer) -> Estimate | None:
        """Estimate a run's time; None when there is no run to learn from.

        columns: experiment, profile, stage, data and those of the run's cell.
        """
        rows = self.rows_of.get((columns["model"], columns["data"]), [])
        if not rows:
            return None
        same_cell = [row for row in rows if all(str(row.get(name, "")) == str(columns[name]) for name in columns)]
        if same_cell:
            return Estimate(_seconds(same_cell, columns, trainer), f"{self.source}same cell")
        similar = _nearest(rows, columns)
        return Estimate(_seconds(similar, columns, trainer), f"{self.source}similar")


def _nearest(rows: list[dict], columns: Mapping) -> list[dict]:
    """Return the rows of the same experiment, the nearest batch size and the same normaliser, as far as possible."""
    rows = _with_same("experiment", rows, columns)
    batch_size = min((row["batch_size"] for row in rows), key=lambda size: abs(math.log(size / columns["batch_size"])))
    return _with_same("norm", [row for row in rows if row["batch_size"] == batch_size], columns)


def _with_same(column: str, rows: list[dict], columns: Mapping) -> list[dict]:
    """Return the rows that have the run's value; all of them if none has."""
    return [row for row in rows if row[column] == columns[column]] or rows


def _seconds(rows: Sequence[Mapping], columns: Mapping, trainer: Trainer) -> float:
    """Return the estimated seconds of a run from rows that are like it."""
    epoch = median(row["examples"] / row["epochs"] for row in rows)
    steps = budget(trainer, round(epoch / columns["batch_size"]), columns["batch_size"])
    training = median(row["seconds"] / row["steps"] for row in rows) * steps
    # In older rows the wall time of a resumed run is that of its last attempt: it may be less than the training time.
    return training + max(0.0, median(row["wall_seconds"] - row["seconds"] for row in rows))


def estimates(runs: list[Run]) -> list[Estimate | None]:
    """Estimate each run from start to end; None for a finished one, or when none like it is finished."""
    profile = runs[0].cfg.profile.name
    paths = Path(runs[0].cfg.runs_dir).glob("*/summary.json")
    summaries = (RunFolder(path.parent.parent, path.parent.name).summary for path in paths)
    local = FinishedRuns(filter(None, summaries), source="")
    committed = FinishedRuns(_reference_rows(profile), source=COMMITTED)
    known: dict[tuple, Estimate | None] = {}  # runs of a cell have one, for which all rows are looked through

    def estimate(run: Run) -> Estimate | None:
        if run.folder.finished:
            return None
        cfg = run.cfg
        columns = {"experiment": cfg.experiment.name, "profile": profile, "stage": cfg.stage, "data": cfg.data.name}
        columns |= run.columns
        # Not run.settings, whose conversion a plan of ten thousand runs would feel.
        trainer = cfg.trainer
        key = (*map(str, columns.items()), trainer.epochs, trainer.examples, trainer.steps)
        if key not in known:
            known[key] = local.estimate(columns, trainer) or committed.estimate(columns, trainer)
        return known[key]

    return [estimate(run) for run in runs]


def _reference_rows(profile: str) -> list[dict]:
    path = REFERENCE / profile / "runs.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def print_plan(runs: list[Run], workers: int) -> None:
    """Print a line per run: state, seconds that it took or will take, what that is learnt from. Then the sums."""
    lines: list[tuple[str, ...]] = []
    left: list[float] = []
    sources: Counter[str] = Counter()
    for run, estimate in zip(runs, estimates(runs), strict=True):
        state = run.folder.state
        if run.folder.finished and (summary := run.folder.summary):
            lines.append((state, f"{summary['wall_seconds']:.1f}", "", run.id))
            continue
        status = run.folder.status
        done = status["step"] / status["steps"] if "steps" in status else 0.0
        source, seconds = "nothing", "?"
        if estimate is not None:
            left.append(estimate.seconds * (1 - done))
            source, seconds = estimate.source, f"~{left[-1]:.1f}"
        sources[source] += 1
        lines.append((f"{state} {done:.0%}" if done else state, seconds, source, run.id))
    # Not rich, which would fold or crop the names in a narrow terminal and take seconds for ten thousand of them.
    headers = ("state", "seconds", "learnt from", "run")
    print(tabulate(lines, headers, "plain", disable_numparse=True, colalign=("left", "right", "left", "left")))
    print(sums(len(lines), left, sources, workers, runs[0].cfg.profile.name))


def sums(runs: int, left: list[float], sources: Counter, workers: int, profile: str) -> str:
    """Return the last lines of a plan.

    left: estimated seconds of the unfinished runs that have an estimate. sources: how many unfinished runs were
    estimated from which source.
    """
    counts = f"{runs} runs, {runs - sources.total()} done"
    if not sources:
        return counts
    time_left = f"about {format_duration(makespan(left, workers))} left" if left else "time left unknown"
    side_by_side = f"{workers} at a time" if workers > 1 else "one at a time (hydra/launcher=joblib: several)"
    lines = [f"{counts}; {time_left}, {side_by_side}"]
    lines.append("learnt from: " + ", ".join(f"{source} ({count})" for source, count in sources.most_common()))
    if any(source.startswith(COMMITTED) for source in sources):
        lines.append(f"reference: results/reference/{profile}/runs.csv, of another machine")
    return "\n".join(lines)


def watched(runs: list[Run]) -> list[Watched]:
    """Return the runs for a progress display, with the estimate of each."""
    return [
        Watched(run.folder, run.cfg.data.batch_size, estimate.seconds if estimate else None)
        for run, estimate in zip(runs, estimates(runs), strict=True)
    ]


def makespan(seconds: list[float], workers: int) -> float:
    """Return the seconds until the last of these runs ends, started in this order as workers come free."""
    ends = [0.0] * workers
    for run_seconds in seconds:
        heapq.heapreplace(ends, ends[0] + run_seconds)
    return max(ends)


def workers(launcher: DictConfig) -> int:
    """Return how many runs one of Hydra's launchers has in progress at a time."""
    from joblib import effective_n_jobs

    return effective_n_jobs(launcher.n_jobs) if "n_jobs" in launcher else launcher.get("array_parallelism", 1)
