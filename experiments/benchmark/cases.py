"""What is timed: the cases of the benchmark. Each returns what benchmark.json holds of it."""

import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiments.benchmark.machine import pin
from experiments.benchmark.peers import BASE, BOTH, Candidate, Problem, Size, ours, torch_nn
from experiments.benchmark.timing import GEMM, LEAST_ROUNDS, Timing, must_agree, work
from experiments.config.paths import ROOT
from experiments.config.schema import Adam, Trainer, Wandb
from experiments.runs.folder import RunFolder
from experiments.runs.schedule import Schedule
from experiments.training.loop import fit
from experiments.training.optimisation import make_optimizer
from experiments.training.recorder import FolderRecorder
from models.recurrent import LSTM
from models.recurrent.compiler import library
from models.recurrent.cpu import transposed_product
from models.recurrent.layout import TOGETHER
from models.recurrent.spec import GATES

OURS, AT_ONCE, BY_STEP = "ours ln, fused", "products of all steps at once", "products step by step"
TRAINER_STEPS = 20  # of one call of the training loop


# --- layers -----------------------------------------------------------------------------------------------------------


def layers(
    timing: Timing, name: str, size: Size, cell: str, mode: str, candidates: list[Candidate], seconds: float
) -> dict:
    """Time all candidates of a cell type at a size, in one mode."""
    problem = Problem(cell, size, mode, timing.device)
    passes = {candidate.name: candidate.build(problem) for candidate in candidates}
    must_agree(candidates, passes, f"{name} {cell} {mode}")
    rare = {candidate.name for candidate in candidates if candidate.rare}
    return {
        "kind": "cell",
        **{"size": name, "cell": cell, "mode": mode},
        **{"flop": work(size, cell, mode), "gemm_flop": timing.gemm.flop},
        **timing.rounds({**passes, GEMM: timing.gemm}, rare, seconds),
    }


def parts(timing: Timing, name: str, size: Size, cell: str, seconds: float) -> dict:
    """Time our fused LN layer, forward and backward, and the products of matrices that it makes, by themselves."""
    problem = Problem(cell, size, BOTH, timing.device)
    calls: dict[str, Callable] = {
        BASE: torch_nn(problem),
        OURS: ours(problem, "ln", "fused"),
        **products(size, cell),
        GEMM: timing.gemm,
    }
    return {
        "kind": "parts",
        **{"size": name, "cell": cell},
        **{"flop": work(size, cell, BOTH), "gemm_flop": timing.gemm.flop},
        **timing.rounds(calls, (), seconds),
    }


def products(size: Size, cell: str) -> dict[str, Callable]:
    """Return the products of a layer's two passes, by the code of the layer.

    AT_ONCE: those of all steps together. BY_STEP: h_{t-1} W_hh' forward and dR_t W_hh backward, one step after another.
    """
    (T, B, I, H), m = (size.T, size.B, size.I, size.H), GATES[cell] * size.H  # noqa: E741
    x, h, R = (torch.rand(T * B, columns) - 0.5 for columns in (I, H, m))
    A, dx, dh, kernels = torch.empty(T * B, m), torch.empty(T * B, I), torch.empty(B, H), library()
    packed = {
        shape: torch.rand(shape[0] * kernels.packed_columns(shape[1], 4)) for shape in ((I, m), (m, I), (H, m), (m, H))
    }

    few = TOGETHER // B * B or B

    def product(source: Tensor, shape: tuple[int, int], target: Tensor, count: int):
        """Multiply the rows of `source` by a matrix of that shape, `count` rows at a time."""
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


def scaling(timing: Timing, name: str, size: Size, cores: list[int], threads: int, seconds: float) -> dict:
    """Time one thread against two: our fused LN-LSTM and torch.nn's LSTM, forward and backward."""
    problem = Problem("lstm", size, BOTH, timing.device)
    passes = {OURS: ours(problem, "ln", "fused"), BASE: torch_nn(problem)}

    def on(count: int, work: Callable) -> Callable:
        def call():
            torch.set_num_threads(count)
            return work()

        return call

    pin(cores[:2])
    calls = {f"{name}, {count}": on(count, work) for name, work in passes.items() for count in (1, 2)}
    try:
        return {"kind": "threads", "size": name, **timing.rounds(calls, (), seconds)}
    finally:
        pin(cores[:threads])
        torch.set_num_threads(threads)


# --- the training loop ------------------------------------------------------------------------------------------------


def trainer(timing: Timing, name: str, size: Size, seconds: float) -> dict:
    """Time experiments.training.loop.fit against a bare loop, on an LN-LSTM layer. A time is of all steps."""
    problem = Problem("lstm", size, BOTH, timing.device)
    clip = 1.0
    model, task, optim = LSTM(size.I, size.H, norm="ln").to(timing.device), OneBatch(problem), Adam(clip=clip)
    parameters, settings = list(model.parameters()), Trainer(steps=TRAINER_STEPS, evaluations=1)

    def bare():
        optimizer = make_optimizer(model, optim)
        for step in range(TRAINER_STEPS):
            optimizer.zero_grad()
            task.loss(model, task.batch(step)).backward()
            nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()

    schedule = Schedule.of(settings, TRAINER_STEPS)
    with tempfile.TemporaryDirectory() as folder, (run := RunFolder(folder, "run")).lock():
        recorder = FolderRecorder(run, Wandb(mode="disabled"), {}, timing.device, schedule, {}, time.monotonic())
        # A checkpoint comes twice a minute, not every so many steps.
        recorder.save = lambda *_: None  # type: ignore[method-assign]
        calls = {"bare": bare, "fit": lambda: fit(model, task, optim, settings, recorder)}
        return {"kind": "trainer", "size": name, "steps": TRAINER_STEPS, **timing.rounds(calls, (), seconds)}


class OneBatch:
    """A task (experiments.training.protocols.Task) that costs nothing itself: the same batch always, no validation."""

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


# --- sweeps -----------------------------------------------------------------------------------------------------------


def sweep(runs: int) -> dict:
    """Time sweeps of so many runs, in milliseconds a run, as run_cost.py does; a process for each wandb mode."""
    times = {}
    for wandb in ("disabled", "offline"):
        command = [sys.executable, "-m", "experiments.benchmark.run_cost", str(runs), str(LEAST_ROUNDS), wandb]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the sweep ended with {done.returncode}: {last_line(done)}")
        times[f"wandb {wandb}"] = [float(f"{1e3 * seconds:.5g}") for seconds in json.loads(done.stdout)]
    return {"kind": "sweep", "runs": runs, "milliseconds": times}


def workers(runs: int, cores: list[int], threads: int, steps: int = 100, rounds: int = LEAST_ROUNDS) -> dict:
    """Time a whole sweep of so many runs, by one and by two worker processes, as a user starts it.

    Start of the processes, configuration and files included. Each sweep has a folder of its own.
    """
    times: dict[str, list[float]] = {"1 worker": [], "2 workers": []}
    fixed = ["-m", "model=lstm", "norm=ln", "data=python_docs", f"trainer.steps={steps}", "wandb.mode=disabled"]
    fixed += ["quiet=true", "hydra/launcher=joblib", "seed=" + ",".join(map(str, range(runs)))]
    pin(cores)
    try:
        for _ in range(rounds):
            for count, name in enumerate(times, 1):
                with tempfile.TemporaryDirectory() as folder:
                    command = [sys.executable, "-m", "experiments.train", *fixed, f"hydra.launcher.n_jobs={count}"]
                    started = time.perf_counter()
                    done = subprocess.run([*command, f"runs_dir={folder}"], cwd=ROOT, capture_output=True, text=True)
                    times[name].append(float(f"{1e3 * (time.perf_counter() - started):.5g}"))
                if done.returncode:
                    raise RuntimeError(f"the sweep ended with {done.returncode}: {last_line(done)}")
    finally:
        pin(cores[:threads])
    return {"kind": "workers", "runs": runs, "milliseconds": times}


def last_line(done: subprocess.CompletedProcess) -> str:
    return (done.stderr.strip().splitlines() or ["without a message"])[-1]
