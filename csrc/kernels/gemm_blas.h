/* Products through a BLAS. Every thread of this library calls it for itself,
 * and it uses one thread. */
#ifndef FASTMLP_GEMM_BLAS_H
#define FASTMLP_GEMM_BLAS_H

#include "../small.h"
#include "real.h"

#ifdef FM_BLAS_PREFIX
#if FM_DOUBLE
#define blas_gemm FM_PASTE(FM_BLAS_PREFIX, cblas_dgemm)
#else
#define blas_gemm FM_PASTE(FM_BLAS_PREFIX, cblas_sgemm)
#endif

enum {
    ROW_MAJOR = 101,
    PLAIN = 111,
    TRANSPOSED = 112
}; /* the constants of every cblas.h */

void blas_gemm(int layout, int trans_a, int trans_b, int m, int n, int k, real alpha, const real *a,
               int lda, const real *b, int ldb, real beta, real *c, int ldc);

/* c (m, n) = beta c + op(a) op(b) */
static void blas_product(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, const real *a,
                         int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
    fm_enter_blas();
    blas_gemm(ROW_MAJOR, trans_a, trans_b, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb,
              beta, c, (int)ldc);
    fm_leave_blas();
}
#endif

#endif
