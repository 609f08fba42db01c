/* The optimizer's step on weights as soon as a panel of their gradient is there.
 *
 * The gradient is then still in the cache, and while it was multiplied, which leaves the memory
 * idle, the weights and the optimizer's state have been prefetched: two threads, whose weights come
 * from each other's caches, gain most (docs/decisions.md). */
#ifndef FASTMLP_WEIGHT_STEP_H
#define FASTMLP_WEIGHT_STEP_H

#include "real.h"

/* A pass over rows of one W, whose gradient panels come in any order, each once */
typedef struct weight_step {
    int32_t (*take)(const struct weight_step *step, int64_t first, int64_t rows, int64_t width);
    const fm_hyper *hyper;
    real *params, *grads;
    void *states[FM_MAX_STATES];
    int32_t n_states;
    int64_t row;    /* elements from one row of W to the next */
    int32_t finite; /* 0 once some new value was not */
} weight_step;

/* `rows` x `width` weights whose gradient begins at g */
static void take_step(weight_step *step, const real *g, int64_t rows, int64_t width) {
    step->finite &= step->take(step, g - step->grads, rows, width);
}

#endif
