"""A command of the project in a process of its own, forked where torch, Hydra and wandb are imported already.

An interpreter needs seconds to import these, more than a tiny run itself, and the tests start hundreds of commands. The
first call of a test process starts Python's own fork server; nothing of the project is imported there, so a command
loads all of its modules anew, reads the environment that it was given and ends with its own exit code. What depends on
the start of an interpreter (encodings, -W, hash seeds, another folder) needs a real one.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = ["torch", "torch._dynamo", "hydra", "hydra._internal.utils", "omegaconf", "scipy.stats", "pandas", "wandb"]


def run(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess:
    """Run `python -m <module>` from the project's root to its end; return a CompletedProcess with its output as text.

    environment: the whole of it; by default that of the tests. A sweep whose launcher starts workers gets an
    interpreter of its own, since they hang below a forked process. Raises subprocess.TimeoutExpired.
    """
    line = [sys.executable, "-m", module, *arguments]
    if any(argument.startswith("hydra/launcher=") for argument in arguments):
        options = {"cwd": ROOT, "env": environment, "stdin": subprocess.DEVNULL}
        return subprocess.run(line, **options, capture_output=True, text=True, timeout=timeout)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        process = context.Process(target=_become, args=(module, arguments, dict(environment or os.environ), *paths))
        process.start()
        process.join(timeout)
        late = process.is_alive()
        if late:
            process.kill()
            process.join()
        output, errors = (Path(path).read_text() for path in paths)
        if late:
            raise subprocess.TimeoutExpired(line, timeout, output, errors)
        return subprocess.CompletedProcess(line, process.exitcode, output, errors)


def _become(module: str, arguments: tuple[str, ...], environment: dict[str, str], stdout: str, stderr: str) -> None:
    """Turn the forked process into the command."""
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((os.devnull, stdout, stderr)):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv[1:] = arguments
    sys.path.insert(0, str(ROOT))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
