/* The sums of profile.h, and how they are printed. */

#include "profile.h"

#ifdef FASTMLP_PROFILE
#include <stdio.h>
#include <stdlib.h>

int64_t fm_profile_ns[PROFILE_OPS][N_PROFILE_KINDS];

static const char *const kinds[] = {"forward", "backward", "param_grad",
                                    "update",  "gather",   "loss"};

static void print_sums(void) {
    for (int i = 0; i < PROFILE_OPS; i++)
        for (int j = 0; j < N_PROFILE_KINDS; j++)
            if (fm_profile_ns[i][j])
                fprintf(stderr, "fastmlp-profile %d %s %lld\n", i, kinds[j],
                        (long long)fm_profile_ns[i][j]);
}

__attribute__((constructor)) static void begin(void) { atexit(print_sums); }
#endif
