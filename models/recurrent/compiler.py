"""Build the kernels at their first use, into a cache of the user's."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
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
    chosen = os.environ.get("LAYERNORM_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "layer-normalization" / "kernels"


@functools.cache
def library(cpu_flag: str = NATIVE) -> ctypes.CDLL:
    """The kernels, built for the CPU that `cpu_flag` names. Raises CompilerError."""
    path = compiler()
    if path is None:
        raise CompilerError("there is no C++ compiler: install g++ or clang++, or name one in CXX")
    name = f"{_key(path, cpu_flag)}.so"
    try:
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / name).exists():
            _build(path, cpu_flag, folder / name)
        return _load(folder / name)
    except OSError:  # the cache cannot be written, or forbids execution: build for this process alone
        with tempfile.TemporaryDirectory() as temporary:
            _build(path, cpu_flag, Path(temporary) / name)
            try:
                return _load(Path(temporary) / name)
            except OSError as error:
                raise CompilerError(f"the built kernels do not load: {error}") from error


def _load(path: Path) -> ctypes.CDLL:
    kernels = ctypes.CDLL(str(path))
    kernels.transposed_room.restype = ctypes.c_int64  # ctypes takes every result for an int of 32 bits
    return kernels


def _key(path: str, cpu_flag: str) -> str:
    """Return a hash of all that the binary depends on; the CPU is among it, for homes that machines share."""
    try:
        cpu = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features"))
        )
    except (OSError, StopIteration):
        cpu = platform.processor()
    binary = os.stat(os.path.realpath(path))
    source = "".join(path.read_text() for path in sorted(SOURCES.glob("*.[hc]*")))
    parts = (source, *FLAGS, cpu_flag, path, binary.st_size, binary.st_mtime_ns, platform.machine(), cpu)
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def _build(path: str, cpu_flag: str, target: Path) -> None:
    """Compile into a file of this process's own and move it to its place: two processes at once do no harm."""
    descriptor, built = tempfile.mkstemp(dir=target.parent, suffix=".so")
    os.close(descriptor)
    try:
        try:
            command = [path, *FLAGS, cpu_flag, "-o", built, str(MAIN)]
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:  # found on the path, and no program
            raise CompilerError(f"{path} does not run: {error.strerror}") from error
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise CompilerError(f"{path} did not build {MAIN.name}: {first.strip()}")
        os.replace(built, target)
    finally:
        Path(built).unlink(missing_ok=True)
