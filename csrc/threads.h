/* What the files about threads share: team.c, spare_threads.c, stacks.c and fork.c. */
#ifndef FASTMLP_THREADS_H
#define FASTMLP_THREADS_H

#include <pthread.h>
#include <stdint.h>

/* ---- spare_threads.c ------------------------------------------------------------------------- */

typedef struct {
    int32_t threads; /* as many of those asked for as can be created */
    int32_t size;    /* of libgomp's team: at least `threads` */
    int32_t is_growing;
} fm_growth;

/* A region of `threads` threads is about to begin. From here to fm_end_growing, no other caller may
 * create new threads if this one needs some. The same thread calls both, the second as soon as
 * libgomp has created its threads:
 *
 *   threads <= proven        begin ---------------- region, end does nothing
 *   some could be created    begin: lock, trial --- region, end: unlock --- chunks
 *   none could be created    begin: lock, trial --- end: unlock ----------- the driver alone
 */
fm_growth fm_begin_growing(int32_t threads);
void fm_end_growing(const fm_growth *growth);

/* ---- stacks.c -------------------------------------------------------------------------------- */

void fm_set_stack_size(pthread_attr_t *attributes); /* that of libgomp's threads */
void fm_note_small_helper(void); /* a helper has found too little stack for products */

/* ---- fork.c ---------------------------------------------------------------------------------- */

void fm_fork_init(void); /* call once */

#endif
