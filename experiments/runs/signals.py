"""SIGTERM, Ctrl-C and a closed terminal: the run stops at its next step with a checkpoint, and no further run starts.

The request belongs to the process: a worker that was asked to stop leaves the rest of its queue alone.

The warning of a scheduler, before it takes the machine away, is such a request too where the program has a handler for
it. Submitit handles SIGUSR2: it submits the job anew and ends the process at once. Its handler is called once the
checkpoint is written.
"""

import signal
import threading
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANGUP = signal.SIGHUP  # may come twice for one closed terminal, from the shell and from the kernel
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(Exception):  # noqa: N818  (no error: the run was asked to stop and did)
    """A run was asked to stop and has stopped, with a checkpoint. The message names the signal."""


class _StopRequest:
    """Whether this process was asked to stop. `number` is the signal that asked, None while none has."""

    def __init__(self):
        self.number: int | None = None
        self._installed = False

    def raise_if_made(self) -> None:
        """Raise Interrupted if the process was asked to stop."""
        if self.number is not None:
            raise Interrupted(f"stopped by {signal.Signals(self.number).name}")

    @property
    def exit_code(self) -> int:
        """The exit code that a shell reports for a process ended by the signal: 143, 130 or 129."""
        return 128 + (self.number or 0)

    def _handle(self, number: int, _frame) -> None:
        if number in SIGNALS and self.number in SIGNALS:  # asked twice: stop now, whatever the process is doing
            raise KeyboardInterrupt
        if number == HANGUP and self.number is not None:
            return
        if self.number not in WARNINGS:  # a SIGTERM may come before or after a warning, which is the more specific
            self.number = number

    @contextmanager
    def on_signals(self):
        """Let the signals make a request inside the block instead of ending the process; blocks may be nested.

        The request outlives the block. Does nothing outside the main thread, which alone may handle signals.
        """
        if self._installed or threading.current_thread() is not threading.main_thread():
            yield self
            return
        warnings = [number for number in WARNINGS if callable(signal.getsignal(number))]
        hangup = [HANGUP] if signal.getsignal(HANGUP) is not signal.SIG_IGN else []  # nohup has it ignored
        handlers = {number: signal.signal(number, self._handle) for number in (*SIGNALS, *hangup, *warnings)}
        self._installed = True
        try:
            yield self
        finally:
            self._installed = False
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def forward_warning(self) -> None:
        """Raise a scheduler's warning again, now for the handler that it was sent to. Submitit's does not return."""
        if self.number in WARNINGS:
            signal.raise_signal(self.number)


stop_request = _StopRequest()
