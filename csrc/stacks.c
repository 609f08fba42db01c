/* Stacks of threads.
 *
 * Packed panels are on the stack without probes (docs/decisions.md). On a stack that is too small,
 * a product could therefore step over the guard page into another thread's memory. Every caller of
 * a product asks fm_has_stack first, and a helper with too little stack runs no chunks. */

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "fastmlp.h"
#include "threads.h"

static _Thread_local uintptr_t stack_low; /* lowest address of this thread's stack; 0: not asked */

static _Atomic int32_t has_small_helpers;

/* The calling thread's stack is [*low, *high). Returns 0 if the system does not say. */
static int stack_range(uintptr_t *low, uintptr_t *high) {
#if defined(__linux__)
    pthread_attr_t attributes;
    void *address;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attributes))
        return 0;
    const int is_known = pthread_attr_getstack(&attributes, &address, &size) == 0;
    pthread_attr_destroy(&attributes);
    if (!is_known)
        return 0;
    *low = (uintptr_t)address;
    *high = *low + size;
    return 1;
#elif defined(__APPLE__)
    *high = (uintptr_t)pthread_get_stackaddr_np(pthread_self());
    *low = *high - pthread_get_stacksize_np(pthread_self());
    return 1;
#else
    (void)low, (void)high;
    return 0;
#endif
}

int64_t fm_stack_left(void) {
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t low, high;
    if (!stack_range(&low, &high) || here < low || here >= high)
        return FM_STACK_UNKNOWN;
    return (int64_t)(here - low);
}

int32_t fm_has_stack(void) {
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (stack_low && here >= stack_low + FM_STACK_BYTES)
        return 1;
    uintptr_t low, high; /* if it was too little, ask again: `ulimit -s` may have been raised */
    if (!stack_range(&low, &high) || here < low || here >= high)
        return 1;
    stack_low = low;
    return here - low >= FM_STACK_BYTES;
}

static size_t stack_bytes; /* bytes of stack of each of libgomp's threads; 0: the default */

/* OMP_STACKSIZE as libgomp reads it when it is loaded: a number of kilobytes, or a number followed
 * by a unit, B, K, M or G. 0: not set. */
static size_t stack_size(void) {
    const char *text = getenv("OMP_STACKSIZE"), *units = "BKMG";
    char *unit;
    if (!text && !(text = getenv("GOMP_STACKSIZE")))
        return 0;
    const unsigned long size = strtoul(text, &unit, 10);
    while (*unit == ' ')
        unit++;
    const char *found = *unit ? strchr(units, *unit & ~0x20) : units + 1;
    return found ? (size_t)size << 10 * (found - units) : 0;
}

/* A size that the system refuses is not set, as in libgomp. */
void fm_set_stack_size(pthread_attr_t *attributes) {
    if (stack_bytes)
        pthread_attr_setstacksize(attributes, stack_bytes);
}

/* Bytes of stack that a thread of libgomp gets: the size of OMP_STACKSIZE, unless the system
 * refuses that; otherwise the system's own size, which follows `ulimit -s`. */
static size_t helper_stack(void) {
    pthread_attr_t attributes;
    size_t size = 0;
    if (pthread_attr_init(&attributes))
        return SIZE_MAX;
    fm_set_stack_size(&attributes);
    if (pthread_attr_getstacksize(&attributes, &size) || size == 0)
        size = SIZE_MAX;
    pthread_attr_destroy(&attributes);
    return size;
}

#define HELPER_BYTES 16384 /* bytes of a helper's stack in use before its first chunk */

int32_t fm_has_small_helpers(void) { return atomic_load(&has_small_helpers); }
void fm_note_small_helper(void) { atomic_store(&has_small_helpers, 1); }

void fm_threads_init(void) {
    stack_bytes = stack_size();
#ifdef _OPENMP
    if (helper_stack() < FM_STACK_BYTES + HELPER_BYTES)
        atomic_store(&has_small_helpers, 1);
#endif
    fm_fork_init();
}
