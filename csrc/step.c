/* The scalars of one step. They are functions of the step's number t (from 1) and of ctx->running,
 * which is saved with the network, so a resumed run has the same bits. */

#include <math.h>
#include <string.h>

#include "run.h"

/* Dozat 2016, with PyTorch's decay of the momentum: mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)
 */
static void nadam_shares(fm_hyper *h, double *product, int64_t t) {
    const double mu = h->beta1 * (1 - 0.5 * pow(0.96, (double)t * h->momentum_decay));
    const double next = h->beta1 * (1 - 0.5 * pow(0.96, (double)(t + 1) * h->momentum_decay));
    *product = (t == 1 ? 1 : *product) * mu;
    h->gradient_share = (1 - mu) / (1 - *product);
    h->momentum_share = next / (1 - *product * next);
}

/* Liu et al. 2020: sqrt of the variance of 1 / sqrt(v) at best, divided by that in step t; 0 up to
 * rho = 5, since the variance is then unknown or large. */
static double radam_rectification(double beta2, int64_t t) {
    const double best = 2 / (1 - beta2) - 1, kept = pow(beta2, (double)t);
    const double rho = best - 2 * (double)t * kept / (1 - kept);
    return rho > 5 ? sqrt((rho - 4) * (rho - 2) * best / ((best - 4) * (best - 2) * rho)) : 0;
}

/* Defazio et al. 2024: the mean of the z gives each the square of the largest
 * rate so far as weight. */
static void schedule_free_mix(fm_hyper *h, double *largest_lr, double *sum) {
    *largest_lr = *largest_lr > h->lr ? *largest_lr : h->lr;
    const double weight = *largest_lr * *largest_lr;
    *sum += weight;
    h->mix = *sum > 0 ? weight / *sum : 0;
}

static fm_hyper with_shape(fm_hyper h) {
    h.is_shaped = h.l1 > 0 || h.l2 > 0 || h.grad_scale != 1 || isfinite(h.clip_value);
    return h;
}

/* The settings of weights in step t. */
static fm_hyper settings_of_step(const fm_hyper *hyper, fm_ctx *ctx, int32_t optimizer, int64_t t,
                                 double grad_scale) {
    fm_hyper h = *hyper;
    h.is_first = t == 1;
    h.grad_scale = grad_scale;
    h.correction1 = 1 - pow(h.beta1, (double)t);
    h.correction2 = sqrt(1 - pow(h.beta2, (double)t));
    if (optimizer == FM_OPTIMIZER_nadam)
        nadam_shares(&h, &ctx->running[0], t);
    if (optimizer == FM_OPTIMIZER_radam)
        h.rectification = radam_rectification(h.beta2, t);
    if (optimizer == FM_OPTIMIZER_schedule_free_adamw)
        schedule_free_mix(&h, &ctx->running[0], &ctx->running[1]);
    return with_shape(h);
}

/* The same settings for parameters that are neither decayed nor penalized. */
static fm_hyper not_decayed(const fm_hyper *hyper) {
    fm_hyper h = *hyper;
    h.weight_decay = h.l1 = h.l2 = 0;
    return with_shape(h);
}

/* The share of the new parameters in their average after step t. Counts the steps that enter it. */
static double average_share(const fm_hyper *h, fm_ctx *ctx, int64_t t) {
    if (!ctx->average)
        return 0;
    if (t < h->average_start || (t - h->average_start) % h->average_every)
        /* before the first of them, the average equals the parameters */
        return ctx->n_averaged == 0;
    ctx->n_averaged++;
    return ctx->n_averaged == 1   ? 1
           : h->average_decay > 0 ? 1 - h->average_decay
                                  : 1 / (double)ctx->n_averaged;
}

fm_hyper fm_at_rates(fm_hyper hyper, const double *rates) {
    hyper.lr = rates[0];
    if (!isnan(rates[1]))
        hyper.momentum = hyper.beta1 = rates[1]; /* an optimizer reads only one of them */
    return hyper;
}

void fm_begin_step(fm_step *step, const fm_hyper *hyper, fm_ctx *ctx, int64_t t, double grad_scale,
                   int is_shared) {
    step->average_share = average_share(hyper, ctx, t);
    step->finite = 1;
    step->hyper[1] = settings_of_step(hyper, ctx, step->optimizer, t, grad_scale);
    step->hyper[1].is_shared = is_shared;
    step->hyper[0] = not_decayed(&step->hyper[1]);
}

void fm_forget_step(fm_ctx *ctx, const fm_ctx *before) {
    memcpy(ctx->running, before->running, sizeof ctx->running);
    ctx->n_averaged = before->n_averaged;
}
