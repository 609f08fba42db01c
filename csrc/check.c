/* Validates a program: every op has the widths of its neighbors, and no op touches memory outside
 * of the buffers or memory of another op. A program that passes may run on any numbers. */

#include <stddef.h>

#include "fastmlp.h"

#define MAX_OPS 4096
#define MAX_ELEMENTS ((int64_t)1 << 56) /* sums and byte counts then stay far below 2^63 */

static int inside(int64_t offset, int64_t n, int64_t first, int64_t end) {
    return offset >= first && n <= end - first && offset <= end - n;
}

/* Offsets at which free space begins in each buffer. */
typedef struct {
    int64_t weights, biases, acts, dacts, stats;
} free_space;

/* Whether an op and the partner whose buffers it reads name each other and have one width. The
 * partner may then read the same columns of the op's buffers that the op itself may use. */
static int partners_match(const fm_net *net, const fm_kernels *k, int64_t i, const fm_sizes *s) {
    const int64_t j = i + s->partner;
    if (s->partner == 0)
        return 1;
    if (j < 0 || j >= net->n_ops || net->ops[j].kind != s->partner_kind)
        return 0;
    return k->ops[s->partner_kind].sizes(&net->ops[j]).partner == -s->partner &&
           net->ops[j].n_out == net->ops[i].n_out;
}

/* Checks one op against its predecessor and its partner. */
static fm_status check_op(const fm_net *net, const fm_kernels *k, int64_t i, free_space *from) {
    const fm_op *op = &net->ops[i], *before = i > 0 ? op - 1 : NULL;
    if (op->kind < 0 || op->kind >= FM_N_OPS)
        return FM_BAD_KIND;
    if (op->n_in < 1 || op->n_out < 1 || op->n_in > INT32_MAX || op->n_out > INT32_MAX ||
        (before && op->n_in != before->n_out))
        return FM_BAD_WIDTH;
    const fm_sizes s = k->ops[op->kind].sizes(op);
    if (s.status != FM_OK)
        return s.status;
    if (op->x != (before ? before->y : -1) || op->dx != (before ? before->dy : -1) ||
        !inside(op->y, op->n_out + s.n_kept, from->acts, net->acts_width) ||
        !inside(op->dy, op->n_out, from->dacts, net->dacts_width))
        return FM_BAD_ACTIVATION;
    if (s.n_weights ? !inside(op->w, s.n_weights, from->weights, net->n_decayed) : op->w != -1)
        return FM_BAD_PARAMETER;
    if (s.n_biases ? !inside(op->b, s.n_biases, from->biases, net->n_params) : op->b != -1)
        return FM_BAD_PARAMETER;
    if (s.n_stats ? !inside(op->s, s.n_stats, from->stats, net->n_stats) : op->s != -1)
        return FM_BAD_STATS;
    if (!partners_match(net, k, i, &s))
        return FM_BAD_PARTNER;
    from->acts = op->y + op->n_out + s.n_kept;
    from->dacts = op->dy + op->n_out;
    from->weights = s.n_weights ? op->w + s.n_weights : from->weights;
    from->biases = s.n_biases ? op->b + s.n_biases : from->biases;
    from->stats = s.n_stats ? op->s + s.n_stats : from->stats;
    return FM_OK;
}

fm_status fm_net_check(const fm_net *net, const fm_kernels *k, int64_t *bad_op) {
    *bad_op = -1;
    if (net->n_ops < 1 || net->n_ops > MAX_OPS || net->n_decayed < 0 ||
        net->n_params < net->n_decayed || net->n_params > MAX_ELEMENTS || net->acts_width < 1 ||
        net->dacts_width < 1 || net->acts_width > MAX_ELEMENTS || net->dacts_width > MAX_ELEMENTS ||
        net->n_stats < 0 || net->n_stats > MAX_ELEMENTS)
        return FM_BAD_EMPTY;
    free_space from = {.biases = net->n_decayed};
    for (int64_t i = 0; i < net->n_ops; i++) {
        const fm_status status = check_op(net, k, i, &from);
        if (status != FM_OK) {
            *bad_op = i;
            return status;
        }
    }
    return FM_OK;
}
