/* The panel layout: PANEL_ROWS rows of a mini-batch lie side by side along the vectors.
 *
 * A matrix of `width` columns is a row of panels (width, PANEL_ROWS). Each panel takes the place
 * of as many rows: element (r, j) is at (r / PANEL_ROWS * width + j) * PANEL_ROWS + r %
 * PANEL_ROWS. The last panel may hold more rows than there are. The surplus rows begin as zeros,
 * and nothing reads their results. If no element of an op needs another, the layout makes no
 * difference, and one kernel serves both layouts. (The panels of tile.h are something
 * different: columns of an operand.) */
#ifndef FASTMLP_PANEL_H
#define FASTMLP_PANEL_H

#include "pack.h"

/* PANELS_PAY: see fm_kernels.panels_pay; measured, see docs/decisions.md. AVX-512 has masks at no
 * cost, so panels must save more there. Without AVX2, panels are faster even for a single row: row
 * by row, its operands would be packed for as many operations. */
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
#define GATHER_AHEAD 32 /* rows: a row anywhere in memory is prefetched so many rows ahead */

/* Index of row r, column 0, of a matrix in panels. */
INLINE int64_t in_panels(int64_t r, int64_t width) {
    return r / PANEL_ROWS * PANEL_ROWS * width + r % PANEL_ROWS;
}

/* m: columns j, j + 1, ... of up to LANES rows, a vector for each row, from
 * columns `column` apart */
INLINE void turned_columns(vec *m, const real *from, int64_t column, int64_t j, int64_t width) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        m[i] = j + i < width ? load(from + (j + i) * column) : (vec){0};
    transpose(m);
}

/* to: up to LANES columns, `column` apart, of up to LANES rows */
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

/* to: columns, `column` apart, of LANES rows of x, from row `first` on in `order`, or as they stand
 * if that is NULL. Rows from `rows` on give 0. */
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

/* Writes rows r, r + 1, ... of `to` (rows, width), at most LANES of them, from columns
 * `column` apart. The last columns come first. A vector that reaches over the end of its row
 * can then be stored whole if the elements that it covers are written later. That is faster
 * than storing a part. */
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

/* to: panels of the rows order[0] ... order[rows - 1] of x, or of its first
 * rows if order is NULL */
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
