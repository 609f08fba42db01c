/* Losses on raw outputs z (n, n_out): one number a row, and dz = scale * d(sum of those)/dz.
 *
 * A target that is labels is int64_t (rows); one that is values is real (rows, n_out). */

#include "real.h"
#include "vmath.h"

/* Rows handled together, so that their logarithms are one vector operation */
#define ROW_GROUP SUM_LANES

INLINE int64_t at(const int64_t *order, int64_t r) { return order ? order[r] : r; }

/* all bits set in the first n lanes */
INLINE mask first_lanes(int64_t n) {
    mask index;
    for (int i = 0; i < LANES; i++)
        index[i] = i;
    return index < (bits)(n < LANES ? n : LANES);
}

static real row_max(const real *z, int64_t n) {
    vec high = splat(z[0]);
    for (int64_t j = 0; j < n; j += LANES)
        high = vmax(high, pick(first_lanes(n - j), load_upto(z + j, n - j), high));
    real m = high[0];
    for (int i = 1; i < LANES; i++)
        m = high[i] > m ? high[i] : m;
    return m;
}

/* sum of exp(z - top); the terms go to e unless it is NULL */
static real exp_sum(real *e, const real *z, int64_t n, real top) {
    lane_sums sums = {{{0}}};
    for (int64_t j = 0; j < n; j += SUM_LANES)
        for (int v = 0; v < SUM_VECS && j + v * LANES < n; v++) {
            const int64_t i = j + v * LANES, left = n - i;
            const vec term = vexp(load_upto(z + i, left) - top);
            sums.v[v] += pick(first_lanes(left), term, (vec){0});
            if (e)
                store_upto(e + i, term, left);
        }
    return tree_sum(&sums);
}

/* loss = log sum_j exp(z_j) - z_label      dz_j = scale (softmax(z)_j - [j = label]) */
static void cross_entropy_rows(double *row_loss, void *dz_, const void *z_, const void *target,
                               const int64_t *order, double scale, int64_t n, int64_t n_out) {
    const int64_t *labels = target;
    for (int64_t r0 = 0; r0 < n; r0 += ROW_GROUP) {
        const int64_t rows = n - r0 < ROW_GROUP ? n - r0 : ROW_GROUP;
        const real *z = (const real *)z_ + r0 * n_out;
        real *dz = dz_ ? (real *)dz_ + r0 * n_out : NULL;
        real top[ROW_GROUP], sum[ROW_GROUP], log_sum[ROW_GROUP];
        for (int64_t r = 0; r < ROW_GROUP; r++)
            sum[r] = 1;
        for (int64_t r = 0; r < rows; r++) {
            top[r] = row_max(z + r * n_out, n_out);
            sum[r] = exp_sum(dz ? dz + r * n_out : NULL, z + r * n_out, n_out, top[r]);
        }
        for (int v = 0; v < ROW_GROUP; v += LANES)
            store(log_sum + v, vlog(load(sum + v)));
        for (int64_t r = 0; r < rows; r++) {
            const int64_t label = labels[at(order, r0 + r)];
            row_loss[r0 + r] = (double)log_sum[r] + ((double)top[r] - (double)z[r * n_out + label]);
            if (!dz)
                continue;
            const real factor = (real)scale / sum[r];
            for (int64_t j = 0; j < n_out; j++)
                dz[r * n_out + j] *= factor;
            dz[r * n_out + label] -= (real)scale;
        }
    }
}

typedef struct {
    vec loss, slope;
} loss_term;

/* Losses that are a mean over the outputs of a row, each from (z, y) alone */
INLINE void elementwise_rows(loss_term (*term)(vec z, vec y), double *row_loss, real *dz,
                             const real *z, const real *target, const int64_t *order, double scale,
                             int64_t n, int64_t n_out) {
    const vec factor = splat((real)(scale / (double)n_out));
    for (int64_t r = 0; r < n; r++, z += n_out) {
        const real *y = target + at(order, r) * n_out;
        lane_sums sums = {{{0}}};
        for (int64_t j = 0; j < n_out; j += SUM_LANES)
            for (int v = 0; v < SUM_VECS && j + v * LANES < n_out; v++) {
                const int64_t i = j + v * LANES, left = n_out - i;
                const loss_term t = term(load_upto(z + i, left), load_upto(y + i, left));
                sums.v[v] += pick(first_lanes(left), t.loss, (vec){0});
                if (dz)
                    store_upto(dz + r * n_out + i, t.slope * factor, left);
            }
        row_loss[r] = (double)tree_sum(&sums) / (double)n_out;
    }
}

/* softplus(z) - y z in an order in which nothing cancels      slope sigmoid(z) - y */
INLINE loss_term binary_cross_entropy_term(vec z, vec y) {
    const vec rest = vlog1p_unit(vexp(-vabs(z)));
    const vec linear = vmax(z, (vec){0}) - y * z;
    return (loss_term){.loss = pick(z == z, linear + rest, z), .slope = vsigmoid(z) - y};
}

/* (z - y)^2      slope 2 (z - y) */
INLINE loss_term squared_error_term(vec z, vec y) {
    const vec e = z - y;
    return (loss_term){.loss = e * e, .slope = 2 * e};
}

#define ELEMENTWISE(name)                                                                          \
    static void name##_rows(double *row_loss, void *dz, const void *z, const void *target,         \
                            const int64_t *order, double scale, int64_t n, int64_t n_out) {        \
        elementwise_rows(name##_term, row_loss, dz, z, target, order, scale, n, n_out);            \
    }
ELEMENTWISE(binary_cross_entropy)
ELEMENTWISE(squared_error)
