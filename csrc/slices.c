/* Gradients of the parameters, by slices. In training each is followed at once by its update, while
 * it is in the cache. */

#include "profile.h"
#include "run.h"

typedef struct {
    const fm_run *run;
    fm_step *step; /* NULL: no update */
    int32_t threads;
} slices_run;

static int64_t chunk_size(const slices_run *s, const fm_op *op, const fm_sizes *sizes) {
    return fm_slices_per_chunk(s->run->net, s->run->ctx, s->threads, op, sizes);
}

/* Sums slices [i0, i1) of an op's gradient, and updates their parameters if there is a step. */
static void do_slices(const fm_run *r, fm_step *step, const fm_op *op, const fm_sizes *s,
                      int64_t i0, int64_t i1) {
    const fm_op_kernels *kernels = &r->k->ops[op->kind];
    PROFILED(PARAM_GRAD, op - r->net->ops,
             (r->panels ? kernels->panel_param_grad : kernels->param_grad)(op, r->ctx, i0, i1));
    if (!step)
        return;
    if (s->n_weights == 0) { /* arrays of n_slices elements, one behind the other */
        for (int64_t first = 0; first < s->n_biases; first += s->n_slices)
            fm_update_range(r, step, op->b + first + i0, i1 - i0, 0);
        return;
    }
    const int64_t per_slice = s->n_weights / s->n_slices;
    PROFILED(UPDATE, op - r->net->ops,
             fm_update_range(r, step, op->w + i0 * per_slice, (i1 - i0) * per_slice, 1));
    if (i0 == 0 && s->n_biases)
        fm_update_range(r, step, op->b, s->n_biases, 0);
}

/* The chunks of all ops are numbered consecutively: finds the op of `chunk`. */
static void slices_chunk(void *arg, int64_t chunk, int32_t worker) {
    const slices_run *s = arg;
    (void)worker;
    for (const fm_op *op = s->run->net->ops;; op++) {
        const fm_sizes sizes = s->run->k->ops[op->kind].sizes(op);
        if (sizes.n_slices == 0)
            continue;
        const int64_t size = chunk_size(s, op, &sizes);
        const int64_t chunks = chunks_of(sizes.n_slices, size), i0 = chunk * size;
        if (chunk < chunks) {
            do_slices(s->run, s->step, op, &sizes, i0, at_most(i0 + size, sizes.n_slices));
            return;
        }
        chunk -= chunks;
    }
}

void fm_all_slices(fm_team *team, const fm_run *r, fm_step *step) {
    slices_run s = {.run = r, .step = step, .threads = fm_team_size(team)};
    int64_t chunks = 0;
    for (const fm_op *op = r->net->ops; op < r->net->ops + r->net->n_ops; op++) {
        const fm_sizes sizes = r->k->ops[op->kind].sizes(op);
        if (sizes.n_slices)
            chunks += chunks_of(sizes.n_slices, chunk_size(&s, op, &sizes));
    }
    fm_team_run(team, slices_chunk, &s, chunks);
}
