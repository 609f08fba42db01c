/* The optimizer's step over flat ranges of parameters; clipping by norm, max-norm, averages. */

#include <math.h>

#include "float_mode.h"
#include "run.h"
#include "small.h"

#define UPDATE_CHUNK 16384 /* elements; a multiple of every vector's length */

typedef struct {
    const fm_run *run;
    fm_step *step;
} update_run;

static void average_range(const fm_run *r, const fm_step *step, int64_t first, int64_t n) {
    const fm_ctx *c = r->ctx;
    if (step->average_share > 0)
        r->k->average(plus(c->average, first, r->k), plus(c->params, first, r->k), n,
                      step->average_share);
}

void fm_update_range(const fm_run *r, fm_step *step, int64_t first, int64_t n, int is_decayed) {
    const fm_ctx *c = r->ctx;
    const fm_kernels *k = r->k;
    const fm_hyper *h = &step->hyper[is_decayed];
    void *states[FM_MAX_STATES] = {0};
    for (int i = 0; i < fm_optimizer_infos[step->optimizer].n_states; i++)
        states[i] = plus(c->state[i], first, k);
    const uint32_t mode = flush_subnormals();
    const int32_t is_finite = k->updates[step->optimizer](plus(c->params, first, k), states,
                                                          plus(c->grads, first, k), n, h);
    if (!is_finite)
        __atomic_store_n(&step->finite, 0, __ATOMIC_RELAXED);
    if (!isfinite(h->max_norm)) /* with max_norm, fm_limit_norms does this after the update */
        average_range(r, step, first, n);
    restore_mode(mode);
}

static void update_chunk(void *arg, int64_t chunk, int32_t worker) {
    const update_run *u = arg;
    const fm_net *net = u->run->net;
    const int64_t weight_chunks = chunks_of(net->n_decayed, UPDATE_CHUNK);
    const int weights = chunk < weight_chunks;
    const int64_t first =
        weights ? chunk * UPDATE_CHUNK : net->n_decayed + (chunk - weight_chunks) * UPDATE_CHUNK;
    const int64_t end = weights ? net->n_decayed : net->n_params;
    (void)worker;
    fm_update_range(u->run, u->step, first, at_most(UPDATE_CHUNK, end - first), weights);
}

void fm_update_all(fm_team *team, const fm_run *r, fm_step *step) {
    const fm_net *net = r->net;
    update_run u = {r, step};
    fm_team_run(team, update_chunk, &u,
                chunks_of(net->n_decayed, UPDATE_CHUNK) +
                    chunks_of(net->n_params - net->n_decayed, UPDATE_CHUNK));
}

/* ---- clipping by norm ------------------------------------------------------------------------ */

#define NORM_CHUNKS 256 /* most chunks: the cut depends on the number of parameters alone */

static int64_t norm_chunk_size(const fm_net *net) {
    return at_least(UPDATE_CHUNK, round_up(chunks_of(net->n_params, NORM_CHUNKS), 64));
}

typedef struct {
    const fm_run *run;
    double *partial; /* sums of squares of the chunks */
} norm_run;

static void norm_chunk(void *arg, int64_t chunk, int32_t worker) {
    const norm_run *s = arg;
    const fm_run *r = s->run;
    const int64_t size = norm_chunk_size(r->net), first = chunk * size;
    (void)worker;
    s->partial[chunk] = r->k->sum_squares(plus(r->ctx->grads, first, r->k),
                                          at_most(size, r->net->n_params - first));
}

/* The norm if squares overflow (squares of float32 cannot in double). NaN and infinity give NaN. */
static double norm_of_large(const double *x, int64_t n) {
    double largest = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fabs(x[i]) > largest ? fabs(x[i]) : largest;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] / largest) * (x[i] / largest);
    return largest * sqrt(squares);
}

double fm_clipped_share(fm_team *team, const fm_run *r, double clip_norm) {
    const int64_t chunks = chunks_of(r->net->n_params, norm_chunk_size(r->net));
    double partial[NORM_CHUNKS], sum = 0;
    norm_run s = {r, partial};
    fm_team_run(team, norm_chunk, &s, chunks);
    for (int64_t i = 0; i < chunks; i++)
        sum += partial[i];
    double norm = sqrt(sum);
    if (!isfinite(norm) && r->k->real_size == sizeof(double))
        norm = norm_of_large(r->ctx->grads, r->net->n_params);
    return !isfinite(norm) ? (double)NAN : norm > clip_norm ? clip_norm / norm : 1;
}

/* ---- max-norm -------------------------------------------------------------------------------- */

/* The chunks of columns of all ops are numbered consecutively, as in slices_chunk. */
static void columns_chunk(void *arg, int64_t chunk, int32_t worker) {
    const update_run *u = arg;
    const fm_run *r = u->run;
    (void)worker;
    for (const fm_op *op = r->net->ops;; op++) {
        const fm_sizes s = r->k->ops[op->kind].sizes(op);
        const int64_t chunks = s.n_weights ? chunks_of(op->n_out, FM_NORM_COLUMNS) : 0;
        if (chunk >= chunks) {
            chunk -= chunks;
            continue;
        }
        const int64_t j0 = chunk * FM_NORM_COLUMNS;
        r->k->limit_columns(plus(r->ctx->params, op->w, r->k), s.n_weights / op->n_out, op->n_out,
                            j0, at_most(j0 + FM_NORM_COLUMNS, op->n_out),
                            u->step->hyper[1].max_norm);
        return;
    }
}

static void average_chunk(void *arg, int64_t chunk, int32_t worker) {
    const update_run *u = arg;
    const int64_t first = chunk * UPDATE_CHUNK;
    (void)worker;
    average_range(u->run, u->step, first, at_most(UPDATE_CHUNK, u->run->net->n_params - first));
}

void fm_limit_norms(fm_team *team, const fm_run *r, fm_step *step) {
    update_run u = {r, step};
    int64_t chunks = 0;
    if (!isfinite(step->hyper[1].max_norm))
        return;
    for (const fm_op *op = r->net->ops; op < r->net->ops + r->net->n_ops; op++)
        if (r->k->ops[op->kind].sizes(op).n_weights)
            chunks += chunks_of(op->n_out, FM_NORM_COLUMNS);
    fm_team_run(team, columns_chunk, &u, chunks);
    if (step->average_share > 0)
        fm_team_run(team, average_chunk, &u, chunks_of(r->net->n_params, UPDATE_CHUNK));
}

/* ---- a step alone ---------------------------------------------------------------------------- */

typedef struct {
    fm_run run;
    fm_step step;
    const fm_hyper *hyper;
    int64_t t;
} update_job;

static void drive_update(fm_team *team, void *arg) {
    update_job *job = arg;
    const double clip = job->hyper->clip_norm;
    const double scale = isfinite(clip) ? fm_clipped_share(team, &job->run, clip) : 1;
    if (!isfinite(scale))
        return;
    fm_begin_step(&job->step, job->hyper, job->run.ctx, job->t, scale, fm_team_size(team) > 1);
    fm_update_all(team, &job->run, &job->step);
    fm_limit_norms(team, &job->run, &job->step);
}

int32_t fm_update(const fm_net *net, const fm_kernels *k, fm_ctx *ctx, int32_t optimizer,
                  const fm_hyper *hyper, int64_t t, int32_t threads) {
    update_job job = {
        .run = {.net = net, .k = k, .ctx = ctx},
        .step = {.optimizer = optimizer},
        .hyper = hyper,
        .t = t,
    };
    const fm_ctx before = *ctx;
    fm_parallel(fm_useful_threads(net, 8, threads), drive_update, &job);
    if (!job.step.finite)
        fm_forget_step(ctx, &before);
    return job.step.finite;
}
