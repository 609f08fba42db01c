/* What training shares between its two files. */
#ifndef FASTMLP_TRAIN_H
#define FASTMLP_TRAIN_H

#include "run.h"

typedef struct {
    fm_run run;
    fm_step step;
    fm_train_job *job;
    int32_t in_panels;    /* result of fm_in_panels ... */
    int64_t known_rows;   /* ... for so many rows */
    int64_t batch_rows;   /* of the whole mini-batch */
    int64_t counted_rows; /* rows of the mini-batch whose label is not ignored */
    int64_t first_t;      /* steps taken before this call */
    double now, end;      /* s: time after the last step, and time to stop */
} fm_training;

/* Gather, forward, loss and backward of all rows of the mini-batch, block by block
 * (train_rows.c). The gradients of the last block are left to the caller. */
void fm_train_rows(fm_team *team, fm_training *r);

#endif
