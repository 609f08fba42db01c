/* Small functions that several files need. */
#ifndef FASTMLP_SMALL_H
#define FASTMLP_SMALL_H

#include <stdint.h>
#include <time.h>

#include "fastmlp.h"

/* Joins two parts, either of which may be a macro, to one name. */
#define FM_PASTE_(a, b) a##b
#define FM_PASTE(a, b) FM_PASTE_(a, b)

/* The address of an element of a buffer of the kernels' element type. */
static inline void *plus(const void *base, int64_t elements, const fm_kernels *k) {
    return (char *)(uintptr_t)base + elements * k->real_size;
}

/* Nanoseconds of a clock that only goes forward. */
static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline double now(void) { return 1e-9 * (double)now_ns(); } /* the same clock, in seconds */

#endif
