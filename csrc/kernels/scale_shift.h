/* Scale and shift of a normalization: y = xhat scale + shift.
 *
 * Those that the op has stand one behind the other among the biases. It lacks those whose bits are
 * set in its variant: what is missing is 1 or 0, with the bits that an array of these would give.
 */
#ifndef FASTMLP_SCALE_SHIFT_H
#define FASTMLP_SCALE_SHIFT_H

#include "real.h"

/* Of parameters or gradients; NULL: the op lacks it */
typedef struct {
    real *scale, *shift;
} scale_shift;

/* Whether the variant is one; what reads it below trusts it. */
static int is_scale_shift(const fm_op *op) {
    return op->variant >= 0 && op->variant <= (FM_LACKS_SCALE | FM_LACKS_SHIFT);
}

static int64_t n_scale_shift(const fm_op *op) {
    return !(op->variant & FM_LACKS_SCALE) + !(op->variant & FM_LACKS_SHIFT);
}

INLINE scale_shift scale_shift_of(const fm_op *op, void *flat) {
    real *next = op->b < 0 ? NULL : (real *)flat + op->b;
    scale_shift own = {NULL, NULL};
    if (!(op->variant & FM_LACKS_SCALE)) {
        own.scale = next;
        next += op->n_out;
    }
    if (!(op->variant & FM_LACKS_SHIFT))
        own.shift = next;
    return own;
}

/* Columns j ... before `end` */
INLINE vec scale_at(const real *scale, int64_t j, int64_t end) {
    return scale ? load_rest(scale, j, end) : splat(1);
}
INLINE vec shift_at(const real *shift, int64_t j, int64_t end) {
    return shift ? load_rest(shift, j, end) : (vec){0};
}

#endif
