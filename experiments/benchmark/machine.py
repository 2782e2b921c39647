"""The machine that times depend on: which cores are used, and what a report states of it."""

import os
import re
import subprocess
from pathlib import Path

import torch

from experiments.runs.environment import environment, processor
from models.recurrent.compiler import compiler

BLAS = (r"BLAS_INFO=(\w+)", r"(Math Kernel Library Version [\d.]+)", r"(MKL-DNN v[\d.]+)")  # in torch's description
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")  # of a CPU; those that matter here


def available_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(cores: list[int]) -> None:
    """Keep this thread, and those it will start, on these cores, if the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def machine_facts(device: str, cores: list[int]) -> dict:
    """Return what the times depend on. No date: the same machine and commit give the same facts."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    flags = re.search(r"(?:flags|Features)\s*: (.*)", cpuinfo)
    build = torch.__config__.show()
    return {
        "cpu": processor("cpu"),
        "flags": [flag for flag in FLAGS if flags and flag in flags[1].split()],
        "cores": len(cores),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "blas": ", ".join(version for pattern in BLAS for version in re.findall(pattern, build)),
        "compiler": compiler_version(),
        **{name: environment()[name] for name in ("platform", "python", "torch", "git", "dirty")},
    }


def compiler_version() -> str | None:
    command = [compiler() or "c++", "--version"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return None
