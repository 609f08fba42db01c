/* How many threads a call may have.
 *
 * Every call without a number of threads asks these. In Python the question took as long as a small
 * step's arithmetic. */

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fastmlp.h"

#define MOST_PROCESSORS 8192 /* the largest number that Linux can be built for */

int32_t fm_affinity(void) {
#if defined(__linux__)
    uint64_t mask[MOST_PROCESSORS / 64];
    const long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int32_t n = 0;
    for (long i = 0; i < bytes / 8; i++)
        n += __builtin_popcountll(mask[i]);
    return n;
#else
    return 0;
#endif
}

int32_t fm_omp_num_threads(void) {
    const char *text = getenv("OMP_NUM_THREADS");
    char *end;
    const long n = text ? strtol(text, &end, 10) : 0;
    if (n <= 0 || n > INT32_MAX)
        return 0;
    end += strspn(end, " ");
    return *end == 0 || *end == ',' ? (int32_t)n : 0;
}
