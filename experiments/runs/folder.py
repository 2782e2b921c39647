"""The folder of one run: lock, status, metrics, checkpoint. All writes are atomic or append-only.

    config.yaml  environment.json  metrics.jsonl  summary.json  status.json  last.pt  previous.pt  error.txt  lock
    wandb/

`metrics.jsonl` is the truth, a row a line, flushed as written; wandb mirrors it. Status: running, done, diverged,
interrupted or failed.
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
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

FINISHED = ("done", "diverged")  # a non-finite loss is a result
FORMAT = 1  # of a checkpoint's content
LOOK = 0.5  # seconds that a lock is asked for: another process may hold it just to see whether it is free


class DamagedCheckpointError(ValueError):
    """A checkpoint that is not what was saved for this run. The message says in what way."""


class AlreadyRunningError(RuntimeError):
    """Another process trains this run. The message names it."""


def read_json(path: Path) -> dict | None:
    """The file's content, or None when it is absent or half written by a process that died."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None


def write_atomically(path: Path, write, durable: bool = False, keep: Path | None = None) -> None:
    """`write(file)` into a temporary file beside `path`, then one rename: a reader sees the old or the new, whole.

    durable: force it to the disk first, so that it survives a power cut. keep: the name that an old file goes on under.
    Raises OSError (no space, no permission); what was there is then untouched.
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
    """The renames themselves reach the disk. Not every file system can open a folder; then they come when they come."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


class RunFolder:
    """One run's folder, `runs_dir/run_id`. Nothing is written before `lock` is entered."""

    def __init__(self, runs_dir: str | Path, run_id: str):
        self.run_id = run_id
        self.path = Path(runs_dir) / run_id
        self._beat = 0.0

    @property
    def status(self) -> dict:
        """The last status written: {"status": ..., "step": ..., "steps": ..., ...}; "new" for an untouched folder."""
        return read_json(self.path / "status.json") or {"status": "new"}

    @property
    def summary(self) -> dict | None:
        return read_json(self.path / "summary.json")

    @property
    def finished(self) -> bool:
        return self.status["status"] in FINISHED and self.summary is not None

    @contextmanager
    def lock(self):
        """Hold the run. Raises AlreadyRunningError if another process does. Leftovers of a dead process are swept.

        The lock is the operating system's (flock) and ends with the process, however it dies.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        try:
            lock.acquire(timeout=LOOK, poll_interval=0.02)
        except Timeout:
            pid, host = (self.status.get(key, "unknown") for key in ("pid", "host"))
            where = f"(pid {pid}) on {host}"
            raise AlreadyRunningError(f"{self.run_id} is already running {where}; wait for it or stop it") from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
            trouble = "this file system has no locks, so two processes could train the run; choose another runs_dir"
            raise OSError(error.errno, trouble) from None
        try:
            for leftover in self.path.glob(".*.tmp"):
                leftover.unlink()
            yield self
        finally:
            lock.release()

    def _lock(self) -> FileLock:
        # Without flock, as on some clusters, filelock would take a file that a killed process leaves behind.
        return FileLock(self.path / "lock", fallback_to_soft=False)

    def set_status(self, status: str, **more) -> None:
        process = {"pid": os.getpid(), "host": socket.gethostname()}
        write_json(self.path / "status.json", {"status": status, **process, "updated": time.time(), **more})

    def heartbeat(self, **progress) -> None:
        """The status of a running run, at most twice a second: what a progress display reads."""
        if time.monotonic() - self._beat >= 0.5:
            self._beat = time.monotonic()
            self.set_status("running", **progress)

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows after `step` and a half-written last line: what a resumed run will write again."""
        path = self.path / "metrics.jsonl"
        kept = [row for row in self.metrics() if row["step"] <= step]
        write_atomically(path, lambda file: file.writelines((json.dumps(row) + "\n").encode() for row in kept))

    def append(self, row: dict) -> None:
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict]:
        """All whole rows of metrics.jsonl."""
        path, rows = self.path / "metrics.jsonl", []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break  # the line that a killed process was writing
        return rows

    @property
    def held(self) -> bool:
        """Does a living process hold the run, on this machine or, with a shared file system that locks, on another?"""
        if not (self.path / "lock").exists():
            return False
        lock = self._lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    @property
    def state(self) -> str:
        """The status, but "died" where a run is said to be running and no process holds it."""
        status = self.status["status"]
        return "died" if status == "running" and not self.held else status

    def save_checkpoint(self, content: dict) -> None:
        """Write last.pt; the one before goes on as previous.pt. Raises OSError and leaves both as they were."""
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
        """The newest checkpoint that is whole, or None: the run then starts anew. One that is not is told on stderr.

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
    """A checkpoint's content, of the run it is for. Raises DamagedCheckpointError."""
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
        reason = str(error).strip().partition("\n")[0]
        raise DamagedCheckpointError(f"it holds more than tensors and plain data, or less ({reason})") from None
    found = (content.get("format"), content.get("run_id")) if isinstance(content, dict) else (None, None)
    if found != (FORMAT, run_id):
        raise DamagedCheckpointError(
            f"it is of format {found[0]} and run {found[1]}, not of format {FORMAT} and {run_id}"
        )
    return content
