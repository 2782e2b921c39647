"""One time step of each cell, written as in the paper (Ba et al. 2016, eq. 4, 20-22, 26-28).

Shapes: x (N, gates*H) is the normalised input term of this step, h and c (N, H), W_hh (gates*H, H). The normalisers
are called as norm.role(z, t). Gate order and names of the parameters are torch.nn's.

Each LN in the paper has its own bias. Here these are the layer's biases, which are added right after the normalisation:
LN(W_x x; alpha, beta) = alpha * (z - mu)/sigma + b_ih, and b_hh for the recurrent term.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Norms(NamedTuple):
    """The normalisers of one layer and direction by role: norms.Normaliser, or layer.Spans of several.

    The identity where a placement leaves a role out.
    """

    ih: Any  # of W_ih x
    hh: Any  # of W_hh h
    sum: Any  # of the sum of both
    cell: Any  # of the LSTM's cell state, before the output's tanh
    out: Any  # of the layer's output


def rnn_step(x: Tensor, state: tuple[Tensor], W_hh: Tensor, b: Tensor, norm: Norms, t: int) -> tuple[Tensor]:
    """a_t = W_hh h_{t-1} + W_xh x_t ;  h_t = tanh( g/sigma_t * (a_t - mu_t) + b )    one LN, of the sum (eq. 4)"""
    (h,) = state
    a = x + norm.hh(h @ W_hh.T, t)
    return (torch.tanh(norm.sum(a, t) + b),)


def rnn_relu_step(x: Tensor, state: tuple[Tensor], W_hh: Tensor, b: Tensor, norm: Norms, t: int) -> tuple[Tensor]:
    """As rnn_step, with max(0, .) in place of tanh."""
    (h,) = state
    a = x + norm.hh(h @ W_hh.T, t)
    return (torch.relu(norm.sum(a, t) + b),)


def lstm_step(
    x: Tensor, state: tuple[Tensor, Tensor], W_hh: Tensor, b: None, norm: Norms, t: int, W_hr: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(i,f,g,o)_t = LN(W_h h_{t-1}) + LN(W_x x_t) + b ;  c_t = s(f) c_{t-1} + s(i) tanh(g) ;  h_t = s(o) tanh(LN(c_t))

    s is the logistic function. The raw c_t is carried on, only the output sees LN(c_t) (eq. 20-22). x carries the
    b of the equation, which is the same at all steps and so was added to all of them at once. With a projection W_hr
    (P, H) the state h_t is W_hr times that above.
    """
    h, c = state
    i, f, g, o = (x + norm.hh(h @ W_hh.T, t)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(norm.cell(c, t))
    return (h if W_hr is None else h @ W_hr.T), c


def lstm_step_of_addons(
    x: Tensor, state: tuple[Tensor, Tensor], W_hh: Tensor, b: None, norm: Norms, t: int, W_hr: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As lstm_step, but c_t = LN( s(f) c_{t-1} + s(i) tanh(g) ), and h_t = s(o) tanh(c_t): LN(c) is carried on."""
    h, c = state
    i, f, g, o = (x + norm.hh(h @ W_hh.T, t)).chunk(4, -1)
    c = norm.cell(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g), t)
    h = torch.sigmoid(o) * torch.tanh(c)
    return (h if W_hr is None else h @ W_hr.T), c


def gru_step(x: Tensor, state: tuple[Tensor], W_hh: Tensor, b_hh: Tensor, norm: Norms, t: int) -> tuple[Tensor]:
    """(r,z)_t = s(LN(W_h h_{t-1}) + LN(W_x x_t)) ;  n = tanh(LN(W x_t) + r LN(U h_{t-1})) ;  h_t = (1-z) n + z h_{t-1}

    The reset gate multiplies after U h, as in torch.nn.GRU. In the paper (eq. 26-28) z stands at the new state; that
    is this equation with the gate's sign turned.
    """
    (h,) = state
    x_rz, x_n = x.tensor_split([2 * h.shape[-1]], -1)
    h_rz, h_n = (norm.hh(h @ W_hh.T, t) + b_hh).tensor_split([2 * h.shape[-1]], -1)
    r, z = torch.sigmoid(x_rz + h_rz).chunk(2, -1)
    n = torch.tanh(x_n + r * h_n)
    return (n + z * (h - n),)
