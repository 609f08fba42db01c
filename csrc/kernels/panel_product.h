/* The products of a layer whose rows lie along the vectors (panel.h), for widths up to FM_CHAIN:
 * one register tile. Nothing is packed, W is read as it stands, and only rows are filled up to
 * whole vectors. Every sum keeps the order of tile.h, and so its bits. */
#ifndef FASTMLP_PANEL_PRODUCT_H
#define FASTMLP_PANEL_PRODUCT_H

#include "panel.h"

/* PANEL_SUMS: vectors of sums, which with a row of b fill the registers.
 * PANEL_TALL: most rows of sums. */
#if defined(__AVX512F__)
#define PANEL_SUMS 24
#else
#define PANEL_SUMS 12
#endif
#define PANEL_TALL 12
#define PANEL_HEIGHT(vecs) (PANEL_SUMS / (vecs) < PANEL_TALL ? PANEL_SUMS / (vecs) : PANEL_TALL)

/* c (rows, vecs * LANES) = a b over k, added to bias[row] or to 0; with `accumulate` added to c.
 * Element (i, p) of a is at i * a_row + p * a_col in the block of a to which p belongs. */
typedef struct {
    const real *a;
    int64_t a_row, a_col;
    int64_t block, a_block; /* values of p in a block; distance between blocks of a */
    const real *b;
    int64_t b_row, k;
    real *c;
    int64_t c_row;
    const real *c_end; /* end of the whole of c */
    const real *bias;
    int accumulate;
} panel_args;

INLINE void panel_tile(const panel_args *t, const int64_t a_row, const int rows, const int vecs,
                       const int64_t last, const int is_relu) {
    vec acc[PANEL_TALL][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++)
            acc[i][v] = t->bias ? splat(t->bias[i]) : (vec){0};
    const real *block = t->a, *b = t->b;
    const int64_t a_col = t->a_col, b_row = t->b_row;
    for (int64_t left = t->k; left > 0; left -= t->block, block += t->a_block) {
        const real *a = block, *end = block + a_col * (left < t->block ? left : t->block);
        for (; a < end; a += a_col, b += b_row) {
            vec row[2];
#pragma GCC unroll 2
            for (int v = 0; v < vecs; v++)
                row[v] = v == vecs - 1 && last < LANES ? load_part(b + v * LANES, last)
                                                       : load(b + v * LANES);
#pragma GCC unroll 12
            for (int i = 0; i < rows; i++) {
                const vec ai = splat(a[i * a_row]);
#pragma GCC unroll 2
                for (int v = 0; v < vecs; v++)
                    acc[i][v] = fma_(ai, row[v], acc[i][v]);
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++) {
            real *c = t->c + i * t->c_row + v * LANES;
            const int64_t n = v == vecs - 1 ? last : LANES;
            const vec sum = is_relu ? relu_of(acc[i][v], acc[i][v]) : acc[i][v];
            if (t->accumulate)
                store_upto(c, load_upto(c, n) + sum, n);
            else if (n == LANES || t->c_end - c >= LANES) /* see rows_of_columns */
                store(c, sum);
            else
                store_part(c, sum, n);
        }
}

/* The tile's height is a constant here, so its loops unroll into registers. */
#define HEIGHT_CASE(n)                                                                             \
    case n:                                                                                        \
        if (n <= PANEL_HEIGHT(vecs))                                                               \
            panel_tile(t, a_row, n, vecs, last, is_relu);                                          \
        break;
INLINE void panel_tile_of(const panel_args *t, const int64_t a_row, int rows, const int vecs,
                          const int64_t last, const int is_relu) {
    switch (rows) {
        HEIGHT_CASE(1)
        HEIGHT_CASE(2)
        HEIGHT_CASE(3)
        HEIGHT_CASE(4)
        HEIGHT_CASE(5)
        HEIGHT_CASE(6)
        HEIGHT_CASE(7)
        HEIGHT_CASE(8)
        HEIGHT_CASE(9)
        HEIGHT_CASE(10)
        HEIGHT_CASE(11)
        HEIGHT_CASE(12)
    }
}

/* All rows of c, in as few tiles as possible, all of about one size. `t` moves along. */
INLINE void panel_column(panel_args *t, const int64_t a_row, int64_t rows, const int vecs,
                         const int64_t last, const int is_relu) {
    /* 32 bits, since the division takes a share of the time if tiles are short */
    const uint32_t n = (uint32_t)rows, tiles = (n + PANEL_HEIGHT(vecs) - 1) / PANEL_HEIGHT(vecs);
    const uint32_t least = n / tiles, taller = n % tiles;
    for (uint32_t i = 0; i < tiles; i++) {
        const int height = (int)(least + (i < taller));
        panel_tile_of(t, a_row, height, vecs, last, is_relu);
        t->a += height * a_row;
        t->c += height * t->c_row;
        t->bias = t->bias ? t->bias + height : NULL;
    }
}

/* y (n_out, PANEL_ROWS) = b + W^T x, then ReLU if is_relu
 * x (n_in, PANEL_ROWS)   W (n_in, n_out)   b (n_out) or NULL */
static void panel_forward(real *restrict y, const real *restrict x, const real *restrict w,
                          const real *restrict b, int64_t n_in, int64_t n_out, int is_relu) {
    panel_args t = {.a = w,
                    .a_col = n_out,
                    .block = n_in,
                    .b = x,
                    .b_row = PANEL_ROWS,
                    .k = n_in,
                    .c = y,
                    .c_row = PANEL_ROWS,
                    .bias = b};
    if (is_relu)
        panel_column(&t, 1, n_out, PANEL_VECS, LANES, 1);
    else
        panel_column(&t, 1, n_out, PANEL_VECS, LANES, 0);
}

/* dx (n_in, PANEL_ROWS) = W dz      W (n_in, n_out)   dz (n_out, PANEL_ROWS) */
static void panel_input_grad(real *restrict dx, const real *restrict dz, const real *restrict w,
                             int64_t n_in, int64_t n_out) {
    panel_args t = {.a = w,
                    .a_col = 1,
                    .block = n_out,
                    .b = dz,
                    .b_row = PANEL_ROWS,
                    .k = n_out,
                    .c = dx,
                    .c_row = PANEL_ROWS};
    panel_column(&t, n_out, n_in, PANEL_VECS, LANES, 0);
}

/* Columns j, j + 1, ... of dW[i0:i1], at most two vectors of them; see panel_weight_grad. */
static void weight_grad_columns(panel_args t, int64_t rows, int64_t columns) {
    if (columns >= 2 * LANES)
        panel_column(&t, PANEL_ROWS, rows, 2, LANES, 0);
    else if (columns > LANES)
        panel_column(&t, PANEL_ROWS, rows, 2, columns - LANES, 0);
    else if (columns == LANES)
        panel_column(&t, PANEL_ROWS, rows, 1, LANES, 0);
    else
        panel_column(&t, PANEL_ROWS, rows, 1, columns, 0);
}

/* dW[i0:i1] = x[:, i0:i1]^T dz      dw points to row i0
 * x (rows, n_in) in panels   dz (rows, n_out) row by row */
static void panel_weight_grad(real *restrict dw, const real *restrict x, const real *restrict dz,
                              int64_t i0, int64_t i1, int64_t rows, int64_t n_in, int64_t n_out,
                              int accumulate) {
    for (int64_t r0 = 0; r0 < rows; r0 += FM_CHAIN)
        for (int64_t j = (n_out - 1) / (2 * LANES) * 2 * LANES; j >= 0; j -= 2 * LANES) {
            const panel_args t = {.a = x + r0 * n_in + i0 * PANEL_ROWS,
                                  .a_col = 1,
                                  .block = PANEL_ROWS,
                                  .a_block = PANEL_ROWS * n_in,
                                  .b = dz + r0 * n_out + j,
                                  .b_row = n_out,
                                  .k = rows - r0 < FM_CHAIN ? rows - r0 : FM_CHAIN,
                                  .c = dw + j,
                                  .c_row = n_out,
                                  .c_end = dw + (i1 - i0) * n_out,
                                  .accumulate = accumulate || r0 > 0};
            weight_grad_columns(t, i1 - i0, n_out - j);
        }
}

#endif
