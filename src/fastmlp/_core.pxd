# The C interface as `_core.pyx` uses it. Cython needs no more of a struct than the fields that are used; sizes of
# arrays are C's own constants.

from libc.stdint cimport int32_t, int64_t, uint64_t


cdef extern from "fastmlp.h" nogil:
    enum:
        FM_N_OPS
        FM_N_ACTIVATIONS
        FM_N_FUNCTIONS
        FM_N_LOSSES
        FM_N_OPTIMIZERS
        FM_BLAS_ROWS
        FM_MAX_STATES
        FM_SETTING_double
        FM_PANELS_by_size
        FM_PANELS_always
        FM_PANELS_never

    ctypedef struct fm_op_info:
        const char *name
        const char *form
        double kink

    ctypedef struct fm_activation_info:
        const char *name
        const char *class_name
        const char *attr
        double attr_default
        double attr_least
        int32_t from_y
        const char *formula
        const char *range_ "range"
        const char *form
        double kink
        const char *init

    ctypedef struct fm_function_info:
        const char *name
        double from_ "from"
        double to

    ctypedef struct fm_loss_info:
        const char *name
        int32_t labels
        int32_t per_column
        int32_t kinked
        const char *form
        const char *binary

    ctypedef struct fm_optimizer_info:
        const char *name
        int32_t n_states

    ctypedef struct fm_setting_info:
        const char *name
        double value
        int32_t type

    const fm_op_info fm_op_infos[FM_N_OPS]
    const fm_activation_info fm_activation_infos[FM_N_ACTIVATIONS]
    const fm_function_info fm_function_infos[FM_N_FUNCTIONS]
    const fm_loss_info fm_loss_infos[FM_N_LOSSES]
    const fm_optimizer_info fm_optimizer_infos[FM_N_OPTIMIZERS]
    const fm_setting_info fm_hyper_infos[]
    const fm_setting_info fm_loss_number_infos[]

    ctypedef struct fm_op:
        int32_t kind
        int32_t variant
        int64_t n_in
        int64_t n_out
        int64_t x
        int64_t y
        int64_t dx
        int64_t dy
        int64_t w
        int64_t b
        int64_t s
        double attr0
        double attr1

    ctypedef struct fm_net:
        const fm_op *ops
        int64_t n_ops
        int64_t n_params
        int64_t n_decayed
        int64_t acts_width
        int64_t dacts_width
        int64_t n_stats

    ctypedef struct fm_poll:
        int32_t (*ask)(void *) noexcept
        void *arg

    ctypedef struct fm_ctx:
        void *params
        void *grads
        void *state[FM_MAX_STATES]
        void *average
        int64_t n_averaged
        double running[2]
        void *stats
        void *batch_stats
        void *acts
        void *dacts
        const void *x
        void *dx
        int64_t rows
        int64_t capacity
        int32_t training
        int32_t blas
        int32_t panels
        uint64_t seed
        uint64_t draw
        fm_poll poll

    ctypedef struct fm_hyper:
        int64_t average_every

    ctypedef struct fm_loss_settings:
        int32_t sum
        const double *quantiles
        int64_t n_quantiles
        const double *positives
        const double *negatives
        int64_t n_weighted
        int64_t ignored
        int32_t ignores

    ctypedef enum fm_status:
        FM_OK
        FM_BAD_EMPTY
        FM_BAD_KIND
        FM_BAD_WIDTH
        FM_BAD_ATTRIBUTE
        FM_BAD_ACTIVATION
        FM_BAD_PARAMETER
        FM_BAD_STATS
        FM_BAD_PARTNER

    enum:
        FM_WHOLE_columns

    ctypedef struct fm_sizes:
        fm_status status
        int64_t n_weights
        int64_t n_biases
        int64_t n_slices
        int64_t n_stats
        int64_t n_kept

    ctypedef fm_sizes (*fm_sizes_fn)(const fm_op *) noexcept

    ctypedef struct fm_op_kernels:
        fm_sizes_fn sizes
        int32_t whole

    ctypedef int64_t (*fm_first_nonfinite_fn)(const void *, int64_t) noexcept
    ctypedef int64_t (*fm_first_outside_fn)(const void *, int64_t, double, double) noexcept
    ctypedef int32_t (*fm_cholesky_solve_fn)(void *, void *, int64_t, const fm_poll *) noexcept
    ctypedef int64_t (*fm_lasso_sweeps_fn)(void *, void *, const void *, const void *, double, int64_t,
                                           int64_t, const fm_poll *) noexcept

    ctypedef void (*fm_function)(void *, const void *, int64_t) noexcept

    ctypedef struct fm_kernels:
        const char *name
        int64_t real_size
        int64_t lanes
        int32_t has_blas
        fm_op_kernels ops[FM_N_OPS]
        fm_function functions[FM_N_FUNCTIONS]
        fm_first_nonfinite_fn first_nonfinite
        fm_first_outside_fn first_outside
        fm_cholesky_solve_fn cholesky_solve
        fm_lasso_sweeps_fn lasso_sweeps

    ctypedef struct fm_build:
        const char *name
        const fm_kernels *f32
        const fm_kernels *f64
        int32_t runs_here

    ctypedef struct fm_train_job:
        const void *x
        const void *target
        const double *weights
        fm_loss_settings loss_settings
        const int64_t *order
        int64_t n
        int64_t batch_size
        int32_t loss
        int32_t optimizer
        fm_hyper hyper
        const double *rates
        void *batch
        double *row_loss
        void *outputs
        double seconds
        int64_t position
        int64_t t
        int64_t counted
        double loss_sum
        int32_t finite
        int32_t broken_off

    ctypedef struct fm_jacobian_job:
        const void *x
        const void *target
        const void *roots
        int64_t rows
        void *block
        void *gram
        void *scratch

    const fm_build *fm_builds(int64_t *n) noexcept
    void fm_threads_init() noexcept
    int32_t fm_is_forked_child() noexcept
    enum:
        FM_STACK_BYTES
        FM_LACKS_SCALE
        FM_LACKS_SHIFT
    int32_t fm_has_stack() noexcept
    int64_t fm_stack_left() noexcept
    int32_t fm_has_small_helpers() noexcept
    int32_t fm_affinity() noexcept
    int32_t fm_omp_num_threads() noexcept
    fm_status fm_net_check(const fm_net *, const fm_kernels *, int64_t *) noexcept
    int32_t fm_forward(const fm_net *, const fm_kernels *, const fm_ctx *, int32_t) noexcept
    int32_t fm_backward(const fm_net *, const fm_kernels *, const fm_ctx *, int32_t) noexcept
    int64_t fm_block_rows(const fm_net *, const fm_kernels *, int64_t, int32_t, int32_t) noexcept
    int32_t fm_in_panels(const fm_net *, const fm_kernels *, const fm_ctx *) noexcept
    void *fm_output(const fm_net *, const fm_kernels *, const fm_ctx *) noexcept
    void *fm_output_grad(const fm_net *, const fm_kernels *, const fm_ctx *) noexcept
    fm_hyper fm_at_rates(fm_hyper, const double *) noexcept
    void fm_set(void *, const fm_setting_info *, double) noexcept
    int32_t fm_update(const fm_net *, const fm_kernels *, fm_ctx *, int32_t, const fm_hyper *, int64_t,
                      int32_t) noexcept
    ctypedef struct fm_pace:
        pass
    int64_t fm_predict(const fm_net *, const fm_kernels *, const fm_ctx *, void *, int64_t, int32_t, double,
                       fm_pace *) noexcept
    int32_t fm_useful_threads(const fm_net *, int64_t, int32_t) noexcept
    void fm_predict_row(const fm_net *, const fm_kernels *, const fm_ctx *, void *) noexcept
    int64_t fm_target_columns(int32_t, const fm_loss_settings *, int64_t) noexcept
    double fm_loss(const fm_kernels *, int32_t, const fm_loss_settings *, double *, void *, const void *,
                   const void *, const double *, int64_t, int64_t, const fm_poll *) noexcept
    void fm_train(const fm_net *, const fm_kernels *, fm_ctx *, fm_train_job *, int32_t) noexcept
    int32_t fm_pace_alone(fm_pace *, int32_t, int64_t) noexcept
    void fm_pace_step(fm_pace *, double, double) noexcept
    int32_t fm_jacobian(const fm_net *, const fm_kernels *, const fm_ctx *, const fm_jacobian_job *,
                        int32_t) noexcept
    void fm_shuffle(int64_t *, int64_t, uint64_t, uint64_t) noexcept
    int64_t fm_first_bad_label(const int64_t *, int64_t, int64_t, const int64_t *) noexcept
    const int64_t *fm_ignored_label(const fm_loss_settings *) noexcept
    int32_t fm_try_lock(int32_t *) noexcept
    void fm_unlock(int32_t *) noexcept

cdef extern from "blas_info.h" nogil:
    const char *fm_blas_name() noexcept
    const char *fm_blas_core() noexcept
    const char *fm_compiler() noexcept
    void fm_blas_init() noexcept
