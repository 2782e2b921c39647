"""A copy of the repository as git knows it, for tests that build or change it."""

import shutil
import subprocess
from pathlib import Path

from tests.helpers.commands import ROOT


def copy_repository(target: Path) -> Path:
    """Copy the files that are tracked or about to be, without results, to `target` and return it."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ":!results"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.rstrip("\0").split("\0"):
        if (ROOT / name).exists():  # a file that was deleted is still listed until that is staged
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target
