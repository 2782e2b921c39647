// Vectors as wide as the compiler's target has them, loads and stores of a row's end, sums in a fixed order, sigmoid and tanh.
//
// Built without -ffast-math: it would flush denormals for the whole process and hide NaN. Sums are therefore written
// with explicit vectors, which no compiler may reorder: the same inputs give the same bits.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

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

#if defined(__AVX512F__)
// 16 x 16 words, transposed
inline void transpose(__m512i (&rows)[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            rows[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            rows[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            t[i + j] = _mm512_shuffle_i32x4(rows[i + j], rows[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_i32x4(rows[i + j], rows[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        rows[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
        rows[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
    }
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
