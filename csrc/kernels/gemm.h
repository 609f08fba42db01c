/* The seam between layers and matrix products: three functions, by the native tile or by a BLAS.
 *
 * Five functions, the walkers, take the operands through the native tile (product.h, blocked.h).
 * The shape decides which one does it, and which operands are packed for it. Names in brackets are
 * the conditions in product.h:
 *
 *   product       if                                      walker                     packed
 *   z = x W + b   [pays_to_block] and W [is_large]        blocked_product            x, W
 *                 otherwise                               product                    W *
 *   dx = dz W^T   transposing dz and dx is less work      product_by_columns         dz^T
 *                 than transposing W [columns_are_less]   (transposes dx back)
 *                 [pays_to_block]                         blocked_product            dz, W^T
 *                 otherwise                               product                    W^T
 *   dW = x^T dz   n_out <= LANES                          narrow_transposed_product  nothing
 *                                                         (transposes dW back)
 *                 [pays_to_block, is_deep_or_crosses]     blocked_product            x, dz
 *                 rows of x far apart [falls_on_few_sets] transposed_product         x, dz *
 *                 otherwise                               product                    dz *
 *
 * * only if [form_of] says so */
#ifndef FASTMLP_GEMM_H
#define FASTMLP_GEMM_H

#include "blocked.h"
#include "gemm_blas.h"

typedef struct {
    int64_t rows, n_in, n_out;
    int32_t blas;
    int32_t accumulate; /* 1: a weight gradient is added to the present one */
} gemm_shape;

/* Most bytes of weights that stay in L2 from step to step, with their gradient and moments. */
#define NEAR_BYTES 65536
static int is_near(const gemm_shape *s) {
    return s->n_in * s->n_out * (int64_t)sizeof(real) <= NEAR_BYTES;
}

/* z = x W + b, columns [j0, j1)
 * x (rows, n_in)   W (n_in, n_out)   b (n_out) or NULL   z (rows, n_out) */
static void gemm_forward(real *restrict z, const real *restrict x, const real *restrict w,
                         const real *restrict b, int64_t j0, int64_t j1, gemm_shape s) {
    const int64_t n = j1 - j0;
#ifdef FM_BLAS_PREFIX
    if (s.blas) {
        for (int64_t r = 0; b && r < s.rows; r++)
            memcpy(z + r * s.n_out + j0, b + j0, (size_t)n * sizeof(real));
        blas_product(PLAIN, PLAIN, s.rows, n, s.n_in, x, s.n_in, w + j0, s.n_out, b ? 1 : 0, z + j0,
                     s.n_out);
        return;
    }
#endif
    const tile_args t = {.a = x,
                         .a_row = s.n_in,
                         .a_col = 1,
                         .a_step = s.n_in,
                         .b = w + j0,
                         .b_row = s.n_out,
                         .c = z + j0,
                         .c_row = s.n_out,
                         .from = b ? b + j0 : NULL,
                         .is_near = is_near(&s)};
    if (pays_to_block(s.rows, s.n_in) && is_large(n, s.n_in))
        blocked_product(&t, B_PACKED, s.rows, n, s.n_in);
    else
        product(&t, form_of(s.n_out, s.rows, s.n_in), s.rows, n, s.n_in);
}

/* dx = dz W^T, columns [i0, i1)
 * dz (rows, n_out)   W (n_in, n_out)   dx (rows, n_in) */
static void gemm_input_grad(real *restrict dx, const real *restrict dz, const real *restrict w,
                            int64_t i0, int64_t i1, gemm_shape s) {
    const int64_t n = i1 - i0;
    w += i0 * s.n_out;
#ifdef FM_BLAS_PREFIX
    if (s.blas) {
        blas_product(PLAIN, TRANSPOSED, s.rows, n, s.n_out, dz, s.n_out, w, s.n_out, 0, dx + i0,
                     s.n_in);
        return;
    }
#endif
    const tile_args t = {.a = dz,
                         .a_row = s.n_out,
                         .a_col = 1,
                         .a_step = s.n_out,
                         .b = w,
                         .b_row = s.n_out,
                         .c = dx + i0,
                         .c_row = s.n_in,
                         .is_near = is_near(&s)};
    if (columns_are_less(s.rows, n, s.n_out))
        product_by_columns(&t, s.rows, n, s.n_out);
    else if (pays_to_block(s.rows, s.n_out))
        blocked_product(&t, B_TRANSPOSED, s.rows, n, s.n_out);
    else
        product(&t, B_TRANSPOSED, s.rows, n, s.n_out);
}

/* dW[i0:i1] = x[:, i0:i1]^T dz      dw points to row i0 */
static void gemm_weight_grad(real *restrict dw, const real *restrict x, const real *restrict dz,
                             int64_t i0, int64_t i1, gemm_shape s) {
#ifdef FM_BLAS_PREFIX
    if (s.blas) {
        blas_product(TRANSPOSED, PLAIN, i1 - i0, s.n_out, s.rows, x + i0, s.n_in, dz, s.n_out,
                     s.accumulate ? 1 : 0, dw, s.n_out);
        return;
    }
#endif
    const tile_args t = {.a = x + i0,
                         .a_row = 1,
                         .a_step = 1,
                         .a_col = s.n_in,
                         .b = dz,
                         .b_row = s.n_out,
                         .c = dw,
                         .c_row = s.n_out,
                         .c_is_far = 1,
                         .accumulate = s.accumulate,
                         .is_near = is_near(&s)};
    const b_form form = form_of(s.n_out, i1 - i0, s.rows);
    if (s.n_out <= LANES)
        narrow_transposed_product(&t, i1 - i0, s.n_out, s.rows);
    else if (pays_to_block(i1 - i0, s.rows) && is_deep_or_crosses(s.n_out, s.rows))
        blocked_product(&t, B_PACKED, i1 - i0, s.n_out, s.rows);
    else if (falls_on_few_sets(s.n_in))
        transposed_product(&t, form, i1 - i0, s.n_out, s.rows);
    else
        product(&t, form, i1 - i0, s.n_out, s.rows);
}

#endif
