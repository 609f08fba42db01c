/* The panel layout: PANEL_ROWS rows of a mini-batch lie side by side along the vectors.
 *
 * A matrix of `width` columns is a row of panels (width, PANEL_ROWS), each in the place of as many
 * rows: element (r, j) stands at (r / PANEL_ROWS * width + j) * PANEL_ROWS + r % PANEL_ROWS. Rows
 * of the last panel beyond those that there are begin as zeros, and nothing looks at what becomes
 * of them. Where no element needs another, the layout makes no difference: such kernels serve both.
 */
#ifndef FASTMLP_PANEL_H
#define FASTMLP_PANEL_H

#include "gemm_tile.h"

#if defined(__AVX512F__)
#define PANEL_VECS 1
#else
#define PANEL_VECS 2
#endif
#define PANEL_ROWS (PANEL_VECS * LANES)

/* Row r of a matrix in panels */
INLINE int64_t in_panels(int64_t r, int64_t width) {
    return r / PANEL_ROWS * PANEL_ROWS * width + r % PANEL_ROWS;
}

/* m: columns j ... of up to LANES rows, a vector each; from: column 0 of the first row */
INLINE void load_panel_square(vec *m, const real *from, int64_t j, int64_t width) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        m[i] = j + i < width ? load(from + (j + i) * PANEL_ROWS) : (vec){0};
    transpose(m);
}

INLINE void fill_panel_square(real *to, const real *const *from, int64_t rows, int64_t columns) {
    vec m[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        m[i] = i < rows ? load_upto(from[i], columns) : (vec){0};
    transpose(m);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (i < columns)
            store(to + i * PANEL_ROWS, m[i]);
}

/* to: panels of the rows order[0] ... order[rows - 1] of x, or of its first ones if order is NULL
 */
static void panels_of_rows(void *to, const void *x, const int64_t *order, int64_t rows,
                           int64_t width) {
    const int64_t end = (rows + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    for (int64_t r0 = 0; r0 < end; r0 += LANES) {
        real *panel = (real *)to + in_panels(r0, width);
        const real *from[LANES];
        for (int64_t i = 0; i < LANES; i++) {
            const int64_t r = r0 + i < rows ? r0 + i : rows - 1;
            from[i] = (const real *)x + (order ? order[r] : r) * width;
        }
        for (int64_t j = 0; j < width; j += LANES, panel += LANES * PANEL_ROWS) {
            if (rows - r0 >= LANES && width - j >= LANES)
                fill_panel_square(panel, from, LANES, LANES);
            else
                fill_panel_square(panel, from, rows - r0, width - j);
            for (int i = 0; i < LANES; i++)
                from[i] += LANES;
        }
    }
}

/* to (rows, width) from panels. Vectors that reach over the end of their row are stored whole if
 * what follows them is still to come, since stores of a part take long: so last columns first. */
static void rows_of_panels(void *to, const void *from, int64_t rows, int64_t width) {
    const real *end = (real *)to + rows * width;
    for (int64_t r0 = 0; r0 < rows; r0 += LANES) {
        const real *panel = (const real *)from + in_panels(r0, width);
        const int64_t count = rows - r0 < LANES ? rows - r0 : LANES;
        for (int64_t j = (width - 1) / LANES * LANES; j >= 0; j -= LANES) {
            real *row = (real *)to + r0 * width + j;
            vec m[LANES];
            load_panel_square(m, panel, j, width);
            for (int64_t i = 0; i < count; i++, row += width)
                if (end - row >= LANES)
                    store(row, m[i]);
                else
                    store_upto(row, m[i], width - j);
        }
    }
}

#endif
