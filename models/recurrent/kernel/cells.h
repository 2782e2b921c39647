// The cells' equations for one case and one step, forward and backward.

#pragma once

#include "vectors.h"

// z (4H) -> gates, c
template <class T>
[[gnu::flatten]] void lstm_state(int H, const T* z, const T* c_prev, T* gates, T* c) {
    each<T>(H, [&](int j, auto n) {
        const Vec<T> i = sigmoid(load(z + j, n)), f = sigmoid(load(z + H + j, n));
        const Vec<T> g = tanh(load(z + 2 * H + j, n)), o = sigmoid(load(z + 3 * H + j, n));
        store(gates + j, i, n), store(gates + H + j, f, n), store(gates + 2 * H + j, g, n);
        store(gates + 3 * H + j, o, n);
        store(c + j, f * load(c_prev + j, n) + i * g, n);
    });
}
template <class T>
[[gnu::flatten]] void lstm_output(int H, const T* gates, const T* normed, T* u, T* h) {
    each<T>(H, [&](int j, auto n) {
        const Vec<T> tanh_c = tanh(load(normed + j, n));
        store(u + j, tanh_c, n);
        store(h + j, load(gates + 3 * H + j, n) * tanh_c, n);
    });
}
// dh -> dz of the output gate, and the gradient of tanh's argument
template <class T>
[[gnu::flatten]] void lstm_output_backward(int H, const T* gates, const T* u, const T* dh, T* dz, T* dnormed) {
    each<T>(H, [&](int j, auto n) {
        const Vec<T> d = load(dh + j, n), o = load(gates + 3 * H + j, n), t = load(u + j, n);
        store(dz + 3 * H + j, d * t * o * (T(1) - o), n);
        store(dnormed + j, d * o * (T(1) - t * t), n);
    });
}
// dc (with the output's part) -> dz of the other gates, dc of the step before
template <class T>
[[gnu::flatten]] void lstm_state_backward(int H, const T* gates, const T* c_prev, const T* dcell, T* dc, T* dz) {
    each<T>(H, [&](int j, auto n) {
        const Vec<T> i = load(gates + j, n), f = load(gates + H + j, n), g = load(gates + 2 * H + j, n);
        const Vec<T> d = load(dc + j, n) + load(dcell + j, n);
        store(dz + j, d * g * i * (T(1) - i), n);
        store(dz + H + j, d * load(c_prev + j, n) * f * (T(1) - f), n);
        store(dz + 2 * H + j, d * i * (T(1) - g * g), n);
        store(dc + j, d * f, n);
    });
}

// u, v (3H) -> gates (r, z, n), h
template <class T>
[[gnu::flatten]] void gru_step(int H, const T* u, const T* v, const T* h_prev, T* gates, T* v_n, T* h) {
    each<T>(H, [&](int j, auto k) {
        const Vec<T> r = sigmoid(load(u + j, k) + load(v + j, k)), vn = load(v + 2 * H + j, k);
        const Vec<T> z = sigmoid(load(u + H + j, k) + load(v + H + j, k)), n = tanh(load(u + 2 * H + j, k) + r * vn);
        store(gates + j, r, k), store(gates + H + j, z, k), store(gates + 2 * H + j, n, k), store(v_n + j, vn, k);
        store(h + j, n + z * (load(h_prev + j, k) - n), k);
    });
}
// dh -> du, dv (3H each), and dh becomes the part of h_{t-1}'s gradient that does not pass through W_hh
template <class T>
[[gnu::flatten]] void gru_backward(int H, const T* gates, const T* v_n, const T* h_prev, T* dh, T* du, T* dv) {
    each<T>(H, [&](int j, auto k) {
        const Vec<T> r = load(gates + j, k), z = load(gates + H + j, k), n = load(gates + 2 * H + j, k);
        const Vec<T> d = load(dh + j, k), dn = d * (T(1) - z) * (T(1) - n * n);
        const Vec<T> dr = dn * load(v_n + j, k) * r * (T(1) - r), dz = d * (load(h_prev + j, k) - n) * z * (T(1) - z);
        store(du + j, dr, k), store(du + H + j, dz, k), store(du + 2 * H + j, dn, k);
        store(dv + j, dr, k), store(dv + H + j, dz, k), store(dv + 2 * H + j, dn * r, k);
        store(dh + j, d * z, k);
    });
}

template <class T>
[[gnu::flatten]] void add_rows(int N, int m, const T* rows, T* sum) {
    for (int i = 0; i < N; i++, rows += m)
        each<T>(m, [&](int j, auto n) { store(sum + j, load(sum + j, n) + load(rows + j, n), n); });
}
