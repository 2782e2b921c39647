"""What the runs of a sweep will take, learnt from runs that are finished, and the table of them: plan=true.

An unfinished run is compared with finished ones of its own cell (experiment, profile, stage, data, model, normaliser,
batch size, axes); else with those of the same model and data, and among these with those of the same experiment, the
nearest batch size and the same normaliser, as far as there are any. Their median training time a step is taken times
the run's steps, and their median time for all else (evaluation, test, start) is added. The runs of `runs_dir` are asked
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

from experiments.config.cell import cell
from experiments.config.paths import ROOT
from experiments.config.schema import Trainer, settings
from experiments.runs.folder import RunFolder, read_json
from experiments.runs.progress import Watched, duration

REFERENCE = "reference, "
NUMBERS = ("steps", "examples", "epochs", "seconds", "wall_seconds")  # of a row, that are used here


@dataclass(frozen=True)
class Estimate:
    seconds: float
    source: str  # in words: which runs it was learnt from


class Finished:
    """Rows of finished runs, to find those in them that another run is like. place: where they are from, in words."""

    def __init__(self, rows: Iterable[Mapping], place: str):
        self.place, self.families = place, defaultdict(list)
        for row in rows:
            if row["status"] == "done":  # a diverged run ended early
                row = {**row, **{name: float(row[name]) for name in NUMBERS}, "batch_size": int(row["batch_size"])}
                self.families[row["model"], row["data"]].append(row)

    def estimate(self, run: Mapping, trainer: Trainer) -> Estimate | None:
        """run: the columns of its cell. None when there is nothing to learn from."""
        family = self.families.get((run["model"], run["data"]), [])
        if alike := [row for row in family if all(str(row.get(name, "")) == str(run[name]) for name in run)]:
            return Estimate(_seconds(alike, run, trainer), f"{self.place}same cell")
        if not family:
            return None
        alike = _with_same("experiment", family, run)
        nearest = min((row["batch_size"] for row in alike), key=lambda size: abs(math.log(size / run["batch_size"])))
        alike = _with_same("norm", [row for row in alike if row["batch_size"] == nearest], run)
        return Estimate(_seconds(alike, run, trainer), f"{self.place}similar")


def _with_same(column: str, rows: list[dict], run: Mapping) -> list[dict]:
    """The rows that have the run's value; all of them if none has."""
    return [row for row in rows if row[column] == run[column]] or rows


def _seconds(alike: Sequence[Mapping], run: Mapping, trainer: Trainer) -> float:
    from experiments.training.loop import budget  # imports torch

    epoch = median(row["examples"] / row["epochs"] for row in alike)
    steps = budget(trainer, round(epoch / run["batch_size"]), run["batch_size"])
    training = median(row["seconds"] / row["steps"] for row in alike) * steps
    # A resumed run knows the seconds of its last attempt alone: it may have less of them than of training.
    return training + max(0.0, median(row["wall_seconds"] - row["seconds"] for row in alike))


def estimates(configs: list[DictConfig], folders: list[RunFolder]) -> list[Estimate | None]:
    """What each run will take from start to end; None for a finished one, or when nothing like it is finished."""
    profile = configs[0].profile.name
    summaries = (read_json(path) for path in Path(configs[0].runs_dir).glob("*/summary.json"))
    here, committed = Finished(filter(None, summaries), ""), Finished(_reference(profile), REFERENCE)
    found = []
    for cfg, folder in zip(configs, folders, strict=True):
        same = {"experiment": cfg.experiment.name, "profile": profile, "stage": cfg.stage, "data": cfg.data.name}
        run, trainer = same | cell(cfg), settings(cfg.trainer)
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
    lines: list[tuple[str, ...]] = []
    left: list[float] = []
    sources: Counter[str] = Counter()
    for folder, estimate in zip(folders, estimates(configs, folders), strict=True):
        state, status = folder.state, folder.status
        if folder.finished and (summary := folder.summary):
            lines.append((state, f"{summary['wall_seconds']:.1f}", "", folder.run_id))
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
    print(sums(len(lines), left, sources, workers, configs[0].profile.name))


def sums(runs: int, left: list[float], sources: Counter, workers: int, profile: str) -> str:
    """The last lines of a plan: left are the estimated seconds, sources what each unfinished run's is learnt from."""
    counts = f"{runs} runs, {runs - sources.total()} done"
    if not sources:
        return counts
    time_left = f"about {duration(makespan(left, workers))} left" if left else "time left unknown"
    side_by_side = f"{workers} at a time" if workers > 1 else "one at a time (hydra/launcher=joblib: several)"
    lines = [f"{counts}; {time_left}, {side_by_side}"]
    lines.append("learnt from: " + ", ".join(f"{source} ({count})" for source, count in sources.most_common()))
    if any(source.startswith(REFERENCE) for source in sources):
        lines.append(f"reference: results/reference/{profile}/runs.csv, of another machine")
    return "\n".join(lines)


def watched(configs: list[DictConfig], folders: list[RunFolder]) -> list[Watched]:
    """Runs for a progress display, with what each one will take."""
    return [
        Watched(folder, cfg.data.batch_size, estimate.seconds if estimate else None)
        for cfg, folder, estimate in zip(configs, folders, estimates(configs, folders), strict=True)
    ]


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
