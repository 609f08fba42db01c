/* The OpenMP region and how work is handed out; nothing else in the library knows of threads.
 *
 * One thread drives the program, the others serve. Work is claimed chunk by chunk from one atomic
 * ticket, and the driver waits only for chunks that somebody has claimed: a thread that the
 * operating system took away before it could claim anything delays nobody. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

#include "fastmlp.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#define SPINS 4000 /* about 40 us of waiting before the processor is offered to others */
#define CACHE_LINE 64
#define INDEX_BITS 24
#define INDEX_MASK ((1u << INDEX_BITS) - 1)

/* The ticket holds the number of the next chunk, the number of chunks, and the phase, so that one
 * compare-and-swap both claims a chunk and proves that its phase is still the current one. */
struct fm_team {
    _Alignas(CACHE_LINE) _Atomic uint64_t ticket;
    _Alignas(CACHE_LINE) _Atomic int64_t done;
    _Alignas(CACHE_LINE) _Atomic int32_t stop;
    void (*chunk)(void *, int64_t, int32_t);
    void *arg;
    int32_t threads;
};

static void pause_briefly(int32_t *spins) {
    if (++*spins < SPINS) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    } else {
        sched_yield();
    }
}

/* Claim one chunk and run it; 0 if there is none left. */
static int run_one(fm_team *team, int32_t worker) {
    uint64_t ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    const uint32_t next = ticket & INDEX_MASK, count = (ticket >> INDEX_BITS) & INDEX_MASK;
    if (next >= count)
        return 0;
    if (atomic_compare_exchange_strong_explicit(&team->ticket, &ticket, ticket + 1,
                                                memory_order_acq_rel, memory_order_relaxed)) {
        team->chunk(team->arg, next, worker);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
    }
    return 1;
}

static void serve(fm_team *team, int32_t worker) {
    int32_t spins = 0;
    while (!atomic_load_explicit(&team->stop, memory_order_acquire)) {
        if (run_one(team, worker))
            spins = 0;
        else
            pause_briefly(&spins);
    }
}

static void run_batch(fm_team *team, void (*chunk)(void *, int64_t, int32_t), void *arg,
                      uint64_t n) {
    const uint64_t phase = (atomic_load_explicit(&team->ticket, memory_order_relaxed) >> 48) + 1;
    team->chunk = chunk;
    team->arg = arg;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    atomic_store_explicit(&team->ticket, phase << 48 | n << INDEX_BITS, memory_order_release);
    while (run_one(team, 0)) {
    }
    int32_t spins = 0;
    while (atomic_load_explicit(&team->done, memory_order_acquire) < (int64_t)n)
        pause_briefly(&spins);
}

typedef struct {
    void (*chunk)(void *, int64_t, int32_t);
    void *arg;
    int64_t first;
} shifted;

static void run_shifted(void *arg, int64_t i, int32_t worker) {
    const shifted *s = arg;
    s->chunk(s->arg, s->first + i, worker);
}

void fm_team_run(fm_team *team, void (*chunk)(void *, int64_t, int32_t), void *arg, int64_t n) {
    if (team->threads == 1 || n == 1) {
        for (int64_t i = 0; i < n; i++)
            chunk(arg, i, 0);
        return;
    }
    for (int64_t first = 0; first < n; first += INDEX_MASK) {
        shifted s = {chunk, arg, first};
        const int64_t left = n - first;
        run_batch(team, run_shifted, &s, (uint64_t)(left < INDEX_MASK ? left : INDEX_MASK));
    }
}

int32_t fm_team_size(const fm_team *team) { return team->threads; }

static _Atomic int32_t forked_child;

static void note_fork(void) { atomic_store(&forked_child, 1); }
void fm_threads_init(void) { pthread_atfork(NULL, NULL, note_fork); }
int32_t fm_is_forked_child(void) { return atomic_load(&forked_child); }

void fm_parallel(int32_t threads, void (*drive)(fm_team *, void *), void *arg) {
    fm_team team = {.threads = 1};
#ifdef _OPENMP
    if (threads > 1 && !fm_is_forked_child() && !omp_in_parallel()) {
        team.threads = threads;
#pragma omp parallel num_threads(threads)
        {
            if (omp_get_thread_num() == 0) {
                drive(&team, arg);
                atomic_store_explicit(&team.stop, 1, memory_order_release);
            } else {
                serve(&team, omp_get_thread_num());
            }
        }
        return;
    }
#endif
    (void)threads;
    drive(&team, arg);
}
