# The quick way of train_step, predict and predict_row, for loops that call them again and again with arrays that C
# takes as they stand and with the settings of the call before. The long way, in Python, converts arrays, chooses
# settings and raises errors. If any of that might be necessary, the quick way does nothing and returns None. So both
# ways give the same results.

cdef extern from "fastmlp.h" nogil:
    enum:
        FM_OP_standardize

cdef enum:
    _MOST_THREADS = 1024

MOST_THREADS = _MOST_THREADS  # largest number of threads that a call may name
cdef double _TINY = 5e-324  # the smallest number above 0


def threads_within(int32_t most):
    """Number of threads for a call that names none.

    most: upper limit; the processors of this thread and OMP_NUM_THREADS are limits too.
    Returns 1 in a forked child, or if OpenMP's threads have small stacks.
    """
    return _threads_within(most)


cdef int32_t _threads_within(int32_t most) noexcept:
    if fm_is_forked_child() or fm_has_small_helpers():
        return 1
    cdef int32_t affinity = fm_affinity(), wanted = fm_omp_num_threads()
    if affinity > 0:
        most = min(most, affinity)
    return min(most, wanted) if wanted > 0 else most


cdef int32_t _threads(given, int32_t most) noexcept:
    """Number of threads for a call with the argument `given`, which may be None. 0: `given` is no valid number."""
    if given is None:
        return _threads_within(most)
    if type(given) is int and 0 < given <= _MOST_THREADS:
        return given
    return 0


cdef bint _is_same(given, used) except -1:
    """Whether the given settings are those in use, or equal to them."""
    return given is used or (type(given) is type(used) and given == used)


cdef bint _is_ready(x, int kind) noexcept:
    """Whether x is an array of NumPy's type number `kind` that C takes as it stands."""
    if type(x) is not cnp.ndarray:
        return False
    return cnp.PyArray_TYPE(<cnp.ndarray>x) == kind and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x)


cdef class QuickWay:
    """train_step, predict and predict_row of a network. Each returns None if the long way has to be taken."""

    cdef Context context
    cdef Turns turns
    cdef int kind  # NumPy's number of the network's type
    # Place of the n_in standard deviations of a Standardize in front, 0 until they are known; -1: there is none.
    cdef int64_t std
    # Loss and optimizer of the last step: first as the network keeps them, then as C does.
    cdef object loss, optimizer, name
    cdef LossSettings loss_settings
    cdef OptimizerSettings settings
    cdef int32_t loss_index, optimizer_index, most_threads
    cdef double low, high, seconds
    cdef bint has_schedule

    def __cinit__(self, Context context not None, Turns turns not None):
        cdef const fm_op *first = &context.program.net.ops[0]
        self.context, self.turns = context, turns
        self.kind = cnp.NPY_FLOAT32 if context.program.k.real_size == 4 else cnp.NPY_FLOAT64
        self.std = first.s + first.n_out if first.kind == FM_OP_standardize else -1

    @cython.critical_section
    def remember(self, kept, loss, str name, optimizer, int32_t most_threads, double seconds):
        """Keeps the settings of a step of the long way, since the next step will mostly have the same.

        kept: the loss as the network keeps it, which may be a name.
        loss, optimizer: the objects of the loss and the optimizer.
        name: the name by which the optimizer was given, or None.
        most_threads: upper limit for a call that names no number of threads.
        seconds: as in `Context.train`.
        """
        self.loss_index, self.loss_settings, self.low, self.high = loss.index, loss.settings, loss.low, loss.high
        self.optimizer_index, self.settings = OPTIMIZERS[optimizer.kernel]["index"], optimizer.settings
        self.most_threads, self.seconds, self.has_schedule = most_threads, seconds, type(optimizer.lr) is not float
        self.loss, self.optimizer, self.name = kept, optimizer, name

    @cython.critical_section
    def step(self, net, x, y, loss, optimizer, weights, threads):
        """The loss of one step of `net`; NaN if the loss or the update is not finite. Arguments as in train_step."""
        cdef Context c = self.context
        cdef fm_train_job job
        cdef int64_t rows = self._rows(x)
        cdef int32_t n_threads = _threads(threads, self.most_threads)
        known, used = self.loss, self.optimizer
        if not fm_has_stack() or rows < c.program.min_rows or not c._holds(rows, n_threads) or known is None:
            return None
        loss = net._loss if loss is None else loss
        if optimizer is None or (type(optimizer) is str and optimizer == self.name):
            optimizer = used
        if not (_is_same(loss, known) and _is_same(optimizer, used)):
            return None
        if not (self._suits(y, rows) and self._weighs(weights, rows) and self._is_finite(x, rows)):
            return None
        if self.turns.depth or not self._is_adapted():  # in a callback, or while averages replace the weights
            return None
        self.turns.enter_changing()
        try:
            # Until here another thread may have changed the network. Without a state C has no addresses of its arrays.
            if self.loss is not known or self.optimizer is not used or net._optimizer is not used or net._state is None:
                return None
            net._loss, net._optimizer, self.optimizer = loss, optimizer, optimizer
            rates = optimizer.rates(c.t - c.schedule_start, 1) if self.has_schedule else None
            if not c._holds(rows, n_threads):  # a user's own schedule has used the network
                return None
            c._fill(&job, self.loss_index, self.loss_settings, self.optimizer_index, self.settings, rows, rows,
                    self.seconds)
            job.x, job.target = cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_DATA(<cnp.ndarray>y)
            if weights is not None:
                job.weights = <const double *>cnp.PyArray_DATA(<cnp.ndarray>weights)
            if rates is not None:
                job.rates = <const double *>_data(rates, np.float64, 2, "rates", False)
            c._run(&job, n_threads, True)
        finally:
            self.turns.leave_changing()
        if not job.finite:
            return float("nan")
        return job.loss_sum if job.loss_settings.sum else job.loss_sum / max(1, job.counted)

    def predict(self, x, threads):
        """The output for rows few enough for one thread and little memory. Arguments as in predict."""
        cdef Program p = self.context.program
        cdef int64_t rows = self._rows(x)
        cdef cnp.npy_intp shape[2]
        if not fm_has_stack() or not 0 < rows <= _SMALL_ROW // (p.k.real_size * max(1, p.net.acts_width)) or _use_blas:
            return None
        if fm_useful_threads(&p.net, rows, 2) > 1:
            return None
        if (threads is not None and _threads(threads, 1) == 0) or not (self._is_adapted() and self._is_finite(x, rows)):
            return None
        shape[0], shape[1] = rows, p.n_out
        out = cnp.PyArray_EMPTY(2, shape, self.kind, 0)
        self._read(<cnp.ndarray>x, rows, <cnp.ndarray>out)
        return out

    def predict_row(self, x, out):
        """The output for one row, in `out` or in a new array. Arguments as in predict_row."""
        cdef Program p = self.context.program
        cdef cnp.npy_intp n_out = p.n_out
        if not fm_has_stack() or not _is_ready(x, self.kind):
            return None
        if (<cnp.ndarray>x).ndim != 1 or (<cnp.ndarray>x).shape[0] != p.n_in:
            return None
        if not (self._is_adapted() and self._is_finite(x, 1)):
            return None
        if out is None:
            out = cnp.PyArray_EMPTY(1, &n_out, self.kind, 0)
        elif not (_is_ready(out, self.kind) and cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out)
                  and (<cnp.ndarray>out).ndim == 1 and (<cnp.ndarray>out).shape[0] == n_out):
            return None
        self._read(<cnp.ndarray>x, 1, <cnp.ndarray>out)
        return out

    cdef int _read(self, cnp.ndarray x, int64_t rows, cnp.ndarray out) except -1:
        self.turns.enter_reading()
        try:
            self.context._predict_few(cnp.PyArray_DATA(x), rows, cnp.PyArray_DATA(out))
        finally:
            self.turns.leave_reading()
        return 0

    cdef int64_t _rows(self, x) noexcept:
        """Number of rows of x; 0 if x is not a matrix of the right type with n_in columns."""
        if not _is_ready(x, self.kind) or (<cnp.ndarray>x).ndim != 2:
            return 0
        return (<cnp.ndarray>x).shape[0] if (<cnp.ndarray>x).shape[1] == self.context.program.n_in else 0

    cdef bint _is_finite(self, x, int64_t rows) noexcept:
        cdef Program p = self.context.program
        return p.k.first_nonfinite(cnp.PyArray_DATA(<cnp.ndarray>x), rows * p.n_in) < 0

    cdef bint _is_adapted(self) noexcept:
        cdef Program p = self.context.program
        if self.std < 0:
            return True
        return p.k.first_outside(<char *>self.context.ctx.stats + self.std * p.k.real_size, p.n_in, _TINY, INFINITY) < 0

    cdef bint _suits(self, y, int64_t rows) noexcept:
        """Whether y is a target of so many rows for the loss of the last step."""
        cdef Program p = self.context.program
        cdef bint labels = fm_loss_infos[self.loss_index].labels
        cdef int64_t columns = fm_target_columns(self.loss_index, &self.loss_settings.c, p.n_out)
        cdef int ndim
        if not _is_ready(y, cnp.NPY_INT64 if labels else self.kind):
            return False
        ndim = (<cnp.ndarray>y).ndim
        if ndim == 0 or (<cnp.ndarray>y).shape[0] != rows:
            return False
        if ndim > 2 or (columns != 1 if ndim == 1 else (<cnp.ndarray>y).shape[1] != columns):
            return False
        if labels:
            return fm_first_bad_label(<const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>y), rows, p.n_out,
                                      fm_ignored_label(&self.loss_settings.c)) < 0
        return p.k.first_outside(cnp.PyArray_DATA(<cnp.ndarray>y), rows * columns, self.low, self.high) < 0

    cdef bint _weighs(self, weights, int64_t rows) noexcept:
        """Whether weights are finite, non-negative factors of so many rows, or None."""
        if weights is None:
            return True
        if not _is_ready(weights, cnp.NPY_FLOAT64) or (<cnp.ndarray>weights).ndim != 1:
            return False
        if (<cnp.ndarray>weights).shape[0] != rows:
            return False
        return _build.f64.first_outside(cnp.PyArray_DATA(<cnp.ndarray>weights), rows, 0, INFINITY) < 0
