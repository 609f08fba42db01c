/* Forward and backward over ops as data: rows by chunks, or layer by layer. */

#include <string.h>

#include "profile.h"
#include "run.h"
#include "small.h"

#define LONG_WORK 100000000 /* multiply-adds, some milliseconds: may be broken off */

/* ---- chunks of rows -------------------------------------------------------------------------- */

void fm_forward_rows(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int64_t r0,
                     int64_t r1) {
    for (const fm_op *op = net->ops; op < net->ops + net->n_ops; op++)
        PROFILED(FORWARD, op - net->ops,
                 k->ops[op->kind].forward(op, ctx, ((fm_area){r0, r1, 0, op->n_out})));
}

void fm_backward_rows(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int64_t r0,
                      int64_t r1) {
    for (const fm_op *op = last_op(net); op >= net->ops; op--) {
        if (k->ops[op->kind].slope)
            k->ops[op->kind].slope(op, ctx, (fm_area){r0, r1, 0, op->n_out});
        PROFILED(BACKWARD, op - net->ops,
                 k->ops[op->kind].backward(op, ctx, ((fm_area){r0, r1, 0, op->n_in})));
    }
}

static void forward_chunk(void *arg, int64_t chunk, int32_t worker) {
    const fm_run *r = arg;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(r, chunk, &r0, &r1);
    fm_forward_rows(r->net, r->k, r->ctx, r0, r1);
}

static void backward_chunk(void *arg, int64_t chunk, int32_t worker) {
    const fm_run *r = arg;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(r, chunk, &r0, &r1);
    fm_backward_rows(r->net, r->k, r->ctx, r0, r1);
}

void fm_all_rows(fm_team *team, fm_run *r, void (*chunk)(void *, int64_t, int32_t), void *arg) {
    r->rows_per_chunk =
        round_up(fm_rows_per_chunk(r->ctx, fm_team_size(team)), at_least(r->panels, 1));
    fm_team_run(team, chunk, arg, chunks_of(r->ctx->rows, r->rows_per_chunk));
}

/* ---- layer by layer -------------------------------------------------------------------------- */

/* `kernel` does the areas of `op`, in a matrix of `width` columns. */
typedef struct {
    const fm_run *run;
    const fm_op *op;
    void (*kernel)(const fm_op *op, const fm_ctx *ctx, fm_area area);
    int64_t width, rows, columns; /* of the matrix; of an area */
} layer_run;

static void area_chunk(void *arg, int64_t chunk, int32_t worker) {
    const layer_run *l = arg;
    const int64_t across = chunks_of(l->width, l->columns);
    const int64_t r0 = chunk / across * l->rows, j0 = chunk % across * l->columns;
    (void)worker;
    l->kernel(l->op, l->run->ctx,
              (fm_area){r0, at_most(r0 + l->rows, l->run->ctx->rows), j0,
                        at_most(j0 + l->columns, l->width)});
}

/* Runs one kernel over a matrix of `width` columns, cut into about as many areas
 * as there are threads. */
static void all_areas(fm_team *team, const fm_run *r, const fm_op *op,
                      void (*kernel)(const fm_op *, const fm_ctx *, fm_area), int64_t width) {
    if (!kernel)
        return;
    layer_run l = {.run = r, .op = op, .kernel = kernel, .width = width};
    const int32_t whole = r->k->ops[op->kind].whole, threads = fm_team_size(team);
    l.rows = fm_rows_per_area(r->ctx, whole, threads);
    const int64_t down = chunks_of(r->ctx->rows, l.rows);
    l.columns = fm_columns_per_area(r->ctx, whole, threads, width, down);
    fm_team_run(team, area_chunk, &l, down * chunks_of(width, l.columns));
}

void fm_forward_by_layers(fm_team *team, fm_run *r) {
    for (const fm_op *op = r->net->ops; op < r->net->ops + r->net->n_ops; op++)
        all_areas(team, r, op, r->k->ops[op->kind].forward, op->n_out);
}

void fm_backward_by_layers(fm_team *team, fm_run *r) {
    for (const fm_op *op = last_op(r->net); op >= r->net->ops; op--) {
        all_areas(team, r, op, r->k->ops[op->kind].slope, op->n_out);
        if (op->dx >= 0 || r->ctx->dx)
            all_areas(team, r, op, r->k->ops[op->kind].backward, op->n_in);
    }
}

/* ---- around a pass --------------------------------------------------------------------------- */

void *fm_output(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx) {
    return plus(ctx->acts, last_op(net)->y * ctx->capacity, k);
}

void *fm_output_grad(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx) {
    return plus(ctx->dacts, last_op(net)->dy * ctx->capacity, k);
}

void fm_may_break_off(fm_team *team, const fm_run *r, int64_t rows) {
    const int is_long = rows * (r->net->n_params + r->net->acts_width) >= LONG_WORK;
    fm_team_ask(team, is_long ? &r->ctx->poll : NULL);
}

int fm_was_broken_off(fm_team *team, fm_run *r) {
    fm_team_ask(team, NULL);
    r->broken_off = fm_team_broken_off(team);
    return r->broken_off;
}

void fm_clear_gradients(const fm_run *r) {
    memset(r->ctx->grads, 0, (size_t)(r->net->n_params * r->k->real_size));
}

void fm_keep_stats(const fm_run *r) {
    for (const fm_op *op = r->net->ops; op < r->net->ops + r->net->n_ops; op++)
        if (r->k->ops[op->kind].keep_stats)
            r->k->ops[op->kind].keep_stats(op, r->ctx);
}

/* ---- the two passes alone -------------------------------------------------------------------- */

static void drive_forward(fm_team *team, void *arg) {
    fm_run *r = arg;
    fm_may_break_off(team, r, r->ctx->rows);
    if (fm_by_layers(r->net, r->ctx, fm_team_size(team)) ||
        (r->ctx->training && fm_has_whole_columns(r->net, r->k)))
        fm_forward_by_layers(team, r);
    else
        fm_all_rows(team, r, forward_chunk, r);
    if (!fm_was_broken_off(team, r) && r->ctx->training)
        fm_keep_stats(r);
}

static void drive_backward(fm_team *team, void *arg) {
    fm_run *r = arg;
    fm_may_break_off(team, r, r->ctx->rows);
    if (fm_by_layers(r->net, r->ctx, fm_team_size(team)) || fm_has_whole_columns(r->net, r->k))
        fm_backward_by_layers(team, r);
    else
        fm_all_rows(team, r, backward_chunk, r);
    fm_all_slices(team, r, NULL);
    if (fm_was_broken_off(team, r))
        fm_clear_gradients(r);
}

int32_t fm_forward(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int32_t threads) {
    fm_ctx c = *ctx;
    fm_run r = {.net = net, .k = k, .ctx = &c};
    fm_parallel(fm_useful_threads(net, ctx->rows, threads), drive_forward, &r);
    return !r.broken_off;
}

int32_t fm_backward(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int32_t threads) {
    fm_ctx c = *ctx;
    fm_run r = {.net = net, .k = k, .ctx = &c};
    fm_parallel(fm_useful_threads(net, ctx->rows, threads), drive_backward, &r);
    return !r.broken_off;
}
