"""The equations of spec.py in a plain loop, and sequences to run by them and by the kernels for GPUs."""

import dataclasses
import functools

import pytest
import torch

from models.recurrent import cuda
from models.recurrent.spec import GATES, Inputs, Spec, Statistics

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Masked lanes and untaken branches divide by zero, which numpy remarks on.
QUIET_INTERPRETER = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")


EPS = 1e-2  # large, so that its place in the equations shows


CLOSE = {"rtol": 1e-9, "atol": 1e-10}


ROLES = ("ih", "hh", "cell")


LEAVES = [field.name for field in dataclasses.fields(Inputs) if field.name not in ("frozen", "lengths", "reset")]


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
            divided = var * len(z) / (len(z) - 1) if norm.unbiased else var
            return gain * (z - mu) / (divided + norm.eps).sqrt()
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
    "unbiased": lambda gates, H: Statistics("batch", EPS, unbiased=True),
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
    return {name: value for name in LEAVES if isinstance(value := getattr(inputs, name), torch.Tensor)}


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
