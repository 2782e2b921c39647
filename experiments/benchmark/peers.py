"""The candidates of the benchmark: this project's layers, torch.nn, and LN recurrences as they are commonly written.

A candidate is a row of CANDIDATES. Its `build(problem)` returns a pass: called, it does the work that is timed and
returns the outputs y; its `results(y)` returns them and all gradients by name, as tensors on the CPU. Candidates of one
cell type and norm compute the same equation from the same weights (Problem.state), which the benchmark checks before it
times anything. The names of weights are those of our layers, and hence torch.nn's.
"""

import functools
import importlib.util
import inspect
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ModelError
from models.recurrent import CELLS

NORMS = ("none", "ln", "gn", "rms", "bn", "wn")
TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
FORWARD, BOTH = "forward", "forward+backward"  # modes; forward alone is evaluation, without gradients
BASE = "torch.nn"  # the candidate that all times are relative to
EPS = 1e-5  # added to the variance; the default of our layers and of torch


@dataclass(frozen=True)
class Size:
    """The size of a layer and its input: steps, batch size, inputs, units."""

    T: int
    B: int
    I: int  # noqa: E741
    H: int


class Problem:
    """A pass of one layer over x (T, B, I). Forward+backward computes all gradients of sum(y * dy), y (T, B, H)."""

    def __init__(self, cell: str, size: Size, mode: str, device: str = "cpu"):
        self.cell, self.size, self.mode, self.device = cell, size, mode, device
        generator = torch.Generator().manual_seed(0)
        self.x, self.dy = (
            torch.randn(size.T, size.B, features, generator=generator).to(device) for features in (size.I, size.H)
        )
        self.states: dict[str, dict[str, Tensor]] = {}

    def layer(self, norm: str, backend: str, recompute: bool = False) -> nn.Module:
        """Return this project's layer, in training mode if there is a backward pass."""
        options = {"groups": math.gcd(8, self.size.H)} if norm == "gn" else {}
        layer = CELLS[self.cell](
            self.size.I, self.size.H, norm=norm, norm_options=options, backend=backend, recompute=recompute
        )
        return layer.to(self.device).train(self.mode == BOTH)

    def state(self, norm: str) -> dict[str, Tensor]:
        """Return the weights of all candidates of a norm. Gains and shifts are not 1 and 0, so that all are used."""
        if norm not in self.states:
            torch.manual_seed(0)
            layer = self.layer(norm, "reference").train()
            with torch.no_grad():
                for name, parameter in layer.named_parameters():
                    if name.startswith("norm_"):
                        parameter.add_(0.1 * torch.rand_like(parameter))
                layer(self.x)  # batch normalisation takes the statistics of every step
            self.states[norm] = {name: value.detach().clone() for name, value in layer.state_dict().items()}
        return self.states[norm]


class TorchPass:
    """A pass of torch: forward(x) -> y. `leaves` are the parameters, by name, whose gradients are computed."""

    def __init__(self, problem: Problem, forward: Callable[[Tensor], Tensor], leaves: dict[str, Tensor]):
        self.forward, self.dy, self.mode = forward, problem.dy, problem.mode
        self.x = problem.x.clone().requires_grad_()
        self.leaves = {"x": self.x, **leaves}

    def __call__(self) -> Tensor:
        if self.mode == FORWARD:
            with torch.no_grad():
                return self.forward(self.x)
        for leaf in self.leaves.values():
            leaf.grad = None
        y = self.forward(self.x)
        y.backward(self.dy)
        return y

    def results(self, y: Tensor) -> dict[str, Tensor]:
        gradients = {f"d {name}": leaf.grad for name, leaf in self.leaves.items()} if self.mode == BOTH else {}
        values = {"y": y, **gradients}
        return {name: value.detach().cpu() for name, value in values.items() if value is not None}


def module_pass(problem: Problem, module: nn.Module, norm: str) -> TorchPass:
    module.load_state_dict(problem.state(norm))
    return TorchPass(problem, lambda x: module(x)[0], dict(module.named_parameters()))


def ours(problem: Problem, norm: str, backend: str, recompute: bool = False) -> TorchPass:
    return module_pass(problem, problem.layer(norm, backend, recompute), norm)


def fused_missing(device: str) -> str | None:
    """Return why the fused kernels are not available, or None."""
    try:
        CELLS["rnn"](1, 1, backend="fused").to(device)(torch.zeros(1, 1, 1, device=device))
    except ModelError as error:
        return str(error)
    return None


def recompute_missing(device: str) -> str | None:
    return fused_missing(device) if device == "cpu" else "only the kernel for CPUs recomputes"


def torch_nn(problem: Problem) -> TorchPass:
    """Return torch.nn's layer, without normalisation: oneDNN or native kernels on a CPU, cuDNN on a GPU."""
    module = TORCH[problem.cell](problem.size.I, problem.size.H)
    return module_pass(problem, module.to(problem.device).train(problem.mode == BOTH), "none")


# --- the common loop over time: nothing is hoisted out of it, and the shifts are those of layer_norm ------------------


def rnn_loop(x, W_ih, W_hh, b_ih, b_hh, g_sum):
    h = x.new_zeros(x.shape[1], W_hh.shape[1])
    outputs = []
    for x_t in x.unbind(0):
        a = F.linear(x_t, W_ih) + F.linear(h, W_hh)
        h = torch.tanh(F.layer_norm(a, g_sum.shape, g_sum, b_ih + b_hh))
        outputs.append(h)
    return torch.stack(outputs)


def lstm_loop(x, W_ih, W_hh, b_ih, b_hh, g_ih, g_hh, g_cell, b_cell):
    h = x.new_zeros(x.shape[1], W_hh.shape[1])
    c = h
    outputs = []
    for x_t in x.unbind(0):
        z_x = F.layer_norm(F.linear(x_t, W_ih), g_ih.shape, g_ih, b_ih)
        z_h = F.layer_norm(F.linear(h, W_hh), g_hh.shape, g_hh, b_hh)
        i, f, g, o = (z_x + z_h).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(F.layer_norm(c, g_cell.shape, g_cell, b_cell))
        outputs.append(h)
    return torch.stack(outputs)


def gru_loop(x, W_ih, W_hh, b_ih, b_hh, g_ih_rz, g_ih_n, g_hh_rz, g_hh_n):
    """Two normalisers on each linear term: the paper's statistics are over both gates, and over the candidate."""
    H = W_hh.shape[1]
    h = x.new_zeros(x.shape[1], H)
    outputs = []
    for x_t in x.unbind(0):
        x_rz, x_n = F.linear(x_t, W_ih).split([2 * H, H], 1)
        h_rz, h_n = F.linear(h, W_hh).split([2 * H, H], 1)
        x_rz = F.layer_norm(x_rz, g_ih_rz.shape, g_ih_rz, b_ih[: 2 * H])
        h_rz = F.layer_norm(h_rz, g_hh_rz.shape, g_hh_rz, b_hh[: 2 * H])
        r, z = torch.sigmoid(x_rz + h_rz).chunk(2, 1)
        x_n = F.layer_norm(x_n, g_ih_n.shape, g_ih_n, b_ih[2 * H :])
        n = torch.tanh(x_n + r * F.layer_norm(h_n, g_hh_n.shape, g_hh_n, b_hh[2 * H :]))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return torch.stack(outputs)


LOOPS: dict[str, Callable[..., Tensor]] = {"rnn": rnn_loop, "lstm": lstm_loop, "gru": gru_loop}


def function_pass(problem: Problem, function: Callable[..., Tensor]) -> TorchPass:
    """Return the pass of function(x, *parameters), the parameters of an LN layer in the order of its state dict."""
    leaves = {name: value.clone().requires_grad_() for name, value in problem.state("ln").items()}
    return TorchPass(problem, lambda x: function(x, *leaves.values()), leaves)


def step_loop(problem: Problem) -> TorchPass:
    return function_pass(problem, LOOPS[problem.cell])


def torchscript(problem: Problem) -> TorchPass:
    """Return the LSTM's loop in TorchScript, as the LayerNormLSTMCell of PyTorch's benchmarks/fastrnns.

    Compiled for each problem: TorchScript keeps a function's plan for the shapes and gradients of its first calls.
    """
    compiled = function_pass(problem, torch.jit.CompilationUnit(inspect.getsource(lstm_loop)).lstm_loop)
    for _ in range(4):  # it profiles one call and compiles during the next three
        compiled()
    return compiled


# --- JAX -------------------------------------------------------------------------------------------------------------


class JaxPass:
    """LN-LSTM by jax.lax.scan, the input term of all steps in one product, jit(value_and_grad)."""

    def __init__(self, problem: Problem):
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or it takes most of a GPU's memory
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_default_matmul_precision", "float32")  # a GPU would round to TF32
        device = jax.devices({"cpu": "cpu", "cuda": "gpu"}[problem.device])[0]

        def array(tensor: Tensor):
            return jax.device_put(tensor.cpu().numpy(), device)

        def layer_norm(z, gain):
            z = z - z.mean(-1, keepdims=True)
            return gain * z * jax.lax.rsqrt((z * z).mean(-1, keepdims=True) + EPS)

        def lstm(p, x):
            def step(state, z_x):
                h, c = state
                z_h = layer_norm(h @ p["weight_hh_l0"].T, p["norm_hh_l0.weight"])
                i, f, g, o = jnp.split(z_x + z_h, 4, -1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                c_normalised = layer_norm(c, p["norm_cell_l0.weight"]) + p["norm_cell_l0.bias"]
                h = jax.nn.sigmoid(o) * jnp.tanh(c_normalised)
                return (h, c), h

            z_x = layer_norm(x @ p["weight_ih_l0"].T, p["norm_ih_l0.weight"]) + p["bias_ih_l0"] + p["bias_hh_l0"]
            zeros = jnp.zeros((x.shape[1], p["weight_hh_l0"].shape[1]), x.dtype)
            return jax.lax.scan(step, (zeros, zeros), z_x)[1]

        def loss(p, x):
            y = lstm(p, x)
            return (y * dy).sum(), y

        parameters = {name: array(value) for name, value in problem.state("ln").items()}
        x, dy = array(problem.x), array(problem.dy)
        work = jax.jit(lstm if problem.mode == FORWARD else jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        self.mode, self.call = problem.mode, lambda: jax.block_until_ready(work(parameters, x))

    def __call__(self):
        return self.call()

    def results(self, out) -> dict[str, Tensor]:
        if self.mode == FORWARD:
            values = {"y": out}
        else:
            (_, y), (gradients, dx) = out
            values = {"y": y, "d x": dx, **{f"d {name}": value for name, value in gradients.items()}}
        return {name: torch.tensor(np.asarray(value)) for name, value in values.items()}


def jax_missing(device: str) -> str | None:
    """Return why JAX is not available on the device, or None."""
    if importlib.util.find_spec("jax") is None:
        return "JAX is not installed (pip install -e '.[benchmark]')"
    import jax

    if device == "cuda" and jax.default_backend() != "gpu":
        return "this JAX has no GPU support"
    return None


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """An implementation that is timed. `missing(device)` returns why it is not available, or None.

    A rare candidate takes part in every third round only.
    """

    name: str
    norm: str
    build: Callable[[Problem], Callable]
    cells: tuple[str, ...] = tuple(TORCH)
    rare: bool = False
    missing: Callable[[str], str | None] = lambda device: None


def of_ours(backend: str, **more) -> list[Candidate]:
    """Return this project's layers with every norm."""
    build = functools.partial(ours, backend=backend)
    return [Candidate(f"ours {norm}, {backend}", norm, functools.partial(build, norm=norm), **more) for norm in NORMS]


CANDIDATES = [
    Candidate(BASE, "none", torch_nn),
    *of_ours("fused", missing=fused_missing),
    *of_ours("reference", rare=True),
    Candidate(
        "ours ln, recompute",
        "ln",
        functools.partial(ours, norm="ln", backend="fused", recompute=True),
        rare=True,
        missing=recompute_missing,
    ),
    Candidate("per-step loop ln", "ln", step_loop, rare=True),
    Candidate("TorchScript ln", "ln", torchscript, ("lstm",), rare=True),
    Candidate("JAX scan ln", "ln", JaxPass, ("lstm",), rare=True, missing=jax_missing),
]
