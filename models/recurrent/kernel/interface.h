// What the caller hands over: the structures of layout.py, field by field. A test compares the two.

#pragma once

#include <cstdint>

enum Over : int32_t { NOTHING, CASE, BATCH, FROZEN };
enum Cell : int32_t { RNN, LSTM, GRU };

// One normaliser, n(z) = g (z - mean) rstd. For CASE, statistics lie by row and span; `width` is the number of spans,
// or 0 where one step's buffer serves all. Otherwise they lie by step in the order of running, `width` features each.
struct Norm {
    Over over;
    int32_t spans, centred, unbiased;
    const int32_t* ends;  // where each span ends
    double eps;
    int64_t width;
    void *gain, *mean, *rstd, *var, *gain_grad;
};

// All arrays are contiguous. A row is one case at one step: the rows of a step lie side by side, the steps after each
// other, `rows` in all, T*N where all cases run at all steps. The cases of a step are always the first ones, so that of
// sequences of several lengths the longest comes first. *_width is 0 where one step's buffer serves all, otherwise the
// width of a row.
struct Sequence {
    Cell cell;
    int32_t joined, reverse, T, N, I, H, threads;
    int32_t bfloat16;          // whether factors of products are rounded to it; only where the processor has it
    int32_t together, window;  // steps whose inputs are multiplied at once; steps that A has room for, t at t % window
    int64_t r_width, gates_width, c_width, u_width;
    Norm norm_ih, norm_hh, norm_cell;  // of A or, joined, of the sum; of R; of the LSTM's cell state
    const int64_t* first_rows;         // (T+1) of each step, and `rows`; null: all cases run at all steps
    const uint8_t* reset;              // (rows): whether the states before it are zero; null: nowhere
    void *x, *W_ih, *packed_ih;        // (rows, I), (GH, I), and room for W_ih in panels, forward and backward
    void *W_hh, *packed_hh;            // (GH, H), and room for it in panels
    void *b_ih, *b_hh, *b_cell;        // biases; b_ih may be null where nothing normalises A
    void* A;                           // (rows of window, GH) x W_ih'; joined: the sum of both terms, written here
    void* R;                           // (rows, GH) h_{t-1} W_hh', unless joined
    void* gates;                       // (rows, GH) activations of the gates; null: they overwrite A. Not for an rnn
    void* v;                           // (rows, H) gru: v_n
    void* u;                           // (rows, H) lstm: tanh of the normalised cell state
    void *c, *h;                       // (N+rows, H): the N initial states at the front, at the back in reverse
    void *h0, *c0, *h_n, *c_n;  // (N, H): the initial states, and copies of the last; c0 and c_n only for an lstm
    // backward
    void *dy, *dh_last, *dc_last;   // null for zero
    void *dA, *dR;                  // (rows, GH): A and R, which they are written over, or buffers of their own
    void* dx;                       // (rows, I); null: not asked for
    void *dh, *dc;                  // (N, H): gradients of the initial states
    void *db_ih, *db_hh, *db_cell;  // sums over time and cases, as Norm::gain_grad
};

inline int64_t first_row(const Sequence& q, int t) { return q.first_rows ? q.first_rows[t] : int64_t(t) * q.N; }

// Step s in the order of running: its time, its cases, and the first rows of it and, in h and c, of the states before
// and after it.
struct Step {
    int s, t;
    int64_t row, before, after;
    int cases;
    Step(const Sequence& q, int s) : s(s), t(q.reverse ? q.T - 1 - s : s), row(first_row(q, t)) {
        before = q.reverse ? row + q.N : t == 0 ? 0 : q.N + first_row(q, t - 1);
        after = q.reverse ? row : q.N + row;
        cases = int(first_row(q, t + 1) - row);
    }
};
