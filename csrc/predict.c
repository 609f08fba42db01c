/* Outputs for any number of rows, in rounds. */

#include <string.h>

#include "float_mode.h"
#include "run.h"
#include "small.h"

#define PREDICT_CHUNKS 4 /* per thread in a round; after each round the clock is read */

typedef struct {
    fm_run run;
    void *out;            /* of all rows */
    int64_t first;        /* row at which chunk 0 begins */
    int64_t round_rows;   /* rows of a round */
    int32_t in_one_block; /* all rows at once, layer by layer */
    fm_pace *pace;        /* times of the rounds */
    double now, end;      /* s: time after the last round, and time to stop */
} predict_run;

/* Every worker has its own block of activations, so memory grows with the threads
 * and not with the rows. */
static void predict_chunk(void *arg, int64_t chunk, int32_t worker) {
    const predict_run *p = arg;
    const fm_run *r = &p->run;
    const int64_t n_out = last_op(r->net)->n_out;
    const int64_t first = p->first + chunk * r->rows_per_chunk;
    fm_ctx c = *r->ctx;
    c.acts = plus(c.acts, worker * r->net->acts_width * c.capacity, r->k);
    c.x = plus(c.x, first * r->net->ops[0].n_in, r->k);
    c.rows = at_most(r->rows_per_chunk, c.rows - first);
    fm_forward_rows(r->net, r->k, &c, 0, c.rows);
    memcpy(plus(p->out, first * n_out, r->k), fm_output(r->net, r->k, &c),
           (size_t)(c.rows * n_out * r->k->real_size));
}

static void predict_in_one_block(fm_team *team, predict_run *p) {
    fm_run *r = &p->run;
    fm_forward_by_layers(team, r);
    memcpy(p->out, fm_output(r->net, r->k, r->ctx),
           (size_t)(r->ctx->rows * last_op(r->net)->n_out * r->k->real_size));
}

/* Runs rounds as long as the way, alone or together, stays the same. */
static void drive_predict(fm_team *team, void *arg) {
    predict_run *p = arg;
    const int64_t all = p->run.ctx->rows;
    const int32_t alone = p->pace->alone;
    do {
        const int64_t rows = at_most(p->round_rows, all - p->first);
        if (p->in_one_block)
            predict_in_one_block(team, p);
        else
            fm_team_run(team, predict_chunk, p, chunks_of(rows, p->run.rows_per_chunk));
        p->first += rows;
        const double before = p->now;
        p->now = now();
        if (rows == p->round_rows) /* the last round may be short */
            fm_pace_step(p->pace, 1e9 * p->now, 1e9 * (p->now - before));
    } while (p->first < all && p->now < p->end && p->pace->alone == alone);
}

int64_t fm_predict(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, void *out,
                   int64_t first, int32_t threads, double seconds, fm_pace *pace) {
    fm_ctx c = *ctx;
    c.training = 0;
    predict_run p = {
        .run = {.net = net, .k = k, .ctx = &c, .rows_per_chunk = c.capacity},
        .out = out,
        .first = first,
        .pace = pace,
        .now = now(),
    };
    threads = fm_useful_threads(net, ctx->rows, threads);
    p.in_one_block = c.rows <= c.capacity && fm_by_layers(net, &c, threads);
    if (!p.in_one_block)
        threads = (int32_t)at_most(threads, chunks_of(c.rows, c.capacity));
    p.round_rows = at_most(PREDICT_CHUNKS * c.capacity * threads, c.rows);
    p.end = p.now + seconds;
    while (p.first < c.rows && (p.now < p.end || p.first == first))
        fm_parallel(fm_pace_alone(pace, threads, p.round_rows) ? 1 : threads, drive_predict, &p);
    return p.first;
}

void fm_predict_row(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, void *out) {
    fm_ctx c = *ctx;
    c.training = 0;
    c.rows = c.capacity = 1;
    const uint32_t mode = default_mode();
    fm_forward_rows(net, k, &c, 0, 1);
    restore_mode(mode);
    memcpy(out, fm_output(net, k, &c), (size_t)(last_op(net)->n_out * k->real_size));
}
