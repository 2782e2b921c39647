"""The folder of one run: lock, status, metrics, checkpoint. All writes are atomic or append-only.

    config.yaml  environment.json  metrics.jsonl  summary.json  status.json  last.pt  error.txt  lock  wandb/

`metrics.jsonl` is the truth, a row a line, flushed as written; wandb mirrors it. Status: running, done, diverged,
interrupted or failed.
"""

import json
import os
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

FINISHED = ("done", "diverged")  # a non-finite loss is a result


class AlreadyRunningError(RuntimeError):
    """Another process trains this run. The message names it."""


def read_json(path: Path) -> dict | None:
    """The file's content, or None when it is absent or half written by a process that died."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None


def write_atomically(path: Path, write, durable: bool = False) -> None:
    """`write(file)` into a temporary file beside `path`, then one rename: a reader sees the old or the new, whole.

    durable: force it to the disk first, so that it survives a power cut. Raises OSError (no space, no permission).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            pid = self.status.get("pid", "unknown")
            raise AlreadyRunningError(f"{self.run_id} is already running (pid {pid}); wait for it or stop it") from None
        try:
            for leftover in self.path.glob(".*.tmp"):
                leftover.unlink()
            yield self
        finally:
            lock.release()

    def set_status(self, status: str, **more) -> None:
        write_json(self.path / "status.json", {"status": status, "pid": os.getpid(), "updated": time.time(), **more})

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

    def save_checkpoint(self, content: dict) -> None:
        import torch

        # Through a file object: torch.save(path) hides "No space left on device" behind a message of its own.
        write_atomically(self.path / "last.pt", lambda file: torch.save(content, file), durable=True)

    def load_checkpoint(self, device: str) -> dict | None:
        """The checkpoint, or None when there is none or it is damaged: the run then starts anew."""
        import torch

        path = self.path / "last.pt"
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch.load does not check the archive's checksums
                    return None
            return torch.load(path, map_location=device, weights_only=True)
        except (OSError, zipfile.BadZipFile, RuntimeError, EOFError):
            return None
