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
                 fm_area area) {
    const int64_t n = op->n_out;
    const real keep = (real)(1.0 / (1.0 - op->attr0));
    const uint32_t below = (uint32_t)(op->attr0 * 4294967296.0); /* P(32 random bits < below) = p */
    const uint64_t key = fm_key(ctx->seed, ctx->draw, (uint64_t)op->variant);
    to += area.r0 * n;
    from += area.r0 * n;
    for (int64_t r = area.r0; r < area.r1; r++, to += n, from += n) {
        const uint64_t row_key = fm_mix64(key ^ (uint64_t)(ctx->first_row + r));
        for (int64_t j = area.j0; j < area.j1; j++)
            to[j] = fm_bits32(row_key, (uint32_t)j) < below ? 0 : from[j] * keep;
    }
}

static void drop_or_copy(real *to, const real *from, const fm_op *op, const fm_ctx *ctx,
                         fm_area area) {
    if (ctx->training)
        drop(to, from, op, ctx, area);
    else
        copy_area(to, from, op->n_out, area);
}

static void dropout_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {
    drop_or_copy(op_y(op, ctx, 0), op_x(op, ctx, 0), op, ctx, y);
}

static void dropout_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    real *dx = op_dx(op, ctx, 0);
    if (dx)
        drop_or_copy(dx, op_dy(op, ctx, 0), op, ctx, area);
}

#define dropout_slope NULL
#define dropout_param_grad NULL
#define dropout_keep_stats NULL
