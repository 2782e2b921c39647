"""One step of a fused sequence as a Triton kernel: normalisers, gates and the cell's norm, forward or backward.

Experimental: run in Triton's interpreter and compiled for GPUs, but not run on one (cuda.py).
"""

import triton
import triton.language as tl

# A program holds a tile of (BN cases, BH units) for each gate, as a tuple over the gates: all cases of a few units
# where statistics are over the batch, otherwise all units of a case. So each sum stays within one program.
#
# theta  (4F + 2H)        gain and bias of "ih" and "hh", each F = G*H wide, and of "cell", each H; `sums` likewise
# stats  (T, 2, 2F + H)   of "ih", "hh" and "cell" side by side: mean and variance (batch), or mean and 1/sigma (frozen)
# edges                   of each role's spans, role after role: the first feature of each, and one past the last
# AT                      u, H, ok, N, edges: the tile's units, and the mask of its part that lies within (N, H)
# NORM                    a role's normaliser: None, or a tuple with these places (EDGES: where its edges begin)
KIND, SPANS, EPS, CENTRED, EDGES, UNBIASED = (tl.constexpr(place) for place in range(6))


@triton.jit
def _tanh(x):
    """tanh, exact near 0 too, where (1 - e^-2x) / (1 + e^-2x) cancels: there x + x^3 P/Q(x^2) of the Cephes library."""
    x2 = x * x
    P = (-9.64399179425052238628e-1 * x2 - 9.92877231001918586564e1) * x2 - 1.61468768441708447952e3
    Q = ((x2 + 1.12811678491632931402e2) * x2 + 2.23548839060100448583e3) * x2 + 4.84406305325125486048e3
    decay = tl.exp(-2 * tl.abs(x))
    far = (1 - decay) / (1 + decay)
    return tl.where(tl.abs(x) < 0.625, x + x * x2 * (P / Q), tl.where(x < 0, -far, far))


@triton.jit
def _read(source, ok, H, G: tl.constexpr):
    tiles = ()
    for k in tl.static_range(G):
        tiles += (tl.load(source + k * H, mask=ok, other=0.0),)
    return tiles


@triton.jit
def _write(target, tiles, ok, H):
    for k in tl.static_range(len(tiles)):
        tl.store(target + k * H, tiles[k], mask=ok)


@triton.jit
def _plus(a, b):
    tiles = ()
    for k in tl.static_range(len(a)):
        tiles += (a[k] + b[k],)
    return tiles


@triton.jit
def _minus(a, b):
    tiles = ()
    for k in tl.static_range(len(a)):
        tiles += (a[k] - b[k],)
    return tiles


@triton.jit
def _times(a, b):
    tiles = ()
    for k in tl.static_range(len(a)):
        tiles += (a[k] * b[k],)
    return tiles


@triton.jit
def _over_cases(x, ok):
    sums = ()
    for k in tl.static_range(len(x)):
        sums += (tl.sum(tl.where(ok, x[k], 0.0), 0)[None, :],)
    return sums


@triton.jit
def _mean(x, AT, NORM: tl.constexpr):
    """E[x] over the values that share a statistic, for each value; broadcasts with x."""
    u, H, ok, N, edges = AT
    means = ()
    if NORM[KIND] == "batch":
        sums = _over_cases(x, ok)
        for k in tl.static_range(len(x)):
            means += (sums[k] / N,)
    elif NORM[SPANS] == 1:
        total = tl.where(ok, x[0], 0.0)
        for k in tl.static_range(1, len(x)):
            total += tl.where(ok, x[k], 0.0)
        for _ in tl.static_range(len(x)):
            means += (tl.sum(total, 1)[:, None] / (len(x) * H),)
    else:
        means = x
        for span in range(NORM[SPANS]):
            first = tl.load(edges + NORM[EDGES] + span)
            end = tl.load(edges + NORM[EDGES] + span + 1)
            total = tl.zeros_like(x[0])
            for k in tl.static_range(len(x)):
                total += tl.where(ok & (k * H + u >= first) & (k * H + u < end), x[k], 0.0)
            mean = tl.sum(total, 1)[:, None] / (end - first)
            updated = ()
            for k in tl.static_range(len(x)):
                updated += (tl.where((k * H + u >= first) & (k * H + u < end), mean, means[k]),)
            means = updated
    return means


@triton.jit
def _corrected(means, AT, NORM: tl.constexpr):
    """Means over n cases as sums over n - 1, where the variance is unbiased."""
    corrected = means
    if NORM[UNBIASED]:
        N = AT[3]
        corrected = ()
        for k in tl.static_range(len(means)):
            corrected += (means[k] * N / (N - 1),)
    return corrected


@triton.jit
def _standardise(z, stats, width, AT, NORM: tl.constexpr, STORE: tl.constexpr):
    """z^ = (z - mu) / sigma and 1/sigma, sigma^2 = E[(z - mu)^2] + eps. STORE: write a batch's mean and variance."""
    u, H = AT[0], AT[1]
    z_hat, inverse = z, z
    if NORM is not None:
        if NORM[KIND] == "frozen":
            inverse = _read(stats + width + u, u < H, H, len(z))
            z_hat = _times(_minus(z, _read(stats + u, u < H, H, len(z))), inverse)
        else:
            deviation = z
            if NORM[CENTRED]:
                mu = _mean(z, AT, NORM)
                deviation = _minus(z, mu)
            var = _mean(_times(deviation, deviation), AT, NORM)
            variance, inverse = _corrected(var, AT, NORM), ()
            for k in tl.static_range(len(z)):
                inverse += (tl.rsqrt(variance[k] + NORM[EPS]),)
            z_hat = _times(deviation, inverse)
            if STORE and NORM[KIND] == "batch":
                _write(stats + u, mu, u < H, H)
                _write(stats + width + u, var, u < H, H)
    return z_hat, inverse


@triton.jit
def _affine(z_hat, theta, AT, NORM: tl.constexpr):
    """g z^ + b, or z + b where the role has no normaliser."""
    u, H = AT[0], AT[1]
    if NORM is not None:
        z_hat = _times(z_hat, _read(theta + u, u < H, H, len(z_hat)))
    return _plus(z_hat, _read(theta + len(z_hat) * H + u, u < H, H, len(z_hat)))


@triton.jit
def _through(dy, z_hat, inverse, theta, sums, AT, NORM: tl.constexpr, BIAS: tl.constexpr):
    """dz where y = g z^ + b: dz = (v - E[v] - z^ E[v z^]) / sigma, v = g dy; no E[v] where mu = 0, no E's if frozen.
    The second E is over n - 1 where sigma^2 is.

    Adds dg = sum dy z^ and, if BIAS, db = sum dy, over this program's cases, to the sums over the steps.
    """
    u, H, ok = AT[0], AT[1], AT[2]
    dz = dy
    if NORM is not None:
        v = _times(dy, _read(theta + u, u < H, H, len(dy)))
        dz = v
        if NORM[KIND] != "frozen":
            dz = _minus(v, _times(z_hat, _corrected(_mean(_times(v, z_hat), AT, NORM), AT, NORM)))
            if NORM[CENTRED]:
                dz = _minus(dz, _mean(v, AT, NORM))
        dz = _times(dz, inverse)
        dg = _plus(_read(sums + u, u < H, H, len(dy)), _over_cases(_times(dy, z_hat), ok))
        _write(sums + u, dg, u < H, H)
    if BIAS:
        shifts = sums + len(dy) * H + u
        _write(shifts, _plus(_read(shifts, u < H, H, len(dy)), _over_cases(dy, ok)), u < H, H)
    return dz


@triton.jit(do_not_specialize=["s"])
def _step(
    s, A, R, h, c, theta, stats, edges, dy, dh, dc, dA, dR, sums, N, H,
    CELL: tl.constexpr, JOINED: tl.constexpr, IN: tl.constexpr, HH: tl.constexpr, OF_CELL: tl.constexpr,
    G: tl.constexpr, BN: tl.constexpr, BH: tl.constexpr, KEEP: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Step s: h_t and c_t from A_t and R_t. BACKWARD: from dy_t and the dh, dc that come from step t+1, dA_t and dR_t.

    One function with flat arguments, since a program keeps its tiles in registers and Triton passes no structures.
    A, R, dA, dR (T, N, F); R without KEEP (1, N, F); no R where JOINED, when A is the sum of both. dy (T, N, H).
    h (T+1, N, H), row 0 the initial state; c likewise, without KEEP (2, N, H) in turns. dc (N, H): left as step t-1
    needs it; dh (N, H): as far as h_{t-1} reaches h_t past the product. stats and edges only where they are needed.
    """
    F = G * H
    width = 2 * F + H
    s = tl.cast(s, tl.int64)  # offsets can lie beyond 2^31
    n = tl.program_id(0) * BN + tl.arange(0, BN)[:, None]
    u = tl.program_id(1) * BH + tl.arange(0, BH)[None, :]
    ok = (n < N) & (u < H)
    AT = (u, H, ok, N, edges)
    unit = n * H + u
    of_gates = s * N * F + n * F + u  # A_t
    before = s * N * H + unit  # h_{t-1}
    after = before + N * H  # h_t
    stats += s * 2 * width

    a_hat, a_inverse = _standardise(_read(A + of_gates, ok, H, G), stats, width, AT, IN, not BACKWARD)
    z = _affine(a_hat, theta, AT, IN)
    if not JOINED:
        R_t = R + (of_gates if KEEP else n * F + u)
        r_hat, r_inverse = _standardise(_read(R_t, ok, H, G), stats + F, width, AT, HH, not BACKWARD)
        v = _affine(r_hat, theta + 2 * F, AT, HH)
        if CELL != "gru":
            z = _plus(z, v)
    if CELL == "rnn":
        h_t = _tanh(z[0])
    if CELL == "lstm":
        c_before = tl.load(c + (before if KEEP else (s % 2) * N * H + unit), mask=ok, other=0.0)
        i, f, g, o = tl.sigmoid(z[0]), tl.sigmoid(z[1]), _tanh(z[2]), tl.sigmoid(z[3])
        c_t = f * c_before + i * g
        c_hat, c_inverse = _standardise((c_t,), stats + 2 * F, width, AT, OF_CELL, not BACKWARD)
        m = _tanh(_affine(c_hat, theta + 4 * F, AT, OF_CELL)[0])
        h_t = o * m
    if CELL == "gru":
        h_before = tl.load(h + before, mask=ok, other=0.0)
        r, q = tl.sigmoid(z[0] + v[0]), tl.sigmoid(z[1] + v[1])  # q: the z of the equations
        new = _tanh(z[2] + r * v[2])
        h_t = new + q * (h_before - new)

    if not BACKWARD:
        tl.store(h + after, h_t, mask=ok)
        if CELL == "lstm":
            tl.store(c + (after if KEEP else (1 - s % 2) * N * H + unit), c_t, mask=ok)
    else:
        sums += tl.program_id(0) * (4 * F + 2 * H)
        d = tl.load(dh + unit, mask=ok, other=0.0) + tl.load(dy + before, mask=ok, other=0.0)
        if CELL == "rnn":
            dz = (d * (1 - h_t * h_t),)
        if CELL == "lstm":
            dm = (d * o * (1 - m * m),)
            d_cell = _through(dm, c_hat, c_inverse, theta + 4 * F, sums + 4 * F, AT, OF_CELL, True)
            e = tl.load(dc + unit, mask=ok, other=0.0) + d_cell[0]
            dz = (e * g * i * (1 - i), e * c_before * f * (1 - f), e * i * (1 - g * g), d * m * o * (1 - o))
            tl.store(dc + unit, e * f, mask=ok)
        dv = ()
        if CELL == "gru":
            d_new = d * (1 - q) * (1 - new * new)
            dz = (d_new * v[2] * r * (1 - r), d * (h_before - new) * q * (1 - q), d_new)
            dv = (dz[0], dz[1], d_new * r)
            tl.store(dh + unit, d * q, mask=ok)
        else:
            dv = dz
        _write(dA + of_gates, _through(dz, a_hat, a_inverse, theta, sums, AT, IN, True), ok, H)
        if not JOINED:
            dr = _through(dv, r_hat, r_inverse, theta + 2 * F, sums + 2 * F, AT, HH, CELL == "gru")
            _write(dR + of_gates, dr, ok, H)
