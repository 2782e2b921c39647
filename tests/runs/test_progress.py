"""What a user sees of a run and a sweep: on a terminal, in a pipe, and with quiet=true."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from contextlib import contextmanager

import pytest
from rich.console import Console

from experiments.runs.folder import RunFolder
from experiments.runs.progress import (
    NAME_WIDTH,
    ProgressDisplay,
    Watched,
    distinct_names,
    format_clock,
    format_duration,
    format_rate,
    progress_table,
)
from tests.helpers.commands import ROOT
from tests.helpers.processes import QUIET, command, folders, only, train, wait_for

TINY = ["data=python_docs", "model.hidden_size=16", "data.seq_len=16", "data.batch_size=8", *QUIET]
SHORT = [*TINY, "trainer.steps=20", "trainer.evaluations=1"]
ENDLESS = [*TINY, "trainer.steps=1000000", "trainer.evaluations=5000"]
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Terminal:
    """A process on a terminal of its own, as a shell starts it; what it prints is in `output`."""

    def __init__(self, pid: int, master: int):
        self.pid, self.master, self.output = pid, master, ""

    def resize(self, width: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self) -> str:
        """What comes within a second; at the end "", when no one is left to write."""
        if not select.select([self.master], [], [], 1.0)[0]:
            return ""
        try:
            came = os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # how Linux reports the end
            came = ""
        self.output += came
        return came

    def read_until(self, *wanted: str) -> str:
        """What comes until every regular expression has been found in it."""
        came, deadline = "", time.monotonic() + 120
        while not all(re.search(what, came) for what in wanted):
            assert time.monotonic() < deadline, f"no {wanted} in {came[-3000:]!r}"
            came += self.read()
        return came

    def exit_code(self) -> int:
        while (ended := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            self.read()
        while self.read():
            pass
        return os.waitstatus_to_exitcode(ended[1])


@contextmanager
def on_a_terminal(arguments: list[str], width: int):
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in a shell, also where the tests run under nohup
        os.execve(arguments[0], arguments, environment | {"TERM": "xterm-256color"})
    terminal = Terminal(pid, master)
    terminal.resize(width)
    try:
        yield terminal
    finally:
        os.close(master)  # hangs up on what is still there


def visible(output: str) -> list[str]:
    """The lines of some output as they are seen, without the codes that move the cursor and choose colours."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output))


def test_a_terminal_shows_bars_survives_a_resize_and_is_left_sane(tmp_path):
    with on_a_terminal(command(tmp_path, "-m", "model=rnn", "norm=none,ln", *ENDLESS), width=110) as terminal:
        before = termios.tcgetattr(terminal.master)
        wide = visible(terminal.read_until(r"examples/s(?s:.*)examples/s", "val/bpc"))
        assert any(re.match(r"sweep +\S* +0/2", line) for line in wide)
        run = r"none +━\S* *\d+/1000000 loss \d\S* +(val/bpc \S+ +)?\S+ steps/s \S+ examples/s \S.* left"
        assert any(re.match(run, line) for line in wide), wide[-5:]
        assert max(map(len, wide)) <= 110

        terminal.resize(50)
        terminal.read_until("sweep")  # may have been drawn before
        narrow = visible(terminal.read_until("sweep(?s:.*)sweep(?s:.*)\n"))
        assert max(map(len, narrow)) <= 50 and any("1000000" in line for line in narrow)

        terminal.press("\x03")  # Ctrl-C
        assert terminal.exit_code() == 130
        assert termios.tcgetattr(terminal.master) == before
    assert terminal.output.rindex(SHOW_CURSOR) > terminal.output.rindex(HIDE_CURSOR)
    assert "Traceback" not in terminal.output and "2 runs: 0 done" in terminal.output


def test_sigterm_too_leaves_the_terminal_sane(tmp_path):
    with on_a_terminal(command(tmp_path, "model=rnn", *ENDLESS), width=80) as terminal:
        terminal.read_until("steps/s")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.exit_code() == 143
    assert terminal.output.rindex(SHOW_CURSOR) > terminal.output.rindex(HIDE_CURSOR)


def test_a_closed_terminal_leaves_checkpoints(tmp_path):
    with on_a_terminal(command(tmp_path, "-m", "model=rnn", "norm=none,ln", *ENDLESS), width=80) as terminal:
        terminal.read_until("steps/s")
    ended = wait_for(lambda: (waited := os.waitpid(terminal.pid, os.WNOHANG))[0] and waited, seconds=60)
    assert os.waitstatus_to_exitcode(ended[1]) == 128 + signal.SIGHUP
    states = [(folder.state, folder.load_checkpoint("cpu") is not None) for folder in folders(tmp_path)]
    assert set(states) == {("interrupted", True)}, states


def test_a_pipe_gets_plain_lines(tmp_path):
    result = train(tmp_path, "-m", "model=rnn", "norm=none,ln", *SHORT)
    assert result.returncode == 0, result.stderr
    # on a busy machine a run in progress gets a line as well
    first, *rest = [line for line in result.stdout.splitlines() if not line.startswith("... ")]
    none, ln = (next(folder for folder in folders(tmp_path) if f"-{norm}-" in folder.run_id) for norm in ("none", "ln"))
    assert first.startswith(f"[1/2] {none.run_id}: done val/bpc ")
    assert rest[0].startswith(f"[2/2] {ln.run_id}: done val/bpc ") and rest[1].startswith("2 runs: 2 done")
    assert "\x1b" not in result.stdout and "━" not in result.stdout


def test_a_run_that_is_requeued_counts_again_and_its_end_is_printed_again(tmp_path, capsys):
    """As Slurm does with a run that it preempts."""
    folder = RunFolder(tmp_path, "preempted")
    folder.path.mkdir()
    display = ProgressDisplay([Watched(folder, batch_size=8), Watched(RunFolder(tmp_path, "other"), batch_size=8)])
    step = {"step": 5, "steps": 10, "val": {}, "loss": 1.0}
    folder.set_status("interrupted", message="stopped by SIGUSR2", **step)
    display._update()
    display._update()
    assert (display.reported, display._done()) == ({0}, 0.25)
    folder.set_status("running", **step)
    display._update()
    assert display.reported == set()
    folder.set_status("done", message="val/accuracy 97", **step)
    display._update()
    assert (display.reported, display._done()) == ({0}, 0.5)
    lines = [line.partition("  (sweep")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["[1/2] preempted: interrupted stopped by SIGUSR2", "[1/2] preempted: done val/accuracy 97"]


def test_the_time_left_is_at_the_pace_of_the_work_without_the_start_of_the_workers(tmp_path, monkeypatch):
    """Twenty seconds of start, then a tenth of the work in every ten; a tenth was done by an earlier attempt."""
    clock = [0.0]
    monkeypatch.setattr("experiments.runs.progress.time.monotonic", lambda: clock[0])
    folder = RunFolder(tmp_path, "one")
    folder.path.mkdir()
    display = ProgressDisplay([Watched(folder, batch_size=8)])
    display._update()
    assert display._left() == ""
    for seconds, step, left in ((20.0, 10, ""), (30.0, 20, "1:20 left"), (60.0, 50, "0:50 left")):
        clock[0] = seconds
        folder.set_status("running", step=step, steps=100, val={}, loss=1.0)
        display._update()
        assert display._left() == left


def test_many_runs_that_end_at_once_are_added_up_once_and_not_for_each_line(tmp_path, monkeypatch, capsys):
    """As where another sweep has trained them: thousands of lines, each of which would add up thousands of runs."""
    watched = [Watched(RunFolder(tmp_path, f"run{number}"), batch_size=8) for number in range(40)]
    display, looked_at, fraction = ProgressDisplay(watched), [], Watched.fraction.fget
    monkeypatch.setattr(Watched, "fraction", property(lambda run: looked_at.append(run) or fraction(run)))
    display._update()
    for run in watched[:-1]:
        run.folder.path.mkdir()
        run.folder.set_status("done", message="val/accuracy 97")
    display._update()
    assert len(looked_at) <= 4 * len(watched) and len(capsys.readouterr().out.splitlines()) == 39


def test_quiet_prints_the_last_lines_alone_and_is_no_other_run(tmp_path):
    result = train(tmp_path, "model=rnn", *SHORT, "quiet=true")
    assert result.stdout == f"done: {only(tmp_path).path}\n" and result.stderr == ""
    again = train(tmp_path, "-m", "model=rnn", *SHORT, "quiet=true", "seed=0,1")
    assert again.stdout == "2 runs: 1 done, 1 skipped, 0 diverged, 0 failed\n" and again.stderr == ""


def test_quiet_keeps_errors(tmp_path):
    result = train(tmp_path, "norm=lm", "quiet=true")
    assert result.returncode == 2 and result.stderr.startswith("error: norm=lm is unknown")


LINES = [
    ("sweep", 0.4, {"step": "12/90", "left": "3:02 left"}),
    (
        "lstm-ln-armexamples-b32-lr0.04-s20",
        0.6,
        {
            **{"step": "1200/2000", "loss": "loss 2.345", "val": "val/bpc 3.052"},
            **{"speed": "42.1 steps/s", "examples": "1.35k examples/s", "left": "1:02 left"},
        },
    ),
    ("gru-ln-armexamples-b32-lr0.04-s20", 0.0, {"step": "starts"}),
]


@pytest.mark.parametrize("width", [30, 50, 80, 100, 120, 130, 160])
def test_a_table_keeps_to_the_width_and_its_columns_give_way(width):
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(progress_table(LINES, width))
    drawn = capture.get().splitlines()
    assert len(drawn) == len(LINES) and max(map(len, drawn)) <= width
    assert "1200/2000" in drawn[1] or width < 40
    assert ("━" in drawn[1], "examples/s" in drawn[1]) == (width >= 80, width >= 120)
    whole = "lstm-ln-armexamples-b32-lr0.04-s20 "
    shown, space, _ = drawn[1].partition(" ")
    assert whole.endswith(shown.removeprefix("…") + space), "the end of a name distinguishes runs"
    assert len(shown) >= NAME_WIDTH or width < 40
    assert width < 130 or shown + space == whole


def test_names_lose_what_they_share():
    ids = ["train-lstm-none-python_docs-b32-lr0.1-s0-0123abcd", "train-lstm-ln-python_docs-b32-lr0.1-s1-0123abce"]
    assert distinct_names(ids) == ["none-s0", "ln-s1"]
    assert distinct_names(ids[:1]) == ["train-lstm-none-python_docs-b32-lr0.1-s0"]
    assert distinct_names(["a-b-0123abcd", "a-b-0123abce"]) == ["0123abcd", "0123abce"]


def test_times_and_rates_as_text():
    assert [format_duration(seconds) for seconds in (3.4, 62, 3725)] == ["3 s", "1 min 02 s", "1 h 02 min"]
    assert [format_clock(seconds) for seconds in (3.4, 62, 3725)] == ["0:03", "1:02", "1:02:05"]
    assert [format_rate(number, "steps") for number in (0.512, 42.13, 1234.0, 56_780.0)] == [
        *("0.512 steps/s", "42.1 steps/s", "1.23k steps/s", "56.8k steps/s"),
    ]
