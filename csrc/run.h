/* What the passes share: a run over a network, and the parts that training, predicting and the
 * optimizer's step build on. Each of these adds fields of its own in its own file.
 *
 * A step has two phases with a barrier after each:
 *
 *   rows    every chunk of rows goes forward, through the loss and backward on its own
 *   slices  every chunk of slices of a weight gradient is summed over all rows; in training its
 *           parameters are updated at once
 *
 * If there are too few rows for the threads and the layers are wide, the first phase goes layer by
 * layer. Each layer is then cut by columns too. The first phase also goes layer by layer if an op
 * needs all rows of its columns (batch normalization). Running statistics are updated once the step
 * has been taken. None of this depends on an element type or on a kind of layer. */
#ifndef FASTMLP_RUN_H
#define FASTMLP_RUN_H

#include "cut.h"
#include "fastmlp.h"

typedef struct {
    const fm_net *net;
    const fm_kernels *k;
    fm_ctx *ctx;
    int64_t rows_per_chunk;
    int64_t panels;     /* rows of a panel, or 0: row by row */
    int32_t broken_off; /* 1: ctx->poll broke the run off */
} fm_run;

/* One step of the optimizer. */
typedef struct {
    int32_t optimizer;
    fm_hyper hyper[2];    /* of this step: [1] for weights, [0] for parameters without decay */
    double average_share; /* share of the new parameters in their average; 0: unchanged */
    int32_t finite;       /* atomic; 0: some new value would not have been finite */
} fm_step;

/* ---- rows (passes.c) ------------------------------------------------------------------------- */

void fm_forward_rows(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int64_t r0,
                     int64_t r1);
void fm_backward_rows(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int64_t r0,
                      int64_t r1);

static inline void rows_of_chunk(const fm_run *r, int64_t chunk, int64_t *r0, int64_t *r1) {
    *r0 = chunk * r->rows_per_chunk;
    *r1 = at_most(*r0 + r->rows_per_chunk, r->ctx->rows);
}

/* Cuts all rows into chunks and runs chunk(arg, i, worker) for each; `arg` holds r. */
void fm_all_rows(fm_team *team, fm_run *r, void (*chunk)(void *, int64_t, int32_t), void *arg);

void fm_forward_by_layers(fm_team *team, fm_run *r);
void fm_backward_by_layers(fm_team *team, fm_run *r);

/* From here on a run of so many rows may be broken off, if it takes long. fm_was_broken_off ends
 * that; it must come before anything is written that outlasts the step. */
void fm_may_break_off(fm_team *team, const fm_run *r, int64_t rows);
int fm_was_broken_off(fm_team *team, fm_run *r);

void fm_clear_gradients(const fm_run *r);
void fm_keep_stats(const fm_run *r); /* updates the running statistics after a training pass */

/* ---- slices (slices.c) ----------------------------------------------------------------------- */

/* Sums all gradients of parameters. `step` updates each at once; NULL: no update. */
void fm_all_slices(fm_team *team, const fm_run *r, fm_step *step);

/* ---- the optimizer's step (update.c, step.c) ------------------------------------------------- */

/* Sets the numbers of step t, and counts it in the average. */
void fm_begin_step(fm_step *step, const fm_hyper *hyper, fm_ctx *ctx, int64_t t, double grad_scale,
                   int is_shared);

/* Takes back the counters of a step whose update was not finite: the step does not count. */
void fm_forget_step(fm_ctx *ctx, const fm_ctx *before);

void fm_update_range(const fm_run *r, fm_step *step, int64_t first, int64_t n, int is_decayed);
void fm_update_all(fm_team *team, const fm_run *r, fm_step *step);

/* The factor of the gradient that clipping by norm demands: 1 if the gradient is short enough, NaN
 * if it is not finite (Pascanu et al. 2013). */
double fm_clipped_share(fm_team *team, const fm_run *r, double clip_norm);

/* Shrinks columns to max_norm once all parameters have moved, and updates the average
 * afterwards. */
void fm_limit_norms(fm_team *team, const fm_run *r, fm_step *step);

/* ---- loss (loss_value.c) --------------------------------------------------------------------- */

/* The sum in eight interleaved chains: short chains, and an order that depends on n alone. */
double fm_sum(const double *x, int64_t n);

/* What the sum of the losses is divided by. */
double fm_divisor_of(const fm_loss_settings *settings, int64_t counted);

#endif
