"""Build the kernels at their first use, into a cache of the user's."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

SOURCES = Path(__file__).with_name("kernel")
MAIN = SOURCES / "sequence.cpp"  # includes the others
# Not -ffast-math: it flushes denormals in the whole process and lets NaN vanish. Errno and traps cost vectors only.
FLAGS = (
    "-O3",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fPIC",
    "-shared",
    "-pthread",
)
NATIVE = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"


class CompilerError(RuntimeError):
    """There is no compiler, or it did not build the kernels. One line."""


def compiler() -> str | None:
    """The path of $CXX, or of the first of c++, g++ and clang++ that is there."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next(filter(None, map(shutil.which, names)), None)


def cache_folder() -> Path:
    """Return the folder of the built kernels. Raises OSError without a home folder."""
    chosen = os.environ.get("LAYERNORM_CACHE")
    try:
        if chosen:
            return Path(chosen).expanduser() / "kernels"
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "layer-normalization" / "kernels"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error


@functools.cache
def library(cpu_flag: str = NATIVE) -> ctypes.CDLL:
    """The kernels, built for the CPU that `cpu_flag` names. Raises CompilerError.

    What is in the cache is loaded only if nobody else could have put it there, and if it is whole: a planted library
    would run as this user, and one that was cut ends the process.
    """
    path = compiler()
    if path is None:
        raise CompilerError("there is no C++ compiler: install g++ or clang++, or name one in CXX")
    key = _key(path, cpu_flag)
    try:
        folder = cache_folder()
        _make_private(folder)
        for binary in folder.glob(f"{key}.*.so"):
            if _is_own(binary) and _is_whole(binary):
                return _load(binary)
            binary.unlink()
        return _load(_build(path, cpu_flag, folder, key))
    except OSError:  # the cache cannot be written, or forbids execution: build for this process alone
        with tempfile.TemporaryDirectory() as temporary:
            built = _build(path, cpu_flag, Path(temporary), key)
            try:
                return _load(built)
            except OSError as error:
                raise CompilerError(f"the built kernels do not load: {error}") from error


def _make_private(folder: Path) -> None:
    """Make the folder, for this user alone. Raises PermissionError, after a warning, where others can write into it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(folder):
        remedy = "set LAYERNORM_CACHE to a folder of your own, or make it private (chmod 700)"
        warnings.warn(f"others can write into {folder}: this process builds its own kernels; {remedy}", stacklevel=3)
        raise PermissionError(str(folder))


def _is_own(path: Path) -> bool:
    """Return whether this user alone can have written a file or folder."""
    status = path.lstat()
    return status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode) and not status.st_mode & 0o022


def _is_whole(binary: Path) -> bool:
    """Return whether a library has the checksum that its name ends with."""
    return binary.suffixes[-2:-1] == [f".{_checksum(binary)}"]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _load(path: Path) -> ctypes.CDLL:
    kernels = ctypes.CDLL(str(path))
    kernels.transposed_room.restype = ctypes.c_int64  # ctypes takes every result for an int of 32 bits
    return kernels


def _key(path: str, cpu_flag: str) -> str:
    """Return a hash of all that the binary depends on; the CPU is among it, for homes that machines share."""
    try:
        cpu = next(
            line
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith(("flags", "Features"))
        )
    except (OSError, StopIteration):
        cpu = platform.processor()
    binary = os.stat(os.path.realpath(path))
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.[hc]*")))
    parts = (source, *FLAGS, cpu_flag, path, binary.st_size, binary.st_mtime_ns, platform.machine(), cpu)
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def _builder(process: int | str) -> str:
    """Return what the name of an unfinished library begins with: machine and process."""
    return f"building-{platform.node()}-{process}-"


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, alive
        pass
    return False


def _build(path: str, cpu_flag: str, folder: Path, key: str) -> Path:
    """Compile into `folder`; return the library, whose name holds its checksum.

    It is compiled into a file of this process's own and moved to its place: two processes at once do no harm.
    """
    if sys.stderr.isatty():  # someone waits
        print(f"building the kernels for this CPU, once, into {folder} (seconds)", file=sys.stderr, flush=True)
    for left in folder.glob(f"{_builder('*')}*.so"):
        process = left.name.split("-")[-2]
        if process.isdigit() and _has_ended(int(process)):
            left.unlink(missing_ok=True)  # of a process that was killed
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=_builder(os.getpid()), suffix=".so")
    os.close(descriptor)
    built = Path(name)
    try:
        try:
            command = [path, *FLAGS, cpu_flag, "-o", name, str(MAIN)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        except OSError as error:  # found on the path, and no program
            raise CompilerError(f"{path} does not run: {error.strerror}") from error
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise CompilerError(f"{path} did not build {MAIN.name}: {first.strip()}")
        built.chmod(0o700)  # whatever the umask is
        return built.replace(folder / f"{key}.{_checksum(built)}.so")
    finally:
        built.unlink(missing_ok=True)
