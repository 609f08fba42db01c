/* The floating-point mode of a thread: how it rounds, whether subnormal numbers count as zero, and
 * which exceptions trap.
 *
 * The mode belongs to the caller. A library may have changed it in the calling thread or in a
 * helper; bits would then depend on who works. So all arithmetic runs in default_mode, and the
 * caller's mode is restored at the end, with its flags. */
#ifndef FASTMLP_FLOAT_MODE_H
#define FASTMLP_FLOAT_MODE_H

#include <stdint.h>

/* The compiler may move arithmetic on registers across a change of mode, but not across a call. */
#define APART __attribute__((noinline))
#define MEMORY_BARRIER __asm__ volatile("" ::: "memory")

#if defined(__SSE2__)
#include <immintrin.h>

#define MODE_FLAGS 0x3fu         /* exceptions that have occurred; not part of the mode */
#define DEFAULT_MODE 0x1f80u     /* round to nearest, keep subnormal numbers, no traps */
#define FLUSH_SUBNORMALS 0x8040u /* inputs and results */

static inline void restore_mode(uint32_t mode) {
    MEMORY_BARRIER;
    if (_mm_getcsr() != mode) /* writing takes longer than reading */
        _mm_setcsr(mode);
}

/* default_mode and flush_subnormals return the mode before, for restore_mode. */
static inline uint32_t default_mode(void) {
    const uint32_t mode = _mm_getcsr();
    if ((mode & ~MODE_FLAGS) != DEFAULT_MODE)
        _mm_setcsr(DEFAULT_MODE);
    MEMORY_BARRIER;
    return mode;
}

/* Moments whose gradient has become zero decay into subnormal numbers and stay there. Arithmetic on
 * those is many times slower, so they count as zero while the optimizer runs. */
static inline uint32_t flush_subnormals(void) {
    const uint32_t mode = _mm_getcsr();
    _mm_setcsr(mode | FLUSH_SUBNORMALS);
    MEMORY_BARRIER;
    return mode;
}
#else
static inline void restore_mode(uint32_t mode) { (void)mode; }
static inline uint32_t default_mode(void) { return 0; }
static inline uint32_t flush_subnormals(void) { return 0; }
#endif

#endif
