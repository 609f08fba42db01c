/* Optimizers: one fused pass over parameters p, states s and gradients g, all flat.
 *
 * An optimizer is <name>_step: it computes the new p and s of one vector of elements from the old
 * ones and g. DEFINE_UPDATE below makes a pass of it. The pass first clips g, then adds the slope
 * of the penalty l1 |p| + l2 / 2 p^2. Weight decay is decoupled (Loshchilov, Hutter 2019): p
 * shrinks by lr * weight_decay * p beside the step. An element whose new values would not be finite
 * keeps its old ones, and the pass reports it. */

#include "real.h"

/* beta old + (1 - beta) new: a running mean */
INLINE vec mean_of(double beta, vec old, vec new) {
    return fma_(splat((real)beta), old, splat((real)(1 - beta)) * new);
}

/* p without its share of decay */
INLINE vec decayed(vec p, const fm_hyper *h) {
    return splat((real)(1 - h->lr * h->weight_decay)) * p;
}

/* sqrt(v / (1 - beta2^t)) + eps */
INLINE vec corrected_root(vec v, const fm_hyper *h) {
    return fma_(vsqrt(v), splat((real)(1 / h->correction2)), splat((real)h->eps));
}

/* v = momentum v + g, p -= lr v;  Nesterov: p -= lr (g + momentum v)
 * averaged, the lecture's form: v = momentum v + (1 - momentum) g, p -= lr v */
INLINE void sgd_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    const vec momentum = splat((real)h->momentum);
    const vec inflow = splat((real)(h->averaged ? 1 - h->momentum : 1)) * g;
    s[0] = fma_(momentum, s[0], inflow);
    const vec step = h->nesterov ? fma_(momentum, s[0], inflow) : s[0];
    *p = fma_(-splat((real)h->lr), step, decayed(*p, h));
}

/* Kingma, Ba 2015: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
 * p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) */
INLINE void adamw_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    s[0] = mean_of(h->beta1, s[0], g);
    s[1] = mean_of(h->beta2, s[1], g * g);
    const vec rate = splat((real)(h->lr / h->correction1));
    *p = decayed(*p, h) - rate * s[0] / corrected_root(s[1], h);
}

/* AdamW with weight_decay = 0: Adam has no such setting. */
INLINE void adam_step(vec *p, vec *s, vec g, const fm_hyper *h) { adamw_step(p, s, g, h); }

/* Reddi, Kale, Kumar 2018: as AdamW, with the largest v so far */
INLINE void amsgrad_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    s[0] = mean_of(h->beta1, s[0], g);
    s[1] = mean_of(h->beta2, s[1], g * g);
    s[2] = vmax(s[1], s[2]);
    const vec rate = splat((real)(h->lr / h->correction1));
    *p = decayed(*p, h) - rate * s[0] / corrected_root(s[2], h);
}

/* Dozat 2016: as AdamW, along gradient_share g + momentum_share m (step.c sets both) */
INLINE void nadam_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    s[0] = mean_of(h->beta1, s[0], g);
    s[1] = mean_of(h->beta2, s[1], g * g);
    const vec ahead = fma_(splat((real)(h->lr * h->momentum_share)), s[0],
                           splat((real)(h->lr * h->gradient_share)) * g);
    *p = decayed(*p, h) - ahead / corrected_root(s[1], h);
}

/* Liu et al. 2020, with PyTorch's place of eps: m and v as in Adam, r = `rectification` (step.c),
 * p -= lr m / (1 - beta1^t) r sqrt(1 - beta2^t) / (sqrt(v) + eps), without the last two if r = 0 */
INLINE void radam_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    const double r = h->rectification, rate = h->lr / h->correction1;
    s[0] = mean_of(h->beta1, s[0], g);
    s[1] = mean_of(h->beta2, s[1], g * g);
    const vec by =
        r > 0 ? splat((real)(rate * r * h->correction2)) / (vsqrt(s[1]) + splat((real)h->eps))
              : splat((real)rate);
    *p = decayed(*p, h) - by * s[0];
}

/* Duchi, Hazan, Singer 2011: v += g^2, p -= lr g / (sqrt(v) + eps) */
INLINE void adagrad_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    s[0] = fma_(g, g, s[0]);
    *p = decayed(*p, h) - splat((real)h->lr) * g / (vsqrt(s[0]) + splat((real)h->eps));
}

/* Tieleman, Hinton 2012: v = beta2 v + (1 - beta2) g^2, u = momentum u + g / (sqrt(v) + eps),
 * p -= lr u */
INLINE void rmsprop_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    s[0] = mean_of(h->beta2, s[0], g * g);
    s[1] = fma_(splat((real)h->momentum), s[1], g / (vsqrt(s[0]) + splat((real)h->eps)));
    *p = fma_(-splat((real)h->lr), s[1], decayed(*p, h));
}

/* Graves 2013: as RMSprop, with the running variance v - m^2 in place of v; rounding may leave it
 * below 0.
 * m = beta2 m + (1 - beta2) g */
INLINE void centered_rmsprop_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    s[0] = mean_of(h->beta2, s[0], g * g);
    s[2] = mean_of(h->beta2, s[2], g);
    const vec variance = vmax(fma_(-s[2], s[2], s[0]), (vec){0});
    s[1] = fma_(splat((real)h->momentum), s[1], g / (vsqrt(variance) + splat((real)h->eps)));
    *p = fma_(-splat((real)h->lr), s[1], decayed(*p, h));
}

/* a with the sign of s; 0 if s is 0, NaN if s is NaN */
INLINE vec signed_as(vec a, vec s) { return pick((s > 0) | (s < 0), with_sign(a, s), s); }

/* Chen et al. 2023: p -= lr sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g */
INLINE void lion_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    *p = decayed(*p, h) - signed_as(splat((real)h->lr), mean_of(h->beta1, s[0], g));
    s[0] = mean_of(h->beta2, s[0], g);
}

/* Zeiler 2012: v = beta2 v + (1 - beta2) g^2, d = sqrt(u + eps) / sqrt(v + eps) g,
 * u = beta2 u + (1 - beta2) d^2, p -= lr d */
INLINE void adadelta_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    const vec eps = splat((real)h->eps);
    s[0] = mean_of(h->beta2, s[0], g * g);
    const vec d = vsqrt(s[1] + eps) / vsqrt(s[0] + eps) * g;
    s[1] = mean_of(h->beta2, s[1], d * d);
    *p = fma_(-splat((real)h->lr), d, decayed(*p, h));
}

/* Kingma, Ba 2015, section 7.1: m as in Adam, u = max(beta2 u, |g| + eps),
 * p -= lr m / (1 - beta1^t) / u */
INLINE void adamax_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    s[0] = mean_of(h->beta1, s[0], g);
    s[1] = vmax(splat((real)h->beta2) * s[1], vabs(g) + splat((real)h->eps));
    *p = decayed(*p, h) - splat((real)(h->lr / h->correction1)) * s[0] / s[1];
}

/* Riedmiller, Braun 1993, in PyTorch's form: every element has its own step size, lr at first. It
 * grows while the gradient keeps its sign. If the sign turns, the step size shrinks, the element
 * rests, and its next step is like the first. Signs are compared, since a product of gradients may
 * underflow. With lr = 0 nothing moves. */
INLINE void rprop_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    const mask same = ((g > 0) & (s[0] > 0)) | ((g < 0) & (s[0] < 0));
    const mask turned = ((g > 0) & (s[0] < 0)) | ((g < 0) & (s[0] > 0));
    const vec own = h->is_first ? splat((real)h->lr) : s[1];
    const vec factor =
        pick(same, splat((real)h->grow), pick(turned, splat((real)h->shrink), splat(1)));
    const vec least = splat((real)(h->lr > 0 ? h->min_step : 0));
    s[1] = vmin(vmax(factor * own, least), splat((real)h->max_step));
    s[0] = pick(turned, (vec){0}, g);
    *p -= signed_as(s[1], s[0]);
}

/* Defazio et al. 2024. p is y, the point at which gradients are taken, and z = s[0] goes along
 * them. The mean x of the z is never stored: y = (1 - beta1) z + beta1 x. With c = `mix` (step.c
 * sets it in every step) and d = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y:
 * y = (1 - c) y + c z - lr (1 - beta1 (1 - c)) d, z -= lr d.  Before the first step z is p. */
INLINE void schedule_free_adamw_step(vec *p, vec *s, vec g, const fm_hyper *h) {
    const vec z = h->is_first ? *p : s[0];
    s[1] = mean_of(h->beta2, s[1], g * g);
    const vec d = fma_(splat((real)h->weight_decay), *p, g / corrected_root(s[1], h));
    const vec y = fma_(splat((real)h->mix), z - *p, *p);
    *p = fma_(-splat((real)(h->lr * (1 - h->beta1 * (1 - h->mix)))), d, y);
    s[0] = fma_(-splat((real)h->lr), d, z);
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* The gradient that the optimizer takes: scaled (clipping by norm), clipped by value, with the
 * slope of the penalty. NaN stays NaN. */
INLINE vec shaped_gradient(vec g, vec p, const fm_hyper *h) {
    const vec limit = splat((real)h->clip_value);
    g *= splat((real)h->grad_scale);
    g = pick(g > limit, limit, pick(g < -limit, -limit, g));
    return fma_(splat((real)h->l2), p, g) + signed_as(splat((real)h->l1), p);
}

/* Unrolled before any other transformation: GCC 12 failed on the loop over three states. */
#define EACH_STATE(n) _Pragma("GCC unroll 3") for (int k = 0; k < n; k++)

/* Updates up to one vector of the `left` elements from i on. Returns 0 if some new value is not
 * finite; such an element stays as it was. `shaped` is a constant in every call, so without
 * clipping and penalty no code for them is left in the loop.
 *
 * Parameters that other threads have read are stored past the caches. Taking each line away from
 * these threads would make the pass several times as long. */
#define DEFINE_UPDATE(name, n_states)                                                              \
    INLINE int name##_at(real *p, void *const *states, const real *g, int64_t i, int64_t left,     \
                         const fm_hyper *h, int shaped) {                                          \
        const vec p_old = load_upto(p + i, left), gi = load_upto(g + i, left);                     \
        vec p_new = p_old, s_old[n_states], s_new[n_states];                                       \
        EACH_STATE (n_states)                                                                      \
            s_new[k] = s_old[k] = load_upto((const real *)states[k] + i, left);                    \
        name##_step(&p_new, s_new, shaped ? shaped_gradient(gi, p_old, h) : gi, h);                \
        vec sum = p_new; /* not finite if one of them is not, or if it overflows */                \
        EACH_STATE (n_states)                                                                      \
            sum += s_new[k];                                                                       \
        int good = all_finite(sum);                                                                \
        if (__builtin_expect(!good, 0)) {                                                          \
            vec nothing = p_new - p_new; /* 0, or NaN where some new value is not finite */        \
            EACH_STATE (n_states)                                                                  \
                nothing += s_new[k] - s_new[k];                                                    \
            const mask ok = nothing == (vec){0};                                                   \
            good = all_finite(nothing);                                                            \
            p_new = pick(ok, p_new, p_old);                                                        \
            EACH_STATE (n_states)                                                                  \
                s_new[k] = pick(ok, s_new[k], s_old[k]);                                           \
        }                                                                                          \
        EACH_STATE (n_states)                                                                      \
            store_upto((real *)states[k] + i, s_new[k], left);                                     \
        if (h->is_shared && left >= LANES)                                                         \
            stream(p + i, p_new);                                                                  \
        else                                                                                       \
            store_upto(p + i, p_new, left);                                                        \
        return good;                                                                               \
    }                                                                                              \
    INLINE int name##_pass(real *p, void *const *states_, const real *g, int64_t n,                \
                           const fm_hyper *hyper, int shaped) {                                    \
        const fm_hyper h = *hyper; /* copies that no store can change */                           \
        void *states[n_states];                                                                    \
        memcpy(states, states_, sizeof states);                                                    \
        const int64_t head = h.is_shared ? before_aligned(p, n) : 0;                               \
        int good = head == 0 || name##_at(p, states, g, 0, head, &h, shaped);                      \
        int64_t i = head;                                                                          \
        for (; i + LANES <= n; i += LANES)                                                         \
            good &= name##_at(p, states, g, i, LANES, &h, shaped);                                 \
        if (i < n)                                                                                 \
            good &= name##_at(p, states, g, i, n - i, &h, shaped);                                 \
        if (h.is_shared)                                                                           \
            end_stream();                                                                          \
        return good;                                                                               \
    }                                                                                              \
    static int32_t name##_update(void *p, void *const *states, const void *g, int64_t n,           \
                                 const fm_hyper *h) {                                              \
        return h->is_shaped ? name##_pass(p, states, g, n, h, 1)                                   \
                            : name##_pass(p, states, g, n, h, 0);                                  \
    }
FM_OPTIMIZERS(DEFINE_UPDATE)

/* ---- beside the pass ------------------------------------------------------------------------- */

/* The sum in 16 interleaved chains, so that vectors of any width give the same bits. */
static double sum_squares(const void *x_, int64_t n) {
    const real *x = x_;
    double lane[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i < n; i++, j++)
        lane[j] += (double)x[i] * (double)x[i];
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            lane[j] += lane[j + half];
    return lane[0];
}

/* Columns [j0, j1) (at most FM_NORM_COLUMNS) of w (n_in, n_out) whose norm is above `limit` shrink
 * to it (Srivastava et al. 2014, section 5.1). */
static void limit_columns(void *w_, int64_t n_in, int64_t n_out, int64_t j0, int64_t j1,
                          double limit) {
    real *w = (real *)w_ + j0, scale[FM_NORM_COLUMNS];
    double sum[FM_NORM_COLUMNS] = {0};
    const int64_t n = j1 - j0;
    int any = 0;
    for (int64_t i = 0; i < n_in; i++)
        for (int64_t j = 0; j < n; j++)
            sum[j] += (double)w[i * n_out + j] * (double)w[i * n_out + j];
    for (int64_t j = 0; j < n; j++) {
        const double norm = __builtin_sqrt(sum[j]);
        scale[j] = norm > limit ? (real)(limit / norm) : (real)1;
        any |= norm > limit;
    }
    for (int64_t i = 0; any && i < n_in; i++)
        for (int64_t j = 0; j < n; j++)
            w[i * n_out + j] *= scale[j];
}

/* mean += share (p - mean); share 1 copies p */
static void average(void *mean_, const void *p_, int64_t n, double share) {
    real *mean = mean_;
    const real *p = p_;
    if (share == 1) {
        memcpy(mean, p, (size_t)n * sizeof(real));
        return;
    }
    for (int64_t i = 0; i < n; i += LANES) {
        const vec old = load_upto(mean + i, n - i);
        const vec moved = fma_(splat((real)share), load_upto(p + i, n - i) - old, old);
        store_upto(mean + i, moved, n - i);
    }
}
