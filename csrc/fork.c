/* Forks: no fork while a thread is inside a BLAS, and one thread in the child. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "fastmlp.h"
#include "threads.h"

/* A BLAS has locks of its own. If another thread holds one at a fork, it stays locked in the child
 * for good. So a fork waits until no thread is inside a BLAS, and meanwhile none may enter. */
static _Atomic int32_t forks, inside_blas;

void fm_enter_blas(void) {
    for (;;) {
        while (atomic_load(&forks))
            sched_yield();
        atomic_fetch_add(&inside_blas, 1);
        if (!atomic_load(&forks))
            return;
        atomic_fetch_sub(&inside_blas, 1);
    }
}

void fm_leave_blas(void) { atomic_fetch_sub(&inside_blas, 1); }

static void before_fork(void) {
    atomic_fetch_add(&forks, 1);
    while (atomic_load(&inside_blas))
        sched_yield();
}

static void after_fork(void) { atomic_fetch_sub(&forks, 1); }

static _Atomic int32_t forked_child;

static void begin_child(void) {
    atomic_store(&forked_child, 1);
    atomic_store(&forks, 0);
    atomic_store(&inside_blas, 0);
}

int32_t fm_is_forked_child(void) { return atomic_load(&forked_child); }

void fm_fork_init(void) { pthread_atfork(before_fork, after_fork, begin_child); }
