/* One build of all kernels, for one element type and one instruction set. It is compiled once per
 * (type, set); the build system defines FM_DOUBLE, FM_TABLE (the exported symbol) and
 * FM_TABLE_NAME. */

#include "kernels/activation.c"
#include "kernels/batch_norm.c"
#include "kernels/dropout.c"
#include "kernels/glu.c"
#include "kernels/gram.c"
#include "kernels/lasso.c"
#include "kernels/layer_norm.c"
#include "kernels/linear.c"
#include "kernels/loss.c"
#include "kernels/optimizer.c"
#include "kernels/prelu.c"
#include "kernels/residual.c"
#include "kernels/standardize.c"

#include "float_mode.h"

static APART int64_t search_nonfinite(const real *x, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        if (!all_finite(load(x + i)))
            break;
    for (; i < n; i++)
        if (!(x[i] - x[i] == 0))
            return i;
    return -1;
}

static int64_t first_nonfinite(const void *x, int64_t n) {
    const uint32_t mode = default_mode();
    const int64_t found = search_nonfinite(x, n);
    restore_mode(mode);
    return found;
}

/* Whether n elements are finite numbers in [low, high]. */
INLINE int all_inside(const real *x, int64_t n, double low, double high) {
    int inside = 1;
    for (int64_t i = 0; i < n; i++)
        inside &= x[i] - x[i] == 0 && (double)x[i] >= low && (double)x[i] <= high;
    return inside;
}

static int64_t first_outside(const void *x, int64_t n, double low, double high) {
    const real *a = x;
    int64_t i = 0;
    const uint32_t mode = default_mode();
    while (i + LANES <= n && all_inside(a + i, LANES, low, high))
        i += LANES;
    while (i < n && all_inside(a + i, 1, low, high))
        i++;
    restore_mode(mode);
    return i < n ? i : -1;
}

#define DEFINE_FUNCTION(name, ...)                                                                 \
    static void all_##name(void *y, const void *x, int64_t n) {                                    \
        const uint32_t mode = default_mode();                                                      \
        for (int64_t i = 0; i < n; i += LANES)                                                     \
            store_upto((real *)y + i, v##name(load_upto((const real *)x + i, n - i)), n - i);      \
        restore_mode(mode);                                                                        \
    }
FM_FUNCTIONS(DEFINE_FUNCTION)

#define FUNCTION_ENTRY(name, ...) all_##name,
#define OP_ENTRY(name, whole, ...)                                                                 \
    {name##_sizes,         name##_forward,        name##_slope,                                    \
     name##_backward,      name##_param_grad,     name##_keep_stats,                               \
     name##_panel_forward, name##_panel_backward, name##_panel_param_grad,                         \
     FM_WHOLE_##whole},
#define LOSS_ENTRY(name, ...) name##_rows,
#define UPDATE_ENTRY(name, ...) name##_update,

extern const fm_kernels FM_TABLE;
const fm_kernels FM_TABLE = {
    .name = FM_TABLE_NAME,
    .real_size = sizeof(real),
    .lanes = LANES,
    .panel_rows = PANEL_ROWS,
    .panels_pay = PANELS_PAY,
    .panels_of_rows = panels_of_rows,
    .rows_of_panels = rows_of_panels,
#ifdef FM_BLAS_PREFIX
    .has_blas = 1,
#endif
    .ops = {FM_OPS(OP_ENTRY)},
    .losses = {FM_LOSSES(LOSS_ENTRY)},
    .weigh_rows = weigh_rows,
    .updates = {FM_OPTIMIZERS(UPDATE_ENTRY)},
    .sum_squares = sum_squares,
    .limit_columns = limit_columns,
    .average = average,
    .functions = {FM_FUNCTIONS(FUNCTION_ENTRY)},
    .first_nonfinite = first_nonfinite,
    .first_outside = first_outside,
    .gram = gram,
    .cholesky_solve = cholesky_solve,
    .difference = difference,
    .scale = scale,
    .lasso_sweeps = lasso_sweeps,
};
