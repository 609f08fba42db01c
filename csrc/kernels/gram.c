/* Normal equations: symmetric products and their Cholesky factor, as upper triangles row by row.
 *
 * The order of every element's sum is fixed (gemm_tile.h), so the bits do not depend on how
 * triangles are split over threads. They do depend on how rows come in blocks, since each block
 * begins a new chain. */

#include "../float_mode.h"
#include "gemm.h"
#include "real.h"

/* Rows [i0, i1) of the upper triangle of c (n, n) += a^T a, a (rows, n). Some elements left of the
 * diagonal in these rows are overwritten. */
static void gram(void *c_, int64_t c_row, const void *a_, int64_t a_row, int64_t rows, int64_t n,
                 int64_t i0, int64_t i1) {
    const real *a = a_;
    const tile_args t = {.a = a + i0,
                         .a_row = 1,
                         .a_step = 1,
                         .a_col = a_row,
                         .b = a + i0,
                         .b_row = a_row,
                         .c = (real *)c_ + i0 * c_row + i0,
                         .c_row = c_row,
                         .accumulate = 1,
                         .c_is_far = 1};
    const b_form form = form_of(a_row, i1 - i0, rows);
    if (falls_on_few_sets(a_row))
        transposed_product(&t, form, i1 - i0, n - i0, rows);
    else
        product(&t, form, i1 - i0, n - i0, rows);
}

/* Rows that are factored one by one before the rest of the triangle is updated */
#define FACTOR_ROWS 32
/* Rows of the triangle at a time: elements below the diagonal are wasted work. */
#define GRAM_ROWS 128

/* a (n, n) holds minus a symmetric matrix A in its upper triangle, and becomes
 * R with A = R^T R. The sign lets the rest of the triangle take += R^T R.
 *
 * Returns 1; 0 if A is not positive definite; FM_BROKEN_OFF if the poll says
 * so, with `a` half done. */
static int32_t factor(real *a, int64_t n, const fm_poll *poll) {
    double work = 0; /* multiply-adds */
    for (int64_t k0 = 0; k0 < n; k0 += FACTOR_ROWS) {
        const int64_t k1 = n - k0 < FACTOR_ROWS ? n : k0 + FACTOR_ROWS;
        for (int64_t k = k0; k < k1; k++) {
            real *restrict rk = a + k * n;
            if (!(rk[k] < 0 && rk[k] - rk[k] == 0))
                return 0;
            const real root = (real)__builtin_sqrt(-(double)rk[k]);
            for (int64_t j = k; j < n; j++)
                rk[j] /= -root;
            for (int64_t i = k + 1; i < k1; i++) {
                real *restrict ri = a + i * n;
                const real rki = rk[i];
                for (int64_t j = i; j < n; j++)
                    ri[j] += rki * rk[j];
            }
        }
        for (int64_t i = k1; i < n; i += GRAM_ROWS)
            gram(a, n, a + k0 * n, n, k1 - k0, n, i, n - i < GRAM_ROWS ? n : i + GRAM_ROWS);
        work += (double)FACTOR_ROWS / 2 * (double)(n - k0) * (double)(n - k0);
        if (fm_ask_after(poll, &work))
            return FM_BROKEN_OFF;
    }
    return 1;
}

static APART int32_t factor_and_solve(real *a, real *x, int64_t n, const fm_poll *poll) {
    const int32_t is_factored = factor(a, n, poll);
    if (is_factored != 1)
        return is_factored;
    for (int64_t k = 0; k < n; k++) { /* R^T y = x */
        const real *restrict rk = a + k * n;
        x[k] /= rk[k];
        for (int64_t j = k + 1; j < n; j++)
            x[j] -= rk[j] * x[k];
    }
    for (int64_t k = n - 1; k >= 0; k--) { /* R x = y */
        const real *restrict rk = a + k * n;
        real rest = x[k];
        for (int64_t j = k + 1; j < n; j++)
            rest -= rk[j] * x[j];
        x[k] = rest / rk[k];
    }
    return 1;
}

/* x = A^-1 x, with a as in `factor`. Returns 1; 0 if A is not positive definite; FM_BROKEN_OFF if
 * the poll says so. x is unchanged unless it returns 1. */
static int32_t cholesky_solve(void *a, void *x, int64_t n, const fm_poll *poll) {
    const uint32_t mode = default_mode();
    const int32_t is_solved = factor_and_solve(a, x, n, poll);
    restore_mode(mode);
    return is_solved;
}

/* x *= *factor */
static void scale(void *x_, const void *factor, int64_t n) {
    const real by = *(const real *)factor;
    real *x = x_;
    for (int64_t i = 0; i < n; i++)
        x[i] *= by;
}

/* out = a - b */
static void difference(void *out_, const void *a_, const void *b_, int64_t n) {
    const real *a = a_, *b = b_;
    real *out = out_;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] - b[i];
}
