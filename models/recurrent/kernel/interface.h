// What the caller hands over: the structures of cpu.py, field by field. A test compares the two.

#pragma once

#include <cstdint>

enum Over : int32_t { NOTHING, CASE, BATCH, FROZEN };
enum Cell : int32_t { RNN, LSTM, GRU };

// One normaliser, n(z) = g (z - mean) rstd. Statistics lie by step and then, for CASE, by case and span, otherwise by
// feature; `step` is their stride from a step to the next, 0 where nothing is kept.
struct Norm {
    Over over;
    int32_t spans, centred;
    const int32_t* ends;  // where each span ends
    double eps;
    int64_t step;
    void *gain, *mean, *rstd, *var, *gain_grad;
};

// All arrays are contiguous; *_step is the stride from a time step to the next, 0 where one step's buffer serves all.
struct Sequence {
    Cell cell;
    int32_t joined, reverse, T, N, I, H, threads;
    int32_t together, window;  // steps whose inputs are multiplied at once; steps that A has room for, t at t % window
    int64_t r_step, gates_step, c_step, u_step;
    Norm norm_ih, norm_hh, norm_cell;  // of A or, joined, of the sum; of R; of the LSTM's cell state
    void *x, *W_ih, *packed_ih;        // (T, N, I), (GH, I), and room for W_ih in panels, forward and backward
    void *W_hh, *packed_hh;            // (GH, H), and room for it in panels
    void *b_ih, *b_hh, *b_cell;        // biases; b_ih may be null where nothing normalises A
    void* A;                           // (window, N, GH) x W_ih'; joined: the sum of both terms, written here
    void* R;                           // (T, N, GH) h_{t-1} W_hh', unless joined
    void* gates;                       // (T, N, GH) activations of the gates; null: they overwrite A. Not for an rnn
    void* v;                           // (T, N, H) gru: v_n
    void* u;                           // (T, N, H) lstm: tanh of the normalised cell state
    void *c, *h;                       // (T+1, N, H): states with the initial one at the front, at the back in reverse
    void *h0, *c0, *h_n, *c_n;  // (N, H): the initial states, and copies of the last; c0 and c_n only for an lstm
    // backward
    void *dy, *dh_last, *dc_last;   // null for zero
    void* dR;                       // (T, N, GH): A, R or a buffer of its own; dA is written over A
    void* dx;                       // (T, N, I); null: not asked for
    void *dh, *dc;                  // (N, H): gradients of the initial states
    void *db_ih, *db_hh, *db_cell;  // sums over time and cases, as Norm::gain_grad
};
