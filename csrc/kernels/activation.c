/* Activations: y = g(z) elementwise, dz = dy g'(z).
 *
 * An activation is one line in registry.h and two functions here, <name>_of(z, a) and
 * <name>_slope(s, a). The slope is the derivative as a function of the output (s = y) or of the
 * input (s = z), as the line says. `a` is the attribute (slope, alpha, beta). */

#include "real.h"
#include "vmath.h"

/* The constants of SELU's fixed point: Klambauer et al. 2017, appendix A. */
#define SELU_SCALE ((real)1.0507009873554804934193349852946)
#define SELU_ALPHA ((real)1.6732632423543772848170429916717)
#define INV_SQRT_2PI ((real)0.39894228040143267794)
/* 2 sqrt(2 / pi) and its product with 0.044715 */
#define GELU_TANH_1 ((real)1.5957691216057307117)
#define GELU_TANH_3 ((real)0.071354816272600248776)

INLINE vec identity_of(vec z, vec a) { return (void)a, z; }
INLINE vec identity_slope(vec y, vec a) { return (void)y, (void)a, splat(1); }

/* z <= 0 ? 0 : z, so that NaN passes */
INLINE vec relu_of(vec z, vec a) { return (void)a, pick(z <= 0, (vec){0}, z); }
INLINE vec relu_slope(vec y, vec a) { return (void)a, pick(y <= 0, (vec){0}, splat(1)); }

INLINE vec leaky_relu_of(vec z, vec a) { return pick(z <= 0, a * z, z); }
INLINE vec leaky_relu_slope(vec y, vec a) { return pick(y <= 0, a, splat(1)); }

INLINE vec elu_of(vec z, vec a) { return pick(z <= 0, a * vexpm1_negative(z), z); }
INLINE vec elu_slope(vec y, vec a) { return pick(y <= 0, y + a, splat(1)); }

/* Like elu, but its slope is 1 at 0 for every alpha. */
INLINE vec celu_of(vec z, vec a) { return pick(z <= 0, a * vexpm1_negative(z / a), z); }
INLINE vec celu_slope(vec y, vec a) { return pick(y <= 0, y / a + 1, splat(1)); }

INLINE vec selu_of(vec z, vec a) { return (void)a, SELU_SCALE * elu_of(z, splat(SELU_ALPHA)); }
INLINE vec selu_slope(vec y, vec a) {
    return (void)a, pick(y <= 0, y + SELU_SCALE * SELU_ALPHA, splat(SELU_SCALE));
}

/* At -inf the limit is 0; z Phi(z) would be -inf * 0. */
INLINE vec gelu_of(vec z, vec a) { return (void)a, pick(z < -60, (vec){0}, z * vnormal_cdf(z)); }
INLINE vec gelu_slope(vec z, vec a) {
    const vec c = vmax(splat(-60), vmin(splat(60), z));
    return (void)a, fma_(c * INV_SQRT_2PI, vexp_half_square(c), vnormal_cdf(c));
}

/* (1 + tanh(u)) / 2 = sigmoid(2 u). The sigmoid keeps its digits if tanh is near -1. Beyond +-30 it
 * is 0 or 1 in both types. */
INLINE vec gelu_tanh_share(vec c) {
    return vsigmoid(c * fma_(c * c, splat(GELU_TANH_3), splat(GELU_TANH_1)));
}
INLINE vec gelu_tanh_of(vec z, vec a) {
    const vec c = vmax(splat(-30), vmin(splat(30), z));
    return (void)a, pick(z < -30, (vec){0}, pick(z > 30, z, z * gelu_tanh_share(c)));
}
/* s + z s (1 - s) u', s = sigmoid(u), 1 - s = sigmoid(-u) */
INLINE vec gelu_tanh_slope(vec z, vec a) {
    const vec c = vmax(splat(-30), vmin(splat(30), z)), s = gelu_tanh_share(c);
    const vec inner = fma_(c * c, splat(3 * GELU_TANH_3), splat(GELU_TANH_1));
    return (void)a, fma_(c * inner, s * gelu_tanh_share(-c), s);
}

/* Below -1000 the result is 0 in both types; -inf * 0 would be NaN. */
INLINE vec silu_of(vec z, vec a) { return (void)a, pick(z < -1000, (vec){0}, z * vsigmoid(z)); }
/* s (1 + z (1 - s)), s = sigmoid(z), with 1 - s = sigmoid(-z) so that nothing cancels */
INLINE vec silu_slope(vec z, vec a) {
    const vec c = vmax(splat(-1000), vmin(splat(1000), z));
    return (void)a, vsigmoid(c) * fma_(c, vsigmoid(-c), splat(1));
}

/* 0 up to -3, z from 3 on, between them z (z + 3) / 6 */
INLINE vec hardswish_of(vec z, vec a) {
    const vec between = z * ((z + 3) * (real)(1.0 / 6));
    return (void)a, pick(z <= -3, (vec){0}, pick(z >= 3, z, between));
}
INLINE vec hardswish_slope(vec z, vec a) {
    const vec between = (z + (real)1.5) * (real)(1.0 / 3);
    return (void)a, pick(z <= -3, (vec){0}, pick(z >= 3, splat(1), between));
}

/* tanh(softplus(z)) = u / (u + 2), u = n (n + 2), n = exp(z): one exponential, and nothing cancels.
 * Above 40 it is 1 in both types. Below -1000 the result is 0. Both ends would overflow. */
typedef struct {
    vec z, n, u;
} mish_parts;

INLINE mish_parts mish_of_parts(vec z) {
    z = vmax(splat(-1000), vmin(splat(40), z));
    const vec n = vexp(z);
    return (mish_parts){.z = z, .n = n, .u = n * (n + 2)};
}
INLINE vec mish_of(vec z, vec a) {
    const mish_parts p = mish_of_parts(z);
    return (void)a, pick(z < -1000, (vec){0}, z * (p.u / (p.u + 2)));
}
/* t + z (1 - t)(1 + t) sigmoid(z), 1 - t = 2 / (u + 2), 1 + t = 2 (u + 1) / (u + 2) */
INLINE vec mish_slope(vec z, vec a) {
    const mish_parts p = mish_of_parts(z);
    const vec below = 2 / (p.u + 2), above = below * (p.u + 1);
    return (void)a, fma_(p.z * (below * above), p.n / (1 + p.n), p.u / (p.u + 2));
}

/* log(1 + exp(a z)) / a = max(z, 0) + log(1 + exp(-|a z|)) / a */
INLINE vec softplus_of(vec z, vec a) {
    return vmax(z, (vec){0}) + vlog1p_unit(vexp(-vabs(a * z))) / a;
}
/* sigmoid(a z) = 1 - exp(-a y) */
INLINE vec softplus_slope(vec y, vec a) { return -vexpm1_negative(-a * y); }

INLINE vec sigmoid_of(vec z, vec a) { return (void)a, vsigmoid(z); }
INLINE vec sigmoid_slope(vec y, vec a) { return (void)a, y * (1 - y); }

INLINE vec tanh_of(vec z, vec a) { return (void)a, vtanh(z); }
INLINE vec tanh_slope(vec y, vec a) { return (void)a, fma_(-y, y, splat(1)); }

/* ---- from the list: loops over n elements ---------------------------------------------------- */

typedef void (*activate_fn)(real *y, const real *z, real a, int64_t n);
typedef void (*slope_fn)(real *dz, const real *dy, const real *s, real a, int64_t n);

/* Four vectors side by side, interleaved by the compiler. A single chain of 20 dependent operations
 * is longer than a processor looks ahead. */
#if defined(__GNUC__) && !defined(__clang__)
#define INTERLEAVED __attribute__((optimize("schedule-insns", "sched-pressure")))
#else
#define INTERLEAVED
#endif
#define SIDE_BY_SIDE 4

#define LOOPS(name, ...)                                                                           \
    INTERLEAVED static void name##_activate(real *y, const real *z, real a, int64_t n) {           \
        int64_t i = 0;                                                                             \
        for (; i + SIDE_BY_SIDE * LANES <= n; i += SIDE_BY_SIDE * LANES) {                         \
            vec v[SIDE_BY_SIDE];                                                                   \
            _Pragma("GCC unroll 4") for (int k = 0; k < SIDE_BY_SIDE; k++) v[k] =                  \
                load(z + i + k * LANES);                                                           \
            _Pragma("GCC unroll 4") for (int k = 0; k < SIDE_BY_SIDE; k++) v[k] =                  \
                name##_of(v[k], splat(a));                                                         \
            _Pragma("GCC unroll 4") for (int k = 0; k < SIDE_BY_SIDE; k++)                         \
                store(y + i + k * LANES, v[k]);                                                    \
        }                                                                                          \
        for (; i + LANES <= n; i += LANES)                                                         \
            store(y + i, name##_of(load(z + i), splat(a)));                                        \
        if (i < n)                                                                                 \
            store_part(y + i, name##_of(load_part(z + i, n - i), splat(a)), n - i);                \
    }                                                                                              \
    static void name##_times_slope(real *dz, const real *dy, const real *s, real a, int64_t n) {   \
        int64_t i = 0;                                                                             \
        for (; i + LANES <= n; i += LANES)                                                         \
            store(dz + i, load(dy + i) * name##_slope(load(s + i), splat(a)));                     \
        if (i < n)                                                                                 \
            store_part(dz + i,                                                                     \
                       load_part(dy + i, n - i) * name##_slope(load_part(s + i, n - i), splat(a)), \
                       n - i);                                                                     \
    }
FM_ACTIVATIONS(LOOPS)

#define ACTIVATE_ENTRY(name, ...) name##_activate,
#define SLOPE_ENTRY(name, ...) name##_times_slope,
static const activate_fn activate[FM_N_ACTIVATIONS] = {FM_ACTIVATIONS(ACTIVATE_ENTRY)};
static const slope_fn times_slope[FM_N_ACTIVATIONS] = {FM_ACTIVATIONS(SLOPE_ENTRY)};

/* ---- loops over an area, whose rows are `width` apart ---------------------------------------- */

static void activate_area(int32_t g, real *y, const real *z, real a, int64_t width, fm_area area) {
    const int64_t n = area.j1 - area.j0;
    y += area.r0 * width + area.j0;
    z += area.r0 * width + area.j0;
    if (n == width) {
        activate[g](y, z, a, (area.r1 - area.r0) * n);
        return;
    }
    for (int64_t r = area.r0; r < area.r1; r++, y += width, z += width)
        activate[g](y, z, a, n);
}

static void times_slope_area(int32_t g, real *dz, const real *dy, const real *s, real a,
                             int64_t width, fm_area area) {
    const int64_t n = area.j1 - area.j0, first = area.r0 * width + area.j0;
    dz += first;
    dy += first;
    s += first;
    if (n == width) {
        times_slope[g](dz, dy, s, a, (area.r1 - area.r0) * n);
        return;
    }
    for (int64_t r = area.r0; r < area.r1; r++, dz += width, dy += width, s += width)
        times_slope[g](dz, dy, s, a, n);
}

/* ---- the op ---------------------------------------------------------------------------------- */

/* Whether the attribute of a known activation is in its range. */
static int attribute_fits(const fm_op *op) {
    return op->attr0 >= fm_activation_infos[op->variant].attr_least;
}

static fm_sizes activation_sizes(const fm_op *op) {
    const int known = op->variant >= 0 && op->variant < FM_N_ACTIVATIONS;
    return (fm_sizes){.status = !known                  ? FM_BAD_KIND
                                : op->n_in != op->n_out ? FM_BAD_WIDTH
                                : !attribute_fits(op)   ? FM_BAD_ATTRIBUTE
                                                        : FM_OK};
}

static void activation_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {
    activate_area(op->variant, op_y(op, ctx, 0), op_x(op, ctx, 0), (real)op->attr0, op->n_out, y);
}

static void activation_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    real *dx = op_dx(op, ctx, 0);
    const real *s = fm_activation_infos[op->variant].from_y ? op_y(op, ctx, 0) : op_x(op, ctx, 0);
    if (dx)
        times_slope_area(op->variant, dx, op_dy(op, ctx, 0), s, (real)op->attr0, op->n_in, area);
}

#define activation_slope NULL
#define activation_param_grad NULL
#define activation_keep_stats NULL
#define activation_panel_forward activation_forward
#define activation_panel_backward activation_backward
#define activation_panel_param_grad NULL
