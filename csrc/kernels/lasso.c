/* Coordinate descent on 1/2 w^T G w - c^T w + l1 |w|_1. The products of columns are kept
 * ("covariance updates": Friedman, Hastie, Tibshirani 2010, section 2.2). */

#include <float.h>

#include "../float_mode.h"
#include "real.h"

INLINE real magnitude(real a) { return a < 0 ? -a : a; }

/* By how much w_j violates its condition for a minimum (Karush, Kuhn, Tucker). */
static real violation(real w, real slope, real l1) {
    return w > 0 ? magnitude(slope - l1) : w < 0 ? magnitude(slope + l1) : magnitude(slope) - l1;
}

/* The w_j of the smallest cost while all others stay: soft thresholding. An excess over l1 that is
 * no larger than a rounding error counts as none. */
static real thresholded(real pull, real l1, real curvature) {
    const real beyond = magnitude(pull) - l1;
    if (!(beyond > 4 * (FM_DOUBLE ? (real)DBL_EPSILON : (real)FLT_EPSILON) * l1))
        return 0;
    return (pull > 0 ? beyond : -beyond) / curvature;
}

#define STREAMED 8 /* cached multiply-adds in the time of one from memory */

/* Sweeps over w (n), for a symmetric G (n, n), until every condition holds within allowed (n), but
 * at most `most` times. slope (n) = c - G w follows every change of w. Returns the number of
 * sweeps, or FM_BROKEN_OFF. */
static APART int64_t sweeps(real *restrict w, real *restrict slope, const real *G,
                            const real *allowed, double l1_, int64_t n, int64_t most,
                            const fm_poll *poll) {
    const real l1 = (real)l1_;
    double work = 0;
    for (int64_t sweep = 1; sweep <= most; sweep++) {
        for (int64_t j = 0; j < n; j++) {
            const real *restrict g = G + j * n;
            if (!(g[j] > 0)) /* 0 if the square of a tiny column has underflowed */
                continue;
            const real new = thresholded(slope[j] + g[j] * w[j], l1, g[j]), change = new - w[j];
            if (change == 0)
                continue;
            for (int64_t i = 0; i < n; i++)
                slope[i] -= change * g[i];
            w[j] = new;
            work += STREAMED * (double)n;
            if (fm_ask_after(poll, &work))
                return FM_BROKEN_OFF;
        }
        int64_t j = 0;
        while (j < n && violation(w[j], slope[j], l1) <= allowed[j])
            j++;
        if (j == n)
            return sweep;
    }
    return most;
}

static int64_t lasso_sweeps(void *w, void *slope, const void *G, const void *allowed, double l1,
                            int64_t n, int64_t most, const fm_poll *poll) {
    const uint32_t mode = default_mode();
    const int64_t taken = sweeps(w, slope, G, allowed, l1, n, most, poll);
    restore_mode(mode);
    return taken;
}
