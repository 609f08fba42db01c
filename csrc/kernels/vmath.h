/* exp, expm1, log, log1p, tanh, sigmoid and the normal distribution as branch-free
 * polynomials on vectors.
 *
 * They use explicit fma and no libm, so every build with fused multiply-add gives the same
 * bits. NaN stays NaN, and the limits at +-inf are exact. tests/test_vmath.py holds the
 * errors to their bounds. */
#ifndef FASTMLP_VMATH_H
#define FASTMLP_VMATH_H

#include "real.h"

#define LOG2E ((real)1.4426950408889634)

#if FM_DOUBLE
#define EXP_HIGH 710.0 /* above: overflow */
#define EXP_LOW (-746.0)
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define ROUNDER 0x1.8p52         /* x + ROUNDER - ROUNDER rounds x to an integer */
#define LN2_HIGH 0x1.62e42feep-1 /* 32 bits: n * LN2_HIGH is exact */
#define LN2_LOW 0x1.a39ef35793c76p-33
#define TINY_SCALE 0x1p54 /* lifts a subnormal into the normal range */
#define TINY_SHIFT 54
/* (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2: Chebyshev, error 4e-17 of exp(r) - 1 */
static const real exp_coefs[] = {
    0.50000000000000011,    0.16666666666666669,    0.041666666666624129,   0.0083333333333300615,
    0.0013888888917213717,  0.00019841269863053618, 2.4801521295954376e-05, 2.7557268459997064e-06,
    2.7620088445409746e-07, 2.510038549551032e-08};
/* log(1 + f) = f - s (f - R), s = f / (2 + f): R in powers of s^2, from FreeBSD's e_log.c */
static const real log_coefs[] = {6.666666666666735130e-01, 3.999999999940941908e-01,
                                 2.857142874366239149e-01, 2.222219843214978396e-01,
                                 1.818357216161805012e-01, 1.531383769920937332e-01,
                                 1.479819860511658591e-01};
/* 2 exp(x^2 / 2) Phi(-x) (K + x) / K in powers of (K - x) / (K + x), x >= 0: Chebyshev, 1e-18 */
#define TAIL_K 5.0
#define TAIL_SLOPE(t) fma_(t, splat(1.03), splat(0.40)) /* slope of the polynomial's logarithm */
static const real tail_coefs[] = {
    0.30767721990002518,     0.26615300115602276,     0.19812224638799049,
    0.12541326266851256,     0.066008146468159684,    0.027647455482828607,
    0.0083180267197701879,   0.0011973507035919076,   -0.0003191477564089469,
    -0.00021795958735303046, -2.3750318902970508e-05, 1.9904931185131785e-05,
    6.6726424421383951e-06,  -1.5917446470277769e-06, -1.1082668103365898e-06,
    1.3341715908978313e-07,  1.7452320254528628e-07,  -1.5428663814054763e-08,
    -2.8151109601380684e-08, 2.7763995947928354e-09,  4.4954413764001795e-09,
    -5.0857512106786939e-10, -6.1337987638560691e-10, 5.3252806292580719e-11,
    4.9866663111821177e-11};
#else
#define EXP_HIGH 89.0f
#define EXP_LOW (-104.0f)
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define ROUNDER 0x1.8p23f
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define TINY_SCALE 0x1p25f
#define TINY_SHIFT 25
static const real exp_coefs[] = {5.000000013e-01f, 1.666666668e-01f, 4.166646493e-02f,
                                 8.333310925e-03f, 1.393365000e-03f, 1.989099082e-04f};
static const real log_coefs[] = {0xaaaaaa.0p-24f, 0xccce13.0p-25f, 0x91e9ee.0p-25f,
                                 0xf89e26.0p-26f};
#define TAIL_K 3.5f
#define TAIL_SLOPE(t) fma_(t, splat(0.45f), splat(0.52f))
/* The first six are rounded so that their rounding errors cancel. */
static const real tail_coefs[] = {4.253806174e-01f,  3.231782019e-01f,  1.802430004e-01f,
                                  6.631468982e-02f,  9.945483878e-03f,  -3.699702211e-03f,
                                  -1.814240240e-03f, 2.506739402e-04f,  2.560394641e-04f,
                                  -3.164508962e-05f, -2.738489820e-05f, 4.282977898e-06f};
#endif

/* c[0] + c[1] x + ... by Horner's rule. n is a constant, so the loop unrolls. */
INLINE vec polynomial(vec x, const real *c, int n) {
    vec p = splat(c[n - 1]);
#pragma GCC unroll 32
    for (int i = n - 2; i >= 0; i--)
        p = fma_(p, x, splat(c[i]));
    return p;
}
#define ARRAY_LENGTH(c) (int)(sizeof(c) / sizeof((c)[0]))
#define POLYNOMIAL(x, c) polynomial(x, c, ARRAY_LENGTH(c))

/* 2^n for an integral n within the exponent range */
INLINE vec power_of_2(vec n) {
    const mask biased = (mask)(n + (ROUNDER + EXPONENT_BIAS)) - (mask)splat(ROUNDER);
    return (vec)(biased << MANTISSA_BITS);
}

/* exp(x) = 2^n (1 + p), p = exp(r) - 1, x = n ln 2 + r, for x between EXP_LOW and EXP_HIGH or NaN
 */
INLINE vec exp_parts(vec x, vec *n) {
    *n = fma_(x, splat(LOG2E), splat(ROUNDER)) - ROUNDER;
    vec r = fma_(*n, splat(-LN2_HIGH), x);
    r = fma_(*n, splat(-LN2_LOW), r);
    return fma_(r * r, POLYNOMIAL(r, exp_coefs), r);
}

/* x 2^n. Without such an instruction, 2^n is applied in two factors: alone it may overflow or be
 * subnormal although the result is neither. The first factor is exact, so the bits are the same. */
INLINE vec scaled(vec x, vec n) {
#if defined(__AVX512F__) && FM_DOUBLE
    return _mm512_scalef_pd(x, n);
#elif defined(__AVX512F__)
    return _mm512_scalef_ps(x, n);
#else
    const vec half = fma_(n, splat((real)0.5), splat(ROUNDER)) - ROUNDER;
    return x * power_of_2(half) * power_of_2(n - half);
#endif
}

INLINE vec vexp(vec x) {
    vec n;
    const vec p = exp_parts(vmax(splat(EXP_LOW), vmin(splat(EXP_HIGH), x)), &n);
    return scaled(1 + p, n);
}

/* exp(x) - 1 for x <= 0; small x keep their digits. *low receives the rounding error
 * of the last addition. */
INLINE vec expm1_negative_parts(vec x, vec *low) {
    vec n;
    /* below -64, exp(x) - 1 is -1 in both types */
    const vec p = exp_parts(vmax(splat(-64), x), &n);
    const vec scale = power_of_2(n), sum = fma_(scale, p, scale - 1);
    *low = fma_(scale, p, scale - 1 - sum);
    return sum;
}

INLINE vec vexpm1_negative(vec x) {
    vec low;
    return expm1_negative_parts(x, &low);
}

/* 1 / d for 1 <= d <= 2, to 6%: enough to divide a rounding error. */
INLINE vec about_inverse(vec d) { return fma_(d, splat((real)-0.47), splat((real)1.41)); }

/* log(1 + f) + c + n ln 2 for |f| < 0.42 */
INLINE vec log_tail(vec n, vec f, vec c) {
    const vec s = f / (2 + f), s2 = s * s;
    const vec r = s2 * POLYNOMIAL(s2, log_coefs);
    const vec h = f * f * (real)0.5;
    return fma_(n, splat(LN2_HIGH), f - (h - fma_(s, h + r, fma_(n, splat(LN2_LOW), c))));
}

/* The difference of bit patterns. It may wrap: that of -0 does. */
INLINE mask minus_bits(mask a, mask b) {
#if FM_DOUBLE
    typedef uint64_t unsigned_bits __attribute__((vector_size(VEC_BYTES)));
#else
    typedef uint32_t unsigned_bits __attribute__((vector_size(VEC_BYTES)));
#endif
    return (mask)((unsigned_bits)a - (unsigned_bits)b);
}

/* x = 2^n m, m in [sqrt(1/2), sqrt(2)), for positive normal x */
INLINE vec mantissa(vec x, vec *n) {
    const mask sqrt_half = (mask)splat((real)0.70710678118654752);
    const mask e = minus_bits((mask)x, sqrt_half) >> MANTISSA_BITS;
    *n = __builtin_convertvector(e, vec);
    return (vec)minus_bits((mask)x, e << MANTISSA_BITS);
}

/* log(x), x >= 0 */
INLINE vec vlog(vec x) {
    vec n;
    const mask subnormal = (x < power_of_2(splat(1 - EXPONENT_BIAS)));
    const vec m = mantissa(pick(subnormal, x * TINY_SCALE, x), &n);
    n = pick(subnormal, n - TINY_SHIFT, n);
    vec y = log_tail(n, m - 1, (vec){0});
    y = pick(x == 0, splat(-__builtin_inff()), y);
    return pick(is_finite(x), y, x);
}

/* log(1 + x), 0 <= x <= 1. The rounding error of 1 + x is added back through c. */
INLINE vec vlog1p_unit(vec x) {
    vec n;
    const vec u = 1 + x;
    const vec m = mantissa(u, &n);
    const vec y = log_tail(n, pick(n == 0, x, m - 1), pick(n == 0, (vec){0}, (x - (u - 1)) / u));
    return pick(is_finite(x), y, x);
}

/* |tanh x| = -t / (2 + t) = 1 - 2 (1 + t) / (2 + t), t = exp(-2 |x|) - 1
 *
 * The first form keeps the digits near 0, because t has them there. The second keeps them
 * near 1, where an error of t would count twice. The first also adds back the rounding
 * errors of t and 2 + t. */
INLINE vec vtanh(vec x) {
    vec low;
    const vec t = expm1_negative_parts(-2 * vabs(x), &low), d = 2 + t;
    const mask near_0 = t > (real)-0.67;
    const vec q = pick(near_0, -t, 2 + 2 * t) / d;
    const vec lost = fma_(q, t - (d - 2), fma_(q, low, low));
    const vec y = pick(near_0, fma_(-lost, about_inverse(d), q), 1 - q);
    return with_sign(y, x);
}

/* 1 / (1 + e) or e / (1 + e), e = exp(-|x|). The rounding error of 1 + e is added back. */
INLINE vec vsigmoid(vec x) {
    const vec e = vexp(-vabs(x)), d = 1 + e;
    const vec q = pick(x < 0, e, splat(1)) / d, lost = q * (e - (d - 1));
    return fma_(-lost, about_inverse(d), q);
}

/* log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)) */
INLINE vec vsoftplus(vec x) { return vmax(x, (vec){0}) + vlog1p_unit(vexp(-vabs(x))); }

/* exp(-x^2 / 2). The square is in two parts: its rounding error would be multiplied by x^2. */
INLINE vec vexp_half_square(vec x) {
    const vec a = vmin(splat(60), vabs(x)); /* beyond 60 the result is 0 in both types */
    const vec half = (real)0.5 * a, square = half * a, rest = fma_(half, a, -square);
    return vexp(-square) * (1 - rest);
}

/* The normal distribution function Phi(x), with relative accuracy in its tail:
 *
 * 2 Phi(-a) = t P(2 t - 1) exp(-a^2 / 2), t = K / (K + a)
 *
 * The rounding errors of t, P and the square would count several times, so they are added back
 * through `low`. */
INLINE vec vnormal_cdf(vec x) {
    const vec a = vmin(splat(60), vabs(x)); /* Phi(-60) is 0 in both types */
    const vec d = TAIL_K + a, above = d - TAIL_K, d_low = TAIL_K - (d - above) + (a - above);
    const vec t = TAIL_K / d, s = fma_(t, splat(2), splat(-1));
    const vec t_low = (fma_(-t, d, splat(TAIL_K)) - t * d_low) * (1 / TAIL_K); /* relative to t */
    const vec s_low = fma_(t, splat(2), -1 - s) + 2 * t * t_low;
    const vec p_rest = polynomial(s, tail_coefs + 1, ARRAY_LENGTH(tail_coefs) - 1);
    const vec p = fma_(p_rest, s, splat(tail_coefs[0]));
    const vec p_low = fma_(p_rest, s, tail_coefs[0] - p);
    const vec low_share = fma_(s_low, TAIL_SLOPE(t), t_low);
    const vec high = t * p;
    const vec low = fma_(t, p, -high) + fma_(high, low_share, t * p_low);

    const vec half = (real)0.5 * a, square = half * a, square_low = fma_(half, a, -square);
    vec n;
    const vec e = exp_parts(vmax(splat(EXP_LOW), -square), &n),
              e_1 = fma_(-square_low, 1 + e, e); /* exp(-a^2 / 2) - 1 */
    const vec tail = scaled((real)0.5 * (high + fma_(high, e_1, fma_(low, e_1, low))), n);
    return pick(x > 0, 1 - tail, tail);
}

#endif
