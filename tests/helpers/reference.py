"""The equations written out slowly, one case, unit and gate at a time, for the tests to compare the models with.

Only sums, products, roots, exp and tanh: no normalisation or recurrent routine of torch. Everything is differentiable,
so that autograd through these equations gives the gradients to compare with, and is meant for float64.

Equation numbers are those of Ba et al. 2016 (Layer Normalization, arXiv 1607.06450) unless another paper is named.
Symbols: a summed inputs (N, C) or (N, C, H, W), g gain (C,), b shift (C,), eps added to the variance (the paper has
none), W weights, h hidden state, c cell state, s(x) = 1/(1 + exp(-x)) the logistic function.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def logistic(x: Tensor) -> Tensor:
    """s(x) = 1 / (1 + exp(-x))"""
    return 1 / (1 + torch.exp(-x))


def summed_inputs(W: Tensor, x: Tensor) -> Tensor:
    """a_i = w_i^T x  (eq. 1), for every case x_n of x (N, I) and every unit i of W (units, I)."""
    return torch.stack([torch.stack([(w_i * x_n).sum() for w_i in W]) for x_n in x])


# --- normalisers: what is pooled is all that differs ------------------------------------------------------------------


def mean_and_variance(values: Tensor, unbiased: bool = False) -> tuple[Tensor, Tensor]:
    """mu = 1/n sum_k a_k ;  var = 1/n sum_k (a_k - mu)^2  (as in eq. 3), or 1/(n-1) of the sum when unbiased."""
    values = list(values.flatten())
    n = len(values)
    mu = sum(values) / n
    return mu, sum((a - mu) ** 2 for a in values) / (n - 1 if unbiased else n)


def bn(a: Tensor, g: Tensor, b: Tensor, eps: float, unbiased: bool = False) -> Tensor:
    """g_i/sigma_i (a_i - mu_i) + b_i, mu_i and sigma_i of unit i over the batch's cases (and positions) (eq. 2)."""
    channels = []
    for i in range(a.shape[1]):
        mu, var = mean_and_variance(a[:, i], unbiased)
        channels.append(g[i] / (var + eps).sqrt() * (a[:, i] - mu) + b[i])
    return torch.stack(channels, 1)


def bn_eval(a: Tensor, g: Tensor, b: Tensor, eps: float, mean: Tensor, var: Tensor) -> Tensor:
    """g_i/sigma_i (a_i - mu_i) + b_i with the statistics estimated on the training data (eq. 2)."""
    return torch.stack(
        [g[i] / (var[i] + eps).sqrt() * (a[:, i] - mean[i]) + b[i] for i in range(a.shape[1])],
        1,
    )


def bn_running(mean: Tensor, var: Tensor, a: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """r <- (1 - momentum) r + momentum * r_batch, with the unbiased variance (Ioffe & Szegedy 2015, algorithm 2)."""
    batch = [mean_and_variance(a[:, i], unbiased=True) for i in range(a.shape[1])]
    return (
        (1 - momentum) * mean + momentum * torch.stack([mu for mu, _ in batch]),
        (1 - momentum) * var + momentum * torch.stack([var for _, var in batch]),
    )


def ln(a: Tensor, g: Tensor, b: Tensor, eps: float) -> Tensor:
    """g_i/sigma (a_i - mu) + b_i, mu and sigma of one case over all its units (and positions) (eq. 3, 5, 15-16)."""
    cases = []
    for a_n in a:
        mu, var = mean_and_variance(a_n)
        cases.append(torch.stack([g[i] / (var + eps).sqrt() * (a_n[i] - mu) + b[i] for i in range(len(a_n))]))
    return torch.stack(cases)


def gn(a: Tensor, g: Tensor, b: Tensor, eps: float, groups: int) -> Tensor:
    """As eq. 3 with mu and sigma of one case over the C/G channels of a group (Wu & He 2018, eq. 7)."""
    cases = []
    for a_n in a:
        channels = []
        size = len(a_n) // groups
        for k in range(groups):
            group = range(k * size, (k + 1) * size)
            mu, var = mean_and_variance(torch.stack([a_n[i] for i in group]))
            channels += [g[i] / (var + eps).sqrt() * (a_n[i] - mu) + b[i] for i in group]
        cases.append(torch.stack(channels))
    return torch.stack(cases)


def instance_norm(a: Tensor, g: Tensor, b: Tensor, eps: float) -> Tensor:
    """As eq. 3 with mu and sigma of one case and one channel over the positions (Wu & He 2018, eq. 5)."""
    cases = []
    for a_n in a:
        channels = []
        for i, a_ni in enumerate(a_n):
            mu, var = mean_and_variance(a_ni)
            channels.append(g[i] / (var + eps).sqrt() * (a_ni - mu) + b[i])
        cases.append(torch.stack(channels))
    return torch.stack(cases)


def rms(a: Tensor, g: Tensor, b: Tensor, eps: float) -> Tensor:
    """g_i a_i / RMS(a) + b_i ;  RMS(a)^2 = 1/n sum_i a_i^2 of one case (Zhang & Sennrich 2019, eq. 4)."""
    cases = []
    for a_n in a:
        values = list(a_n.flatten())
        mean_square = sum(v**2 for v in values) / len(values)
        cases.append(torch.stack([g[i] * a_n[i] / (mean_square + eps).sqrt() + b[i] for i in range(len(a_n))]))
    return torch.stack(cases)


def wn_weight(v: Tensor, g: Tensor) -> Tensor:
    """w_i = g_i v_i / ||v_i||_2  (Salimans & Kingma 2016, eq. 2), which is eq. 2 with mu = 0, sigma_i = ||w_i||."""
    units = []
    for i, v_i in enumerate(v):
        norm = sum(x**2 for x in v_i.flatten()).sqrt()
        units.append(g.flatten()[i] * v_i / norm)
    return torch.stack(units)


# --- cells: one layer in one direction --------------------------------------------------------------------------------


@dataclass
class Place:
    """A normaliser's parameters at one place: gain g, shift b and, for batch normalisation, statistics per step."""

    g: Tensor
    b: Tensor
    running_mean: Tensor | None = None
    running_var: Tensor | None = None


@dataclass
class Weights:
    """W_x, W_h, b_x, b_h of all gates joined, and the normalisers' places, one for each span of units in order.

    x: on W_x x.  h: on W_h h.  sum: on their sum.  c: on the cell state.  out: on the layer's output.
    """

    W_x: Tensor
    W_h: Tensor
    b_x: Tensor
    b_h: Tensor
    x: list[Place]
    h: list[Place]
    sum: list[Place]
    c: list[Place]
    out: list[Place]


# (z (N, K), place, t) -> normalised z
Norm = Callable[[Tensor, Place, int], Tensor]


def by_span(norm: Norm, z: Tensor, places: list[Place], spans: list[int], t: int) -> Tensor:
    """LN(z) of each span of units apart: mu = 1/D sum_{i=1..D} z_i, where D is the span's length (eq. 16)."""
    assert [len(place.g) for place in places] == spans, "the layer's normalisers do not have the equation's spans"
    parts, start = [], 0
    for place, D in zip(places, spans, strict=True):
        parts.append(norm(z[:, start : start + D], place, t))
        start += D
    return torch.cat(parts, 1)


def rnn(x: Tensor, state: tuple[Tensor], p: Weights, norm: Norm, placement: str) -> tuple[Tensor, tuple[Tensor]]:
    """a_t = W_hh h_{t-1} + W_xh x_t ;  h_t = tanh( g/sigma_t (a_t - mu_t) + b )  (eq. 4)

    x (T, N, I), h (N, H). Placements: paper and per_gate (one gate: the same), input_only, between_layers, plain.
    """
    (h,) = state
    H = h.shape[1]
    outputs = []
    for t in range(len(x)):
        a_x, a_h = summed_inputs(p.W_x, x[t]), summed_inputs(p.W_h, h)
        if placement in ("paper", "per_gate"):
            a = by_span(norm, a_h + a_x, p.sum, [H], t)
        elif placement == "input_only":
            a = a_h + by_span(norm, a_x, p.x, [H], t)
        else:
            a = a_h + a_x
        h = torch.tanh(a + p.b_x + p.b_h)
        outputs.append(by_span(norm, h, p.out, [H], t) if placement == "between_layers" else h)
    return torch.stack(outputs), (h,)


def lstm(
    x: Tensor, state: tuple[Tensor, Tensor], p: Weights, norm: Norm, placement: str
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(i,f,g,o)_t = LN(W_h h_{t-1}; alpha_1) + LN(W_x x_t; alpha_2) + b     each LN over all 4H units  (eq. 20)
    c_t = s(f_t) c_{t-1} + s(i_t) tanh(g_t)                                                            (eq. 21)
    h_t = s(o_t) tanh( LN(c_t; alpha_3, beta_3) )                            the raw c_t is carried     (eq. 22)

    Placements: paper; per_gate: each gate's H units apart; cell_only: LN in eq. 22 alone; input_only: LN(W_x x) alone;
    between_layers: LN(h_t) as the output, h_t carried; plain.
    """
    h, c = state
    H = h.shape[1]
    spans = [H, H, H, H] if placement == "per_gate" else [4 * H]
    outputs = []
    for t in range(len(x)):
        z_x, z_h = summed_inputs(p.W_x, x[t]), summed_inputs(p.W_h, h)
        if placement in ("paper", "per_gate", "input_only"):
            z_x = by_span(norm, z_x, p.x, spans, t)
        if placement in ("paper", "per_gate"):
            z_h = by_span(norm, z_h, p.h, spans, t)
        z = z_h + z_x + p.b_x + p.b_h
        i, f, g, o = (z[:, k * H : (k + 1) * H] for k in range(4))
        c = logistic(f) * c + logistic(i) * torch.tanh(g)
        seen = by_span(norm, c, p.c, [H], t) if placement in ("paper", "per_gate", "cell_only") else c
        h = logistic(o) * torch.tanh(seen)
        outputs.append(by_span(norm, h, p.out, [H], t) if placement == "between_layers" else h)
    return torch.stack(outputs), (h, c)


def gru(x: Tensor, state: tuple[Tensor], p: Weights, norm: Norm, placement: str) -> tuple[Tensor, tuple[Tensor]]:
    """(r,z)_t = LN(W_h h_{t-1}; alpha_1, beta_1) + LN(W_x x_t; alpha_2, beta_2)          each LN over 2H  (eq. 26)
    n_t = tanh( LN(W x_t; alpha_3, beta_3) + s(r_t) * LN(U h_{t-1}; alpha_4, beta_4) )   each LN over H   (eq. 27)
    h_t = (1 - s(z_t)) n_t + s(z_t) h_{t-1}                                                              (eq. 28)

    As in torch.nn.GRU s(z) stands at the old state; in the paper at the new one, which is the same with z negated.
    Each beta is the part of b_x or b_h of those units.
    """
    (h,) = state
    H = h.shape[1]
    spans = [H, H, H] if placement == "per_gate" else [2 * H, H]
    outputs = []
    for t in range(len(x)):
        z_x, z_h = summed_inputs(p.W_x, x[t]), summed_inputs(p.W_h, h)
        if placement in ("paper", "per_gate", "input_only"):
            z_x = by_span(norm, z_x, p.x, spans, t)
        if placement in ("paper", "per_gate"):
            z_h = by_span(norm, z_h, p.h, spans, t)
        z_x, z_h = z_x + p.b_x, z_h + p.b_h
        r, z = (z_x[:, k * H : (k + 1) * H] + z_h[:, k * H : (k + 1) * H] for k in range(2))
        n = torch.tanh(z_x[:, 2 * H :] + logistic(r) * z_h[:, 2 * H :])
        h = (1 - logistic(z)) * n + logistic(z) * h
        outputs.append(by_span(norm, h, p.out, [H], t) if placement == "between_layers" else h)
    return torch.stack(outputs), (h,)


CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}
