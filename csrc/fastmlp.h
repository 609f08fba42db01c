/* Every public C type and function of fastmlp, each with its contract.
 *
 * A network's description (fm_net, immutable) is separate from its numbers (fm_ctx, borrowed
 * buffers). fm_net_check validates a description once. After FM_OK no op can read or write outside
 * buffers of the sizes that the net names. That holds whatever the data are, even if another thread
 * changes them meanwhile. No function here allocates, prints or exits. All arithmetic runs in the
 * default floating-point mode (float_mode.h); the caller's mode is restored afterwards. */
#ifndef FASTMLP_H
#define FASTMLP_H

#include <stdint.h>

#include "registry.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- names ----------------------------------------------------------------------------------- */

#define FM_ENUM_OP(name, ...) FM_OP_##name,
#define FM_ENUM_ACTIVATION(name, ...) FM_ACTIVATION_##name,
#define FM_ENUM_FUNCTION(name, ...) FM_FUNCTION_##name,
#define FM_ENUM_LOSS(name, ...) FM_LOSS_##name,
#define FM_ENUM_OPTIMIZER(name, ...) FM_OPTIMIZER_##name,
enum {
    FM_OPS(FM_ENUM_OP) FM_N_OPS
};
enum {
    FM_ACTIVATIONS(FM_ENUM_ACTIVATION) FM_N_ACTIVATIONS
};
enum {
    FM_FUNCTIONS(FM_ENUM_FUNCTION) FM_N_FUNCTIONS
};
enum {
    FM_LOSSES(FM_ENUM_LOSS) FM_N_LOSSES
};
enum {
    FM_OPTIMIZERS(FM_ENUM_OPTIMIZER) FM_N_OPTIMIZERS
};

typedef struct {
    const char *name, *form;
    double kink; /* NAN: none */
} fm_op_info;

typedef struct {
    const char *name, *class_name, *attr;
    double attr_default, attr_least;
    int32_t from_y; /* 1: the derivative is a function of the output */
    const char *formula, *range, *form;
    double kink; /* NAN: none */
    const char *init;
} fm_activation_info;

typedef struct {
    const char *name;
    double from, to;
} fm_function_info;

typedef struct {
    const char *name;
    int32_t labels;     /* 1: one class label a row; 0: columns of values */
    int32_t per_column; /* outputs per column of the target; 0: see fm_target_columns */
    int32_t kinked;
    const char *form, *binary; /* "none": there is no binary sibling */
} fm_loss_info;

typedef struct {
    const char *name;
    int32_t n_states;
} fm_optimizer_info;

/* A setting of an optimizer or of a loss: where it is in fm_hyper or fm_loss_settings. */
typedef struct {
    const char *name; /* NULL behind the last one of a list */
    double value;     /* the default */
    int32_t type;     /* FM_SETTING_* */
    int64_t offset;   /* in bytes */
} fm_setting_info;
enum {
    FM_SETTING_double,
    FM_SETTING_int32_t,
    FM_SETTING_int64_t
};

extern const fm_op_info fm_op_infos[FM_N_OPS];
extern const fm_activation_info fm_activation_infos[FM_N_ACTIVATIONS];
extern const fm_function_info fm_function_infos[FM_N_FUNCTIONS];
extern const fm_loss_info fm_loss_infos[FM_N_LOSSES];
extern const fm_optimizer_info fm_optimizer_infos[FM_N_OPTIMIZERS];
extern const fm_setting_info fm_hyper_infos[], fm_loss_number_infos[];

/* ---- data ------------------------------------------------------------------------------------ */

/* One layer as data. Offsets count elements. Offsets into acts and dacts are per row: with buffers
 * for `capacity` rows, the block of an op begins at offset * capacity. */
typedef struct {
    int32_t kind;    /* FM_OP_* */
    int32_t variant; /* linear, activation: FM_ACTIVATION_*; dropout: the stream of its masks;
                      * norms: FM_LACKS_*; branch, add: distance to the partner, in ops */
    int64_t n_in, n_out;
    int64_t x, y, dx, dy; /* x = -1: the network's input; dx = -1: the gradient by that input */
    int64_t w, b;         /* into params, grads and optimizer state; -1: none */
    int64_t s;            /* into the statistics; -1: none */
    double attr0;         /* activation: slope or alpha; dropout: probability; norms: eps */
    double attr1;         /* batch norm: momentum */
} fm_op;

typedef struct {
    const fm_op *ops;
    int64_t n_ops;
    int64_t n_params, n_decayed;     /* elements; weights come first, and only they are decayed */
    int64_t acts_width, dacts_width; /* elements per row */
    int64_t n_stats;                 /* elements of the statistics (which are not trained) */
} fm_net;

#define FM_MAX_STATES 3

/* Bits of a normalization's variant: the arrays that it does not have. rms_norm never has a shift.
 */
enum {
    FM_LACKS_SCALE = 1,
    FM_LACKS_SHIFT = 2
};

/* Sums over the rows of a mini-batch, and products over k, are summed in chains of FM_CHAIN terms,
 * and the chains are added up. One chain over a million rows would lose two digits. The length
 * determines the bits of every result. */
#define FM_CHAIN 1024

/* Widest layer, in columns, of a net whose training steps may go in panels (kernels/panel.h). */
#define FM_NARROW 256

/* How training steps go through the rows. Every way gives the same bits; all but the first are for
 * tests. */
enum {
    FM_PANELS_by_size,
    FM_PANELS_always, /* if every op can */
    FM_PANELS_never
};

/* How long steps take, alone and together (pace.c). Times are in nanoseconds; 0 means unknown. */
typedef struct {
    int32_t threads; /* threads and rows that the times belong to */
    int64_t rows;
    int32_t alone, is_trial; /* how the next step is taken; whether it is part of a trial */
    int64_t steps;           /* of the trial so far */
    double spent;            /* time of these steps */
    double mean, chosen;     /* of one step: lately, and when the present way was chosen */
    double next, soonest;    /* when the next trial is due, and the earliest time for one */
    double patience;         /* rests are so many times the usual length */
} fm_pace;

/* A question that a long run asks about ten times a second: shall it be broken off?
 * The calling thread asks, and only while no state that outlasts the step is being
 * written. `ask` may be NULL. */
typedef struct {
    int32_t (*ask)(void *arg);
    void *arg;
} fm_poll;

#define FM_ASK_WORK 268435456.0 /* multiply-adds: at most about 0.1 s of one thread */
#define FM_BROKEN_OFF -1

/* Whether to break off a long run on one thread. Asks only when `work` has reached FM_ASK_WORK
 * multiply-adds, and then sets it back to 0. */
static inline int32_t fm_ask_after(const fm_poll *poll, double *work) {
    if (*work < FM_ASK_WORK)
        return 0;
    *work = 0;
    return poll->ask && poll->ask(poll->arg);
}

/* Where the numbers are during a run. All buffers are borrowed; arrays hold the element type unless
 * noted. */
typedef struct {
    void *params, *grads;
    void *state[FM_MAX_STATES]; /* of the optimizer; each is flat like the parameters */
    void *average;              /* of the parameters over the steps; NULL: not wanted */
    int64_t n_averaged;         /* steps that the average holds */
    double running[2];          /* further numbers that an optimizer keeps from step to step */
    void *stats, *batch_stats;  /* running statistics; statistics of the last training pass */
    void *acts, *dacts;         /* capacity * width elements */
    const void *x;              /* (rows, n_in) input of the first op */
    void *dx;                   /* (rows, n_in) gradient by that input; NULL: not wanted */
    int64_t rows;               /* in this step, or in this block of its mini-batch */
    int64_t first_row;          /* of the block in its mini-batch; above 0: gradients accumulate */
    int64_t capacity;           /* rows that acts and dacts can hold */
    int32_t training;           /* 1: dropout draws masks */
    int32_t blas;               /* 1: products through BLAS instead of the native tile */
    int32_t panels;             /* FM_PANELS_* */
    uint64_t seed;              /* with `draw`, row and column it determines every dropout mask */
    uint64_t draw;              /* number of training passes before this one */
    fm_pace pace;
    fm_poll poll;
} fm_ctx;

/* An optimizer's settings, then the numbers of one step. A kernel reads only its own. */
#define FM_SETTING_FIELD(type, name, ...) type name;
typedef struct {
    FM_HYPERS(FM_SETTING_FIELD)
    /* set anew for every step */
    double correction1, correction2;       /* 1 - beta1^t and sqrt(1 - beta2^t) */
    double gradient_share, momentum_share; /* nadam */
    double rectification;                  /* radam; 0: the step is not divided by sqrt(v) yet */
    double mix;                            /* schedule_free_adamw */
    double grad_scale;                     /* factor of the gradient after clipping by norm */
    int32_t is_shaped;                     /* 1: the gradient is scaled, clipped or penalized */
    int32_t is_first;
    int32_t is_shared; /* 1: other threads read the parameters between updates */
} fm_hyper;

/* A loss's settings. A kernel reads only its own. */
typedef struct {
    FM_LOSS_NUMBERS(FM_SETTING_FIELD)
    const double *quantiles; /* pinball: ascending, in (0, 1) */
    int64_t n_quantiles;
    const double *positives, *negatives; /* binary_cross_entropy: weights of targets 1 and 0 ... */
    int64_t n_weighted;                  /* ... one per output, or one for all outputs; 0: none */
    int64_t column;                      /* first output of a vector; the kernel sets it */
    int64_t ignored;                     /* rows with this label count for nothing ... */
    int32_t ignores;                     /* ... if this is 1 */
} fm_loss_settings;

typedef enum {
    FM_OK,
    FM_BAD_EMPTY,      /* no ops; or a size that is negative or too large */
    FM_BAD_KIND,       /* no such op; or no such variant of it */
    FM_BAD_WIDTH,      /* n_in or n_out outside 1 .. 2^31 - 1, or unequal to a neighbor's */
    FM_BAD_ATTRIBUTE,  /* a slope, alpha or probability outside its range */
    FM_BAD_ACTIVATION, /* an offset into acts or dacts leaves them or overlaps another op's */
    FM_BAD_PARAMETER,  /* an offset into params leaves its part or overlaps another op's */
    FM_BAD_STATS,      /* an offset into the statistics leaves them or overlaps another op's */
    FM_BAD_PARTNER,    /* a branch and an add that do not name each other */
} fm_status;

/* The memory that an op needs, and whether its kind accepts its widths, variant and attributes. */
typedef struct {
    fm_status status;
    int64_t n_weights, n_biases; /* parameters of the op */
    int64_t n_slices;            /* independent slices of the parameter gradient, or 0 */
    int64_t n_stats;             /* elements of the statistics */
    int64_t n_kept;              /* numbers per row kept for backward, directly behind y */
    int64_t partner;             /* ops to the one whose buffers it also reads; 0: none */
    int32_t partner_kind;
} fm_sizes;

/* ---- one build of the kernels ---------------------------------------------------------------- */

/* Rows [r0, r1) and columns [j0, j1) of the matrix that a kernel writes. */
typedef struct {
    int64_t r0, r1, j0, j1;
} fm_area;

/* Whether an area of an op must span whole rows or whole columns. Whole columns are needed in the
 * training pass and on the way back only. */
enum {
    FM_WHOLE_nothing,
    FM_WHOLE_rows,
    FM_WHOLE_columns
};

/* Kernels run serially over the area (or parameter slices) they are given, and cannot fail.
 * Areas of one op may be done in any order, once the values that they read are there: all
 * columns of their rows. */
typedef struct {
    fm_sizes (*sizes)(const fm_op *op);
    void (*forward)(const fm_op *op, const fm_ctx *ctx, fm_area y);
    void (*slope)(const fm_op *op, const fm_ctx *ctx, fm_area dz); /* before backward, or NULL */
    void (*backward)(const fm_op *op, const fm_ctx *ctx, fm_area dx);
    void (*param_grad)(const fm_op *op, const fm_ctx *ctx, int64_t i0, int64_t i1);
    void (*keep_stats)(const fm_op *op, const fm_ctx *ctx); /* after a training pass, or NULL */
    /* The same in panels (kernels/panel.h), for training only. Areas are whole panels, and n_in
     * and n_out at most FM_NARROW. `slope` serves both layouts. panel_forward is NULL if the op
     * cannot go in panels. */
    void (*panel_forward)(const fm_op *op, const fm_ctx *ctx, fm_area y);
    void (*panel_backward)(const fm_op *op, const fm_ctx *ctx, fm_area dx);
    void (*panel_param_grad)(const fm_op *op, const fm_ctx *ctx, int64_t i0, int64_t i1);
    int32_t whole; /* FM_WHOLE_* */
} fm_op_kernels;

/* Writes the loss of each row [0, n) of z (n, n_out) into row_loss and, unless dz is NULL,
 * the gradient times `scale` into dz. Row r has its target at index order[r], or at r if
 * order is NULL. A label outside [0, n_out) makes the row's loss and gradient NaN; the
 * ignored label makes them 0. */
typedef void (*fm_loss_fn)(double *row_loss, void *dz, const void *z, const void *target,
                           const int64_t *order, double scale, int64_t n, int64_t n_out,
                           const fm_loss_settings *settings);

/* One fused pass over n elements; states holds one pointer for each state array. Returns 0 if some
 * new value would not have been finite; such an element keeps its old parameter and state. */
typedef int32_t (*fm_update_fn)(void *params, void *const *states, const void *grads, int64_t n,
                                const fm_hyper *hyper);

/* Most columns that limit_columns takes at once. */
#define FM_NORM_COLUMNS 64

typedef struct {
    const char *name;  /* "f32_v4" */
    int64_t real_size; /* bytes of an element */
    int64_t lanes;     /* elements of a vector */
    int32_t has_blas;
    int64_t panel_rows; /* rows of a panel */
    /* Panels pay if the work row by row is at least so many times their own (cut.c). */
    double panels_pay;
    /* Copy rows into panels and back. With `order`, the rows of x are taken in that order. */
    void (*panels_of_rows)(void *to, const void *x, const int64_t *order, int64_t rows,
                           int64_t width);
    void (*rows_of_panels)(void *to, const void *from, int64_t rows, int64_t width);
    fm_op_kernels ops[FM_N_OPS];
    fm_loss_fn losses[FM_N_LOSSES];
    /* Multiply the loss of row r and, unless dz is NULL, its gradient by weights[order[r]]. Weight
     * 0 gives 0, even for NaN or infinity. */
    void (*weigh_rows)(double *row_loss, void *dz, const double *weights, const int64_t *order,
                       int64_t n, int64_t n_out);
    fm_update_fn updates[FM_N_OPTIMIZERS];
    double (*sum_squares)(const void *x, int64_t n);
    /* Columns [j0, j1) of w (n_in, n_out) whose norm is above `limit` shrink to it. */
    void (*limit_columns)(void *w, int64_t n_in, int64_t n_out, int64_t j0, int64_t j1,
                          double limit);
    void (*average)(void *mean, const void *x, int64_t n, double share); /* += share (x - mean) */
    void (*functions[FM_N_FUNCTIONS])(void *y, const void *x, int64_t n);
    int64_t (*first_nonfinite)(const void *x, int64_t n); /* index, or -1 */
    /* Index of the first element that is not a finite number in [low, high], or -1. */
    int64_t (*first_outside)(const void *x, int64_t n, double low, double high);
    /* kernels/gram.c */
    void (*gram)(void *c, int64_t c_row, const void *a, int64_t a_row, int64_t rows, int64_t n,
                 int64_t i0, int64_t i1);
    int32_t (*cholesky_solve)(void *a, void *x, int64_t n, const fm_poll *poll);
    void (*difference)(void *out, const void *a, const void *b, int64_t n);
    void (*scale)(void *x, const void *factor, int64_t n);
    int64_t (*lasso_sweeps)(void *w, void *slope, const void *G, const void *allowed, double l1,
                            int64_t n, int64_t most, const fm_poll *poll); /* kernels/lasso.c */
} fm_kernels;

/* ---- which build (dispatch.c) ---------------------------------------------------------------- */

typedef struct {
    const char *name; /* "base", "v3", "v4" */
    const fm_kernels *f32, *f64;
    int32_t runs_here;
} fm_build;

/* All builds, from the simplest to the widest; *n receives their number. */
const fm_build *fm_builds(int64_t *n);

/* ---- threads (team.c, stacks.c, fork.c, processors.c) -----------------------------------------
 */

typedef struct fm_team fm_team;

/* Run `drive` on the calling thread, the driver. Up to threads - 1 helpers run the chunks that it
 * hands out; there are fewer if the system cannot create so many. */
void fm_parallel(int32_t threads, void (*drive)(fm_team *team, void *arg), void *arg);

/* Call chunk(arg, i, worker) once for every i in [0, n), on whichever threads are awake. Returns
 * when all are done. `worker` counts from 0 and is below the number of threads. Only the driver may
 * call this. */
void fm_team_run(fm_team *team, void (*chunk)(void *arg, int64_t i, int32_t worker), void *arg,
                 int64_t n);

int32_t fm_team_size(const fm_team *team);

/* From now on ask `poll` between the driver's chunks (NULL: no longer). Once it has said yes, no
 * further chunk begins, and fm_team_broken_off returns 1. */
void fm_team_ask(fm_team *team, const fm_poll *poll);
int32_t fm_team_broken_off(const fm_team *team);

/* Call once when the library is loaded. A forked child of this process runs everything on one
 * thread: libgomp would hang if it used a team whose threads did not survive the fork. */
void fm_threads_init(void);
int32_t fm_is_forked_child(void);

/* Bytes of stack that a call with matrix products needs: panels of at most 450 KiB, and the frames
 * around them. tests/stack_usage.py compares it with a build. */
#define FM_STACK_BYTES 524288
#define FM_STACK_UNKNOWN INT64_MAX
int32_t fm_has_stack(void);  /* 1 if this thread has FM_STACK_BYTES left, or if that is unknown */
int64_t fm_stack_left(void); /* bytes left to this thread, or FM_STACK_UNKNOWN */
int32_t fm_has_small_helpers(void); /* 1: OpenMP's threads have less; calls run on one thread */

int32_t fm_affinity(void);        /* processors that this thread may run on; 0: unknown */
int32_t fm_omp_num_threads(void); /* first number in OMP_NUM_THREADS; 0: none */
void fm_enter_blas(void);         /* around every BLAS call: forks wait until no thread is inside */
void fm_leave_blas(void);

/* Rows that go through a BLAS together. The cut never changes, since the bits of
 * a BLAS depend on it. */
#define FM_BLAS_ROWS 64

/* ---- networks (check.c, passes.c, update.c, predict.c, train.c) -------------------------------
 */

/* Accept or refuse a net; *bad_op receives the index of the op at fault, or -1. */
fm_status fm_net_check(const fm_net *net, const fm_kernels *k, int64_t *bad_op);

/* Forward pass over ctx->rows rows of ctx->x. Returns 0 if ctx->poll broke it off. */
int32_t fm_forward(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int32_t threads);

/* Backward pass. The caller puts dy of the last op into dacts (fm_output_grad); its values are
 * overwritten. Returns 0 if ctx->poll broke it off; grads are then 0. */
int32_t fm_backward(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, int32_t threads);

/* Rows of a block: a training step of `rows` rows on `threads` threads takes so many at a time, and
 * acts, dacts and batch need room for them. */
int64_t fm_block_rows(const fm_net *net, const fm_kernels *k, int64_t rows, int32_t threads,
                      int32_t blas);

/* Whether the ctx->rows rows of a training step go in panels, unless they go layer by layer. */
int32_t fm_in_panels(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx);

/* Where forward leaves the output, and where backward expects its gradient. */
void *fm_output(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx);
void *fm_output_grad(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx);

/* The settings with a schedule's learning rate rates[0] and, unless it is NaN, its momentum or
 * beta1 rates[1]. */
fm_hyper fm_at_rates(fm_hyper hyper, const double *rates);

/* Set a setting in fm_hyper or fm_loss_settings to a value that its type can hold. */
void fm_set(void *settings, const fm_setting_info *setting, double value);

/* Takes optimizer step number t (from 1) over the flat buffers. Returns 0 if some value
 * would not be finite. */
int32_t fm_update(const fm_net *net, const fm_kernels *k, fm_ctx *ctx, int32_t optimizer,
                  const fm_hyper *hyper, int64_t t, int32_t threads);

/* out (rows, n_out) = the network's output for the rows of x, outside of training. Rows go in
 * blocks of ctx->capacity; acts holds one block per thread, or fewer if all rows fit in fewer.
 * Begins with row `first`, stops after `seconds`, and returns the first row not done. `pace`
 * belongs to the calling thread. */
int64_t fm_predict(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, void *out,
                   int64_t first, int32_t threads, double seconds, fm_pace *pace);

/* How many of `threads` threads find enough work in `rows` rows of the net. */
int32_t fm_useful_threads(const fm_net *net, int64_t rows, int32_t threads);

/* out (n_out) = the output for the single row ctx->x; acts holds acts_width elements. */
void fm_predict_row(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx, void *out);

/* Columns of a loss's target for n_out outputs; 0 if no number of columns fits. */
int64_t fm_target_columns(int32_t loss, const fm_loss_settings *settings, int64_t n_out);

/* Rows of a target that a mean divides by: those whose label is not ignored. Counts among the n
 * rows in `order`, or among the first n if that is NULL. */
int64_t fm_counted_rows(int32_t loss, const fm_loss_settings *settings, const void *target,
                        const int64_t *order, int64_t n);

/* Mean (or sum) of the losses of n rows of z against their targets; writes dz unless it is NULL.
 * weights (n): factors of the rows, or NULL. row_loss (n) is scratch. Returns NaN if the poll has
 * broken it off. */
double fm_loss(const fm_kernels *k, int32_t loss, const fm_loss_settings *settings,
               double *row_loss, void *dz, const void *z, const void *target, const double *weights,
               int64_t n, int64_t n_out, const fm_poll *poll);

typedef struct {
    const void *x, *target; /* all rows; target: int64_t labels, or elements (n, columns) */
    const double *weights;  /* factor of the loss of each row of x, or NULL */
    fm_loss_settings loss_settings;
    const int64_t *order;    /* row numbers to visit; NULL: 0, 1, 2, ... */
    int64_t n;               /* number of rows to visit */
    int64_t batch_size;      /* rows of a mini-batch; see fm_block_rows for ctx->capacity */
    int32_t loss, optimizer; /* FM_LOSS_*, FM_OPTIMIZER_* */
    fm_hyper hyper;
    const double *rates; /* (steps of this call, 2), see fm_at_rates; or NULL */
    void *batch;         /* (capacity, n_in): gathered inputs; needed with order or panels */
    double *row_loss;    /* (batch_size) scratch */
    void *outputs;       /* (rows of x, n_out): the output of every visited row, or NULL */
    double seconds;      /* stop after the mini-batch that ends later than this */
    /* progress, read and written */
    int64_t position;   /* rows visited */
    int64_t t;          /* optimizer steps taken */
    int64_t counted;    /* rows visited whose label is not ignored */
    double loss_sum;    /* sum of the losses of the rows visited */
    int32_t finite;     /* 0: the last loss or update was not finite; that step does not count */
    int32_t broken_off; /* 1: ctx->poll broke the run off, before an update */
} fm_train_job;

/* Train on mini-batches from job->position on: gather, forward, loss, backward, update. The last
 * mini-batch may be short. ctx->draw grows by one with each. A step without an update (its loss is
 * not finite, or it was broken off) leaves 0 in grads. */
void fm_train(const fm_net *net, const fm_kernels *k, fm_ctx *ctx, fm_train_job *job,
              int32_t threads);

/* Whether one thread alone is expected to take the next step of `rows` rows faster
 * than `threads` threads. */
int32_t fm_pace_alone(fm_pace *pace, int32_t threads, int64_t rows);

/* Record that a step, taken as fm_pace_alone said, took `took` nanoseconds. `now` is
 * the time of any clock. */
void fm_pace_step(fm_pace *pace, double now, double took);

/* ---- derivatives of every row (jacobian.c) --------------------------------------------------- */

typedef struct {
    const void *x, *target; /* (rows, n_in), (rows, n_out); target: elements, or NULL */
    const void *roots;      /* (rows): factors of each row's part of block, or NULL */
    int64_t rows;
    void *block;   /* (rows n_out, n_params), or with target (rows n_out, n_params + 1) */
    void *gram;    /* (n_params + 1, n_params + 1), or NULL; needs target */
    void *scratch; /* acts_width + dacts_width elements for each thread */
} fm_jacobian_job;

/* block = d output / d params for every output of every row, outside of training. With target, the
 * last column is output - target. Upper triangle of gram += block^T block. The bits are the same
 * for any number of threads. Returns 0 if ctx->poll broke it off. */
int32_t fm_jacobian(const fm_net *net, const fm_kernels *k, const fm_ctx *ctx,
                    const fm_jacobian_job *job, int32_t threads);

/* ---- the rest -------------------------------------------------------------------------------- */

/* Shuffle the n elements of `order` by Fisher-Yates (Durstenfeld). The random number of a
 * position is its fm_mix64 under fm_key(seed, epoch, 0); a product of 64 x 64 -> 128 bits
 * scales it to the range. */
void fm_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch);

/* Index of the first label that is outside [0, n_classes) and not the ignored one, or -1. `ignored`
 * NULL: no label is ignored. */
int64_t fm_first_bad_label(const int64_t *labels, int64_t n, int64_t n_classes,
                           const int64_t *ignored);

/* The address of the ignored label in the settings, or NULL if none is ignored. */
const int64_t *fm_ignored_label(const fm_loss_settings *settings);

/* fm_try_lock returns 1 if the lock was free and is now held; fm_unlock releases it. */
int32_t fm_try_lock(int32_t *lock);
void fm_unlock(int32_t *lock);

#ifdef __cplusplus
}
#endif
#endif
