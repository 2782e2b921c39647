"""What is done before and after the runs of a sweep; the sweeper itself is experiments/plugins."""

from collections import Counter

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from experiments.check import check
from experiments.config import run_id
from experiments.progress import duration
from experiments.run_folder import RunFolder


def select_pending(configs: list[DictConfig]) -> tuple[list[RunFolder], list[int]]:
    """The runs' folders, and the indices of those that are not finished. Raises what `check` refuses, of any run."""
    folders = [RunFolder(cfg.runs_dir, run_id(cfg)) for cfg in configs]
    pending = [index for index, folder in enumerate(folders) if not folder.finished]
    for index in pending:
        check(configs[index])
    return folders, pending


def conclude(outcomes: list[dict], skipped: int) -> bool:
    """Prints the last lines of a sweep; True when no run failed."""
    counts = Counter(outcome["status"] for outcome in outcomes)
    counts["skipped"] += skipped
    bad = [outcome for outcome in outcomes if outcome["status"] in ("failed", "running elsewhere")]
    for outcome in bad:
        print(f"{outcome['status']}: {outcome['path']}: {outcome['message']}")
    order = ["done", "skipped", "diverged", "failed", *(["running elsewhere"] if counts["running elsewhere"] else [])]
    print(f"{counts.total()} runs: " + ", ".join(f"{counts[status]} {status}" for status in order))
    return not bad


def print_plan(configs: list[DictConfig], folders: list[RunFolder]) -> None:
    """The table of runs, what is done, and the time left as far as finished runs of the same cell tell."""
    cells = [(cfg.model.name, cfg.norm.name, cfg.data.name, cfg.data.batch_size) for cfg in configs]
    took: dict[tuple, list[float]] = {}
    for cell, folder in zip(cells, folders, strict=True):
        if folder.finished:
            took.setdefault(cell, []).append(folder.summary["wall_seconds"])
    expected = {cell: sum(seconds) / len(seconds) for cell, seconds in took.items()}
    table = Table("run", "status", "seconds", box=None, pad_edge=False)
    left, unknown = 0.0, 0
    for cell, folder in zip(cells, folders, strict=True):
        seconds = folder.summary["wall_seconds"] if folder.finished else expected.get(cell)
        table.add_row(folder.run_id, folder.status["status"], "" if seconds is None else f"{seconds:.1f}")
        if not folder.finished:
            left, unknown = left + (seconds or 0.0), unknown + (seconds is None)
    Console(soft_wrap=True).print(table)
    done = sum(folder.finished for folder in folders)
    estimate = f"; about {duration(left)} of one core left" + (f", {unknown} runs not estimated" if unknown else "")
    print(f"{len(folders)} runs, {done} done" + (estimate if done < len(folders) else ""))
