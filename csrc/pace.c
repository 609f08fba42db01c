/* Whether more threads make the steps of a training faster, measured while it runs.
 *
 * A cost model cannot know which other programs want the processors, or how far apart these are. If
 * a host places two of them on different chips, small nets take 1.6 times as long on both as on
 * one. So now and then a trial takes some steps the other way, alone or together, and the faster
 * way is kept. A trial costs at most a fiftieth of the time until the next one, and less if trials
 * keep failing. Bits do not depend on who works. */

#include <math.h>

#include "fastmlp.h"

/* Least length of a trial in ns: several time slices, since one slice lost to others says
 * little. */
#define TRIAL_NS 2e7
#define TRIAL_STEPS 3     /* least steps of a trial, unless one step takes longer than TRIAL_NS */
#define REST_PER_TRIAL 50 /* rest until the next trial, in lengths of this one ... */
#define MOST_PATIENCE 4   /* ... and at most so many times that if trials change nothing */
#define GAIN 0.97         /* the other way is kept below this share of the time */
/* A trial begins at once if the mean step takes so many times what it took
 * when its way was chosen. */
#define SLOWED 1.3
#define AVERAGE_NS 5e7      /* ns that the running mean of a step's time looks back */
#define FIRST_REST_STEPS 10 /* the first trial comes after these, or TRIAL_NS if longer */

static void begin_trial(fm_pace *p) {
    p->is_trial = 1;
    p->alone = !p->alone;
    p->spent = 0;
    p->steps = 0;
}

/* Keeps the other way if it was faster, and goes back otherwise. */
static void end_trial(fm_pace *p, double now) {
    const double found = p->spent / (double)p->steps;
    const int is_faster = found < GAIN * p->mean;
    p->patience = is_faster ? 1 : p->patience < MOST_PATIENCE ? 2 * p->patience : p->patience;
    if (is_faster)
        p->mean = found;
    else
        p->alone = !p->alone;
    p->chosen = p->mean;
    p->is_trial = 0;
    p->soonest = now + AVERAGE_NS;
    p->next = now + p->patience * REST_PER_TRIAL * p->spent;
}

int32_t fm_pace_alone(fm_pace *p, int32_t threads, int64_t rows) {
    if (p->threads != threads || p->rows != rows)
        *p = (fm_pace){.threads = threads, .rows = rows, .patience = 1};
    return threads == 1 || p->alone;
}

void fm_pace_step(fm_pace *p, double now, double took) {
    if (p->threads == 1)
        return;
    if (p->is_trial) {
        p->spent += took;
        p->steps++;
        if (p->spent >= TRIAL_NS && (p->steps >= TRIAL_STEPS || took >= TRIAL_NS))
            end_trial(p, now);
        return;
    }
    if (p->mean == 0) /* the first step of all, which is slow */
        p->next = now + fmax(TRIAL_NS, FIRST_REST_STEPS * took);
    const double share = p->chosen > 0 ? took / AVERAGE_NS : 1 / (double)++p->steps;
    p->mean += (share < 1 ? share : 1) * (took - p->mean);
    if (p->chosen == 0 && now >= p->next)
        p->chosen = p->mean;
    if (now >= p->next || (p->chosen > 0 && p->mean > SLOWED * p->chosen && now >= p->soonest))
        begin_trial(p);
}
