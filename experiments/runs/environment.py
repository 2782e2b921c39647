"""The commit, versions and processor that numbers come from."""

import functools
import importlib.metadata
import platform
import re
import subprocess
from pathlib import Path

from experiments.config.paths import ROOT


@functools.cache
def environment() -> dict:
    """Return what the numbers may depend on besides the configuration: commit, Python, platform, packages."""

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(
                ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"

    packages = ("torch", "torchvision", "hydra-core", "wandb", "datasets", "numpy", "scikit-learn")
    return {
        "git": git("rev-parse", "HEAD"),
        # Rates that were just chosen change no code, and a run's own rate stands in its row.
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)*/tuned/*")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def processor(device: str) -> str:
    """Return the model of the CPU or GPU: another one rounds differently, which a CNN at a large rate amplifies."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return model[1] if model else platform.processor() or platform.machine()
