"""How times are taken, and of which machine.

A machine's speed drifts, so only ratios within a round count: in a round every candidate of a case is timed once, in
random order, and later divided by torch.nn's time of the same round. Garbage collection is off meanwhile. Before
anything is timed, all candidates of the same equation must agree, gradients included.
"""

import ctypes
import gc
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmark.peers import BASE, BOTH, Candidate, Problem, Size, ours, torch_nn
from experiments.config.paths import ROOT
from experiments.config.schema import Adam, Trainer, Wandb
from experiments.runs.environment import environment, processor
from experiments.runs.folder import RunFolder
from experiments.training.loop import fit
from experiments.training.optimisation import make_optimizer
from experiments.training.recorder import FolderRecorder
from models.recurrent import LSTM
from models.recurrent.compiler import compiler, library
from models.recurrent.cpu import TOGETHER, transposed_product
from models.recurrent.spec import GATES

OURS, AT_ONCE, BY_STEP = "ours ln, fused", "products of all steps at once", "products step by step"
GEMM = "gemm"  # one large product of matrices, a candidate of every case: the machine's speed, hence the case's floor
RARE = 3  # a rare candidate runs in every third round, the first included
LEAST_ROUNDS = 3
SHORTEST = 10.0  # ms; a faster candidate is called several times in a round, and the mean counts
MOST_CALLS = 20
TRAINER_STEPS = 20  # of one call of the training loop
# Largest ||a - b|| / ||b|| between candidates of one equation. Float32 over a hundred steps leaves up to 3e-3 in a
# gradient; a term that is missing leaves more than 0.1.
TOLERANCE = {"y": 1e-3, "gradient": 2e-2}
BLAS = (r"BLAS_INFO=(\w+)", r"(Math Kernel Library Version [\d.]+)", r"(MKL-DNN v[\d.]+)")  # in torch's description


class DisagreementError(Exception):
    """A candidate does not compute what the others of its norm compute."""


def work(size: Size, cell: str, mode: str) -> float:
    """FLOP of the matrix products alone: y needs x W' and h W', and backward twice as much again."""
    return (6 if mode == BOTH else 2) * size.T * size.B * GATES[cell] * size.H * (size.I + size.H)


class Gemm:
    """The product of two n x n matrices, `flop` operations."""

    def __init__(self, n: int, device: str):
        self.a, self.b, self.out = (torch.ones(n, n, device=device) for _ in range(3))
        self.flop = 2.0 * n**3

    def __call__(self) -> None:
        torch.mm(self.a, self.b, out=self.out)


@dataclass(frozen=True)
class Timing:
    device: str
    max_rounds: int
    gemm: Gemm

    def milliseconds(self, call: Callable, calls: int, summary=statistics.fmean) -> float:
        """Of one call: the mean of so many."""
        times = []
        for _ in range(calls):
            self.wait()
            started = time.perf_counter()
            result = call()
            self.wait()
            times.append(1e3 * (time.perf_counter() - started))
            del result
        return summary(times)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def rounds(self, calls: dict[str, Callable], rare: Iterable[str], seconds: float) -> dict[str, dict]:
        """{"milliseconds": {name: a value a round, None where it was left out}, "calls": {name: calls a value}}"""
        once = {name: self.milliseconds(call, 1) for name, call in calls.items()}  # warms as well
        number = {name: min(MOST_CALLS, max(1, round(SHORTEST / ms))) for name, ms in once.items()}
        times: dict[str, list] = {name: [] for name in calls}
        order, deadline = random.Random(0), time.monotonic() + seconds
        for index in range(self.max_rounds):
            if index >= LEAST_ROUNDS and time.monotonic() > deadline:
                break
            due = [name for name in calls if index % RARE == 0 or name not in rare]
            gc.collect()
            gc.disable()
            this = {}
            for name in order.sample(due, len(due)):
                if name == GEMM:
                    this[name] = self.milliseconds(calls[name], max(3, number[name]), min)
                else:
                    this[name] = self.milliseconds(calls[name], number[name])
            gc.enable()
            for name, values in times.items():
                values.append(float(f"{this[name]:.5g}") if name in this else None)
        return {"milliseconds": times, "calls": number}

    def cell(self, name: str, size: Size, cell: str, mode: str, rows: list[Candidate], seconds: float) -> dict:
        """All candidates of a cell at a size, for one mode."""
        problem = Problem(cell, size, mode, self.device)
        passes = {row.name: row.build(problem) for row in rows}
        must_agree(rows, passes, f"{name} {cell} {mode}")
        rare = {row.name for row in rows if row.rare}
        return {
            "kind": "cell",
            **{"size": name, "cell": cell, "mode": mode},
            **{"flop": work(size, cell, mode), "gemm_flop": self.gemm.flop},
            **self.rounds({**passes, GEMM: self.gemm}, rare, seconds),
        }

    def parts(self, name: str, size: Size, cell: str, seconds: float) -> dict:
        """Our fused LN layer, forward and backward, beside the products of matrices that it makes, and nothing else."""
        problem = Problem(cell, size, BOTH, self.device)
        calls: dict[str, Callable] = {
            BASE: torch_nn(problem),
            OURS: ours(problem, "ln", "fused"),
            **products(size, cell),
            GEMM: self.gemm,
        }
        return {
            "kind": "parts",
            **{"size": name, "cell": cell},
            **{"flop": work(size, cell, BOTH), "gemm_flop": self.gemm.flop},
            **self.rounds(calls, (), seconds),
        }

    def scaling(self, name: str, size: Size, cores: list[int], threads: int, seconds: float) -> dict:
        """One thread against two: our fused LN-LSTM and torch.nn's LSTM, forward and backward."""
        problem = Problem("lstm", size, BOTH, self.device)
        passes = {OURS: ours(problem, "ln", "fused"), BASE: torch_nn(problem)}

        def on(count: int, work: Callable) -> Callable:
            def call():
                torch.set_num_threads(count)
                return work()

            return call

        pin(cores[:2])
        calls = {f"{told}, {count}": on(count, work) for told, work in passes.items() for count in (1, 2)}
        try:
            return {"kind": "threads", "size": name, **self.rounds(calls, (), seconds)}
        finally:
            pin(cores[:threads])
            torch.set_num_threads(threads)

    def trainer(self, name: str, size: Size, seconds: float) -> dict:
        """experiments.training.loop.fit against a bare loop, on an LN-LSTM layer. A time is of all steps."""
        problem = Problem("lstm", size, BOTH, self.device)
        clip = 1.0
        model, task, optim = LSTM(size.I, size.H, norm="ln").to(self.device), OneBatch(problem), Adam(clip=clip)
        parameters, settings = list(model.parameters()), Trainer(steps=TRAINER_STEPS, evaluations=1)

        def bare():
            optimizer = make_optimizer(model, optim)
            for step in range(TRAINER_STEPS):
                optimizer.zero_grad()
                task.loss(model, task.batch(step)).backward()
                nn.utils.clip_grad_norm_(parameters, clip)
                optimizer.step()

        run = RunFolder(tempfile.mkdtemp(), "run")
        with run.lock():
            recorder = FolderRecorder(run, Wandb(mode="disabled"), {}, self.device)
            # A checkpoint comes twice a minute, not every so many steps.
            recorder.save = lambda *_: None  # type: ignore[method-assign]
            calls = {"bare": bare, "fit": lambda: fit(model, task, optim, settings, recorder)}
            result = {"kind": "trainer", "size": name, "steps": TRAINER_STEPS, **self.rounds(calls, (), seconds)}
        shutil.rmtree(run.path.parent)
        return result


def sweep(runs: int) -> dict:
    """Milliseconds a run, in sweeps of so many: see experiments.benchmark.sweep. A process for each way of wandb."""
    times = {}
    for wandb in ("disabled", "offline"):
        command = [sys.executable, "-m", "experiments.benchmark.sweep", str(runs), str(LEAST_ROUNDS), wandb]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the sweep ended with {done.returncode}: {last_line(done)}")
        times[f"wandb {wandb}"] = [float(f"{1e3 * seconds:.5g}") for seconds in json.loads(done.stdout)]
    return {"kind": "sweep", "runs": runs, "milliseconds": times}


def workers(runs: int, cores: list[int], threads: int, steps: int = 100, rounds: int = LEAST_ROUNDS) -> dict:
    """Milliseconds of a whole sweep of so many runs, by one and by two worker processes, as a user starts it.

    Start of the processes, configuration and files included. A time is of a sweep in a folder of its own.
    """
    times: dict[str, list[float]] = {"1 worker": [], "2 workers": []}
    fixed = ["-m", "model=lstm", "norm=ln", "data=python_docs", f"trainer.steps={steps}", "wandb.mode=disabled"]
    fixed += ["quiet=true", "hydra/launcher=joblib", "seed=" + ",".join(map(str, range(runs)))]
    pin(cores)
    try:
        for _ in range(rounds):
            for count, told in enumerate(times, 1):
                with tempfile.TemporaryDirectory() as folder:
                    command = [sys.executable, "-m", "experiments.train", *fixed, f"hydra.launcher.n_jobs={count}"]
                    started = time.perf_counter()
                    done = subprocess.run([*command, f"runs_dir={folder}"], cwd=ROOT, capture_output=True, text=True)
                    times[told].append(float(f"{1e3 * (time.perf_counter() - started):.5g}"))
                if done.returncode:
                    raise RuntimeError(f"the sweep ended with {done.returncode}: {last_line(done)}")
    finally:
        pin(cores[:threads])
    return {"kind": "workers", "runs": runs, "milliseconds": times}


def last_line(done: subprocess.CompletedProcess) -> str:
    return done.stderr.strip().splitlines()[-1]


def products(size: Size, cell: str) -> dict[str, Callable]:
    """The products of a layer's two passes, by the same code: those of all steps at once, and one a step, one after
    the other, h_{t-1} W_hh' forward and dR_t W_hh backward."""
    (T, B, I, H), m = (size.T, size.B, size.I, size.H), GATES[cell] * size.H  # noqa: E741
    x, h, R = (torch.rand(T * B, columns) - 0.5 for columns in (I, H, m))
    A, dx, dh, kernels = torch.empty(T * B, m), torch.empty(T * B, I), torch.empty(B, H), library()
    packed = {
        shape: torch.rand(shape[0] * kernels.packed_columns(shape[1], 4)) for shape in ((I, m), (m, I), (H, m), (m, H))
    }

    few = TOGETHER // B * B or B

    def product(source: Tensor, shape: tuple[int, int], target: Tensor, count: int):
        """Rows of `source` times a matrix of that shape, `count` rows a time."""
        for first in range(0, T * B, count):
            to = target[first:] if len(target) == T * B else target
            given = (source[first:], packed[shape], min(count, T * B - first), *shape, to)
            kernels.product_float32(*(ctypes.c_void_p(n.data_ptr()) if isinstance(n, Tensor) else n for n in given))

    def at_once():
        product(x, (I, m), A, few)
        product(R, (m, I), dx, few)
        transposed_product(R, x)
        transposed_product(R, h)

    def by_step():
        product(h, (H, m), R, B)
        product(R, (m, H), dh, B)

    return {AT_ONCE: at_once, BY_STEP: by_step}


class OneBatch:
    """A task (experiments/training/tasks.py) that costs nothing itself: the same batch for ever, no validation."""

    steps_per_epoch = 1

    def __init__(self, problem: Problem):
        self.problem, self.batch_size = problem, problem.size.B

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.problem.x, self.problem.dy

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, dy = batch
        return (model(x)[0] * dy).mean()

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss}

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        return {"loss": 0.0}


def must_agree(rows: list[Candidate], passes: dict[str, Any], told: str) -> None:
    """Compare the outputs and gradients of each candidate with those of the first of its norm."""
    first: dict[str, tuple[str, dict[str, Tensor]]] = {}
    for row in rows:
        results = passes[row.name].results(passes[row.name]())
        name, expected = first.setdefault(row.norm, (row.name, results))
        if results.keys() != expected.keys():
            raise DisagreementError(f"{told}: {row.name} has {list(results)}, {name} has {list(expected)}")
        for key, value in results.items():
            error = ((value - expected[key]).norm() / expected[key].norm()).item()
            if not error <= TOLERANCE["y" if key == "y" else "gradient"]:
                raise DisagreementError(f"{told}: {key} of {row.name} is {error:.1e} off that of {name}")


# --- the machine -----------------------------------------------------------------------------------------------------


def fastest_gemm(device: str) -> Gemm:
    """The size at which torch.mm is fastest here, of a few large ones."""
    products = [Gemm(n, device) for n in ((384, 512, 768, 1024) if device == "cpu" else (2048, 4096, 8192))]
    timing = Timing(device, 0, products[0])
    return max(products, key=lambda product: product.flop / timing.milliseconds(product, 8, min))


def pin(cores: list[int]) -> None:
    """Keep this thread, and those it will start, on these cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def machine_facts(device: str, cores: list[int]) -> dict:
    """What the times depend on. No date: the same machine and commit tell the same."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = re.search(r"(?:flags|Features)\s*: (.*)", cpuinfo)
    of_note = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")
    build = torch.__config__.show()
    return {
        "cpu": processor("cpu"),
        "flags": [flag for flag in of_note if flags and flag in flags[1].split()],
        "cores": len(cores),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "blas": ", ".join(found for pattern in BLAS for found in re.findall(pattern, build)),
        "compiler": first_line(compiler() or "c++", "--version"),
        **{name: environment()[name] for name in ("platform", "python", "torch", "git", "dirty")},
    }


def first_line(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return None
