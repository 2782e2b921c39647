"""The commit and the versions that numbers come from."""

import functools
import importlib.metadata
import platform
import subprocess

from experiments.config import ROOT


@functools.cache
def environment() -> dict:
    """What the numbers may depend on besides the configuration; asked once a process."""

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
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
