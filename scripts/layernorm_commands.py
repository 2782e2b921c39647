"""The commands that `pip install -e .` puts on the path: layernorm-train is python -m experiments.train, and so on.

A shell can complete their arguments, which it cannot for python -m: eval "$(layernorm-train -sc install=bash)". They
run the repository that they were installed from, from any folder. pyproject.toml lists them.
"""

import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "experiments").is_dir():
    sys.exit("error: this command runs a clone of the repository; install it from there with pip install -e .")
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # for workers


def __getattr__(command: str):
    """The function behind a command; its module is imported when it is asked for."""
    if command.startswith("_"):
        raise AttributeError(command)
    package = (ROOT / "experiments" / command).is_dir()
    return importlib.import_module(f"experiments.{command}" + (".__main__" if package else "")).main
