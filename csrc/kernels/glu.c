/* Gated linear units (Dauphin et al. 2017; Shazeer 2020): y = a g(b), where x = (a, b) side by
 * side.
 *
 * x (rows, 2 n)   y (rows, n)   g: the activation that is the op's variant. g(b) is kept behind y.
 *
 * da = dy g(b), db = dy a g'(b). A panel is one long row of a, then b, so one kernel serves both
 * layouts: `side` is the number of rows side by side, 1 or PANEL_ROWS. */

#include "panel.h"
#include "real.h"

/* Whether the variant is an activation that has neither a setting nor a kink. */
static int is_gate(int32_t g) {
    return g >= 0 && g < FM_N_ACTIVATIONS && !fm_activation_infos[g].attr[0] &&
           __builtin_isnan(fm_activation_infos[g].kink);
}

static fm_sizes glu_sizes(const fm_op *op) {
    return (fm_sizes){.status = !is_gate(op->variant)       ? FM_BAD_KIND
                                : op->n_in != 2 * op->n_out ? FM_BAD_WIDTH
                                                            : FM_OK,
                      .n_kept = op->n_out};
}

static real *gates_of(const fm_op *op, const fm_ctx *ctx, int64_t row) {
    return (real *)ctx->acts + (op->y + op->n_out) * ctx->capacity + row * op->n_out;
}

/* to = a b for n elements; `to` may be one of them */
INLINE void multiply(real *to, const real *a, const real *b, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store_upto(to + i, load_upto(a + i, n - i) * load_upto(b + i, n - i), n - i);
}

INLINE void glu_rows(const fm_op *op, const fm_ctx *ctx, fm_area area, int64_t side) {
    const int64_t first = area.j0 * side, n = (area.j1 - area.j0) * side;
    for (int64_t r = area.r0; r < area.r1; r += side) {
        const real *a = op_x(op, ctx, r) + first, *b = a + op->n_out * side;
        real *gate = gates_of(op, ctx, r) + first;
        activate[op->variant](gate, b, 0, n);
        multiply(op_y(op, ctx, r) + first, a, gate, n);
    }
}

/* The columns of an area may lie in a, in b or in both. */
INLINE void glu_rows_back(const fm_op *op, const fm_ctx *ctx, fm_area area, int64_t side) {
    const int64_t n = op->n_out * side, j0 = area.j0 * side, j1 = area.j1 * side;
    const int from_y = fm_activation_infos[op->variant].from_y;
    for (int64_t r = area.r0; op_dx(op, ctx, 0) && r < area.r1; r += side) {
        const real *x = op_x(op, ctx, r), *dy = op_dy(op, ctx, r), *gate = gates_of(op, ctx, r);
        real *dx = op_dx(op, ctx, r);
        if (j0 < n)
            multiply(dx + j0, dy + j0, gate + j0, (j1 < n ? j1 : n) - j0);
        if (j1 > n) {
            const int64_t j = j0 > n ? j0 - n : 0, left = j1 - n - j;
            real *db = dx + n + j;
            multiply(db, dy + j, x + j, left);
            times_slope[op->variant](db, db, from_y ? gate + j : x + n + j, 0, left);
        }
    }
}

static void glu_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) { glu_rows(op, ctx, y, 1); }
static void glu_backward(const fm_op *op, const fm_ctx *ctx, fm_area dx) {
    glu_rows_back(op, ctx, dx, 1);
}
static void glu_panel_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {
    glu_rows(op, ctx, y, PANEL_ROWS);
}
static void glu_panel_backward(const fm_op *op, const fm_ctx *ctx, fm_area dx) {
    glu_rows_back(op, ctx, dx, PANEL_ROWS);
}

#define glu_slope NULL
#define glu_param_grad NULL
#define glu_keep_stats NULL
#define glu_panel_param_grad NULL
