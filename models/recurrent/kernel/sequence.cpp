// Normalised RNN, LSTM and GRU over a whole sequence, forward and backward, on a CPU. The equations are in spec.py, the
// caller and the layout of every buffer in cpu.py. A plain C interface and no header of torch: builds in seconds.

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "cells.h"
#include "interface.h"
#include "normalisers.h"
#include "products.h"

template <class T>
struct Buffer {  // aligned to a vector
    std::vector<T> data;
    T* at;
    explicit Buffer(int64_t size) : data(size + LANES<T>) {
        at = data.data() + (BYTES - (uintptr_t)data.data() % BYTES) % BYTES / sizeof(T);
    }
};

bool paired(const Sequence& q) {
    const Norm &a = q.norm_ih, &r = q.norm_hh;
    return q.cell == LSTM && a.over == CASE && r.over == CASE && a.spans == r.spans && a.centred == r.centred &&
           std::equal(a.ends, a.ends + a.spans, r.ends);
}
bool whole_batch(const Sequence& q) {
    return q.norm_ih.over == BATCH || q.norm_hh.over == BATCH || q.norm_cell.over == BATCH;
}

int gates_of(const Sequence& q) { return q.cell == LSTM ? 4 : q.cell == GRU ? 3 : 1; }

// f(step, first case, rows) for steps [t0, t1) and cases [n0, n1): once for all where they lie side by side
template <class F>
void each_block(const Sequence& q, int t0, int t1, int n0, int n1, F f) {
    if (n1 - n0 == q.N)
        f(t0, 0, (t1 - t0) * q.N);
    else
        for (int t = t0; t < t1; t++) f(t, n0, n1 - n0);
}

// A = x W_ih' of steps [t0, t1), which lie side by side in A, and cases [n0, n1)
template <class T>
void multiply_inputs(const Sequence& q, int t0, int t1, int n0, int n1) {
    const int m = gates_of(q) * q.H;
    each_block(q, t0, t1, n0, n1, [&](int t, int n, int rows) {
        multiply<T>((T*)q.x + (int64_t(t) * q.N + n) * q.I, q.I, (T*)q.packed_ih, rows, q.I, m,
                    (T*)q.A + (int64_t(t % q.window) * q.N + n) * m, m, false);
    });
}

// dx = dA W_ih, likewise
template <class T>
void multiply_input_gradients(const Sequence& q, int t0, int t1, int n0, int n1) {
    const int m = gates_of(q) * q.H;
    each_block(q, t0, t1, n0, n1, [&](int t, int n, int rows) {
        const int64_t row = int64_t(t) * q.N + n;
        multiply<T>((T*)q.A + row * m, m, (T*)q.packed_ih, rows, m, q.I, (T*)q.dx + row * q.I, q.I, false);
    });
}

// The few steps that `t` belongs to, whose products with W_ih are made at once: [first, last).
struct Few {
    int first, last;
    Few(const Sequence& q, int t) : first(t - t % q.together), last(std::min(first + q.together, q.T)) {}
};

// Cases [n0, n1) from the first step to the last. A chunk of cases passes through all of a step while it is in the
// cache: one case, or all of them where statistics are taken over the batch.
template <class T>
void forward_cases(const Sequence& q, int n0, int n1) {
    const int H = q.H, m = gates_of(q) * H, chunk = whole_batch(q) ? n1 - n0 : 1;
    const int64_t NH = int64_t(q.N) * H, Nm = int64_t(q.N) * m;
    const bool pair = paired(q) && chunk == 1;
    Buffer<T> z_ih(int64_t(chunk) * m), z_hh(int64_t(chunk) * m), cell(int64_t(chunk) * H);
    for (int s = 0; s < q.T; s++) {
        const int t = q.reverse ? q.T - 1 - s : s;
        const int64_t before = q.reverse ? t + 1 : t, after = q.reverse ? t : t + 1;
        // The next few steps' share of A is made while it is still in the cache when they come.
        const Few few(q, t);
        if (t == (q.reverse ? few.last - 1 : few.first) && !whole_batch(q))
            multiply_inputs<T>(q, few.first, few.last, n0, n1);
        T *A = (T*)q.A + t % q.window * Nm, *R = (T*)q.R + t * q.r_step;
        T* gates = q.gates ? (T*)q.gates + t * q.gates_step : A;
        T *v = (T*)q.v + t * q.u_step, *u = (T*)q.u + t * q.u_step;
        const T *h_prev = (T*)q.h + before * NH, *c_prev = (T*)q.c + before * q.c_step;
        T *h = (T*)q.h + after * NH, *c = (T*)q.c + after * q.c_step;
        T* product = (q.joined ? A : R) + int64_t(n0) * m;
        const int64_t rows = n1 - n0;
        Soon<T> soon;
        soon.add((T*)q.gates, t * q.gates_step + int64_t(n0) * m, rows * m);
        const int later = q.reverse ? t - q.together : t + q.together;
        if (!whole_batch(q) && later >= 0 && later < q.T)
            soon.add((T*)q.x, (int64_t(later) * q.N + n0) * q.I, rows * q.I);
        multiply<T>(h_prev + int64_t(n0) * H, H, (T*)q.packed_hh, rows, H, m, product, m, q.joined, soon);
        for (int n = n0; n < n1; n += chunk) {
            const int64_t nm = int64_t(n) * m, nH = int64_t(n) * H;
            const T* z = A + nm;
            if (pair) {
                const auto at_a = statistics<T>(q.norm_ih, s, n), at_r = statistics<T>(q.norm_hh, s, n);
                pair_forward(q.norm_ih, q.norm_hh, at_a, at_r, A + nm, R + nm, (T*)q.b_ih, z_hh.at);
                z = z_hh.at;
            } else if (q.norm_ih.over != NOTHING || q.b_ih) {
                norm_forward<T>(q.norm_ih, s, n, chunk, m, z, (T*)q.b_ih, 0, z_ih.at);
                z = z_ih.at;
            }
            if (q.cell == GRU) {
                norm_forward<T>(q.norm_hh, s, n, chunk, m, R + nm, (T*)q.b_hh, 0, z_hh.at);
            } else if (!q.joined && !pair) {
                norm_forward<T>(q.norm_hh, s, n, chunk, m, R + nm, z, m, z_hh.at);
                z = z_hh.at;
            }
            for (int i = 0; i < chunk; i++) {
                const int64_t im = int64_t(i) * m, iH = nH + int64_t(i) * H;
                if (q.cell == LSTM)
                    lstm_state(H, z + im, c_prev + iH, gates + nm + im, c + iH);
                else if (q.cell == GRU)
                    gru_step(H, z + im, z_hh.at + im, h_prev + iH, gates + nm + im, v + iH, h + iH);
                else
                    each<T>(H, [&](int j, auto k) { store(h + iH + j, tanh(load(z + im + j, k)), k); });
            }
            if (q.cell != LSTM) continue;
            const T* normed = c + nH;
            if (q.norm_cell.over != NOTHING) {
                norm_forward<T>(q.norm_cell, s, n, chunk, H, normed, (T*)q.b_cell, 0, cell.at);
                normed = cell.at;
            }
            for (int i = 0; i < chunk; i++)
                lstm_output(H, gates + nm + int64_t(i) * m, normed + int64_t(i) * H, u + nH + int64_t(i) * H,
                            h + nH + int64_t(i) * H);
        }
    }
}

// Gradients of b_ih, b_hh, the gains of both terms (GH each), b_cell and its gain (H each), summed over these cases
// into `sums`. Each step is summed by itself first, as in a loop over steps: one long sum would round three times as
// much.
template <class T>
void backward_cases(const Sequence& q, int n0, int n1, T* sums) {
    const int H = q.H, m = gates_of(q) * H, chunk = whole_batch(q) ? n1 - n0 : 1;
    const int64_t NH = int64_t(q.N) * H, Nm = int64_t(q.N) * m;
    const int size = 4 * m + 2 * H;
    Buffer<T> of_step(size);
    T *db_ih = of_step.at, *db_hh = db_ih + m, *dg_ih = db_hh + m, *dg_hh = dg_ih + m, *db_cell = dg_hh + m;
    T* dg_cell = db_cell + H;
    const bool same =
        q.joined || (q.norm_ih.over == NOTHING && q.norm_hh.over == NOTHING && q.cell != GRU);  // dA is dR
    const bool pair = paired(q) && chunk == 1;
    Buffer<T> scratch(int64_t(chunk) * m), scratch_v(int64_t(chunk) * m), dnormed(int64_t(chunk) * H),
        dcell(int64_t(chunk) * H);
    T *dh = (T*)q.dh, *dc = (T*)q.dc;
    for (int s = q.T - 1; s >= 0; s--) {
        const int t = q.reverse ? q.T - 1 - s : s;
        const int64_t before = q.reverse ? t + 1 : t, after = q.reverse ? t : t + 1;
        T *A = (T*)q.A + t * Nm, *dA = A, *dR = (T*)q.dR + t * Nm;
        const T* R = (T*)q.R + t * q.r_step;
        const T* gates = q.gates ? (T*)q.gates + t * q.gates_step : A;
        const T *v = (T*)q.v + t * q.u_step, *u = (T*)q.u + t * q.u_step;
        const T *h_prev = (T*)q.h + before * NH, *h = (T*)q.h + after * NH;
        const T *c_prev = (T*)q.c + before * q.c_step, *c = (T*)q.c + after * q.c_step;
        for (int n = n0; n < n1; n += chunk) {
            const int64_t nm = int64_t(n) * m, nH = int64_t(n) * H;
            if (q.dy) {
                const T* dy = (T*)q.dy + t * NH + nH;
                each<T>(chunk * H,
                        [&](int j, auto k) { store(dh + nH + j, load(dh + nH + j, k) + load(dy + j, k), k); });
            }
            T* dz = q.norm_ih.over == NOTHING ? dA + nm : scratch.at;             // of n_ih's output
            T* dv = q.norm_hh.over == NOTHING && !same ? dR + nm : scratch_v.at;  // of n_hh's output, for a gru
            if (q.cell == LSTM) {
                const bool normed = q.norm_cell.over != NOTHING;
                T* d_tanh = normed ? dnormed.at : dcell.at;
                for (int i = 0; i < chunk; i++) {
                    const int64_t im = int64_t(i) * m, iH = int64_t(i) * H;
                    lstm_output_backward(H, gates + nm + im, u + nH + iH, dh + nH + iH, dz + im, d_tanh + iH);
                }
                if (normed) {
                    add_rows(chunk, H, dnormed.at, db_cell);
                    norm_backward<T>(q.norm_cell, s, n, chunk, H, c + nH, dnormed.at, dcell.at, dg_cell);
                }
                for (int i = 0; i < chunk; i++) {
                    const int64_t im = int64_t(i) * m, iH = int64_t(i) * H;
                    lstm_state_backward(H, gates + nm + im, c_prev + nH + iH, dcell.at + iH, dc + nH + iH, dz + im);
                }
            } else if (q.cell == GRU) {
                for (int i = 0; i < chunk; i++) {
                    const int64_t im = int64_t(i) * m, iH = nH + int64_t(i) * H;
                    gru_backward(H, gates + nm + im, v + iH, h_prev + iH, dh + iH, dz + im, dv + im);
                }
                add_rows(chunk, m, dv, db_hh);
            } else {
                each<T>(chunk * H, [&](int j, auto k) {
                    const Vec<T> y = load(h + nH + j, k);
                    store(dz + j, load(dh + nH + j, k) * (T(1) - y * y), k);
                });
            }
            if (pair) {
                const auto at_a = statistics<T>(q.norm_ih, s, n), at_r = statistics<T>(q.norm_hh, s, n);
                pair_backward<T>(q.norm_ih, q.norm_hh, at_a, at_r, A + nm, R + nm, dz, dA + nm, dR + nm,
                                 {db_ih, dg_ih, dg_hh});
                continue;
            }
            add_rows(chunk, m, dz, db_ih);
            if (q.norm_ih.over != NOTHING) norm_backward<T>(q.norm_ih, s, n, chunk, m, A + nm, dz, dA + nm, dg_ih);
            if (q.cell != GRU) dv = dz;
            if (q.norm_hh.over != NOTHING)
                norm_backward<T>(q.norm_hh, s, n, chunk, m, R + nm, dv, dR + nm, dg_hh);
            else if (!same && dv != dR + nm)
                std::copy(dv, dv + int64_t(chunk) * m, dR + nm);
        }
        add_rows(1, size, of_step.at, sums);
        std::fill(of_step.at, of_step.at + size, T(0));
        Soon<T> soon;
        if (s > 0) {
            const int next = q.reverse ? t + 1 : t - 1;
            const int64_t nm = int64_t(n0) * m, nH = int64_t(n0) * H, rows = n1 - n0;
            soon.add((T*)q.gates, next * q.gates_step + nm, rows * m);
            soon.add((T*)q.u, next * q.u_step + nH, rows * H);
            soon.add((T*)q.v, next * q.u_step + nH, rows * H);
            soon.add((T*)q.c, (q.reverse ? next + 1 : next) * q.c_step + nH, rows * H);
            soon.add((T*)q.A, next * Nm + nm, rows * m);
            if (q.r_step) soon.add((T*)q.R, next * q.r_step + nm, rows * m);
            soon.add((T*)q.dy, next * NH + nH, rows * H);
        }
        multiply<T>(dR + int64_t(n0) * m, m, (T*)q.packed_hh, n1 - n0, m, H, dh + int64_t(n0) * H, H, q.cell == GRU,
                    soon);
        const Few few(q, t);
        if (q.dx && t == (q.reverse ? few.last - 1 : few.first) && !whole_batch(q))
            multiply_input_gradients<T>(q, few.first, few.last, n0, n1);
    }
}

// f(first, last, thread) for so many threads, each on its own of `count`
template <class F>
void split(int count, int threads, F f) {
    threads = std::max(1, std::min(threads, count));
    std::vector<std::thread> others;
    for (int k = 1; k < threads; k++)
        others.emplace_back(f, int(int64_t(count) * k / threads), int(int64_t(count) * (k + 1) / threads), k);
    f(0, count / threads, 0);
    for (auto& thread : others) thread.join();
}
template <class F>
void split_cases(const Sequence& q, F f) {
    split(q.N, whole_batch(q) ? 1 : q.threads, f);
}

template <class T>
int forward(const Sequence& q) try {
    const int m = gates_of(q) * q.H;
    const int64_t NH = int64_t(q.N) * q.H, first = q.reverse ? q.T : 0, last = q.T - first;
    std::copy((T*)q.h0, (T*)q.h0 + NH, (T*)q.h + first * NH);
    if (q.c0) std::copy((T*)q.c0, (T*)q.c0 + NH, (T*)q.c + first * q.c_step);
    pack<T>((T*)q.W_ih, 1, q.I, q.I, m, (T*)q.packed_ih);
    pack<T>((T*)q.W_hh, 1, q.H, q.H, m, (T*)q.packed_hh);
    if (whole_batch(q))  // whose steps are one thread's
        split(q.T, q.threads, [&](int t0, int t1, int) { multiply_inputs<T>(q, t0, t1, 0, q.N); });
    split_cases(q, [&](int n0, int n1, int) { forward_cases<T>(q, n0, n1); });
    std::copy((T*)q.h + last * NH, (T*)q.h + last * NH + NH, (T*)q.h_n);
    if (q.c0) std::copy((T*)q.c + last * q.c_step, (T*)q.c + last * q.c_step + NH, (T*)q.c_n);
    return 0;
} catch (const std::exception&) {
    return 1;
}

template <class T>
int backward(const Sequence& q) try {
    const int H = q.H, m = gates_of(q) * H, size = 4 * m + 2 * H;
    const int64_t NH = int64_t(q.N) * H;
    pack<T>((T*)q.W_hh, q.H, 1, m, q.H, (T*)q.packed_hh);
    if (q.dx) pack<T>((T*)q.W_ih, q.I, 1, m, q.I, (T*)q.packed_ih);
    for (auto [state, last] : {std::pair{q.dh, q.dh_last}, std::pair{q.dc, q.dc_last}}) {
        if (last)
            std::copy((T*)last, (T*)last + NH, (T*)state);
        else if (state)
            std::fill((T*)state, (T*)state + NH, T(0));
    }
    Buffer<T> sums(int64_t(size) * std::max(1, q.threads));
    split_cases(q, [&](int n0, int n1, int k) { backward_cases<T>(q, n0, n1, sums.at + int64_t(k) * size); });
    for (int k = 1; k < q.threads; k++) add_rows(1, size, sums.at + int64_t(k) * size, sums.at);
    if (q.dx && whole_batch(q))
        split(q.T, q.threads, [&](int t0, int t1, int) { multiply_input_gradients<T>(q, t0, t1, 0, q.N); });
    const T* sum = sums.at;
    for (auto [to, n] :
         {std::pair{q.db_ih, m}, std::pair{q.db_hh, m}, std::pair{q.norm_ih.gain_grad, m},
          std::pair{q.norm_hh.gain_grad, m}, std::pair{q.db_cell, H}, std::pair{q.norm_cell.gain_grad, H}}) {
        if (to) std::copy(sum, sum + n, (T*)to);
        sum += n;
    }
    return 0;
} catch (const std::exception&) {
    return 1;
}

// dW = dA' x and its like for the recurrent matrix, each thread with rows of C of its own
template <class T>
int transposed(const T* A, const T* B, int K, int M, int N, T* C, T* room, int threads) try {
    const int64_t each_has = room_of<T>(N);
    split(M, threads, [&](int m0, int m1, int thread) {
        multiply_transposed<T>(A + m0, M, B, K, m1 - m0, N, C + int64_t(m0) * N, room + thread * each_has);
    });
    return 0;
} catch (const std::exception&) {
    return 1;
}

extern "C" {
int sequence_bytes() { return sizeof(Sequence); }  // for the test that compares the structures with cpu.py
int forward_float32(const Sequence* q) { return forward<float>(*q); }
int forward_float64(const Sequence* q) { return forward<double>(*q); }
int backward_float32(const Sequence* q) { return backward<float>(*q); }
int backward_float64(const Sequence* q) { return backward<double>(*q); }
// A step's product by itself, for experiments.benchmark: C (M x N) = A (M x K) B, B packed
void product_float32(const float* A, const float* B, int M, int K, int N, float* C) {
    multiply<float>(A, K, B, M, K, N, C, N, false);
}
int transposed_float32(const float* A, const float* B, int K, int M, int N, float* C, float* room, int threads) {
    return transposed<float>(A, B, K, M, N, C, room, threads);
}
int transposed_float64(const double* A, const double* B, int K, int M, int N, double* C, double* room, int threads) {
    return transposed<double>(A, B, K, M, N, C, room, threads);
}
int64_t transposed_room(int N, int threads, int bytes) {  // elements
    return threads * (bytes == 4 ? room_of<float>(N) : room_of<double>(N));
}
int packed_columns(int N, int bytes) {  // N rounded up to whole panels
    return columns_of(N, bytes == 4 ? PANEL<float> : PANEL<double>);
}
}
