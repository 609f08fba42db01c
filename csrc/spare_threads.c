/* How many threads the system can create.
 *
 * libgomp ends the process if it cannot create a thread: under RLIMIT_NPROC, in a container that
 * counts processes, without memory for stacks. libgomp keeps a team of threads for each thread that
 * calls it. Before such a caller asks for more threads than ever before, we therefore try: we
 * create and join twice the number of new threads. If some cannot be created, the caller gets only
 * as many as could.
 *
 * If a team is smaller than the caller's last one, libgomp ends the surplus threads. Later it
 * creates others while the old ones may not quite have ended. That is why twice as many are tried.
 * If there is no room for both, teams keep their size, and the surplus threads do nothing.
 *
 * A trial that has failed is not repeated for DENIED_NS. */

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fastmlp.h"
#include "small.h"
#include "threads.h"

#ifdef _OPENMP
#define MOST_TRIALS 2048
#define DENIED_NS 1000000000 /* ns after a failed trial until the next one */
/* ns, longest wait: the kernel counts a joined thread for some us more */
#define GONE_NS 100000000

typedef struct {
    pthread_t thread;
    pthread_mutex_t *gate; /* locked until all threads of the trial exist */
    int64_t id;
} trial;

/* Locked from a trial until libgomp has created its threads. */
static pthread_mutex_t growing = PTHREAD_MUTEX_INITIALIZER;
/* Size of the largest team that could be created, the caller included. */
static _Thread_local int32_t proven = 1;
/* 1: there was no room for twice as many new threads. */
static _Thread_local int32_t is_tight;
static _Thread_local int64_t denied_until; /* ns on the clock of now_ns */

static void *wait_at_gate(void *arg) {
    trial *t = arg;
    t->id = syscall(SYS_gettid);
    pthread_mutex_lock(t->gate);
    pthread_mutex_unlock(t->gate);
    return NULL;
}

static void end_trial(trial *t) {
    pthread_join(t->thread, NULL);
    const int64_t until = now_ns() + GONE_NS;
    while (syscall(SYS_tgkill, getpid(), t->id, 0) == 0 && now_ns() < until)
        sched_yield();
}

/* How many of n threads could be created, all existing at the same time. */
static int32_t threads_to_be_had(int32_t n) {
    trial trials[MOST_TRIALS];
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_attr_t attributes;
    int32_t count = 0;
    if (pthread_attr_init(&attributes))
        return 0;
    fm_set_stack_size(&attributes);
    pthread_mutex_lock(&gate);
    for (; count < n; count++) {
        trials[count].gate = &gate;
        if (pthread_create(&trials[count].thread, &attributes, wait_at_gate, &trials[count]))
            break;
    }
    pthread_mutex_unlock(&gate);
    for (int32_t i = 0; i < count; i++)
        end_trial(&trials[i]);
    pthread_attr_destroy(&attributes);
    return count;
}

/* Returns `threads`, or as many of them as can be created. `growing` must be locked. */
static int32_t prove(int32_t threads) {
    const int64_t now = now_ns();
    if (threads <= proven || now < denied_until)
        return threads < proven ? threads : proven;
    if (threads > MOST_TRIALS / 2)
        threads = MOST_TRIALS / 2;
    const int32_t new = threads - proven, had = threads_to_be_had(2 * new);
    is_tight |= had < 2 * new;
    if (had < new)
        denied_until = now + DENIED_NS;
    proven += had < new ? had : new;
    return proven;
}

fm_growth fm_begin_growing(int32_t threads) {
    fm_growth growth = {.threads = threads, .is_growing = threads > proven};
    if (growth.is_growing) {
        pthread_mutex_lock(&growing);
        growth.threads = prove(threads);
    }
    growth.size = is_tight ? proven : growth.threads;
    return growth;
}

void fm_end_growing(const fm_growth *growth) {
    if (growth->is_growing)
        pthread_mutex_unlock(&growing);
}
#endif
