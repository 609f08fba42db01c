/* The element type, the vector type, and the few operations that C cannot express portably.
 *
 * A build defines FM_DOUBLE (0 or 1); the compiler's target determines the vector width. The rest
 * of the kernels is written once, for `real` and `vec`. */
#ifndef FASTMLP_REAL_H
#define FASTMLP_REAL_H

#include <stdint.h>
#include <string.h>

#include "../fastmlp.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VEC_BYTES 64
#elif defined(__AVX2__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif

#if FM_DOUBLE
typedef double real;
typedef int64_t bits;
#else
typedef float real;
typedef int32_t bits;
#endif

typedef real vec __attribute__((vector_size(VEC_BYTES)));
typedef bits mask __attribute__((vector_size(VEC_BYTES)));
/* Unaligned access goes through this type: with memcpy of a vector, GCC 12 spilled
 * registers in the tile. */
typedef real loose_vec __attribute__((vector_size(VEC_BYTES), aligned(sizeof(real)), may_alias));

#define LANES ((int)(VEC_BYTES / sizeof(real)))
#define INLINE static inline __attribute__((always_inline, unused))

INLINE vec load(const real *p) { return *(const loose_vec *)p; }
INLINE void store(real *p, vec v) { *(loose_vec *)p = v; }
INLINE vec splat(real a) { return a - (vec){0}; }
INLINE vec pick(mask m, vec a, vec b) { return (vec)(((mask)a & m) | ((mask)b & ~m)); }
INLINE vec vabs(vec a) { return (vec)((mask)a & ~(mask)splat((real)-0.0)); }
/* |a| with the sign of s */
INLINE vec with_sign(vec a, vec s) {
    const mask sign = (mask)splat((real)-0.0);
    return (vec)(((mask)a & ~sign) | ((mask)s & sign));
}
/* All bits set in lanes where a is finite: a - a is 0 there and NaN elsewhere. */
INLINE mask is_finite(vec a) { return (a - a) == (vec){0}; }

/* fma_: a b + c, rounded once (twice in the baseline build, which has no such instruction).
 * vmax, vmin: a > b ? a : b and a < b ? a : b. The result is b if one of them is NaN.
 * load_part, store_part: the first n < LANES elements. The others read as 0 and are not written. */
#if defined(__AVX512F__) && FM_DOUBLE
INLINE vec fma_(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
INLINE vec vsqrt(vec a) { return _mm512_sqrt_pd(a); }
INLINE vec vmax(vec a, vec b) { return _mm512_max_pd(a, b); }
INLINE vec vmin(vec a, vec b) { return _mm512_min_pd(a, b); }
INLINE int all_finite(vec a) { return _mm512_cmpeq_pd_mask(a - a, (vec){0}) == 0xff; }
INLINE vec load_part(const real *p, int64_t n) {
    return _mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
INLINE void store_part(real *p, vec v, int64_t n) {
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), v);
}
#elif defined(__AVX512F__)
INLINE vec fma_(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec vsqrt(vec a) { return _mm512_sqrt_ps(a); }
INLINE vec vmax(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec vmin(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE int all_finite(vec a) { return _mm512_cmpeq_ps_mask(a - a, (vec){0}) == 0xffff; }
INLINE vec load_part(const real *p, int64_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void store_part(real *p, vec v, int64_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}
#elif defined(__AVX2__) && FM_DOUBLE
INLINE __m256i part(int64_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
INLINE vec fma_(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
INLINE vec vsqrt(vec a) { return _mm256_sqrt_pd(a); }
INLINE vec vmax(vec a, vec b) { return _mm256_max_pd(a, b); }
INLINE vec vmin(vec a, vec b) { return _mm256_min_pd(a, b); }
INLINE int all_finite(vec a) { return _mm256_movemask_pd((vec)is_finite(a)) == 0xf; }
INLINE vec load_part(const real *p, int64_t n) { return _mm256_maskload_pd(p, part(n)); }
INLINE void store_part(real *p, vec v, int64_t n) { _mm256_maskstore_pd(p, part(n), v); }
#elif defined(__AVX2__)
INLINE __m256i part(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vec fma_(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec vsqrt(vec a) { return _mm256_sqrt_ps(a); }
INLINE vec vmax(vec a, vec b) { return _mm256_max_ps(a, b); }
INLINE vec vmin(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE int all_finite(vec a) { return _mm256_movemask_ps((vec)is_finite(a)) == 0xff; }
INLINE vec load_part(const real *p, int64_t n) { return _mm256_maskload_ps(p, part(n)); }
INLINE void store_part(real *p, vec v, int64_t n) { _mm256_maskstore_ps(p, part(n), v); }
#else
INLINE vec fma_(vec a, vec b, vec c) { return a * b + c; }
INLINE vec vmax(vec a, vec b) { return pick(a > b, a, b); }
INLINE vec vmin(vec a, vec b) { return pick(a < b, a, b); }
INLINE vec vsqrt(vec a) {
    for (int i = 0; i < LANES; i++)
        a[i] = FM_DOUBLE ? (real)__builtin_sqrt((double)a[i]) : (real)__builtin_sqrtf((float)a[i]);
    return a;
}
INLINE int all_finite(vec a) {
    const mask m = is_finite(a);
    bits all = -1;
    for (int i = 0; i < LANES; i++)
        all &= m[i];
    return all != 0;
}
INLINE vec load_part(const real *p, int64_t n) {
    vec v = {0};
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
}
INLINE void store_part(real *p, vec v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof(real)); }
#endif

/* stream: stores a whole vector past the caches, at an address that is a multiple of its size.
 * end_stream must come before other threads may read what stream has stored. */
#if defined(__AVX512F__) && FM_DOUBLE
INLINE void stream(real *p, vec v) { _mm512_stream_pd(p, v); }
#elif defined(__AVX512F__)
INLINE void stream(real *p, vec v) { _mm512_stream_ps(p, v); }
#elif defined(__AVX2__) && FM_DOUBLE
INLINE void stream(real *p, vec v) { _mm256_stream_pd(p, v); }
#elif defined(__AVX2__)
INLINE void stream(real *p, vec v) { _mm256_stream_ps(p, v); }
#else
INLINE void stream(real *p, vec v) { store(p, v); }
#endif
#if defined(__AVX2__)
INLINE void end_stream(void) { _mm_sfence(); }
#else
INLINE void end_stream(void) {}
#endif
/* Elements of n to skip until p is a multiple of a vector's size. */
INLINE int64_t before_aligned(const real *p, int64_t n) {
    const int64_t head = -(int64_t)((uintptr_t)p / sizeof(real)) & (LANES - 1);
    return head < n ? head : n;
}

/* Access to `n` remaining elements: a whole vector if there are enough. */
INLINE vec load_upto(const real *p, int64_t n) { return n >= LANES ? load(p) : load_part(p, n); }
INLINE void store_upto(real *p, vec v, int64_t n) {
    if (n >= LANES)
        store(p, v);
    else
        store_part(p, v, n);
}

/* Columns j, j + 1, ... of a row that ends before column `end`. If `end` is not
 * after j, there are none. */
INLINE vec load_rest(const real *row, int64_t j, int64_t end) {
    return end - j >= LANES ? load(row + j) : end > j ? load_part(row + j, end - j) : (vec){0};
}
INLINE void store_rest(real *row, vec v, int64_t j, int64_t end) {
    if (end > j)
        store_upto(row + j, v, end - j);
}

/* Sums along a row use 16 virtual lanes and a fixed tree, so they do not depend
 * on the vector width. */
#define SUM_LANES 16
#define SUM_VECS (SUM_LANES / LANES)

typedef struct {
    vec v[SUM_VECS];
} lane_sums;

INLINE real tree_sum(const lane_sums *s) {
    real t[SUM_LANES];
    memcpy(t, s, sizeof t);
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] += t[i + half];
    return t[0];
}

/* The same for LANES rows at once: each t[i] holds virtual lane i of all of them. Lanes from n on
 * are 0, so they need not be added. */
INLINE vec tree_sums(vec *t, int64_t n) {
#pragma GCC unroll 4
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
        for (int i = 0; half < n && i < half; i++)
            t[i] += t[i + half];
    return t[0];
}

/* ---- where an op's rows are ------------------------------------------------------------------ */

INLINE const real *op_x(const fm_op *op, const fm_ctx *c, int64_t row) {
    const real *base = op->x < 0 ? c->x : (const real *)c->acts + op->x * c->capacity;
    return base + row * op->n_in;
}
INLINE real *op_y(const fm_op *op, const fm_ctx *c, int64_t row) {
    return (real *)c->acts + op->y * c->capacity + row * op->n_out;
}
INLINE real *op_dy(const fm_op *op, const fm_ctx *c, int64_t row) {
    return (real *)c->dacts + op->dy * c->capacity + row * op->n_out;
}
/* NULL if the gradient by the input is not wanted. */
INLINE real *op_dx(const fm_op *op, const fm_ctx *c, int64_t row) {
    real *base = op->dx < 0 ? c->dx : (real *)c->dacts + op->dx * c->capacity;
    return base ? base + row * op->n_in : NULL;
}

INLINE void copy_area(real *to, const real *from, int64_t n, fm_area area) {
    for (int64_t r = area.r0; r < area.r1; r++)
        memcpy(to + r * n + area.j0, from + r * n + area.j0,
               (size_t)(area.j1 - area.j0) * sizeof(real));
}

#endif
