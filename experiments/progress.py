"""Progress of one run or a sweep, read from the runs' status files, so it is the same under every launcher."""

import threading
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.run_folder import RunFolder

ENDED = ("done", "diverged", "failed", "interrupted")
POLL = 0.5  # seconds; the runs write their status as often


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def metrics(status: dict) -> str:
    """A running run's metrics in a few words."""
    return "  ".join(f"{name} {value:.4g}" for name, value in {"train/loss": status["loss"], **status["val"]}.items())


class ProgressDisplay:
    """`with ProgressDisplay(folders):` shows the runs until the block ends.

    On a terminal a bar for the sweep and one for each run in progress; otherwise a plain line for each run that ends
    and, after `quiet` seconds without one, for those in progress.
    """

    def __init__(self, folders: list[RunFolder], quiet: float = 15.0):
        self.waiting = {folder.run_id: folder for folder in folders}
        self.total, self.quiet = len(folders), quiet
        self.console = Console(highlight=False, soft_wrap=True)
        self.started, self.clock, self.spoken = time.time(), time.monotonic(), time.monotonic()
        self.progress_made: dict[str, float] = {}  # run id: fraction done, of the runs in progress
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars = Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console, transient=True)
        self.bar_of: dict[str, int] = {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        if self.console.is_terminal:
            self.bars.start()
            if self.total > 1:
                self.bar_of["sweep"] = self.bars.add_task("whole sweep", total=self.total, note="")
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self._look()
        if self.console.is_terminal:
            self.bars.stop()

    def _watch(self):
        while not self.stop.wait(POLL):
            self._look()

    @property
    def left(self) -> str:
        """Time left, from the share of the work that is done so far."""
        done = self.total - len(self.waiting) + sum(self.progress_made.values())
        if done < 0.02 * self.total:
            return ""
        return f"about {duration((time.monotonic() - self.clock) * (self.total - done) / done)} left"

    def _look(self) -> None:
        in_progress = []
        for run_id, folder in list(self.waiting.items()):
            status = folder.status
            if status.get("updated", 0) < self.started:
                continue  # of an earlier attempt
            if status["status"] in ENDED:
                del self.waiting[run_id]
                self.progress_made.pop(run_id, None)
                self._ended(run_id, status)
            elif status.get("steps"):
                self.progress_made[run_id] = status["step"] / status["steps"]
                in_progress.append((run_id, status))
        if self.console.is_terminal:
            self._draw(in_progress)
        elif time.monotonic() - self.spoken >= self.quiet:
            for run_id, status in in_progress:
                self._say(f"... {run_id}: step {status['step']}/{status['steps']}  {metrics(status)}")

    def _draw(self, in_progress: list[tuple[str, dict]]) -> None:
        if "sweep" in self.bar_of:
            ended = self.total - len(self.waiting)
            self.bars.update(self.bar_of["sweep"], completed=ended, note=self.left)
        for run_id, status in in_progress:
            if run_id not in self.bar_of:
                self.bar_of[run_id] = self.bars.add_task(run_id, total=status["steps"], note="")
            self.bars.update(self.bar_of[run_id], completed=status["step"], note=metrics(status))

    def _ended(self, run_id: str, status: dict) -> None:
        if run_id in self.bar_of:
            self.bars.remove_task(self.bar_of.pop(run_id))
        ended = self.total - len(self.waiting)
        self._say(f"[{ended}/{self.total}] {run_id}: {status['status']} {status.get('message', '')}".rstrip())

    def _say(self, line: str) -> None:
        self.spoken = time.monotonic()
        left = self.left if not self.console.is_terminal and self.waiting else ""
        self.console.print(f"{line}  ({left})" if left else line, markup=False)
