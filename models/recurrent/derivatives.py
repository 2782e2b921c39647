"""Derivatives that the kernels lack, by the equations: those of gradients, and gradients of a batch of losses at once.

A kernel's backward pass is nothing that autograd could differentiate or map. Where that is asked for, backward runs the
sequence anew as a loop of PyTorch operations (equations.py), whose gradients have gradients in their turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .equations import Norms
from .ragged import Ragged
from .spec import Inputs, Spec, Statistics


def wanted(of_outputs: Sequence[Tensor | None]) -> bool:
    """Return whether the backward pass that runs is to be differentiated (create_graph), or its gradients are batched.

    A batched tensor, of vmap or is_grads_batched, has no storage that a kernel could read.
    """
    given = [gradient for gradient in of_outputs if gradient is not None]
    return torch.is_grad_enabled() or not all(map(torch._C._has_storage, given))


def gradients(
    spec: Spec, inputs: Inputs, of_outputs: Sequence[Tensor | None], needed: dict[str, bool]
) -> list[Tensor | None]:
    """Return the gradients of the fields of inputs that `needed` names, in its order, None where not needed.

    of_outputs: the gradients of y, h_n and c_n, None for zero.
    """
    create_graph = torch.is_grad_enabled()
    names = [name for name, need in needed.items() if need]
    with torch.enable_grad(), torch.autocast(inputs.x.device.type, enabled=False):
        # Each in an alias of its own: a tensor that comes in twice has two gradients.
        leaves = [tensor.view_as(tensor) for tensor in (getattr(inputs, name) for name in names)]
        fields: dict[str, Any] = dict(zip(names, leaves, strict=True))
        outputs = _run(spec, replace(inputs, **fields))
        given = [k for k, gradient in enumerate(of_outputs) if gradient is not None]
        found = torch.autograd.grad(
            [outputs[k] for k in given],
            leaves,
            [of_outputs[k] for k in given],
            create_graph=create_graph,
            materialize_grads=True,
        )
    by_name = dict(zip(names, found, strict=True))
    return [by_name.get(name) for name in needed]


def _run(spec: Spec, i: Inputs) -> tuple[Tensor, ...]:
    """Return y, h_n and, of an LSTM, c_n."""
    ragged = None if i.lengths is None else Ragged((i.lengths > torch.arange(int(i.lengths[0]))[:, None]).sum(1))
    steps = len(ragged.cases) if ragged else len(i.x)
    norm_ih = _Norm(steps, spec.norm_ih, i.g_ih, None, i.frozen.get("ih"))
    norm_hh = _Norm(steps, spec.norm_hh, i.g_hh, None, i.frozen.get("hh"))
    norm_cell = _Norm(steps, spec.norm_cell, i.g_cell, i.b_cell, i.frozen.get("cell"))
    none = _Norm(steps)
    norm = Norms(none if spec.joined else norm_ih, norm_hh, norm_ih if spec.joined else none, norm_cell, none)
    zero = i.x.new_zeros(())
    biases = tuple(zero if bias is None else bias for bias in (i.b_ih, i.b_hh))
    state = (i.h0,) if i.c0 is None else (i.h0, i.c0)
    assert i.equations is not None
    y, final = i.equations(i.x, state, (i.W_ih, i.W_hh), biases, norm, spec.reverse, 0, i.reset, ragged)
    return y, *final


@dataclass
class _Norm:
    """A normaliser of spec.py behind the calls of norms.Normaliser; the identity without statistics."""

    steps: int
    statistics: Statistics | None = None
    gain: Any = None
    bias: Tensor | None = None
    given: tuple[Tensor, Tensor] | None = None  # mean and 1/sqrt(var + eps) of the last steps, or of all

    def __call__(self, z: Tensor, t: int = 0) -> Tensor:
        """z (N, C), or, where statistics are for each case, with any axes before."""
        s = self.statistics
        if s is None:
            return z
        if s.over == "case":
            z = torch.cat([_standardise(part, -1, s.eps, s.centred) for part in z.split(s.spans, -1)], -1)
        elif self.given is not None and (s.over == "frozen" or len(z) == 1):
            mean, rstd = self.given
            z = (z - mean[t - self.steps]) * rstd[t - self.steps]
        else:
            z = _standardise(z, 0, s.eps, scale=len(z) / (len(z) - 1) if s.unbiased else 1.0)
        z = z * self.gain
        return z if self.bias is None else z + self.bias

    def over_time(self, z: Tensor, start: int = 0, cases: list[int] | None = None) -> Tensor:
        if self.statistics is None or self.statistics.over == "case":
            return self(z)
        steps = z.unbind(0) if cases is None else z.split(cases)
        joined = torch.stack if cases is None else torch.cat
        return joined([self(z_t, t) for t, z_t in enumerate(steps, start)])

    def frozen(self) -> "_Norm":
        return self


def _standardise(z: Tensor, axis: int, eps: float, centred: bool = True, scale: float = 1.0) -> Tensor:
    z = z - z.mean(axis, keepdim=True) if centred else z
    return z * (scale * z.square().mean(axis, keepdim=True) + eps).rsqrt()
