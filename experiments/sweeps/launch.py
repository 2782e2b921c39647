"""A sweep from its list of runs to its last lines; the sweeper that Hydra calls is in experiments/plugins."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress

import psutil
from omegaconf import DictConfig

from experiments.config.errors import ConfigError
from experiments.runs.folder import FINISHED, RunFolder
from experiments.runs.identity import run_id
from experiments.runs.signals import stop_request
from experiments.training.check import check_build, check_fields, check_place, check_value

POLL = 0.5  # seconds between two looks at other processes


def select_pending(configs: list[DictConfig], kinds: list) -> tuple[list[RunFolder], list[int]]:
    """The runs' folders, and the indices of those that are not finished. Raises what `check` refuses, of any run.

    kinds: equal for configurations that differ in their seed alone, of which the first is checked for all. Of several
    jobs that are the same run the first is taken.
    """
    if not configs:
        raise ConfigError("this sweep has no run; a value is empty, or matches nothing")
    seen = set()
    for cfg, kind in zip(configs, kinds, strict=True):
        if kind in seen:
            check_value("seed", cfg.seed)
        else:
            check_fields(cfg)
            seen.add(kind)
    folders = [RunFolder(cfg.runs_dir, run_id(cfg)) for cfg in configs]
    first = {folder.run_id: index for index, folder in reversed(list(enumerate(folders)))}
    pending = [index for index in sorted(first.values()) if not folders[index].finished]
    built = set()
    for index in pending:
        check_place(configs[index].runs_dir, folders[index].run_id)
        if kinds[index] not in built:
            check_build(configs[index])
            built.add(kinds[index])
    if repeated := len(folders) - len(first):
        print(f"warning: {repeated} of {len(folders)} jobs are runs that are asked for twice", file=sys.stderr)
    return folders, pending


def run_all(
    launch: Callable[[list[int]], Iterable], folders: list[RunFolder], pending: list[int], most: int | None = None
) -> dict[int, str]:
    """Launch the pending runs, whatever becomes of their processes, until each one has ended; returns why some failed.

    launch(indices): starts these runs under one of Hydra's launchers and returns what became of each when their
    processes have ended, or raises: a launcher whose worker is killed forgets the rest. The runs' folders tell.
    most: how many it takes at a time, as a job array of Slurm has its limit; the next follow when these have ended.

    - A run that another sweep trains is waited for, and taken over should that one die: two sweeps share the work.
    - A run that lost its process runs once more, by itself, since a launcher may end all its workers for the death of
      one. If it loses its process again it has failed.

    Returns {index: reason}. Stops early, with runs left, after a request to stop. Raises LaunchError when no run can be
    started.
    """
    began, fruitless = time.time(), 0
    suspects: set[int] = set()
    failures: dict[int, str] = {}
    while pending and stop_request.number is None:
        alone = [index for index in pending if index in suspects]
        batch = [index for index in pending if index not in suspects] or alone[:1]
        batch = batch[:most]
        before = [folders[index].status for index in batch]
        try:
            failures |= _failures(batch, launch(batch))
            crash = ""
        except Exception as error:
            crash = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        died = [i for i in batch if folders[i].state == "died" and folders[i].status["updated"] >= began]
        for index in suspects.intersection(died):
            failures[index] = "its process was killed twice; out of memory?"
            with folders[index].lock():
                folders[index].set_status("failed", message=failures[index])
        suspects.update(died)
        fruitless = fruitless + 1 if crash and [folders[index].status for index in batch] == before else 0
        if fruitless == 2:
            raise LaunchError(f"the launcher starts no run ({crash})")
        pending = [index for index in pending if index not in failures and not folders[index].finished]
        while pending and stop_request.number is None and all(folders[index].held for index in pending):
            time.sleep(POLL)
    return failures


class LaunchError(RuntimeError):
    """The launcher itself does not work. The message is one line."""


def _failures(batch: list[int], results: Iterable) -> dict[int, str]:
    """The runs that failed and why, from what a launcher returns of each."""
    found = {}
    for index, result in zip(batch, results, strict=True):
        try:
            outcome = result.return_value
        except Exception as error:  # raised before experiments.training.run took over
            outcome = {"status": "failed", "message": f"{type(error).__name__}: {error}"}
        if outcome["status"] == "failed":
            found[index] = outcome["message"]
    return found


@contextmanager
def stop_passed_on(folders: list[RunFolder]):
    """Inside the block a request to stop reaches the processes below this one that train one of the runs.

    Ctrl-C reaches them from the terminal; a SIGTERM, as from a scheduler, comes to this process alone.
    """
    ended = threading.Event()

    def watch() -> None:
        idle = 0
        told: set[int] = set()
        while not ended.wait(POLL):
            if stop_request.number is None:
                continue
            training = _training_below(folders)
            for pid in training - told:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            told |= training
            # A launcher goes on with its queue, or waits for machines that go on by themselves: nothing to wait for.
            idle = 0 if training else idle + 1
            if idle == 4:
                os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch, daemon=True)
    with stop_request.taken():
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
    """The processes started by this one, directly or not, that train one of the runs."""
    below = {child.pid for child in psutil.Process().children(recursive=True)}
    statuses = [folder.status for folder in folders]
    return below & {status["pid"] for status in statuses if status["status"] == "running"}


def conclude(folders: list[RunFolder], skipped: int, failures: dict[RunFolder, str]) -> bool:
    """Prints the last lines of a sweep; True when every run is finished.

    skipped: how many were finished before. failures: reasons, which a folder that cannot be written does not hold.
    """
    states = {folder: "failed" if folder in failures else folder.state for folder in folders}
    for folder, state in states.items():
        if state not in FINISHED:
            print(f"{state}: {folder.path}: {failures.get(folder) or folder.status.get('message', '')}".rstrip(": "))
    counts = Counter(states.values())
    counts["done"] -= min(skipped, counts["done"])
    counts["skipped"] = skipped
    order = ["done", "skipped", "diverged", "failed"]
    order += sorted(state for state in counts if state not in order)
    print(f"{len(folders)} runs: " + ", ".join(f"{counts[state]} {state}" for state in order))
    return all(state in FINISHED for state in states.values())
