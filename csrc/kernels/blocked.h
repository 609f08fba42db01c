/* Classic blocking (Goto, van de Geijn 2008): both operands are packed. A block of a stays in L2, a
 * panel of b in L1. */
#ifndef FASTMLP_BLOCKED_H
#define FASTMLP_BLOCKED_H

#include "product.h"

#define LEFT_ROWS 256  /* most rows of a block of a; it also has to fit LEFT_SIZE */
#define MOST_DEPTH 320 /* a panel of b then takes 20 KiB of L1, a strip of a 8 KiB */
#define PANELS 4 /* panels of b that are packed together, so that longer runs of a row are read */
/* The block of c whose chains wait in `sums` until they end. */
#define CHAIN_COLUMNS 256
#define CHAIN_ROWS (LEFT_SIZE / 2 / CHAIN_COLUMNS)

/* to: the first PANELS panels of b, or those that it has */
static void pack_panels(real *to, const real *b, int64_t b_row, b_form form, int64_t depth,
                        int64_t n) {
    const int64_t columns = n < PANELS * PANEL_WIDTH ? n : PANELS * PANEL_WIDTH;
    if (form == B_TRANSPOSED) {
        for (int64_t j = 0; j < columns; j += PANEL_WIDTH)
            pack_columns(to + j * depth, b + j * b_row, b_row, depth,
                         columns - j < PANEL_WIDTH ? columns - j : PANEL_WIDTH);
        return;
    }
    for (int64_t p = 0; p < depth; p++, b += b_row)
        for (int64_t j = 0; j < columns; j += LANES) {
            const int64_t in_panel = j % PANEL_WIDTH;
            __builtin_prefetch(b + PACK_AHEAD * b_row + j);
            store(to + (j - in_panel) * depth + p * PANEL_WIDTH + in_panel,
                  load_upto(b + j, columns - j));
        }
}

/* c (rows, n) for rows of a and columns of b that form one block. The chains are those of
 * `product`. The first chain stays in c from one depth to the next. A later one, or one that is
 * added to c, stays in `sums` until it ends. */
static void block_product(const tile_args *whole, b_form form, int64_t rows, int64_t n, int64_t k,
                          int64_t depth) {
    real left[LEFT_SIZE + LANES] __attribute__((aligned(64)));
    real packed[PANELS * MOST_DEPTH * PANEL_WIDTH] __attribute__((aligned(64)));
    real sums[CHAIN_ROWS * CHAIN_COLUMNS] __attribute__((aligned(64)));
    tile_args t = *whole;
    t.a_row = 1;
    t.in_strips = t.b_is_whole = t.fetches_c = 1;
    t.b_row = PANEL_WIDTH;
    for (int64_t p = 0; p < k; p += depth) {
        t.k = t.a_step = k - p < depth ? k - p : depth;
        const int begins = p % FM_CHAIN == 0, is_first = p < FM_CHAIN && !whole->accumulate;
        const int ends = p + t.k == k || (p + t.k) % FM_CHAIN == 0;
        pack_left(left, whole->a + p * whole->a_col, whole->a_row, whole->a_col, t.k, rows);
        for (int64_t j = 0, columns; j < n; j += columns) {
            columns = n - j < PANEL_WIDTH ? n - j : PANEL_WIDTH;
            const int64_t place = j % (PANELS * PANEL_WIDTH);
            const real *b =
                whole->b + (form == B_TRANSPOSED ? j * whole->b_row + p : p * whole->b_row + j);
            if (place == 0)
                pack_panels(packed, b, whole->b_row, form, t.k, n - j);
            real *c = whole->c + j, *so_far = is_first ? c : sums + j;
            const int64_t so_far_row = is_first ? whole->c_row : CHAIN_COLUMNS;
            t.a = left;
            t.b = packed + place * t.k;
            t.c = ends ? c : so_far;
            t.c_row = ends ? whole->c_row : so_far_row;
            t.accumulate = ends && !is_first;
            t.from = !begins ? so_far : is_first && whole->from ? whole->from + j : NULL;
            t.from_row = begins ? 0 : so_far_row;
            t.ahead = form == B_TRANSPOSED ? b + columns * whole->b_row : b + PANELS * PANEL_WIDTH;
            t.ahead_step = form == B_TRANSPOSED ? 0 : whole->b_row;
            panel(&t, rows, columns);
        }
    }
}

/* c (m, n) = bias + a (m, k) b (k, n) or b^T */
static void blocked_product(const tile_args *whole, b_form form, int64_t m, int64_t n, int64_t k) {
    const int64_t chain = k < FM_CHAIN ? k : FM_CHAIN;
    const int64_t parts = (chain + MOST_DEPTH - 1) / MOST_DEPTH;
    const int64_t depth = (chain + parts - 1) / parts; /* 257 columns are 257, 640 are 2 x 320 */
    const int needs_sums = k > FM_CHAIN || whole->accumulate;
    const int64_t room = LEFT_SIZE / depth, most = needs_sums ? CHAIN_ROWS : LEFT_ROWS;
    const int64_t rows = room < most ? room : most;
    const int64_t columns = needs_sums ? CHAIN_COLUMNS : n;
    for (int64_t i = 0; i < m; i += rows)
        for (int64_t j = 0; j < n; j += columns) {
            tile_args t = *whole;
            t.a += i * t.a_row;
            t.b += form == B_TRANSPOSED ? j * t.b_row : j;
            t.c += i * t.c_row + j;
            t.from = t.from ? t.from + j : NULL;
            block_product(&t, form, m - i < rows ? m - i : rows, n - j < columns ? n - j : columns,
                          k, depth);
        }
}

#endif
