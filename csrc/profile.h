/* How much of a step's time each kernel takes. In a build with -DFASTMLP_PROFILE=ON, every thread
 * adds up the time of each kernel of each op, and the process prints the sums when it ends. Other
 * builds contain none of this. */
#ifndef FASTMLP_PROFILE_H
#define FASTMLP_PROFILE_H

#ifdef FASTMLP_PROFILE
#include <stdio.h>
#include <stdlib.h>

#include "small.h"

#define PROFILE_OPS 32

static const char *const profile_kinds[] = {"forward", "backward", "param_grad",
                                            "update",  "gather",   "loss"};
enum {
    PROFILE_FORWARD,
    PROFILE_BACKWARD,
    PROFILE_PARAM_GRAD,
    PROFILE_UPDATE,
    PROFILE_GATHER,
    PROFILE_LOSS,
    N_PROFILE_KINDS
};
static int64_t profile_ns[PROFILE_OPS][N_PROFILE_KINDS];

static void profile_print(void) {
    for (int i = 0; i < PROFILE_OPS; i++)
        for (int j = 0; j < N_PROFILE_KINDS; j++)
            if (profile_ns[i][j])
                fprintf(stderr, "fastmlp-profile %d %s %lld\n", i, profile_kinds[j],
                        (long long)profile_ns[i][j]);
}

__attribute__((constructor)) static void profile_begin(void) { atexit(profile_print); }

#define PROFILED(kind, op, call)                                                                   \
    do {                                                                                           \
        const int64_t begun = now_ns();                                                            \
        call;                                                                                      \
        __atomic_fetch_add(&profile_ns[(op) % PROFILE_OPS][PROFILE_##kind], now_ns() - begun,      \
                           __ATOMIC_RELAXED);                                                      \
    } while (0)
#else
#define PROFILED(kind, op, call) call
#endif

#endif
