"""The progress display of a run or a sweep, read from the status files, so it is the same under every launcher."""

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from experiments.runs.folder import RunFolder, RunStatus

ENDED = (RunStatus.DONE, RunStatus.DIVERGED, RunStatus.FAILED, RunStatus.INTERRUPTED)
POLL = 0.5  # seconds; the runs write their status as often
SPEED_WINDOW = 20  # statuses over which a speed is taken: ten seconds at least
COLUMNS = ("bar", "step", "loss", "val", "speed", "examples", "left")
DROPPED_FIRST = ("examples", "loss", "bar", "speed", "val")  # the columns that a narrow terminal lacks, in this order
NAME_WIDTH = 20  # characters of a name that are shown before a column is dropped for it
BAR_WIDTH = 10  # characters


def format_duration(seconds: float) -> str:
    """Return 2 h 05 min, 3 min 07 s or 12 s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def format_clock(seconds: float) -> str:
    """Return 3:07 or 1:02:45; short, for a table."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def format_rate(number: float, unit: str) -> str:
    """Return 42.1 steps/s or 1.35k examples/s."""
    return f"{number / 1000:.3g}k {unit}/s" if number >= 1000 else f"{number:.3g} {unit}/s"


@dataclass
class Watched:
    """A run on display."""

    folder: RunFolder
    batch_size: int
    expected: float | None = None  # seconds that it will take, None if unknown (experiments.sweeps.plan)
    status: dict = field(default_factory=dict)  # the last one of this attempt
    history: deque = field(default_factory=lambda: deque(maxlen=SPEED_WINDOW))  # (time, step) of the last statuses

    def __post_init__(self):
        self.before = self.folder.status  # compared, and not its time: a worker's clock may be another

    def update(self) -> None:
        """Read the status, unless it is still that of an earlier attempt."""
        status = self.folder.status
        if status == self.before or status["status"] == RunStatus.DAMAGED:
            return
        self.status = status
        if "steps" in status and (not self.history or self.history[-1][1] < status["step"]):
            self.history.append((status["updated"], status["step"]))

    @property
    def ended(self) -> bool:
        return self.status.get("status") in ENDED

    @property
    def interrupted(self) -> bool:
        return self.status.get("status") == RunStatus.INTERRUPTED

    @property
    def fraction(self) -> float:
        """The fraction of the steps that is done."""
        if self.ended and not self.interrupted:
            return 1.0
        return self.status["step"] / self.status["steps"] if "steps" in self.status else 0.0

    def columns(self) -> dict[str, str]:
        """Return step, metrics, recent speed (evaluation included) and time left, as far as they are known."""
        if "steps" not in self.status:
            return {"step": "starts"}
        step, steps, validation = (self.status[key] for key in ("step", "steps", "val"))
        columns = {"step": f"{step}/{steps}", "loss": f"loss {self.status['loss']:.4g}"}
        if validation:
            name = next((name for name in validation if name != "val/loss"), "val/loss")
            columns["val"] = f"{name} {validation[name]:.4g}"
        if len(self.history) > 1 and self.history[0][0] < self.history[-1][0]:  # a clock can be set back
            (first_time, first_step), (last_time, last_step) = self.history[0], self.history[-1]
            speed = (last_step - first_step) / (last_time - first_time)
            columns["speed"] = format_rate(speed, "steps")
            columns["examples"] = format_rate(speed * self.batch_size, "examples")
            columns["left"] = f"{format_clock((steps - step) / speed)} left"
        return columns


class ProgressDisplay:
    """`with ProgressDisplay(runs):` shows the runs until the block ends.

    A terminal shows a bar for the sweep and one for each run in progress; other outputs get a plain line for each run
    that ends and, after `silence` seconds without one, for those in progress. Shows nothing if `quiet`.
    """

    def __init__(self, runs: Iterable[Watched], quiet: bool = False, silence: float = 15.0):
        self.runs = list(runs)
        self.quiet = quiet
        self.silence = silence
        self.names = distinct_names([run.folder.run_id for run in self.runs])
        estimates = [run.expected for run in self.runs if run.expected]
        average = sum(estimates) / len(estimates) if estimates else 1.0
        self.work = [run.expected or average for run in self.runs]  # in seconds, or in runs without any estimate
        self.reported: set[int] = set()  # indices of the runs whose end was printed
        self.first_work: tuple[float, float] | None = None  # when work was first seen, and the fraction done by then
        self.console = Console(highlight=False, soft_wrap=True)
        self.live = Live(get_renderable=self._screen, console=self.console, transient=True, refresh_per_second=1 / POLL)
        self.last_line = time.monotonic()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        if not self.quiet:
            if self.console.is_interactive:
                self.live.start()
            self.thread.start()
        return self

    def __exit__(self, *_):
        if self.quiet:
            return
        try:
            self.stop.set()
            self.thread.join()
            self._update()
        finally:
            self.live.stop()  # shows the cursor again

    def _watch(self) -> None:
        pause = POLL
        while not self.stop.wait(pause):
            started = time.monotonic()
            self._update()
            pause = max(POLL, 20 * (time.monotonic() - started))  # thousands of folders take their time

    def _update(self) -> None:
        for index, run in enumerate(self.runs):
            if index not in self.reported or run.interrupted:
                run.update()
        if self.first_work is None and (done := self._done()):
            self.first_work = time.monotonic(), done
        left = "" if self.console.is_interactive else self._left()  # once: it adds up all runs
        for index, run in enumerate(self.runs):
            self._report_end(index, run, left)
        if not self.console.is_interactive and time.monotonic() - self.last_line >= self.silence:
            for run in self.runs:
                if run.status and not run.ended:
                    self._print(f"... {run.folder.run_id}: {'  '.join(run.columns().values())}", left)

    def _report_end(self, index: int, run: Watched, left: str) -> None:
        if not run.ended:
            self.reported.discard(index)  # it was preempted, and goes on
        elif index not in self.reported:
            self.reported.add(index)
            message = f"{run.status['status']} {run.status.get('message', '')}".rstrip()
            self._print(f"[{len(self.reported)}/{len(self.runs)}] {run.folder.run_id}: {message}", left)

    def _print(self, line: str, left: str) -> None:
        self.last_line = time.monotonic()
        tells_left = left and 1 < len(self.runs) > len(self.reported)
        self.console.print(f"{line}  (sweep: {left})" if tells_left else line, markup=False)

    def _done(self) -> float:
        """Return the fraction of all work that is done."""
        return sum(work * run.fraction for run, work in zip(self.runs, self.work, strict=True)) / sum(self.work)

    def _left(self) -> str:
        """Return the sweep's time left at the pace since work was first seen: workers do not start again."""
        first_time, first_done = self.first_work or (0.0, 1.0)
        done = self._done()
        progress = done - first_done
        if progress < 0.02:
            return ""
        return f"{format_clock((time.monotonic() - first_time) * (1 - done) / progress)} left"

    def _screen(self) -> Table:
        """Return what a terminal shows now, at its present width."""
        lines = []
        if len(self.runs) > 1:
            step = f"{len(self.reported)}/{len(self.runs)}"
            lines.append(("sweep", self._done(), {"step": step, "left": self._left()}))
        for name, run in zip(self.names, self.runs, strict=True):
            if run.status and not run.ended:
                lines.append((name, run.fraction, run.columns()))
        return progress_table(lines, self.console.width)


def progress_table(lines: list[tuple[str, float, dict[str, str]]], width: int) -> Table:
    """Lay out lines of (name, fraction done, columns) in `width` characters.

    Where they do not fit, columns are dropped first, then the beginnings of the names.
    """
    widths = {key: max((len(texts.get(key, "")) for *_, texts in lines), default=0) for key in COLUMNS}
    widths["bar"] = BAR_WIDTH
    columns = [key for key in COLUMNS if widths[key]]
    longest_name = max((len(name) for name, *_ in lines), default=0)

    def room_for_name() -> int:
        return width - 1 - sum(widths[key] + 1 for key in columns)

    for key in DROPPED_FIRST:
        if room_for_name() < min(longest_name, NAME_WIDTH) and key in columns:
            columns.remove(key)
    room = room_for_name()
    grid = Table.grid(padding=(0, 1, 0, 0))
    for _ in ["name", *columns]:
        grid.add_column(no_wrap=True, overflow="crop")
    for name, fraction, texts in lines:
        shown = name if len(name) <= room else "…" + name[len(name) - max(room - 1, 1) :]
        bar = ProgressBar(total=1.0, completed=fraction, width=BAR_WIDTH)
        grid.add_row(shown, *(bar if key == "bar" else texts.get(key, "") for key in columns))
    return grid


def distinct_names(run_ids: list[str]) -> list[str]:
    """Return the names without their hash and the parts that all share; the hash where nothing else differs."""
    parts = [run_id.split("-") for run_id in run_ids]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    return ["-".join(part for part in name[:-1] if part not in shared) or name[-1] for name in parts]
