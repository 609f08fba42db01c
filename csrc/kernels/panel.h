/* The panel layout: PANEL_ROWS rows of a mini-batch lie side by side along the vectors.
 *
 * A matrix of `width` columns is a row of panels (width, PANEL_ROWS), each in the place of as many
 * rows: element (r, j) stands at (r / PANEL_ROWS * width + j) * PANEL_ROWS + r % PANEL_ROWS. Rows
 * of the last panel beyond those that there are begin as zeros, and nothing looks at what becomes
 * of them. Where no element needs another, the layout makes no difference: such kernels serve both.
 * (The panels of gemm_tile.h are something else: columns of an operand.)
 */
#ifndef FASTMLP_PANEL_H
#define FASTMLP_PANEL_H

#include "gemm_tile.h"

/* PANELS_PAY: by measurement, see docs/decisions.md. AVX-512 has masks for nothing, so there panels
 * must save more; without AVX2 even a single row is faster than its packing. */
#if defined(__AVX512F__)
#define PANEL_VECS 1
#define PANELS_PAY 0.95
#elif defined(__AVX2__)
#define PANEL_VECS 2
#define PANELS_PAY 0.9
#else
#define PANEL_VECS 2
#define PANELS_PAY 0
#endif
#define PANEL_ROWS (PANEL_VECS * LANES)
#define GATHER_AHEAD                                                                               \
    32 /* rows that lie anywhere in memory are asked for so many before their turn */

/* Row r of a matrix in panels */
INLINE int64_t in_panels(int64_t r, int64_t width) {
    return r / PANEL_ROWS * PANEL_ROWS * width + r % PANEL_ROWS;
}

/* m: columns j ... of up to LANES rows, a vector each, from columns `column` apart */
INLINE void turned_columns(vec *m, const real *from, int64_t column, int64_t j, int64_t width) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        m[i] = j + i < width ? load(from + (j + i) * column) : (vec){0};
    transpose(m);
}

/* to: columns, `column` apart, of up to LANES rows; no more than LANES of them */
INLINE void turn_square(real *to, int64_t column, const real *const *from, int64_t rows,
                        int64_t columns) {
    vec m[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        m[i] = i < rows ? load_upto(from[i], columns) : (vec){0};
    transpose(m);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (i < columns)
            store(to + i * column, m[i]);
}

/* to: columns, `column` apart, of LANES rows of x, from row `first` on in their order, or as they
 * stand if that is NULL; 0 from row `rows` on */
static void columns_of_rows(real *to, int64_t column, const real *x, const int64_t *order,
                            int64_t first, int64_t rows, int64_t width) {
    const real *from[LANES];
    for (int64_t i = 0; i < LANES; i++) {
        const int64_t r = first + i < rows ? first + i : rows - 1;
        from[i] = x + (order ? order[r] : r) * width;
        if (order && first + GATHER_AHEAD + i < rows)
            __builtin_prefetch(x + order[first + GATHER_AHEAD + i] * width);
    }
    for (int64_t j = 0; j < width; j += LANES, to += LANES * column) {
        if (rows - first >= LANES && width - j >= LANES)
            turn_square(to, column, from, LANES, LANES);
        else
            turn_square(to, column, from, rows - first, width - j);
        for (int i = 0; i < LANES; i++)
            from[i] += LANES;
    }
}

/* Rows r ... of `to` (rows, width), at most LANES, from columns `column` apart. Vectors that reach
 * over the end of their row are stored whole if what they cover is still to come, since to store a
 * part takes long: so last columns first. */
static void rows_of_columns(real *to, int64_t r, int64_t rows, int64_t width, const real *from,
                            int64_t column) {
    const real *end = to + rows * width;
    const int64_t count = rows - r < LANES ? rows - r : LANES;
    for (int64_t j = (width - 1) / LANES * LANES; j >= 0; j -= LANES) {
        real *row = to + r * width + j;
        vec m[LANES];
        turned_columns(m, from, column, j, width);
        for (int64_t i = 0; i < count; i++, row += width)
            if (end - row >= LANES)
                store(row, m[i]);
            else
                store_upto(row, m[i], width - j);
    }
}

/* to: panels of the rows order[0] ... order[rows - 1] of x, or of its first ones if order is NULL
 */
static void panels_of_rows(void *to, const void *x, const int64_t *order, int64_t rows,
                           int64_t width) {
    const int64_t end = (rows + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    for (int64_t r = 0; r < end; r += LANES)
        columns_of_rows((real *)to + in_panels(r, width), PANEL_ROWS, x, order, r, rows, width);
}

/* to (rows, width) from panels */
static void rows_of_panels(void *to, const void *from, int64_t rows, int64_t width) {
    for (int64_t r = 0; r < rows; r += LANES)
        rows_of_columns(to, r, rows, width, (const real *)from + in_panels(r, width), PANEL_ROWS);
}

#endif
