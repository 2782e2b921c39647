"""The fused sequence for GPUs against spec.py's equations in a plain loop.

On a machine with a GPU the kernel runs there, otherwise in Triton's interpreter on CPU tensors. The pool of recorded
sequences is tested with the loop itself in place of a recording of it.
"""

import dataclasses
import functools
import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read by triton's import
triton = pytest.importorskip("triton")

from models.recurrent import cuda  # noqa: E402
from models.recurrent.spec import GATES, Inputs, Spec, Statistics  # noqa: E402

# Masked lanes and untaken branches divide by zero, which numpy remarks on.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

EPS = 1e-2  # large, so that its place in the equations shows
CLOSE = {"rtol": 1e-9, "atol": 1e-10}
ROLES = ("ih", "hh", "cell")
LEAVES = [field.name for field in dataclasses.fields(Inputs) if field.name != "frozen"]


# --- the equations, slowly -------------------------------------------------------------------------------------------


def reference(spec: Spec, i: Inputs):
    """What `sequence` has to return, by spec.py's equations, differentiable."""
    batch: dict[str, list] = {"ih": [], "hh": [], "cell": []}

    def n(role: str, gain, z, s: int):
        norm = spec.norm(role)
        if norm is None:
            return z
        if norm.over == "case":
            parts = []
            for part in z.split(norm.spans, 1):
                mu = part.mean(1, keepdim=True) if norm.centred else 0
                parts.append((part - mu) / (((part - mu) ** 2).mean(1, keepdim=True) + norm.eps).sqrt())
            return gain * torch.cat(parts, 1)
        if norm.over == "batch":
            mu = z.mean(0)
            var = ((z - mu) ** 2).mean(0)
            batch[role].append((mu.detach(), var.detach()))
            return gain * (z - mu) / (var + norm.eps).sqrt()
        mean, inverse = i.frozen[role]
        return gain * (z - mean[s]) * inverse[s]

    def plus(z, shift):
        return z if shift is None else z + shift

    h, c, outputs = i.h0, i.c0, {}
    times = range(len(i.x))
    for s, t in enumerate(reversed(times) if spec.reverse else times):
        A, R = i.x[t] @ i.W_ih.T, h @ i.W_hh.T
        if spec.cell == "gru":
            u, v = plus(n("ih", i.g_ih, A, s), i.b_ih), plus(n("hh", i.g_hh, R, s), i.b_hh)
            u_r, u_z, u_n = u.chunk(3, 1)
            v_r, v_z, v_n = v.chunk(3, 1)
            r, z = torch.sigmoid(u_r + v_r), torch.sigmoid(u_z + v_z)
            h = (1 - z) * torch.tanh(u_n + r * v_n) + z * h
        else:
            if spec.joined:
                z = plus(n("ih", i.g_ih, A + R, s), i.b_ih)
            else:
                z = plus(n("ih", i.g_ih, A, s), i.b_ih) + n("hh", i.g_hh, R, s)
            if spec.cell == "rnn":
                h = torch.tanh(z)
            else:
                input_gate, forget, g, output = z.chunk(4, 1)
                c = torch.sigmoid(forget) * c + torch.sigmoid(input_gate) * torch.tanh(g)
                h = torch.sigmoid(output) * torch.tanh(plus(n("cell", i.g_cell, c, s), i.b_cell))
        outputs[t] = h
    y = torch.stack([outputs[t] for t in times])
    return y, h, c, {role: tuple(map(torch.stack, zip(*rows, strict=True))) for role, rows in batch.items() if rows}


# --- cases -----------------------------------------------------------------------------------------------------------


def uneven(features: int) -> tuple[int, ...]:
    """Spans that end inside gates, one of them of a single feature."""
    return (1, features // 3, features - 1 - features // 3)


KINDS = {
    "none": lambda gates, H: None,
    "one_span": lambda gates, H: Statistics("case", EPS, (gates * H,)),
    "gates": lambda gates, H: Statistics("case", EPS, (H,) * gates),
    "uneven": lambda gates, H: Statistics("case", EPS, uneven(gates * H)),
    "uncentred": lambda gates, H: Statistics("case", EPS, (gates * H,), centred=False),
    "uneven_uncentred": lambda gates, H: Statistics("case", EPS, uneven(gates * H), centred=False),
    "batch": lambda gates, H: Statistics("batch", EPS),
    "frozen": lambda gates, H: Statistics("frozen"),
}


def make_spec(cell: str, kind: str, joined: bool = False, reverse: bool = False, H: int = 5, roles=ROLES) -> Spec:
    """The spec that has a normaliser of this kind in these roles, as far as the cell has them."""
    has = set(roles) - (set() if cell == "lstm" else {"cell"}) - ({"hh"} if joined else set())
    norms = {f"norm_{role}": KINDS[kind](1 if role == "cell" else GATES[cell], H) for role in has}
    return Spec(cell, joined, **norms, reverse=reverse)


def make_inputs(spec: Spec, T: int = 4, N: int = 3, H: int = 5, I: int = 4, dtype=torch.float64, without=()) -> Inputs:  # noqa: E741
    """Random tensors of every kind that the spec can use, less those named; all but `frozen` require gradients."""
    generator = torch.Generator().manual_seed(1)

    def noise(*shape, mean=0.0):
        values = 0.8 * torch.randn(shape, generator=generator, dtype=torch.float64) + mean
        return values.to(DEVICE, dtype).requires_grad_()

    F, lstm = GATES[spec.cell] * H, spec.cell == "lstm"
    inputs = Inputs(noise(T, N, I), noise(F, I), noise(F, H), noise(N, H))
    inputs.c0 = noise(N, H) if lstm else None
    inputs.b_ih = noise(F)
    inputs.b_hh = noise(F) if spec.cell == "gru" else None
    inputs.b_cell = noise(H) if lstm else None
    for role, width in (("ih", F), ("hh", F), ("cell", H)):
        if (norm := spec.norm(role)) is not None:
            setattr(inputs, f"g_{role}", noise(width, mean=1.0))
            if norm.over == "frozen":
                inputs.frozen[role] = noise(T, width).detach(), noise(T, width, mean=1.0).detach().abs() + 0.1
    for name in without:
        setattr(inputs, name, None)
    return inputs


def leaves(inputs: Inputs) -> dict[str, torch.Tensor]:
    return {name: value for name in LEAVES if (value := getattr(inputs, name)) is not None}


def loss(y, h_n, c_n) -> torch.Tensor:
    """A random linear function of all outputs."""
    generator = torch.Generator().manual_seed(2)
    total = 0
    for out in (y, h_n, c_n):
        if out is not None:
            total = total + (out * torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)).sum()
    return total


def gradients(outputs, inputs: Inputs, **options) -> dict[str, torch.Tensor]:
    given = leaves(inputs)
    found = torch.autograd.grad(loss(*outputs[:3]), list(given.values()), **options)
    return dict(zip(given, found, strict=True))


def assert_same(found, expected, **tolerance):
    """Outputs, batch statistics or gradients by name."""
    tolerance = tolerance or CLOSE
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = found.values(), expected.values()
    for a, b in zip(found, expected, strict=True):
        if isinstance(b, dict | tuple):
            assert_same(a, b, **tolerance)
        elif b is None:
            assert a is None
        else:
            torch.testing.assert_close(a, b.to(a.dtype), **tolerance)


def check(spec: Spec, inputs: Inputs, **tolerance):
    found, expected = cuda.sequence(spec, inputs), reference(spec, inputs)
    assert_same(found, expected, **tolerance)
    assert_same(gradients(found, inputs), gradients(expected, inputs), **tolerance)


# --- values and gradients --------------------------------------------------------------------------------------------

GRID = [
    (cell, kind, joined, reverse)
    for (cell, kind, joined), reverse in zip(
        itertools.product(GATES, KINDS, (False, True)), itertools.cycle((False, False, True, True)), strict=False
    )
    if not (cell == "gru" and joined)
]


@pytest.mark.parametrize(("cell", "kind", "joined", "reverse"), GRID)
def test_values_and_gradients_are_those_of_the_equations(cell, kind, joined, reverse):
    spec = make_spec(cell, kind, joined, reverse)
    check(spec, make_inputs(spec, T=2))


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("roles", [("ih",), ("hh",), ("cell",)])
def test_each_role_may_stand_alone(cell, roles):
    if roles == ("cell",):
        cell = "lstm"
    spec = make_spec(cell, "one_span", roles=roles)
    check(spec, make_inputs(spec, T=2))


@pytest.mark.parametrize(
    ("cell", "kind", "T", "N", "H"),
    [
        ("lstm", "one_span", 1, 1, 1),
        ("gru", "uneven", 1, 3, 7),
        ("gru", "one_span", 4, 1, 7),
        ("lstm", "one_span", 2, 3, 33),  # two blocks of cases
        ("gru", "frozen", 2, 3, 33),
        ("rnn", "batch", 2, 17, 33),  # several blocks of units
        ("lstm", "batch", 1, 3, 7),
    ],
)
def test_sizes_beside_the_tiles(cell, kind, T, N, H):
    spec = make_spec(cell, kind, H=H)
    plan = cuda.Plan(spec, T, N, H, torch.float64, torch.device(DEVICE), True)
    assert (plan.grid != (1, 1)) == (H == 33)
    check(spec, make_inputs(spec, T=T, N=N, H=H))


@pytest.mark.parametrize("cell", GATES)
def test_shifts_and_gains_may_be_missing(cell):
    spec = make_spec(cell, "one_span")
    inputs = make_inputs(spec, T=2, without=("b_ih", "b_hh", "b_cell"))
    check(spec, inputs)
    without_gains = dataclasses.replace(inputs, g_ih=None, g_hh=None, g_cell=None)
    ones = dataclasses.replace(
        inputs,
        **{name: torch.ones_like(g) for name in ("g_ih", "g_hh", "g_cell") if (g := getattr(inputs, name)) is not None},
    )
    assert_same(cuda.sequence(spec, without_gains), reference(spec, ones))


def test_a_plain_cell_may_have_a_shift():
    spec = Spec("lstm", joined=True, norm_ih=KINDS["one_span"](4, 5))
    check(spec, make_inputs(spec, T=2))


@pytest.mark.parametrize("kind", ["uneven", "batch"])
def test_epsilon_may_be_zero(kind):
    """Tiles have padding, whose variance is 0."""
    spec = make_spec("lstm", kind)
    norms = {f"norm_{role}": dataclasses.replace(spec.norm(role), eps=0.0) for role in ROLES}
    if kind == "uneven":  # the variance of a single value is 0 too: 0/0
        norms = {name: dataclasses.replace(norm, spans=(sum(norm.spans) - 3, 3)) for name, norm in norms.items()}
    spec = dataclasses.replace(spec, **norms)
    check(spec, make_inputs(spec, T=2))


@pytest.mark.parametrize("kind", ["one_span", "batch"])
@pytest.mark.parametrize("cell", GATES)
def test_float32_is_as_exact_as_float32_can_be(cell, kind):
    spec = make_spec(cell, kind)
    inputs = make_inputs(spec)
    single = Inputs(**{name: value.detach().float().requires_grad_() for name, value in leaves(inputs).items()})
    found, expected = cuda.sequence(spec, single), reference(spec, inputs)
    assert found[0].dtype == torch.float32
    assert_same(found, expected, rtol=1e-4, atol=1e-5)
    assert_same(gradients(found, single), gradients(expected, inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_tanh_is_exact_at_every_size(dtype, digits):
    sizes = torch.tensor([0, 1e-30, 1e-8, 1e-3, 0.1, 0.62, 0.625, 0.63, 1, 5, 20, 90, 1e4, torch.inf], dtype=dtype)
    x = torch.cat([sizes, -sizes]).to(DEVICE)
    eye = torch.eye(len(x), dtype=dtype, device=DEVICE)
    norm = Statistics("frozen")  # z = 0 x; the shift is the argument
    zero = torch.zeros(1, len(x), dtype=dtype, device=DEVICE)
    inputs = Inputs(zero[None], eye, eye, zero, b_ih=x, g_ih=zero[0], frozen={"ih": (zero, zero)})
    y, *_ = cuda.sequence(Spec("rnn", True, norm), inputs)
    torch.testing.assert_close(y[0, 0], torch.tanh(x), rtol=digits, atol=0)


@pytest.mark.parametrize("cell", GATES)
def test_what_was_not_a_number_stays_none(cell):
    """One NaN at step 1 of case 1: it shows from there on, in that case, and nowhere else; its gradients are NaN."""
    spec = make_spec(cell, "one_span")
    inputs = make_inputs(spec)
    with torch.no_grad():
        inputs.x[1, 1, 0] = torch.nan
    y, h_n, c_n, _ = cuda.sequence(spec, inputs)
    lost = torch.zeros(4, 3, dtype=torch.bool)
    lost[1:, 1] = True
    assert torch.equal(y.isnan().cpu(), lost[..., None].expand_as(y))
    assert all(gradient.isnan().any() for gradient in gradients((y, h_n, c_n), inputs).values())


@pytest.mark.parametrize("kind", ["none", "batch"])
def test_a_state_that_is_not_a_number_is_lost_in_all_that_it_reaches(kind):
    spec = make_spec("lstm", kind)
    inputs = make_inputs(spec, T=2)
    with torch.no_grad():
        inputs.h0[0, 0] = torch.nan
    y, *_ = cuda.sequence(spec, inputs)
    assert y[:, 0].isnan().all()
    assert y[:, 1:].isnan().all() == (kind == "batch")


# --- autograd ---------------------------------------------------------------------------------------------------------


def test_only_what_is_needed_gets_a_gradient():
    spec = make_spec("gru", "one_span")
    inputs = make_inputs(spec, T=2)
    expected = gradients(reference(spec, inputs), inputs)
    wanted = ("W_hh", "b_hh", "g_ih")
    for name, value in leaves(inputs).items():
        value.requires_grad_(name in wanted)
    loss(*cuda.sequence(spec, inputs)[:3]).backward()
    assert {name for name, value in leaves(inputs).items() if value.grad is not None} == set(wanted)
    for name in wanted:
        torch.testing.assert_close(getattr(inputs, name).grad, expected[name], **CLOSE)


@pytest.mark.parametrize("output", [0, 1, 2])
def test_each_output_alone_has_a_gradient(output):
    spec = make_spec("lstm", "one_span", joined=True)
    inputs = make_inputs(spec, T=2)
    names, values = zip(*leaves(inputs).items(), strict=True)
    found, expected = (
        torch.autograd.grad(run(spec, inputs)[output].square().sum(), values, allow_unused=True, materialize_grads=True)
        for run in (cuda.sequence, reference)
    )
    assert_same(dict(zip(names, found, strict=True)), dict(zip(names, expected, strict=True)))


def test_batch_statistics_have_no_gradient():
    spec = make_spec("lstm", "batch")
    *_, statistics = cuda.sequence(spec, make_inputs(spec, T=2))
    assert statistics.keys() == set(ROLES)
    assert not any(value.requires_grad for pair in statistics.values() for value in pair)


def test_a_gradient_is_not_differentiated_again():
    spec = make_spec("rnn", "none")
    inputs = make_inputs(spec, T=1)
    with pytest.raises(RuntimeError, match=r"first derivatives only.*backend=.reference.") as error:
        gradients(cuda.sequence(spec, inputs), inputs, create_graph=True)
    assert "\n" not in str(error.value)


def test_outputs_may_be_changed_in_place():
    spec = make_spec("gru", "one_span")
    inputs = make_inputs(spec, T=2)
    outputs = []
    for run in (cuda.sequence, reference):
        y, h_n, c_n, _ = run(spec, inputs)
        outputs.append((y.mul_(2), h_n.add_(1), c_n))
    found, expected = (gradients(output, inputs) for output in outputs)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_cell": Statistics("frozen")}, "one kind, got case and frozen"),
        ({"x": torch.zeros(4, 3, 4)}, "all float32 or all float64"),
        ({"x": torch.zeros(0, 3, 4, dtype=torch.float64)}, "at least one step"),
    ],
)
def test_refusals(change, message):
    spec = make_spec("lstm", "one_span")
    inputs = make_inputs(spec)
    for name, value in change.items():
        if name == "x":
            inputs.x = value.to(DEVICE)
        else:
            spec = dataclasses.replace(spec, **{name: value})
    with pytest.raises(ValueError, match=message):
        cuda.sequence(spec, inputs)


# --- the pool of recorded sequences -----------------------------------------------------------------------------------


class Poisoned(list):
    """Idle records; what a record held is gone as soon as it is given back."""

    def append(self, recorded):
        for buffer in (*recorded.forward, *(recorded.backward or ())):
            if buffer.is_floating_point():
                buffer.fill_(torch.nan)
        super().append(recorded)


def loops(plan, stream) -> cuda.Recorded:
    """A record that is not recorded: the same steps on buffers of its own."""
    with torch.inference_mode(False):
        forward, backward = cuda._room_for_forward(plan), cuda._room_for_backward(plan)
    return cuda.Recorded(
        forward,
        backward,
        functools.partial(cuda._forward_steps, plan, forward),
        functools.partial(cuda._backward_steps, plan, forward, backward),
    )


@pytest.fixture
def pool(monkeypatch):
    """The module's pool, empty and with room for two; on a GPU with graphs, otherwise with loops."""
    pool = cuda.Pool(cuda._record if DEVICE == "cuda" else loops, bound=2)
    pool.idle.default_factory = Poisoned
    monkeypatch.setattr(cuda, "POOL", pool)
    if DEVICE == "cpu":
        monkeypatch.setattr(cuda, "_stream", lambda device: 0)
    return pool


def idle(pool) -> int:
    gc.collect()
    return sum(map(len, pool.idle.values()))


def test_a_key_is_recorded_at_its_second_use_and_no_more_than_the_bound():
    pool = cuda.Pool(lambda key: f"{key}{pool.made}", bound=2)
    assert pool.borrow("a") is None
    first, second = pool.borrow("a"), pool.borrow("a")
    assert (first.recorded, second.recorded) == ("a1", "a2")
    assert pool.borrow("a") is None
    assert pool.borrow("b") is None
    assert pool.borrow("b") is None


def test_a_record_comes_back_once_and_is_lent_again():
    pool = cuda.Pool(lambda key: object(), bound=9)
    pool.borrow("a")
    loan = pool.borrow("a")
    recorded = loan.recorded
    loan.give_back()
    loan.give_back()
    del loan
    again, other = pool.borrow("a"), pool.borrow("a")
    assert again.recorded is recorded
    assert other.recorded is not recorded
    del again
    assert pool.borrow("a").recorded is recorded
    assert pool.made == 2


def test_after_a_failed_recording_steps_run_one_by_one(monkeypatch):
    def record(plan, stream):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    pool = cuda.Pool(record, bound=3)
    monkeypatch.setattr(cuda, "POOL", pool)
    monkeypatch.setattr(cuda, "_stream", lambda device: 0)
    spec = make_spec("rnn", "one_span")
    inputs = make_inputs(spec, T=1)
    check(spec, inputs)
    with pytest.warns(RuntimeWarning, match="step by step.*: operation not permitted when stream is capturing$"):
        check(spec, inputs)
    check(spec, inputs)
    assert pool.made == 1


@pytest.mark.parametrize(("cell", "kind"), [("rnn", "frozen"), ("lstm", "batch"), ("gru", "one_span")])
def test_recorded_sequences_give_the_same_and_read_the_present_weights(pool, cell, kind):
    spec = make_spec(cell, kind)
    inputs = make_inputs(spec, T=2)
    for use in range(3):
        with torch.no_grad():
            for value in leaves(inputs).values():
                value.add_(0.1 * use)
        check(spec, inputs)
        assert (pool.made, idle(pool)) == (min(use, 1), min(use, 1))


def test_two_sequences_in_flight_share_no_buffer(pool):
    """Three forward passes before the first backward pass: one runs its steps, two are recorded, weights are shared."""
    spec = make_spec("gru", "one_span")
    inputs = [make_inputs(spec, T=2) for _ in range(4)]
    for other in inputs[1:]:
        other.x = (other.x * 2).detach().requires_grad_()
        other.W_hh = inputs[0].W_hh
    outputs = [cuda.sequence(spec, i) for i in inputs]
    assert (pool.made, idle(pool)) == (2, 0)
    for i, found in reversed(list(zip(inputs, outputs, strict=True))):
        expected = reference(spec, i)
        assert_same(found, expected)
        assert_same(gradients(found, i), gradients(expected, i))
    assert idle(pool) == 2


def test_a_retained_graph_keeps_its_record(pool):
    spec = make_spec("gru", "batch")
    inputs = make_inputs(spec, T=2)
    for use in range(3):  # steps, recorded, lent again
        outputs = cuda.sequence(spec, inputs)
        first = gradients(outputs, inputs, retain_graph=True)
        assert pool.made - idle(pool) == (use > 0)
        between = cuda.sequence(spec, make_inputs(spec, T=2))  # would take the record if it were idle
        second = gradients(outputs, inputs)
        assert_same(second, first, rtol=0, atol=0)
        assert_same(first, gradients(reference(spec, inputs), inputs))
        with pytest.raises(RuntimeError, match="second time"):
            gradients(outputs, inputs)
        del between
        assert idle(pool) == pool.made == min(use + 1, 2)


def test_a_record_comes_back_with_its_node(pool):
    """Also when no backward pass was run, or none reached it."""
    spec = make_spec("rnn", "one_span", joined=True)
    inputs = make_inputs(spec, T=1)
    cuda.sequence(spec, inputs)
    outputs = cuda.sequence(spec, inputs)
    torch.autograd.grad((outputs[0] * inputs.x.sum()).sum() * 0 + inputs.x.sum(), [inputs.x], retain_graph=True)
    assert (pool.made, idle(pool)) == (1, 0)
    del outputs
    assert idle(pool) == 1


@pytest.mark.parametrize("kind", ["one_span", "batch"])
@pytest.mark.parametrize("cell", GATES)
def test_without_gradients_the_numbers_are_the_same_and_nothing_is_kept(pool, cell, kind):
    spec = make_spec(cell, kind, reverse=True)
    inputs = make_inputs(spec, T=3)
    expected = cuda.sequence(spec, inputs)
    plain = dataclasses.replace(inputs, **{name: value.detach() for name, value in leaves(inputs).items()})
    with torch.inference_mode():
        found = [cuda.sequence(spec, inputs) for _ in range(2)]
    with torch.no_grad():
        found.append(cuda.sequence(spec, inputs))
    found.append(cuda.sequence(spec, plain))
    for outputs in found:
        assert_same(outputs, expected, rtol=0, atol=0)
        assert not outputs[0].requires_grad
    assert (pool.made, idle(pool)) == (1, 1)
    (record,) = next(filter(None, pool.idle.values()))
    assert len(record.forward.R) == 1
    assert len(record.forward.c) == (2 if cell == "lstm" else 0)


@pytest.mark.parametrize("hooks", ["checkpoint", "offload"])
def test_hooks_on_saved_tensors_never_see_a_record(pool, hooks):
    """Their tensors stand in for those of another forward pass, whose record may long be someone else's."""
    spec = make_spec("gru", "one_span")
    inputs = make_inputs(spec, T=1)
    expected = gradients(reference(spec, inputs), inputs)
    for _ in range(3):
        if hooks == "checkpoint":
            outputs = torch.utils.checkpoint.checkpoint(lambda: cuda.sequence(spec, inputs)[:3], use_reentrant=False)
        else:
            with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
                outputs = cuda.sequence(spec, inputs)
        assert_same(gradients(outputs, inputs), expected)
    assert pool.made == 0


def test_each_block_of_cases_sums_for_itself(pool):
    """On a GPU the blocks run at once."""
    spec = make_spec("rnn", "one_span", H=33)
    inputs = make_inputs(spec, T=1, H=33)
    cuda.sequence(spec, inputs)
    outputs = cuda.sequence(spec, inputs)
    gradients(outputs, inputs, retain_graph=True)
    sums = outputs[0].grad_fn.loan.recorded.backward.sums
    assert len(sums) == 2
    assert (sums != 0).any(1).all()


def test_a_record_lent_again_too_early_is_noticed(pool):
    spec = make_spec("rnn", "none")
    inputs = make_inputs(spec, T=1)
    cuda.sequence(spec, inputs)
    outputs = cuda.sequence(spec, inputs)
    outputs[0].grad_fn.loan.give_back()
    cuda.sequence(spec, inputs)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(outputs, inputs)


# --- the real compiler ------------------------------------------------------------------------------------------------

COMPILED = [  # spec, dtype, keep, backward, compute capability
    (make_spec("lstm", "one_span"), "float32", True, True, 90),
    (make_spec("gru", "uneven"), "float32", True, True, 80),
    (make_spec("rnn", "batch", joined=True), "float64", True, True, 90),
    (make_spec("lstm", "frozen", joined=True), "float64", False, False, 80),
    (make_spec("lstm", "batch"), "float32", False, False, 90),
    (make_spec("rnn", "uneven_uncentred"), "float32", True, False, 90),
]
COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from models.recurrent import cuda
from models.recurrent.spec import Spec, Statistics

def compile(spec, dtype, keep, backward, capability):
    plan = cuda.Plan(spec, 2, 2, 5, getattr(torch, dtype), torch.device("cpu"), keep)
    pointers = (*cuda._room_for_forward(plan)[:-1], *(cuda._room_for_backward(plan) if backward else (None,) * 6))
    types = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32"}
    constants = {**plan.constants, "BACKWARD": backward}
    options = {"num_warps": constants.pop("num_warps")}
    signature = {}
    for name, value in zip(cuda._step.arg_names, (0, *pointers, plan.N, plan.H)):
        signature[name] = "constexpr" if value is None else "i32" if isinstance(value, int) else types[value.dtype]
        constants |= {name: None} if value is None else {}
    signature |= dict.fromkeys(plan.constants.keys() - options.keys() | {"BACKWARD"}, "constexpr")
    source = ASTSource(cuda._step, signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

for row in ROWS:
    assert "cubin" in compile(*row).asm
print("compiled")
"""


def test_the_real_compiler_takes_the_kernel(tmp_path):
    """For GPUs of capability 8.0 and 9.0, which need not be there. In a process of its own, without the interpreter."""
    root = Path(__file__).resolve().parents[2]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(root), "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE.replace("ROWS", repr(COMPILED))]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.stdout.endswith("compiled\n"), done.stderr
