"""The fused sequence on a CPU as operators of torch.library, for graphs: torch.compile, and torch.export on demand.

A graph holds one node for the sequence, whatever its length, and one for its backward pass. Outside of graphs cpu.py's
autograd function serves, since a call through the dispatcher to an operator with an autograd formula in Python costs a
fifth of a millisecond more, as much as a short sequence. Two things differ from it: nothing is written over, since a
graph may not find its values changed, and y is a tensor of its own, without the initial state before it.

    sequence             spec.Spec as text, spec.Inputs -> y, h_n, c_n (empty but for an LSTM), what backward needs
                         (empty with keep=False), mean and variance of each role with statistics over the batch
    sequence_backward    the same and the gradients of y, h_n and c_n -> the gradients asked for
"""

import torch
from torch import Tensor

from . import cpu
from .cpu import Given, Tensors
from .layout import Sizes, layout
from .spec import Inputs, Spec

NAMESPACE = __name__.partition(".")[0]
TENSORS = """Tensor x, Tensor W_ih, Tensor W_hh, Tensor h0, Tensor? c0, Tensor? b_ih, Tensor? b_hh,
             Tensor? g_ih, Tensor? g_hh, Tensor? g_cell, Tensor? b_cell, Tensor[] frozen, Tensor? reset"""
COUNT = len(Tensors._fields)

LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")
TAGS = (torch.Tag.pt2_compliant_tag,)
LIBRARY.define(
    f"sequence(str spec, bool keep, {TENSORS}) -> (Tensor y, Tensor h_n, Tensor c_n, Tensor kept, Tensor[] batch)",
    tags=TAGS,
)
LIBRARY.define(
    f"sequence_backward(str spec, {TENSORS}, Tensor y, Tensor kept, Tensor? dy, Tensor? dh_n, Tensor? dc_n, "
    "bool[] needed) -> Tensor[]",
    tags=TAGS,
)


def sequence(spec: Spec, inputs: Inputs):
    """See spec.py."""
    tensors = [getattr(inputs, name) for name in Tensors._fields]
    frozen = [tensor for role in spec.roles("frozen") for tensor in inputs.frozen[role]]
    keep = torch.is_grad_enabled() and any([tensor is not None and tensor.requires_grad for tensor in tensors])
    operator = getattr(torch.ops, NAMESPACE).sequence
    y, h_n, c_n, _, batch = operator(str(spec), keep, *tensors, frozen, inputs.reset)
    statistics = {role: (batch[2 * k], batch[2 * k + 1]) for k, role in enumerate(spec.roles("batch"))}
    return y, h_n, c_n if spec.cell == "lstm" else None, statistics


def _given(spec: Spec, frozen: list[Tensor], reset: Tensor | None) -> Given:
    by_role = dict(zip(spec.roles("frozen"), zip(frozen[::2], frozen[1::2], strict=True), strict=True))
    return Given(by_role, None, None if reset is None else reset.contiguous())


def _forward(text: str, keep: bool, *arguments):
    spec, (*tensors, frozen, reset) = Spec.read(text), arguments
    keep = keep and not spec.recompute
    outputs = cpu.forward(spec, _given(spec, frozen, reset), cpu.prepared(spec, Tensors(*tensors)), keep)
    (y, h_n, c_n, *batch), block, _ = outputs
    return y, h_n, y.new_empty(0) if c_n is None else c_n, block if keep else y.new_empty(0), batch


def _backward(text: str, *arguments):
    given, (frozen, reset, y, block, dy, dh_n, dc_n, needed) = arguments[:COUNT], arguments[COUNT:]
    spec = Spec.read(text)
    sequence = spec, _given(spec, frozen, reset), cpu.prepared(spec, Tensors(*given))
    if spec.recompute:
        _, block, h = cpu.forward(*sequence, keep=True)
    else:
        h0 = sequence[2].h0
        h = torch.cat([part.view(-1, h0.shape[1]) for part in ((y, h0) if spec.reverse else (h0, y))])
    gradients = cpu.backward(*sequence, block, h, (dy, dh_n, dc_n), needed, spare=not spec.recompute)
    return [gradient for gradient in gradients if gradient is not None]


def _shapes(text: str, keep: bool, *arguments):
    spec, (*tensors, _, _) = Spec.read(text), arguments
    x, W_hh, c0 = tensors[0], tensors[2], tensors[4]
    (T, N, I), (m, H), new = x.shape, W_hh.shape, x.new_empty  # noqa: E741
    sizes = Sizes(T, N, T * N, I, H)
    kept = layout(spec, sizes, x.dtype.itemsize, keep)[1] if keep and not spec.recompute else 0
    batch = [new(T, H if role == "cell" else m) for role in spec.roles("batch") for _ in ("mean", "var")]
    h = new(T + 1, N, H)  # of which y is a part
    return h[:T] if spec.reverse else h[1:], new(N, H), new(0) if c0 is None else new(N, H), new(kept), batch


def _gradient_shapes(text: str, *arguments):
    needed = arguments[-1]
    return [tensor.new_empty(tensor.shape) for tensor, need in zip(arguments[:COUNT], needed, strict=True) if need]


def _setup_context(ctx, inputs, output):
    text, _, *tensors, frozen, reset = inputs
    y, _, _, kept, batch = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(kept, *batch)
    ctx.save_for_backward(*tensors, *frozen, reset, y, kept)
    ctx.text = text


def _gradients(ctx, dy, dh_n, dc_n, *_):
    *saved, reset, y, kept = ctx.saved_tensors
    tensors, frozen = saved[:COUNT], saved[COUNT:]
    needed = list(ctx.needs_input_grad[2 : 2 + COUNT])
    operator = getattr(torch.ops, NAMESPACE).sequence_backward
    found = iter(operator(ctx.text, *tensors, frozen, reset, y, kept, dy, dh_n, dc_n, needed))
    return None, None, *(next(found) if need else None for need in needed), [None] * len(frozen), None


for name, implementation, shapes in (
    ("sequence", _forward, _shapes),
    ("sequence_backward", _backward, _gradient_shapes),
):
    LIBRARY.impl(name, implementation, "CPU")
    torch.library.register_fake(f"{NAMESPACE}::{name}", shapes, lib=LIBRARY)
torch.library.register_autograd(f"{NAMESPACE}::sequence", _gradients, setup_context=_setup_context, lib=LIBRARY)
