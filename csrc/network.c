/* Forward, backward, loss, update and train over ops as data. This file depends on no element type
 * and on no kind of layer.
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
 * has been taken. */

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "fastmlp.h"
#include "float_mode.h"
#include "profile.h"
#include "random.h"
#include "small.h"
#include "step.h"

/* ---- how work is cut ------------------------------------------------------------------------- */

#define MAX_ROWS 256 /* rows of a chunk: a packed panel is used often, activations fit in L2 */
#define ROW_STEP 8   /* rows: chunks begin at whole tiles */
/* Rows of a mini-batch that do not pay for one more thread if layers are wide. */
#define FEW_ROWS 16
#define SLICE_STEP 8
#define MIN_SLICE_WORK 65536    /* multiply-adds worth claiming: about half a microsecond */
#define MAX_SLICE_WORK 67108864 /* most multiply-adds of a chunk of slices */
#define CHUNKS_PER_THREAD 6     /* of weight gradients: few, since each chunk packs dz */
#define BLAS_THREADS 2          /* a BLAS's bits depend on the cut: it is always that for two */
#define LAYER_WORK 100000       /* multiply-adds of a layer that are worth a barrier */
#define SLICE_WORK 8            /* multiply-adds per element of a slice without weights */
#define LAYER_ROWS 64           /* rows of an area: so often is the part of W used that it reads */
#define COLUMN_STEP 16          /* columns: areas begin at whole vectors */
#define THREAD_WORK 100000      /* multiply-adds that pay for one more thread */
#define PREDICT_CHUNKS 4        /* per thread in a round; after each round the clock is read */
#define TURNING 6               /* multiply-adds that take as long as turning an element */
#define BLOCK_THREADS 8         /* threads that find enough to do in FM_CHAIN rows */
#define LONG_WORK 100000000     /* multiply-adds, some milliseconds: may be broken off */
#define SLOW_WORK 20000000000   /* multiply-adds, a few tenths of a second */

static int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t chunks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }
static int64_t round_up(int64_t n, int64_t step) { return chunks_of(n, step) * step; }

static const fm_op *last_op(const fm_net *net) { return &net->ops[net->n_ops - 1]; }

static int64_t rows_per_chunk(const fm_ctx *ctx, int32_t threads) {
    if (ctx->blas)
        return FM_BLAS_ROWS;
    return at_most(round_up(chunks_of(ctx->rows, threads), ROW_STEP), MAX_ROWS);
}

/* Work of a row's products row by row as a multiple of the work in panels. Row by row, columns are
 * filled up to whole vectors. In panels, rows are filled up to whole panels, and inputs, outputs
 * and dz are turned. */
static double panel_gain(const fm_net *net, const fm_kernels *k, int64_t rows) {
    const double filled = (double)round_up(rows, k->panel_rows) / (double)rows;
    double by_rows = 0, in_panels = 0,
           turned = (double)(net->ops[0].n_in + 2 * last_op(net)->n_out);
    for (const fm_op *op = net->ops; op < net->ops + net->n_ops; op++) {
        if (!k->ops[op->kind].sizes(op).n_weights)
            continue;
        const double across = (double)(op->n_in * round_up(op->n_out, k->lanes));
        const double down = (double)(round_up(op->n_in, k->lanes) * op->n_out);
        const int back = op->dx >= 0; /* the gradient by the network's input is not needed */
        by_rows += across + back * down + (op->n_out <= k->lanes ? down : across);
        in_panels += (1 + back) * filled * (double)(op->n_in * op->n_out) + across;
        turned += (double)op->n_out;
    }
    return by_rows / (in_panels + TURNING * turned);
}

/* Panels need a narrow net and buffers that hold whole panels. FM_PANELS_by_size uses them only if
 * they are faster. */
int32_t fm_in_panels(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx) {
    if (ctx->blas || ctx->panels == FM_PANELS_never ||
        round_up(ctx->rows, k->panel_rows) > ctx->capacity)
        return 0;
    for (const fm_op *op = net->ops; op < net->ops + net->n_ops; op++)
        if (!k->ops[op->kind].panel_forward || op->n_in > FM_NARROW || op->n_out > FM_NARROW)
            return 0;
    return ctx->panels == FM_PANELS_always || panel_gain(net, k, ctx->rows) >= k->panels_pay;
}

/* Slices of an op's parameter gradient in one chunk. */
static int64_t slices_per_chunk(const fm_net *net, const fm_ctx *ctx, int32_t threads,
                                const fm_op *op, const fm_sizes *s) {
    const int64_t work =
        ctx->rows *
        (s->n_weights ? op->n_out * (s->n_weights / s->n_slices / op->n_out) : SLICE_WORK);
    const int64_t chunks = CHUNKS_PER_THREAD * (ctx->blas ? BLAS_THREADS : threads);
    const int64_t target =
        at_most(at_least(net->n_decayed * ctx->rows / chunks, MIN_SLICE_WORK), MAX_SLICE_WORK);
    /* in a narrow layer the slices lie along the vectors */
    const int64_t step = s->n_weights && op->n_out > COLUMN_STEP ? SLICE_STEP : COLUMN_STEP;
    return round_up(at_least(target / at_least(work, 1), step), step);
}

/* Whether the rows go layer by layer: with FEW_ROWS rows per thread at least half of the threads
 * would have none, and a layer is worth a barrier. */
static int by_layers(const fm_net *net, const fm_ctx *ctx, int32_t threads) {
    const int64_t work = ctx->rows * net->n_params / net->n_ops;
    return !ctx->blas && 2 * chunks_of(ctx->rows, FEW_ROWS) <= threads && work >= LAYER_WORK;
}

/* Whether some op needs all rows of its columns: the net then goes layer by layer, in training and
 * on the way back. */
static int has_whole_columns(const fm_net *net, const fm_kernels *k) {
    for (const fm_op *op = net->ops; op < net->ops + net->n_ops; op++)
        if (k->ops[op->kind].whole == FM_WHOLE_columns)
            return 1;
    return 0;
}

/* More threads only if each finds enough to do. */
static int32_t useful_threads(const fm_net *net, int64_t rows, int32_t threads) {
    const int64_t work = (net->n_params + net->acts_width) * at_most(rows, (int64_t)1 << 32);
    return (int32_t)at_least(1, at_most(threads, work / THREAD_WORK));
}

int32_t fm_useful_threads(const fm_net *net, int64_t rows, int32_t threads) {
    return useful_threads(net, rows, threads);
}

/* Rows of a block of a mini-batch. Sums over rows begin anew every FM_CHAIN rows, so a
 * mini-batch may go in blocks of so many and keep its bits. With a BLAS the bits depend on the
 * cut, which is therefore always the same. The activations of a block stay in the cache until
 * its gradients are summed. */
int64_t fm_block_rows(const fm_net *net, const fm_kernels *k, int64_t rows, int32_t threads,
                      int32_t blas) {
    const int64_t block = FM_CHAIN * (blas ? 1 : chunks_of(threads, BLOCK_THREADS));
    return rows <= block || has_whole_columns(net, k) ? rows : block;
}

/* ---- the phases ------------------------------------------------------------------------------ */

typedef struct {
    const fm_net *net;
    const fm_kernels *k;
    fm_ctx *ctx;
    fm_train_job *job;    /* NULL outside of training */
    void *out;            /* fm_predict: the output of all rows */
    int32_t optimizer;    /* -1: only gradients, no update */
    fm_hyper hyper[2];    /* of this step: [1] for weights, [0] for parameters without decay */
    double average_share; /* share of the new parameters in their average; 0: unchanged */
    double *partial;      /* sums of squares of the chunks of the gradient */
    int32_t threads;
    /* layer by layer: `kernel` does the areas of `op`, in a matrix of `width` columns */
    const fm_op *op;
    void (*kernel)(const fm_op *op, const fm_ctx *ctx, fm_area area);
    int64_t width, columns_per_chunk;
    int64_t rows_per_chunk;
    int64_t panels;        /* rows of a panel, or 0: row by row */
    int32_t in_panels;     /* result of fm_in_panels ... */
    int64_t known_rows;    /* ... for so many rows */
    int64_t batch_rows;    /* of the whole mini-batch in fm_train, of a round in fm_predict */
    int64_t counted_rows;  /* fm_train: rows of the mini-batch whose label is not ignored */
    int32_t broken_off;    /* 1: ctx->poll broke the run off */
    int32_t in_one_block;  /* fm_predict: all rows at once, layer by layer */
    int64_t first;         /* fm_predict: row at which chunk 0 begins */
    int64_t first_t;       /* fm_train: steps taken before this call */
    fm_pace *pace;         /* fm_predict: times of the rounds */
    double now, end;       /* s: time after the last step or round, and time to stop */
    int32_t update_finite; /* atomic */
} run;

static void forward_rows(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int64_t r0,
                         int64_t r1) {
    for (const fm_op *op = net->ops; op < net->ops + net->n_ops; op++)
        PROFILED(FORWARD, op - net->ops,
                 k->ops[op->kind].forward(op, ctx, ((fm_area){r0, r1, 0, op->n_out})));
}

static void backward_rows(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int64_t r0,
                          int64_t r1) {
    for (const fm_op *op = last_op(net); op >= net->ops; op--) {
        if (k->ops[op->kind].slope)
            k->ops[op->kind].slope(op, ctx, (fm_area){r0, r1, 0, op->n_out});
        PROFILED(BACKWARD, op - net->ops,
                 k->ops[op->kind].backward(op, ctx, ((fm_area){r0, r1, 0, op->n_in})));
    }
}

static void rows_of_chunk(const run *r, int64_t chunk, int64_t *r0, int64_t *r1) {
    *r0 = chunk * r->rows_per_chunk;
    *r1 = at_most(*r0 + r->rows_per_chunk, r->ctx->rows);
}

static void forward_chunk(void *arg, int64_t chunk, int32_t worker) {
    const run *r = arg;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(r, chunk, &r0, &r1);
    forward_rows(r->net, r->k, r->ctx, r0, r1);
}

static void backward_chunk(void *arg, int64_t chunk, int32_t worker) {
    const run *r = arg;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(r, chunk, &r0, &r1);
    backward_rows(r->net, r->k, r->ctx, r0, r1);
}

static void average_range(const run *r, int64_t first, int64_t n) {
    const fm_ctx *c = r->ctx;
    if (r->average_share > 0)
        r->k->average(plus(c->average, first, r->k), plus(c->params, first, r->k), n,
                      r->average_share);
}

static void update_range(run *r, int64_t first, int64_t n, int is_decayed) {
    const fm_ctx *c = r->ctx;
    const fm_kernels *k = r->k;
    const fm_hyper *h = &r->hyper[is_decayed];
    void *states[FM_MAX_STATES] = {0};
    for (int i = 0; i < fm_optimizer_infos[r->optimizer].n_states; i++)
        states[i] = plus(c->state[i], first, k);
    const uint32_t mode = flush_subnormals();
    const int32_t is_finite =
        k->updates[r->optimizer](plus(c->params, first, k), states, plus(c->grads, first, k), n, h);
    if (!is_finite)
        __atomic_store_n(&r->update_finite, 0, __ATOMIC_RELAXED);
    if (!isfinite(h->max_norm)) /* with max_norm, limit_norms does this after the update */
        average_range(r, first, n);
    restore_mode(mode);
}

/* The chunks of all ops are numbered consecutively: finds the op of `chunk`, sums its gradient and,
 * in training, updates its parameters. */
static void slices_chunk(void *arg, int64_t chunk, int32_t worker) {
    run *r = arg;
    (void)worker;
    for (const fm_op *op = r->net->ops;; op++) {
        const fm_sizes s = r->k->ops[op->kind].sizes(op);
        if (s.n_slices == 0)
            continue;
        const int64_t size = slices_per_chunk(r->net, r->ctx, r->threads, op, &s);
        const int64_t chunks = chunks_of(s.n_slices, size);
        if (chunk >= chunks) {
            chunk -= chunks;
            continue;
        }
        const int64_t i0 = chunk * size, i1 = at_most(i0 + size, s.n_slices);
        const fm_op_kernels *kernels = &r->k->ops[op->kind];
        PROFILED(PARAM_GRAD, op - r->net->ops,
                 (r->panels ? kernels->panel_param_grad : kernels->param_grad)(op, r->ctx, i0, i1));
        /* arrays of n_slices elements, one behind the other */
        if (r->optimizer >= 0 && s.n_weights == 0) {
            for (int64_t first = 0; first < s.n_biases; first += s.n_slices)
                update_range(r, op->b + first + i0, i1 - i0, 0);
        } else if (r->optimizer >= 0) {
            const int64_t per_slice = s.n_weights / s.n_slices;
            PROFILED(UPDATE, op - r->net->ops,
                     update_range(r, op->w + i0 * per_slice, (i1 - i0) * per_slice, 1));
            if (i0 == 0 && s.n_biases)
                update_range(r, op->b, s.n_biases, 0);
        }
        return;
    }
}

static void all_slices(fm_team *team, run *r) {
    int64_t chunks = 0;
    r->threads = fm_team_size(team);
    for (int64_t i = 0; i < r->net->n_ops; i++) {
        const fm_op *op = &r->net->ops[i];
        const fm_sizes s = r->k->ops[op->kind].sizes(op);
        if (s.n_slices)
            chunks += chunks_of(s.n_slices, slices_per_chunk(r->net, r->ctx, r->threads, op, &s));
    }
    fm_team_run(team, slices_chunk, r, chunks);
}

static void all_rows(fm_team *team, run *r, void (*chunk)(void *, int64_t, int32_t)) {
    r->rows_per_chunk =
        round_up(rows_per_chunk(r->ctx, fm_team_size(team)), at_least(r->panels, 1));
    fm_team_run(team, chunk, r, chunks_of(r->ctx->rows, r->rows_per_chunk));
}

/* From here on a run of so many rows may be broken off, if it takes long. was_broken_off ends that;
 * it must come before anything is written that outlasts the step. */
static void may_break_off(fm_team *team, const run *r, int64_t rows) {
    const int is_long = rows * (r->net->n_params + r->net->acts_width) >= LONG_WORK;
    fm_team_ask(team, is_long ? &r->ctx->poll : NULL);
}

static int was_broken_off(fm_team *team, run *r) {
    fm_team_ask(team, NULL);
    r->broken_off = fm_team_broken_off(team);
    return r->broken_off;
}

static void clear_gradients(const run *r) {
    memset(r->ctx->grads, 0, (size_t)(r->net->n_params * r->k->real_size));
}

/* ---- layer by layer -------------------------------------------------------------------------- */

static void area_chunk(void *arg, int64_t chunk, int32_t worker) {
    const run *r = arg;
    const int64_t across = chunks_of(r->width, r->columns_per_chunk);
    fm_area area = {.j0 = chunk % across * r->columns_per_chunk};
    (void)worker;
    area.j1 = at_most(area.j0 + r->columns_per_chunk, r->width);
    rows_of_chunk(r, chunk / across, &area.r0, &area.r1);
    r->kernel(r->op, r->ctx, area);
}

/* Runs one kernel over a matrix of `width` columns, cut into about as many areas
 * as there are threads. */
static void all_areas(fm_team *team, run *r, const fm_op *op,
                      void (*kernel)(const fm_op *, const fm_ctx *, fm_area), int64_t width) {
    if (!kernel)
        return;
    r->op = op;
    r->kernel = kernel;
    r->width = width;
    const int32_t whole = r->k->ops[op->kind].whole;
    const int64_t rows = r->ctx->rows, threads = fm_team_size(team);
    r->rows_per_chunk = whole == FM_WHOLE_columns ? rows
                        : whole == FM_WHOLE_rows || r->ctx->blas
                            ? rows_per_chunk(r->ctx, (int32_t)threads)
                            : at_least(rows_per_chunk(r->ctx, (int32_t)threads), LAYER_ROWS);
    const int64_t down = chunks_of(rows, r->rows_per_chunk);
    const int64_t across = whole == FM_WHOLE_rows || (r->ctx->blas && whole == FM_WHOLE_nothing)
                               ? 1
                               : chunks_of(threads, down);
    r->columns_per_chunk = round_up(chunks_of(width, across), COLUMN_STEP);
    fm_team_run(team, area_chunk, r, down * chunks_of(width, r->columns_per_chunk));
}

static void forward_by_layers(fm_team *team, run *r) {
    for (const fm_op *op = r->net->ops; op < r->net->ops + r->net->n_ops; op++)
        all_areas(team, r, op, r->k->ops[op->kind].forward, op->n_out);
}

static void backward_by_layers(fm_team *team, run *r) {
    for (const fm_op *op = last_op(r->net); op >= r->net->ops; op--) {
        all_areas(team, r, op, r->k->ops[op->kind].slope, op->n_out);
        if (op->dx >= 0 || r->ctx->dx)
            all_areas(team, r, op, r->k->ops[op->kind].backward, op->n_in);
    }
}

/* ---- step by step ---------------------------------------------------------------------------- */

void *fm_output(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx) {
    return plus(ctx->acts, last_op(net)->y * ctx->capacity, k);
}

void *fm_output_grad(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx) {
    return plus(ctx->dacts, last_op(net)->dy * ctx->capacity, k);
}

/* Updates the running statistics after a training pass. */
static void keep_stats(const run *r) {
    for (const fm_op *op = r->net->ops; op < r->net->ops + r->net->n_ops; op++)
        if (r->k->ops[op->kind].keep_stats)
            r->k->ops[op->kind].keep_stats(op, r->ctx);
}

static void drive_forward(fm_team *team, void *arg) {
    run *r = arg;
    may_break_off(team, r, r->ctx->rows);
    if (by_layers(r->net, r->ctx, fm_team_size(team)) ||
        (r->ctx->training && has_whole_columns(r->net, r->k)))
        forward_by_layers(team, arg);
    else
        all_rows(team, arg, forward_chunk);
    if (!was_broken_off(team, r) && r->ctx->training)
        keep_stats(r);
}

static void drive_backward(fm_team *team, void *arg) {
    run *r = arg;
    may_break_off(team, r, r->ctx->rows);
    if (by_layers(r->net, r->ctx, fm_team_size(team)) || has_whole_columns(r->net, r->k))
        backward_by_layers(team, arg);
    else
        all_rows(team, arg, backward_chunk);
    all_slices(team, arg);
    if (was_broken_off(team, r))
        clear_gradients(r);
}

int32_t fm_forward(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int32_t threads) {
    fm_ctx c = *ctx;
    run r = {.net = net, .k = k, .ctx = &c};
    fm_parallel(useful_threads(net, ctx->rows, threads), drive_forward, &r);
    return !r.broken_off;
}

int32_t fm_backward(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int32_t threads) {
    fm_ctx c = *ctx;
    run r = {.net = net, .k = k, .ctx = &c, .optimizer = -1};
    fm_parallel(useful_threads(net, ctx->rows, threads), drive_backward, &r);
    return !r.broken_off;
}

/* ---- the optimizer's step -------------------------------------------------------------------- */

#define UPDATE_CHUNK 16384 /* elements; a multiple of every vector's length */

static void update_chunk(void *arg, int64_t chunk, int32_t worker) {
    run *r = arg;
    const fm_net *net = r->net;
    const int64_t weight_chunks = chunks_of(net->n_decayed, UPDATE_CHUNK);
    const int weights = chunk < weight_chunks;
    const int64_t first =
        weights ? chunk * UPDATE_CHUNK : net->n_decayed + (chunk - weight_chunks) * UPDATE_CHUNK;
    const int64_t end = weights ? net->n_decayed : net->n_params;
    (void)worker;
    update_range(r, first, at_most(UPDATE_CHUNK, end - first), weights);
}

static void update_all(fm_team *team, run *r) {
    const fm_net *net = r->net;
    fm_team_run(team, update_chunk, r,
                chunks_of(net->n_decayed, UPDATE_CHUNK) +
                    chunks_of(net->n_params - net->n_decayed, UPDATE_CHUNK));
}

#define NORM_CHUNKS 256 /* most chunks: the cut depends on the number of parameters alone */

static int64_t norm_chunk_size(const fm_net *net) {
    return at_least(UPDATE_CHUNK, round_up(chunks_of(net->n_params, NORM_CHUNKS), 64));
}

static void norm_chunk(void *arg, int64_t chunk, int32_t worker) {
    run *r = arg;
    const int64_t size = norm_chunk_size(r->net), first = chunk * size;
    (void)worker;
    r->partial[chunk] = r->k->sum_squares(plus(r->ctx->grads, first, r->k),
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

/* The factor of the gradient that clipping by norm demands: 1 if the gradient is short enough, NaN
 * if it is not finite (Pascanu et al. 2013). */
static double clipped_share(fm_team *team, run *r, double clip_norm) {
    const int64_t chunks = chunks_of(r->net->n_params, norm_chunk_size(r->net));
    double partial[NORM_CHUNKS], sum = 0;
    r->partial = partial;
    fm_team_run(team, norm_chunk, r, chunks);
    for (int64_t i = 0; i < chunks; i++)
        sum += partial[i];
    double norm = sqrt(sum);
    if (!isfinite(norm) && r->k->real_size == sizeof(double))
        norm = norm_of_large(r->ctx->grads, r->net->n_params);
    return !isfinite(norm) ? (double)NAN : norm > clip_norm ? clip_norm / norm : 1;
}

/* The chunks of columns of all ops are numbered consecutively, as in slices_chunk. */
static void columns_chunk(void *arg, int64_t chunk, int32_t worker) {
    const run *r = arg;
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
                            j0, at_most(j0 + FM_NORM_COLUMNS, op->n_out), r->hyper[1].max_norm);
        return;
    }
}

static void average_chunk(void *arg, int64_t chunk, int32_t worker) {
    const run *r = arg;
    const int64_t first = chunk * UPDATE_CHUNK;
    (void)worker;
    average_range(r, first, at_most(UPDATE_CHUNK, r->net->n_params - first));
}

/* Shrinks columns to max_norm once all parameters have moved, and updates the average
 * afterwards. */
static void limit_norms(fm_team *team, run *r) {
    int64_t chunks = 0;
    if (!isfinite(r->hyper[1].max_norm))
        return;
    for (int64_t i = 0; i < r->net->n_ops; i++) {
        const fm_op *op = &r->net->ops[i];
        if (r->k->ops[op->kind].sizes(op).n_weights)
            chunks += chunks_of(op->n_out, FM_NORM_COLUMNS);
    }
    fm_team_run(team, columns_chunk, r, chunks);
    if (r->average_share > 0)
        fm_team_run(team, average_chunk, r, chunks_of(r->net->n_params, UPDATE_CHUNK));
}

fm_hyper fm_at_rates(fm_hyper hyper, const double *rates) {
    hyper.lr = rates[0];
    if (!isnan(rates[1]))
        hyper.momentum = hyper.beta1 = rates[1]; /* an optimizer reads only one of them */
    return hyper;
}

static void begin_step(const fm_team *team, run *r, const fm_hyper *hyper, int64_t t,
                       double grad_scale) {
    r->average_share = average_share(hyper, r->ctx, t);
    r->update_finite = 1;
    r->hyper[1] = settings_of_step(hyper, r->ctx, r->optimizer, t, grad_scale);
    r->hyper[1].is_shared = fm_team_size(team) > 1;
    r->hyper[0] = not_decayed(&r->hyper[1]);
}

/* Takes back the counters of a step whose update was not finite: the step does not count. */
static void forget_step(fm_ctx *ctx, const fm_ctx *before) {
    memcpy(ctx->running, before->running, sizeof ctx->running);
    ctx->n_averaged = before->n_averaged;
}

typedef struct {
    run *r;
    const fm_hyper *hyper;
    int64_t t;
} update_job;

static void drive_update(fm_team *team, void *arg) {
    const update_job *job = arg;
    const double clip = job->hyper->clip_norm;
    const double scale = isfinite(clip) ? clipped_share(team, job->r, clip) : 1;
    if (!isfinite(scale))
        return;
    begin_step(team, job->r, job->hyper, job->t, scale);
    update_all(team, job->r);
    limit_norms(team, job->r);
}

int32_t fm_update(const fm_net *net, const fm_kernels *k, fm_ctx *ctx, int32_t optimizer,
                  const fm_hyper *hyper, int64_t t, int32_t threads) {
    run r = {.net = net, .k = k, .ctx = ctx, .optimizer = optimizer};
    update_job job = {.r = &r, .hyper = hyper, .t = t};
    const fm_ctx before = *ctx;
    fm_parallel(useful_threads(net, 8, threads), drive_update, &job);
    if (!r.update_finite)
        forget_step(ctx, &before);
    return r.update_finite;
}

/* ---- loss ------------------------------------------------------------------------------------ */

/* The sum in eight interleaved chains: short chains, and an order that depends on n alone. */
static double sum(const double *x, int64_t n) {
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            lane[j] += x[i + j];
    for (int j = 0; i < n; i++, j++)
        lane[j] += x[i];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

int64_t fm_target_columns(int32_t loss, const fm_loss_settings *settings, int64_t n_out) {
    const fm_loss_info *info = &fm_loss_infos[loss];
    if (info->labels)
        return 1;
    const int64_t per_column = info->per_column ? info->per_column : settings->n_quantiles;
    return per_column > 0 && n_out % per_column == 0 ? n_out / per_column : 0;
}

const int64_t *fm_ignored_label(const fm_loss_settings *settings) {
    return settings->ignores ? &settings->ignored : NULL;
}

int64_t fm_counted_rows(int32_t loss, const fm_loss_settings *settings, const void *target,
                        const int64_t *order, int64_t n) {
    const int64_t *labels = target;
    int64_t counted = 0;
    if (!settings->ignores || !fm_loss_infos[loss].labels)
        return n;
    for (int64_t i = 0; i < n; i++)
        counted += __atomic_load_n(&labels[order ? order[i] : i], __ATOMIC_RELAXED) !=
                   settings->ignored; /* another thread may write to them at any moment */
    return counted;
}

/* Outputs whose losses are computed before a signal may be seen, and the work that one takes. */
enum {
    LOSS_OUTPUTS = 65536,
    LOSS_WORK = 256
};

/* A mean over no rows divides by 1, since its sum is 0. */
static double divisor_of(const fm_loss_settings *settings, int64_t counted) {
    return settings->sum || counted < 1 ? 1 : (double)counted;
}

static APART double loss_of_rows(const fm_kernels *k, int32_t loss,
                                 const fm_loss_settings *settings, double *row_loss, void *dz,
                                 const void *z, const void *target, const double *weights,
                                 int64_t n, int64_t n_out, const fm_poll *poll) {
    const double divisor = divisor_of(settings, fm_counted_rows(loss, settings, target, NULL, n));
    const int64_t columns = fm_target_columns(loss, settings, n_out);
    const int64_t size = fm_loss_infos[loss].labels ? (int64_t)sizeof(int64_t) : k->real_size;
    const int64_t rows_at_once = LOSS_OUTPUTS / n_out + 1;
    double work = 0;
    for (int64_t r = 0; r < n; r += rows_at_once) {
        const int64_t rows = at_most(rows_at_once, n - r);
        void *own_dz = dz ? plus(dz, r * n_out, k) : NULL;
        k->losses[loss](row_loss + r, own_dz, plus(z, r * n_out, k),
                        (const char *)target + r * columns * size, NULL, 1 / divisor, rows, n_out,
                        settings);
        if (weights)
            k->weigh_rows(row_loss + r, own_dz, weights + r, NULL, rows, n_out);
        work += LOSS_WORK * (double)(rows * n_out);
        if (fm_ask_after(poll, &work))
            return NAN;
    }
    return sum(row_loss, n) / divisor;
}

double fm_loss(const fm_kernels *k, int32_t loss, const fm_loss_settings *settings,
               double *row_loss, void *dz, const void *z, const void *target, const double *weights,
               int64_t n, int64_t n_out, const fm_poll *poll) {
    const uint32_t mode = default_mode();
    const double value =
        loss_of_rows(k, loss, settings, row_loss, dz, z, target, weights, n, n_out, poll);
    restore_mode(mode);
    return value;
}

static double now(void) { return 1e-9 * (double)now_ns(); }

/* ---- predict --------------------------------------------------------------------------------- */

/* Every worker has its own block of activations, so memory grows with the threads
 * and not with the rows. */
static void predict_chunk(void *arg, int64_t chunk, int32_t worker) {
    const run *r = arg;
    const int64_t n_out = last_op(r->net)->n_out;
    const int64_t first = r->first + chunk * r->rows_per_chunk;
    fm_ctx c = *r->ctx;
    c.acts = plus(c.acts, worker * r->net->acts_width * c.capacity, r->k);
    c.x = plus(c.x, first * r->net->ops[0].n_in, r->k);
    c.rows = at_most(r->rows_per_chunk, c.rows - first);
    forward_rows(r->net, r->k, &c, 0, c.rows);
    memcpy(plus(r->out, first * n_out, r->k), fm_output(r->net, r->k, &c),
           (size_t)(c.rows * n_out * r->k->real_size));
}

static void predict_in_one_block(fm_team *team, run *r) {
    forward_by_layers(team, r);
    memcpy(r->out, fm_output(r->net, r->k, r->ctx),
           (size_t)(r->ctx->rows * last_op(r->net)->n_out * r->k->real_size));
}

/* Runs rounds as long as the way, alone or together, stays the same. */
static void drive_predict(fm_team *team, void *arg) {
    run *r = arg;
    const int32_t alone = r->pace->alone;
    do {
        const int64_t rows = at_most(r->batch_rows, r->ctx->rows - r->first);
        if (r->in_one_block)
            predict_in_one_block(team, r);
        else
            fm_team_run(team, predict_chunk, r, chunks_of(rows, r->rows_per_chunk));
        r->first += rows;
        const double before = r->now;
        r->now = now();
        if (rows == r->batch_rows) /* the last round may be short */
            fm_pace_step(r->pace, 1e9 * r->now, 1e9 * (r->now - before));
    } while (r->first < r->ctx->rows && r->now < r->end && r->pace->alone == alone);
}

int64_t fm_predict(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, void *out,
                   int64_t first, int32_t threads, double seconds, fm_pace *pace) {
    fm_ctx c = *ctx;
    c.training = 0;
    run r = {.net = net, .k = k, .ctx = &c, .out = out, .first = first, .pace = pace};
    r.rows_per_chunk = c.capacity;
    threads = useful_threads(net, ctx->rows, threads);
    r.in_one_block = c.rows <= c.capacity && by_layers(net, &c, threads);
    if (!r.in_one_block)
        threads = (int32_t)at_most(threads, chunks_of(c.rows, c.capacity));
    r.batch_rows = at_most(PREDICT_CHUNKS * c.capacity * threads, c.rows);
    r.now = now();
    r.end = r.now + seconds;
    while (r.first < c.rows && (r.now < r.end || r.first == first))
        fm_parallel(fm_pace_alone(pace, threads, r.batch_rows) ? 1 : threads, drive_predict, &r);
    return r.first;
}

void fm_predict_row(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, void *out) {
    fm_ctx c = *ctx;
    c.training = 0;
    c.rows = c.capacity = 1;
    const uint32_t mode = default_mode();
    forward_rows(net, k, &c, 0, 1);
    restore_mode(mode);
    memcpy(out, fm_output(net, k, &c), (size_t)(last_op(net)->n_out * k->real_size));
}

/* ---- train ----------------------------------------------------------------------------------- */

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
static void ask_for_targets(const run *r, int64_t r0, int64_t r1) {
    const fm_train_job *job = r->job;
    const int64_t n_out = last_op(r->net)->n_out;
    const int64_t columns = fm_target_columns(job->loss, &job->loss_settings, n_out);
    const int64_t bytes =
        fm_loss_infos[job->loss].labels ? (int64_t)sizeof(int64_t) : columns * r->k->real_size;
    const int64_t *order = job->order + job->position + r->ctx->first_row;
    for (int64_t i = r0; i < r1; i++)
        __builtin_prefetch((const char *)job->target + order[i] * bytes);
}

static void gather(const run *r, int64_t r0, int64_t r1) {
    const fm_train_job *job = r->job;
    const int64_t bytes = r->net->ops[0].n_in * r->k->real_size;
    if (!job->order)
        return;
    const int64_t *order = job->order + job->position + r->ctx->first_row;
    const char *x = job->x;
    char *batch = job->batch;
    ask_for_targets(r, r0, r1);
    for (int64_t i = r0; i < r1; i++)
        copy_row(batch + i * bytes, x + order[i] * bytes, x + order[i + 1 < r1 ? i + 1 : i] * bytes,
                 bytes);
}

/* Loss of rows [r0, r1) of the block. z and dz hold their outputs and the gradients of these, one
 * row behind the other. */
static void loss_of_outputs(const run *r, int64_t r0, int64_t r1, const void *z, void *dz) {
    const fm_train_job *job = r->job;
    const fm_kernels *k = r->k;
    const int64_t n_out = last_op(r->net)->n_out, in_batch = r->ctx->first_row + r0;
    const int64_t first = job->position + in_batch;
    const int64_t *order = job->order ? job->order + first : NULL;
    const fm_loss_settings *settings = &job->loss_settings;
    const int64_t columns = fm_target_columns(job->loss, settings, n_out);
    const void *target = order                             ? job->target
                         : fm_loss_infos[job->loss].labels ? (const int64_t *)job->target + first
                                                           : plus(job->target, first * columns, k);
    double *row_loss = job->row_loss + in_batch;
    k->losses[job->loss](row_loss, dz, z, target, order,
                         1.0 / divisor_of(settings, r->counted_rows), r1 - r0, n_out, settings);
    if (job->weights)
        k->weigh_rows(row_loss, dz, order ? job->weights : job->weights + first, order, r1 - r0,
                      n_out);
    if (job->outputs)
        for (int64_t i = 0; i < r1 - r0; i++)
            copy_short(plus(job->outputs, (order ? order[i] : first + i) * n_out, k),
                       plus(z, i * n_out, k), n_out * k->real_size);
}

static void batch_loss(const run *r, int64_t r0, int64_t r1) {
    const int64_t first = r0 * last_op(r->net)->n_out;
    loss_of_outputs(r, r0, r1, plus(fm_output(r->net, r->k, r->ctx), first, r->k),
                    plus(fm_output_grad(r->net, r->k, r->ctx), first, r->k));
}

/* ---- the rows of a small net, in panels ------------------------------------------------------ */

static void gather_panels(const run *r, int64_t r0, int64_t r1) {
    const fm_train_job *job = r->job;
    const int64_t n_in = r->net->ops[0].n_in, first = job->position + r->ctx->first_row + r0;
    if (job->order)
        ask_for_targets(r, r0, r1);
    r->k->panels_of_rows(plus(job->batch, r0 * n_in, r->k),
                         job->order ? job->x : plus(job->x, first * n_in, r->k),
                         job->order ? job->order + first : NULL, r1 - r0, n_in);
}

#define LOSS_ELEMENTS (32 * FM_NARROW) /* elements of either type: at least one panel */

/* A loss goes along a row, so outputs are turned from panels into rows, and
 * their gradients back. */
static void panel_loss(const run *r, int64_t r0, int64_t r1) {
    double z[LOSS_ELEMENTS], dz[LOSS_ELEMENTS];
    const int64_t n_out = last_op(r->net)->n_out;
    const int64_t most = LOSS_ELEMENTS / n_out / r->panels * r->panels;
    for (int64_t rows; r0 < r1; r0 += rows) {
        rows = at_most(most, r1 - r0);
        r->k->rows_of_panels(z, plus(fm_output(r->net, r->k, r->ctx), r0 * n_out, r->k), rows,
                             n_out);
        loss_of_outputs(r, r0, r0 + rows, z, dz);
        r->k->panels_of_rows(plus(fm_output_grad(r->net, r->k, r->ctx), r0 * n_out, r->k), dz, NULL,
                             rows, n_out);
    }
}

/* The same as train_chunk, in panels. */
static void panels_chunk(void *arg, int64_t chunk, int32_t worker) {
    const run *r = arg;
    const fm_op *first = r->net->ops, *end = first + r->net->n_ops;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(r, chunk, &r0, &r1);
    fm_area area = {r0, round_up(r1, r->panels), 0, 0};
    PROFILED(GATHER, 0, gather_panels(r, r0, r1));
    for (const fm_op *op = first; op < end; op++) {
        area.j1 = op->n_out;
        PROFILED(FORWARD, op - first, r->k->ops[op->kind].panel_forward(op, r->ctx, area));
    }
    PROFILED(LOSS, 0, panel_loss(r, r0, r1));
    for (const fm_op *op = end - 1; op >= first; op--) {
        area.j1 = op->n_out;
        if (r->k->ops[op->kind].slope)
            r->k->ops[op->kind].slope(op, r->ctx, area);
        area.j1 = op->n_in;
        PROFILED(BACKWARD, op - first, r->k->ops[op->kind].panel_backward(op, r->ctx, area));
    }
}

/* ---- the rows of other nets ------------------------------------------------------------------ */

/* Takes a chunk of rows of the mini-batch the whole way: gather, forward, loss, backward. */
static void train_chunk(void *arg, int64_t chunk, int32_t worker) {
    const run *r = arg;
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(r, chunk, &r0, &r1);
    PROFILED(GATHER, 0, gather(r, r0, r1));
    forward_rows(r->net, r->k, r->ctx, r0, r1);
    PROFILED(LOSS, 0, batch_loss(r, r0, r1));
    backward_rows(r->net, r->k, r->ctx, r0, r1);
}

static void gather_chunk(void *arg, int64_t chunk, int32_t worker) {
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(arg, chunk, &r0, &r1);
    gather(arg, r0, r1);
}

static void loss_chunk(void *arg, int64_t chunk, int32_t worker) {
    int64_t r0, r1;
    (void)worker;
    rows_of_chunk(arg, chunk, &r0, &r1);
    batch_loss(arg, r0, r1);
}

/* The same for all rows of the block, layer by layer. */
static void train_by_layers(fm_team *team, run *r) {
    all_rows(team, r, gather_chunk);
    forward_by_layers(team, r);
    all_rows(team, r, loss_chunk);
    backward_by_layers(team, r);
}

/* Sets ctx->x to the block of the mini-batch: ctx->rows rows from ctx->first_row on. */
static void place_block(run *r) {
    const fm_train_job *job = r->job;
    fm_ctx *c = r->ctx;
    c->x = job->order || r->panels
               ? job->batch
               : plus(job->x, (job->position + c->first_row) * r->net->ops[0].n_in, r->k);
}

/* Sums all gradients. `optimizer` -1: without the update of each. */
static void sum_gradients(fm_team *team, run *r, int32_t optimizer) {
    r->optimizer = optimizer;
    all_slices(team, r);
}

/* Forward, loss and backward of all rows, block by block. The gradients of the last block are left
 * to the caller. */
static void train_rows(fm_team *team, run *r) {
    fm_ctx *c = r->ctx;
    const int64_t block = fm_block_rows(r->net, r->k, r->batch_rows, fm_team_size(team), c->blas);
    for (c->first_row = 0;; c->first_row += block) {
        c->rows = at_most(block, r->batch_rows - c->first_row);
        const int layers =
            by_layers(r->net, c, fm_team_size(team)) || has_whole_columns(r->net, r->k);
        if (c->rows != r->known_rows)
            r->in_panels = fm_in_panels(r->net, r->k, c);
        r->known_rows = c->rows;
        r->panels = !layers && r->in_panels ? r->k->panel_rows : 0;
        place_block(r);
        if (layers)
            train_by_layers(team, r);
        else
            all_rows(team, r, r->panels ? panels_chunk : train_chunk);
        if (c->first_row + c->rows == r->batch_rows)
            return;
        sum_gradients(team, r, -1);
    }
}

/* Sums the gradients of the last block, and updates. All gradients come first if their norm is
 * needed, or if they take so long that Ctrl-C must be able to break them off. Returns 0 if
 * nothing was updated. */
static int update_batch(fm_team *team, run *r, const fm_hyper *hyper) {
    const fm_train_job *job = r->job;
    const int clips = isfinite(hyper->clip_norm);
    const int apart = clips || r->ctx->rows * r->net->n_params >= SLOW_WORK;
    double scale = 1;
    if (apart)
        sum_gradients(team, r, -1);
    if (was_broken_off(team, r))
        return 0;
    if (clips)
        scale = clipped_share(team, r, hyper->clip_norm);
    if (!isfinite(scale))
        return 0;
    r->optimizer = job->optimizer;
    begin_step(team, r, hyper, job->t + 1, scale);
    if (apart)
        update_all(team, r);
    else
        all_slices(team, r);
    limit_norms(team, r);
    return 1;
}

/* The number of rows of the mini-batch whose label is not ignored. */
static int64_t counted_rows(const run *r) {
    const fm_train_job *job = r->job;
    const int64_t first = job->position;
    const void *target = job->target;
    if (!job->loss_settings.ignores)
        return r->batch_rows;
    return fm_counted_rows(job->loss, &job->loss_settings,
                           job->order ? target : (const int64_t *)target + first,
                           job->order ? job->order + first : NULL, r->batch_rows);
}

static void train_batch(fm_team *team, run *r) {
    fm_train_job *job = r->job;
    fm_ctx *c = r->ctx;
    const fm_ctx before = *c;
    const double *rates = job->rates;
    const fm_hyper hyper =
        rates ? fm_at_rates(job->hyper, rates + 2 * (job->t - r->first_t)) : job->hyper;
    r->batch_rows = at_most(job->batch_size, job->n - job->position);
    r->counted_rows = counted_rows(r);
    may_break_off(team, r, r->batch_rows);
    train_rows(team, r);
    const double loss_sum = sum(job->row_loss, r->batch_rows);
    const int is_updated =
        !fm_team_broken_off(team) && isfinite(loss_sum) && update_batch(team, r, &hyper);
    job->broken_off = was_broken_off(team, r);
    c->first_row = 0;
    if (!is_updated) {
        clear_gradients(r);
        job->finite = job->broken_off;
        return;
    }
    job->finite = r->update_finite;
    if (!job->finite) {
        forget_step(c, &before);
        return;
    }
    keep_stats(r);
    job->loss_sum += loss_sum;
    job->position += r->batch_rows;
    job->counted += r->counted_rows;
    job->t++;
    c->draw++;
}

/* Takes steps as long as the way, alone or together, stays the same. */
static void drive_train(fm_team *team, void *arg) {
    run *r = arg;
    fm_train_job *job = r->job;
    fm_pace *pace = &r->ctx->pace;
    const int32_t alone = pace->alone;
    do {
        train_batch(team, r);
        const double before = r->now;
        r->now = now();
        fm_pace_step(pace, 1e9 * r->now, 1e9 * (r->now - before));
    } while (job->finite && !job->broken_off && job->position < job->n && r->now < r->end &&
             pace->alone == alone);
}

static APART void train_by_pace(run *r, int32_t threads) {
    fm_train_job *job = r->job;
    r->now = now();
    r->end = r->now + job->seconds;
    while (job->finite && !job->broken_off && job->position < job->n &&
           (r->now < r->end || job->t == r->first_t)) {
        const int32_t alone = fm_pace_alone(&r->ctx->pace, threads, job->batch_size);
        fm_parallel(alone ? 1 : threads, drive_train, r);
    }
}

void fm_train(const fm_net *net, const fm_kernels *k, fm_ctx *ctx, fm_train_job *job,
              int32_t threads) {
    run r = {.net = net, .k = k, .ctx = ctx, .job = job, .optimizer = job->optimizer};
    r.first_t = job->t;
    job->finite = 1;
    job->broken_off = 0;
    const uint32_t mode = default_mode(); /* reading the clock sets flags too */
    train_by_pace(&r, useful_threads(net, job->batch_size, threads));
    restore_mode(mode);
}

/* ---- the rest -------------------------------------------------------------------------------- */

void fm_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch) {
    const uint64_t key = fm_key(seed, epoch, 0);
    for (int64_t i = n - 1; i > 0; i--) {
        const uint64_t random = fm_mix64(key ^ (uint64_t)i);
        const int64_t j = (int64_t)(((unsigned __int128)random * (uint64_t)(i + 1)) >> 64);
        const int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

int64_t fm_first_bad_label(const int64_t *labels, int64_t n, int64_t n_classes,
                           const int64_t *ignored) {
    for (int64_t i = 0; i < n; i++)
        if ((labels[i] < 0 || labels[i] >= n_classes) && !(ignored && labels[i] == *ignored))
            return i;
    return -1;
}

int32_t fm_try_lock(int32_t *lock) { return __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0; }
void fm_unlock(int32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }
