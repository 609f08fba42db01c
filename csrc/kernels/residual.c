/* Residual blocks (He et al. 2016): y = x + f(x), as two ops around the ops of f.
 *
 *   branch:  y = x                       dx = dy + dy of the add   (the gradient returns both ways)
 *   add:     y = x + y of the branch     dx = dy
 *
 * Each op finds its partner `variant` ops away: a branch later in the program, an add earlier.
 * fm_net_check has verified that they name each other and have one width. */

#include "real.h"

static fm_sizes branch_sizes(const fm_op *op) {
    return (fm_sizes){.status = op->n_in != op->n_out ? FM_BAD_WIDTH
                                : op->variant <= 0    ? FM_BAD_PARTNER
                                                      : FM_OK,
                      .partner = op->variant,
                      .partner_kind = FM_OP_add};
}

static fm_sizes add_sizes(const fm_op *op) {
    return (fm_sizes){.status = op->n_in != op->n_out ? FM_BAD_WIDTH
                                : op->variant >= 0    ? FM_BAD_PARTNER
                                                      : FM_OK,
                      .partner = op->variant,
                      .partner_kind = FM_OP_branch};
}

static void sum_area(real *to, const real *a, const real *b, int64_t width, fm_area area) {
    for (int64_t r = area.r0; r < area.r1; r++)
        for (int64_t j = area.j0; j < area.j1; j += LANES) {
            const int64_t at = r * width + j, n = area.j1 - j;
            store_upto(to + at, load_upto(a + at, n) + load_upto(b + at, n), n);
        }
}

static void branch_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {
    copy_area(op_y(op, ctx, 0), op_x(op, ctx, 0), op->n_out, y);
}

static void branch_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    real *dx = op_dx(op, ctx, 0);
    if (dx)
        sum_area(dx, op_dy(op, ctx, 0), op_dy(op + op->variant, ctx, 0), op->n_in, area);
}

static void add_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {
    sum_area(op_y(op, ctx, 0), op_x(op, ctx, 0), op_y(op + op->variant, ctx, 0), op->n_out, y);
}

static void add_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    real *dx = op_dx(op, ctx, 0);
    if (dx)
        copy_area(dx, op_dy(op, ctx, 0), op->n_in, area);
}

#define branch_slope NULL
#define branch_param_grad NULL
#define branch_keep_stats NULL
#define add_slope NULL
#define add_param_grad NULL
#define add_keep_stats NULL
#define branch_panel_forward branch_forward
#define branch_panel_backward branch_backward
#define branch_panel_param_grad NULL
#define add_panel_forward add_forward
#define add_panel_backward add_backward
#define add_panel_param_grad NULL
