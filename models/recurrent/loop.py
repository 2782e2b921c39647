"""The reference: the equations of a cell over a sequence, a loop of PyTorch operations over the steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from .equations import Norms
from .ragged import Ragged


def loop(
    step: Callable,
    fold_biases: Callable,
    x: Tensor,
    state: tuple[Tensor, ...],
    weights: tuple[Tensor, ...],
    biases: tuple[Tensor, Tensor] | None,
    norm: Norms,
    backwards: bool,
    start: int,
    reset: Tensor | None,
    ragged: Ragged | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one layer in one direction over x (T, N, I): outputs (T, N, P) and the final state(s).

    step: a cell of equations.py. fold_biases: of its class in cells.py. start: the number of the first step. reset:
    (T, N), before which steps a case's state becomes zeros. With `ragged`, x and reset are (rows, ...) and so are the
    outputs, in one direction alone: the layer has turned the sequences around.
    """
    W_ih, W_hh, *W_hr = weights
    b_ih, b_hh = biases or (x.new_zeros(()),) * 2
    if backwards:
        x = x.flip(0)
    cases = None if ragged is None else ragged.cases
    x, b = fold_biases(norm.ih.over_time(x @ W_ih.T, start, cases), b_ih, b_hh)
    resets = None if reset is None else _steps(reset[..., None], cases)
    alone = None if cases is None else Norms(*(role.frozen() for role in norm))
    outputs, ended = [], []
    for s, x_t in enumerate(_steps(x, cases)):
        if cases is not None and cases[s] < len(state[0]):
            ended.append(tuple(each[cases[s] :] for each in state))
            state = tuple(each[: cases[s]] for each in state)
        if resets is not None:
            state = tuple(each.masked_fill(resets[s], 0) for each in state)
        norms = alone if cases is not None and cases[s] == 1 else norm
        state = step(x_t, state, W_hh, b, norms, start + s, *W_hr)
        outputs.append(state[0])
    if cases is not None:
        return torch.cat(outputs), tuple(map(torch.cat, zip(state, *reversed(ended), strict=True)))
    y = torch.stack(outputs)
    return (y.flip(0) if backwards else y), state


def _steps(z: Tensor, cases: list[int] | None) -> tuple[Tensor, ...]:
    """z (T, N, ...) or (rows, ...), step by step."""
    return z.unbind(0) if cases is None else z.split(cases)
