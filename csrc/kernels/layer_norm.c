/* Layer normalization (Ba et al. 2016) and RMS normalization (Zhang, Sennrich 2019), on each row:
 *
 *   layer_norm: y = xhat scale + shift, xhat = (x - mean) / sqrt(var + eps), var with 1 / n
 *   rms_norm:   y = xhat scale,         xhat = x / sqrt(mean of x^2 + eps)
 *
 * x, y (rows, n)   scale, shift (n), see scale_shift.h. Mean and 1 / sqrt(...) of each row are kept
 * behind y for the backward pass. */

#include "panel.h"
#include "real.h"
#include "scale_shift.h"

#define KEPT 2 /* Each row keeps two numbers: its mean and 1 / sqrt(var + eps). */

static fm_sizes norm_sizes(const fm_op *op, int centers) {
    const int is_known = is_scale_shift(op) && (centers || op->variant & FM_LACKS_SHIFT);
    const int fits = op->attr0 > 0 && op->attr0 <= 1; /* eps */
    const int64_t n_arrays = n_scale_shift(op);
    return (fm_sizes){.status = !is_known               ? FM_BAD_KIND
                                : op->n_in != op->n_out ? FM_BAD_WIDTH
                                : !fits                 ? FM_BAD_ATTRIBUTE
                                                        : FM_OK,
                      .n_biases = n_arrays * op->n_out,
                      .n_slices = n_arrays ? op->n_out : 0,
                      .n_kept = KEPT};
}

static real *kept_of(const fm_op *op, const fm_ctx *ctx, int64_t row) {
    return (real *)ctx->acts + (op->y + op->n_out) * ctx->capacity + row * KEPT;
}

static real row_sum(const real *x, int64_t n) {
    lane_sums sums = {{{0}}};
    for (int64_t i = 0; i < n; i += SUM_LANES)
        for (int v = 0; v < SUM_VECS; v++)
            sums.v[v] += load_rest(x, i + v * LANES, n);
    return tree_sum(&sums);
}

static real row_sum_squares(const real *x, int64_t n) {
    lane_sums sums = {{{0}}};
    for (int64_t i = 0; i < n; i += SUM_LANES)
        for (int v = 0; v < SUM_VECS; v++) {
            const vec a = load_rest(x, i + v * LANES, n);
            sums.v[v] = fma_(a, a, sums.v[v]);
        }
    return tree_sum(&sums);
}

/* ---- the formulas; a vector holds columns of a row or rows of a column ----------------------- */

INLINE vec inverse_std(vec squares, int64_t n, double eps) {
    return 1 / vsqrt(squares / (real)n + (real)eps);
}
INLINE vec norm_y(vec deviation, vec inv_std, vec scale, vec shift) {
    return fma_(deviation * inv_std, scale, shift);
}
/* d = dy scale,  dx = (d - mean of d - xhat (mean of d xhat)) / sqrt(var + eps). RMS normalization
 * leaves the mean of d out. */
INLINE vec norm_dx(vec d, vec xhat, vec mean, vec along, vec inv_std) {
    return fma_(-xhat, along, d - mean) * inv_std;
}

/* ---- row by row ------------------------------------------------------------------------------ */

/* Returns xhat of a row from column i on. */
INLINE vec normalized(const real *x, const real *kept, int64_t i, int64_t n) {
    return (load_rest(x, i, n) - splat(kept[0])) * splat(kept[1]);
}

INLINE void deviations(real *y, const real *x, real from, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store_upto(y + i, load_upto(x + i, n - i) - splat(from), n - i);
}

INLINE void norm_forward(const fm_op *op, const fm_ctx *ctx, fm_area area, const int centers) {
    const int64_t n = op->n_out;
    const scale_shift own = scale_shift_of(op, ctx->params);
    for (int64_t r = area.r0; r < area.r1; r++) {
        const real *x = op_x(op, ctx, r);
        real *y = op_y(op, ctx, r), *kept = kept_of(op, ctx, r);
        kept[0] = 0;
        if (centers) { /* minus the first number: a constant row has exactly its own mean */
            deviations(y, x, x[0], n);
            kept[0] = x[0] + row_sum(y, n) / (real)n;
        }
        deviations(y, x, kept[0], n); /* y serves as scratch */
        const vec inv_std = inverse_std(splat(row_sum_squares(y, n)), n, op->attr0);
        kept[1] = inv_std[0];
        for (int64_t i = 0; i < n; i += LANES) {
            const vec to = centers ? shift_at(own.shift, i, n) : (vec){0};
            const vec from = load_upto(y + i, n - i);
            store_upto(y + i, norm_y(from, inv_std, scale_at(own.scale, i, n), to), n - i);
        }
    }
}

INLINE void norm_backward(const fm_op *op, const fm_ctx *ctx, fm_area area, const int centers) {
    const int64_t n = op->n_out;
    const real *scale = scale_shift_of(op, ctx->params).scale;
    for (int64_t r = area.r0; r < area.r1; r++) {
        const real *x = op_x(op, ctx, r), *dy = op_dy(op, ctx, r), *kept = kept_of(op, ctx, r);
        real *dx = op_dx(op, ctx, r);
        if (!dx)
            return;
        lane_sums sums = {{{0}}}, products = {{{0}}};
        for (int64_t i = 0; i < n; i += SUM_LANES)
            for (int v = 0; v < SUM_VECS; v++) {
                const int64_t j = i + v * LANES;
                const vec d = load_rest(dy, j, n) * scale_at(scale, j, n);
                sums.v[v] += d;
                products.v[v] = fma_(d, normalized(x, kept, j, n), products.v[v]);
            }
        const vec mean = splat(centers ? tree_sum(&sums) / (real)n : 0);
        const vec along = splat(tree_sum(&products) / (real)n);
        for (int64_t i = 0; i < n; i += LANES) {
            const vec d = load_upto(dy + i, n - i) * scale_at(scale, i, n);
            const vec xhat = normalized(x, kept, i, n);
            store_upto(dx + i, norm_dx(d, xhat, mean, along, splat(kept[1])), n - i);
        }
    }
}

/* ---- in panels: a virtual lane is a vector ----------------------------------------------------
 */

/* Where rows r .. r + LANES - 1 begin. */
typedef struct {
    const real *x, *dy;
    real *y, *dx, *kept;
    scale_shift own;
    int64_t n;
} norm_group;

static norm_group norm_group_of(const fm_op *op, const fm_ctx *ctx, int64_t r) {
    const int64_t n = op->n_out, at = in_panels(r, n);
    real *dx = op_dx(op, ctx, 0);
    return (norm_group){.x = op_x(op, ctx, 0) + at,
                        .dy = op_dy(op, ctx, 0) + at,
                        .y = op_y(op, ctx, 0) + at,
                        .dx = dx ? dx + at : NULL,
                        .kept = kept_of(op, ctx, 0) + in_panels(r, KEPT),
                        .own = scale_shift_of(op, ctx->params),
                        .n = n};
}

INLINE vec group_scale(const norm_group *g, int64_t j) {
    return splat(g->own.scale ? g->own.scale[j] : 1);
}

INLINE vec group_xhat(const norm_group *g, int64_t j) {
    return (load(g->x + j * PANEL_ROWS) - load(g->kept)) * load(g->kept + PANEL_ROWS);
}

INLINE void norm_group_forward(const fm_op *op, const norm_group *g, const int centers) {
    vec sums[SUM_LANES] = {{0}}, squares[SUM_LANES] = {{0}}, mean = {0};
    if (centers) {
        const vec first = load(g->x);
        for (int64_t j = 0; j < g->n; j++)
            sums[j % SUM_LANES] += load(g->x + j * PANEL_ROWS) - first;
        mean = first + tree_sums(sums, g->n) / (real)g->n;
    }
    for (int64_t j = 0; j < g->n; j++) {
        const vec d = load(g->x + j * PANEL_ROWS) - mean;
        squares[j % SUM_LANES] = fma_(d, d, squares[j % SUM_LANES]);
    }
    const vec inv_std = inverse_std(tree_sums(squares, g->n), g->n, op->attr0);
    store(g->kept, mean);
    store(g->kept + PANEL_ROWS, inv_std);
    for (int64_t j = 0; j < g->n; j++)
        store(g->y + j * PANEL_ROWS,
              norm_y(load(g->x + j * PANEL_ROWS) - mean, inv_std, group_scale(g, j),
                     centers && g->own.shift ? splat(g->own.shift[j]) : (vec){0}));
}

INLINE void norm_group_backward(const norm_group *g, const int centers) {
    vec sums[SUM_LANES] = {{0}}, products[SUM_LANES] = {{0}};
    for (int64_t j = 0; j < g->n; j++) {
        const vec d = load(g->dy + j * PANEL_ROWS) * group_scale(g, j);
        sums[j % SUM_LANES] += d;
        products[j % SUM_LANES] = fma_(d, group_xhat(g, j), products[j % SUM_LANES]);
    }
    const vec mean = centers ? tree_sums(sums, g->n) / (real)g->n : (vec){0};
    const vec along = tree_sums(products, g->n) / (real)g->n;
    for (int64_t j = 0; j < g->n; j++) {
        const vec d = load(g->dy + j * PANEL_ROWS) * group_scale(g, j);
        store(g->dx + j * PANEL_ROWS,
              norm_dx(d, group_xhat(g, j), mean, along, load(g->kept + PANEL_ROWS)));
    }
}

/* ---- gradients of scale and shift, both ways ------------------------------------------------- */

/* Loads dy and xhat of up to LANES rows from column j on, one vector per row. */
INLINE void norm_rows(vec *dy, vec *xhat, const fm_op *op, const fm_ctx *ctx, int64_t r,
                      int64_t rows, int64_t j, int64_t j1, const int panels) {
    const norm_group g = panels ? norm_group_of(op, ctx, r) : (norm_group){0};
    for (int64_t i = 0; !panels && i < rows; i++) {
        dy[i] = load_rest(op_dy(op, ctx, r + i), j, j1);
        xhat[i] = normalized(op_x(op, ctx, r + i), kept_of(op, ctx, r + i), j, j1);
    }
    if (!panels)
        return;
    turned_columns(dy, g.dy, PANEL_ROWS, j, j1);
    for (int i = 0; i < LANES; i++)
        xhat[i] = j + i < j1 ? group_xhat(&g, j + i) : (vec){0};
    transpose(xhat);
}

/* Columns [j0, j1): dscale = sum of dy xhat, dshift = sum of dy, if the op has them. The sums run
 * over the rows in their order and begin anew every FM_CHAIN rows. Later blocks of a mini-batch add
 * to the sums of earlier ones. */
INLINE void norm_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0, int64_t j1,
                            const int centers, const int panels) {
    const scale_shift own = scale_shift_of(op, ctx->grads);
    real *dscale = own.scale, *dshift = centers ? own.shift : NULL;
    for (int64_t j = j0; j < j1; j += LANES) {
        const int goes_on = ctx->first_row > 0;
        vec all_products = goes_on && dscale ? load_rest(dscale, j, j1) : (vec){0};
        vec all_sums = goes_on && dshift ? load_rest(dshift, j, j1) : (vec){0};
        for (int64_t r0 = 0; r0 < ctx->rows; r0 += FM_CHAIN) {
            const int64_t end = r0 + FM_CHAIN < ctx->rows ? r0 + FM_CHAIN : ctx->rows;
            vec products = {0}, sums = {0};
            for (int64_t r = r0; r < end; r += LANES) {
                const int64_t rows = end - r < LANES ? end - r : LANES;
                vec dy[LANES], xhat[LANES];
                norm_rows(dy, xhat, op, ctx, r, rows, j, j1, panels);
                for (int64_t i = 0; i < rows; i++) {
                    sums += dy[i];
                    products = fma_(dy[i], xhat[i], products);
                }
            }
            all_products += products;
            all_sums += sums;
        }
        if (dscale)
            store_upto(dscale + j, all_products, j1 - j);
        if (dshift)
            store_upto(dshift + j, all_sums, j1 - j);
    }
}

#define NORM(name, centers)                                                                        \
    static fm_sizes name##_sizes(const fm_op *op) { return norm_sizes(op, centers); }              \
    static void name##_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {                    \
        norm_forward(op, ctx, y, centers);                                                         \
    }                                                                                              \
    static void name##_backward(const fm_op *op, const fm_ctx *ctx, fm_area dx) {                  \
        norm_backward(op, ctx, dx, centers);                                                       \
    }                                                                                              \
    static void name##_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0, int64_t j1) {    \
        norm_param_grad(op, ctx, j0, j1, centers, 0);                                              \
    }                                                                                              \
    static void name##_panel_forward(const fm_op *op, const fm_ctx *ctx, fm_area y) {              \
        for (int64_t r = y.r0; r < y.r1; r += LANES) {                                             \
            const norm_group g = norm_group_of(op, ctx, r);                                        \
            norm_group_forward(op, &g, centers);                                                   \
        }                                                                                          \
    }                                                                                              \
    static void name##_panel_backward(const fm_op *op, const fm_ctx *ctx, fm_area dx) {            \
        for (int64_t r = dx.r0; op_dx(op, ctx, 0) && r < dx.r1; r += LANES) {                      \
            const norm_group g = norm_group_of(op, ctx, r);                                        \
            norm_group_backward(&g, centers);                                                      \
        }                                                                                          \
    }                                                                                              \
    static void name##_panel_param_grad(const fm_op *op, const fm_ctx *ctx, int64_t j0,            \
                                        int64_t j1) {                                              \
        norm_param_grad(op, ctx, j0, j1, centers, 1);                                              \
    }
NORM(layer_norm, 1)
NORM(rms_norm, 0)

#define layer_norm_slope NULL
#define layer_norm_keep_stats NULL
#define rms_norm_slope NULL
#define rms_norm_keep_stats NULL
