"""The tables of a benchmark, as Markdown: benchmark.md, and the summary that is printed."""

import numpy as np
import pandas as pd

from experiments.benchmark.cases import AT_ONCE, BY_STEP, OURS
from experiments.benchmark.peers import BASE, BOTH, FORWARD, TORCH
from experiments.benchmark.results import FLOOR, cases_of, cells_of, label, milliseconds, ratio, spread, times
from experiments.benchmark.timing import GEMM
from experiments.benchmark.uses import OURS_16

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


# --- one case in words -----------------------------------------------------------------------------------------------


def in_words(case: dict) -> str:
    """Return a finished case in one line, for the progress."""
    count = len(next(iter(case["milliseconds"].values())))
    return f"{count} rounds; {summary(case)}"


def summary(case: dict) -> str:
    """Return the result of a case in a sentence without its end."""
    if case["kind"] == "trainer":
        return f"training loop / bare loop {ratio(case, 'fit', 'bare')}"
    if case["kind"] == "threads":
        ratios = [f"{name} {ratio(case, f'{name}, 1', f'{name}, 2')}" for name in (OURS, BASE)]
        return f"one thread / two threads: {', '.join(ratios)}"
    if case["kind"] == "parts":
        p = parts(case)
        return (
            f"products of matrices take {p['products']:.2f} of {BASE}'s time as they are, {p['floor']:.2f} at the "
            f"speed of a large one; all else takes {p['rest']:.2f} of our {p['ours']:.2f}"
        )
    if case["kind"] == "workers":
        return f"one worker / two workers, start of the processes included: {ratio(case, '1 worker', '2 workers')}"
    if case["kind"] == "sweep":
        seconds = [
            f"{spread([ms / 1e3 for ms in case['milliseconds'][name]])} s with {name}" for name in case["milliseconds"]
        ]
        return f"a run after the first of a process costs {', '.join(seconds)}, one step and small evaluations included"
    if case["kind"] == "use":
        text = f"{OURS} / {BASE} {ratio(case, OURS, BASE)}"
        return text + (f", in bfloat16 / in float32 {ratio(case, OURS_16, OURS)}" if OURS_16 in times(case) else "")
    shown = next((name for name in SHOWN["lstm"] if name in case["milliseconds"]), FLOOR)
    return f"{shown} / {BASE} {ratio(case, shown, BASE)}"


def parts(case: dict) -> dict[str, float]:
    """Return medians relative to torch.nn of the same round: our layer, its products, both kinds, floor, all else."""
    base, ours, at_once, by_step, floor = (
        np.array(times(case)[name]) for name in (BASE, OURS, AT_ONCE, BY_STEP, FLOOR)
    )
    by_name = {"ours": ours, "at_once": at_once, "by_step": by_step, "products": at_once + by_step, "floor": floor}
    by_name["rest"] = ours - by_name["products"]
    return {name: float(np.median(ms / base)) for name, ms in by_name.items()}


def parts_table(cases: list[dict]) -> pd.DataFrame:
    lines = []
    for case in cases:
        p = parts(case)
        line = {"size": case["size"], "cell": TORCH[case["cell"]].__name__, OURS: p["ours"]}
        line |= {AT_ONCE: p["at_once"], BY_STEP: p["by_step"], "all else": p["rest"], FLOOR: p["floor"]}
        lines.append({name: f"{value:.2f}" if type(value) is float else value for name, value in line.items()})
    return pd.DataFrame(lines)


def cell_table(data: dict, cell: str) -> pd.DataFrame:
    """Return a row for each size and candidate; the floor is a candidate of matrix products alone."""
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


def gflops(data: dict) -> float:
    """Return the speed of the machine's fastest product of matrices, over all rounds."""
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


TITLES = {
    "threads": "Two threads",
    "trainer": "The training loop",
    "sweep": "A run of a sweep",
    "workers": "A sweep by two workers",
}


def markdown(data: dict) -> str:
    """Return benchmark.md: a table for each cell type, where the time goes, and the other cases."""
    sections = [
        "# Speed of the recurrent layers",
        f"{machine_line(data)}. Made by `{data['command']}`.",
        sizes_line(data),
        f"One layer, float32. {FORWARD}: evaluation, no gradients. {BOTH}: gradients of input and all parameters. A "
        f"ratio is to {BASE} of the same round; shown are the median over rounds and [lower, upper quartile]. The "
        "floor is the time that the matrix products alone take at the speed of a large one, measured in every round. "
        f"Slow candidates take part in every third round; the rounds are those of {FORWARD} and {BOTH}.",
    ]
    for cell in cells_of(data):
        sections += [f"## {TORCH[cell].__name__}", table(cell_table(data, cell))]
    if cases := [case for case in data["cases"] if case["kind"] == "parts"]:
        sections += parts_section(cases)
    if cases := [case for case in data["cases"] if case["kind"] == "use"]:
        sections += ["## Other uses of an LSTM", USES_EXPLAINED, table(uses_table(cases))]
    for case in data["cases"]:
        if case["kind"] in TITLES:
            sections += [f"## {TITLES[case['kind']]}", f"{in_words(case)}.", table(times_table(case))]
    if data["absent"]:
        absent = dict.fromkeys(f"- {name}: {reason}" for name, reason in data["absent"].items())
        sections += ["## Not timed here", "\n".join(absent)]
    return "\n\n".join(sections) + "\n"


def table(frame: pd.DataFrame) -> str:
    return frame.to_markdown(index=False, tablefmt="github", disable_numparse=True)


def parts_section(cases: list[dict]) -> list[str]:
    explanation = (
        f"Forward and backward of our LN layers, and of the matrix products alone that they make, all relative to "
        f"{BASE} in the same round. {AT_ONCE.capitalize()}: x W_ih' and the gradients of x and of both matrices. "
        f"{BY_STEP.capitalize()}: h W_hh' and its gradient, which wait for the step before. All else: "
        "normalisation, gates, memory, Python; the products are timed by themselves, so it is right to a few "
        "hundredths. The floor: all products at the speed of a large one."
    )
    sentences = [f"- {TORCH[case['cell']].__name__}, size {case['size']}: {summary(case)}." for case in cases]
    return ["## Where the time goes", explanation, table(parts_table(cases)), "\n".join(sentences)]


USES_EXPLAINED = (
    f"With gradients, {BOTH} are timed; bfloat16 is under torch.autocast. A step by step pass calls the layer once for "
    "each step, with the state of the call before; the reference is then the plain loop of PyTorch operations."
)


def uses_table(cases: list[dict]) -> pd.DataFrame:
    """Return a row for each use and candidate, and what bfloat16 saves."""
    lines = []
    for case in cases:
        for name in times(case):
            line = {"use": case["use"], "candidate": label(name, "lstm"), "ms": f"{milliseconds(case, name):.3g}"}
            line |= {f"/ {BASE}": ratio(case, name, BASE)}
            lines.append(line | {f"/ {OURS}": ratio(case, name, OURS) if name == OURS_16 else ""})
    return pd.DataFrame(lines).astype(str)


def times_table(case: dict) -> pd.DataFrame:
    """Return the median times of a case other than layers: by step of training, run or sweep."""
    unit = {"sweep": "run", "workers": "sweep"}.get(case["kind"], "step")
    steps = case.get("steps", 1)
    columns = {"size": case["size"]} if "size" in case else {}
    columns["what"] = list(case["milliseconds"])
    columns[f"ms a {unit}"] = [f"{milliseconds(case, name) / steps:.3g}" for name in case["milliseconds"]]
    return pd.DataFrame(columns)


def short_report(data: dict) -> str:
    """Return forward and backward of the candidates of SHOWN, by size, and a sentence for each other case."""
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
    rest = [
        f"{case['kind'].capitalize()} ({of(case)}): {summary(case)}."
        for case in data["cases"]
        if case["kind"] not in ("cell", "parts")
    ]
    heading = (
        f"Time of forward and backward relative to {BASE}'s layer without normalisation (1.00; below is faster), "
        f"median [quartiles] over interleaved rounds. {machine_line(data)}. {sizes_line(data)}"
    )
    return "\n\n".join([heading, table(pd.DataFrame(lines).fillna("-")), *rest])


def of(case: dict) -> str:
    return case["use"] if "use" in case else f"size {case['size']}" if "size" in case else f"{case['runs']} runs"
