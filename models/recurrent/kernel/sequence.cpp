// Normalised RNN, LSTM and GRU over a whole sequence, forward and backward, on a CPU. The equations are in spec.py, the
// caller is cpu.py, the layout of every buffer in layout.py. A plain C interface, no header of torch: builds in seconds.

#include <exception>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "bfloat16.h"
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
    if (n1 - n0 == q.N) return f(t0, 0, int(first_row(q, t1) - first_row(q, t0)));
    for (int t = t0; t < t1; t++) {
        const int end = std::min(n1, int(first_row(q, t + 1) - first_row(q, t)));
        if (n0 < end) f(t, n0, end - n0);
    }
}

// The first row of time t in A. Threads that are at different steps of ragged sequences must not share the rows of a
// window, so that there each case has rows of its own.
int64_t first_row_of_A(const Sequence& q, int t) {
    if (q.window < q.T && q.threads > 1) return int64_t(t % q.window) * q.N;
    return first_row(q, t) - first_row(q, t - t % q.window);
}

// B (K x N) in panels for `multiply`: in the sequence's type, or rounded to bfloat16
template <class T>
void pack(const Sequence& q, const void* B, int64_t row, int64_t column, int K, int N, void* packed) {
#if HAS_BFLOAT16
    if constexpr (std::is_same_v<T, float>)
        if (q.bfloat16) return pack_halves((float*)B, row, column, K, N, (Half*)packed);
#endif
    pack((T*)B, row, column, K, N, (T*)packed);
}
template <class T>
void multiply(const Sequence& q, const T* A, int64_t lda, const void* packed, int M, int K, int N, T* C, int64_t ldc,
              bool add, Soon<T> soon = {}) {
#if HAS_BFLOAT16
    if constexpr (std::is_same_v<T, float>)
        if (q.bfloat16) return multiply_rounded(A, lda, (Half*)packed, M, K, N, C, ldc, add);
#endif
    multiply<T>(A, lda, (T*)packed, M, K, N, C, ldc, add, soon);
}

// Whether W_ih and W_hh are used once and for so few cases that packing them would take longer than their products
template <class T>
bool unpacked(const Sequence& q) {
#if defined(__AVX512F__)
    return std::is_same_v<T, float> && !q.bfloat16 && q.T == 1 && q.N <= FEW_ROWS;
#else
    return false;
#endif
}
// C (M x N) = or += A W', W (N x K) as given and, unless it stays unpacked, packed
template <class T>
void multiply_weights(const Sequence& q, const T* A, const void* W, const void* packed, int M, int K, int N, T* C,
                      bool add, Soon<T> soon = {}) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>)
        if (unpacked<T>(q)) return multiply_columns(M, A, K, (float*)W, K, N, C, add);
#endif
    multiply<T>(q, A, K, packed, M, K, N, C, N, add, soon);
}

// A = x W_ih' of steps [t0, t1), which lie side by side in A, and cases [n0, n1)
template <class T>
void multiply_inputs(const Sequence& q, int t0, int t1, int n0, int n1) {
    const int m = gates_of(q) * q.H;
    each_block(q, t0, t1, n0, n1, [&](int t, int n, int rows) {
        multiply_weights<T>(q, (T*)q.x + (first_row(q, t) + n) * q.I, q.W_ih, q.packed_ih, rows, q.I, m,
                            (T*)q.A + (first_row_of_A(q, t) + n) * m, false);
    });
}

// dx = dA W_ih, likewise
template <class T>
void multiply_input_gradients(const Sequence& q, int t0, int t1, int n0, int n1) {
    const int m = gates_of(q) * q.H;
    each_block(q, t0, t1, n0, n1, [&](int t, int n, int rows) {
        const int64_t row = first_row(q, t) + n;
        multiply<T>(q, (T*)q.dA + row * m, m, q.packed_ih, rows, m, q.I, (T*)q.dx + row * q.I, q.I, false);
    });
}

// The few steps that `t` belongs to, whose products with W_ih are made at once: [first, last).
struct Few {
    int first, last;
    Few(const Sequence& q, int t) : first(t - t % q.together), last(std::min(first + q.together, q.T)) {}
};

// The state before a step (N, H) of cases [n0, n1): `state`, or a copy with zeros where a case is reset
template <class T>
const T* state_before(const Sequence& q, const Step& step, int n0, int n1, const T* state, T* copy) {
    if (!q.reset) return state;
    const uint8_t* reset = q.reset + step.row;
    if (std::none_of(reset + n0, reset + n1, [](uint8_t is) { return is; })) return state;
    for (int n = n0; n < n1; n++) {
        const int64_t nH = int64_t(n) * q.H;
        if (reset[n])
            std::fill_n(copy + nH, q.H, T(0));
        else
            std::copy_n(state + nH, q.H, copy + nH);
    }
    return copy;
}

// A reset case's gradient does not flow on to the state before.
template <class T>
void stop_gradients(const Sequence& q, const Step& step, int n0, int n1) {
    if (!q.reset) return;
    for (int n = n0; n < n1; n++)
        for (T* gradient : {(T*)q.dh, (T*)q.dc})
            if (gradient && q.reset[step.row + n]) std::fill_n(gradient + int64_t(n) * q.H, q.H, T(0));
}

// Cases [n0, n1) from the first step to the last. A chunk of cases passes through all of a step while it is in the
// cache: one case, or all of them where statistics are taken over the batch.
template <class T>
void forward_cases(const Sequence& q, int n0, int n1) {
    const int H = q.H, m = gates_of(q) * H, most = whole_batch(q) ? n1 - n0 : 1;
    const int64_t copied = q.reset ? int64_t(q.N) * H : 0;
    const bool pair = paired(q) && !whole_batch(q);
    Buffer<T> z_ih(int64_t(most) * m), z_hh(int64_t(most) * m), cell(int64_t(most) * H), h_copy(copied), c_copy(copied);
    for (int s = 0; s < q.T; s++) {
        const Step step(q, s);
        const int t = step.t, end = std::min(n1, step.cases), chunk = whole_batch(q) ? end - n0 : 1;
        if (end <= n0) break;  // these sequences are over
        // The next few steps' share of A is made while it is still in the cache when they come.
        const Few few(q, t);
        if (t == (q.reverse ? few.last - 1 : few.first) && !whole_batch(q))
            multiply_inputs<T>(q, few.first, few.last, n0, n1);
        T *A = (T*)q.A + first_row_of_A(q, t) * m, *R = (T*)q.R + step.row * q.r_width;
        T* gates = q.gates ? (T*)q.gates + step.row * q.gates_width : A;
        T *v = (T*)q.v + step.row * q.u_width, *u = (T*)q.u + step.row * q.u_width;
        T *h = (T*)q.h + step.after * H, *c = (T*)q.c + step.after * q.c_width;
        const T *h_prev = state_before<T>(q, step, n0, end, (T*)q.h + step.before * H, h_copy.at), *c_prev = nullptr;
        if (q.c) c_prev = state_before<T>(q, step, n0, end, (T*)q.c + step.before * q.c_width, c_copy.at);
        T* product = (q.joined ? A : R) + int64_t(n0) * m;
        const int64_t rows = end - n0;
        Soon<T> soon;
        soon.add((T*)q.gates, step.row * q.gates_width + int64_t(n0) * m, rows * m);
        const int later = q.reverse ? t - q.together : t + q.together;
        if (!whole_batch(q) && later >= 0 && later < q.T)
            soon.add((T*)q.x, (first_row(q, later) + n0) * q.I, rows * q.I);
        multiply_weights<T>(q, h_prev + int64_t(n0) * H, q.W_hh, q.packed_hh, rows, H, m, product, q.joined, soon);
        for (int n = n0; n < end; n += chunk) {
            const int64_t nm = int64_t(n) * m, nH = int64_t(n) * H;
            const T* z = A + nm;
            if (pair) {
                const auto at_a = statistics<T>(q.norm_ih, step, n), at_r = statistics<T>(q.norm_hh, step, n);
                pair_forward(q.norm_ih, q.norm_hh, at_a, at_r, A + nm, R + nm, (T*)q.b_ih, z_hh.at);
                z = z_hh.at;
            } else if (q.norm_ih.over != NOTHING || q.b_ih) {
                norm_forward<T>(q.norm_ih, step, n, chunk, m, z, (T*)q.b_ih, 0, z_ih.at);
                z = z_ih.at;
            }
            if (q.cell == GRU) {
                norm_forward<T>(q.norm_hh, step, n, chunk, m, R + nm, (T*)q.b_hh, 0, z_hh.at);
            } else if (!q.joined && !pair) {
                norm_forward<T>(q.norm_hh, step, n, chunk, m, R + nm, z, m, z_hh.at);
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
                norm_forward<T>(q.norm_cell, step, n, chunk, H, normed, (T*)q.b_cell, 0, cell.at);
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
    const int H = q.H, m = gates_of(q) * H, most = whole_batch(q) ? n1 - n0 : 1;
    const int64_t copied = q.reset ? int64_t(q.N) * H : 0;
    const int size = 4 * m + 2 * H;
    Buffer<T> of_step(size);
    T *db_ih = of_step.at, *db_hh = db_ih + m, *dg_ih = db_hh + m, *dg_hh = dg_ih + m, *db_cell = dg_hh + m;
    T* dg_cell = db_cell + H;
    const bool same =
        q.joined || (q.norm_ih.over == NOTHING && q.norm_hh.over == NOTHING && q.cell != GRU);  // dA is dR
    const bool pair = paired(q) && !whole_batch(q);
    Buffer<T> scratch(int64_t(most) * m), scratch_v(int64_t(most) * m), dnormed(int64_t(most) * H),
        dcell(int64_t(most) * H), h_copy(copied), c_copy(copied);
    T *dh = (T*)q.dh, *dc = (T*)q.dc;
    for (int s = q.T - 1; s >= 0; s--) {
        const Step step(q, s);
        const int t = step.t, end = std::min(n1, step.cases), chunk = whole_batch(q) ? end - n0 : 1;
        if (end <= n0) continue;  // these sequences were over
        T *dA = (T*)q.dA + step.row * m, *dR = (T*)q.dR + step.row * m;
        const T *A = (T*)q.A + step.row * m, *R = (T*)q.R + step.row * q.r_width;
        const T* gates = q.gates ? (T*)q.gates + step.row * q.gates_width : A;
        const T *v = (T*)q.v + step.row * q.u_width, *u = (T*)q.u + step.row * q.u_width;
        const T *h = (T*)q.h + step.after * H, *c = (T*)q.c + step.after * q.c_width;
        const T *h_prev = state_before<T>(q, step, n0, end, (T*)q.h + step.before * H, h_copy.at), *c_prev = nullptr;
        if (q.c) c_prev = state_before<T>(q, step, n0, end, (T*)q.c + step.before * q.c_width, c_copy.at);
        for (int n = n0; n < end; n += chunk) {
            const int64_t nm = int64_t(n) * m, nH = int64_t(n) * H;
            if (q.dy) {
                const T* dy = (T*)q.dy + step.row * H + nH;
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
                    norm_backward<T>(q.norm_cell, step, n, chunk, H, c + nH, dnormed.at, dcell.at, dg_cell);
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
                const auto at_a = statistics<T>(q.norm_ih, step, n), at_r = statistics<T>(q.norm_hh, step, n);
                pair_backward<T>(q.norm_ih, q.norm_hh, at_a, at_r, A + nm, R + nm, dz, dA + nm, dR + nm,
                                 {db_ih, dg_ih, dg_hh});
                continue;
            }
            add_rows(chunk, m, dz, db_ih);
            if (q.norm_ih.over != NOTHING) norm_backward<T>(q.norm_ih, step, n, chunk, m, A + nm, dz, dA + nm, dg_ih);
            if (q.cell != GRU) dv = dz;
            if (q.norm_hh.over != NOTHING)
                norm_backward<T>(q.norm_hh, step, n, chunk, m, R + nm, dv, dR + nm, dg_hh);
            else if (!same && dv != dR + nm)
                std::copy(dv, dv + int64_t(chunk) * m, dR + nm);
        }
        add_rows(1, size, of_step.at, sums);
        std::fill(of_step.at, of_step.at + size, T(0));
        Soon<T> soon;
        if (s > 0) {
            const Step next(q, s - 1);
            const int64_t nm = int64_t(n0) * m, nH = int64_t(n0) * H, rows = std::min(n1, next.cases) - n0;
            soon.add((T*)q.gates, next.row * q.gates_width + nm, rows * m);
            soon.add((T*)q.u, next.row * q.u_width + nH, rows * H);
            soon.add((T*)q.v, next.row * q.u_width + nH, rows * H);
            soon.add((T*)q.c, next.before * q.c_width + nH, rows * H);
            soon.add((T*)q.A, next.row * m + nm, rows * m);
            if (q.r_width) soon.add((T*)q.R, next.row * q.r_width + nm, rows * m);
            soon.add((T*)q.dy, next.row * H + nH, rows * H);
        }
        multiply<T>(q, dR + int64_t(n0) * m, m, q.packed_hh, end - n0, m, H, dh + int64_t(n0) * H, H, q.cell == GRU,
                    soon);
        stop_gradients<T>(q, step, n0, end);
        const Few few(q, t);
        if (q.dx && t == (q.reverse ? few.last - 1 : few.first) && !whole_batch(q))
            multiply_input_gradients<T>(q, few.first, few.last, n0, n1);
    }
}

// f(first, last, thread) for the spans between bounds, one thread each
template <class F>
void run_spans(const std::vector<int>& bounds, F f) {
    std::vector<std::thread> others;
    std::vector<std::exception_ptr> errors(bounds.size());
    others.reserve(bounds.size());
    auto span = [&](size_t k) noexcept {
        try {
            f(bounds[k], bounds[k + 1], int(k));
        } catch (...) {  // a thread may not let it out
            errors[k] = std::current_exception();
        }
    };
    for (size_t k = 1; k + 1 < bounds.size(); k++) try {
            others.emplace_back(span, k);
        } catch (const std::system_error&) {  // the system gives no more threads
            span(k);
        }
    span(0);
    for (auto& thread : others) thread.join();
    for (auto& error : errors)
        if (error) std::rethrow_exception(error);
}
// likewise for so many threads, each on its own of `count`
template <class F>
void split(int count, int threads, F f) {
    threads = std::max(1, std::min(threads, count));
    std::vector<int> bounds{0};
    for (int k = 1; k <= threads; k++) bounds.push_back(int64_t(count) * k / threads);
    run_spans(bounds, f);
}
// likewise for cases, each thread with about as many rows
template <class F>
void split_cases(const Sequence& q, F f) {
    if (!q.first_rows || whole_batch(q) || q.threads == 1) return split(q.N, whole_batch(q) ? 1 : q.threads, f);
    std::vector<int> bounds{0};
    int64_t rows = 0;
    for (int n = 0, length = q.T; n < q.N; n++) {
        while (Step(q, length - 1).cases <= n) length--;
        rows += length;
        if (rows * q.threads >= first_row(q, q.T) * int64_t(bounds.size())) bounds.push_back(n + 1);
    }
    run_spans(bounds, f);
}

template <class T>
int forward(const Sequence& q) try {
    const int H = q.H, m = gates_of(q) * H;
    const int64_t NH = int64_t(q.N) * H, first = Step(q, 0).before;
    std::copy_n((T*)q.h0, NH, (T*)q.h + first * H);
    if (q.c0) std::copy_n((T*)q.c0, NH, (T*)q.c + first * q.c_width);
    if (!unpacked<T>(q)) {
        pack<T>(q, q.W_ih, 1, q.I, q.I, m, q.packed_ih);
        pack<T>(q, q.W_hh, 1, H, H, m, q.packed_hh);
    }
    if (whole_batch(q))  // whose steps are one thread's
        split(q.T, q.threads, [&](int t0, int t1, int) { multiply_inputs<T>(q, t0, t1, 0, q.N); });
    split_cases(q, [&](int n0, int n1, int) { forward_cases<T>(q, n0, n1); });
    for (int s = 0; s < q.T; s++) {  // the cases that step s was the last of
        const Step step(q, s);
        const int64_t left = s + 1 < q.T ? Step(q, s + 1).cases : 0, n = left * H, size = (step.cases - left) * H;
        std::copy_n((T*)q.h + step.after * H + n, size, (T*)q.h_n + n);
        if (q.c0) std::copy_n((T*)q.c + step.after * q.c_width + n, size, (T*)q.c_n + n);
    }
    return 0;
} catch (const std::exception&) {
    return 1;
}

template <class T>
int backward(const Sequence& q) try {
    const int H = q.H, m = gates_of(q) * H, size = 4 * m + 2 * H;
    const int64_t NH = int64_t(q.N) * H;
    pack<T>(q, q.W_hh, q.H, 1, m, q.H, q.packed_hh);
    if (q.dx) pack<T>(q, q.W_ih, q.I, 1, m, q.I, q.packed_ih);
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
template <class T, class Room, class Product>
int transposed(const T* A, const T* B, int K, int M, int N, T* C, Room* room, int64_t each_has, int threads,
               Product product) try {
    split(M, threads, [&](int m0, int m1, int thread) {
        product(A + m0, M, B, K, m1 - m0, N, C + int64_t(m0) * N, room + thread * each_has);
    });
    return 0;
} catch (const std::exception&) {
    return 1;
}

extern "C" {
int sequence_bytes() { return sizeof(Sequence); }  // for the test that compares the structures with layout.py
int forward_float32(const Sequence* q) { return forward<float>(*q); }
int forward_float64(const Sequence* q) { return forward<double>(*q); }
int backward_float32(const Sequence* q) { return backward<float>(*q); }
int backward_float64(const Sequence* q) { return backward<double>(*q); }
// A step's product by itself, for experiments.benchmark: C (M x N) = A (M x K) B, B packed
void product_float32(const float* A, const float* B, int M, int K, int N, float* C) {
    multiply<float>(A, K, B, M, K, N, C, N, false);
}
int transposed_float32(const float* A, const float* B, int K, int M, int N, float* C, float* room, int threads) {
    return transposed(A, B, K, M, N, C, room, room_of<float>(N), threads, multiply_transposed<float>);
}
int transposed_float64(const double* A, const double* B, int K, int M, int N, double* C, double* room, int threads) {
    return transposed(A, B, K, M, N, C, room, room_of<double>(N), threads, multiply_transposed<double>);
}
#if HAS_BFLOAT16
int transposed_bfloat16(const float* A, const float* B, int K, int M, int N, float* C, Half* room, int threads) {
    return transposed(A, B, K, M, N, C, room, halves_for(N), threads, multiply_transposed_rounded);
}
#endif
// Bytes of the elements that a product's factors are rounded to: 8, 4 or, for bfloat16, 2. In what follows, `bytes`.
int64_t transposed_room(int N, int threads, int bytes) {  // elements
#if HAS_BFLOAT16
    if (bytes == 2) return threads * halves_for(N);
#endif
    return threads * (bytes == 4 ? room_of<float>(N) : room_of<double>(N));
}
int packed_columns(int N, int bytes) {  // N rounded up to whole panels
    return columns_of(N, bytes == 8 ? PANEL<double> : PANEL<float>);
}
int packed_rows(int K, int bytes) {  // K rounded up likewise
#if HAS_BFLOAT16
    if (bytes == 2) return whole_steps(K);
#endif
    return K;
}
int has_bfloat16() { return HAS_BFLOAT16; }
}
