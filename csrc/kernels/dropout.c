/* Inverted dropout (Srivastava et al. 2014). In training y = x mask / (1 - p) with mask ~
 * Bernoulli(1 - p); otherwise y = x.
 *
 * The mask is a function of (seed, pass, layer, row, column). Nothing is stored; backward draws the
 * same mask again. */

#include "../random.h"
#include "panel.h"
#include "real.h"

static fm_sizes dropout_sizes(const fm_op *op) {
    const int probability = op->attr0 >= 0 && op->attr0 < 1;
    return (fm_sizes){.status = op->n_in != op->n_out ? FM_BAD_WIDTH
                                : !probability        ? FM_BAD_ATTRIBUTE
                                                      : FM_OK};
}

typedef struct {
    uint64_t key;
    uint32_t below; /* P(32 random bits < below) = p */
    real keep;
} drop_facts;

static drop_facts drop_facts_of(const fm_op *op, const fm_ctx *ctx) {
    return (drop_facts){.key = fm_key(ctx->seed, ctx->draw, (uint64_t)op->variant),
                        .below = (uint32_t)(op->attr0 * 4294967296.0),
                        .keep = (real)(1.0 / (1.0 - op->attr0))};
}

INLINE uint64_t row_key(const drop_facts *f, const fm_ctx *ctx, int64_t r) {
    return fm_mix64(f->key ^ (uint64_t)(ctx->first_row + r));
}

INLINE real dropped(const drop_facts *f, uint64_t key_of_row, int64_t j, real x) {
    return fm_bits32(key_of_row, (uint32_t)j) < f->below ? 0 : x * f->keep;
}

static void drop(real *restrict to, const real *restrict from, const fm_op *op, const fm_ctx *ctx,
                 fm_area area) {
    const int64_t n = op->n_out;
    const drop_facts f = drop_facts_of(op, ctx);
    to += area.r0 * n;
    from += area.r0 * n;
    for (int64_t r = area.r0; r < area.r1; r++, to += n, from += n) {
        const uint64_t key = row_key(&f, ctx, r);
        for (int64_t j = area.j0; j < area.j1; j++)
            to[j] = dropped(&f, key, j, from[j]);
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

/* ---- the same in panels, for training only --------------------------------------------------- */

static void drop_panels(real *restrict to, const real *restrict from, const fm_op *op,
                        const fm_ctx *ctx, fm_area area) {
    const drop_facts f = drop_facts_of(op, ctx);
    to += area.r0 * op->n_out;
    from += area.r0 * op->n_out;
    for (int64_t r0 = area.r0; r0 < area.r1; r0 += PANEL_ROWS) {
        uint64_t keys[PANEL_ROWS];
        for (int i = 0; i < PANEL_ROWS; i++)
            keys[i] = row_key(&f, ctx, r0 + i);
        for (int64_t j = 0; j < op->n_out; j++, to += PANEL_ROWS, from += PANEL_ROWS)
            for (int i = 0; i < PANEL_ROWS; i++)
                to[i] = dropped(&f, keys[i], j, from[i]);
    }
}

static void dropout_panel_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {
    drop_panels(op_y(op, ctx, 0), op_x(op, ctx, 0), op, ctx, y);
}

static void dropout_panel_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    real *dx = op_dx(op, ctx, 0);
    if (dx)
        drop_panels(dx, op_dy(op, ctx, 0), op, ctx, area);
}

#define dropout_panel_param_grad NULL
