// Products whose factors are rounded to bfloat16 and whose sums are float32, where the processor has them: by AMX, tiles
// of 16 x 32 with 16 x 16 sums, or by AVX512-BF16, which adds two products to each lane. As these instructions do,
// denormals count as zero; a NaN passes.

#pragma once

#include "vectors.h"

#if defined(__AVX512BF16__)
#define HAS_BFLOAT16 1
#if defined(__AMX_BF16__) && defined(__linux__)
#define HAS_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef uint16_t Half;
constexpr int HALF_PANEL = 32;   // columns of a panel
constexpr int HALF_STEP = 32;    // rows of a tile of B: a panel is filled up with zeros to a multiple
constexpr int HALF_DEPTH = 512;  // rows of A's block that are rounded at once, and columns
constexpr int HALF_ROWS = 64;
constexpr int HALF_STRIDE = HALF_DEPTH + 32;  // not a power of two, whose rows would share a few sets of the cache

inline int whole_steps(int K) { return (K + HALF_STEP - 1) / HALF_STEP * HALF_STEP; }

// 16 words: the roundings of `low` in their low halves, of `high` in their high ones
inline __m512i pairs(Vec<float> low, Vec<float> high) {
    const __m256i a = (__m256i)_mm512_cvtneps_pbh((__m512)low), b = (__m256i)_mm512_cvtneps_pbh((__m512)high);
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}
template <class Lanes>
inline void round_to(Half* to, const float* from, Lanes lanes) {
    const __m256i halves = (__m256i)_mm512_cvtneps_pbh((__m512)load(from, lanes));
    if constexpr (std::is_same_v<Lanes, Part>)
        _mm256_mask_storeu_epi16(to, (1u << lanes.n) - 1, halves);
    else
        _mm256_storeu_si256((__m256i*)to, halves);
}
// A matrix B (K x N), rounded, in panels of 32 columns, zeros behind the last row and column: elements (k, n) and
// (k + 1, n), k even, stand side by side at [n / 32][k / 2][n % 32]. B is given with its rows (column = 1) or its
// columns (row = 1) contiguous.
inline void pack_halves(const float* B, int64_t row, int64_t column, int K, int N, Half* packed) {
    const int depth = whole_steps(K);
    for (int n0 = 0; n0 < N; n0 += HALF_PANEL, packed += int64_t(depth) * HALF_PANEL)
        for (int n = n0; n < n0 + HALF_PANEL; n += 16)
            for (int k0 = 0; k0 < depth; k0 += 32) {
                __m512i words[16] = {};
                const int rows = std::min(32, K - k0), columns = std::min(16, N - n);
                for (int i = 0; i < 16; i++) {
                    if (column == 1) {
                        if (2 * i >= rows || columns <= 0) break;
                        const float* from = B + (k0 + 2 * i) * row + n;
                        const Part part{columns};
                        words[i] = pairs(load(from, part), 2 * i + 1 < rows ? load(from + row, part) : Vec<float>{});
                    } else {
                        if (i >= columns) break;
                        const float* from = B + (n + i) * column + k0;
                        Half halves[32] = {};
                        round_to(halves, from, Part{std::min(16, rows)});
                        if (rows > 16) round_to(halves + 16, from + 16, Part{rows - 16});
                        words[i] = _mm512_loadu_si512(halves);
                    }
                }
                if (column != 1) transpose(words);
                for (int i = 0; i < 16; i++)
                    _mm512_storeu_si512(packed + (k0 / 2 + i) * 2 * HALF_PANEL + 2 * (n - n0), words[i]);
            }
}

#if HAS_AMX
// Whether the system lets this process use the tiles' registers; asked once.
inline bool may_use_tiles() {
    static const bool may = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
    return may;
}

// The tiles' sizes: sums 0 to 3 (two by two), A's 4 and 5, B's 6 and 7
struct Tiles {
    int rows = 0, columns = 0;
    void configure(int new_rows, int new_columns) {
        if (rows == new_rows && columns == new_columns) return;
        rows = new_rows, columns = new_columns;
        struct alignas(64) {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {};
            uint8_t rows[16] = {};
        } config;
        const int high[] = {std::min(rows, 16), rows - 16}, wide[] = {std::min(columns, 16), columns - 16};
        auto set = [&](int tile, int rows, int bytes) {
            if (rows > 0 && bytes > 0) config.rows[tile] = rows, config.bytes[tile] = bytes;
        };
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < 2; j++) set(2 * i + j, high[i], 4 * wide[j]);
            set(4 + i, high[i], 64);
            set(6 + i, 16, 4 * wide[i]);
        }
        asm volatile("" ::: "memory");  // the compiler does not know what the intrinsics read
        _tile_loadconfig(&config);
    }
    ~Tiles() {
        if (rows) _tile_release();
    }
};

// C (up to 32 x 32, the tiles' size) = or += A (lda) B, a panel's block
template <bool SECOND_ROWS, bool SECOND_COLUMNS>
void multiply_tiles(const Half* A, int64_t lda, const Half* B, int depth, float* C, int64_t ldc, bool add) {
    constexpr bool BOTH = SECOND_ROWS && SECOND_COLUMNS;
    asm volatile("" ::: "memory");
    if (add) {
        _tile_loadd(0, C, 4 * ldc);
        if (SECOND_COLUMNS) _tile_loadd(1, C + 16, 4 * ldc);
        if (SECOND_ROWS) _tile_loadd(2, C + 16 * ldc, 4 * ldc);
        if (BOTH) _tile_loadd(3, C + 16 * ldc + 16, 4 * ldc);
    } else {
        _tile_zero(0);
        if (SECOND_COLUMNS) _tile_zero(1);
        if (SECOND_ROWS) _tile_zero(2);
        if (BOTH) _tile_zero(3);
    }
    for (int k = 0; k < depth; k += HALF_STEP, A += HALF_STEP, B += HALF_STEP * HALF_PANEL) {
        _tile_loadd(4, A, 2 * lda);
        _tile_loadd(6, B, 4 * HALF_PANEL);
        _tile_dpbf16ps(0, 4, 6);
        if (SECOND_COLUMNS) {
            _tile_loadd(7, B + 32, 4 * HALF_PANEL);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (SECOND_ROWS) {
            _tile_loadd(5, A + 16 * lda, 2 * lda);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (BOTH) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, C, 4 * ldc);
    if (SECOND_COLUMNS) _tile_stored(1, C + 16, 4 * ldc);
    if (SECOND_ROWS) _tile_stored(2, C + 16 * ldc, 4 * ldc);
    if (BOTH) _tile_stored(3, C + 16 * ldc + 16, 4 * ldc);
    asm volatile("" ::: "memory");
}
#endif

// The same for up to TILE_ROWS rows, without tiles
template <int ROWS = TILE_ROWS>
void multiply_pairs(int rows, const Half* A, int64_t lda, const Half* B, int depth, int columns, float* C, int64_t ldc,
                    bool add) {
    if constexpr (ROWS > 1)
        if (rows < ROWS) return multiply_pairs<ROWS - 1>(rows, A, lda, B, depth, columns, C, ldc, add);
    const Part parts[] = {Part{std::min(columns, 16)}, Part{std::max(columns - 16, 0)}};
    __m512 sum[ROWS][2];
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < 2; v++)
            sum[i][v] = add ? (__m512)load(C + i * ldc + 16 * v, parts[v]) : _mm512_setzero_ps();
    for (int k = 0; k < depth; k += 2, B += 2 * HALF_PANEL) {
        const __m512bh b[] = {(__m512bh)_mm512_loadu_si512(B), (__m512bh)_mm512_loadu_si512(B + HALF_PANEL)};
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) {
            int32_t two;
            std::memcpy(&two, A + i * lda + k, 4);
            const __m512bh a = (__m512bh)_mm512_set1_epi32(two);
            for (int v = 0; v < 2; v++) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], a, b[v]);
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < 2; v++) store(C + i * ldc + 16 * v, (Vec<float>)sum[i][v], parts[v]);
}

// C (M x N) = or += A (M x depth) B, A rounded and filled up with zeros to whole steps, B a block of each panel, which
// lie `panel` apart
inline void multiply_halves(const Half* A, int64_t lda, const Half* B, int64_t panel, int M, int depth, int N, float* C,
                            int64_t ldc, bool add) {
#if HAS_AMX
    if (may_use_tiles()) {
        Tiles tiles;
        for (int n = 0; n < N; n += HALF_PANEL, B += panel)
            for (int m = 0; m < M; m += 32) {
                tiles.configure(std::min(32, M - m), std::min(32, N - n));
                const auto run = tiles.rows > 16
                                     ? tiles.columns > 16 ? multiply_tiles<true, true> : multiply_tiles<true, false>
                                 : tiles.columns > 16 ? multiply_tiles<false, true>
                                                      : multiply_tiles<false, false>;
                run(A + m * lda, lda, B, depth, C + m * ldc + n, ldc, add);
            }
        return;
    }
#endif
    for (int n = 0; n < N; n += HALF_PANEL, B += panel)
        for (int m = 0; m < M; m += TILE_ROWS)
            multiply_pairs(std::min(TILE_ROWS, M - m), A + m * lda, lda, B, depth, std::min(32, N - n),
                           C + m * ldc + n, ldc, add);
}

// C (M x N) = or += A (M x K) B, B packed
inline void multiply_rounded(const float* A, int64_t lda, const Half* packed, int M, int K, int N, float* C,
                             int64_t ldc, bool add) {
    alignas(64) Half rounded[HALF_ROWS * HALF_STRIDE];
    const int64_t panel = int64_t(whole_steps(K)) * HALF_PANEL;
    for (int m0 = 0; m0 < M; m0 += HALF_ROWS)
        for (int k0 = 0; k0 < K; k0 += HALF_DEPTH) {
            const int rows = std::min(HALF_ROWS, M - m0), width = std::min(HALF_DEPTH, K - k0);
            const int depth = whole_steps(width);
            for (int m = 0; m < rows; m++) {
                Half* to = rounded + m * HALF_STRIDE;
                std::fill(to + width, to + depth, Half(0));
                const float* from = A + (m0 + m) * lda + k0;
                each<float>(width, [&](int k, auto lanes) { round_to(to + k, from + k, lanes); });
            }
            multiply_halves(rounded, HALF_STRIDE, packed + int64_t(k0) * HALF_PANEL, panel, rows, depth, N,
                            C + m0 * ldc, ldc, add || k0 > 0);
        }
}

// Halves that multiply_transposed_rounded needs for N columns of C.
inline int64_t halves_for(int N) {
    return HALF_DEPTH * ((N + HALF_PANEL - 1) / HALF_PANEL * HALF_PANEL) + HALF_ROWS * HALF_STRIDE;
}

// C (M x N) = A' B, A (K x lda, of which M columns are taken) and B (K x N)
inline void multiply_transposed_rounded(const float* A, int64_t lda, const float* B, int K, int M, int N, float* C,
                                        Half* room) {
    Half *a = room, *b = room + HALF_ROWS * HALF_STRIDE;
    for (int k0 = 0; k0 < K; k0 += HALF_DEPTH) {
        const int width = std::min(HALF_DEPTH, K - k0), depth = whole_steps(width);
        pack_halves(B + int64_t(k0) * N, N, 1, width, N, b);
        for (int m0 = 0; m0 < M; m0 += HALF_ROWS) {
            const int rows = std::min(HALF_ROWS, M - m0);
            for (int k = 0; k < depth; k += 32)
                for (int m = 0; m < rows; m += 16) {
                    __m512i words[16] = {};
                    const Part part{std::min(16, rows - m)};
                    for (int i = 0; i < 16 && k + 2 * i < width; i++) {
                        const float* from = A + (k0 + k + 2 * i) * lda + m0 + m;
                        words[i] = pairs(load(from, part), k + 2 * i + 1 < width ? load(from + lda, part) : Vec<float>{});
                    }
                    transpose(words);
                    for (int i = 0; i < part.n; i++) _mm512_storeu_si512(a + (m + i) * HALF_STRIDE + k, words[i]);
                }
            multiply_halves(a, HALF_STRIDE, b, int64_t(depth) * HALF_PANEL, rows, depth, N, C + int64_t(m0) * N, N,
                            k0 > 0);
        }
    }
}
#else
#define HAS_BFLOAT16 0
#endif
