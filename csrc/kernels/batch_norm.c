/* Batch normalization (Ioffe, Szegedy 2015; the lecture, "Batch normalization"), on each column:
 *
 *   y = xhat scale + shift,   xhat = (x - mean) / sqrt(var + eps)
 *
 * x, y (rows, n)   scale, shift (n), see scale_shift.h   statistics: mean (n), var (n)
 *
 * In training the statistics are those of the mini-batch, var with 1 / rows. An area then holds all
 * rows of its columns. Outside of training they are the running ones. These follow the
 * mini-batches, var with 1 / (rows - 1), as in PyTorch. */

#include "real.h"
#include "scale_shift.h"

/* Sums over rows go by blocks of this many, so that rounding errors stay small. */
#define SUM_ROWS 32
#define GROUP 4 /* Vectors of columns done together: whole cache lines of each row. */
#define GROUP_COLUMNS (GROUP * LANES)

static fm_sizes batch_norm_sizes(const fm_op *op) {
    const int fits = op->attr0 > 0 && op->attr0 <= 1 && op->attr1 >= 0 && op->attr1 <= 1;
    const int64_t n_arrays = n_scale_shift(op);
    return (fm_sizes){.status = !is_scale_shift(op)     ? FM_BAD_KIND
                                : op->n_in != op->n_out ? FM_BAD_WIDTH
                                : !fits                 ? FM_BAD_ATTRIBUTE
                                                        : FM_OK,
                      .n_biases = n_arrays * op->n_out,
                      .n_slices = n_arrays ? op->n_out : 0,
                      .n_stats = 2 * op->n_out};
}

/* Returns the statistics that this pass uses. */
static real *stats_of(const fm_op *op, const fm_ctx *ctx) {
    return (real *)(ctx->training ? ctx->batch_stats : ctx->stats) + op->s;
}

typedef struct {
    vec v[GROUP];
} group;

/* Statistics, scale and shift of a group of columns. */
typedef struct {
    group mean, inv_std, scale, shift;
} column_facts;

static column_facts facts_of(const fm_op *op, const fm_ctx *ctx, int64_t j, int64_t end) {
    const real *mean = stats_of(op, ctx), *var = mean + op->n_out;
    const scale_shift own = scale_shift_of(op, ctx->params);
    column_facts f;
    for (int v = 0; v < GROUP; v++) {
        const int64_t at = j + v * LANES;
        f.mean.v[v] = load_rest(mean, at, end);
        f.inv_std.v[v] = 1 / vsqrt(load_rest(var, at, end) + (real)op->attr0);
        f.scale.v[v] = scale_at(own.scale, at, end);
        f.shift.v[v] = shift_at(own.shift, at, end);
    }
    return f;
}

/* Returns means over all rows of x - from, or of its squares, from column j on. */
INLINE group column_means(const fm_op *op, const fm_ctx *ctx, int64_t j, int64_t end,
                          const group *from, const int squares) {
    group total = {{{0}}};
    for (int64_t first = 0; first < ctx->rows; first += SUM_ROWS) {
        const int64_t last = first + SUM_ROWS < ctx->rows ? first + SUM_ROWS : ctx->rows;
        group sum = {{{0}}};
        for (int64_t r = first; r < last; r++)
            for (int v = 0; v < GROUP; v++) {
                const vec x = load_rest(op_x(op, ctx, r), j + v * LANES, end);
                const vec d = x - from->v[v];
                sum.v[v] = squares ? fma_(d, d, sum.v[v]) : sum.v[v] + d;
            }
        for (int v = 0; v < GROUP; v++)
            total.v[v] += sum.v[v];
    }
    for (int v = 0; v < GROUP; v++)
        total.v[v] /= (real)ctx->rows;
    return total;
}

static void batch_statistics(const fm_op *op, const fm_ctx *ctx, int64_t j, int64_t end) {
    real *mean = stats_of(op, ctx), *var = mean + op->n_out;
    group first; /* With the first row subtracted, a constant column has exactly its own mean. */
    for (int v = 0; v < GROUP; v++)
        first.v[v] = load_rest(op_x(op, ctx, 0), j + v * LANES, end);
    group m = column_means(op, ctx, j, end, &first, 0);
    for (int v = 0; v < GROUP; v++)
        m.v[v] += first.v[v];
    const group s = column_means(op, ctx, j, end, &m, 1);
    for (int v = 0; v < GROUP; v++) {
        store_rest(mean, m.v[v], j + v * LANES, end);
        store_rest(var, s.v[v], j + v * LANES, end);
    }
}

static void batch_norm_forward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    for (int64_t j = area.j0; j < area.j1; j += GROUP_COLUMNS) {
        if (ctx->training)
            batch_statistics(op, ctx, j, area.j1);
        const column_facts f = facts_of(op, ctx, j, area.j1);
        for (int64_t r = area.r0; r < area.r1; r++)
            for (int v = 0; v < GROUP; v++) {
                const int64_t at = j + v * LANES;
                const vec x = load_rest(op_x(op, ctx, r), at, area.j1);
                const vec xhat = (x - f.mean.v[v]) * f.inv_std.v[v];
                store_rest(op_y(op, ctx, r), fma_(xhat, f.scale.v[v], f.shift.v[v]), at, area.j1);
            }
    }
}

/* Sums of dy xhat and of dy over all rows. */
typedef struct {
    group products, sums;
} column_sums;

static column_sums sums_of_columns(const fm_op *op, const fm_ctx *ctx, int64_t j, int64_t end,
                                   const column_facts *f) {
    column_sums all = {{{{0}}}, {{{0}}}};
    for (int64_t first = 0; first < ctx->rows; first += SUM_ROWS) {
        const int64_t last = first + SUM_ROWS < ctx->rows ? first + SUM_ROWS : ctx->rows;
        group p = {{{0}}}, s = {{{0}}};
        for (int64_t r = first; r < last; r++)
            for (int v = 0; v < GROUP; v++) {
                const vec x = load_rest(op_x(op, ctx, r), j + v * LANES, end);
                const vec dy = load_rest(op_dy(op, ctx, r), j + v * LANES, end);
                s.v[v] += dy;
                p.v[v] = fma_(dy, (x - f->mean.v[v]) * f->inv_std.v[v], p.v[v]);
            }
        for (int v = 0; v < GROUP; v++) {
            all.products.v[v] += p.v[v];
            all.sums.v[v] += s.v[v];
        }
    }
    return all;
}

/* dscale = sum of dy xhat, dshift = sum of dy. They come before backward, which needs them. */
static void batch_norm_slope(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const scale_shift grads = scale_shift_of(op, ctx->grads);
    if (!n_scale_shift(op))
        return;
    for (int64_t j = area.j0; j < area.j1; j += GROUP_COLUMNS) {
        const column_facts f = facts_of(op, ctx, j, area.j1);
        const column_sums all = sums_of_columns(op, ctx, j, area.j1, &f);
        for (int v = 0; v < GROUP; v++) {
            if (grads.scale)
                store_rest(grads.scale, all.products.v[v], j + v * LANES, area.j1);
            if (grads.shift)
                store_rest(grads.shift, all.sums.v[v], j + v * LANES, area.j1);
        }
    }
}

/* Returns the same sums for backward. They come from the gradients if slope has left both there.
 * The backward pass outside of training ignores them. */
static column_sums sums_for_backward(const fm_op *op, const fm_ctx *ctx, int64_t j, int64_t end,
                                     const column_facts *f) {
    const scale_shift grads = scale_shift_of(op, ctx->grads);
    column_sums all = {{{{0}}}, {{{0}}}};
    if (!grads.scale || !grads.shift)
        return ctx->training ? sums_of_columns(op, ctx, j, end, f) : all;
    for (int v = 0; v < GROUP; v++) {
        all.products.v[v] = load_rest(grads.scale, j + v * LANES, end);
        all.sums.v[v] = load_rest(grads.shift, j + v * LANES, end);
    }
    return all;
}

/* dx = scale / sqrt(var + eps) (dy - (dshift + xhat dscale) / rows) in training, because the
 * statistics of the mini-batch depend on x. Otherwise dx = scale / sqrt(var + eps) dy. */
static void batch_norm_backward(const fm_op *op, const fm_ctx *ctx, fm_area area) {
    const real share = ctx->training ? 1 / (real)ctx->rows : 0;
    if (!op_dx(op, ctx, 0))
        return;
    for (int64_t j = area.j0; j < area.j1; j += GROUP_COLUMNS) {
        const column_facts f = facts_of(op, ctx, j, area.j1);
        const column_sums all = sums_for_backward(op, ctx, j, area.j1, &f);
        for (int64_t r = area.r0; r < area.r1; r++)
            for (int v = 0; v < GROUP; v++) {
                const int64_t at = j + v * LANES;
                const vec x = load_rest(op_x(op, ctx, r), at, area.j1);
                const vec xhat = (x - f.mean.v[v]) * f.inv_std.v[v];
                const vec common = fma_(xhat, all.products.v[v], all.sums.v[v]);
                const vec d =
                    fma_(-common, splat(share), load_rest(op_dy(op, ctx, r), at, area.j1));
                store_rest(op_dx(op, ctx, r), f.scale.v[v] * f.inv_std.v[v] * d, at, area.j1);
            }
    }
}

/* slope has already written the gradients */
static void batch_norm_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0, int64_t j1) {
    (void)op, (void)ctx, (void)j0, (void)j1;
}

/* running += momentum (batch - running). A value that would not be finite stays as it was. */
static void batch_norm_keep_stats(const fm_op *op, const fm_ctx *ctx) {
    const real *batch = (const real *)ctx->batch_stats + op->s;
    real *running = (real *)ctx->stats + op->s;
    const double unbiased = (double)ctx->rows / (double)(ctx->rows - 1);
    for (int64_t i = 0; i < 2 * op->n_out; i++) {
        const double value = (double)batch[i] * (i < op->n_out ? 1 : unbiased);
        const real next = (real)((1 - op->attr1) * (double)running[i] + op->attr1 * value);
        running[i] = next - next == 0 ? next : running[i];
    }
}

/* It needs all rows of a column, while a panel has only some of them. */
#define batch_norm_panel_forward NULL
#define batch_norm_panel_backward NULL
#define batch_norm_panel_param_grad NULL
