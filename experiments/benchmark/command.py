"""How fast the recurrent layers are: against torch.nn, against other ways to write them, against the machine's floor.

python -m experiments.benchmark                                    about 10 minutes
python -m experiments.benchmark sizes=[a] cells=[lstm] minutes=3   a part
python -m experiments.benchmark rows=results/reference/benchmark   tables and figure again, from the raw times

Writes benchmark.json (machine and all raw times), benchmark.md and benchmark.svg into `output`. The
candidates are in peers.py, how they are timed in timing.py (runs of a sweep in sweep.py), what is told of it in
report.py.

On a GPU it is written to do the same against cuDNN. That has not been run yet.
"""

import functools
import itertools
import math
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.benchmark import report
from experiments.benchmark.peers import BOTH, CANDIDATES, FORWARD, NORMS, TORCH, Size
from experiments.benchmark.readme import put_into_readme
from experiments.benchmark.timing import Timing, fastest_gemm, machine_facts, pin, sweep, work, workers
from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError, nearest
from experiments.config.paths import CONFIGS
from experiments.config.writable import check_folder
from experiments.runs.identity import device_name
from experiments.runs.progress import duration

SIZES = {
    "tiny": Size(T=7, B=6, I=9, H=16),
    "d": Size(T=64, B=16, I=128, H=128),
    "a": Size(T=100, B=32, I=128, H=256),
    "c": Size(T=35, B=20, I=650, H=650),
    "b": Size(T=100, B=32, I=512, H=512),
}


@dataclass
class Benchmark:
    sizes: list[str] = field(default_factory=lambda: ["d", "a", "c", "b"])  # of tiny, d, a, c, b
    cells: list[str] = field(default_factory=lambda: list(TORCH))  # lstm, gru, rnn
    norms: list[str] = field(default_factory=lambda: list(NORMS))  # of our own layers
    every_norm_at: list[str] = field(default_factory=lambda: list(SIZES))  # sizes; elsewhere none and ln alone
    scaling: str | None = "b"  # size at which one and two threads are compared; null: not at all
    parts: list[str] = field(default_factory=lambda: ["d", "a", "c", "b"])  # sizes: where does the time go?
    trainer: str | None = "a"  # size at which the training loop is compared with a bare one; null: not at all
    sweep: int | None = 10  # runs of the sweeps that tell what a run costs besides its training; null: not at all
    workers: int | None = 12  # runs of a sweep that is given to one and to two worker processes; null: not at all
    minutes: float = 10.0  # of all, shared out over the cases; each has three rounds at least
    max_rounds: int = 40  # of one case
    threads: int = 1  # cores that are used; at most those of this process
    device: str = "auto"  # auto, cpu or cuda
    quick: bool = False  # a smoke of seconds: size tiny, three rounds
    rows: str | None = None  # a folder with benchmark.json, to make tables and figure from it and time nothing
    output: str = "results/benchmark"  # folder that is written
    readme: bool = False  # put the summary into README.md; for the reference results


ConfigStore.instance().store(name="benchmark_schema", node=Benchmark)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="benchmark")
def benchmark(cfg: DictConfig) -> None:
    with refusals_in_one_line("benchmark"):
        check_folder("output", cfg.output)
        if cfg.quick:
            cfg.sizes, cfg.parts, cfg.scaling, cfg.trainer = ["tiny"], ["tiny"], "tiny", "tiny"
            cfg.sweep, cfg.workers, cfg.minutes = 2, None, 0.0
        data = measured(cfg) if cfg.rows is None else report.read(Path(cfg.rows))
        report.write(data, Path(cfg.output))
        if cfg.readme:
            put_into_readme(data)
    print(report.readme_block(data), end="\n\n")
    print(f"benchmark: {(Path(cfg.output) / 'benchmark.md').resolve()}")


def measured(cfg: DictConfig) -> dict:
    """What benchmark.json holds: the command, the machine, what could not be had here, the raw times of every case."""
    device, cores = checked(cfg)
    facts = {**machine_facts(device, cores), "device": device, "threads": cfg.threads}
    if device == "cpu":  # before JAX starts, which has a thread for every core that the process may use
        pin(cores[: cfg.threads])
    torch.set_num_threads(cfg.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # all candidates in float32
    absent = {row.name: why for row in CANDIDATES if (why := row.missing(device))}
    timing = Timing(device, cfg.max_rounds, fastest_gemm(device))

    plan = []  # (title, FLOP, what times the case when it is given the seconds)
    # These two take what they take, and the others share what they leave.
    if cfg.sweep:
        plan.append(("sweep", 0.0, lambda _: sweep(cfg.sweep)))
    if cfg.workers and device == "cpu" and len(cores) > 1:
        plan.append(("workers", 0.0, lambda _: workers(cfg.workers, cores, cfg.threads)))
    for name in cfg.sizes:
        for cell in cfg.cells:
            rows = [row for row in CANDIDATES if row.name not in absent and chosen(row, cfg, name, cell)]
            for mode in (FORWARD, BOTH):
                call = functools.partial(timing.cell, name, SIZES[name], cell, mode, rows)
                plan.append((f"{name} {cell} {mode}", work(SIZES[name], cell, mode), call))
    for name, cell in (
        itertools.product(cfg.parts, cfg.cells) if device == "cpu" and "ours ln, fused" not in absent else ()
    ):
        call = functools.partial(timing.parts, name, SIZES[name], cell)
        plan.append((f"{name} {cell} parts", work(SIZES[name], cell, BOTH), call))
    if cfg.trainer:
        call = functools.partial(timing.trainer, cfg.trainer, SIZES[cfg.trainer])
        plan.append((f"{cfg.trainer} trainer", work(SIZES[cfg.trainer], "lstm", BOTH), call))
    if cfg.scaling and device == "cpu" and len(cores) > 1 and "ours ln, fused" not in absent:
        call = functools.partial(timing.scaling, cfg.scaling, SIZES[cfg.scaling], cores, cfg.threads)
        plan.append((f"{cfg.scaling} threads", work(SIZES[cfg.scaling], "lstm", BOTH), call))

    sizes = dict.fromkeys([*cfg.sizes, *cfg.parts, *filter(None, (cfg.scaling, cfg.trainer))])
    return {
        "command": " ".join(["python -m experiments.benchmark", *sys.argv[1:]]),
        "machine": facts,
        "sizes": {name: asdict(SIZES[name]) for name in sizes},
        "absent": absent,
        "cases": timed(plan, 60 * cfg.minutes),
    }


def timed(plan: list[tuple], seconds: float) -> list[dict]:
    """The cases of the plan, one after the other, in so many seconds or little more.

    What time is left is shared out by the root of the work: large cases get fewer rounds, but not few.
    """
    cases: list[dict] = []
    end, console = time.monotonic() + seconds, Console(highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # No refreshing thread: it would run on the core that is measured.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=len(plan))
        for title, flop, call in plan:
            bar.update(task, description=title, refresh=console.is_terminal)
            ahead = sum(math.sqrt(flop) for _, flop, _ in plan[len(cases) :])
            cases.append(call(max(0.0, end - time.monotonic()) * math.sqrt(flop) / ahead))
            left = end - time.monotonic()
            note = f"  (about {duration(left)} left)" if left > 0 and len(cases) < len(plan) else ""
            told = f"[{len(cases)}/{len(plan)}] {title}: {report.in_words(cases[-1])}{note}"
            console.print(told, markup=False)
            bar.advance(task)
    return cases


def chosen(row, cfg: DictConfig, size: str, cell: str) -> bool:
    """Whether a candidate takes part in a case: torch.nn always."""
    if row is CANDIDATES[0]:
        return True
    of_interest = row.norm in ("none", "ln") or size in cfg.every_norm_at
    return cell in row.cells and row.norm in cfg.norms and of_interest


def checked(cfg: DictConfig) -> tuple[str, list[int]]:
    """The device and the cores of this process. Raises ConfigError for what does not exist."""
    for name, allowed in (
        ("sizes", SIZES),
        ("every_norm_at", SIZES),
        ("parts", SIZES),
        ("cells", TORCH),
        ("norms", NORMS),
    ):
        for given in cfg[name]:
            known(f"{name}=[{given}]", given, allowed)
        if not cfg[name] and name not in ("every_norm_at", "parts"):
            raise ConfigError(f"{name}=[] leaves nothing to time; choose from {', '.join(allowed)}")
    for name in ("scaling", "trainer"):
        if cfg[name]:
            known(f"{name}={cfg[name]}", cfg[name], SIZES)
    for name in ("sweep", "workers"):
        if cfg[name] is not None and cfg[name] < 1:
            raise ConfigError(f"{name}={cfg[name]} has no run; give 1 or more, or {name}=null for no such sweep")
    if not 0 <= cfg.minutes < math.inf or cfg.max_rounds < 1:
        raise ConfigError(f"minutes={cfg.minutes} max_rounds={cfg.max_rounds} leave no time; give both above 0")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if not 1 <= cfg.threads <= len(cores):
        raise ConfigError(f"threads={cfg.threads} is not among the {len(cores)} cores here; give 1 to {len(cores)}")
    device = device_name(cfg)
    if device == "mps":
        raise ConfigError("device=mps is not timed yet; use device=cpu")
    return device, cores


def known(told: str, given: str, allowed) -> None:
    if given not in allowed:
        raise ConfigError(f"{told} is unknown; allowed: {', '.join(allowed)}; nearest: {nearest(given, allowed)}")


def main() -> None:
    command(benchmark, "benchmark")
