// Normalisers of one step, forward and backward: over spans of a case, over the batch, or with given statistics.

#pragma once

#include "interface.h"
#include "vectors.h"

template <class T>
struct Statistics {
    T *mean, *rstd, *var;
};

// of a step for the cases from n on
template <class T>
Statistics<T> statistics(const Norm& norm, const Step& step, int n) {
    const int64_t at = norm.over == CASE ? step.row * norm.width + int64_t(n) * norm.spans : step.s * norm.width;
    return {(T*)norm.mean + at, (T*)norm.rstd + at, (T*)norm.var + at};
}

// 1/sqrt(v), v = variance + eps. Where the squares overflow it is NaN, as in torch's layer and group normalisation; of a
// mean square it is 0, as in torch's rms_norm.
template <class T>
T rstd_of(T v, bool centred = true) {
    return 1 / std::sqrt(v) + (centred ? v - v : T(0));
}

// y = base + n(x) for one case: mean and variance over each span. base and y may be the same.
template <class T>
[[gnu::flatten]] void case_forward(const Norm& norm, Statistics<T> at, const T* x, const T* base, T* y) {
    const T* gain = (const T*)norm.gain;
    for (int span = 0, lo = 0; span < norm.spans; span++) {
        const int m = norm.ends[span] - lo;
        T mean = 0;
        if (norm.centred) {
            Sum<T> sum;
            each_in_turn<T>(m, [&](int j, auto n, auto k) { sum.part[k] += load(x + lo + j, n); });
            mean = total<T>(sum.lanes()) / m;
        }
        Sum<T> squares;
        each_in_turn<T>(m, [&](int j, auto n, auto k) {
            Vec<T> d = load(x + lo + j, n) - mean;
            if constexpr (std::is_same_v<decltype(n), Part>) d = load((T*)&d, n);  // no -mean in the empty lanes
            squares.part[k] += d * d;
        });
        const T rstd = rstd_of(total<T>(squares.lanes()) / m + T(norm.eps), norm.centred);
        each<T>(m, [&](int j, auto n) {
            j += lo;
            store(y + j, load(base + j, n) + load(gain + j, n) * ((load(x + j, n) - mean) * rstd), n);
        });
        at.mean[span] = mean, at.rstd[span] = rstd;
        lo += m;
    }
}

// dx = rstd (g dy - mean(g dy) - xhat mean(g dy xhat)); the first mean only where centred
template <class T>
[[gnu::flatten]] void case_backward(const Norm& norm, Statistics<T> at, const T* x, const T* dy, T* dx, T* gain_grad) {
    const T* gain = (const T*)norm.gain;
    for (int span = 0, lo = 0; span < norm.spans; span++) {
        const int m = norm.ends[span] - lo;
        const T mean = at.mean[span], rstd = at.rstd[span];
        Sum<T> sum, product;
        each_in_turn<T>(m, [&](int j, auto n, auto k) {
            j += lo;
            Vec<T> d = load(dy + j, n), xhat = (load(x + j, n) - mean) * rstd;
            store(gain_grad + j, load(gain_grad + j, n) + d * xhat, n);
            d *= load(gain + j, n);
            sum.part[k] += d, product.part[k] += d * xhat;  // empty lanes: d = 0
        });
        const T a = norm.centred ? total<T>(sum.lanes()) / m : 0, b = total<T>(product.lanes()) / m;
        each<T>(m, [&](int j, auto n) {
            j += lo;
            Vec<T> xhat = (load(x + j, n) - mean) * rstd;
            store(dx + j, (load(gain + j, n) * load(dy + j, n) - a - xhat * b) * rstd, n);
        });
        lo += m;
    }
}

// Both terms of an LSTM at once, z = base + n_ih(a) + n_hh(r): their sums do not wait for each other, and what they
// share is read once. Their spans agree.
template <class T>
[[gnu::flatten]] void pair_forward(const Norm& norm_ih, const Norm& norm_hh, Statistics<T> at_a, Statistics<T> at_r,
                                   const T* a, const T* r, const T* base, T* z) {
    const T *gain_a = (const T*)norm_ih.gain, *gain_r = (const T*)norm_hh.gain;
    for (int span = 0, lo = 0; span < norm_ih.spans; span++) {
        const int m = norm_ih.ends[span] - lo;
        T mean_a = 0, mean_r = 0;
        if (norm_ih.centred) {
            Sum<T> sum_a, sum_r;
            each_in_turn<T>(m, [&](int j, auto n, auto k) {
                sum_a.part[k] += load(a + lo + j, n), sum_r.part[k] += load(r + lo + j, n);
            });
            mean_a = total<T>(sum_a.lanes()) / m, mean_r = total<T>(sum_r.lanes()) / m;
        }
        Sum<T> squares_a, squares_r;
        each_in_turn<T>(m, [&](int j, auto n, auto k) {
            Vec<T> d = load(a + lo + j, n) - mean_a, e = load(r + lo + j, n) - mean_r;
            if constexpr (std::is_same_v<decltype(n), Part>) d = load((T*)&d, n), e = load((T*)&e, n);
            squares_a.part[k] += d * d, squares_r.part[k] += e * e;
        });
        const T rstd_a = rstd_of(total<T>(squares_a.lanes()) / m + T(norm_ih.eps), norm_ih.centred);
        const T rstd_r = rstd_of(total<T>(squares_r.lanes()) / m + T(norm_hh.eps), norm_hh.centred);
        each<T>(m, [&](int j, auto n) {
            j += lo;
            // the next case; a page ends where a row does
            __builtin_prefetch(a + j + m);
            __builtin_prefetch(r + j + m);
            const Vec<T> xhat_a = (load(a + j, n) - mean_a) * rstd_a, xhat_r = (load(r + j, n) - mean_r) * rstd_r;
            store(z + j, load(base + j, n) + load(gain_a + j, n) * xhat_a + load(gain_r + j, n) * xhat_r, n);
        });
        at_a.mean[span] = mean_a, at_a.rstd[span] = rstd_a, at_r.mean[span] = mean_r, at_r.rstd[span] = rstd_r;
        lo += m;
    }
}
template <class T>
struct Gradients {
    T *base, *gain_a, *gain_r;
};
template <class T>
[[gnu::flatten]] void pair_backward(const Norm& norm_ih, const Norm& norm_hh, Statistics<T> at_a, Statistics<T> at_r,
                                    const T* a, const T* r, const T* dz, T* da, T* dr, Gradients<T> to) {
    const T *gain_a = (const T*)norm_ih.gain, *gain_r = (const T*)norm_hh.gain;
    for (int span = 0, lo = 0; span < norm_ih.spans; span++) {
        const int m = norm_ih.ends[span] - lo;
        const T mean_a = at_a.mean[span], rstd_a = at_a.rstd[span], mean_r = at_r.mean[span], rstd_r = at_r.rstd[span];
        Sum<T> sum_a, sum_r, product_a, product_r;
        each_in_turn<T>(m, [&](int j, auto n, auto k) {
            j += lo;
            const Vec<T> d = load(dz + j, n);
            const Vec<T> p = d * ((load(a + j, n) - mean_a) * rstd_a), q = d * ((load(r + j, n) - mean_r) * rstd_r);
            store(to.base + j, load(to.base + j, n) + d, n);
            store(to.gain_a + j, load(to.gain_a + j, n) + p, n), store(to.gain_r + j, load(to.gain_r + j, n) + q, n);
            const Vec<T> g_a = load(gain_a + j, n), g_r = load(gain_r + j, n);
            sum_a.part[k] += g_a * d, product_a.part[k] += g_a * p, sum_r.part[k] += g_r * d,
                product_r.part[k] += g_r * q;
        });
        const T s_a = norm_ih.centred ? total<T>(sum_a.lanes()) / m : 0, p_a = total<T>(product_a.lanes()) / m;
        const T s_r = norm_ih.centred ? total<T>(sum_r.lanes()) / m : 0, p_r = total<T>(product_r.lanes()) / m;
        each<T>(m, [&](int j, auto n) {
            j += lo;
            const Vec<T> d = load(dz + j, n);
            const Vec<T> xhat_a = (load(a + j, n) - mean_a) * rstd_a, xhat_r = (load(r + j, n) - mean_r) * rstd_r;
            store(da + j, (load(gain_a + j, n) * d - s_a - xhat_a * p_a) * rstd_a, n);
            store(dr + j, (load(gain_r + j, n) * d - s_r - xhat_r * p_r) * rstd_r, n);
        });
        lo += m;
    }
}

// A single case has no variance: it takes the statistics that were given.
inline bool given(const Norm& norm, int N) { return norm.over == FROZEN || N == 1; }

// The same for a block of cases, mean and variance over the block for each feature
template <class T>
[[gnu::flatten]] void batch_forward(const Norm& norm, Statistics<T> at, int N, int m, const T* x, const T* base,
                                    int64_t base_row, T* y) {
    const T* gain = (const T*)norm.gain;
    each<T>(m, [&](int j, auto n) {
        Vec<T> sum = {}, squares = {};
        for (int i = 0; i < N; i++) sum += load(x + int64_t(i) * m + j, n);
        const Vec<T> mean = sum / T(N);
        for (int i = 0; i < N; i++) {
            const Vec<T> d = load(x + int64_t(i) * m + j, n) - mean;
            squares += d * d;
        }
        Vec<T> rstd = squares / T(N - norm.unbiased) + T(norm.eps);
        for (int k = 0; k < LANES<T>; k++) rstd[k] = rstd_of(rstd[k]);
        const Vec<T> scale = load(gain + j, n) * rstd;
        for (int i = 0; i < N; i++)
            store(y + int64_t(i) * m + j,
                  load(base + i * base_row + j, n) + scale * (load(x + int64_t(i) * m + j, n) - mean), n);
        store(at.mean + j, mean, n), store(at.rstd + j, rstd, n), store(at.var + j, squares / T(N), n);
    });
}
template <class T>
[[gnu::flatten]] void batch_backward(const Norm& norm, Statistics<T> at, int N, int m, const T* x, const T* dy, T* dx,
                                     T* gain_grad) {
    const T* gain = (const T*)norm.gain;
    each<T>(m, [&](int j, auto n) {
        const Vec<T> mean = load(at.mean + j, n), rstd = load(at.rstd + j, n);
        Vec<T> sum = {}, product = {};
        for (int i = 0; i < N; i++) {
            const Vec<T> d = load(dy + int64_t(i) * m + j, n);
            sum += d, product += d * ((load(x + int64_t(i) * m + j, n) - mean) * rstd);
        }
        store(gain_grad + j, load(gain_grad + j, n) + product, n);
        const bool frozen = given(norm, N);
        const Vec<T> a = frozen ? Vec<T>{} : sum / T(N);
        const Vec<T> b = frozen ? Vec<T>{} : product * rstd / T(N - norm.unbiased);
        const Vec<T> scale = load(gain + j, n) * rstd;
        for (int i = 0; i < N; i++) {
            const int64_t at_ij = int64_t(i) * m + j;
            store(dx + at_ij, scale * (load(dy + at_ij, n) - a - (load(x + at_ij, n) - mean) * b), n);
        }
    });
}
template <class T>
[[gnu::flatten]] void frozen_forward(const Norm& norm, Statistics<T> at, int N, int m, const T* x, const T* base,
                                     int64_t base_row, T* y) {
    const T* gain = (const T*)norm.gain;
    for (int i = 0; i < N; i++, x += m, y += m, base += base_row)
        each<T>(m, [&](int j, auto n) {
            const Vec<T> scale = load(gain + j, n) * load(at.rstd + j, n);
            store(y + j, load(base + j, n) + scale * (load(x + j, n) - load(at.mean + j, n)), n);
        });
}

// y = base + n(x) for N cases of m features from case n of a step on; base_row is 0 for a vector of biases
template <class T>
void norm_forward(const Norm& norm, const Step& step, int n, int N, int m, const T* x, const T* base, int64_t base_row,
                  T* y) {
    if (norm.over == BATCH || norm.over == FROZEN) {
        const auto forward = given(norm, N) ? frozen_forward<T> : batch_forward<T>;
        return forward(norm, statistics<T>(norm, step, n), N, m, x, base, base_row, y);
    }
    for (int i = 0; i < N; i++, x += m, y += m, base += base_row) {
        if (norm.over == CASE)
            case_forward(norm, statistics<T>(norm, step, n + i), x, base, y);
        else
            each<T>(m, [&](int j, auto k) { store(y + j, load(base + j, k) + load(x + j, k), k); });
    }
}
template <class T>
void norm_backward(const Norm& norm, const Step& step, int n, int N, int m, const T* x, const T* dy, T* dx,
                   T* gain_grad) {
    if (norm.over == CASE)
        for (int i = 0; i < N; i++, x += m, dy += m, dx += m)
            case_backward(norm, statistics<T>(norm, step, n + i), x, dy, dx, gain_grad);
    else
        batch_backward(norm, statistics<T>(norm, step, n), N, m, x, dy, dx, gain_grad);
}
