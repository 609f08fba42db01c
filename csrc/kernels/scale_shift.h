/* Scale and shift of a normalization: y = xhat scale + shift.
 *
 * Scale and shift stand one behind the other among the biases. A bit of the op's variant says that
 * one is missing. A missing scale counts as 1, a missing shift as 0, and the result has the bits
 * that an array of these would give.
 */
#ifndef FASTMLP_SCALE_SHIFT_H
#define FASTMLP_SCALE_SHIFT_H

#include "real.h"

/* Scale and shift among parameters or gradients. NULL means that the op lacks it. */
typedef struct {
    real *scale, *shift;
} scale_shift;

/* Whether the variant is valid. The functions below rely on it. */
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

/* Both return the columns from j on, before `end`. */
INLINE vec scale_at(const real *scale, int64_t j, int64_t end) {
    return scale ? load_rest(scale, j, end) : splat(1);
}
INLINE vec shift_at(const real *shift, int64_t j, int64_t end) {
    return shift ? load_rest(shift, j, end) : (vec){0};
}

#endif
