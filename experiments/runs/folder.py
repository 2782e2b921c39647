"""The folder of one run: lock, status, metrics, checkpoint. All writes are atomic or append-only.

    config.yaml  environment.json  metrics.jsonl  summary.json  status.json  last.pt  previous.pt  error.txt  lock
    wandb/

`metrics.jsonl` is the truth, a row a line, flushed as written; wandb mirrors it.
"""

import errno
import hashlib
import io
import json
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.config.errors import first_line

FORMAT = 1  # of a checkpoint's content
LOCK_TIMEOUT = 0.5  # seconds that a lock is waited for: another process may hold it just to see whether it is free
HEARTBEAT = 0.5  # seconds between two statuses of a running run, at least


class RunStatus(StrEnum):
    """Where a run stands, and what came of an attempt to train it."""

    # Written into status.json
    RUNNING = "running"
    DONE = "done"
    DIVERGED = "diverged"  # a loss or gradient was not finite, which is a result
    INTERRUPTED = "interrupted"  # stopped by a signal, with a checkpoint
    FAILED = "failed"
    # Read off the folder
    NEW = "new"  # there is no status.json
    DIED = "died"  # status.json says running, and no process holds the lock
    # The outcome of an attempt that did not train
    SKIPPED = "skipped"  # the run was finished
    RUNNING_ELSEWHERE = "running elsewhere"  # another process holds the lock


FINISHED = (RunStatus.DONE, RunStatus.DIVERGED)


class DamagedCheckpointError(ValueError):
    """A checkpoint is not what was saved for this run. The message says how it differs."""


class AlreadyRunningError(RuntimeError):
    """Another process trains this run. The message names the process."""


def read_json(path: Path) -> dict | None:
    """Return the file's content; None when it is absent, or half written by a process that died."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None


def write_atomically(path: Path, write: Callable[..., object], durable: bool = False, keep: Path | None = None) -> None:
    """Write a file so that a reader sees the whole old or the whole new content, never a part.

    write(file) fills a temporary file beside `path`, which is then renamed. durable: force the content to the disk
    first, so that it survives a power cut. keep: the path that the old file is renamed to. Raises OSError (no space, no
    permission); the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    """Force the renames in a folder to the disk, on file systems that can open a folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file atomically. Raises OSError."""
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


class RunFolder:
    """The folder `runs_dir/run_id` of one run. Nothing is written before `lock` is entered."""

    def __init__(self, runs_dir: str | Path, run_id: str):
        self.run_id = run_id
        self.path = Path(runs_dir) / run_id
        self._last_heartbeat = 0.0

    @property
    def status(self) -> dict:
        """The last status written: {"status": a RunStatus, "step": ..., "steps": ..., ...}; NEW without status.json."""
        return read_json(self.path / "status.json") or {"status": RunStatus.NEW}

    @property
    def summary(self) -> dict | None:
        """The row of a finished run; None without one."""
        return read_json(self.path / "summary.json")

    @property
    def finished(self) -> bool:
        """Whether the run has a result, which is not computed again."""
        return self.status["status"] in FINISHED and self.summary is not None

    @contextmanager
    def lock(self):
        """Hold the run inside the block, and remove temporary files that a dead process left.

        The lock is the operating system's (flock) and ends with the process, however it dies. Raises
        AlreadyRunningError if another process holds the run, and OSError where the file system has no locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self._file_lock()
        self._acquire(lock)
        try:
            for leftover in self.path.glob(".*.tmp"):
                leftover.unlink()
            yield self
        finally:
            lock.release()

    def _acquire(self, lock: FileLock) -> None:
        try:
            lock.acquire(timeout=LOCK_TIMEOUT, poll_interval=0.02)
        except Timeout:
            status = self.status
            process = f"(pid {status.get('pid', 'unknown')}) on {status.get('host', 'unknown')}"
            raise AlreadyRunningError(f"{self.run_id} is already running {process}; wait for it or stop it") from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
            reason = "this file system has no locks, so two processes could train the run; choose another runs_dir"
            raise OSError(error.errno, reason) from None

    def _file_lock(self) -> FileLock:
        # Without flock, as on some clusters, filelock would take a file that a killed process leaves behind.
        return FileLock(self.path / "lock", fallback_to_soft=False)

    def set_status(self, status: RunStatus, **more) -> None:
        """Write status.json, with this process and the time. Raises OSError."""
        process = {"pid": os.getpid(), "host": socket.gethostname()}
        write_json(self.path / "status.json", {"status": status, **process, "updated": time.time(), **more})

    def heartbeat(self, **progress) -> None:
        """Write the status of a running run, for progress displays; at most every HEARTBEAT seconds."""
        if time.monotonic() - self._last_heartbeat >= HEARTBEAT:
            self._last_heartbeat = time.monotonic()
            self.set_status(RunStatus.RUNNING, **progress)

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows after `step` and a half-written last line: a resumed run writes them again."""
        path = self.path / "metrics.jsonl"
        kept = [row for row in self.metrics() if row["step"] <= step]
        write_atomically(path, lambda file: file.writelines((json.dumps(row) + "\n").encode() for row in kept))

    def append(self, row: dict) -> None:
        """Append a row to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict]:
        """Return all whole rows of metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        rows: list[dict] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break  # the line that a killed process was writing
        return rows

    @property
    def held(self) -> bool:
        """Whether a living process holds the run, on this machine or, where a shared file system locks, on another."""
        if not (self.path / "lock").exists():
            return False
        lock = self._file_lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    @property
    def state(self) -> RunStatus:
        """The status, but DIED where it is "running" and no process holds the run."""
        status = RunStatus(self.status["status"])
        return RunStatus.DIED if status == RunStatus.RUNNING and not self.held else status

    def save_checkpoint(self, content: dict) -> None:
        """Write last.pt and keep the one before as previous.pt. Raises OSError, with both left as they were."""
        import torch

        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "run_id": self.run_id, **content}, buffer)
        archive = buffer.getvalue()
        digest = hashlib.sha256(archive).digest()
        # A zip archive ends with the length of a comment and the comment: torch writes none, here it is the checksum.
        signed = archive[:-2] + len(digest).to_bytes(2, "little") + digest
        path = self.path / "last.pt"
        write_atomically(path, lambda file: file.write(signed), durable=True, keep=self.path / "previous.pt")

    def load_checkpoint(self, device: str) -> dict | None:
        """Return the newest undamaged checkpoint, or None; name a damaged one on stderr.

        Nothing of a file is used before its checksum is right, and nothing in it is executed: it holds data alone.
        """
        for name in ("last.pt", "previous.pt"):
            path = self.path / name
            if not path.exists():
                continue
            try:
                return read_checkpoint(path, self.run_id, device)
            except DamagedCheckpointError as error:
                print(f"{path} is not used: {error}", file=sys.stderr)
        return None


def read_checkpoint(path: Path, run_id: str, device: str) -> dict:
    """Return the content of a checkpoint of the run. Raises DamagedCheckpointError."""
    import torch

    try:
        signed = path.read_bytes()
    except OSError as error:
        raise DamagedCheckpointError(f"it cannot be read ({error.strerror})") from None
    size = hashlib.sha256().digest_size
    archive = signed[: -size - 2] + bytes(2)
    if len(signed) < size + 2 or hashlib.sha256(archive).digest() != signed[-size:]:
        raise DamagedCheckpointError(f"its {len(signed)} bytes do not have the checksum that was saved with them")
    try:
        content = torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = first_line(error)
        raise DamagedCheckpointError(f"it holds more than tensors and plain data, or less ({reason})") from None
    header = content if isinstance(content, dict) else {}
    saved_format, saved_run = header.get("format"), header.get("run_id")
    if (saved_format, saved_run) != (FORMAT, run_id):
        raise DamagedCheckpointError(
            f"it is of format {saved_format} and run {saved_run}, not of format {FORMAT} and {run_id}"
        )
    return content
