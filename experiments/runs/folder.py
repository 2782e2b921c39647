"""The folder of one run: lock, status, metrics, checkpoint. All writes are atomic or append-only.

    config.yaml  environment.json  metrics.jsonl  summary.json  status.json  last.pt  previous.pt  error.txt  lock
    wandb/

`metrics.jsonl` is the truth, a row a line, flushed as written; wandb mirrors it.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import pickle
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.config.errors import first_line
from experiments.runs.records import FINISHED, DamagedFileError, Rows, RunStatus, read_rows, read_status, read_summary

FORMAT = 1  # of a checkpoint's content
LOCK_TIMEOUT = 0.5  # seconds that a lock is waited for: another process may hold it just to see whether it is free
HEARTBEAT = 0.5  # seconds between two statuses of a running run, at least
RESULT_FILES = ("config.yaml", "environment.json", "metrics.jsonl", "summary.json")  # status.json has their checksums
RUN_FILES = (*RESULT_FILES, "status.json", "last.pt")  # a folder with one of them is a run's
RUN_NAME = re.compile(r"-s\d+-[0-9a-f]{8}$")  # how the folder of a run is named (identity.run_name)


class DamagedCheckpointError(ValueError):
    """A checkpoint is not what was saved for this run. The message says how it differs."""


class AlreadyRunningError(RuntimeError):
    """Another process trains this run. The message names the process."""


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
        """The last status written: {"status": a RunStatus, "step": ..., "steps": ..., ...}.

        NEW without status.json; DAMAGED, with the reason as its message, where that cannot be read.
        """
        try:
            return read_status(self.path / "status.json") or {"status": RunStatus.NEW}
        except DamagedFileError as error:
            return {"status": RunStatus.DAMAGED, "message": str(error)}

    @property
    def summary(self) -> dict | None:
        """The row of a finished run; None without one, and where it is damaged or another run's."""
        try:
            return read_summary(self.path / "summary.json", self.run_id)
        except DamagedFileError:
            return None

    @property
    def finished(self) -> bool:
        """Whether the run has a result, which is not computed again."""
        status = self.status["status"]
        return status in FINISHED and (self.summary or {}).get("status") == status

    @property
    def damage(self) -> str:
        """Why the status, or the result of a run that has ended, cannot be used; "" if it can."""
        status = self.status
        if status["status"] == RunStatus.DAMAGED:
            return status["message"]
        if status["status"] not in FINISHED:
            return ""
        try:
            summary = read_summary(self.path / "summary.json", self.run_id)
        except DamagedFileError as error:
            return str(error)
        if summary is None:
            return "summary.json is missing"
        differs = summary["status"] != status["status"]
        return f"summary.json says {summary['status']}, status.json {status['status']}" if differs else ""

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

    def finish(self, status: RunStatus, message: str) -> None:
        """Write the status of a run with a result, with the checksums of the files that hold it. Raises OSError."""
        self.set_status(status, message=message, sha256={name: _sha256(self.path / name) for name in RESULT_FILES})

    @property
    def changed(self) -> str:
        """Which files are not what they were when the run ended; "" if none is, or the run has no checksums."""
        checksums = self.status.get("sha256", {})
        names = [name for name in RESULT_FILES if name in checksums and checksums[name] != _sha256(self.path / name)]
        return f"{', '.join(names)}: not as written when the run ended" if names else ""

    def warn_if_changed(self) -> None:
        """Print a line on stderr where the files of a finished run changed after its end."""
        if changed := self.changed:
            print(f"warning: {self.path}: {changed}; to train it again, delete the folder", file=sys.stderr)

    def rewrite_metrics(self, rows: list[dict]) -> None:
        """Put these rows in place of all that metrics.jsonl holds: a resumed run writes the others again."""
        write_atomically(self.path / "metrics.jsonl", lambda file: file.writelines(map(row_line, rows)))

    def append(self, row: dict) -> None:
        """Append a row to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "ab") as file:
            file.write(row_line(row))

    def read_rows(self) -> Rows:
        """Return the rows of metrics.jsonl up to the first damaged line. Raises DamagedFileError."""
        return read_rows(self.path / "metrics.jsonl")

    def metrics(self) -> list[dict]:
        """Return all rows of metrics.jsonl, without a last line that a killed process was writing.

        Raises DamagedFileError where another line is damaged.
        """
        rows, damage, is_last = self.read_rows()
        if damage and not is_last:
            raise DamagedFileError(f"metrics.jsonl is damaged in {damage}")
        return rows

    @property
    def held(self) -> bool:
        """Whether a living process holds the run, on this machine or, where a shared file system locks, on another.

        Only reads, so that it can be asked of a folder that may not be written. True where it cannot be asked.
        """
        try:
            with open(self.path / "lock", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return False

    @property
    def state(self) -> RunStatus:
        """The status, but DIED where it is "running" and no process holds the run, DAMAGED where it has no result."""
        status = self.status["status"]
        if status == RunStatus.RUNNING and not self.held:
            return RunStatus.DIED
        return RunStatus.DAMAGED if status in FINISHED and self.damage else status

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
        """Return the newest undamaged checkpoint, or None; name a damaged one on stderr."""
        return next(self.checkpoints(device), None)

    def checkpoints(self, device: str) -> Iterator[dict]:
        """Yield the undamaged checkpoints, the newest first; name a damaged one on stderr.

        Nothing of a file is used before its checksum is right, and nothing in it is executed: it holds data alone.
        """
        for name in ("last.pt", "previous.pt"):
            path = self.path / name
            if not path.exists():
                continue
            try:
                yield read_checkpoint(path, self.run_id, device)
            except DamagedCheckpointError as error:
                print(f"{path} is not used: {error}", file=sys.stderr)


def folders_in(runs_dir: str | Path) -> list[RunFolder]:
    """Return the folders of `runs_dir` that hold a file of a run, by name."""
    paths = sorted(path for path in Path(runs_dir).glob("*/") if _holds_run(path))
    return [RunFolder(path.parent, path.name) for path in paths]


def _holds_run(path: Path) -> bool:
    try:
        return not set(RUN_FILES).isdisjoint(os.listdir(path))
    except PermissionError:  # another user's, whose name alone tells that it is a run's
        return RUN_NAME.search(path.name) is not None
    except OSError:  # just deleted
        return False


def row_line(row: dict) -> bytes:
    """Return a row as it stands in metrics.jsonl."""
    return f"{json.dumps(row)}\n".encode()


def checksum(rows: Iterable[dict]):
    """Return hashlib's sha256 of these rows, which takes more of them."""
    return hashlib.sha256(b"".join(map(row_line, rows)))


def is_of_rows(checkpoint: dict, rows: Iterable[dict]) -> bool:
    """Return whether these are the rows that a checkpoint was saved with, as far as it says."""
    return checkpoint.get("rows_sha256") in (None, checksum(rows).hexdigest())


def _sha256(path: Path) -> str:
    """Return the checksum of a file, "" where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


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
