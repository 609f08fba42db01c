/* The register tile of the native products, in plain C, and the way along a panel of it. What feeds
 * it is in pack.h, product.h and blocked.h.
 *
 * Every output element is a sum over k in chains of FM_CHAIN fused multiply-adds, in ascending
 * order. The chains are added up; a single chain over a million rows would lose two digits. This
 * order fixes the bits: neither the tile's size, nor the vector width, nor the split over threads
 * can change them. */
#ifndef FASTMLP_TILE_H
#define FASTMLP_TILE_H

#include "real.h"

/* TILE_ROWS x TILE_VECS vectors of accumulators: they and one row of b fill the
 * registers. BLOCK_ROWS: whole tiles and whole vectors. FAR_ROW: rows of an operand that
 * are so many bytes apart or more fall onto few sets of the cache. The limit is lower if
 * a tile takes less of each row. */
#if defined(__AVX512F__)
#define TILE_ROWS 8
#define TILE_VECS 3
#define BLOCK_ROWS LANES
#define FAR_ROW 4096
#else
#define TILE_ROWS 6
#define TILE_VECS 2
#define BLOCK_ROWS (3 * LANES)
#define FAR_ROW 1024
#endif
#define ROW_VECS 8 /* vectors of a single row: fewer chains would leave the units waiting */
#define PANEL_WIDTH (TILE_VECS * LANES)
/* A packed panel has FM_CHAIN rows: 192 KiB with AVX-512. It is on the stack and meant for L2. */

/* c (rows, vecs * LANES) = a b over k, added to a bias row, to c itself or to 0. Element
 * (i, p) of a is at a[i * a_row + p * a_col]. `last` is the number of valid elements in the
 * last vector of a row. */
typedef struct {
    const real *a;
    int64_t a_row, a_col;
    int64_t a_step; /* from the first row of a tile to that of the next, for each of its rows */
    int in_strips;  /* 1: a is packed by pack_left; a_col is then the number of rows of a tile */
    const real *b;
    int64_t b_row, k;
    int b_is_whole; /* 1: rows of b are filled up to whole vectors, as packed ones are */
    real *c;
    int64_t c_row;
    const real *from; /* the chains begin with these rows, from_row apart (0: a bias); NULL: 0 */
    int64_t from_row;
    int accumulate;    /* 1: add the chains to c */
    const real *ahead; /* prefetched into L2, ahead_step elements further for each p */
    int64_t ahead_step;
    int fetches_c; /* 1: a tile prefetches what it will write */
    int c_is_far;  /* 1: c comes from beyond L2, as weights do; its next panel is prefetched */
    int is_near;   /* 1: weights stay in the cache from step to step; no prefetching */
} tile_args;

INLINE void tile(const tile_args *t, const int rows, const int vecs, const int64_t last,
                 const int64_t last_b) {
    vec acc[TILE_ROWS][ROW_VECS];
#define COLUMN_OF(p, v, last)                                                                      \
    ((v) == vecs - 1 && last < LANES ? load_part((p) + (v) * LANES, last) : load((p) + (v) * LANES))
#define COLUMN(p, v) COLUMN_OF(p, v, last)
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int v = 0; v < vecs; v++)
            acc[i][v] = t->from ? COLUMN(t->from + i * t->from_row, v) : (vec){0};
    const real *a = t->a, *b = t->b;
    const int64_t a_row = t->a_row, a_col = t->a_col, b_row = t->b_row;
    const real *ahead = t->ahead;
    const int64_t ahead_step = t->ahead_step;
    for (int64_t p = 0; p < t->k; p++, a += a_col, b += b_row, ahead += ahead_step) {
        vec row[ROW_VECS];
        __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 8
        for (int v = 0; v < vecs; v++)
            row[v] = COLUMN_OF(b, v, last_b);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const vec ai = splat(a[i * a_row]);
#pragma GCC unroll 8
            for (int v = 0; v < vecs; v++)
                acc[i][v] = fma_(ai, row[v], acc[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int v = 0; v < vecs; v++) {
            real *c = t->c + i * t->c_row;
            const vec sum = t->accumulate ? COLUMN(c, v) + acc[i][v] : acc[i][v];
            if (v == vecs - 1 && last < LANES)
                store_part(c + v * LANES, sum, last);
            else
                store(c + v * LANES, sum);
        }
#undef COLUMN
#undef COLUMN_OF
}

/* The tile's sizes are constants here, so its loops unroll into registers. */
#define TILE_CASE(rows, vecs)                                                                      \
    case (rows) * 16 + (vecs):                                                                     \
        if (last == LANES)                                                                         \
            tile(t, rows, vecs, LANES, LANES);                                                     \
        else if (t->b_is_whole)                                                                    \
            tile(t, rows, vecs, last, LANES);                                                      \
        else                                                                                       \
            tile(t, rows, vecs, last, last);                                                       \
        return;
#if TILE_VECS == 3
#define TILE_CASES(rows) TILE_CASE(rows, 1) TILE_CASE(rows, 2) TILE_CASE(rows, 3)
#else
#define TILE_CASES(rows) TILE_CASE(rows, 1) TILE_CASE(rows, 2)
#endif

static void tile_of(const tile_args *t, int rows, int vecs, int64_t last) {
    switch (rows * 16 + vecs) {
#if TILE_ROWS == 8
        TILE_CASES(8)
        TILE_CASES(7)
#endif
        TILE_CASES(6)
        TILE_CASES(5)
        TILE_CASES(4)
        TILE_CASES(3)
        TILE_CASES(2)
        TILE_CASE(1, 1)
        TILE_CASE(1, 2)
        TILE_CASE(1, 3)
        TILE_CASE(1, 4)
        TILE_CASE(1, 5)
        TILE_CASE(1, 6)
        TILE_CASE(1, 7)
        TILE_CASE(1, 8)
    }
}

/* Rows of the next tile if `rows` are left: 8 become 4 + 4 rather than 6 + 2, since two rows have
 * too few chains. */
static int tile_rows(int64_t rows) {
    if (rows >= 2 * TILE_ROWS || rows == TILE_ROWS)
        return TILE_ROWS;
    return (int)(rows > TILE_ROWS ? (rows + 1) / 2 : rows);
}

/* Prefetches what a tile will write: its first and last column, which may share a cache line. */
INLINE void prefetch_sums(const tile_args *t, int rows, int64_t width) {
    for (int i = 0; i < rows; i++) {
        __builtin_prefetch(t->c + i * t->c_row, 1);
        __builtin_prefetch(t->c + i * t->c_row + width - 1, 1);
    }
}

/* All rows of c in one panel of at most PANEL_WIDTH columns, or of ROW_VECS vectors for a single
 * row. `t` moves along. The first tiles prefetch `ahead`, each a vector's width of it. The others
 * prefetch the same columns of the next panel of c. */
static void panel(tile_args *t, int64_t rows, int64_t width) {
    const int vecs = (int)((width + LANES - 1) / LANES);
    const int64_t last = width - (vecs - 1) * LANES;
    const real *ahead = t->ahead, *next_c = t->c + width;
    for (int i = 0; rows > 0; i++) {
        if (i == TILE_VECS && t->c_is_far && !t->is_near) {
            ahead = next_c;
            t->ahead_step = t->c_row;
        }
        t->ahead = ahead + i % TILE_VECS * LANES;
        const int step = tile_rows(rows);
        if (t->in_strips)
            t->a_col = step;
        if (t->fetches_c)
            prefetch_sums(t, step, width);
        tile_of(t, step, vecs, last);
        t->a += step * t->a_step;
        t->c += step * t->c_row;
        t->from = t->from ? t->from + step * t->from_row : NULL;
        rows -= step;
    }
}

/* Columns of the next panel if n are left: a full panel, but 2 + 2 vectors rather than 3 + 1. A
 * tile one vector wide has too few accumulators to keep the units busy. */
static int64_t panel_width(int64_t n) {
    const int64_t vecs = (n + LANES - 1) / LANES;
    const int64_t width = (vecs == TILE_VECS + 1 ? (vecs + 1) / 2 : TILE_VECS) * LANES;
    return n < width ? n : width;
}

/* The same for a single row and a b that is not packed. */
static int64_t row_panel_width(int64_t n) { return n < ROW_VECS * LANES ? n : ROW_VECS * LANES; }

#endif
