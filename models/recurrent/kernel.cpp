// Normalised RNN, LSTM and GRU over a whole sequence, forward and backward, on a CPU. The equations are in spec.py, the
// caller and the layout of every buffer in cpu.py. A plain C interface and no header of torch: builds in seconds.
//
// Built without -ffast-math: it would flush denormals for the whole process and hide NaN. Sums are therefore written
// with explicit vectors, which no compiler may reorder: the same inputs give the same bits.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// ---- vectors ------------------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int BYTES = 64, TILE_ROWS = 12, TILE_VECTORS = 2;  // 24 of 32 registers accumulate
#elif defined(__aarch64__)
constexpr int BYTES = 16, TILE_ROWS = 8, TILE_VECTORS = 3;
#elif defined(__AVX2__)
constexpr int BYTES = 32, TILE_ROWS = 6, TILE_VECTORS = 2;  // 12 of 16 registers
#else
constexpr int BYTES = 16, TILE_ROWS = 6, TILE_VECTORS = 2;
#endif
constexpr int DEPTH = 256;  // of a block of the packed matrix: one panel's block lies in the first-level cache

template <class T>
struct vector_of {
    typedef T type __attribute__((vector_size(BYTES)));
};
template <class T>
using Vec = typename vector_of<T>::type;
template <class T>
constexpr int LANES = BYTES / sizeof(T);

struct Whole {};
struct Part {
    int n;
};  // a vector's first n lanes

template <class T>
inline Vec<T> load(const T* p, Whole) {
    Vec<T> v;
    std::memcpy(&v, p, BYTES);
    return v;
}
template <class T>
inline void store(T* p, Vec<T> v, Whole) {
    std::memcpy(p, &v, BYTES);
}
// The end of a row: the lanes beyond it are zero, and memory there is not touched
#if defined(__AVX512F__)
inline Vec<float> load(const float* p, Part part) { return (Vec<float>)_mm512_maskz_loadu_ps((1u << part.n) - 1, p); }
inline Vec<double> load(const double* p, Part part) {
    return (Vec<double>)_mm512_maskz_loadu_pd((1u << part.n) - 1, p);
}
inline void store(float* p, Vec<float> v, Part part) { _mm512_mask_storeu_ps(p, (1u << part.n) - 1, (__m512)v); }
inline void store(double* p, Vec<double> v, Part part) { _mm512_mask_storeu_pd(p, (1u << part.n) - 1, (__m512d)v); }
#else
template <class T>
inline Vec<T> load(const T* p, Part part) {
    Vec<T> v = {};
    for (int k = 0; k < part.n; k++) v[k] = p[k];
    return v;
}
template <class T>
inline void store(T* p, Vec<T> v, Part part) {
    for (int k = 0; k < part.n; k++) p[k] = v[k];
}
#endif

// f(j, lanes) for every vector of a row of m values, the last one with fewer lanes. Functions whose f adds to their
// variables are `flatten`: where f is not inlined, such sums pass through memory.
template <class T, class F>
inline void each(int m, F f) {
    int j = 0;
    for (; j + LANES<T> <= m; j += LANES<T>) f(j, Whole{});
    if (j < m) f(j, Part{m - j});
}

// Four sums taken in turn: one alone would wait four cycles for each addition.
template <class T>
struct Sum {
    Vec<T> part[4] = {};
    Vec<T> lanes() const { return (part[0] + part[1]) + (part[2] + part[3]); }
};
template <int K>
using Turn = std::integral_constant<int, K>;

// f(j, lanes, turn): as `each`, with the sum whose turn it is
template <class T, class F>
inline void each_in_turn(int m, F f) {
    constexpr int L = LANES<T>;
    int j = 0;
    for (; j + 4 * L <= m; j += 4 * L)
        f(j, Whole{}, Turn<0>{}), f(j + L, Whole{}, Turn<1>{}), f(j + 2 * L, Whole{}, Turn<2>{}),
            f(j + 3 * L, Whole{}, Turn<3>{});
    for (; j + L <= m; j += L) f(j, Whole{}, Turn<0>{});
    if (j < m) f(j, Part{m - j}, Turn<1>{});
}

template <class T>
inline Vec<T> all(T x) {
    return x - Vec<T>{};
}
// the sum of the lanes, halves first: few steps, and always in the same order
template <class T, int SIZE = BYTES, class V>
inline T total(const V& v) {
    if constexpr (SIZE == sizeof(T)) {
        return *(const T*)&v;
    } else {
        typedef T Half __attribute__((vector_size(SIZE / 2)));
        Half low, high;
        std::memcpy(&low, &v, SIZE / 2);
        std::memcpy(&high, (const char*)&v + SIZE / 2, SIZE / 2);
        return total<T, SIZE / 2>(low + high);
    }
}

#if defined(__AVX512F__)
template <>
inline float total<float, BYTES, Vec<float>>(const Vec<float>& v) {
    return _mm512_reduce_add_ps((__m512)v);  // the same, without a way through memory
}
#endif

typedef int32_t Bits __attribute__((vector_size(BYTES)));  // of a vector of floats

inline Vec<float> reciprocal(Vec<float> d) {
#if defined(__AVX512F__)
    // A division takes 16 cycles here. An estimate of 14 bits and one step of Newton: r (2 - d r), a NaN passes.
    const Vec<float> r = (Vec<float>)_mm512_rcp14_ps((__m512)d);
    return r * (2.f - d * r);
#else
    return 1.f / d;
#endif
}

// A NaN in x passes: where one of two values is NaN, the instruction gives the second, and so does the comparison.
inline Vec<float> at_most(float limit, Vec<float> x) {
#if defined(__AVX512F__)
    return (Vec<float>)_mm512_min_ps((__m512)all(limit), (__m512)x);
#else
    return x > limit ? all(limit) : x;
#endif
}
inline Vec<float> at_least(float limit, Vec<float> x) {
#if defined(__AVX512F__)
    return (Vec<float>)_mm512_max_ps((__m512)all(limit), (__m512)x);
#else
    return x < limit ? all(limit) : x;
#endif
}

// expm1(x) = 2^n (e^r - 1) + (2^n - 1) and exp(x) = 2^n (e^r - 1) + 2^n, x = n ln 2 + r, |r| <= ln(2)/2. A NaN passes.
struct Exponential {
    Vec<float> scaled, power;
};  // 2^n (e^r - 1), 2^n
inline Exponential exponential(Vec<float> x) {
    const float ROUND = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
    Vec<float> shifted = x * 1.44269504f + ROUND, n = shifted - ROUND;
    Vec<float> r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vec<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;  // Cephes' minimax polynomial
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r;
    Vec<float> power = (Vec<float>)(((Bits)shifted << 23) + 0x3f800000);
    return {power * p, power};
}

inline Vec<float> sigmoid(Vec<float> x) {
    const Vec<float> y = at_least(-87.f, at_most(88.f, -x));  // beyond, e^y overflows
    Exponential e = exponential(y);
    return reciprocal(1.f + e.power + e.scaled);
}
// tanh(|x|) = E / (E + 2), E = expm1(2|x|): relative accuracy near 0 too
inline Vec<float> tanh(Vec<float> x) {
    const Bits sign = (Bits)x & INT32_MIN;
    const Vec<float> size = (Vec<float>)((Bits)x & INT32_MAX);
    Exponential e = exponential(at_most(18.f, 2.f * size));  // where tanh rounds to 1
    Vec<float> E = e.scaled + (e.power - 1.f);
    return (Vec<float>)((Bits)(E * reciprocal(E + 2.f)) | sign);
}
// float64 is for checking gradients
inline Vec<double> sigmoid(Vec<double> x) {
    for (int k = 0; k < LANES<double>; k++) x[k] = 1 / (1 + std::exp(-x[k]));
    return x;
}
inline Vec<double> tanh(Vec<double> x) {
    for (int k = 0; k < LANES<double>; k++) x[k] = std::tanh(x[k]);
    return x;
}

// ---- matrix product -----------------------------------------------------------------------------------------------

// A matrix B (K x N) in panels of PANEL columns, zeros behind the last: element (k, n) stands at
// [n / PANEL][k][n % PANEL], so that a product reads it from first to last.
template <class T>
constexpr int PANEL = TILE_VECTORS * LANES<T>;
template <class T>
constexpr int64_t LINE = 64 / sizeof(T);  // elements of a cache line

template <class T>
void pack(const T* B, int64_t row, int64_t column, int K, int N, T* packed) {
    for (int n0 = 0; n0 < N; n0 += PANEL<T>, packed += int64_t(K) * PANEL<T>) {
        const int columns = std::min(PANEL<T>, N - n0);
        if (columns < PANEL<T>) std::fill(packed, packed + int64_t(K) * PANEL<T>, T(0));
        const T* from = B + n0 * column;
        if (column == 1)  // along what lies side by side in B
            for (int k = 0; k < K; k++) std::copy(from + k * row, from + k * row + columns, packed + k * PANEL<T>);
        else
            for (int k0 = 0; k0 < K; k0 += 16)  // few enough rows of the panel for the first-level cache
                for (int n = 0; n < columns; n++)
                    for (int k = k0; k < std::min(k0 + 16, K); k++)
                        packed[k * PANEL<T> + n] = from[k * row + n * column];
    }
}

// Arrays that the step after a product will need. The product fetches them into the second-level cache line by line,
// while its arithmetic leaves the memory idle; the step would wait for them.
template <class T>
class Soon {
    struct {
        const T* at;
        int64_t left;
    } rows[7];  // as many as backward adds
    int count = 0, turn = 0;

public:
    void add(const T* array, int64_t at, int64_t size) {
        if (array) rows[count++] = {array + at, size};
    }
    // where the next so many lines begin; once all are fetched, something that is in the cache already
    const T* next(int lines, const T* cached) {
        while (turn < count && rows[turn].left <= 0) turn++;
        if (turn == count) return cached;
        const T* from = rows[turn].at;
        rows[turn].at += lines * LINE<T>, rows[turn].left -= lines * LINE<T>;
        return from;
    }
};

// C (rows x PANEL) = or += A (rows x depth) B (depth x PANEL), accumulated in registers. PACKED: A by pack_rows
template <class T, bool PACKED, int ROWS>
void tile(const T* A, int64_t lda, const T* B, int depth, T* C, int64_t ldc, bool add, const T* ahead, const T* soon) {
    Vec<T> sum[ROWS][TILE_VECTORS];
#pragma GCC unroll 16  // or the sums, indexed by a variable, go through memory
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) {
            sum[i][v] = Vec<T>{};
            __builtin_prefetch(C + i * ldc + v * LANES<T>, 1);
        }
    static_assert(TILE_ROWS <= 12, "three pointers to four rows each");
    const T* rows[3] = {A, A + 4 * lda, A + 8 * lda};  // a register for each row would be too many
    for (int k = 0; k < depth; k++, B += PANEL<T>, rows[0]++, rows[1]++, rows[2]++) {
        __builtin_prefetch(ahead + k * LINE<T>);
        __builtin_prefetch(soon + k * LINE<T>, 0, 2);
        Vec<T> b[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++) b[v] = load(B + v * LANES<T>, Whole{});
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[i][v] += (PACKED ? A[k * TILE_ROWS + i] : rows[i / 4][i % 4 * lda]) * b[v];
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) {
            T* c = C + i * ldc + v * LANES<T>;
            store(c, add ? load(c, Whole{}) + sum[i][v] : sum[i][v], Whole{});
        }
}

template <class T, bool PACKED, int ROWS = TILE_ROWS>
void tile_of(int rows, const T* A, int64_t lda, const T* B, int depth, T* C, int64_t ldc, bool add, const T* ahead,
             const T* soon) {
    if (rows == ROWS) return tile<T, PACKED, ROWS>(A, lda, B, depth, C, ldc, add, ahead, soon);
    if constexpr (ROWS > 1) tile_of<T, PACKED, ROWS - 1>(rows, A, lda, B, depth, C, ldc, add, ahead, soon);
}

int tiles_of(int rows) { return (rows + TILE_ROWS - 1) / TILE_ROWS; }

// C (M x N) = or += A (M x K) B, B packed; with PACKED, A too, and K at most DEPTH
template <class T, bool PACKED = false>
void multiply(const T* A, int64_t lda, const T* B, int M, int K, int N, T* C, int64_t ldc, bool add,
              Soon<T> later = {}) {
    const int tiles = tiles_of(M);
    T edge[TILE_ROWS * PANEL<T>];
    for (int n = 0; n < N; n += PANEL<T>)
        for (int k = 0; k < K; k += DEPTH) {
            const int depth = std::min(DEPTH, K - k), columns = std::min(PANEL<T>, N - n);
            const T* block_end = B + int64_t(depth) * PANEL<T>;
            for (int t = 0; t < tiles; t++) {
                const int first = int64_t(M) * t / tiles, rows = int64_t(M) * (t + 1) / tiles - first;
                const T* a = PACKED ? A + int64_t(t) * TILE_ROWS * K : A + first * lda + k;
                // Each tile fetches its share of the next block, so that a matrix beyond the cache streams in evenly.
                const T* ahead = block_end + int64_t(std::min(t, TILE_VECTORS)) * depth * LINE<T>;
                const T* soon = later.next(depth, B);
                T* c = C + first * ldc + n;
                const bool onto = add || k > 0;
                if (columns == PANEL<T>) {
                    tile_of<T, PACKED>(rows, a, lda, B, depth, c, ldc, onto, ahead, soon);
                } else {
                    tile_of<T, PACKED>(rows, a, lda, B, depth, edge, PANEL<T>, false, ahead, soon);
                    for (int i = 0; i < rows; i++)
                        for (int j = 0; j < columns; j++)
                            c[i * ldc + j] = edge[i * PANEL<T> + j] + (onto ? c[i * ldc + j] : T(0));
                }
            }
            B = block_end;
        }
}

// The transpose of A (K x M) as rows for `multiply`: tile t has TILE_ROWS elements side by side for each k.
template <class T>
void pack_rows(const T* A, int64_t lda, int M, int K, T* packed) {
    const int tiles = tiles_of(M);
    for (int k0 = 0; k0 < K; k0 += 16)
        for (int t = 0; t < tiles; t++) {
            const int first = int64_t(M) * t / tiles, rows = int64_t(M) * (t + 1) / tiles - first;
            T* to = packed + (int64_t(t) * K + k0) * TILE_ROWS;
            const T* from = A + k0 * lda + first;
            for (int k = k0; k < std::min(k0 + 16, K); k++, from += lda, to += TILE_ROWS)
                if (BYTES < 64 && rows == TILE_ROWS)  // no masks: a part of a vector would go lane by lane
                    std::copy(from, from + TILE_ROWS, to);
                else
                    each<T>(rows, [&](int i, auto part) { store(to + i, load(from + i, part), part); });
        }
}

int64_t columns_of(int N, int panel) { return int64_t(N + panel - 1) / panel * panel; }

// Terms of a sum over all rows, steps times cases, that are added to each other before they are added to the others:
// one long sum would round more than twice as much as a loop over steps.
constexpr int TERMS = 192;
static_assert(TERMS <= DEPTH, "the block of a packed matrix");
constexpr int CHUNK = 16 * TILE_ROWS;  // rows that are packed at once: they stay in the cache while B passes by panels

// Elements that multiply_transposed needs for N columns of C.
template <class T>
int64_t room_of(int N) {
    return TERMS * (CHUNK + columns_of(N, PANEL<T>));
}

// C (M x N) = A' B, A (K x lda, of which M columns are taken) and B (K x N), in blocks of at most TERMS rows
template <class T>
void multiply_transposed(const T* A, int64_t lda, const T* B, int K, int M, int N, T* C, T* room) {
    T *b = room, *a = b + TERMS * columns_of(N, PANEL<T>);
    const int blocks = (K + TERMS - 1) / TERMS;
    for (int block = 0; block < blocks; block++) {
        const int k = int64_t(K) * block / blocks, depth = int64_t(K) * (block + 1) / blocks - k;
        pack<T>(B + int64_t(k) * N, N, 1, depth, N, b);
        for (int m = 0; m < M; m += CHUNK) {
            const int rows = std::min(CHUNK, M - m);
            pack_rows<T>(A + k * lda + m, lda, rows, depth, a);
            multiply<T, true>(a, 0, b, rows, depth, N, C + int64_t(m) * N, N, block > 0);
        }
    }
}

// ---- what the caller hands over: the same structures stand in cpu.py ----------------------------------------------

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
    Norm term[2], out;           // of A or, joined, of the sum; of R; of the LSTM's cell state
    void *x, *W_ih, *packed_ih;  // (T, N, I), (GH, I), and room for W_ih in panels, forward and backward
    void *W, *packed;            // W_hh (GH, H), and room for it in panels
    void *b_in, *b_hh, *b_out;   // shifts; b_in may be null where nothing normalises A
    void* A;                     // (window, N, GH) x W_ih'; joined: the sum of both terms, written here
    void* R;                     // (T, N, GH) h_{t-1} W_hh', unless joined
    void* gates;                 // (T, N, GH) activations of the gates; null: they overwrite A. Not for an rnn
    void* v;                     // (T, N, H) gru: v_n
    void* u;                     // (T, N, H) lstm: tanh of the normalised cell state
    void *c, *h;                 // (T+1, N, H): states with the initial one at the front, at the back in reverse
    void *h0, *c0, *h_n, *c_n;   // (N, H): the initial states, and copies of the last; c0 and c_n only for an lstm
    // backward
    void *dy, *dh_last, *dc_last;  // null for zero
    void* dR;                      // (T, N, GH): A, R or a buffer of its own; dA is written over A
    void* dx;                      // (T, N, I); null: not asked for
    void *dh, *dc;                 // (N, H): gradients of the initial states
    void *db_in, *db_hh, *db_out;  // sums over time and cases, as Norm::gain_grad
};

// ---- normalisers --------------------------------------------------------------------------------------------------

template <class T>
struct Statistics {
    T *mean, *rstd, *var;
};

// of step s for the rows from n on
template <class T>
Statistics<T> statistics(const Norm& norm, int s, int n) {
    const int64_t at = s * norm.step + (norm.over == CASE ? int64_t(n) * norm.spans : 0);
    return {(T*)norm.mean + at, (T*)norm.rstd + at, (T*)norm.var + at};
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
        const T rstd = 1 / std::sqrt(total<T>(squares.lanes()) / m + T(norm.eps));
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

// Both terms of an LSTM at once, z = base + n_in(a) + n_hh(r): their sums do not wait for each other, and what they
// share is read once. Their spans agree.
template <class T>
[[gnu::flatten]] void pair_forward(const Norm (&norm)[2], Statistics<T> at_a, Statistics<T> at_r, const T* a,
                                   const T* r, const T* base, T* z) {
    const T *gain_a = (const T*)norm[0].gain, *gain_r = (const T*)norm[1].gain;
    for (int span = 0, lo = 0; span < norm[0].spans; span++) {
        const int m = norm[0].ends[span] - lo;
        T mean_a = 0, mean_r = 0;
        if (norm[0].centred) {
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
        const T rstd_a = 1 / std::sqrt(total<T>(squares_a.lanes()) / m + T(norm[0].eps));
        const T rstd_r = 1 / std::sqrt(total<T>(squares_r.lanes()) / m + T(norm[1].eps));
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
[[gnu::flatten]] void pair_backward(const Norm (&norm)[2], Statistics<T> at_a, Statistics<T> at_r, const T* a,
                                    const T* r, const T* dz, T* da, T* dr, Gradients<T> to) {
    const T *gain_a = (const T*)norm[0].gain, *gain_r = (const T*)norm[1].gain;
    for (int span = 0, lo = 0; span < norm[0].spans; span++) {
        const int m = norm[0].ends[span] - lo;
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
        const T s_a = norm[0].centred ? total<T>(sum_a.lanes()) / m : 0, p_a = total<T>(product_a.lanes()) / m;
        const T s_r = norm[0].centred ? total<T>(sum_r.lanes()) / m : 0, p_r = total<T>(product_r.lanes()) / m;
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
        const Vec<T> var = squares / T(N);
        Vec<T> rstd = var + T(norm.eps);
        for (int k = 0; k < LANES<T>; k++) rstd[k] = 1 / std::sqrt(rstd[k]);
        const Vec<T> scale = load(gain + j, n) * rstd;
        for (int i = 0; i < N; i++)
            store(y + int64_t(i) * m + j,
                  load(base + i * base_row + j, n) + scale * (load(x + int64_t(i) * m + j, n) - mean), n);
        store(at.mean + j, mean, n), store(at.rstd + j, rstd, n), store(at.var + j, var, n);
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
        const bool frozen = norm.over == FROZEN;
        const Vec<T> a = frozen ? Vec<T>{} : sum / T(N), b = frozen ? Vec<T>{} : product * rstd / T(N);
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

// y = base + n(x) for N cases of m features from case n of step s on; base_row is 0 for a vector of shifts
template <class T>
void norm_forward(const Norm& norm, int s, int n, int N, int m, const T* x, const T* base, int64_t base_row, T* y) {
    const Statistics<T> at = statistics<T>(norm, s, n);
    if (norm.over == BATCH) return batch_forward(norm, at, N, m, x, base, base_row, y);
    if (norm.over == FROZEN) return frozen_forward(norm, at, N, m, x, base, base_row, y);
    for (int i = 0; i < N; i++, x += m, y += m, base += base_row) {
        if (norm.over == CASE)
            case_forward(norm, statistics<T>(norm, s, n + i), x, base, y);
        else
            each<T>(m, [&](int j, auto k) { store(y + j, load(base + j, k) + load(x + j, k), k); });
    }
}
template <class T>
void norm_backward(const Norm& norm, int s, int n, int N, int m, const T* x, const T* dy, T* dx, T* gain_grad) {
    if (norm.over == CASE)
        for (int i = 0; i < N; i++, x += m, dy += m, dx += m)
            case_backward(norm, statistics<T>(norm, s, n + i), x, dy, dx, gain_grad);
    else
        batch_backward(norm, statistics<T>(norm, s, n), N, m, x, dy, dx, gain_grad);
}

// ---- cells: one case, one step ------------------------------------------------------------------------------------

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

// ---- the sequence -------------------------------------------------------------------------------------------------

template <class T>
struct Buffer {  // aligned to a vector
    std::vector<T> data;
    T* at;
    explicit Buffer(int64_t size) : data(size + LANES<T>) {
        at = data.data() + (BYTES - (uintptr_t)data.data() % BYTES) % BYTES / sizeof(T);
    }
};

bool paired(const Sequence& q) {
    const Norm &a = q.term[0], &r = q.term[1];
    return q.cell == LSTM && a.over == CASE && r.over == CASE && a.spans == r.spans && a.centred == r.centred &&
           std::equal(a.ends, a.ends + a.spans, r.ends);
}
bool whole_batch(const Sequence& q) {
    return q.term[0].over == BATCH || q.term[1].over == BATCH || q.out.over == BATCH;
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
    Buffer<T> z_in(int64_t(chunk) * m), z_hh(int64_t(chunk) * m), cell(int64_t(chunk) * H);
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
        multiply<T>(h_prev + int64_t(n0) * H, H, (T*)q.packed, rows, H, m, product, m, q.joined, soon);
        for (int n = n0; n < n1; n += chunk) {
            const int64_t nm = int64_t(n) * m, nH = int64_t(n) * H;
            const T* z = A + nm;
            if (pair) {
                const auto at_a = statistics<T>(q.term[0], s, n), at_r = statistics<T>(q.term[1], s, n);
                pair_forward(q.term, at_a, at_r, A + nm, R + nm, (T*)q.b_in, z_hh.at);
                z = z_hh.at;
            } else if (q.term[0].over != NOTHING || q.b_in) {
                norm_forward<T>(q.term[0], s, n, chunk, m, z, (T*)q.b_in, 0, z_in.at);
                z = z_in.at;
            }
            if (q.cell == GRU) {
                norm_forward<T>(q.term[1], s, n, chunk, m, R + nm, (T*)q.b_hh, 0, z_hh.at);
            } else if (!q.joined && !pair) {
                norm_forward<T>(q.term[1], s, n, chunk, m, R + nm, z, m, z_hh.at);
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
            if (q.out.over != NOTHING) {
                norm_forward<T>(q.out, s, n, chunk, H, normed, (T*)q.b_out, 0, cell.at);
                normed = cell.at;
            }
            for (int i = 0; i < chunk; i++)
                lstm_output(H, gates + nm + int64_t(i) * m, normed + int64_t(i) * H, u + nH + int64_t(i) * H,
                            h + nH + int64_t(i) * H);
        }
    }
}

// Gradients of b_in, b_hh, the gains of both terms (GH each), b_out and its gain (H each), summed over these cases into
// `sums`. Each step is summed by itself first, as in a loop over steps: one long sum would round three times as much.
template <class T>
void backward_cases(const Sequence& q, int n0, int n1, T* sums) {
    const int H = q.H, m = gates_of(q) * H, chunk = whole_batch(q) ? n1 - n0 : 1;
    const int64_t NH = int64_t(q.N) * H, Nm = int64_t(q.N) * m;
    const int size = 4 * m + 2 * H;
    Buffer<T> of_step(size);
    T *db_in = of_step.at, *db_hh = db_in + m, *dg_in = db_hh + m, *dg_hh = dg_in + m, *db_out = dg_hh + m;
    T* dg_out = db_out + H;
    const bool same =
        q.joined || (q.term[0].over == NOTHING && q.term[1].over == NOTHING && q.cell != GRU);  // dA is dR
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
            T* dz = q.term[0].over == NOTHING ? dA + nm : scratch.at;             // of n_in's output
            T* dv = q.term[1].over == NOTHING && !same ? dR + nm : scratch_v.at;  // of n_hh's output, for a gru
            if (q.cell == LSTM) {
                const bool normed = q.out.over != NOTHING;
                T* d_tanh = normed ? dnormed.at : dcell.at;
                for (int i = 0; i < chunk; i++) {
                    const int64_t im = int64_t(i) * m, iH = int64_t(i) * H;
                    lstm_output_backward(H, gates + nm + im, u + nH + iH, dh + nH + iH, dz + im, d_tanh + iH);
                }
                if (normed) {
                    add_rows(chunk, H, dnormed.at, db_out);
                    norm_backward<T>(q.out, s, n, chunk, H, c + nH, dnormed.at, dcell.at, dg_out);
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
                const auto at_a = statistics<T>(q.term[0], s, n), at_r = statistics<T>(q.term[1], s, n);
                pair_backward<T>(q.term, at_a, at_r, A + nm, R + nm, dz, dA + nm, dR + nm, {db_in, dg_in, dg_hh});
                continue;
            }
            add_rows(chunk, m, dz, db_in);
            if (q.term[0].over != NOTHING) norm_backward<T>(q.term[0], s, n, chunk, m, A + nm, dz, dA + nm, dg_in);
            if (q.cell != GRU) dv = dz;
            if (q.term[1].over != NOTHING)
                norm_backward<T>(q.term[1], s, n, chunk, m, R + nm, dv, dR + nm, dg_hh);
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
        multiply<T>(dR + int64_t(n0) * m, m, (T*)q.packed, n1 - n0, m, H, dh + int64_t(n0) * H, H, q.cell == GRU, soon);
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
    pack<T>((T*)q.W, 1, q.H, q.H, m, (T*)q.packed);
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
    pack<T>((T*)q.W, q.H, 1, m, q.H, (T*)q.packed);
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
    for (auto [to, n] : {std::pair{q.db_in, m}, std::pair{q.db_hh, m}, std::pair{q.term[0].gain_grad, m},
                         std::pair{q.term[1].gain_grad, m}, std::pair{q.db_out, H}, std::pair{q.out.gain_grad, H}}) {
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
