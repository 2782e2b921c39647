"""The speed table of README.md: a few implementations of each layer, at one size."""

import pandas as pd

from experiments.benchmark.peers import BASE, BOTH, TORCH
from experiments.benchmark.results import ratio
from experiments.config.errors import ConfigError
from experiments.config.paths import ROOT
from experiments.report.readme import replace_block

START, END = "<!-- speed: written by experiments.benchmark -->", "<!-- end of speed -->"
SIZE = "256"
LACKING = f"readme=true needs the times of size {SIZE}, of every cell and of none and ln; leave it out"
ROWS = ("ours ln, fused", "ours none, fused", "ours ln, reference", "per-step loop ln")


def check_measured(data: dict) -> None:
    """Raise ConfigError if the table of README.md would have holes."""
    timed = {case["cell"]: case["milliseconds"] for case in data["cases"] if case["kind"] == "cell" and at_size(case)}
    if set(timed) < set(TORCH) or any(row not in times for row in ROWS for times in timed.values()):
        raise ConfigError(LACKING)


def put_into_readme(data: dict) -> None:
    replace_block(ROOT / "README.md", START, END, speed_table(data))


def speed_table(data: dict) -> str:
    """Return the times of forward and backward at SIZE, relative to torch.nn's layer, and how they were measured."""
    cases = {case["cell"]: case for case in data["cases"] if case["kind"] == "cell" and at_size(case)}
    rows = [
        {f"time / {BASE}": row, **{TORCH[cell].__name__: str(ratio(case, row, BASE)) for cell, case in cases.items()}}
        for row in ROWS
    ]
    size, machine = data["sizes"][SIZE], data["machine"]
    caption = (
        f"Forward and backward, relative to {BASE} without normalisation (below 1 is faster): median [quartiles]. "
        f"{size['H']} units, {size['I']} inputs, batch {size['B']}, {size['T']} steps; {machine['cpu']}, "
        f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}, torch {machine['torch']}. {other_sizes(data)}"
    )
    return f"{pd.DataFrame(rows).to_markdown(index=False, tablefmt='github', disable_numparse=True)}\n\n{caption}"


def other_sizes(data: dict) -> str:
    """Return the first row's ratio for the LSTM at every other size: 256 units may be where it is best."""
    cases = [
        case for case in data["cases"] if case["kind"] == "cell" and case["cell"] == "lstm" and case["mode"] == BOTH
    ]
    units = {case["size"]: data["sizes"][case["size"]]["H"] for case in cases if case["size"] != SIZE}
    ratios = {case["size"]: ratio(case, ROWS[0], BASE) for case in cases}
    times = [f"{units[size]} units {ratios[size]}" for size in sorted(units, key=lambda size: units[size])]
    return f"LSTM, {ROWS[0]}, at other sizes: {', '.join(times)}."


def at_size(case: dict) -> bool:
    return case["size"] == SIZE and case["mode"] == BOTH
