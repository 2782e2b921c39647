"""SIGTERM and Ctrl-C: the run in progress stops at its next step with a checkpoint, and no further run starts.

The request belongs to the process: a worker that was told to stop leaves the rest of its queue alone.

A scheduler's warning, before it takes the machine away, is such a request too where something handles it. Submitit
handles SIGUSR2: it submits the job anew and ends the process on the spot. It has its turn once the checkpoint is there.
"""

import signal
import threading
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(Exception):  # noqa: N818  (no error: the run was asked to stop and did)
    """A run has stopped, with a checkpoint. The message names the signal."""


class _StopRequest:
    """What was asked of this process. `number` is the signal, None while there is none."""

    def __init__(self):
        self.number: int | None = None
        self._users = 0

    def check(self) -> None:
        """Raises Interrupted when a stop was asked for."""
        if self.number is not None:
            raise Interrupted(f"stopped by {signal.Signals(self.number).name}")

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that the signal ended: 143 or 130."""
        return 128 + (self.number or 0)

    def _take(self, number: int, _frame) -> None:
        if number in SIGNALS and self.number in SIGNALS:  # asked twice: now, whatever the process is doing
            raise KeyboardInterrupt
        if self.number not in WARNINGS:  # a warning comes with a SIGTERM before or after it, and says more
            self.number = number

    @contextmanager
    def taken(self):
        """Inside the block the signals make a request instead of ending the process; blocks may be nested.

        The request outlives the block. Does nothing outside the main thread, which alone may handle signals.
        """
        if self._users or threading.current_thread() is not threading.main_thread():
            yield self
            return
        warnings = [number for number in WARNINGS if callable(signal.getsignal(number))]
        before = {number: signal.signal(number, self._take) for number in (*SIGNALS, *warnings)}
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            for number, handler in before.items():
                signal.signal(number, handler)

    def hand_on(self) -> None:
        """After a warning: let the one who handles it do so. Submitit's handler does not return."""
        if self.number in WARNINGS:
            signal.raise_signal(self.number)


stop_request = _StopRequest()
