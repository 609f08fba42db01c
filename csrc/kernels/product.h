/* The walkers: they take whole operands through the tile, each with another choice of what is
 * packed. The table in gemm.h says which one does what. */
#ifndef FASTMLP_PRODUCT_H
#define FASTMLP_PRODUCT_H

#include "pack.h"

/* bytes of a packed left operand, on the stack: half of a small L2 */
#define LEFT_BYTES 262144
#define LEFT_SIZE (LEFT_BYTES / (int)sizeof(real))

typedef enum {
    B_DIRECT,
    B_PACKED,
    B_TRANSPOSED
} b_form;

/* c (m, n) = bias + a (m, k) b (k, n). Goes through b in panels, which are
 * packed as `form` says. */
static void product(const tile_args *whole, b_form form, int64_t m, int64_t n, int64_t k) {
    real packed[FM_CHAIN * PANEL_WIDTH] __attribute__((aligned(64)));
    tile_args t = *whole;
    for (int64_t j = 0, columns; j < n; j += columns) {
        columns = m == 1 && form == B_DIRECT ? row_panel_width(n - j) : panel_width(n - j);
        for (int64_t p = 0; p < k; p += FM_CHAIN) {
            const int is_last = k - p <= FM_CHAIN;
            t.k = is_last ? k - p : FM_CHAIN;
            t.a = whole->a + p * whole->a_col;
            t.c = whole->c + j;
            t.from = whole->from && p == 0 ? whole->from + j : NULL;
            t.accumulate = whole->accumulate || p > 0;
            t.b = packed;
            t.b_row = PANEL_WIDTH;
            t.b_is_whole = form != B_DIRECT;
            t.ahead = whole->b + (is_last ? j + columns : (p + FM_CHAIN) * whole->b_row + j);
            t.ahead_step = whole->b_row;
            if (whole->is_near) {
                t.ahead = whole->b;
                t.ahead_step = 0;
            }
            if (form == B_PACKED) {
                pack_rows(packed, whole->b + p * whole->b_row + j, whole->b_row, t.k, columns);
            } else if (form == B_TRANSPOSED) {
                pack_columns(packed, whole->b + j * whole->b_row + p, whole->b_row, t.k, columns);
            } else {
                t.b = whole->b + p * whole->b_row + j;
                t.b_row = whole->b_row;
            }
            panel(&t, m, columns);
        }
    }
}

/* c (m, n) = a (m, k) b^T, b (n, k) in rows b_row apart, computed as c^T = b a^T. Transposes a and
 * c instead of b. */
static void product_by_columns(const tile_args *whole, int64_t m, int64_t n, int64_t k) {
    real packed[FM_CHAIN * PANEL_WIDTH] __attribute__((aligned(64)));
    real block[BLOCK_ROWS * PANEL_WIDTH] __attribute__((aligned(64)));
    tile_args t = *whole;
    t.a_row = t.a_step = whole->b_row;
    t.a_col = t.b_is_whole = 1;
    t.b = packed;
    t.b_row = t.c_row = PANEL_WIDTH;
    t.ahead_step = TILE_ROWS;
    for (int64_t i = 0, rows; i < m; i += rows) {
        rows = panel_width(m - i);
        for (int64_t p = 0; p < k; p += FM_CHAIN) {
            t.k = k - p < FM_CHAIN ? k - p : FM_CHAIN;
            t.accumulate = p > 0;
            pack_columns(packed, whole->a + i * whole->a_row + p, whole->a_row, t.k, rows);
            for (int64_t j = 0; j < n; j += BLOCK_ROWS) {
                const int64_t columns = n - j < BLOCK_ROWS ? n - j : BLOCK_ROWS;
                real *c = whole->c + i * whole->c_row + j;
                if (p > 0)
                    pack_columns(block, c, whole->c_row, columns, rows);
                t.a = whole->b + j * whole->b_row + p;
                t.c = block;
                t.ahead = whole->is_near ? packed : t.a + BLOCK_ROWS * whole->b_row;
                t.ahead_step = whole->is_near ? 0 : TILE_ROWS;
                panel(&t, columns, rows);
                unpack_columns(c, whole->c_row, block, columns, rows);
            }
        }
    }
}

/* Columns of a packed left operand, in whole tiles. Each such operand packs a packed b anew. */
static int64_t left_columns(b_form form, int64_t depth) {
    const int64_t room = LEFT_SIZE / depth, most = form == B_PACKED ? 256 : 128;
    return (room < most ? room : most) / TILE_ROWS * TILE_ROWS;
}

/* c (m, n) = x^T (m, k) b (k, n), x (k, m) in rows `a_col` apart. Packs columns of x, since a tile
 * would use only a few columns of each row at a time. */
static void transposed_product(const tile_args *whole, b_form form, int64_t m, int64_t n,
                               int64_t k) {
    real packed[LEFT_SIZE] __attribute__((aligned(64)));
    tile_args t = *whole;
    const int64_t most = left_columns(form, k < FM_CHAIN ? k : FM_CHAIN);
    for (int64_t i = 0; i < m; i += most) {
        const int64_t columns = m - i < most ? m - i : most;
        for (int64_t p = 0; p < k; p += FM_CHAIN) {
            const int64_t depth = k - p < FM_CHAIN ? k - p : FM_CHAIN;
            pack_left(packed, whole->a + p * whole->a_col + i, 1, whole->a_col, depth, columns);
            t.a = packed;
            t.a_row = t.in_strips = 1;
            t.a_step = depth;
            t.b = whole->b + p * whole->b_row;
            t.c = whole->c + i * whole->c_row;
            t.accumulate = whole->accumulate || p > 0;
            product(&t, form, columns, n, depth);
        }
    }
}

/* The same, computed as c^T = b^T x, for a b of at most LANES columns, which fill no tile. The long
 * side lies along the vectors here, and x is read as it stands. */
static void narrow_transposed_product(const tile_args *whole, int64_t m, int64_t n, int64_t k) {
    real block[LANES * PANEL_WIDTH] __attribute__((aligned(64)));
    tile_args t = *whole;
    t.a_row = t.a_step = 1;
    t.a_col = whole->b_row;
    t.b_row = t.ahead_step = whole->a_col;
    t.c_is_far = 0;
    t.c_row = PANEL_WIDTH;
    for (int64_t i = 0, rows; i < m; i += rows) {
        rows = panel_width(m - i);
        if (whole->accumulate)
            pack_columns(block, whole->c + i * whole->c_row, whole->c_row, n, rows);
        for (int64_t p = 0; p < k; p += FM_CHAIN) {
            t.k = k - p < FM_CHAIN ? k - p : FM_CHAIN;
            t.accumulate = whole->accumulate || p > 0;
            t.a = whole->b + p * whole->b_row;
            t.b = whole->a + p * whole->a_col + i;
            t.ahead = whole->is_near ? block : t.b + rows;
            t.ahead_step = whole->is_near ? 0 : whole->a_col;
            t.c = block;
            panel(&t, n, rows);
        }
        unpack_columns(whole->c + i * whole->c_row, whole->c_row, block, n, rows);
    }
}

#define TRANSPOSING 6 /* multiply-adds that take as long as transposing an element */

static int64_t whole_vectors(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Whether product_by_columns is less work than a product that transposes b.
 * Both fill up vectors. */
static int columns_are_less(int64_t m, int64_t n, int64_t k) {
    return whole_vectors(m) * n * k + TRANSPOSING * m * (n + k) <
           m * whole_vectors(n) * k + TRANSPOSING * n * k;
}

static int falls_on_few_sets(int64_t row) { return row * (int64_t)sizeof(real) >= FAR_ROW; }

/* Whether to pack b. Rows on few sets of the cache are packed if the panel is used often enough.
 * Rows whose vectors cross cache lines are packed if, besides, the panel is too long for L1. */
static b_form form_of(int64_t row, int64_t uses, int64_t depth) {
    const int crosses = VEC_BYTES == 32 && row % LANES != 0 && depth > 256;
    return (falls_on_few_sets(row) && uses >= 2 * TILE_ROWS) || (crosses && uses >= 4 * TILE_ROWS)
               ? B_PACKED
               : B_DIRECT;
}

/* Whether classic blocking pays: only with AVX2, for enough rows of c and a deep enough sum to pay
 * for the packing. With AVX-512 (and the larger L2 of its chips) it has gained nothing. */
static int pays_to_block(int64_t m, int64_t k) {
    return VEC_BYTES == 32 && m >= 4 * TILE_ROWS && k >= 2 * LANES;
}

/* Whether both operands of a weight gradient are better packed: its sums are deep, or rows of dz
 * cross cache lines. */
static int is_deep_or_crosses(int64_t n, int64_t k) { return k >= 128 || n % LANES != 0; }

/* Whether b takes up more than half of a small L2, so that a tile would wait for it. */
static int is_large(int64_t n, int64_t k) { return n * k * (int64_t)sizeof(real) > LEFT_BYTES; }

#endif
