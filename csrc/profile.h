/* How much of a step's time each kernel takes. In a build with -DFASTMLP_PROFILE=ON, every thread
 * adds up the time of each kernel of each op, and the process prints the sums when it ends
 * (profile.c). Other builds contain none of this. */
#ifndef FASTMLP_PROFILE_H
#define FASTMLP_PROFILE_H

#ifdef FASTMLP_PROFILE
#include "small.h"

#define PROFILE_OPS 32
enum {
    PROFILE_FORWARD,
    PROFILE_BACKWARD,
    PROFILE_PARAM_GRAD,
    PROFILE_UPDATE,
    PROFILE_GATHER,
    PROFILE_LOSS,
    N_PROFILE_KINDS
};
extern int64_t fm_profile_ns[PROFILE_OPS][N_PROFILE_KINDS];

#define PROFILED(kind, op, call)                                                                   \
    do {                                                                                           \
        const int64_t begun = now_ns();                                                            \
        call;                                                                                      \
        __atomic_fetch_add(&fm_profile_ns[(op) % PROFILE_OPS][PROFILE_##kind], now_ns() - begun,   \
                           __ATOMIC_RELAXED);                                                      \
    } while (0)
#else
#define PROFILED(kind, op, call) call
#endif

#endif
