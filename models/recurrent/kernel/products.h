// Matrix products: by panels of a packed matrix, tile by tile in registers; and the transposed product of the gradients
// of the weights.

#pragma once

#include "vectors.h"

// A matrix B (K x N) in panels of PANEL columns, zeros behind the last: element (k, n) stands at
// [n / PANEL][k][n % PANEL], so that a product reads it from first to last.
template <class T>
constexpr int PANEL = TILE_VECTORS * LANES<T>;
template <class T>
constexpr int64_t LINE = 64 / sizeof(T);  // elements of a cache line

#if defined(__AVX512F__)
// The same for a matrix whose columns are contiguous, so many elements apart
inline void pack_columns(const float* B, int64_t column, int K, int N, float* packed) {
    for (int n0 = 0; n0 < N; n0 += PANEL<float>, packed += int64_t(K) * PANEL<float>)
        for (int v = 0; v < PANEL<float>; v += 16)
            for (int k0 = 0; k0 < K; k0 += 16) {
                const int rows = std::min(16, K - k0), columns = std::max(0, std::min(16, N - n0 - v));
                const float* from = B + (n0 + v) * column + k0;
                __m512i words[16];
                for (int i = 0; i < 16; i++)
                    words[i] = i < columns ? (__m512i)load(from + i * column, Part{rows}) : __m512i{};
                transpose(words);
                for (int i = 0; i < rows; i++) store(packed + (k0 + i) * PANEL<float> + v, (Vec<float>)words[i], Whole{});
            }
}
#endif
template <class T>
void pack(const T* B, int64_t row, int64_t column, int K, int N, T* packed) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>)
        if (column != 1) return pack_columns(B, column, K, N, packed);
#endif
    for (int n0 = 0; n0 < N; n0 += PANEL<T>, packed += int64_t(K) * PANEL<T>) {
        const int columns = std::min(PANEL<T>, N - n0);
        if (columns < PANEL<T>) std::fill(packed, packed + int64_t(K) * PANEL<T>, T(0));
        const T* from = B + n0 * column;
        if (column == 1)  // along what lies side by side in B
            for (int64_t k = 0; k < K; k++) std::copy(from + k * row, from + k * row + columns, packed + k * PANEL<T>);
        else
            for (int k0 = 0; k0 < K; k0 += 16)  // few enough rows of the panel for the first-level cache
                for (int n = 0; n < columns; n++)
                    for (int64_t k = k0; k < std::min(k0 + 16, K); k++)
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

#if defined(__AVX512F__)
constexpr int FEW_ROWS = 8;

// C (ROWS x N) = or += A B, B (K x N) not packed, its columns contiguous: for a matrix that is used once. The sums are
// those of `multiply`, to the bit.
template <int ROWS = FEW_ROWS>
void multiply_columns(int rows, const float* A, int64_t lda, const float* B, int K, int N, float* C, bool add) {
    if constexpr (ROWS > 1)
        if (rows < ROWS) return multiply_columns<ROWS - 1>(rows, A, lda, B, K, N, C, add);
    for (int n = 0; n < N; n += 16) {
        const Part columns{std::min(16, N - n)};
        for (int k = 0; k < K; k += DEPTH) {
            Vec<float> sum[ROWS] = {};
            const int end = std::min(k + DEPTH, K);
            for (int k0 = k; k0 < end; k0 += 16) {
                const Part depth{std::min(16, end - k0)};
                __m512i b[16];
                for (int i = 0; i < 16; i++)
                    b[i] = i < columns.n ? (__m512i)load(B + int64_t(n + i) * K + k0, depth) : __m512i{};
                transpose(b);
#pragma GCC unroll 16
                for (int j = 0; j < 16; j++) {
                    if (j == depth.n) break;
#pragma GCC unroll 8
                    for (int i = 0; i < ROWS; i++) sum[i] += A[i * lda + k0 + j] * (Vec<float>)b[j];
                }
            }
            for (int i = 0; i < ROWS; i++) {
                float* c = C + int64_t(i) * N + n;
                store(c, add || k > 0 ? load(c, columns) + sum[i] : sum[i], columns);
            }
        }
    }
}
#endif

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
