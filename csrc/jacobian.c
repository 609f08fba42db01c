/* The Jacobian of a network's outputs by its parameters, row by row, and its products for the
 * normal equations.
 *
 * One row of x goes forward once, and backward once for each output, through the kernels of
 * training. With a single row, the gradient that these sum over the rows is that row's own. So
 * every layer that can be trained has a Jacobian. */

#include <string.h>

#include "fastmlp.h"
#include "small.h"

#define GRAM_STEP 48 /* rows of the triangle in a chunk; whole tiles */

typedef struct {
    const fm_net *net;
    const fm_kernels *k;
    const fm_ctx *ctx;
    const fm_jacobian_job *job;
    int32_t broken_off;
} jacobian_run;

/* Sets element j of n to 1 and the others to 0. */
static void set_unit(void *dz, int64_t j, int64_t n, const fm_kernels *k) {
    const float one32 = 1;
    const double one64 = 1;
    memset(dz, 0, (size_t)(n * k->real_size));
    memcpy(plus(dz, j, k), k->real_size == sizeof one64 ? (const void *)&one64 : &one32,
           (size_t)k->real_size);
}

/* Writes the rows of the Jacobian for all outputs of one row of x. */
static void row_chunk(void *arg, int64_t row, int32_t worker) {
    const jacobian_run *r = arg;
    const fm_jacobian_job *job = r->job;
    const fm_net *net = r->net;
    const int64_t n_out = net->ops[net->n_ops - 1].n_out;
    const int64_t width = net->n_params + (job->target != NULL);
    fm_ctx c = *r->ctx;
    c.acts = plus(job->scratch, worker * (net->acts_width + net->dacts_width), r->k);
    c.dacts = plus(c.acts, net->acts_width, r->k);
    c.x = plus(job->x, row * net->ops[0].n_in, r->k);
    c.rows = c.capacity = 1;
    c.poll.ask = NULL; /* only the calling thread may ask; this may be another */
    fm_forward(net, r->k, &c, 1);
    for (int64_t j = 0; j < n_out; j++) {
        c.grads = plus(job->block, (row * n_out + j) * width, r->k);
        set_unit(fm_output_grad(net, r->k, &c), j, n_out, r->k);
        fm_backward(net, r->k, &c, 1);
        if (job->target)
            r->k->difference(plus(c.grads, net->n_params, r->k),
                             plus(fm_output(net, r->k, &c), j, r->k),
                             plus(job->target, row * n_out + j, r->k), 1);
        if (job->roots)
            r->k->scale(c.grads, plus(job->roots, row, r->k), width);
    }
}

static void gram_chunk(void *arg, int64_t chunk, int32_t worker) {
    const jacobian_run *r = arg;
    const int64_t n = r->net->n_params + 1, i0 = chunk * GRAM_STEP;
    const int64_t rows = r->job->rows * r->net->ops[r->net->n_ops - 1].n_out;
    (void)worker;
    r->k->gram(r->job->gram, n, r->job->block, n, rows, n, i0,
               n - i0 < GRAM_STEP ? n : i0 + GRAM_STEP);
}

static void drive_jacobian(fm_team *team, void *arg) {
    jacobian_run *r = arg;
    fm_team_ask(team, &r->ctx->poll);
    fm_team_run(team, row_chunk, arg, r->job->rows);
    if (r->job->gram)
        fm_team_run(team, gram_chunk, arg, r->net->n_params / GRAM_STEP + 1);
    r->broken_off = fm_team_broken_off(team);
}

int32_t fm_jacobian(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx,
                    const fm_jacobian_job *job, int32_t threads) {
    fm_ctx c = *ctx;
    c.training = 0;
    c.blas = 0; /* single rows do not pay for a BLAS */
    c.dx = NULL;
    jacobian_run r = {.net = net, .k = k, .ctx = &c, .job = job};
    fm_parallel(threads, drive_jacobian, &r);
    return !r.broken_off;
}
