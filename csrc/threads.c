/* Threads: the OpenMP region, how work is handed out, and how many threads the system can create.
 * No other file of the library starts threads or waits for them.
 *
 * One thread, the driver, runs the program; the others, the helpers, run chunks for it. Each chunk
 * is claimed from one atomic ticket. The driver waits only for chunks that a thread has claimed. So
 * a helper that the operating system suspends before it has claimed a chunk causes no delay. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fastmlp.h"
#include "float_mode.h"
#include "small.h"

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

/* ---- stacks -------------------------------------------------------------------------------------
 *
 * Packed panels are on the stack without probes (docs/decisions.md). On a stack that is too small,
 * a product could therefore step over the guard page into another thread's memory. Every caller of
 * a product asks fm_has_stack first, and a helper with too little stack runs no chunks. */

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

/* Bytes of stack that a thread of libgomp gets: the size of OMP_STACKSIZE, unless the system
 * refuses that; otherwise the system's own size, which follows `ulimit -s`. */
static size_t helper_stack(void) {
    pthread_attr_t attributes;
    size_t size = 0;
    if (pthread_attr_init(&attributes))
        return SIZE_MAX;
    if (stack_bytes)
        pthread_attr_setstacksize(&attributes, stack_bytes);
    if (pthread_attr_getstacksize(&attributes, &size) || size == 0)
        size = SIZE_MAX;
    pthread_attr_destroy(&attributes);
    return size;
}

#define HELPER_BYTES 16384 /* bytes of a helper's stack in use before its first chunk */

int32_t fm_has_small_helpers(void) { return atomic_load(&has_small_helpers); }

void fm_threads_init(void) {
    stack_bytes = stack_size();
#ifdef _OPENMP
    if (helper_stack() < FM_STACK_BYTES + HELPER_BYTES)
        atomic_store(&has_small_helpers, 1);
#endif
    pthread_atfork(before_fork, after_fork, begin_child);
}

int32_t fm_is_forked_child(void) { return atomic_load(&forked_child); }

/* ---- how many threads ---------------------------------------------------------------------------
 *
 * Every call without a number of threads asks these. In Python the question took as long as a small
 * step's arithmetic. */

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

/* ---- if threads cannot be created ---------------------------------------------------------------
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
 * fm_parallel meets one of three cases. `growing` is locked from the trial until libgomp has
 * created its own threads, so no other caller can take their place:
 *
 *   threads <= proven                                   region
 *   threads > proven, and 2 or more after a trial       lock, trial, region that unlocks first
 *   threads > proven, but still 1 after a trial         lock, trial, unlock; the driver works alone
 *
 * A trial that has failed is not repeated for DENIED_NS. */

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

/* The lock is held until libgomp has created its threads. */
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
    if (stack_bytes)
        pthread_attr_setstacksize(&attributes, stack_bytes); /* refuses what libgomp refuses too */
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

/* The OpenMP region. If it needs new threads, no other caller may create any until it has begun. */
static void run_together(int32_t threads, int is_growing, void (*drive)(fm_team *, void *),
                         void *arg) {
    fm_team team = {.threads = threads};
    const int32_t size = is_tight ? proven : threads;
    int64_t stopped = 0;
#pragma omp parallel num_threads(size)
    {
        if (omp_get_thread_num() == 0) {
            if (is_growing)
                pthread_mutex_unlock(&growing);
            drive(&team, arg);
            stopped = now_ns();
            atomic_store_explicit(&team.stop, 1, memory_order_release);
        } else if (!fm_has_stack()) {
            atomic_store(&has_small_helpers, 1);
        } else if (omp_get_thread_num() < threads) {
            const uint32_t mode = default_mode();
            serve(&team, omp_get_thread_num());
            restore_mode(mode);
        }
    }
    waited_since(stopped, 0); /* the region's end waits for all threads */
}
#endif

static void run_in_mode(int32_t threads, void (*drive)(fm_team *, void *), void *arg) {
#ifdef _OPENMP
    if (threads > 1 && !fm_is_forked_child() && !fm_has_small_helpers() && !omp_in_parallel() &&
        !working_alone()) {
        const int is_growing = threads > proven;
        if (is_growing) {
            pthread_mutex_lock(&growing);
            threads = prove(threads);
        }
        if (threads > 1) {
            run_together(threads, is_growing, drive, arg);
            return;
        }
        pthread_mutex_unlock(&growing); /* no new thread could be created: the third case above */
    }
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
