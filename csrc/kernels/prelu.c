/* PReLU (He et al. 2015): y = x if x > 0, else slope x, with a trained slope for each unit.
 *
 * x, y (rows, n)   slope (n), which stands among the biases and so is not decayed
 *
 * The slope may be negative. Then the sign of x does not follow from y, so backward reads x. */

#include "panel.h"
#include "real.h"

static fm_sizes prelu_sizes(const fm_op *op) {
    return (fm_sizes){.status = op->n_in != op->n_out ? FM_BAD_WIDTH : FM_OK,
                      .n_biases = op->n_out,
                      .n_slices = op->n_out};
}

INLINE vec prelu_of(vec x, vec slope) { return pick(x <= 0, slope * x, x); }
INLINE vec prelu_dx(vec dy, vec x, vec slope) { return dy * pick(x <= 0, slope, splat(1)); }
/* d y / d slope */
INLINE vec prelu_by_slope(vec x) { return pick(x <= 0, x, (vec){0}); }

static const real *slopes_of(const fm_op *op, const fm_ctx *ctx) {
    return (const real *)ctx->params + op->b;
}

static void prelu_forward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *slope = slopes_of(op, ctx);
    for (int64_t r = area.r0; r < area.r1; r++)
        for (int64_t j = area.j0; j < area.j1; j += LANES) {
            const vec x = load_rest(op_x(op, ctx, r), j, area.j1);
            store_rest(op_y(op, ctx, r), prelu_of(x, load_rest(slope, j, area.j1)), j, area.j1);
        }
}

static void prelu_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *slope = slopes_of(op, ctx);
    if (!op_dx(op, ctx, 0))
        return;
    for (int64_t r = area.r0; r < area.r1; r++)
        for (int64_t j = area.j0; j < area.j1; j += LANES) {
            const vec dy = load_rest(op_dy(op, ctx, r), j, area.j1);
            const vec x = load_rest(op_x(op, ctx, r), j, area.j1);
            const vec dx = prelu_dx(dy, x, load_rest(slope, j, area.j1));
            store_rest(op_dx(op, ctx, r), dx, j, area.j1);
        }
}

/* dy and d y / d slope of columns j ... of up to LANES rows, a vector for each row */
INLINE void prelu_rows(vec *dy, vec *by_slope, const fm_op *op, const fm_ctx *ctx, int64_t r,
                       int64_t rows, int64_t j, int64_t j1, const int panels) {
    if (panels) {
        const int64_t first = in_panels(r, op->n_out);
        turned_columns(dy, op_dy(op, ctx, 0) + first, PANEL_ROWS, j, j1);
        turned_columns(by_slope, op_x(op, ctx, 0) + first, PANEL_ROWS, j, j1);
    }
    for (int64_t i = 0; i < rows; i++) {
        if (!panels) {
            dy[i] = load_rest(op_dy(op, ctx, r + i), j, j1);
            by_slope[i] = load_rest(op_x(op, ctx, r + i), j, j1);
        }
        by_slope[i] = prelu_by_slope(by_slope[i]);
    }
}

/* dslope = sum of dy d y / d slope over the rows in their order, begun anew every FM_CHAIN. Later
 * blocks of a mini-batch add to what is there. */
INLINE void prelu_slope_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0, int64_t j1,
                             const int panels) {
    real *dslope = (real *)ctx->grads + op->b;
    for (int64_t j = j0; j < j1; j += LANES) {
        vec all = ctx->first_row > 0 ? load_rest(dslope, j, j1) : (vec){0};
        for (int64_t r0 = 0; r0 < ctx->rows; r0 += FM_CHAIN) {
            const int64_t end = r0 + FM_CHAIN < ctx->rows ? r0 + FM_CHAIN : ctx->rows;
            vec sum = {0};
            for (int64_t r = r0; r < end; r += LANES) {
                const int64_t rows = end - r < LANES ? end - r : LANES;
                vec dy[LANES], by_slope[LANES];
                prelu_rows(dy, by_slope, op, ctx, r, rows, j, j1, panels);
                for (int64_t i = 0; i < rows; i++)
                    sum = fma_(dy[i], by_slope[i], sum);
            }
            all += sum;
        }
        store_rest(dslope, all, j, j1);
    }
}

static void prelu_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0, int64_t j1) {
    prelu_slope_grad(op, ctx, j0, j1, 0);
}

#define prelu_slope NULL
#define prelu_keep_stats NULL

/* ---- the same in panels ---------------------------------------------------------------------- */

static void prelu_panel_forward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *slope = slopes_of(op, ctx);
    for (int64_t r = area.r0; r < area.r1; r += PANEL_ROWS)
        for (int64_t i = 0; i < PANEL_ROWS * op->n_out; i += LANES) {
            const vec x = load(op_x(op, ctx, r) + i);
            store(op_y(op, ctx, r) + i, prelu_of(x, splat(slope[i / PANEL_ROWS])));
        }
}

static void prelu_panel_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *slope = slopes_of(op, ctx);
    if (!op_dx(op, ctx, 0))
        return;
    for (int64_t r = area.r0; r < area.r1; r += PANEL_ROWS)
        for (int64_t i = 0; i < PANEL_ROWS * op->n_out; i += LANES) {
            const vec dy = load(op_dy(op, ctx, r) + i), x = load(op_x(op, ctx, r) + i);
            store(op_dx(op, ctx, r) + i, prelu_dx(dy, x, splat(slope[i / PANEL_ROWS])));
        }
}

static void prelu_panel_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0, int64_t j1) {
    prelu_slope_grad(op, ctx, j0, j1, 1);
}
