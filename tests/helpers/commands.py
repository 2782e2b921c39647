"""A command of the project in a process of its own, forked where the project and its libraries are imported already.

An interpreter needs seconds to import them, more than a tiny run itself, and the tests start hundreds of commands. The
first call of a test process starts Python's own fork server, which imports everything once and runs nothing. What
depends on the start of an interpreter (encodings, -W, hash seeds, what is imported when) needs a real one.
"""

import functools
import importlib
import multiprocessing
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = ["torch", "torch._dynamo", "hydra", "hydra._internal.utils", "omegaconf", "scipy.stats", "pandas", "wandb"]


class Forked:
    """A running command, with what the tests use of subprocess.Popen. Its output is kept in files."""

    def __init__(
        self, module: str, arguments: tuple[str, ...], environment: Mapping[str, str] | None, folder: Path = ROOT
    ):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*IMPORTED, *project_modules()])
        self.args = [sys.executable, "-m", module, *arguments]
        self.stdout, self.stderr = (tempfile.NamedTemporaryFile("r") for _ in range(2))  # noqa: SIM115
        given = (module, arguments, dict(environment or os.environ), folder, self.stdout.name, self.stderr.name)
        self.process = context.Process(target=_call if folder == ROOT else _become, args=given)
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid
        self.kill, self.terminate = self.process.kill, self.process.terminate

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0, self.stdout.read(), self.stderr.read())
        return self.process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return self.stdout.read(), self.stderr.read()


def start(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Forked:
    """Start `python -m <module>` from the project's root, in a process group of its own.

    environment: the whole of it; by default that of the tests. Not for a command that starts workers.
    """
    return Forked(module, arguments, environment)


def run(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
    folder: Path = ROOT,
) -> subprocess.CompletedProcess:
    """Run `python -m <module>` from `folder`, whose modules it takes, to its end; return its output as text.

    environment: the whole of it; by default that of the tests. folder: the project's root, or a copy of it. A sweep
    whose launcher starts workers gets an interpreter of its own, since they hang below a forked process. Raises
    subprocess.TimeoutExpired.
    """
    if starts_workers(arguments):
        line = [sys.executable, "-m", module, *arguments]
        options = {"cwd": folder, "env": environment, "stdin": subprocess.DEVNULL}
        return subprocess.run(line, **options, capture_output=True, text=True, timeout=timeout)
    forked = Forked(module, arguments, environment, folder)
    try:
        output, errors = forked.communicate(timeout)
    except subprocess.TimeoutExpired:
        forked.kill()
        raise
    return subprocess.CompletedProcess(forked.args, forked.returncode or 0, output, errors)


def starts_workers(arguments: Iterable[str]) -> bool:
    return any(argument.startswith("hydra/launcher=") for argument in arguments)


class Server:
    """`with Server() as run:` runs commands one after the other, each forked where all of them are imported.

    run(module, arguments, environment, folder, seconds) returns a CompletedProcess, whose code is None if the command
    was stopped after so many seconds. A command takes hundredths of a second besides its work.
    """

    def __enter__(self) -> Callable[..., subprocess.CompletedProcess]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*IMPORTED, *project_modules()])
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,))
        self.process.start()
        return self.run

    def __exit__(self, *_) -> None:
        self.connection.send(None)
        self.process.join()

    def run(
        self, module: str, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path, seconds: float
    ):
        with tempfile.NamedTemporaryFile("r") as stdout, tempfile.NamedTemporaryFile("r") as stderr:
            self.connection.send((module, arguments, dict(environment), folder, stdout.name, stderr.name, seconds))
            code = self.connection.recv()
            return subprocess.CompletedProcess([module, *arguments], code, stdout.read(), stderr.read())


@functools.cache
def project_modules() -> list[str]:
    """Return the modules of the commands and of all packages below them, which import those of data and models."""
    return [found.name for found in pkgutil.walk_packages([str(ROOT / "experiments")], "experiments.")]


def _serve(connection) -> None:
    context = multiprocessing.get_context("fork")
    while (request := connection.recv()) is not None:
        *given, seconds = request
        process = context.Process(target=_call, args=given)
        process.start()
        process.join(seconds)
        code = process.exitcode
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
        connection.send(code)


def _call(module: str, arguments: tuple[str, ...], *surroundings) -> None:
    """Call a command's main() in this process; run a module that is none of the commands."""
    _take_place(arguments, *surroundings)
    if not module.startswith("experiments."):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    package = (ROOT / module.replace(".", "/")).is_dir()
    command = importlib.import_module(f"{module}.__main__" if package else module)
    sys.argv[0] = command.__file__ or ""
    command.main()


def _become(module: str, arguments: tuple[str, ...], *surroundings) -> None:
    """Turn the forked process into the command of a copy of the project, whose modules take the place of this one's."""
    _take_place(arguments, *surroundings)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("experiments", "data", "models", "layer_normalization", "hydra_plugins", "tests"):
            del sys.modules[name]
    OmegaConf.clear_resolvers()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _take_place(
    arguments: tuple[str, ...], environment: dict[str, str], folder: Path, stdout: str, stderr: str
) -> None:
    """Give this process the surroundings of a command: group, folder, environment, streams, arguments."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in a shell, also where the tests run under nohup
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((os.devnull, stdout, stderr)):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    sys.argv[1:] = arguments
    sys.path.insert(0, str(folder))
