/* How work is cut: into blocks, chunks, areas and panels, and for how many threads. Everything here
 * is arithmetic on sizes. */

#include "cut.h"

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
#define TURNING 6               /* multiply-adds that take as long as turning an element */
#define BLOCK_THREADS 8         /* threads that find enough to do in FM_CHAIN rows */

int64_t fm_rows_per_chunk(const fm_ctx *ctx, int32_t threads) {
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

int64_t fm_slices_per_chunk(const fm_net *net, const fm_ctx *ctx, int32_t threads, const fm_op *op,
                            const fm_sizes *s) {
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

/* With FEW_ROWS rows per thread at least half of the threads would have none, and a layer is worth
 * a barrier. */
int fm_by_layers(const fm_net *net, const fm_ctx *ctx, int32_t threads) {
    const int64_t work = ctx->rows * net->n_params / net->n_ops;
    return !ctx->blas && 2 * chunks_of(ctx->rows, FEW_ROWS) <= threads && work >= LAYER_WORK;
}

int fm_has_whole_columns(const fm_net *net, const fm_kernels *k) {
    for (const fm_op *op = net->ops; op < net->ops + net->n_ops; op++)
        if (k->ops[op->kind].whole == FM_WHOLE_columns)
            return 1;
    return 0;
}

int32_t fm_useful_threads(const fm_net *net, int64_t rows, int32_t threads) {
    const int64_t work = (net->n_params + net->acts_width) * at_most(rows, (int64_t)1 << 32);
    return (int32_t)at_least(1, at_most(threads, work / THREAD_WORK));
}

/* Rows of a block of a mini-batch. Sums over rows begin anew every FM_CHAIN rows, so a
 * mini-batch may go in blocks of so many and keep its bits. With a BLAS the bits depend on the
 * cut, which is therefore always the same. The activations of a block stay in the cache until
 * its gradients are summed. */
int64_t fm_block_rows(const fm_net *net, const fm_kernels *k, int64_t rows, int32_t threads,
                      int32_t blas) {
    const int64_t block = FM_CHAIN * (blas ? 1 : chunks_of(threads, BLOCK_THREADS));
    return rows <= block || fm_has_whole_columns(net, k) ? rows : block;
}

int64_t fm_rows_per_area(const fm_ctx *ctx, int32_t whole, int32_t threads) {
    if (whole == FM_WHOLE_columns)
        return ctx->rows;
    const int64_t rows = fm_rows_per_chunk(ctx, threads);
    return whole == FM_WHOLE_rows || ctx->blas ? rows : at_least(rows, LAYER_ROWS);
}

int64_t fm_columns_per_area(const fm_ctx *ctx, int32_t whole, int32_t threads, int64_t width,
                            int64_t down) {
    const int is_uncut = whole == FM_WHOLE_rows || (ctx->blas && whole == FM_WHOLE_nothing);
    return round_up(chunks_of(width, is_uncut ? 1 : chunks_of(threads, down)), COLUMN_STEP);
}
