/* Optimizers: one fused pass over parameters p, state s0, s1 and gradients g, all flat.
 *
 * Weight decay is decoupled (Loshchilov, Hutter 2019): p shrinks by lr * weight_decay * p before
 * the step. An element whose new values would not be finite keeps its old ones, and the pass
 * reports it. */

#include "real.h"

INLINE int32_t all_set(mask m) {
    bits all = -1;
    for (int i = 0; i < LANES; i++)
        all &= m[i];
    return all != 0;
}

/* v = momentum v + g, p -= lr v;  Nesterov: p -= lr (g + momentum v)
 * averaged, the lecture's form: v = momentum v + (1 - momentum) g, p -= lr v */
static int32_t sgd_update(void *params, void *state0, void *state1, const void *grads, int64_t n,
                          const fm_hyper *h, double weight_decay) {
    real *p = params, *v = state0;
    const real *g = grads;
    const vec lr = splat((real)h->lr), keep = splat((real)(1 - h->lr * weight_decay));
    const vec momentum = splat((real)h->momentum);
    const vec share = splat((real)(h->averaged ? 1 - h->momentum : 1));
    (void)state1;
    mask good = ~(mask){0};
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t left = n - i;
        const vec p_old = load_upto(p + i, left), v_old = load_upto(v + i, left);
        const vec gi = share * load_upto(g + i, left);
        const vec v_new = fma_(momentum, v_old, gi);
        const vec step = h->nesterov ? fma_(momentum, v_new, gi) : v_new;
        const vec p_new = fma_(-lr, step, keep * p_old);
        const mask ok = is_finite(p_new) & is_finite(v_new);
        store_upto(v + i, pick(ok, v_new, v_old), left);
        store_upto(p + i, pick(ok, p_new, p_old), left);
        good &= ok;
    }
    return all_set(good);
}

/* Kingma, Ba 2015: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
 * p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) */
static int32_t adamw_update(void *params, void *state0, void *state1, const void *grads, int64_t n,
                            const fm_hyper *h, double weight_decay) {
    real *p = params, *m = state0, *v = state1;
    const real *g = grads;
    const vec keep = splat((real)(1 - h->lr * weight_decay));
    const vec beta1 = splat((real)h->beta1), rest1 = splat((real)(1 - h->beta1));
    const vec beta2 = splat((real)h->beta2), rest2 = splat((real)(1 - h->beta2));
    const vec rate = splat((real)(h->lr / h->correction1)), eps = splat((real)h->eps);
    const vec root_scale = splat((real)(1 / h->correction2));
    mask good = ~(mask){0};
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t left = n - i;
        const vec p_old = load_upto(p + i, left);
        const vec m_old = load_upto(m + i, left), v_old = load_upto(v + i, left);
        const vec gi = load_upto(g + i, left);
        const vec m_new = fma_(beta1, m_old, rest1 * gi);
        const vec v_new = fma_(beta2, v_old, rest2 * (gi * gi));
        const vec p_new = keep * p_old - rate * m_new / fma_(vsqrt(v_new), root_scale, eps);
        const mask ok = is_finite(p_new) & is_finite(v_new);
        store_upto(m + i, pick(ok, m_new, m_old), left);
        store_upto(v + i, pick(ok, v_new, v_old), left);
        store_upto(p + i, pick(ok, p_new, p_old), left);
        good &= ok;
    }
    return all_set(good);
}

/* AdamW without decay */
static int32_t adam_update(void *params, void *state0, void *state1, const void *grads, int64_t n,
                           const fm_hyper *h, double weight_decay) {
    (void)weight_decay;
    return adamw_update(params, state0, state1, grads, n, h, 0);
}
