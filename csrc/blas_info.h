/* The compiler and the BLAS that were compiled in, with the processor type
 * that the BLAS detected. */
#ifndef FASTMLP_BLAS_INFO_H
#define FASTMLP_BLAS_INFO_H

#ifdef FM_BLAS_OPENBLAS
#include "small.h"

char *FM_PASTE(FM_BLAS_PREFIX, openblas_get_corename)(void);
void FM_PASTE(FM_BLAS_PREFIX, openblas_set_num_threads)(int threads);

static inline const char *fm_blas_core(void) {
    return FM_PASTE(FM_BLAS_PREFIX, openblas_get_corename)();
}
/* Every thread of this library calls the BLAS for itself, so the BLAS gets one thread. */
static inline void fm_blas_init(void) { FM_PASTE(FM_BLAS_PREFIX, openblas_set_num_threads)(1); }
#elif defined(FM_BLAS_PREFIX)
#include <dlfcn.h>
#include <stddef.h>

static inline const char *fm_blas_core(void) { return ""; }
/* A system BLAS may be any of several. If it has threads of its own, they are switched off. */
static inline void fm_blas_init(void) {
    static const char *const setters[] = {"openblas_set_num_threads", "MKL_Set_Num_Threads"};
    for (size_t i = 0; i < sizeof setters / sizeof setters[0]; i++) {
        void (*set)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, setters[i]);
        if (set)
            set(1);
    }
}
#else
static inline const char *fm_blas_core(void) { return ""; }
static inline void fm_blas_init(void) {}
#endif

static inline const char *fm_blas_name(void) { return FM_BLAS_NAME; }

static inline const char *fm_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

#endif
