/* The rows of a mini-batch: gather, forward, loss, backward. */

#include <string.h>

#include "profile.h"
#include "small.h"
#include "train.h"

#define CACHE_LINE 64

/* Copies a multiple of 4 bytes. For a short row, a call of memcpy takes longer than the copy. */
static void copy_short(char *to, const char *from, int64_t bytes) {
    int64_t i = 0;
    for (; i + 16 <= bytes; i += 16)
        memcpy(to + i, from + i, 16);
    for (; i < bytes; i += 4)
        memcpy(to + i, from + i, 4);
}

/* Copies a row and prefetches the next one: rows of the data set may be anywhere in memory. */
static void copy_row(char *to, const char *from, const char *next, int64_t bytes) {
    int64_t i = 0;
    for (; i + CACHE_LINE <= bytes; i += CACHE_LINE) {
        __builtin_prefetch(next + i);
        memcpy(to + i, from + i, CACHE_LINE);
    }
    copy_short(to + i, from + i, bytes - i);
}

/* Prefetches the targets for the loss. They too may be anywhere in memory, but are not copied. */
static void ask_for_targets(const fm_training *r, int64_t r0, int64_t r1) {
    const fm_train_job *job = r->job;
    const int64_t n_out = last_op(r->run.net)->n_out;
    const int64_t columns = fm_target_columns(job->loss, &job->loss_settings, n_out);
    const int64_t bytes =
        fm_loss_infos[job->loss].labels ? (int64_t)sizeof(int64_t) : columns * r->run.k->real_size;
    const int64_t *order = job->order + job->position + r->run.ctx->first_row;
    for (int64_t i = r0; i < r1; i++)
        __builtin_prefetch((const char *)job->target + order[i] * bytes);
}

static void gather(const fm_training *r, int64_t r0, int64_t r1) {
    const fm_train_job *job = r->job;
    const int64_t bytes = r->run.net->ops[0].n_in * r->run.k->real_size;
    if (!job->order)
        return;
    const int64_t *order = job->order + job->position + r->run.ctx->first_row;
    const char *x = job->x;
    char *batch = job->batch;
    ask_for_targets(r, r0, r1);
    for (int64_t i = r0; i < r1; i++)
        copy_row(batch + i * bytes, x + order[i] * bytes, x + order[i + 1 < r1 ? i + 1 : i] * bytes,
                 bytes);
}

/* Loss of rows [r0, r1) of the block. z and dz hold their outputs and the gradients of these, one
 * row behind the other. */
static void loss_of_outputs(const fm_training *r, int64_t r0, int64_t r1, const void *z, void *dz) {
    const fm_train_job *job = r->job;
    const fm_kernels *k = r->run.k;
    const int64_t n_out = last_op(r->run.net)->n_out, in_batch = r->run.ctx->first_row + r0;
    const int64_t first = job->position + in_batch;
    const int64_t *order = job->order ? job->order + first : NULL;
    const fm_loss_settings *settings = &job->loss_settings;
    const int64_t columns = fm_target_columns(job->loss, settings, n_out);
    const void *target = order                             ? job->target
                         : fm_loss_infos[job->loss].labels ? (const int64_t *)job->target + first
                                                           : plus(job->target, first * columns, k);
    double *row_loss = job->row_loss + in_batch;
    k->losses[job->loss](row_loss, dz, z, target, order,
                         1.0 / fm_divisor_of(settings, r->counted_rows), r1 - r0, n_out, settings);
    if (job->weights)
        k->weigh_rows(row_loss, dz, order ? job->weights : job->weights + first, order, r1 - r0,
                      n_out);
    if (job->outputs)
        for (int64_t i = 0; i < r1 - r0; i++)
            copy_short(plus(job->outputs, (order ? order[i] : first + i) * n_out, k),
                       plus(z, i * n_out, k), n_out * k->real_size);
}

static void batch_loss(const fm_training *r, int64_t r0, int64_t r1) {
    const int64_t first = r0 * last_op(r->run.net)->n_out;
    loss_of_outputs(r, r0, r1, plus(fm_output(r->run.net, r->run.k, r->run.ctx), first, r->run.k),
                    plus(fm_output_grad(r->run.net, r->run.k, r->run.ctx), first, r->run.k));
}

/* ---- the rows of a small net, in panels ------------------------------------------------------ */

static void gather_panels(const fm_training *r, int64_t r0, int64_t r1) {
    const fm_train_job *job = r->job;
    const int64_t n_in = r->run.net->ops[0].n_in,
                  first = job->position + r->run.ctx->first_row + r0;
    if (job->order)
        ask_for_targets(r, r0, r1);
    r->run.k->panels_of_rows(plus(job->batch, r0 * n_in, r->run.k),
                             job->order ? job->x : plus(job->x, first * n_in, r->run.k),
                             job->order ? job->order + first : NULL, r1 - r0, n_in);
}

#define LOSS_ELEMENTS (32 * FM_NARROW) /* elements of either type: at least one panel */

/* A loss goes along a row, so outputs are turned from panels into rows, and
 * their gradients back. */
static void panel_loss(const fm_training *r, int64_t r0, int64_t r1) {
    double z[LOSS_ELEMENTS], dz[LOSS_ELEMENTS];
    const int64_t n_out = last_op(r->run.net)->n_out;
    const int64_t most = LOSS_ELEMENTS / n_out / r->run.panels * r->run.panels;
    for (int64_t rows; r0 < r1; r0 += rows) {
        rows = at_most(most, r1 - r0);
        r->run.k->rows_of_panels(
            z, plus(fm_output(r->run.net, r->run.k, r->run.ctx), r0 * n_out, r->run.k), rows,
            n_out);
        loss_of_outputs(r, r0, r0 + rows, z, dz);
        r->run.k->panels_of_rows(
            plus(fm_output_grad(r->run.net, r->run.k, r->run.ctx), r0 * n_out, r->run.k), dz, NULL,
            rows, n_out);
    }
}

/* The same as train_chunk, in panels. */
static void panels_chunk(void *arg, int64_t chunk, int32_t worker) {
    const fm_training *r = arg;
    const fm_op *first = r->run.net->ops, *end = first + r->run.net->n_ops;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(&r->run, chunk, &r0, &r1);
    fm_area area = {r0, round_up(r1, r->run.panels), 0, 0};
    PROFILED(GATHER, 0, gather_panels(r, r0, r1));
    for (const fm_op *op = first; op < end; op++) {
        area.j1 = op->n_out;
        PROFILED(FORWARD, op - first, r->run.k->ops[op->kind].panel_forward(op, r->run.ctx, area));
    }
    PROFILED(LOSS, 0, panel_loss(r, r0, r1));
    for (const fm_op *op = end - 1; op >= first; op--) {
        area.j1 = op->n_out;
        if (r->run.k->ops[op->kind].slope)
            r->run.k->ops[op->kind].slope(op, r->run.ctx, area);
        area.j1 = op->n_in;
        PROFILED(BACKWARD, op - first,
                 r->run.k->ops[op->kind].panel_backward(op, r->run.ctx, area));
    }
}

/* ---- the rows of other nets ------------------------------------------------------------------ */

/* Takes a chunk of rows of the mini-batch the whole way: gather, forward, loss, backward. */
static void train_chunk(void *arg, int64_t chunk, int32_t worker) {
    const fm_training *r = arg;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(&r->run, chunk, &r0, &r1);
    PROFILED(GATHER, 0, gather(r, r0, r1));
    fm_forward_rows(r->run.net, r->run.k, r->run.ctx, r0, r1);
    PROFILED(LOSS, 0, batch_loss(r, r0, r1));
    fm_backward_rows(r->run.net, r->run.k, r->run.ctx, r0, r1);
}

static void gather_chunk(void *arg, int64_t chunk, int32_t worker) {
    const fm_training *r = arg;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(&r->run, chunk, &r0, &r1);
    gather(r, r0, r1);
}

static void loss_chunk(void *arg, int64_t chunk, int32_t worker) {
    const fm_training *r = arg;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(&r->run, chunk, &r0, &r1);
    batch_loss(r, r0, r1);
}

/* The same for all rows of the block, layer by layer. */
static void train_by_layers(fm_team *team, fm_training *r) {
    fm_all_rows(team, &r->run, gather_chunk, r);
    fm_forward_by_layers(team, &r->run);
    fm_all_rows(team, &r->run, loss_chunk, r);
    fm_backward_by_layers(team, &r->run);
}

/* Sets ctx->x to the block of the mini-batch: ctx->rows rows from ctx->first_row on. */
static void place_block(fm_training *r) {
    const fm_train_job *job = r->job;
    fm_ctx *c = r->run.ctx;
    c->x = job->order || r->run.panels
               ? job->batch
               : plus(job->x, (job->position + c->first_row) * r->run.net->ops[0].n_in, r->run.k);
}

void fm_train_rows(fm_team *team, fm_training *r) {
    fm_ctx *c = r->run.ctx;
    const int64_t block =
        fm_block_rows(r->run.net, r->run.k, r->batch_rows, fm_team_size(team), c->blas);
    for (c->first_row = 0;; c->first_row += block) {
        c->rows = at_most(block, r->batch_rows - c->first_row);
        const int layers = fm_by_layers(r->run.net, c, fm_team_size(team)) ||
                           fm_has_whole_columns(r->run.net, r->run.k);
        if (c->rows != r->known_rows)
            r->in_panels = fm_in_panels(r->run.net, r->run.k, c);
        r->known_rows = c->rows;
        r->run.panels = !layers && r->in_panels ? r->run.k->panel_rows : 0;
        place_block(r);
        if (layers)
            train_by_layers(team, r);
        else
            fm_all_rows(team, &r->run, r->run.panels ? panels_chunk : train_chunk, r);
        if (c->first_row + c->rows == r->batch_rows)
            return;
        fm_all_slices(team, &r->run, NULL);
    }
}
