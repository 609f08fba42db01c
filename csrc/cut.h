/* How work is cut (cut.c). */
#ifndef FASTMLP_CUT_H
#define FASTMLP_CUT_H

#include "fastmlp.h"

static inline int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t chunks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }
static inline int64_t round_up(int64_t n, int64_t step) { return chunks_of(n, step) * step; }

static inline const fm_op *last_op(const fm_net *net) { return &net->ops[net->n_ops - 1]; }

/* Rows of a chunk if every chunk takes its rows through all ops. */
int64_t fm_rows_per_chunk(const fm_ctx *ctx, int32_t threads);

/* Slices of an op's parameter gradient in one chunk. */
int64_t fm_slices_per_chunk(const fm_net *net, const fm_ctx *ctx, int32_t threads, const fm_op *op,
                            const fm_sizes *s);

/* Rows of an area of an op, which must hold `whole` (FM_WHOLE_*). */
int64_t fm_rows_per_area(const fm_ctx *ctx, int32_t whole, int32_t threads);

/* Columns of an area in a matrix of `width` columns that is cut into `down` areas by its rows. */
int64_t fm_columns_per_area(const fm_ctx *ctx, int32_t whole, int32_t threads, int64_t width,
                            int64_t down);

/* Whether the rows go layer by layer because there are too few for the threads. */
int fm_by_layers(const fm_net *net, const fm_ctx *ctx, int32_t threads);

/* Whether some op needs all rows of its columns: the net then goes layer by layer, in training and
 * on the way back. */
int fm_has_whole_columns(const fm_net *net, const fm_kernels *k);

#endif
