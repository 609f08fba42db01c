/* The native products: one register tile in plain C, and the functions that feed it.
 *
 * Every output element is a sum over k in chains of FM_CHAIN fused multiply-adds, in ascending
 * order. The chains are added up; a single chain over a million rows would lose two digits. This
 * order fixes the bits: neither the tile's size, nor the vector width, nor the split over threads
 * can change them. */
#ifndef FASTMLP_GEMM_TILE_H
#define FASTMLP_GEMM_TILE_H

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
    int64_t a_tile; /* from TILE_ROWS rows of a to the next TILE_ROWS rows */
    const real *b;
    int64_t b_row, k;
    real *c;
    int64_t c_row;
    const real *from; /* the chains begin with these rows, from_row apart (0: a bias); NULL: 0 */
    int64_t from_row;
    int accumulate;    /* 1: add the chains to c */
    const real *ahead; /* prefetched into L2, ahead_step elements further for each p */
    int64_t ahead_step;
    int c_is_far; /* 1: c comes from beyond L2, as weights do; its next panel is prefetched */
    int is_near;  /* 1: weights stay in the cache from step to step; no prefetching */
} tile_args;

INLINE void tile(const tile_args *t, const int rows, const int vecs, const int64_t last) {
    vec acc[TILE_ROWS][ROW_VECS];
#define COLUMN(p, v)                                                                               \
    ((v) == vecs - 1 && last < LANES ? load_part((p) + (v) * LANES, last) : load((p) + (v) * LANES))
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
            row[v] = COLUMN(b, v);
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
}

/* The tile's sizes are constants here, so its loops unroll into registers. */
#define TILE_CASE(rows, vecs)                                                                      \
    case (rows) * 16 + (vecs):                                                                     \
        if (last < LANES)                                                                          \
            tile(t, rows, vecs, last);                                                             \
        else                                                                                       \
            tile(t, rows, vecs, LANES);                                                            \
        return;
#if TILE_VECS == 3
#define TILE_CASES(rows) TILE_CASE(rows, 1) TILE_CASE(rows, 2) TILE_CASE(rows, 3)
#else
#define TILE_CASES(rows) TILE_CASE(rows, 1) TILE_CASE(rows, 2)
#endif

static void tile_of(const tile_args *t, int rows, int vecs, int64_t last) {
    switch (rows * 16 + vecs) {
        TILE_CASES(TILE_ROWS)
        TILE_CASES(4)
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

/* Rows of the next tile if `rows` are left. 8 rows become 4 + 4 rather than 6 + 2, since two rows
 * have too few chains. A packed left operand must go in whole tiles, so this is for unpacked ones,
 * whose a_tile is TILE_ROWS rows. */
static int tile_rows(const tile_args *t, int64_t rows) {
    if (TILE_ROWS == 6 && rows == 8 && t->a_tile == TILE_ROWS * t->a_row)
        return 4;
    return rows >= TILE_ROWS ? TILE_ROWS : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

/* Prefetches the sums that the next tile begins with. */
static void prefetch_sums(const tile_args *t, int rows) {
    if (t->from_row)
        for (int i = rows; i < 2 * rows; i++)
            __builtin_prefetch(t->from + i * t->from_row);
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
        const int step = tile_rows(t, rows);
        prefetch_sums(t, step);
        tile_of(t, step, vecs, last);
        t->a += step == TILE_ROWS ? t->a_tile : step * t->a_row;
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

#define PACK_AHEAD 12 /* rows: each row is prefetched so many rows ahead */

/* to (depth, PANEL_WIDTH) = the first `width` columns of `depth` rows of b */
static void pack_rows(real *to, const real *b, int64_t b_row, int64_t depth, int64_t width) {
    for (int64_t p = 0; p < depth; p++, to += PANEL_WIDTH, b += b_row)
        for (int64_t j = 0; j < width; j += LANES) {
            __builtin_prefetch(b + PACK_AHEAD * b_row + j);
            store(to + j, load_upto(b + j, width - j));
        }
}

/* The lanes of a and b that `index` names; those of b are counted on from those of a. */
INLINE vec shuffle(vec a, vec b, mask index) {
#if defined(__clang__)
    vec c;
    for (int i = 0; i < LANES; i++)
        c[i] = index[i] < LANES ? a[index[i]] : b[index[i] - LANES];
    return c;
#else
    return __builtin_shuffle(a, b, index);
#endif
}

/* Shuffles are cheapest within GROUP_LANES elements (128 bits), or of whole groups. The masks are
 * literals, since GCC 12 takes any other mask for a variable. */
#define GROUP_LANES (16 / (int)sizeof(real))
#define LOW(i) (i) % 2 * LANES + (i) / GROUP_LANES *GROUP_LANES + (i) % GROUP_LANES / 2
#define HIGH(i) LOW(i) + GROUP_LANES / 2
#define EVEN(i) (i) / GROUP_LANES * 2 * GROUP_LANES + (i) % GROUP_LANES
#define ODD(i) EVEN(i) + GROUP_LANES
#if VEC_BYTES / (FM_DOUBLE ? 8 : 4) == 16
#define EACH_LANE(F)                                                                               \
    F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12), F(13), F(14), \
        F(15)
#elif VEC_BYTES / (FM_DOUBLE ? 8 : 4) == 8
#define EACH_LANE(F) F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7)
#elif VEC_BYTES / (FM_DOUBLE ? 8 : 4) == 4
#define EACH_LANE(F) F(0), F(1), F(2), F(3)
#else
#define EACH_LANE(F) F(0), F(1)
#endif

/* Exchanges half of the elements between rows that are s apart. */
INLINE void exchange(vec *m, const int s, mask first, mask second) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (!(i & s)) {
            const vec a = m[i], b = m[i | s];
            m[i] = shuffle(a, b, first);
            m[i | s] = shuffle(a, b, second);
        }
}

/* Transposes a square of LANES vectors: first within groups, then groups as a whole. */
INLINE void transpose(vec *m) {
#pragma GCC unroll 4
    for (int s = GROUP_LANES / 2; s > 0; s /= 2)
        exchange(m, s, (mask){EACH_LANE(LOW)}, (mask){EACH_LANE(HIGH)});
#pragma GCC unroll 4
    for (int s = GROUP_LANES; s < LANES; s *= 2)
        exchange(m, s, (mask){EACH_LANE(EVEN)}, (mask){EACH_LANE(ODD)});
}

/* to (columns, LANES or more) = transpose of `rows` rows of w. At most LANES rows and columns are
 * taken. If constants say that the square is whole, no branches are left. */
INLINE void transpose_square(real *to, int64_t to_row, const real *w, int64_t w_row, int64_t rows,
                             int64_t columns) {
    vec square[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        square[i] = i < rows ? load_upto(w + i * w_row, columns) : (vec){0};
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (i < columns)
            store(to + i * to_row, square[i]);
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

/* ---- classic blocking (Goto, van de Geijn 2008): both operands packed ------------------------ */

#define LEFT_BYTES 262144 /* bytes of a packed left operand, on the stack: half of a small L2 */
#define LEFT_SIZE (LEFT_BYTES / (int)sizeof(real))
#define DEPTH 256 /* columns of it: a panel of b is then 16 KiB with AVX2, half of L1 */
#define LEFT_ROWS (LEFT_SIZE / DEPTH)
#define SUM_COLUMNS 128

/* to (rows, DEPTH) = the first `depth` columns of a */
static void pack_left_rows(real *to, const real *a, int64_t a_row, int64_t depth, int64_t rows) {
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * DEPTH, a + i * a_row, (size_t)depth * sizeof(real));
}

/* c (rows, n) for rows of a and columns of b that form one block. The chains are those
 * of `product`. The first chain stays in c from one depth to the next, a later one in
 * `sums` until it ends. */
static void block_product(const tile_args *whole, b_form form, int64_t rows, int64_t n, int64_t k) {
    real left[LEFT_SIZE] __attribute__((aligned(64)));
    real packed[DEPTH * PANEL_WIDTH] __attribute__((aligned(64)));
    real sums[LEFT_ROWS * SUM_COLUMNS] __attribute__((aligned(64)));
    tile_args t = *whole;
    t.a_row = DEPTH;
    t.a_tile = TILE_ROWS * DEPTH;
    t.b_row = PANEL_WIDTH;
    for (int64_t p = 0; p < k; p += DEPTH) {
        t.k = k - p < DEPTH ? k - p : DEPTH;
        const int begins = p % FM_CHAIN == 0, is_first = p < FM_CHAIN;
        const int ends = p + t.k == k || (p + t.k) % FM_CHAIN == 0;
        pack_left_rows(left, whole->a + p, whole->a_row, t.k, rows);
        for (int64_t j = 0, columns; j < n; j += columns) {
            columns = panel_width(n - j);
            const real *b =
                whole->b + (form == B_TRANSPOSED ? j * whole->b_row + p : p * whole->b_row + j);
            real *c = whole->c + j, *so_far = is_first ? c : sums + j;
            const int64_t so_far_row = is_first ? whole->c_row : SUM_COLUMNS;
            t.a = left;
            t.b = packed;
            t.c = ends ? c : so_far;
            t.c_row = ends ? whole->c_row : so_far_row;
            t.accumulate = ends && !is_first;
            t.from = !begins ? so_far : is_first && whole->from ? whole->from + j : NULL;
            t.from_row = begins ? 0 : so_far_row;
            if (form == B_TRANSPOSED) {
                t.ahead = b + columns * whole->b_row;
                t.ahead_step = 0;
                pack_columns(packed, b, whole->b_row, t.k, columns);
            } else {
                t.ahead = b + columns;
                t.ahead_step = whole->b_row;
                pack_rows(packed, b, whole->b_row, t.k, columns);
            }
            panel(&t, rows, columns);
        }
    }
}

/* c (m, n) = bias + a (m, k) b (k, n) or b^T, for an a that leaves no room for b in L2 */
static void blocked_product(const tile_args *whole, b_form form, int64_t m, int64_t n, int64_t k) {
    const int64_t most = k > FM_CHAIN ? SUM_COLUMNS : n;
    for (int64_t i = 0; i < m; i += LEFT_ROWS)
        for (int64_t j = 0; j < n; j += most) {
            tile_args t = *whole;
            t.a += i * t.a_row;
            t.b += form == B_TRANSPOSED ? j * t.b_row : j;
            t.c += i * t.c_row + j;
            t.from = t.from ? t.from + j : NULL;
            block_product(&t, form, m - i < LEFT_ROWS ? m - i : LEFT_ROWS,
                          n - j < most ? n - j : most, k);
        }
}

/* c (m, n) = a (m, k) b^T, b (n, k) in rows b_row apart, computed as c^T = b a^T. Transposes a and
 * c instead of b. */
static void product_by_columns(const tile_args *whole, int64_t m, int64_t n, int64_t k) {
    real packed[FM_CHAIN * PANEL_WIDTH] __attribute__((aligned(64)));
    real block[BLOCK_ROWS * PANEL_WIDTH] __attribute__((aligned(64)));
    tile_args t = *whole;
    t.a_row = whole->b_row;
    t.a_col = 1;
    t.a_tile = TILE_ROWS * t.a_row;
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
    const int crosses = VEC_BYTES == 32 && row % LANES != 0 && depth > DEPTH;
    return (falls_on_few_sets(row) && uses >= 2 * TILE_ROWS) || (crosses && uses >= 4 * TILE_ROWS)
               ? B_PACKED
               : B_DIRECT;
}

/* Whether a would take up L2 alone. With AVX-512 (and the larger L2 of its chips), blocking has
 * gained nothing on any shape. */
static int fills_l2(int64_t m, int64_t k) {
    return VEC_BYTES == 32 && m >= 4 * TILE_ROWS && m * k * (int64_t)sizeof(real) > 3 * LEFT_BYTES;
}

/* Columns of a packed left operand, in whole tiles. Each such operand packs a packed b anew. */
static int64_t left_columns(b_form form, int64_t depth) {
    const int64_t room = LEFT_SIZE / depth, most = form == B_PACKED ? LEFT_ROWS : 128;
    return (room < most ? room : most) / TILE_ROWS * TILE_ROWS;
}

/* to: the `depth` rows of x, in strips of TILE_ROWS columns; the strips are one after another */
static void pack_left(real *to, const real *x, int64_t x_row, int64_t depth, int64_t width) {
    for (int64_t p = 0; p < depth; p++, x += x_row)
        for (int64_t i = 0; i < width; i += TILE_ROWS) {
            __builtin_prefetch(x + PACK_AHEAD * x_row + i);
            real *tile = to + i * depth + p * TILE_ROWS;
            if (width - i >= TILE_ROWS)
                memcpy(tile, x + i, TILE_ROWS * sizeof(real));
            else
                memcpy(tile, x + i, (size_t)(width - i) * sizeof(real));
        }
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
            pack_left(packed, whole->a + p * whole->a_col + i, whole->a_col, depth, columns);
            t.a = packed;
            t.a_row = 1;
            t.a_col = TILE_ROWS;
            t.a_tile = depth * TILE_ROWS;
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
    t.a_row = 1;
    t.a_col = whole->b_row;
    t.a_tile = TILE_ROWS;
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

#endif
