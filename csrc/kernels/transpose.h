/* Transposing squares of vectors by shuffles. */
#ifndef FASTMLP_TRANSPOSE_H
#define FASTMLP_TRANSPOSE_H

#include "real.h"

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

#endif
