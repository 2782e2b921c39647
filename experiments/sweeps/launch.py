"""A sweep from its list of runs to its last lines; Hydra calls the sweeper in experiments/plugins."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Set
from contextlib import contextmanager, suppress

import psutil
from omegaconf import DictConfig

from experiments.config.errors import ConfigError, first_line
from experiments.runs.folder import FINISHED, RunFolder, RunStatus
from experiments.runs.run import Run
from experiments.runs.signals import stop_request
from experiments.training.check import check_build, check_fields, check_place, check_value

POLL = 0.5  # seconds between two looks at other processes
PATIENCE = 4  # polls without a training process before a stopped sweep ends its launcher


class LaunchError(RuntimeError):
    """The launcher itself does not work. The message is one line."""


# --- Before: which runs are pending -----------------------------------------------------------------------------------


def runs_of(configs: list[DictConfig], kinds: list) -> list[Run]:
    """Return the runs of these configurations. Raises ConfigError for a field of any, and where there is none.

    kinds: equal for configurations that differ in their seed alone, of which the first is checked for all.
    """
    if not configs:
        raise ConfigError("this sweep has no run; a value is empty, or matches nothing")
    checked = set()
    for cfg, kind in zip(configs, kinds, strict=True):
        if kind in checked:
            check_value("seed", cfg.seed)
        else:
            check_fields(cfg)
            checked.add(kind)
    return [Run.of(cfg) for cfg in configs]


def select_pending(runs: list[Run], kinds: list) -> list[int]:
    """Return the indices of the runs that are not finished. Raises what `check` refuses, of any of them.

    kinds: as for runs_of. Where several jobs are the same run, the first is taken.
    """
    first_index = {run.id: index for index, run in reversed(list(enumerate(runs)))}
    pending = [index for index in sorted(first_index.values()) if not runs[index].folder.finished]
    for index in set(first_index.values()).difference(pending):
        runs[index].folder.warn_if_changed()
    built = set()
    for index in pending:
        check_place(runs[index].cfg.runs_dir, runs[index].id)
        if kinds[index] not in built:
            check_build(runs[index])
            built.add(kinds[index])
    if repeated := len(runs) - len(first_index):
        print(f"warning: {repeated} of {len(runs)} jobs are runs that are asked for twice", file=sys.stderr)
    return pending


# --- During: launch until all have ended ------------------------------------------------------------------------------


def run_all(
    launch: Callable[[list[int]], Iterable], folders: list[RunFolder], pending: list[int], most: int | None = None
) -> dict[int, str]:
    """Launch the pending runs, whatever becomes of their processes, until each one has ended; return why some failed.

    launch(indices): starts these runs under one of Hydra's launchers and returns the outcome of each when their
    processes have ended, or raises: a launcher whose worker is killed forgets the rest. The runs' folders know.
    most: how many it takes at a time, as a job array of Slurm has its limit; the next follow when these have ended.

    - A run that another sweep trains is waited for, and taken over should that one die: two sweeps share the work.
    - A run that lost its process runs once more, by itself, since a launcher may end all its workers for the death of
      one. If it loses its process again it has failed.

    Returns {index: reason}. Stops early, with runs left, after a request to stop. Raises LaunchError when two launches
    in a row bring no run further.
    """
    fruitless = 0  # launches in a row that changed nothing
    died_once: set[int] = set()
    failures: dict[int, str] = {}
    while pending and stop_request.number is None:
        batch = _next_batch(pending, died_once)[:most]
        before = {index: folders[index].status for index in batch}
        failed, elsewhere, crash = _launch(launch, batch)
        failures |= failed

        after = {index: folders[index].status for index in batch}
        died = {index for index in batch if after[index] != before[index] and folders[index].state == RunStatus.DIED}
        for index in died & died_once:
            failures[index] = "its process was killed twice; out of memory?"
            with folders[index].lock():
                folders[index].set_status(RunStatus.FAILED, message=failures[index])
        died_once |= died

        came_further = any(_position(after[index]) != _position(before[index]) for index in batch)
        fruitless = 0 if came_further or failed or elsewhere else fruitless + 1
        if fruitless == 2:
            folder = folders[batch[0]].path
            reason = crash or f"it reports an end, and {folder} stands as before; do its workers see the same runs_dir?"
            raise LaunchError(f"the launcher starts no run ({reason})")

        pending = [index for index in pending if index not in failures and not folders[index].finished]
        while pending and stop_request.number is None and all(folders[index].held for index in pending):
            time.sleep(POLL)
    return failures


def _position(status: dict) -> tuple:
    """Return how far a run has come. Its times are left out: every attempt has others, on the clock of its machine."""
    return status["status"], status.get("step")


def _next_batch(pending: list[int], died_once: set[int]) -> list[int]:
    """Return the runs that never lost their process; then, one at a time, those that did."""
    return [index for index in pending if index not in died_once] or pending[:1]


def _launch(launch: Callable[[list[int]], Iterable], batch: list[int]) -> tuple[dict[int, str], bool, str]:
    """Launch runs and wait for them.

    Returns the failed ones with their reasons, whether another process trains one of them, and the error of a launcher
    that crashed, "" if it did not.
    """
    failures, elsewhere = {}, False
    try:
        for index, result in zip(batch, launch(batch), strict=True):
            try:
                outcome = result.return_value
            except Exception as error:  # raised before experiments.training.run took over
                outcome = {"status": RunStatus.FAILED, "message": f"{type(error).__name__}: {error}"}
            if outcome["status"] == RunStatus.FAILED:
                failures[index] = outcome["message"]
            elsewhere |= outcome["status"] == RunStatus.RUNNING_ELSEWHERE
    except Exception as error:
        return {}, False, f"{type(error).__name__}: {first_line(error)}"
    return failures, elsewhere, ""


@contextmanager
def stop_passed_on(folders: list[RunFolder]):
    """Pass a request to stop inside the block on to the processes below this one that train one of the runs.

    Ctrl-C reaches them from the terminal; a SIGTERM, as from a scheduler, comes to this process alone.
    """
    ended = threading.Event()

    def watch() -> None:
        idle = 0
        signalled: set[int] = set()
        while not ended.wait(POLL):
            if stop_request.number is None:
                continue
            training = _training_below(folders)
            for pid in training - signalled:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            signalled |= training
            # A launcher goes on with its queue, or waits for machines that go on by themselves: nothing to wait for.
            idle = 0 if training else idle + 1
            if idle == PATIENCE:
                os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch, daemon=True)
    with stop_request.on_signals():
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            if stop_request.number is None:
                raise
        finally:
            ended.set()
            thread.join()


def _training_below(folders: list[RunFolder]) -> set[int]:
    """Return the processes started by this one, directly or not, that train one of the runs."""
    descendants = {child.pid for child in psutil.Process().children(recursive=True)}
    statuses = [folder.status for folder in folders]
    return descendants & {status["pid"] for status in statuses if status["status"] == RunStatus.RUNNING}


# --- After: the last lines --------------------------------------------------------------------------------------------


def conclude(folders: list[RunFolder], skipped: Set[RunFolder], failures: dict[RunFolder, str]) -> bool:
    """Print the last lines of a sweep; return whether every run is finished.

    skipped: those that were finished before. failures: reasons, which a folder that cannot be written does not hold.
    """
    states = {folder: RunStatus.FAILED if folder in failures else folder.state for folder in folders}
    for folder, state in states.items():
        if state not in FINISHED:
            message = failures.get(folder) or folder.damage or folder.status.get("message", "")
            print(f"{state}: {folder.path}: {message}".rstrip(": "))
    counts = Counter(RunStatus.SKIPPED if folder in skipped else state for folder, state in states.items())
    order = [RunStatus.DONE, RunStatus.SKIPPED, RunStatus.DIVERGED, RunStatus.FAILED]
    order += sorted(state for state in counts if state not in order)
    print(f"{len(folders)} runs: " + ", ".join(f"{counts[state]} {state}" for state in order))
    return all(state in FINISHED for state in states.values())
