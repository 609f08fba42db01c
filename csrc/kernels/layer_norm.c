/* Layer normalization (Ba et al. 2016) and RMS normalization (Zhang, Sennrich 2019), on each row:
 *
 *   layer_norm: y = xhat scale + shift, xhat = (x - mean) / sqrt(var + eps), var with 1 / n
 *   rms_norm:   y = xhat scale,         xhat = x / sqrt(mean of x^2 + eps)
 *
 * x, y (rows, n)   scale, shift (n), one behind the other. Mean and 1 / sqrt(...) of each row are
 * kept behind y for the way back. */

#include "real.h"

#define KEPT 2 /* numbers of a row: mean and 1 / sqrt(var + eps) */

static fm_sizes norm_sizes(const fm_op *op, int64_t n_arrays) {
    const int fits = op->attr0 > 0 && op->attr0 <= 1; /* eps */
    return (fm_sizes){.status = op->n_in != op->n_out ? FM_BAD_WIDTH
                                : !fits               ? FM_BAD_ATTRIBUTE
                                                      : FM_OK,
                      .n_biases = n_arrays * op->n_out,
                      .n_slices = op->n_out,
                      .n_kept = KEPT};
}

static real *kept_of(const fm_op *op, const fm_ctx *ctx, int64_t row) {
    return (real *)ctx->acts + (op->y + op->n_out) * ctx->capacity + row * KEPT;
}

static real row_sum(const real *x, int64_t n) {
    lane_sums sums = {{{0}}};
    for (int64_t i = 0; i < n; i += SUM_LANES)
        for (int v = 0; v < SUM_VECS; v++)
            sums.v[v] += load_rest(x, i + v * LANES, n);
    return tree_sum(&sums);
}

static real row_sum_squares(const real *x, int64_t n) {
    lane_sums sums = {{{0}}};
    for (int64_t i = 0; i < n; i += SUM_LANES)
        for (int v = 0; v < SUM_VECS; v++) {
            const vec a = load_rest(x, i + v * LANES, n);
            sums.v[v] = fma_(a, a, sums.v[v]);
        }
    return tree_sum(&sums);
}

/* xhat of columns i ... of a row */
INLINE vec normalized(const real *x, const real *kept, int64_t i, int64_t n) {
    return (load_rest(x, i, n) - splat(kept[0])) * splat(kept[1]);
}

INLINE void deviations(real *y, const real *x, real from, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store_upto(y + i, load_upto(x + i, n - i) - splat(from), n - i);
}

INLINE void norm_forward(const fm_op *op, const fm_ctx *ctx, fm_area area, const int centers) {
    const int64_t n = op->n_out;
    const real *scale = (const real *)ctx->params + op->b, *shift = scale + n;
    for (int64_t r = area.r0; r < area.r1; r++) {
        const real *x = op_x(op, ctx, r);
        real *y = op_y(op, ctx, r), *kept = kept_of(op, ctx, r);
        kept[0] = 0;
        if (centers) { /* less its first number, so that a constant row has exactly its own mean */
            deviations(y, x, x[0], n);
            kept[0] = x[0] + row_sum(y, n) / (real)n;
        }
        deviations(y, x, kept[0], n); /* y holds them for a moment */
        kept[1] = 1 / root(row_sum_squares(y, n) / (real)n + (real)op->attr0);
        for (int64_t i = 0; i < n; i += LANES) {
            const vec xhat = load_upto(y + i, n - i) * splat(kept[1]);
            const vec to = centers ? load_upto(shift + i, n - i) : (vec){0};
            store_upto(y + i, fma_(xhat, load_upto(scale + i, n - i), to), n - i);
        }
    }
}

/* d = dy scale;  dx = (d - mean of d - xhat (mean of d xhat)) / sqrt(var + eps); rms_norm without
 * the mean of d */
INLINE void norm_backward(const fm_op *op, const fm_ctx *ctx, fm_area area, const int centers) {
    const int64_t n = op->n_out;
    const real *scale = (const real *)ctx->params + op->b;
    for (int64_t r = area.r0; r < area.r1; r++) {
        const real *x = op_x(op, ctx, r), *dy = op_dy(op, ctx, r), *kept = kept_of(op, ctx, r);
        real *dx = op_dx(op, ctx, r);
        if (!dx)
            return;
        lane_sums sums = {{{0}}}, products = {{{0}}};
        for (int64_t i = 0; i < n; i += SUM_LANES)
            for (int v = 0; v < SUM_VECS; v++) {
                const int64_t j = i + v * LANES;
                const vec d = load_rest(dy, j, n) * load_rest(scale, j, n);
                sums.v[v] += d;
                products.v[v] = fma_(d, normalized(x, kept, j, n), products.v[v]);
            }
        const vec mean = splat(centers ? tree_sum(&sums) / (real)n : 0);
        const vec along = splat(tree_sum(&products) / (real)n);
        for (int64_t i = 0; i < n; i += LANES) {
            const vec d = load_upto(dy + i, n - i) * load_upto(scale + i, n - i);
            const vec rest = fma_(-normalized(x, kept, i, n), along, d - mean);
            store_upto(dx + i, rest * splat(kept[1]), n - i);
        }
    }
}

/* Columns [j0, j1): dscale = sum of dy xhat, dshift = sum of dy, over the rows in their order,
 * begun anew every FM_CHAIN; later blocks of a mini-batch add to what is there */
INLINE void norm_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0, int64_t j1,
                            const int centers) {
    const int64_t n = op->n_out;
    real *dscale = (real *)ctx->grads + op->b, *dshift = dscale + n;
    for (int64_t j = j0; j < j1; j += LANES) {
        const int goes_on = ctx->first_row > 0;
        vec all_products = goes_on ? load_rest(dscale, j, j1) : (vec){0};
        vec all_sums = goes_on && centers ? load_rest(dshift, j, j1) : (vec){0};
        for (int64_t r0 = 0; r0 < ctx->rows; r0 += FM_CHAIN) {
            const int64_t end = r0 + FM_CHAIN < ctx->rows ? r0 + FM_CHAIN : ctx->rows;
            vec products = {0}, sums = {0};
            for (int64_t r = r0; r < end; r++) {
                const vec dy = load_rest(op_dy(op, ctx, r), j, j1);
                const vec xhat = normalized(op_x(op, ctx, r), kept_of(op, ctx, r), j, j1);
                sums += dy;
                products = fma_(dy, xhat, products);
            }
            all_products += products;
            all_sums += sums;
        }
        store_upto(dscale + j, all_products, j1 - j);
        if (centers)
            store_upto(dshift + j, all_sums, j1 - j);
    }
}

#define NORM(name, centers, n_arrays)                                                              \
    static fm_sizes name##_sizes(const fm_op *op) { return norm_sizes(op, n_arrays); }             \
    static void name##_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {                    \
        norm_forward(op, ctx, y, centers);                                                         \
    }                                                                                              \
    static void name##_backward(const fm_op *op, const fm_ctx *ctx, fm_area dx) {                  \
        norm_backward(op, ctx, dx, centers);                                                       \
    }                                                                                              \
    static void name##_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0, int64_t j1) {    \
        norm_param_grad(op, ctx, j0, j1, centers);                                                 \
    }
NORM(layer_norm, 1, 2)
NORM(rms_norm, 0, 1)

#define layer_norm_slope NULL
#define layer_norm_keep_stats NULL
#define rms_norm_slope NULL
#define rms_norm_keep_stats NULL
#define layer_norm_panel_forward NULL
#define layer_norm_panel_backward NULL
#define layer_norm_panel_param_grad NULL
#define rms_norm_panel_forward NULL
#define rms_norm_panel_backward NULL
#define rms_norm_panel_param_grad NULL
