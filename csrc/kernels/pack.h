/* Copies of operands in the order in which a tile reads them: panels of the right one, strips of
 * the left one. */
#ifndef FASTMLP_PACK_H
#define FASTMLP_PACK_H

#include "tile.h"
#include "transpose.h"

#define PACK_AHEAD 12 /* rows: each row is prefetched so many rows ahead */

/* to (depth, PANEL_WIDTH) = the first `width` columns of `depth` rows of b */
static void pack_rows(real *to, const real *b, int64_t b_row, int64_t depth, int64_t width) {
    for (int64_t p = 0; p < depth; p++, to += PANEL_WIDTH, b += b_row)
        for (int64_t j = 0; j < width; j += LANES) {
            __builtin_prefetch(b + PACK_AHEAD * b_row + j);
            store(to + j, load_upto(b + j, width - j));
        }
}

/* to (depth, PANEL_WIDTH) = transpose of w (width rows, depth columns, w_row apart) */
static void pack_columns(real *to, const real *w, int64_t w_row, int64_t depth, int64_t width) {
    for (int64_t j = 0; j < width; j += LANES)
        for (int64_t p = 0; p < depth; p += LANES) {
            real *square = to + p * PANEL_WIDTH + j;
            const real *from = w + j * w_row + p;
            const int64_t rows = width - j, columns = depth - p;
            if (rows >= LANES && columns >= LANES)
                transpose_square(square, PANEL_WIDTH, from, w_row, LANES, LANES);
            else
                transpose_square(square, PANEL_WIDTH, from, w_row, rows, columns);
        }
}

/* The reverse: c (rows, columns) from its transpose (columns up to whole vectors, PANEL_WIDTH) */
static void unpack_columns(real *c, int64_t c_row, const real *from, int64_t columns,
                           int64_t rows) {
    for (int64_t j = 0; j < columns; j += LANES, c += LANES, from += LANES * PANEL_WIDTH)
        for (int64_t r = 0; r < rows; r += LANES) {
            if (columns - j >= LANES && rows - r >= LANES) {
                transpose_square(c + r * c_row, c_row, from + r, PANEL_WIDTH, LANES, LANES);
                continue;
            }
            vec square[LANES];
            for (int i = 0; i < LANES; i++)
                square[i] = load(from + i * PANEL_WIDTH + r);
            transpose(square);
            for (int i = 0; i < LANES && r + i < rows; i++)
                store_upto(c + (r + i) * c_row, square[i], columns - j);
        }
}

/* ---- strips of the left operand -------------------------------------------------------------- */

/* to (depth, width) = the first `width` columns of x */
static void pack_strip_of_columns(real *to, const real *x, int64_t x_row, int64_t depth,
                                  int64_t width) {
    for (int64_t p = 0; p < depth; p++, x += x_row, to += width) {
        __builtin_prefetch(x + PACK_AHEAD * x_row);
        if (width == TILE_ROWS)
            memcpy(to, x, TILE_ROWS * sizeof(real));
        else
            memcpy(to, x, (size_t)width * sizeof(real));
    }
}

/* to (depth, rows) = transpose of `rows` rows of a. A store of a whole vector also writes beyond
 * the rows of the strip; the store to that place comes later. The last one writes less than a
 * vector beyond the end. */
static void pack_strip_of_rows(real *to, const real *a, int64_t a_row, int64_t depth,
                               int64_t rows) {
    for (int64_t p = 0; p < depth; p += LANES)
        for (int64_t r = (rows - 1) / LANES * LANES; r >= 0; r -= LANES) {
            const real *from = a + r * a_row + p;
            if (depth - p >= LANES && rows == TILE_ROWS)
                transpose_square(to + p * TILE_ROWS + r, TILE_ROWS, from, a_row, TILE_ROWS - r,
                                 LANES);
            else
                transpose_square(to + p * rows + r, rows, from, a_row, rows - r, depth - p);
        }
}

/* to: rows of a (a_row apart) or, if a_row is 1, columns (a_col apart). Each strip holds the rows
 * of one tile; its element (i, p) is at p * (rows of the tile) + i. */
static void pack_left(real *to, const real *a, int64_t a_row, int64_t a_col, int64_t depth,
                      int64_t rows) {
    for (int64_t i = 0, step; i < rows; i += step, to += step * depth) {
        step = tile_rows(rows - i);
        if (a_row == 1)
            pack_strip_of_columns(to, a + i, a_col, depth, step);
        else
            pack_strip_of_rows(to, a + i * a_row, a_row, depth, step);
    }
}

#endif
