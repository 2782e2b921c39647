"""How times are taken.

A machine's speed drifts, so only ratios within a round count: in a round every candidate of a case is timed once, in
random order, and later divided by torch.nn's time of the same round. Garbage collection is off meanwhile. Before
anything is timed, all candidates of the same equation must agree, gradients included.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.benchmark.peers import BOTH, Candidate, Size
from models.recurrent.spec import GATES

GEMM = "gemm"  # one large product of matrices, a candidate of every case: the machine's speed, hence the case's floor
RARE = 3  # a rare candidate runs in every third round, the first included
LEAST_ROUNDS = 3
SHORTEST = 10.0  # ms; a faster candidate is called several times in a round, and the mean counts
MOST_CALLS = 20
# Largest ||a - b|| / ||b|| between candidates of one equation. Float32 over a hundred steps leaves up to 3e-3 in a
# gradient; a term that is missing leaves more than 0.1.
TOLERANCE = {"y": 1e-3, "gradient": 2e-2}


class DisagreementError(Exception):
    """A candidate does not compute what the others of its norm compute."""


def work(size: Size, cell: str, mode: str) -> float:
    """Return the FLOP of the matrix products alone: y needs x W' and h W', and backward twice as much again."""
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
        """Return the time of one call: by default the mean of so many."""
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
        """Return {"milliseconds": {name: a value a round, None if it was left out}, "calls": {name: calls a value}}."""
        once = {name: self.milliseconds(call, 1) for name, call in calls.items()}  # warms as well
        number = {name: min(MOST_CALLS, max(1, round(SHORTEST / ms))) for name, ms in once.items()}
        times: dict[str, list] = {name: [] for name in calls}
        order, deadline = random.Random(0), time.monotonic() + seconds
        for index in range(self.max_rounds):
            if index >= LEAST_ROUNDS and time.monotonic() > deadline:
                break
            due = [name for name in calls if index % RARE == 0 or name not in rare]
            measured = self.one_round(calls, order.sample(due, len(due)), number)
            for name, values in times.items():
                values.append(float(f"{measured[name]:.5g}") if name in measured else None)
        return {"milliseconds": times, "calls": number}

    def one_round(self, calls: dict[str, Callable], order: list[str], number: dict[str, int]) -> dict[str, float]:
        """Return the milliseconds of one call of each candidate, timed in the given order."""
        gc.collect()
        gc.disable()
        measured = {}
        try:
            for name in order:
                if name == GEMM:
                    measured[name] = self.milliseconds(calls[name], max(3, number[name]), min)
                else:
                    measured[name] = self.milliseconds(calls[name], number[name])
        finally:
            gc.enable()
        return measured


def fastest_gemm(device: str) -> Gemm:
    """Return the size at which torch.mm is fastest here, of a few large ones."""
    products = [Gemm(n, device) for n in ((384, 512, 768, 1024) if device == "cpu" else (2048, 4096, 8192))]
    timing = Timing(device, 0, products[0])
    return max(products, key=lambda product: product.flop / timing.milliseconds(product, 8, min))


def must_agree(candidates: list[Candidate], passes: dict[str, Any], case: str) -> None:
    """Raise DisagreementError if a candidate's outputs or gradients differ from those of the first of its norm."""
    first: dict[str, tuple[str, dict[str, Tensor]]] = {}
    for candidate in candidates:
        results = passes[candidate.name].results(passes[candidate.name]())
        name, expected = first.setdefault(candidate.norm, (candidate.name, results))
        if results.keys() != expected.keys():
            raise DisagreementError(f"{case}: {candidate.name} has {list(results)}, {name} has {list(expected)}")
        for key, value in results.items():
            error = ((value - expected[key]).norm() / expected[key].norm()).item()
            if not error <= TOLERANCE["y" if key == "y" else "gradient"]:
                raise DisagreementError(f"{case}: {key} of {candidate.name} is {error:.1e} off that of {name}")
