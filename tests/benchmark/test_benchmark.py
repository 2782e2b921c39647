"""The benchmark: what it times is right, its ratios follow from the raw times, and the README has the same."""

import ctypes
import json
import os
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch
from omegaconf import OmegaConf

from experiments.benchmark import results, tables, uses
from experiments.benchmark.cases import AT_ONCE, BY_STEP, OURS, workers
from experiments.benchmark.command import Benchmark, check
from experiments.benchmark.peers import BASE, BOTH, CANDIDATES, FORWARD, LOOPS, NORMS, TORCH, Candidate, Problem, Size
from experiments.benchmark.results import FLOOR, label, milliseconds, ratio, times
from experiments.benchmark.timing import (
    GEMM,
    LEAST_ROUNDS,
    RARE,
    DisagreementError,
    Gemm,
    Timing,
    must_agree,
    work,
)
from experiments.config.errors import ConfigError
from models.recurrent.compiler import library
from tests.helpers.commands import ROOT, run

REFERENCE = ROOT / "results" / "reference" / "benchmark"
SIZE = Size(T=5, B=4, I=9, H=16)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
HERE = [row for row in CANDIDATES if not row.missing("cpu")]

# One round in which all took part, one without the rare "loop", a slow one: 8 FLOP in all, a product of 4 FLOP.
CASE = {
    "kind": "cell",
    **{"size": "256", "cell": "lstm", "mode": BOTH, "flop": 8, "gemm_flop": 4},
    "milliseconds": {BASE: [10.0, 20.0, 40.0], "ours": [10.0, 30.0, 80.0], "loop": [50.0, None, None], GEMM: [1, 2, 5]},
}


# --- what is timed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [FORWARD, BOTH])
@pytest.mark.parametrize("cell", TORCH)
def test_all_candidates_of_a_norm_give_the_same_outputs_and_gradients(cell, mode):
    rows, problem = [row for row in HERE if cell in row.cells], Problem(cell, SIZE, mode)
    passes = {row.name: row.build(problem) for row in rows}
    must_agree(rows, passes, cell)
    for row in rows:
        results = passes[row.name].results(passes[row.name]())
        expected = (
            {"y"} if mode == FORWARD else {"y", "d x", *(f"d {name}" for name in gradients_of(problem, row.norm))}
        )
        assert results.keys() == expected, row.name
        assert all(value.dtype == torch.float32 and value.norm() > 0 for value in results.values()), row.name


def gradients_of(problem: Problem, norm: str) -> list[str]:
    return [name for name, _ in problem.layer(norm, "reference").named_parameters()]


def test_every_norm_has_both_backends_and_ln_the_loop_in_every_cell():
    for cell in TORCH:
        names = {row.name for row in CANDIDATES if cell in row.cells}
        assert {f"ours {norm}, {backend}" for norm in NORMS for backend in ("fused", "reference")} < names
        assert {BASE, "per-step loop ln"} < names


@pytest.mark.parametrize("cell", TORCH)
@pytest.mark.parametrize("leaf", range(1, 6))
def test_a_candidate_that_computes_something_else_is_refused(cell, leaf):
    """Here one whose parameter is upside down. (A matrix of another scale would not do: LN does not see it.)"""

    def wrong(problem):
        made = next(row for row in CANDIDATES if row.name == "per-step loop ln").build(problem)
        leaves = [value for name, value in made.leaves.items() if name != "x"]
        function = LOOPS[cell]
        made.forward = lambda x: function(x, *leaves[: leaf - 1], leaves[leaf - 1].flip(0), *leaves[leaf:])
        return made

    problem = Problem(cell, SIZE, BOTH)
    rows = [next(row for row in CANDIDATES if row.name == "ours ln, reference"), Candidate("wrong", "ln", wrong)]
    with pytest.raises(DisagreementError, match=r"of wrong is .* off that of ours ln, reference"):
        must_agree(rows, {row.name: row.build(problem) for row in rows}, cell)


def test_a_candidate_without_a_gradient_is_refused():
    rows = [next(row for row in CANDIDATES if row.name == name) for name in ("ours ln, reference", "per-step loop ln")]
    problem = Problem("gru", SIZE, BOTH)
    passes = {row.name: row.build(problem) for row in rows}
    passes["per-step loop ln"].leaves.pop("bias_hh_l0")
    with pytest.raises(DisagreementError):
        must_agree(rows, passes, "gru")


# --- how it is timed --------------------------------------------------------------------------------------------------


def test_a_rare_candidate_runs_in_every_third_round_and_all_in_the_first():
    timing = Timing("cpu", 7, Gemm(8, "cpu"))
    ran = {"often": 0, "rare": 0}
    result = timing.rounds(
        {name: lambda name=name: ran.update({name: ran[name] + 1}) for name in ran}, ("rare",), seconds=60
    )
    often, rare = result["milliseconds"]["often"], result["milliseconds"]["rare"]
    assert len(often) == len(rare) == 7 and None not in often
    assert [value is not None for value in rare] == [index % RARE == 0 for index in range(7)]
    assert ran["often"] == 1 + 7 * result["calls"]["often"] and ran["rare"] == 1 + 3 * result["calls"]["rare"]


def test_without_time_there_are_the_least_rounds():
    result = Timing("cpu", 40, Gemm(8, "cpu")).rounds({"one": lambda: None}, (), seconds=0)
    assert len(result["milliseconds"]["one"]) == LEAST_ROUNDS


def test_work_is_that_of_the_products():
    size = Size(T=100, B=32, I=128, H=256)
    assert work(size, "lstm", BOTH) == 6 * 100 * 32 * 4 * 256 * (128 + 256)
    assert work(size, "gru", FORWARD) == 2 * 100 * 32 * 3 * 256 * (128 + 256)
    assert work(size, "rnn", BOTH) == 3 * work(size, "rnn", FORWARD)
    assert Gemm(8, "cpu").flop == 2 * 8 * 8 * 8


# --- what is reported -------------------------------------------------------------------------------------------------


def test_ratios_are_within_rounds_with_quartiles():
    r = ratio(CASE, "ours", BASE)  # 1, 1.5 and 2
    assert (r.low, r.median, r.high, r.n) == (1.25, 1.5, 1.75, 3)
    assert str(r) == "1.50 [1.25, 1.75]"
    assert milliseconds(CASE, "ours") == 30
    assert 30 / 20 == 1.5 != ratio({**CASE, "milliseconds": {"a": [1, 2, 9], "b": [2, 9, 1]}}, "a", "b").median


def test_a_candidate_that_sat_out_rounds_is_told_of_those_it_ran_in():
    r = ratio(CASE, "loop", BASE)
    assert (r.median, r.n, str(r)) == (5, 1, "5.00")


def test_the_floor_is_the_work_at_the_speed_of_the_product_in_that_round():
    assert times(CASE)[FLOOR] == [2, 4, 10] and GEMM not in times(CASE)
    assert ratio(CASE, "ours", FLOOR).median == 7.5  # of 5, 7.5 and 8


def test_all_else_is_what_the_products_leave():
    times_of = {BASE: [10.0, 20.0], OURS: [8.0, 16.0], AT_ONCE: [4.0, 8.0], BY_STEP: [1.0, 2.0], GEMM: [1.0, 2.0]}
    case = {**CASE, "kind": "parts", "milliseconds": times_of}
    summary_case = {"ours": 0.8, "at_once": 0.4, "by_step": 0.1, "products": 0.5, "rest": 0.3, "floor": 0.2}
    assert tables.parts(case) == pytest.approx(summary_case)
    assert "products of matrices take 0.50" in tables.summary(case)
    (line,) = tables.parts_table([case]).to_dict("records")
    assert line["all else"] == "0.30" and line[AT_ONCE] == "0.40"


def test_the_product_that_is_timed_by_itself_is_one():
    kernels, (M, K, N) = library(), (5, 7, 70)
    panel, columns = kernels.packed_columns(1, 4), kernels.packed_columns(N, 4)
    A, B, C = torch.randn(M, K), torch.randn(K, N), torch.empty(M, N)
    padded = torch.nn.functional.pad(B, (0, columns - N))
    packed = padded.view(K, columns // panel, panel).transpose(0, 1).contiguous()
    a, b, c = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (A, packed, C))
    kernels.product_float32(a, b, M, K, N, c)
    torch.testing.assert_close(C, A @ B)


@pytest.mark.parametrize("name", uses.USES)
def test_a_use_is_what_its_name_says(name):
    """At a size that takes no time."""
    use = uses.USES[name]
    use = replace(use, size=Size(T=min(use.size.T, 3), B=2, I=9, H=16))
    torch.manual_seed(0)
    calls = uses.passes(use)
    outputs = {candidate: call() for candidate, call in calls.items()}
    steps, directions = use.size.T, 2 if use.settings.get("bidirectional") else 1
    assert all(y.shape == (steps, 2, 16 * directions) and y.isfinite().all() for y in outputs.values())
    assert all(y.requires_grad == (use.mode == BOTH) for y in outputs.values())
    assert (uses.OURS_16 in outputs) == use.bfloat16
    if use.bfloat16:  # torch.nn's does not run on every CPU
        assert outputs[uses.OURS_16].dtype == outputs.get(uses.BASE_16, outputs[uses.OURS_16]).dtype == torch.bfloat16
    if use.by_step and use.mode == FORWARD:
        assert not torch.equal(calls[OURS](), outputs[OURS]), "the state of the call before goes into the next one"


def test_uses_are_told_beside_torch_nn_and_bfloat16_beside_float32():
    medians = {BASE: 10.0, uses.PLAIN: 8.0, OURS: 9.0, uses.BASE_16: 5.0, uses.OURS_16: 4.5}
    times_of = {name: [ms] * 3 for name, ms in medians.items()}
    case = {"kind": "use", "use": "small, 4 cases", "mode": BOTH, "milliseconds": times_of}
    assert (
        tables.summary(case).endswith("in bfloat16 / in float32 0.50 [0.50, 0.50]") and tables.of(case) == case["use"]
    )
    *_, last = tables.uses_table([case]).to_dict("records")
    assert last[f"/ {BASE}"] == "0.45 [0.45, 0.45]" and last[f"/ {OURS}"] == "0.50 [0.50, 0.50]"


def test_a_run_of_a_sweep_is_told_in_seconds():
    case = {"kind": "sweep", "runs": 10, "milliseconds": {"wandb offline": [100.0, 200.0, 400.0]}}
    assert "costs 0.20 [0.15, 0.30] s with wandb offline" in tables.summary(case)
    assert tables.of(case) == "10 runs"


def test_a_sweep_is_given_to_one_and_to_two_workers():
    cores = sorted(os.sched_getaffinity(0))
    case = workers(2, cores, len(cores), steps=1, rounds=1)
    assert all(len(values) == 1 and values[0] > 0 for values in case["milliseconds"].values())
    assert case["milliseconds"].keys() == {"1 worker", "2 workers"}
    summary_case = {"kind": "workers", "runs": 2, "milliseconds": {"1 worker": [400.0] * 3, "2 workers": [200.0] * 3}}
    assert tables.summary(summary_case).endswith("included: 2.00 [2.00, 2.00]") and tables.of(summary_case) == "2 runs"


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A quick benchmark's folder and what it printed."""
    output = tmp_path_factory.mktemp("benchmark")
    result = run("experiments.benchmark", "quick=true", "sizes=[16]", "device=cpu", f"output={output}")
    assert result.returncode == 0, result.stderr
    return output, result.stdout


def test_the_command_writes_times_tables_and_figure(smoke):
    output, stdout = smoke
    data = json.loads((output / "benchmark.json").read_text())
    cells = [case for case in data["cases"] if case["kind"] == "cell"]
    assert [(case["cell"], case["mode"]) for case in cells] == [
        (cell, mode) for cell in TORCH for mode in (FORWARD, BOTH)
    ]
    for case in cells:
        assert {row.name for row in HERE if case["cell"] in row.cells} | {GEMM} == set(case["milliseconds"])
        assert all(len(values) == LEAST_ROUNDS for values in case["milliseconds"].values())
        assert all(value > 0 for values in case["milliseconds"].values() for value in values if value is not None)
    assert "trainer" in [case["kind"] for case in data["cases"]]
    parts = [case for case in data["cases"] if case["kind"] == "parts"]
    assert [case["cell"] for case in parts] == list(TORCH)
    assert all(case["milliseconds"].keys() == {BASE, OURS, AT_ONCE, BY_STEP, GEMM} for case in parts)
    (sweep,) = [case for case in data["cases"] if case["kind"] == "sweep"]
    assert sweep["runs"] == 2 and sweep["milliseconds"].keys() == {"wandb disabled", "wandb offline"}
    assert all(len(values) == LEAST_ROUNDS and min(values) > 0 for values in sweep["milliseconds"].values())
    assert {"cpu", "flags", "cores", "threads", "torch", "blas", "compiler", "git", "dirty"} <= data["machine"].keys()
    assert stdout.strip().endswith(f"benchmark: {output / 'benchmark.md'}")

    (small,) = [case for case in data["cases"] if case["kind"] == "use"]
    assert small["milliseconds"].keys() == {BASE, uses.PLAIN, OURS}

    raw = (output / "benchmark.json").read_text()
    assert raw.count("\n") < 60 * len(data["cases"]), "a list of times stands on one line"
    table = (output / "benchmark.md").read_text()
    assert "## Where the time goes" in table
    for row in HERE:
        assert f"| {label(row.name, 'lstm')} " in table
    svg = (output / "benchmark.svg").read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    for row in HERE:
        assert label(row.name, "lstm") in svg, f"{row.name} has no label in the figure"


def test_raw_times_alone_give_the_same_files(smoke, cli, tmp_path):
    output, _ = smoke
    result = cli("benchmark", f"rows={output}", f"output={tmp_path}", runs=False)
    assert result.returncode == 0, result.stderr
    for name in ("benchmark.json", "benchmark.md", "benchmark.svg"):
        assert (tmp_path / name).read_text() == (output / name).read_text(), name


def test_times_of_another_size_do_not_get_into_the_readme(smoke, cli, tmp_path):
    output, _ = smoke
    result = cli("benchmark", f"rows={output}", f"output={tmp_path / 'out'}", "readme=true", runs=False)
    assert result.returncode == 2 and "readme=true needs the times of size 256" in result.stderr, result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("theirs", ["benchmark.md", "benchmark.svg"])
def test_a_file_of_others_stays_and_the_benchmark_is_refused_before_it_begins(theirs, cli, tmp_path):
    (tmp_path / theirs).write_text("mine")
    result = cli("benchmark", f"output={tmp_path}", runs=False)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert f"holds {theirs}, which this command did not write" in result.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": ["a"]}, "sizes=a is unknown; allowed: 16, 128, 256, 512, 650; nearest: "),
        ({"every_norm_at": ["e"]}, "every_norm_at=e is unknown"),
        ({"cells": ["lsmt"]}, "cells=lsmt is unknown; allowed: lstm, gru, rnn; nearest: lstm"),
        ({"norms": ["lm"]}, "norms=lm is unknown; allowed: none, ln, gn, rms, bn, wn; nearest: ln"),
        ({"cells": []}, "cells=[] leaves nothing to time; choose from lstm, gru, rnn"),
        ({"parts": ["e"]}, "parts=e is unknown"),
        ({"uses": ["large"]}, "uses=large is unknown"),
        ({"scaling": "big"}, "scaling=big is unknown"),
        ({"trainer": "big"}, "trainer=big is unknown"),
        ({"sweep": 0}, "sweep=0 has no run; give 1 or more, or sweep=null"),
        ({"workers": -1}, "workers=-1 has no run; give 1 or more, or workers=null"),
        ({"threads": 1000}, "threads=1000 is not among the"),
        ({"max_rounds": 0}, "max_rounds=0 leave no time"),
    ],
)
def test_what_does_not_exist_is_refused(given, message):
    with pytest.raises(ConfigError) as refused:
        check(OmegaConf.structured(Benchmark(**given, device="cpu")))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [("minute=3", "minute is unknown; nearest: minutes"), ("rows=nowhere", "rows=nowhere has no benchmark.json")],
)
def test_a_mistake_is_reported_in_one_line(argument, message, cli):
    result = cli("benchmark", argument, runs=False)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert message in result.stderr


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REFERENCE.exists(), reason="no reference benchmark is committed yet")
def test_the_reference_tables_are_those_of_the_committed_times():
    data = results.read(REFERENCE)
    assert (REFERENCE / "benchmark.md").read_text() == tables.markdown(data)
    assert not data["machine"]["dirty"], "the reference is of a clean commit"
