"""A folder that a command writes for the user: what others put there stays, and half of an output never does."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from experiments.config.errors import ConfigError
from experiments.config.writable import check_folder
from experiments.runs.folder import write_json
from experiments.runs.records import read_written

RECORD = ".written.json"  # which files of the folder are ours


def check_output(output: Path, names: Iterable[str], known_by: str | None = None) -> None:
    """Check that a folder can be written, and that no file in it that is not ours has one of these names.

    known_by: a file by which a folder of before RECORD was kept is known as ours. Raises ConfigError.
    """
    check_folder("output", str(output))
    if not (output / RECORD).exists() and known_by is not None and (output / known_by).is_file():
        return
    ours = read_written(output / RECORD)
    if foreign := [name for name in names if os.path.lexists(output / name) and name not in ours]:
        remedy = "move it away, or name another folder"
        raise ConfigError(f"output={output} holds {foreign[0]}, which this command did not write; {remedy}")


@contextmanager
def written_as_one(output: Path, known_by: str | None = None) -> Iterator[Path]:
    """Yield an empty folder; what the block writes there takes its place in `output` when the block ends.

    Files that an earlier call wrote and this one did not are removed. An exception leaves `output` as it was. Raises
    ConfigError as `check_output` does.
    """
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    output.mkdir(parents=True, exist_ok=True)
    for left in output.glob(".written.*.partial"):  # by a process that was killed
        process = left.name.split(".")[2]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    partial = output / f".written.{os.getpid()}.partial"
    try:
        partial.mkdir()
        yield partial
        names = sorted(str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file())
        check_output(output, names, known_by)
        before = read_written(output / RECORD)
        write_json(output / RECORD, {"files": sorted({*before, *names})})  # first: whatever comes next, it is known
        for name in names:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial / name, output / name)
        for name in before.difference(names):
            (output / name).unlink(missing_ok=True)
        write_json(output / RECORD, {"files": names})
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in made:
            try:
                folder.rmdir()  # only if it is empty
            except OSError:
                break
