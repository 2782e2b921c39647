"""The commit, versions and processor that numbers come from."""

import functools
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from experiments.config.paths import ROOT


@functools.cache
def environment() -> dict:
    """Return what the numbers may depend on besides the configuration: commit, Python, platform, packages."""

    packages = ("torch", "torchvision", "hydra-core", "wandb", "datasets", "numpy", "scikit-learn")
    commit, dirty = _commit()
    return {
        "git": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _commit() -> tuple[str, bool]:
    """Return the commit of this code, and whether files differ from it; ("unknown", False) outside its own repository.

    An unpacked archive may lie inside another project's repository, whose commit says nothing about it.
    """
    if Path(_git("rev-parse", "--show-toplevel") or "/").resolve() != ROOT or not (commit := _git("rev-parse", "HEAD")):
        return "unknown", False
    # Rates that were just chosen change no code, and a run's own rate stands in its row.
    return commit, bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)*/tuned/*"))


def _git(*arguments: str) -> str:
    """Return what git prints, "" where it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, ValueError, subprocess.CalledProcessError):  # ValueError: a path that is no UTF-8
        return ""
    return done.stdout.strip()


ORIGIN = ("git", "dirty", "torch", "python", "processor")  # what a row has of the processes that trained it


def origin_of(processes: Iterable[dict]) -> dict:
    """Return the columns of a row: where a resumed run's processes differ, all that there were, in their order."""
    processes = list(processes)
    columns = {name: ", ".join(dict.fromkeys(str(one.get(name)) for one in processes)) for name in ORIGIN}
    return columns | {"dirty": any(one["dirty"] for one in processes)}


def processor(device: str) -> str:
    """Return the model of the CPU or GPU: another one rounds differently, which a CNN at a large rate amplifies."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    model = (
        re.search(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8", errors="replace"))
        if cpuinfo.exists()
        else None
    )
    return model[1] if model else platform.processor() or platform.machine()
