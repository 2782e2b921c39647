"""How fast the recurrent layers are: against torch.nn, against other ways to write them, against the machine's floor.

python -m experiments.benchmark                                    about 10 minutes
python -m experiments.benchmark sizes=[256] cells=[lstm] minutes=3   a part
python -m experiments.benchmark rows=results/reference/benchmark   tables and figure again, from the raw times

Writes benchmark.json (machine and all raw times), benchmark.md and benchmark.svg into `output`. A size is named by its
units. The candidates are in peers.py, what is timed of them in cases.py, how in timing.py.

On a GPU it is written to do the same against cuDNN. That has not been run yet.
"""

import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.benchmark import cases, figure, results, tables
from experiments.benchmark.machine import available_cores, machine_facts, pin
from experiments.benchmark.peers import BASE, BOTH, CANDIDATES, FORWARD, NORMS, TORCH, Candidate, Size
from experiments.benchmark.readme import LACKING, SIZE, check_measured, put_into_readme
from experiments.benchmark.timing import Timing, fastest_gemm, work
from experiments.benchmark.uses import USES, use
from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError, one_of
from experiments.config.paths import CONFIGS
from experiments.runs.identity import device_name
from experiments.runs.outputs import check_output, written_as_one
from experiments.runs.progress import format_duration

SIZES = {  # by their units
    str(size.H): size
    for size in (
        Size(T=7, B=6, I=9, H=16),  # for a smoke test
        Size(T=64, B=16, I=128, H=128),
        Size(T=100, B=32, I=128, H=256),
        Size(T=100, B=32, I=512, H=512),
        Size(T=35, B=20, I=650, H=650),
    )
}
SMOKE, *MEASURED = SIZES
FILES = ("benchmark.json", "benchmark.md", "benchmark.svg")


@dataclass
class Benchmark:
    sizes: list[str] = field(
        default_factory=lambda: list(MEASURED),
        metadata={"help": "sizes of the layers that are timed", "choices": tuple(SIZES)},
    )
    cells: list[str] = field(
        default_factory=lambda: list(TORCH),
        metadata={"help": "recurrent cells that are timed", "choices": tuple(TORCH)},
    )
    norms: list[str] = field(
        default_factory=lambda: list(NORMS),
        metadata={"help": "normalisers of this repository's layers", "choices": tuple(NORMS)},
    )
    every_norm_at: list[str] = field(
        default_factory=lambda: list(SIZES),
        metadata={
            "help": "sizes at which every normaliser is timed; at the others none and ln alone",
            "choices": tuple(SIZES),
        },
    )
    scaling: str | None = field(
        default="512",
        metadata={"help": "size at which one and two threads are compared; null: not at all", "choices": tuple(SIZES)},
    )
    parts: list[str] = field(
        default_factory=lambda: list(MEASURED),
        metadata={"help": "sizes at which the time is split into the parts of a pass", "choices": tuple(SIZES)},
    )
    uses: list[str] = field(
        default_factory=lambda: list(USES),
        metadata={"help": "uses of an LSTM that are timed: small, in stacks, by step", "choices": tuple(USES)},
    )
    trainer: str | None = field(
        default="256",
        metadata={
            "help": "size at which the training loop is compared with a bare one; null: not at all",
            "choices": tuple(SIZES),
        },
    )
    sweep: int | None = field(
        default=10,
        metadata={"help": "runs of the sweeps that measure what a run costs besides its training; null: not at all"},
    )
    workers: int | None = field(
        default=12,
        metadata={"help": "runs of a sweep that is given to one and to two worker processes; null: not at all"},
    )
    minutes: float = field(
        default=10.0,
        metadata={"help": "minutes in all, shared out over the cases; each case has three rounds at least"},
    )
    max_rounds: int = field(default=40, metadata={"help": "rounds of one case at most"})
    threads: int = field(default=1, metadata={"help": "CPU threads that are used; at most the cores of this process"})
    device: str = field(
        default="auto",
        metadata={
            "help": "device that is timed; auto: the fastest of this machine",
            "choices": ("auto", "cpu", "cuda"),
        },
    )
    quick: bool = field(default=False, metadata={"help": "a smoke test of seconds: size 16, three rounds"})
    rows: str | None = field(
        default=None,
        metadata={"help": "a folder with benchmark.json, to make tables and figure from it and time nothing"},
    )
    output: str = field(default="results/benchmark", metadata={"help": "folder that is written"})
    readme: bool = field(default=False, metadata={"help": "put the summary into README.md; for the reference results"})


ConfigStore.instance().store(name="benchmark_schema", node=Benchmark)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="benchmark")
def benchmark(cfg: DictConfig) -> None:
    with refusals_in_one_line("benchmark"):
        output = Path(cfg.output)
        check_output(output, FILES, known_by="benchmark.json")
        if cfg.quick:
            cfg.sizes, cfg.parts, cfg.scaling, cfg.trainer = [SMOKE], [SMOKE], SMOKE, SMOKE
            cfg.sweep, cfg.workers, cfg.minutes, cfg.uses = 2, None, 0.0, list(USES)[:1]
        data = measured(cfg) if cfg.rows is None else results.read(Path(cfg.rows))
        if cfg.readme:
            check_measured(data)
        with written_as_one(output, known_by="benchmark.json") as folder:
            results.write(data, folder)
            (folder / "benchmark.md").write_text(tables.markdown(data), encoding="utf-8")
            figure.draw(data, folder / "benchmark.svg")
        if cfg.readme:
            put_into_readme(data)
    print(tables.short_report(data), end="\n\n")
    print(f"benchmark: {(output / 'benchmark.md').resolve()}")


def measured(cfg: DictConfig) -> dict:
    """Return the content of benchmark.json: the command, the machine, what is missing here, the times of every case."""
    check(cfg)
    device, cores = device_name(cfg), available_cores()
    facts = {**machine_facts(device, cores), "device": device, "threads": cfg.threads}
    if device == "cpu":  # before JAX starts, which has a thread for every core that the process may use
        pin(cores[: cfg.threads])
    torch.set_num_threads(cfg.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # all candidates in float32
    absent = {candidate.name: why for candidate in CANDIDATES if (why := candidate.missing(device))}
    plan = planned(cfg, device, cores, absent)
    sizes = dict.fromkeys([*cfg.sizes, *cfg.parts, *filter(None, (cfg.scaling, cfg.trainer))])
    return {
        "command": " ".join(["python -m experiments.benchmark", *sys.argv[1:]]),
        "machine": facts,
        "sizes": {name: asdict(SIZES[name]) for name in sizes},
        "absent": absent,
        "cases": timed(plan, 60 * cfg.minutes),
    }


@dataclass(frozen=True)
class Case:
    """A case that is to be timed."""

    title: str
    flop: float  # its share of the time is by the root of it; 0: it takes what it takes
    call: Callable[[float], dict]  # given the seconds that it may take, returns what benchmark.json holds of it


def planned(cfg: DictConfig, device: str, cores: list[int], absent: dict[str, str]) -> list[Case]:
    """Return the cases, in the order in which they are timed."""
    timing = Timing(device, cfg.max_rounds, fastest_gemm(device))
    several_cores = device == "cpu" and len(cores) > 1
    has_fused = cases.OURS not in absent
    plan = []
    if cfg.sweep:
        plan.append(Case("sweep", 0.0, lambda _: cases.sweep(cfg.sweep)))
    if cfg.workers and several_cores:
        plan.append(Case("workers", 0.0, lambda _: cases.workers(cfg.workers, cores, cfg.threads)))
    for name, cell, mode in itertools.product(cfg.sizes, cfg.cells, (FORWARD, BOTH)):
        size = SIZES[name]
        candidates = [row for row in CANDIDATES if row.name not in absent and is_chosen(row, cfg, name, cell)]
        call = functools.partial(cases.layers, timing, name, size, cell, mode, candidates)
        plan.append(Case(f"{name} {cell} {mode}", work(size, cell, mode), call))
    if device == "cpu" and has_fused:
        for name, cell in itertools.product(cfg.parts, cfg.cells):
            call = functools.partial(cases.parts, timing, name, SIZES[name], cell)
            plan.append(Case(f"{name} {cell} parts", work(SIZES[name], cell, BOTH), call))
        for name in cfg.uses:
            plan.append(Case(name, USES[name].flop, functools.partial(use, timing, name)))
    if cfg.trainer:
        size = SIZES[cfg.trainer]
        call = functools.partial(cases.trainer, timing, cfg.trainer, size)
        plan.append(Case(f"{cfg.trainer} trainer", work(size, "lstm", BOTH), call))
    if cfg.scaling and several_cores and has_fused:
        size = SIZES[cfg.scaling]
        call = functools.partial(cases.scaling, timing, cfg.scaling, size, cores, cfg.threads)
        plan.append(Case(f"{cfg.scaling} threads", work(size, "lstm", BOTH), call))
    return plan


def is_chosen(candidate: Candidate, cfg: DictConfig, size: str, cell: str) -> bool:
    """Return whether a candidate takes part in a case: torch.nn always."""
    if candidate.name == BASE:
        return True
    norm_is_timed = candidate.norm in ("none", "ln") or size in cfg.every_norm_at
    return cell in candidate.cells and candidate.norm in cfg.norms and norm_is_timed


def timed(plan: list[Case], seconds: float) -> list[dict]:
    """Time the cases of the plan, one after the other, in so many seconds or little more.

    The remaining time is divided by the root of the work: large cases get fewer rounds, but not few.
    """
    done: list[dict] = []
    end = time.monotonic() + seconds
    console = Console(highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # No refreshing thread: it would run on the core that is measured.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=len(plan))
        for case in plan:
            bar.update(task, description=case.title, refresh=console.is_terminal)
            ahead = sum(math.sqrt(later.flop) for later in plan[len(done) :])
            left = max(0.0, end - time.monotonic())
            done.append(case.call(left * math.sqrt(case.flop) / ahead))
            left = end - time.monotonic()
            note = f"  (about {format_duration(left)} left)" if left > 0 and len(done) < len(plan) else ""
            line = f"[{len(done)}/{len(plan)}] {case.title}: {tables.in_words(done[-1])}{note}"
            console.print(line, markup=False)
            bar.advance(task)
    return done


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for an option that does not exist or leaves nothing to time."""
    lists: dict[str, Iterable[str]] = {
        "sizes": SIZES,
        "every_norm_at": SIZES,
        "parts": SIZES,
        "cells": TORCH,
        "norms": NORMS,
        "uses": USES,
    }
    for name, allowed in lists.items():
        for value in cfg[name]:
            one_of(name, value, allowed)
        if not cfg[name] and name not in ("every_norm_at", "parts", "uses"):
            raise ConfigError(f"{name}=[] leaves nothing to time; choose from {', '.join(allowed)}")
    for name in ("scaling", "trainer"):
        if cfg[name]:
            one_of(name, cfg[name], SIZES)
    for name in ("sweep", "workers"):
        if cfg[name] is not None and cfg[name] < 1:
            raise ConfigError(f"{name}={cfg[name]} has no run; give 1 or more, or {name}=null for no such sweep")
    if cfg.readme and not (SIZE in cfg.sizes and set(TORCH) <= set(cfg.cells) and {"none", "ln"} <= set(cfg.norms)):
        raise ConfigError(LACKING)
    if not 0 <= cfg.minutes < math.inf or cfg.max_rounds < 1:
        raise ConfigError(
            f"minutes={cfg.minutes} max_rounds={cfg.max_rounds} leave no time; give minutes >= 0 and max_rounds >= 1"
        )
    cores = len(available_cores())
    if not 1 <= cfg.threads <= cores:
        raise ConfigError(f"threads={cfg.threads} is not among the {cores} cores here; give 1 to {cores}")
    if device_name(cfg) == "mps":
        raise ConfigError("device=mps is not timed yet; use device=cpu")


def main() -> None:
    command(benchmark, "benchmark")
