/* The team: the OpenMP region, and how work is handed out in it. No other file of the library
 * starts threads that work or waits for them.
 *
 * One thread, the driver, runs the program; the others, the helpers, run chunks for it. Each chunk
 * is claimed from one atomic ticket. The driver waits only for chunks that a thread has claimed. So
 * a helper that the operating system suspends before it has claimed a chunk causes no delay. */

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#include "fastmlp.h"
#include "float_mode.h"
#include "small.h"
#include "threads.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#define SPINS 4000   /* spins, about 40 us of waiting, before the core is offered to others */
#define NAP_NS 50000 /* ns; length of a helper's nap after so many spins without work */
#define CACHE_LINE 64
#define INDEX_BITS 24
#define INDEX_MASK ((1u << INDEX_BITS) - 1)

/* The ticket is one word of three fields:
 *
 *   bits 63..48  the phase: one call of run_batch
 *   bits 47..24  the end of the chunks that are left
 *   bits 23..0   the first chunk that is left
 *
 * One compare-and-swap thus both claims a chunk and proves that its phase is still the current one.
 * Workers of even number claim from the front, those of odd number from the back. In the next step
 * the same chunk then mostly meets the same thread, whose cache still has its parameters and
 * moments. One cache line holds all that a helper watches or needs for a chunk. */
struct fm_team {
    _Alignas(CACHE_LINE) _Atomic uint64_t ticket;
    void (*chunk)(void *, int64_t, int32_t);
    void *arg;
    int64_t first; /* number of the chunk that is 0 in the ticket */
    _Atomic int32_t stop, broken_off;
    int32_t threads;
    const fm_poll *poll;
    int64_t next_ask; /* time of the next question, ns */
    _Alignas(CACHE_LINE) _Atomic int64_t done;
};

static void pause_once(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* ---- never slower than one thread ---------------------------------------------------------------
 *
 * A stall is a wait of the driver for a helper that lost its core in the middle of a chunk. It
 * lasts a whole time slice if other processes need the cores too. A stall now and then costs less
 * than the helpers gain. If stalls take more than a few percent of the time, the driver works alone
 * for a multiple of the time lost. Each repetition doubles that, so the total loss is bounded. The
 * bits do not depend on who works, so nothing else changes. */

#define STALL_NS 200000 /* a wait that uneven chunks do not explain */
/* A stall is forgiven if the time together before it was at least so many times its length: more
 * threads have then gained more than the stall lost. */
#define TOGETHER_PER_STALL 8
/* After any other stall the driver works alone for so many times its length, so the stall costs at
 * most 3% of the time; a repeated one costs less. */
#define ALONE_PER_STALL 32
#define MOST_ALONE_NS 1000000000 /* then helpers are tried again */

/* ns on the clock of now_ns; 0: the driver does not work alone. */
static _Atomic int64_t alone_until;
/* ns on that clock: when the driver stopped working alone, or when the last stall ended. */
static _Atomic int64_t together_since;
/* ns: how long the driver worked alone after the last stall; 0 if that stall was forgiven. */
static _Atomic int64_t last_alone;

static int working_alone(void) {
    const int64_t until = atomic_load_explicit(&alone_until, memory_order_relaxed);
    if (until == 0)
        return 0;
    const int64_t now = now_ns();
    if (now < until)
        return 1;
    atomic_store_explicit(&alone_until, 0, memory_order_relaxed);
    atomic_store_explicit(&together_since, now, memory_order_relaxed);
    return 0;
}

/* The driver has waited since `start`. `expected`: nanoseconds of waiting that
 * uneven chunks explain. */
static void waited_since(int64_t start, int64_t expected) {
    const int64_t end = now_ns(), waited = end - start - expected;
    if (waited < STALL_NS)
        return;
    const int64_t together =
        start - atomic_exchange_explicit(&together_since, end, memory_order_relaxed);
    int64_t alone = 0;
    if (together < waited * TOGETHER_PER_STALL) {
        alone = 2 * atomic_load_explicit(&last_alone, memory_order_relaxed);
        alone = alone > waited * ALONE_PER_STALL ? alone : waited * ALONE_PER_STALL;
        alone = alone < MOST_ALONE_NS ? alone : MOST_ALONE_NS;
        atomic_store_explicit(&alone_until, end + alone, memory_order_relaxed);
    }
    atomic_store_explicit(&last_alone, alone, memory_order_relaxed);
}

/* ---- breaking off ---------------------------------------------------------------------------- */

#define ASK_NS 100000000

void fm_team_ask(fm_team *team, const fm_poll *poll) {
    team->poll = poll && poll->ask ? poll : NULL;
    if (poll && team->next_ask == 0)
        team->next_ask = now_ns() + ASK_NS;
}

int32_t fm_team_broken_off(const fm_team *team) {
    return atomic_load_explicit(&team->broken_off, memory_order_relaxed);
}

/* The driver asks between two chunks, if it is time. */
static void ask_in_time(fm_team *team) {
    if (!team->poll || fm_team_broken_off(team) || now_ns() < team->next_ask)
        return;
    if (team->poll->ask(team->poll->arg))
        atomic_store_explicit(&team->broken_off, 1, memory_order_relaxed);
    team->next_ask = now_ns() + ASK_NS;
}

/* ---- claiming -------------------------------------------------------------------------------- */

/* Claims one chunk and runs it, unless another worker was faster. Returns 0 if no chunk is left. */
static int run_one(fm_team *team, int32_t worker) {
    uint64_t ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    const uint32_t first = ticket & INDEX_MASK, end = (ticket >> INDEX_BITS) & INDEX_MASK;
    if (first >= end)
        return 0;
    const int from_back = worker & 1;
    const uint64_t left = from_back ? ticket - ((uint64_t)1 << INDEX_BITS) : ticket + 1;
    if (atomic_compare_exchange_strong_explicit(&team->ticket, &ticket, left, memory_order_acq_rel,
                                                memory_order_relaxed)) {
        if (!fm_team_broken_off(team)) /* if broken off, it only counts as done */
            team->chunk(team->arg, team->first + (from_back ? end - 1 : first), worker);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
    }
    return 1;
}

#ifdef _OPENMP
/* A helper's loop. A helper without work causes no delay, so it may sleep. If it kept spinning, it
 * would take the core from others. */
static void serve(fm_team *team, int32_t worker) {
    const struct timespec nap = {.tv_nsec = NAP_NS};
    int32_t spins = 0;
    while (!atomic_load_explicit(&team->stop, memory_order_acquire)) {
        if (run_one(team, worker))
            spins = 0;
        else if (++spins < SPINS)
            pause_once();
        else
            nanosleep(&nap, NULL);
    }
}
#endif

/* All chunks of the phase that began at `begun` are claimed. Waits for those not yet done. */
static void wait_for_claimed(fm_team *team, int64_t n, int64_t begun) {
    for (int32_t spins = 0; spins < SPINS; spins++) {
        if (atomic_load_explicit(&team->done, memory_order_acquire) == n)
            return;
        pause_once();
    }
    const int64_t start = now_ns();
    while (atomic_load_explicit(&team->done, memory_order_acquire) < n)
        sched_yield();
    waited_since(start, start - begun);
}

/* Runs chunks [first, first + n) as one phase. */
static void run_batch(fm_team *team, void (*chunk)(void *, int64_t, int32_t), void *arg,
                      int64_t first, int64_t n) {
    const uint64_t phase = (atomic_load_explicit(&team->ticket, memory_order_relaxed) >> 48) + 1;
    const int64_t begun = now_ns();
    team->chunk = chunk;
    team->arg = arg;
    team->first = first;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    atomic_store_explicit(&team->ticket, phase << 48 | (uint64_t)n << INDEX_BITS,
                          memory_order_release);
    while (run_one(team, 0))
        ask_in_time(team);
    wait_for_claimed(team, n, begun);
}

void fm_team_run(fm_team *team, void (*chunk)(void *arg, int64_t i, int32_t worker), void *arg,
                 int64_t n) {
    if (team->threads == 1 || n == 1 || working_alone()) {
        for (int64_t i = 0; i < n && !fm_team_broken_off(team); i++) {
            chunk(arg, i, 0);
            ask_in_time(team);
        }
        return;
    }
    for (int64_t first = 0; first < n; first += INDEX_MASK)
        run_batch(team, chunk, arg, first, n - first < INDEX_MASK ? n - first : INDEX_MASK);
}

int32_t fm_team_size(const fm_team *team) { return team->threads; }

/* ---- the region ------------------------------------------------------------------------------ */

#ifdef _OPENMP
static void be_helper(fm_team *team, int32_t worker) {
    if (!fm_has_stack()) {
        fm_note_small_helper();
    } else if (worker < team->threads) { /* others are there because libgomp's team stays large */
        const uint32_t mode = default_mode();
        serve(team, worker);
        restore_mode(mode);
    }
}

/* Returns 0, and does nothing, if no thread can be had beside the driver. */
static int run_together(int32_t threads, void (*drive)(fm_team *, void *), void *arg) {
    const fm_growth growth = fm_begin_growing(threads);
    if (growth.threads == 1) {
        fm_end_growing(&growth);
        return 0;
    }
    fm_team team = {.threads = growth.threads};
    int64_t stopped = 0;
#pragma omp parallel num_threads(growth.size)
    {
        if (omp_get_thread_num() == 0) {
            fm_end_growing(&growth);
            drive(&team, arg);
            stopped = now_ns();
            atomic_store_explicit(&team.stop, 1, memory_order_release);
        } else {
            be_helper(&team, omp_get_thread_num());
        }
    }
    waited_since(stopped, 0); /* the region's end waits for all threads */
    return 1;
}

static int may_have_helpers(void) {
    return !fm_is_forked_child() && !fm_has_small_helpers() && !omp_in_parallel() &&
           !working_alone();
}
#endif

static void run_in_mode(int32_t threads, void (*drive)(fm_team *, void *), void *arg) {
#ifdef _OPENMP
    if (threads > 1 && may_have_helpers() && run_together(threads, drive, arg))
        return;
#endif
    (void)threads;
    fm_team alone = {.threads = 1};
    drive(&alone, arg);
}

void fm_parallel(int32_t threads, void (*drive)(fm_team *, void *), void *arg) {
    const uint32_t mode = default_mode();
    run_in_mode(threads, drive, arg);
    restore_mode(mode);
}
