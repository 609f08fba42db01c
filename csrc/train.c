/* Training: mini-batch after mini-batch, each with its update. */

#include <math.h>

#include "float_mode.h"
#include "small.h"
#include "train.h"

#define SLOW_WORK 20000000000 /* multiply-adds, a few tenths of a second */

/* Sums the gradients of the last block, and updates. All gradients come first if their norm is
 * needed, or if they take so long that Ctrl-C must be able to break them off. Returns 0 if
 * nothing was updated. */
static int update_batch(fm_team *team, fm_training *r, const fm_hyper *hyper) {
    const fm_train_job *job = r->job;
    const int clips = isfinite(hyper->clip_norm);
    const int apart = clips || r->run.ctx->rows * r->run.net->n_params >= SLOW_WORK;
    double scale = 1;
    if (apart)
        fm_all_slices(team, &r->run, NULL);
    if (fm_was_broken_off(team, &r->run))
        return 0;
    if (clips)
        scale = fm_clipped_share(team, &r->run, hyper->clip_norm);
    if (!isfinite(scale))
        return 0;
    fm_begin_step(&r->step, hyper, r->run.ctx, job->t + 1, scale, fm_team_size(team) > 1);
    if (apart)
        fm_update_all(team, &r->run, &r->step);
    else
        fm_all_slices(team, &r->run, &r->step);
    fm_limit_norms(team, &r->run, &r->step);
    return 1;
}

/* The number of rows of the mini-batch whose label is not ignored. */
static int64_t counted_rows(const fm_training *r) {
    const fm_train_job *job = r->job;
    const int64_t first = job->position;
    const void *target = job->target;
    if (!job->loss_settings.ignores)
        return r->batch_rows;
    return fm_counted_rows(job->loss, &job->loss_settings,
                           job->order ? target : (const int64_t *)target + first,
                           job->order ? job->order + first : NULL, r->batch_rows);
}

static void train_batch(fm_team *team, fm_training *r) {
    fm_train_job *job = r->job;
    fm_ctx *c = r->run.ctx;
    const fm_ctx before = *c;
    const double *rates = job->rates;
    const fm_hyper hyper =
        rates ? fm_at_rates(job->hyper, rates + 2 * (job->t - r->first_t)) : job->hyper;
    r->batch_rows = at_most(job->batch_size, job->n - job->position);
    r->counted_rows = counted_rows(r);
    fm_may_break_off(team, &r->run, r->batch_rows);
    fm_train_rows(team, r);
    const double loss_sum = fm_sum(job->row_loss, r->batch_rows);
    const int is_updated =
        !fm_team_broken_off(team) && isfinite(loss_sum) && update_batch(team, r, &hyper);
    job->broken_off = fm_was_broken_off(team, &r->run);
    c->first_row = 0;
    if (!is_updated) {
        fm_clear_gradients(&r->run);
        job->finite = job->broken_off;
        return;
    }
    job->finite = r->step.finite;
    if (!job->finite) {
        fm_forget_step(c, &before);
        return;
    }
    fm_keep_stats(&r->run);
    job->loss_sum += loss_sum;
    job->position += r->batch_rows;
    job->counted += r->counted_rows;
    job->t++;
    c->draw++;
}

/* Takes steps as long as the way, alone or together, stays the same. */
static void drive_train(fm_team *team, void *arg) {
    fm_training *r = arg;
    fm_train_job *job = r->job;
    fm_pace *pace = &r->run.ctx->pace;
    const int32_t alone = pace->alone;
    do {
        train_batch(team, r);
        const double before = r->now;
        r->now = now();
        fm_pace_step(pace, 1e9 * r->now, 1e9 * (r->now - before));
    } while (job->finite && !job->broken_off && job->position < job->n && r->now < r->end &&
             pace->alone == alone);
}

static APART void train_by_pace(fm_training *r, int32_t threads) {
    fm_train_job *job = r->job;
    r->now = now();
    r->end = r->now + job->seconds;
    while (job->finite && !job->broken_off && job->position < job->n &&
           (r->now < r->end || job->t == r->first_t)) {
        const int32_t alone = fm_pace_alone(&r->run.ctx->pace, threads, job->batch_size);
        fm_parallel(alone ? 1 : threads, drive_train, r);
    }
}

void fm_train(const fm_net *net, const fm_kernels *k, fm_ctx *ctx, fm_train_job *job,
              int32_t threads) {
    fm_training r = {
        .run = {.net = net, .k = k, .ctx = ctx},
        .step = {.optimizer = job->optimizer},
        .job = job,
        .first_t = job->t,
    };
    job->finite = 1;
    job->broken_off = 0;
    const uint32_t mode = default_mode(); /* reading the clock sets flags too */
    train_by_pace(&r, fm_useful_threads(net, job->batch_size, threads));
    restore_mode(mode);
}
