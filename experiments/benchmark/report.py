"""From the raw times of a benchmark to ratios, tables and the figure."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from experiments.benchmark.peers import BASE, BOTH, CANDIDATES, FORWARD, TORCH, Candidate
from experiments.benchmark.timing import AT_ONCE, BY_STEP, GEMM, OURS
from experiments.config.errors import ConfigError
from experiments.report.style import FIGURE, OTHER, STYLE
from experiments.runs.folder import write_atomically

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

plt.rcParams.update(FIGURE)

FLOOR = "floor"
INK = "#444444"
# The rows that are printed, of forward and backward; all others stand in benchmark.md.
SHOWN = {
    "lstm": (
        "ours ln, fused",
        "ours none, fused",
        "ours ln, reference",
        "TorchScript ln",
        "JAX scan ln",
        "per-step loop ln",
    ),
    "gru": ("ours ln, fused", "per-step loop ln"),
    "rnn": ("ours ln, fused", "per-step loop ln"),
}


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over `n` rounds."""

    median: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n < 3:  # no quartiles to speak of
            return f"{self.median:.2f}"
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def spread(values) -> Spread:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return Spread(float(median), float(low), float(high), len(values))


def times(case: dict) -> dict[str, list[float | None]]:
    """Milliseconds by candidate and round, and with them the floor: the case's products at the speed of GEMM then."""
    measured = dict(case["milliseconds"])
    if GEMM in measured:
        measured[FLOOR] = [case["flop"] * ms / case["gemm_flop"] for ms in measured.pop(GEMM)]
    return measured


def ratio(case: dict, a: str, b: str) -> Spread:
    """a's time divided by b's, over the rounds that both took part in."""
    both = zip(times(case)[a], times(case)[b], strict=True)
    return spread([x / y for x, y in both if x is not None and y is not None])


def milliseconds(case: dict, name: str) -> float:
    return spread([ms for ms in times(case)[name] if ms is not None]).median


# --- files -----------------------------------------------------------------------------------------------------------


def read(folder: Path) -> dict:
    path = folder / "benchmark.json"
    try:
        data = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"rows={folder} has no benchmark.json; name a folder that a benchmark wrote") from None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); restore it, or name another folder") from None
    if not (isinstance(data, dict) and {"machine", "sizes", "absent", "cases"} <= data.keys()):
        raise ConfigError(f"{path} is not what a benchmark wrote; name another folder")
    return data


def write(data: dict, folder: Path) -> None:
    """benchmark.json, benchmark.md and benchmark.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1)
    numbers = r"\[(?:null|[-+\deE.,\s])*\]"  # a list of times goes on one line
    text = re.sub(numbers, lambda flat: json.dumps(json.loads(flat[0])), text)
    write_atomically(folder / "benchmark.json", lambda file: file.write(f"{text}\n".encode()))
    (folder / "benchmark.md").write_text(markdown(data))
    draw(data, folder / "benchmark.svg")


# --- tables ----------------------------------------------------------------------------------------------------------


def in_words(case: dict) -> str:
    """A finished case in one line, for the progress."""
    count = len(next(iter(case["milliseconds"].values())))
    return f"{count} rounds; {summary(case)}"


def summary(case: dict) -> str:
    if case["kind"] == "trainer":
        return f"training loop / bare loop {ratio(case, 'fit', 'bare')}"
    if case["kind"] == "threads":
        told = [f"{name} {ratio(case, f'{name}, 1', f'{name}, 2')}" for name in ("ours ln, fused", BASE)]
        return f"one thread / two threads: {', '.join(told)}"
    if case["kind"] == "parts":
        p = parts(case)
        return (
            f"products of matrices take {p['products']:.2f} of {BASE}'s time as they are, {p['floor']:.2f} at the "
            f"speed of a large one; all else takes {p['rest']:.2f} of our {p['ours']:.2f}"
        )
    if case["kind"] == "workers":
        return f"one worker / two workers, start of the processes included: {ratio(case, '1 worker', '2 workers')}"
    if case["kind"] == "sweep":
        told = [
            f"{spread([ms / 1e3 for ms in case['milliseconds'][name]])} s with {name}" for name in case["milliseconds"]
        ]
        return f"a run after the first of a process costs {', '.join(told)}, one step and small evaluations included"
    shown = next((name for name in SHOWN["lstm"] if name in case["milliseconds"]), FLOOR)
    return f"{shown} / {BASE} {ratio(case, shown, BASE)}"


def parts(case: dict) -> dict[str, float]:
    """Medians, relative to torch.nn of the same round: our layer, its products, both kinds, the floor, all else."""
    base, ours, at_once, by_step, floor = (
        np.array(times(case)[name]) for name in (BASE, OURS, AT_ONCE, BY_STEP, FLOOR)
    )
    told = {"ours": ours, "at_once": at_once, "by_step": by_step, "products": at_once + by_step, "floor": floor}
    told["rest"] = ours - told["products"]
    return {name: float(np.median(ms / base)) for name, ms in told.items()}


def parts_table(cases: list[dict]) -> pd.DataFrame:
    lines = []
    for case in cases:
        p = parts(case)
        line = {"size": case["size"], "cell": TORCH[case["cell"]].__name__, OURS: p["ours"]}
        line |= {AT_ONCE: p["at_once"], BY_STEP: p["by_step"], "all else": p["rest"], FLOOR: p["floor"]}
        lines.append({name: f"{value:.2f}" if type(value) is float else value for name, value in line.items()})
    return pd.DataFrame(lines)


def cell_table(data: dict, cell: str) -> pd.DataFrame:
    """A row for each size and candidate; the floor is a candidate that does the matrix products and nothing else."""
    lines = []
    for size in data["sizes"]:
        cases = {case["mode"]: case for case in cases_of(data, cell, size)}
        for name in times(cases[BOTH]) if cases else ():
            line = {"size": size, "candidate": label(name, cell)}
            for mode, case in cases.items():
                line |= {f"{mode}, ms": f"{milliseconds(case, name):.3g}", f"{mode} / {BASE}": ratio(case, name, BASE)}
            line["/ floor"] = f"{ratio(cases[BOTH], name, FLOOR).median:.2f}"
            line["rounds"] = ", ".join(str(ratio(cases[mode], name, BASE).n) for mode in (FORWARD, BOTH))
            lines.append(line)
    return pd.DataFrame(lines)


def cases_of(data: dict, cell: str, size: str) -> list[dict]:
    return [c for c in data["cases"] if c["kind"] == "cell" and c["cell"] == cell and c["size"] == size]


def cells_of(data: dict) -> list[str]:
    return list(dict.fromkeys(case["cell"] for case in data["cases"] if case["kind"] == "cell"))


def label(name: str, cell: str) -> str:
    return f"{name}.{TORCH[cell].__name__}, no norm" if name == BASE else name


def gflops(data: dict) -> float:
    """The machine's fastest product of matrices, over all rounds."""
    cases = [case for case in data["cases"] if case["kind"] == "cell"]
    return max(case["gemm_flop"] / min(case["milliseconds"][GEMM]) for case in cases) / 1e6


def machine_line(data: dict) -> str:
    m = data["machine"]
    threads = "one thread" if m["threads"] == 1 else f"{m['threads']} threads"
    commit = m["git"][:7] + (" with uncommitted changes" if m["dirty"] else "")
    cores = f"{m['cores']} core{'s' * (m['cores'] > 1)}"
    where = f"{m['gpu']}, " if m["gpu"] else ""
    return (
        f"{where}{m['cpu']} ({', '.join(m['flags'])}), {cores}, {threads}, {gflops(data):.0f} GFLOP/s in float32 "
        f"products; torch {m['torch']} ({m['blas']}), {m['compiler'] or 'no compiler'}; commit {commit}"
    )


def sizes_line(data: dict) -> str:
    sizes = [f"{name} {', '.join(map(str, size.values()))}" for name, size in data["sizes"].items()]
    return f"Sizes (steps, batch, inputs, units): {'; '.join(sizes)}."


def markdown(data: dict) -> str:
    def table(frame: pd.DataFrame) -> str:
        return frame.to_markdown(index=False, tablefmt="github", disable_numparse=True)

    sections = [
        "# Speed of the recurrent layers",
        f"{machine_line(data)}. Made by `{data['command']}`.",
        sizes_line(data),
        f"One layer, float32. {FORWARD}: evaluation, no gradients. {BOTH}: gradients of input and all parameters. A "
        f"ratio is to {BASE} of the same round; told are the median over rounds and [lower, upper quartile]. The floor "
        "is the time that the matrix products alone take at the speed of a large one, measured in every round. Slow "
        f"candidates take part in every third round; rounds are told for {FORWARD} and {BOTH}.",
    ]
    for cell in cells_of(data):
        sections += [f"## {TORCH[cell].__name__}", table(cell_table(data, cell))]
    if cases := [case for case in data["cases"] if case["kind"] == "parts"]:
        told = (
            f"Forward and backward of our LN layers, and of the matrix products alone that they make, all relative to "
            f"{BASE} in the same round. {AT_ONCE.capitalize()}: x W_ih' and the gradients of x and of both matrices. "
            f"{BY_STEP.capitalize()}: h W_hh' and its gradient, which wait for the step before. All else: "
            "normalisation, gates, memory, Python; the products are timed by themselves, so it is right to a few "
            "hundredths. The floor: all products at the speed of a large one."
        )
        sentences = [f"- {TORCH[case['cell']].__name__}, size {case['size']}: {summary(case)}." for case in cases]
        sections += ["## Where the time goes", told, table(parts_table(cases)), "\n".join(sentences)]
    titles = {"threads": "Two threads", "trainer": "The training loop", "sweep": "A run of a sweep"}
    titles["workers"] = "A sweep by two workers"
    for case in (case for case in data["cases"] if case["kind"] in titles):
        per, unit = case.get("steps", 1), {"sweep": "run", "workers": "sweep"}.get(case["kind"], "step")
        columns = {"size": case["size"]} if "size" in case else {}
        columns["what"] = list(case["milliseconds"])
        columns[f"ms a {unit}"] = [f"{milliseconds(case, name) / per:.3g}" for name in case["milliseconds"]]
        sections += [f"## {titles[case['kind']]}", f"{in_words(case)}.", table(pd.DataFrame(columns))]
    if data["absent"]:
        absent = dict.fromkeys(f"- {name}: {why}" for name, why in data["absent"].items())
        sections += ["## Not timed here", "\n".join(absent)]
    return "\n\n".join(sections) + "\n"


def readme_block(data: dict) -> str:
    """Forward and backward of the candidates of SHOWN, by size, and what else was measured in a sentence each."""
    lines = []
    for cell in cells_of(data):
        for name in SHOWN[cell]:
            line = {"cell": TORCH[cell].__name__, "candidate": name}
            for size in data["sizes"]:
                cases = [case for case in cases_of(data, cell, size) if case["mode"] == BOTH]
                if cases and name in cases[0]["milliseconds"]:
                    line[f"size {size}"] = str(ratio(cases[0], name, BASE))
            if len(line) > 2:
                lines.append(line)
    table = pd.DataFrame(lines).fillna("-").to_markdown(index=False, tablefmt="github", disable_numparse=True)
    rest = [
        f"{case['kind'].capitalize()} ({of(case)}): {summary(case)}."
        for case in data["cases"]
        if case["kind"] not in ("cell", "parts")
    ]
    told = (
        f"Time of forward and backward relative to {BASE}'s layer without normalisation (1.00; below is faster), "
        f"median [quartiles] over interleaved rounds. {machine_line(data)}. {sizes_line(data)}"
    )
    return "\n\n".join([told, table, *rest])


def of(case: dict) -> str:
    return f"size {case['size']}" if "size" in case else f"{case['runs']} runs"


# --- the figure ------------------------------------------------------------------------------------------------------


def draw(data: dict, path: Path) -> Path:
    """A row a cell, a column a size: every candidate's time relative to torch.nn, and the floor."""
    cells = cells_of(data)
    sizes = [size for size in data["sizes"] if cases_of(data, cells[0], size)]
    rows = {}
    for cell in cells:
        present = {name for size in sizes for case in cases_of(data, cell, size) for name in case["milliseconds"]}
        rows[cell] = [row for row in CANDIDATES if row.name in present]
    heights = [len(rows[cell]) for cell in cells]
    figure, axes = plt.subplots(
        len(cells),
        len(sizes),
        figsize=(2.9 * len(sizes) + 1.6, 0.19 * sum(heights) + len(cells)),
        squeeze=False,
        sharex="row",
        sharey="row",
        height_ratios=heights,
    )
    for row, cell in zip(axes, cells, strict=True):
        for axis, size in zip(row, sizes, strict=True):
            panel(axis, {case["mode"]: case for case in cases_of(data, cell, size)}, rows[cell])
            shape = ", ".join(map(str, data["sizes"][size].values()))
            axis.set_title(f"{TORCH[cell].__name__}, size {size}: {shape}", fontsize=9)
        row[0].set_yticks(range(len(rows[cell])), [label(row.name, cell) for row in rows[cell]], fontsize=8)
        row[0].invert_yaxis()
    for axis in axes[-1]:
        axis.set_xlabel(f"time / {BASE}")
    key: dict[str, Any] = {"color": INK, "linestyle": "none", "marker": "o", "markersize": 5}
    handles = [
        Line2D([], [], **key, label="forward and backward, median (number on the right) and quartiles"),
        Line2D([], [], **key, markerfacecolor="white", label="forward alone"),
        Line2D([], [], color=INK, linestyle="--", label="floor of forward and backward"),
        Line2D([], [], color=INK, linestyle=":", label="floor of forward"),
    ]
    figure.legend(handles=handles, loc="upper center", ncols=min(4, len(sizes)), bbox_to_anchor=(0.5, 0.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return path


def panel(axis, cases: dict[str, dict], rows: list[Candidate]) -> None:
    for mode, line, fill in ((FORWARD, ":", "white"), (BOTH, "--", None)):
        case = cases[mode]
        axis.axvline(ratio(case, FLOOR, BASE).median, color=INK, linestyle=line, linewidth=1)
        for y, row in enumerate(rows):
            if row.name not in case["milliseconds"]:
                continue
            r, (colour, marker) = ratio(case, row.name, BASE), STYLE.get(row.norm, OTHER)
            whiskers = [[r.median - r.low], [r.high - r.median]] if mode == BOTH else None
            axis.errorbar(r.median, y, xerr=whiskers, color=colour, marker=marker, markersize=5, markerfacecolor=fill)
            if mode == BOTH:
                axis.annotate(f"{r.median:.2f}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
