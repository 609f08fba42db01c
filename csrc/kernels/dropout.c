/* Inverted dropout (Srivastava et al. 2014): in training y = x mask / (1 - p), mask ~ Bernoulli(1 -
 * p); else y = x.
 *
 * The mask is a function of (seed, pass, layer, row, column): nothing is stored, backward draws it
 * again. */

#include "../random.h"
#include "real.h"

static fm_sizes dropout_sizes(const fm_op *op) {
    const int probability = op->attr0 >= 0 && op->attr0 < 1;
    return (fm_sizes){.status = op->n_in != op->n_out ? FM_BAD_WIDTH
                                : !probability        ? FM_BAD_ATTRIBUTE
                                                      : FM_OK};
}

static void drop(real *restrict to, const real *restrict from, const fm_op *op, const fm_ctx *ctx,
                 int64_t r0, int64_t r1) {
    const int64_t n = op->n_out;
    const real keep = (real)(1.0 / (1.0 - op->attr0));
    const uint32_t below = (uint32_t)(op->attr0 * 4294967296.0); /* P(32 random bits < below) = p */
    const uint64_t key = fm_key(ctx->seed, ctx->draw, (uint64_t)op->variant);
    for (int64_t r = r0; r < r1; r++, to += n, from += n) {
        const uint64_t row_key = fm_mix64(key ^ (uint64_t)r);
        for (int64_t j = 0; j < n; j++)
            to[j] = fm_bits32(row_key, (uint32_t)j) < below ? 0 : from[j] * keep;
    }
}

static void dropout_forward(const fm_op *op, const fm_ctx *ctx, int64_t r0, int64_t r1) {
    const real *x = op_x(op, ctx, r0);
    real *y = op_y(op, ctx, r0);
    if (ctx->training)
        drop(y, x, op, ctx, r0, r1);
    else
        memcpy(y, x, (size_t)((r1 - r0) * op->n_out) * sizeof(real));
}

static void dropout_backward(const fm_op *op, const fm_ctx *ctx, int64_t r0, int64_t r1) {
    const real *dy = op_dy(op, ctx, r0);
    real *dx = op_dx(op, ctx, r0);
    if (!dx)
        return;
    if (ctx->training)
        drop(dx, dy, op, ctx, r0, r1);
    else
        memcpy(dx, dy, (size_t)((r1 - r0) * op->n_out) * sizeof(real));
}

#define dropout_param_grad NULL
