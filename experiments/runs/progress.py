"""Progress of one run or a sweep, read from the runs' status files, so it is the same under every launcher."""

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from experiments.runs.folder import RunFolder

ENDED = ("done", "diverged", "failed", "interrupted")
POLL = 0.5  # seconds; the runs write their status as often
WINDOW = 20  # statuses over which a speed is taken: ten seconds at least
NAME = 20  # characters of a name that should be seen; columns give way for it ...
GIVE_WAY = ("examples", "loss", "bar", "speed", "val")  # ... in this order
BAR = 10  # characters


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def clock(seconds: float) -> str:
    """3:07 or 1:02:45; short, for a table."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def rate(number: float, unit: str) -> str:
    return f"{number / 1000:.3g}k {unit}/s" if number >= 1000 else f"{number:.3g} {unit}/s"


@dataclass
class Watched:
    """A run on display. expected: seconds that it will take, None if unknown (experiments.sweeps.plan)."""

    folder: RunFolder
    batch_size: int
    expected: float | None = None
    status: dict = field(default_factory=dict)  # the last one of this attempt
    seen: deque = field(default_factory=lambda: deque(maxlen=WINDOW))  # (time, step) of the last ones

    def look(self, since: float) -> None:
        """Read the status, unless it is of an attempt before `since`."""
        status = self.folder.status
        if status.get("updated", 0) < since:
            return
        self.status = status
        if "steps" in status and (not self.seen or self.seen[-1][1] < status["step"]):
            self.seen.append((status["updated"], status["step"]))

    @property
    def ended(self) -> bool:
        return self.status.get("status") in ENDED

    @property
    def interrupted(self) -> bool:
        return self.status.get("status") == "interrupted"

    @property
    def part(self) -> float:
        """The part of the steps that is done."""
        if self.ended and not self.interrupted:
            return 1.0
        return self.status["step"] / self.status["steps"] if "steps" in self.status else 0.0

    def columns(self) -> dict[str, str]:
        """Step, metrics, speed of late (evaluation included) and time left, as far as they are known."""
        if "steps" not in self.status:
            return {"step": "starts"}
        step, steps, validation = self.status["step"], self.status["steps"], self.status["val"]
        words = {"step": f"{step}/{steps}", "loss": f"loss {self.status['loss']:.4g}"}
        if validation:
            name = next((name for name in validation if name != "val/loss"), "val/loss")
            words["val"] = f"{name} {validation[name]:.4g}"
        if len(self.seen) > 1:
            (began, first), (now, last) = self.seen[0], self.seen[-1]
            speed = (last - first) / (now - began)
            words["speed"], words["examples"] = rate(speed, "steps"), rate(speed * self.batch_size, "examples")
            words["left"] = f"{clock((steps - step) / speed)} left"
        return words


class ProgressDisplay:
    """`with ProgressDisplay(runs):` shows the runs until the block ends.

    On a terminal a bar for the sweep and one for each run in progress; otherwise a plain line for each run that ends
    and, after `silence` seconds without one, for those in progress. Nothing at all if `quiet`.
    """

    def __init__(self, runs: Iterable[Watched], quiet: bool = False, silence: float = 15.0):
        self.runs, self.quiet, self.silence = list(runs), quiet, silence
        self.names = short([run.folder.run_id for run in self.runs])
        known = [run.expected for run in self.runs if run.expected]
        average = sum(known) / len(known) if known else 1.0
        self.work = [run.expected or average for run in self.runs]  # in seconds, or in runs where nothing is known
        self.told: set[int] = set()  # indices of the runs whose end was told
        self.began: tuple[float, float] | None = None  # when work was first seen, and how much was done by then
        self.console = Console(highlight=False, soft_wrap=True)
        self.live = Live(get_renderable=self._screen, console=self.console, transient=True, refresh_per_second=1 / POLL)
        self.started, self.spoken = time.time(), time.monotonic()
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
            self._look()
        finally:
            self.live.stop()  # gives the cursor back

    def _watch(self) -> None:
        pause = POLL
        while not self.stop.wait(pause):
            began = time.monotonic()
            self._look()
            pause = max(POLL, 20 * (time.monotonic() - began))  # thousands of folders take their time

    def _look(self) -> None:
        for index, run in enumerate(self.runs):
            if index in self.told and not run.interrupted:
                continue
            run.look(self.started)
            if not run.ended:
                self.told.discard(index)  # it was preempted, and goes on
            elif index not in self.told:
                self.told.add(index)
                message = f"{run.status['status']} {run.status.get('message', '')}".rstrip()
                self._say(f"[{len(self.told)}/{len(self.runs)}] {run.folder.run_id}: {message}")
        if self.began is None and (done := self._done()):
            self.began = time.monotonic(), done
        if not self.console.is_interactive and time.monotonic() - self.spoken >= self.silence:
            for run in self._in_progress():
                self._say(f"... {run.folder.run_id}: {'  '.join(run.columns().values())}")

    def _say(self, line: str) -> None:
        self.spoken = time.monotonic()
        left = self._left() if not self.console.is_interactive and len(self.told) < len(self.runs) else ""
        self.console.print(f"{line}  (sweep: {left})" if left and len(self.runs) > 1 else line, markup=False)

    def _in_progress(self) -> list[Watched]:
        return [run for run in self.runs if run.status and not run.ended]

    def _done(self) -> float:
        """The part of all work that is done."""
        return sum(work * run.part for run, work in zip(self.runs, self.work, strict=True)) / sum(self.work)

    def _left(self) -> str:
        """Time left of the sweep, at the pace since work was first seen: the start of the workers is not repeated."""
        began, before = self.began or (0.0, 1.0)
        done = self._done()
        new = done - before
        return f"{clock((time.monotonic() - began) * (1 - done) / new)} left" if new >= 0.02 else ""

    def _screen(self) -> Table:
        """What a terminal shows now, at the width that it has now."""
        lines = []
        if len(self.runs) > 1:
            step = f"{len(self.told)}/{len(self.runs)}"
            lines.append(("sweep", self._done(), {"step": step, "left": self._left()}))
        for name, run in zip(self.names, self.runs, strict=True):
            if run.status and not run.ended:
                lines.append((name, run.part, run.columns()))
        return table(lines, self.console.width)


def table(lines: list[tuple[str, float, dict[str, str]]], width: int) -> Table:
    """Lines of (name, part done, columns) in `width` characters: columns give way, then the names' beginnings."""
    columns = ["bar", "step", "loss", "val", "speed", "examples", "left"]
    widths = {key: max((len(words.get(key, "")) for *_, words in lines), default=0) for key in columns} | {"bar": BAR}
    columns = [key for key in columns if widths[key]]
    longest = max((len(name) for name, *_ in lines), default=0)

    def room() -> int:
        return width - 1 - sum(widths[key] + 1 for key in columns)

    for key in GIVE_WAY:
        if room() < min(longest, NAME) and key in columns:
            columns.remove(key)
    grid = Table.grid(padding=(0, 1, 0, 0))
    for _ in ["name", *columns]:
        grid.add_column(no_wrap=True, overflow="crop")
    for name, part, words in lines:
        seen = name if len(name) <= room() else "…" + name[len(name) - max(room() - 1, 1) :]
        bar = ProgressBar(total=1.0, completed=part, width=BAR)
        grid.add_row(seen, *(bar if key == "bar" else words.get(key, "") for key in columns))
    return grid


def short(run_ids: list[str]) -> list[str]:
    """The names without their hash and the parts that all have; the hash alone where nothing else differs."""
    parts = [run_id.split("-") for run_id in run_ids]
    same = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    return ["-".join(part for part in name[:-1] if part not in same) or name[-1] for name in parts]
