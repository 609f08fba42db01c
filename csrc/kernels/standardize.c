/* Standardization of the input: y = (x - mean) / std. Python takes mean and std from the training
 * data.
 *
 * x, y (rows, n)   statistics: mean (n), std (n) */

#include "panel.h"
#include "real.h"

static fm_sizes standardize_sizes(const fm_op *op) {
    return (fm_sizes){.status = op->n_in != op->n_out ? FM_BAD_WIDTH : FM_OK,
                      .n_stats = 2 * op->n_out};
}

static void standardize_forward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *mean = (const real *)ctx->stats + op->s, *std = mean + op->n_out;
    for (int64_t r = area.r0; r < area.r1; r++)
        for (int64_t j = area.j0; j < area.j1; j += LANES) {
            const vec d = load_rest(op_x(op, ctx, r), j, area.j1) - load_rest(mean, j, area.j1);
            store_rest(op_y(op, ctx, r), d / load_rest(std, j, area.j1), j, area.j1);
        }
}

static void standardize_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *std = (const real *)ctx->stats + op->s + op->n_out;
    if (!op_dx(op, ctx, 0))
        return;
    for (int64_t r = area.r0; r < area.r1; r++)
        for (int64_t j = area.j0; j < area.j1; j += LANES) {
            const vec dy = load_rest(op_dy(op, ctx, r), j, area.j1);
            store_rest(op_dx(op, ctx, r), dy / load_rest(std, j, area.j1), j, area.j1);
        }
}

#define standardize_slope NULL
#define standardize_param_grad NULL
#define standardize_keep_stats NULL

/* ---- the same in panels ---------------------------------------------------------------------- */

static void standardize_panel_forward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *mean = (const real *)ctx->stats + op->s, *std = mean + op->n_out;
    for (int64_t r = area.r0; r < area.r1; r += PANEL_ROWS) {
        const real *x = op_x(op, ctx, r);
        real *y = op_y(op, ctx, r);
        for (int64_t i = 0; i < PANEL_ROWS * op->n_out; i += LANES) {
            const int64_t j = i / PANEL_ROWS;
            store(y + i, (load(x + i) - splat(mean[j])) / splat(std[j]));
        }
    }
}

static void standardize_panel_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *std = (const real *)ctx->stats + op->s + op->n_out;
    if (!op_dx(op, ctx, 0))
        return;
    for (int64_t r = area.r0; r < area.r1; r += PANEL_ROWS) {
        const real *dy = op_dy(op, ctx, r);
        real *dx = op_dx(op, ctx, r);
        for (int64_t i = 0; i < PANEL_ROWS * op->n_out; i += LANES)
            store(dx + i, load(dy + i) / splat(std[i / PANEL_ROWS]));
    }
}

#define standardize_panel_param_grad NULL
