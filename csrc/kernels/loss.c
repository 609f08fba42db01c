/* Losses on raw outputs z (n, n_out). Each writes one number per row, and dz = scale * d(sum of
 * those) / dz.
 *
 * A target of labels is int64_t (rows). A target of values is real (rows, columns), see
 * fm_target_columns. */

#include "panel.h"
#include "real.h"
#include "vmath.h"

/* Rows that are handled together, so that their logarithms are one vector operation. */
#define ROW_GROUP SUM_LANES

INLINE int64_t at(const int64_t *order, int64_t r) { return order ? order[r] : r; }

/* Labels are in the user's array, which another thread may write to at any moment. So each is
 * read once, and used only if it is in [0, n_out). Any other label becomes NO_LABEL: the
 * row's loss and gradient are NaN, and the step is refused. The ignored label, which may be a
 * class, makes both 0. */
#define NO_LABEL (-1)
#define IGNORED (-2)
#define NOT_A_NUMBER __builtin_nan("")
INLINE int64_t label_at(const int64_t *labels, const int64_t *order, int64_t r, int64_t n_out,
                        const fm_loss_settings *settings) {
    const int64_t label = __atomic_load_n(&labels[at(order, r)], __ATOMIC_RELAXED);
    if (settings->ignores && label == settings->ignored)
        return IGNORED;
    return label >= 0 && label < n_out ? label : NO_LABEL;
}

INLINE void ignore_row(double *row_loss, real *dz, int64_t n_out) {
    *row_loss = 0;
    for (int64_t j = 0; dz && j < n_out; j++)
        dz[j] = 0;
}

/* All bits set in the first n lanes, 0 in the others. */
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

/* The sum of exp(z - top). The terms go to e unless it is NULL. */
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

/* Parts of each of up to ROW_GROUP rows: the largest output, the sum of exp(z -
 * top), its logarithm. */
typedef struct {
    real top[ROW_GROUP], sum[ROW_GROUP], log_sum[ROW_GROUP];
} softmax_parts;

/* The same bits as row_max and exp_sum row by row, for few outputs: a vector holds one output of
 * several rows, so no lane is idle. */
static void exp_sums_of_few(softmax_parts *s, real *e, const real *z, int64_t rows, int64_t n_out) {
    real column[SUM_LANES][ROW_GROUP];
    for (int64_t r = 0; r < ROW_GROUP; r += LANES) /* zeros if there is no row */
        columns_of_rows(column[0] + r, ROW_GROUP, z, NULL, r, rows, n_out);
    for (int v = 0; v < ROW_GROUP; v += LANES) {
        vec high = splat(-__builtin_inff()), term[SUM_LANES] = {{0}};
        for (int64_t j = 0; j < n_out; j++)
            high = vmax(high, load(column[j] + v));
        for (int64_t j = 0; j < n_out; j++) {
            term[j] = vexp(load(column[j] + v) - high);
            store(column[j] + v, term[j]);
        }
        store(s->top + v, high);
        store(s->sum + v, tree_sums(term, n_out));
    }
    for (int64_t r = 0; e && r < rows; r += LANES)
        rows_of_columns(e, r, rows, n_out, column[0] + r, ROW_GROUP);
}

/* The softmax parts of `rows` rows. The exponentials go to e unless it is NULL. */
static softmax_parts softmax_rows(real *e, const real *z, int64_t rows, int64_t n_out) {
    softmax_parts s;
    for (int64_t r = 0; r < ROW_GROUP; r++)
        s.sum[r] = 1;
    if (n_out <= SUM_LANES)
        exp_sums_of_few(&s, e, z, rows, n_out);
    for (int64_t r = 0; n_out > SUM_LANES && r < rows; r++) {
        s.top[r] = row_max(z + r * n_out, n_out);
        s.sum[r] = exp_sum(e ? e + r * n_out : NULL, z + r * n_out, n_out, s.top[r]);
    }
    for (int v = 0; v < ROW_GROUP; v += LANES)
        store(s.log_sum + v, vlog(load(s.sum + v)));
    return s;
}

/* The mean of z_j - top. */
static double mean_below(const real *z, int64_t n, real top) {
    lane_sums sums = {{{0}}};
    for (int64_t j = 0; j < n; j += SUM_LANES)
        for (int v = 0; v < SUM_VECS && j + v * LANES < n; v++) {
            const int64_t i = j + v * LANES, left = n - i;
            sums.v[v] += pick(first_lanes(left), load_upto(z + i, left) - top, (vec){0});
        }
    return (double)tree_sum(&sums) / (double)n;
}

/* t_j = (1 - s) [j = label] + s / n_out      s = label_smoothing
 * loss = log sum_j exp(z_j) - sum_j t_j z_j      dz_j = scale (softmax(z)_j - t_j) */
static void cross_entropy_rows(double *row_loss, void *dz_, const void *z_, const void *target,
                               const int64_t *order, double scale, int64_t n, int64_t n_out,
                               const fm_loss_settings *settings) {
    const int64_t *labels = target;
    const double smoothing = settings->label_smoothing;
    const real shared = (real)(scale * smoothing / (double)n_out);
    const real own = (real)(scale * (1 - smoothing));
    for (int64_t r0 = 0; r0 < n; r0 += ROW_GROUP) {
        const int64_t rows = n - r0 < ROW_GROUP ? n - r0 : ROW_GROUP;
        const real *z = (const real *)z_ + r0 * n_out;
        real *dz = dz_ ? (real *)dz_ + r0 * n_out : NULL;
        const softmax_parts s = softmax_rows(dz, z, rows, n_out);
        for (int64_t r = 0; r < rows; r++, z += n_out) {
            const int64_t label = label_at(labels, order, r0 + r, n_out, settings);
            if (label == IGNORED) {
                ignore_row(row_loss + r0 + r, dz ? dz + r * n_out : NULL, n_out);
                continue;
            }
            double below = label == NO_LABEL ? NOT_A_NUMBER : (double)s.top[r] - (double)z[label];
            if (smoothing > 0)
                below = (1 - smoothing) * below - smoothing * mean_below(z, n_out, s.top[r]);
            row_loss[r0 + r] = (double)s.log_sum[r] + below;
            if (!dz)
                continue;
            const real factor = (real)(label == NO_LABEL ? NOT_A_NUMBER : scale) / s.sum[r];
            for (int64_t j = 0; j < n_out; j++)
                dz[r * n_out + j] = dz[r * n_out + j] * factor - shared;
            if (label != NO_LABEL)
                dz[r * n_out + label] -= own;
        }
    }
}

/* The same for probabilities y of a row:
 * t_j = (1 - s) y_j + s / n_out      s = label_smoothing, T = sum of t, which is 1 but for rounding
 * loss = T log sum_j exp(z_j) - sum_j t_j z_j      dz_j = scale (T softmax(z)_j - t_j) */
static void soft_cross_entropy_rows(double *row_loss, void *dz_, const void *z_, const void *target,
                                    const int64_t *order, double scale, int64_t n, int64_t n_out,
                                    const fm_loss_settings *settings) {
    const double smoothing = settings->label_smoothing;
    const vec kept = splat((real)(1 - smoothing)), shared = splat((real)(smoothing / n_out));
    for (int64_t r0 = 0; r0 < n; r0 += ROW_GROUP) {
        const int64_t rows = n - r0 < ROW_GROUP ? n - r0 : ROW_GROUP;
        const real *z = (const real *)z_ + r0 * n_out;
        real *dz = dz_ ? (real *)dz_ + r0 * n_out : NULL;
        const softmax_parts s = softmax_rows(dz, z, rows, n_out);
        for (int64_t r = 0; r < rows; r++, z += n_out) {
            const real *y = (const real *)target + at(order, r0 + r) * n_out;
            lane_sums below = {{{0}}}, total = {{{0}}};
            for (int64_t j = 0; j < n_out; j += SUM_LANES)
                for (int v = 0; v < SUM_VECS && j + v * LANES < n_out; v++) {
                    const int64_t i = j + v * LANES, left = n_out - i;
                    const vec t = pick(first_lanes(left),
                                       fma_(load_upto(y + i, left), kept, shared), (vec){0});
                    const vec term = t * (s.top[r] - load_upto(z + i, left));
                    below.v[v] += pick(t == 0, t, term); /* 0 even if the difference overflows */
                    total.v[v] += t;
                }
            const real sum = tree_sum(&total);
            row_loss[r0 + r] = (double)sum * (double)s.log_sum[r] + (double)tree_sum(&below);
            const vec factor = splat((real)scale * sum / s.sum[r]);
            for (int64_t j = 0; dz && j < n_out; j += LANES) {
                const int64_t left = n_out - j;
                const vec t = fma_(load_upto(y + j, left), kept, shared);
                const vec e = load_upto(dz + r * n_out + j, left);
                store_upto(dz + r * n_out + j, e * factor - t * (real)scale, left);
            }
        }
    }
}

/* p = softmax(z)_label      loss = -(1 - p)^gamma log p (Lin et al. 2017)
 * slope = (1 - p)^gamma (1 - gamma p log(p) / (1 - p))
 * dz_j = scale slope (p_j - [j = label]) */
static void focal_rows(double *row_loss, void *dz_, const void *z_, const void *target,
                       const int64_t *order, double scale, int64_t n, int64_t n_out,
                       const fm_loss_settings *settings) {
    const int64_t *labels = target;
    const vec gamma = splat((real)settings->gamma);
    const vec tiny = power_of_2(splat(1 - EXPONENT_BIAS));
    for (int64_t r0 = 0; r0 < n; r0 += ROW_GROUP) {
        const int64_t rows = n - r0 < ROW_GROUP ? n - r0 : ROW_GROUP;
        const real *z = (const real *)z_ + r0 * n_out;
        real *dz = dz_ ? (real *)dz_ + r0 * n_out : NULL;
        const softmax_parts s = softmax_rows(dz, z, rows, n_out);
        real log_p[ROW_GROUP] = {0}, loss[ROW_GROUP], slope[ROW_GROUP];
        int64_t label[ROW_GROUP];
        for (int64_t r = 0; r < rows; r++) {
            label[r] = label_at(labels, order, r0 + r, n_out, settings);
            const double own = label[r] < 0 ? NOT_A_NUMBER : (double)z[r * n_out + label[r]];
            log_p[r] = (real)(own - (double)s.top[r] - (double)s.log_sum[r]);
        }
        for (int v = 0; v < ROW_GROUP; v += LANES) {
            const vec l = load(log_p + v), wrong = -vexpm1_negative(l);
            const vec weight = vexp(gamma * vlog(vmax(wrong, tiny)));
            const vec ratio = l / vmax(wrong, tiny);
            store(loss + v, -weight * l);
            store(slope + v, weight * (1 - gamma * vexp(l) * ratio));
        }
        for (int64_t r = 0; r < rows; r++) {
            row_loss[r0 + r] = (double)loss[r];
            if (label[r] == IGNORED)
                ignore_row(row_loss + r0 + r, dz ? dz + r * n_out : NULL, n_out);
            if (!dz || label[r] == IGNORED)
                continue;
            const real own = (real)scale * slope[r], factor = own / s.sum[r];
            for (int64_t j = 0; j < n_out; j++)
                dz[r * n_out + j] *= factor;
            if (label[r] != NO_LABEL)
                dz[r * n_out + label[r]] -= own;
        }
    }
}

/* ---- elementwise: a mean over the outputs of a row, each from (z, y) alone ------------------- */

typedef struct {
    vec loss, slope;
} loss_term;

/* The divisor of a row's loss and gradient: the number of its terms, or 1 if they are summed. */
INLINE double parts(const fm_loss_settings *s, int64_t n_terms) {
    return s->sum ? 1 : (double)n_terms;
}

INLINE void elementwise_rows(loss_term (*term)(vec z, vec y, fm_loss_settings s), double *row_loss,
                             real *dz, const real *z, const real *target, const int64_t *order,
                             double scale, int64_t n, int64_t n_out,
                             const fm_loss_settings *settings) {
    fm_loss_settings s = *settings; /* a copy, which stores to dz cannot change */
    const double divisor = parts(&s, n_out);
    const vec factor = splat((real)(scale / divisor));
    for (int64_t r = 0; r < n; r++, z += n_out) {
        const real *y = target + at(order, r) * n_out;
        lane_sums sums = {{{0}}};
        for (int64_t j = 0; j < n_out; j += SUM_LANES)
            for (int v = 0; v < SUM_VECS && j + v * LANES < n_out; v++) {
                const int64_t i = j + v * LANES, left = n_out - i;
                s.column = i;
                const loss_term t = term(load_upto(z + i, left), load_upto(y + i, left), s);
                sums.v[v] += pick(first_lanes(left), t.loss, (vec){0});
                if (dz)
                    store_upto(dz + r * n_out + i, t.slope * factor, left);
            }
        row_loss[r] = (double)tree_sum(&sums) / divisor;
    }
}

/* t = (1 - s) y + s / 2      s = label_smoothing */
INLINE vec smoothed(vec y, fm_loss_settings s) {
    return fma_(y, splat((real)(1 - s.label_smoothing)), splat((real)(s.label_smoothing / 2)));
}

/* softplus(z) - t z, in an order in which nothing cancels      slope sigmoid(z) - t */
INLINE loss_term plain_cross_entropy_term(vec z, vec y, fm_loss_settings s) {
    const vec t = smoothed(y, s);
    const vec rest = vlog1p_unit(vexp(-vabs(z)));
    const vec linear = vmax(z, (vec){0}) - t * z;
    return (loss_term){.loss = pick(z == z, linear + rest, z), .slope = vsigmoid(z) - t};
}

/* The weights of the outputs from s->column on; 0 behind the last output. */
INLINE vec output_weights(const double *weights, const fm_loss_settings *s) {
    vec w = {0};
    if (s->n_weighted == 1)
        return splat((real)weights[0]);
    for (int i = 0; i < LANES && s->column + i < s->n_weighted; i++)
        w[i] = (real)weights[s->column + i];
    return w;
}

/* a t softplus(-z) + b (1 - t) softplus(z); a and b are the weights of targets 1 and 0 of the
 * output slope b (1 - t) sigmoid(z) - a t sigmoid(-z) */
INLINE loss_term weighted_cross_entropy_term(vec z, vec y, fm_loss_settings s) {
    const vec t = smoothed(y, s);
    const vec on = t * output_weights(s.positives, &s);
    const vec off = (1 - t) * output_weights(s.negatives, &s);
    const vec rest = vlog1p_unit(vexp(-vabs(z)));
    const vec loss = on * (vmax(-z, (vec){0}) + rest) + off * (vmax(z, (vec){0}) + rest);
    return (loss_term){.loss = pick(z == z, loss, z),
                       .slope = off * vsigmoid(z) - on * vsigmoid(-z)};
}

/* p = sigmoid(z)
 * loss = positive y (1 - p)^gamma softplus(-z) + negative (1 - y) p^gamma softplus(z)
 * with (1 - p)^gamma = exp(-gamma softplus(z)) and p^gamma = exp(-gamma softplus(-z)) */
INLINE loss_term binary_focal_term(vec z, vec y, fm_loss_settings s) {
    const vec gamma = splat((real)s.gamma);
    const vec rest = vlog1p_unit(vexp(-vabs(z)));
    const vec log_p = -(vmax(-z, (vec){0}) + rest), log_wrong = -(vmax(z, (vec){0}) + rest);
    const vec p = vsigmoid(z), wrong = vsigmoid(-z);
    const vec on = y * (real)s.positive * vexp(gamma * log_wrong);
    const vec off = (1 - y) * (real)s.negative * vexp(gamma * log_p);
    const vec loss = -(on * log_p + off * log_wrong);
    const vec slope = off * (p - gamma * wrong * log_wrong) - on * (wrong - gamma * p * log_p);
    return (loss_term){.loss = pick(z == z, loss, z), .slope = slope};
}

/* (z - y)^2      slope 2 (z - y) */
INLINE loss_term squared_error_term(vec z, vec y, fm_loss_settings s) {
    const vec e = z - y;
    (void)s;
    return (loss_term){.loss = e * e, .slope = 2 * e};
}

/* |z - y|      slope the sign of z - y, 0 at 0 */
INLINE loss_term absolute_error_term(vec z, vec y, fm_loss_settings s) {
    const vec e = z - y;
    (void)s;
    return (loss_term){.loss = vabs(e), .slope = pick(e == 0, e, with_sign(splat(1), e))};
}

/* e^2 / 2 up to |e| = delta, then delta (|e| - delta / 2) (Huber 1964)      slope e cut to delta */
INLINE loss_term huber_term(vec z, vec y, fm_loss_settings s) {
    const vec e = z - y, size = vabs(e), delta = splat((real)s.delta);
    const vec cut = pick(size < delta, size, delta);
    return (loss_term){.loss = cut * (size - (real)0.5 * cut), .slope = with_sign(cut, e)};
}

/* exp(z) - y z      slope exp(z) - y
 *
 * The negative logarithm of the Poisson likelihood at the rate exp(z), without its term log(y!). */
INLINE loss_term poisson_term(vec z, vec y, fm_loss_settings s) {
    const vec rate = vexp(z);
    (void)s;
    return (loss_term){.loss = rate - pick(y == 0, y, y * z), .slope = rate - y};
}

/* exp(x) - 1 for |x| <= 1, without cancellation */
INLINE vec expm1_small(vec x) {
    const vec below = vexpm1_negative(-vabs(x));
    return pick(x > 0, -below / (1 + below), below);
}

/* y^(2-p) (exp(c u) - 1) / c, or y^(2-p) u if c = 0: `far` is y^(2-p) exp(c u), computed in one
 * piece, for all but small c u */
INLINE vec tweedie_part(vec y_power, vec u, vec far, double c) {
    const vec step = (real)c * u;
    if (c == 0)
        return y_power * u;
    return pick((step < 1) & (step > -1), y_power * expm1_small(step), far - y_power) / (real)c;
}

/* Half of the deviance of a Tweedie distribution with the mean m = exp(z) and a variance
 * proportional to m^p, 1 <= p <= 2 (Jorgensen 1987), which is 0 if m = y:
 *   y^(2-p) / ((1-p) (2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p)
 *   p = 1: y log(y / m) - y + m   p = 2: log(m / y) + y / m - 1      slope m^(2-p) - y m^(1-p)
 *
 * With u = z - log(y), it is y^(2-p) times the difference of (exp(c u) - 1) / c for c = 2-p and
 * c = 1-p. Both have the limit u at c = 0. */
INLINE loss_term tweedie_term(vec z, vec y, fm_loss_settings s) {
    const double a = 1 - s.power, b = 2 - s.power;
    const vec mean_power = vexp((real)b * z), root = vexp((real)(a / 2) * z);
    const vec pull = pick(y == 0, (vec){0}, y * root * root); /* y m^(1-p): no early overflow */
    const vec log_y = vlog(pick(y == 0, splat(1), y));
    const vec y_power = s.power == 1 ? y : vexp((real)b * log_y), u = z - log_y;
    const vec loss = tweedie_part(y_power, u, mean_power, b) - tweedie_part(y_power, u, pull, a);
    return (loss_term){.loss = pick(y == 0, mean_power / (real)b, loss),
                       .slope = mean_power - pull};
}

#define ELEMENTWISE(name)                                                                          \
    static void name##_rows(double *row_loss, void *dz, const void *z, const void *target,         \
                            const int64_t *order, double scale, int64_t n, int64_t n_out,          \
                            const fm_loss_settings *settings) {                                    \
        elementwise_rows(name##_term, row_loss, dz, z, target, order, scale, n, n_out, settings);  \
    }
ELEMENTWISE(plain_cross_entropy)
ELEMENTWISE(weighted_cross_entropy)
ELEMENTWISE(binary_focal)
ELEMENTWISE(squared_error)
ELEMENTWISE(absolute_error)
ELEMENTWISE(huber)
ELEMENTWISE(poisson)
ELEMENTWISE(tweedie)

static void binary_cross_entropy_rows(double *row_loss, void *dz, const void *z, const void *target,
                                      const int64_t *order, double scale, int64_t n, int64_t n_out,
                                      const fm_loss_settings *settings) {
    const fm_loss_fn rows =
        settings->n_weighted ? weighted_cross_entropy_rows : plain_cross_entropy_rows;
    rows(row_loss, dz, z, target, order, scale, n, n_out, settings);
}

/* ---- several outputs for a target: one row per lane ------------------------------------------ */

/* One element of each of n <= LANES rows, as a vector. */
INLINE vec column(const real *first, int64_t stride, const int64_t *order, int64_t n) {
    real t[LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        t[i] = first[at(order, i) * stride];
    return load(t);
}

INLINE void set_column(real *first, int64_t stride, vec v, int64_t n) {
    real t[LANES];
    store(t, v);
    for (int64_t i = 0; i < n; i++)
        first[i * stride] = t[i];
}

/* The targets in column c of n rows from r0 on. */
INLINE vec target_column(const real *target, int64_t columns, int64_t c, const int64_t *order,
                         int64_t r0, int64_t n) {
    return order ? column(target + c, columns, order + r0, n)
                 : column(target + r0 * columns + c, columns, NULL, n);
}

INLINE void set_row_losses(double *row_loss, vec sum, double divisor, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        row_loss[i] = (double)sum[i] / divisor;
}

/* Quantiles that cannot cross: q_0 = z_0, q_i = q_(i-1) + softplus(z_i)
 * loss = mean of max(tau_i e, (tau_i - 1) e), e = y - q_i (Koenker, Bassett 1978)
 * dz_i = sum over l >= i of d(loss)/dq_l, times sigmoid(z_i) for i > 0 */
static void pinball_rows(double *row_loss, void *dz_, const void *z_, const void *target,
                         const int64_t *order, double scale, int64_t n, int64_t n_out,
                         const fm_loss_settings *s) {
    const int64_t k = s->n_quantiles, columns = n_out / k;
    const double divisor = parts(s, n_out);
    const vec factor = splat((real)(scale / divisor));
    for (int64_t r0 = 0; r0 < n; r0 += LANES) {
        const int64_t rows = n - r0 < LANES ? n - r0 : LANES;
        vec loss = {0};
        for (int64_t c = 0; c < columns; c++) {
            const real *z = (const real *)z_ + r0 * n_out + c * k;
            real *dz = dz_ ? (real *)dz_ + r0 * n_out + c * k : NULL;
            const vec y = target_column(target, columns, c, order, r0, rows);
            vec q = {0}, later = {0};
            for (int64_t i = 0; i < k; i++) {
                const vec above = splat((real)s->quantiles[i]);
                const vec below = splat((real)(s->quantiles[i] - 1));
                const vec z_i = column(z + i, n_out, NULL, rows);
                q = i ? q + vsoftplus(z_i) : z_i;
                const vec e = y - q;
                loss += vmax(above * e, below * e);
                if (dz)
                    set_column(dz + i, n_out,
                               factor * pick(e > 0, -above, pick(e < 0, -below, (vec){0})), rows);
            }
            for (int64_t i = k - 1; dz && i >= 0; i--) {
                later += column(dz + i, n_out, NULL, rows);
                const vec slope = i ? vsigmoid(column(z + i, n_out, NULL, rows)) : splat(1);
                set_column(dz + i, n_out, later * slope, rows);
            }
        }
        set_row_losses(row_loss + r0, loss, divisor, rows);
    }
}

#define HALF_LOG_2PI ((real)0.91893853320467274178)

/* A normal distribution for each column j of k, with mean z_j and variance v:
 * v = softplus(z_(k+j)) + min_variance
 * loss = mean of (log(2 pi v) + e^2 / v) / 2, e = y - z_j */
static void gaussian_nll_rows(double *row_loss, void *dz_, const void *z_, const void *target,
                              const int64_t *order, double scale, int64_t n, int64_t n_out,
                              const fm_loss_settings *s) {
    const int64_t columns = n_out / 2;
    const double divisor = parts(s, columns);
    const vec factor = splat((real)(scale / divisor)), half = splat((real)0.5);
    for (int64_t r0 = 0; r0 < n; r0 += LANES) {
        const int64_t rows = n - r0 < LANES ? n - r0 : LANES;
        vec loss = {0};
        for (int64_t c = 0; c < columns; c++) {
            const real *z = (const real *)z_ + r0 * n_out + c;
            const vec spread = column(z + columns, n_out, NULL, rows);
            const vec v = vsoftplus(spread) + (real)s->min_variance;
            const vec e =
                target_column(target, columns, c, order, r0, rows) - column(z, n_out, NULL, rows);
            const vec ratio = e / v, square = e * ratio;
            loss += half * (vlog(v) + square) + HALF_LOG_2PI;
            if (dz_) {
                real *dz = (real *)dz_ + r0 * n_out + c;
                const vec by_spread =
                    half * vsigmoid(spread) / v; /* at most 1/2, so it cannot overflow */
                set_column(dz, n_out, -ratio * factor, rows);
                set_column(dz + columns, n_out, (1 - square) * by_spread * factor, rows);
            }
        }
        set_row_losses(row_loss + r0, loss, divisor, rows);
    }
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Multiplies each row's loss and gradient by its weight. A row of weight 0 counts for nothing, even
 * if its loss is infinite or NaN. */
static void weigh_rows(double *row_loss, void *dz_, const double *weights, const int64_t *order,
                       int64_t n, int64_t n_out) {
    for (int64_t r = 0; r < n; r++) {
        const double weight = weights[at(order, r)];
        real *dz = dz_ ? (real *)dz_ + r * n_out : NULL;
        row_loss[r] = weight == 0 ? 0 : row_loss[r] * weight;
        for (int64_t j = 0; dz && j < n_out; j++)
            dz[j] = weight == 0 ? 0 : dz[j] * (real)weight;
    }
}
