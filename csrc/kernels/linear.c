/* Linear, with the activation that follows it: y = g(x W + b)
 *
 * x (rows, n_in)   W (n_in, n_out)   b (n_out)   y (rows, n_out)
 *
 * g must be an activation whose slope is a function of y, so that z itself need not be kept. */

#include "gemm.h"
#include "panel_product.h"
#include "real.h"

static fm_sizes linear_sizes(const fm_op *op) {
    const int32_t g = op->variant;
    const int fuses = g >= 0 && g < FM_N_ACTIVATIONS && fm_activation_infos[g].from_y;
    return (fm_sizes){.status = !fuses                ? FM_BAD_KIND
                                : !attribute_fits(op) ? FM_BAD_ATTRIBUTE
                                                      : FM_OK,
                      .n_weights = op->n_in * op->n_out,
                      .n_biases = op->b < 0 ? 0 : op->n_out,
                      .n_slices = op->n_in};
}

INLINE gemm_shape shape_of(const fm_op *op, const fm_ctx *ctx, int64_t rows) {
    return (gemm_shape){.rows = rows, .n_in = op->n_in, .n_out = op->n_out, .blas = ctx->blas};
}

static void linear_forward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *params = ctx->params;
    real *y = op_y(op, ctx, 0);
    gemm_forward(op_y(op, ctx, area.r0), op_x(op, ctx, area.r0), params + op->w,
                 op->b < 0 ? NULL : params + op->b, area.j0, area.j1,
                 shape_of(op, ctx, area.r1 - area.r0));
    if (op->variant != FM_ACTIVATION_identity)
        activate_area(op->variant, y, y, (real)op->attr0, op->n_out, area);
}

/* dz = dy g'(y) replaces dy; backward and param_grad read it there. */
static void linear_slope(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    real *dz = op_dy(op, ctx, 0);
    if (op->variant != FM_ACTIVATION_identity)
        times_slope_area(op->variant, dz, dz, op_y(op, ctx, 0), (real)op->attr0, op->n_out, area);
}

/* dx = dz W^T */
static void linear_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    real *dx = op_dx(op, ctx, area.r0);
    if (dx)
        gemm_input_grad(dx, op_dy(op, ctx, area.r0), (const real *)ctx->params + op->w, area.j0,
                        area.j1, shape_of(op, ctx, area.r1 - area.r0));
}

#define BIAS_VECS 4 /* vectors side by side, since each is one chain of additions */

/* At most BIAS_VECS vectors of db, of `left` elements; see bias_grad. */
INLINE void bias_columns(real *restrict db, const real *restrict dz, int64_t rows, int64_t n_out,
                         int64_t left, int accumulate, const int vecs) {
    vec all[BIAS_VECS] = {{0}};
    for (int v = 0; accumulate && v < vecs; v++)
        all[v] = load_upto(db + v * LANES, left - v * LANES);
    for (int64_t r0 = 0; r0 < rows; r0 += FM_CHAIN) {
        vec sum[BIAS_VECS] = {{0}};
        const int64_t end = r0 + FM_CHAIN < rows ? r0 + FM_CHAIN : rows;
        for (int64_t r = r0; r < end; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++)
                sum[v] += load_upto(dz + r * n_out + v * LANES, left - v * LANES);
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++)
            all[v] += sum[v];
    }
#pragma GCC unroll 4
    for (int v = 0; v < vecs; v++)
        store_upto(db + v * LANES, all[v], left - v * LANES);
}

/* db_j = sum of dz_j over the rows in their order, begun anew every FM_CHAIN rows as in products */
static void bias_grad(real *restrict db, const real *restrict dz, int64_t rows, int64_t n_out,
                      int accumulate) {
#define BIAS_COLUMNS(vecs) bias_columns(db, dz, rows, n_out, left, accumulate, vecs)
    for (int64_t left = n_out; left > 0;
         left -= BIAS_VECS * LANES, db += BIAS_VECS * LANES, dz += BIAS_VECS * LANES) {
        if (left > 3 * LANES)
            BIAS_COLUMNS(4);
        else if (left > 2 * LANES)
            BIAS_COLUMNS(3);
        else if (left > LANES)
            BIAS_COLUMNS(2);
        else
            BIAS_COLUMNS(1);
    }
#undef BIAS_COLUMNS
}

/* Rows [i0, i1) of dW = x^T dz. The call with row 0 also sums db. Later blocks of a mini-batch add
 * to the gradients of the earlier ones. */
static void linear_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t i0, int64_t i1) {
    real *grads = ctx->grads;
    const real *dz = op_dy(op, ctx, 0);
    gemm_shape shape = shape_of(op, ctx, ctx->rows);
    shape.accumulate = ctx->first_row > 0;
    gemm_weight_grad(grads + op->w + i0 * op->n_out, op_x(op, ctx, 0), dz, i0, i1, shape);
    if (i0 == 0 && op->b >= 0)
        bias_grad(grads + op->b, dz, ctx->rows, op->n_out, shape.accumulate);
}

#define linear_keep_stats NULL

/* ---- the same in panels ---------------------------------------------------------------------- */

static void linear_panel_forward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real *params = ctx->params;
    const int is_relu = op->variant == FM_ACTIVATION_relu;
    real *y = op_y(op, ctx, 0);
    for (int64_t r = area.r0; r < area.r1; r += PANEL_ROWS)
        panel_forward(op_y(op, ctx, r), op_x(op, ctx, r), params + op->w,
                      op->b < 0 ? NULL : params + op->b, op->n_in, op->n_out, is_relu);
    if (!is_relu && op->variant != FM_ACTIVATION_identity)
        activate_area(op->variant, y, y, (real)op->attr0, op->n_out, area);
}

/* dx in panels. Afterwards dz is row by row in the place of its panels, as
 * sums over rows need it. */
static void linear_panel_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    real panel[PANEL_ROWS * FM_NARROW] __attribute__((aligned(64)));
    for (int64_t r = area.r0; r < area.r1; r += PANEL_ROWS) {
        real *dx = op_dx(op, ctx, r), *dz = op_dy(op, ctx, r);
        memcpy(panel, dz, (size_t)(PANEL_ROWS * op->n_out) * sizeof(real));
        rows_of_panels(dz, panel, PANEL_ROWS, op->n_out);
        if (dx)
            panel_input_grad(dx, panel, (const real *)ctx->params + op->w, op->n_in, op->n_out);
    }
}

static void linear_panel_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t i0, int64_t i1) {
    real *grads = ctx->grads;
    const real *dz = op_dy(op, ctx, 0);
    const int goes_on = ctx->first_row > 0;
    panel_weight_grad(grads + op->w + i0 * op->n_out, op_x(op, ctx, 0), dz, i0, i1, ctx->rows,
                      op->n_in, op->n_out, goes_on);
    if (i0 == 0 && op->b >= 0)
        bias_grad(grads + op->b, dz, ctx->rows, op->n_out, goes_on);
}
