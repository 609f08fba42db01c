# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True, autotestdict=False
"""The door between Python and C: checks types, releases the GIL, and turns a status into an exception.

No arithmetic and no loops over elements happen here. Arrays must already have the right type and layout
(`fastmlp.ground.conversion` converts them). Outputs are written in place.

The declarations of the C interface are in `_core.pxd`, whose names this file sees.
"""

import os
import threading

cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

cnp.import_array()


# ---- the lists of registry.h -----------------------------------------------------------------------

OPS = {fm_op_infos[i].name.decode(): i for i in range(FM_N_OPS)}
OP_FACTS = [{"form": fm_op_infos[i].form.decode(), "kink": fm_op_infos[i].kink} for i in range(FM_N_OPS)]
ACTIVATIONS = {
    fm_activation_infos[i].name.decode(): {
        "index": i,
        "class_name": fm_activation_infos[i].class_name.decode(),
        "attr": fm_activation_infos[i].attr.decode(),
        "default": fm_activation_infos[i].attr_default,
        "least": fm_activation_infos[i].attr_least,
        "from_y": bool(fm_activation_infos[i].from_y),
        "formula": fm_activation_infos[i].formula.decode(),
        "range": fm_activation_infos[i].range_.decode(),
        "form": fm_activation_infos[i].form.decode(),
        "kink": fm_activation_infos[i].kink,
        "init": fm_activation_infos[i].init.decode(),
    }
    for i in range(FM_N_ACTIVATIONS)
}
LOSSES = {
    fm_loss_infos[i].name.decode(): {
        "index": i,
        "labels": bool(fm_loss_infos[i].labels),
        "per_column": fm_loss_infos[i].per_column,
        "kinked": bool(fm_loss_infos[i].kinked),
        "form": fm_loss_infos[i].form.decode(),
        "binary": fm_loss_infos[i].binary.decode(),
    }
    for i in range(FM_N_LOSSES)
}
FUNCTIONS = {
    fm_function_infos[i].name.decode(): {
        "index": i, "from": fm_function_infos[i].from_, "to": fm_function_infos[i].to
    }
    for i in range(FM_N_FUNCTIONS)
}
OPTIMIZERS = {
    fm_optimizer_infos[i].name.decode(): {"index": i, "n_states": fm_optimizer_infos[i].n_states}
    for i in range(FM_N_OPTIMIZERS)
}
OP_DTYPE = np.dtype(
    [("kind", "i4"), ("variant", "i4")]
    + [(name, "i8") for name in ("n_in", "n_out", "x", "y", "dx", "dy", "w", "b", "s")]
    + [("attr0", "f8"), ("attr1", "f8")]
)

cdef dict _STATUS = {
    FM_BAD_EMPTY: "the program is empty, or a size in it is negative or too large",
    FM_BAD_KIND: "no such op, or an activation or a variant that this op cannot have",
    FM_BAD_WIDTH: "n_in and n_out must lie in 1 .. 2**31 - 1 and match the neighbors",
    FM_BAD_ATTRIBUTE: "an attribute (slope, alpha, beta, probability, eps, momentum) is outside its range",
    FM_BAD_ACTIVATION: "an offset into the activations leaves them or overlaps another op's",
    FM_BAD_PARAMETER: "an offset into the parameters leaves them or overlaps another op's",
    FM_BAD_STATS: "an offset into the statistics leaves them or overlaps another op's",
    FM_BAD_PARTNER: "a branch and an add must name each other and have one width",
}


# ---- the build of the kernels in use ----------------------------------------------------------------

cdef const fm_build *_build = NULL
cdef int32_t _use_blas = 0


def _choose():
    """Chooses the widest build that runs here, or the one that FASTMLP_KERNELS names. Returns the names of all."""
    global _build, _use_blas
    cdef int64_t n = 0
    cdef const fm_build *builds = fm_builds(&n)
    wanted = os.environ.get("FASTMLP_KERNELS", "").strip().lower()
    available = [builds[i].name.decode() for i in range(n) if builds[i].runs_here]
    if wanted and wanted not in available:
        raise ImportError(f"FASTMLP_KERNELS={wanted} cannot run here; use one of {', '.join(available)}")
    for i in range(n):
        if builds[i].runs_here and (not wanted or builds[i].name.decode() == wanted):
            _build = &builds[i]
    gemm = os.environ.get("FASTMLP_GEMM", "").strip().lower() or "native"
    if gemm not in ("native", "blas"):
        raise ImportError(f"FASTMLP_GEMM={gemm} is unknown; use native or blas")
    if gemm == "blas" and not _build.f32.has_blas:
        raise ImportError("FASTMLP_GEMM=blas, but this build has no BLAS; reinstall with FASTMLP_BLAS=auto")
    _use_blas = gemm == "blas"
    if _use_blas:
        fm_blas_init()
    return available


_AVAILABLE = _choose()
fm_threads_init()


def build_info():
    """How this extension was built, and which of its parts are in use, as a dict."""
    return {
        "compiler": fm_compiler().decode(),
        "kernels": _build.name.decode(),
        "available_kernels": list(_AVAILABLE),
        "gemm": "blas" if _use_blas else "native",
        "blas": fm_blas_name().decode(),
        "blas_core": fm_blas_core().decode(),
    }


def fixed_block():
    """Rows that must go through the network together for equal bits; 0 if any number will do."""
    return FM_BLAS_ROWS if _use_blas else 0


STACK_BYTES = FM_STACK_BYTES
LACKS_SCALE, LACKS_SHIFT = FM_LACKS_SCALE, FM_LACKS_SHIFT  # bits of a normalization's variant


cpdef int check_stack() except -1:
    """Raises RuntimeError if this thread has less stack left than matrix products may take."""
    if fm_has_stack():
        return 0
    advice = "call threading.stack_size(2**20) before the thread is started"
    if threading.current_thread() is threading.main_thread():
        advice = "start Python after `ulimit -s 1024`, or call from a thread after threading.stack_size(2**20)"
    raise RuntimeError(
        f"fastmlp needs {FM_STACK_BYTES // 1024} KiB of stack, of which this thread has "
        f"{fm_stack_left() // 1024} left; {advice}"
    )


def has_small_helpers():
    """Whether OpenMP's threads have too little stack for matrix products; all calls then run on one thread."""
    return bool(fm_has_small_helpers())


def affinity():
    """Number of processors that this thread may run on, or 0 if the system does not say."""
    return fm_affinity()


cdef const fm_kernels *_kernels(dtype) except NULL:
    if dtype == np.float32:
        return _build.f32
    if dtype == np.float64:
        return _build.f64
    raise TypeError(f"dtype must be float32 or float64, not {dtype}")


# ---- exact types ------------------------------------------------------------------------------------

cdef void *_data(cnp.ndarray array, dtype, int64_t size, str name, bint writable) except? NULL:
    """The address of an array that is exactly `size` elements of `dtype`, C-contiguous and aligned."""
    if array is None:
        raise TypeError(f"{name} must be an array, not None")
    cdef object own = <object>cnp.PyArray_DESCR(array)
    if (own is not dtype and own != dtype) or not cnp.PyArray_ISCARRAY_RO(array):
        raise TypeError(f"{name} must be a C-contiguous {dtype} array")
    if cnp.PyArray_SIZE(array) != size:
        raise ValueError(f"{name} has {cnp.PyArray_SIZE(array)} elements, expected {size}")
    if writable and not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{name} is read-only")
    return cnp.PyArray_DATA(array)


cdef int64_t _times(int64_t a, int64_t b) except -1:
    """a * b. Raises ValueError if that is no size, because it would be negative or wrap around."""
    if a < 0 or b < 0 or (b > 0 and a > INT64_MAX // b):
        raise ValueError(f"{a} times {b} is no size")
    return a * b


def op_sizes(dtype, op):
    """(n_weights, n_biases, n_stats, n_kept) of one record of OP_DTYPE. Raises ValueError if its kind refuses it."""
    cdef fm_op record
    cdef bytes raw = op.tobytes()
    if len(raw) != sizeof(fm_op):
        raise ValueError("op is not one record of OP_DTYPE")
    memcpy(&record, <const char *>raw, sizeof(fm_op))
    if record.kind < 0 or record.kind >= FM_N_OPS:
        raise ValueError(_STATUS[FM_BAD_KIND])
    cdef fm_sizes sizes = _kernels(dtype).ops[record.kind].sizes(&record)
    if sizes.status != FM_OK:
        raise ValueError(_STATUS[sizes.status])
    return sizes.n_weights, sizes.n_biases, sizes.n_stats, sizes.n_kept


cdef class Program:
    """A checked, immutable net: its ops, and the sizes of the buffers they work on.

    ops: records of OP_DTYPE, one for each planned layer.
    n_params, n_decayed: elements of the parameters; weights come first, and only they are decayed.
    acts_width, dacts_width: elements per row of the activations and of their gradients.
    dtype: float32 or float64.
    n_stats: elements of the statistics.
    Raises TypeError for another dtype, and ValueError with the number of the op if an op could leave its buffers.
    """

    cdef fm_net net
    cdef const fm_kernels *k
    cdef readonly object dtype
    cdef readonly int64_t n_in, n_out
    cdef readonly int64_t min_rows  # least rows of a training pass

    def __cinit__(self, cnp.ndarray ops not None, int64_t n_params, int64_t n_decayed, int64_t acts_width,
                  int64_t dacts_width, dtype="float32", int64_t n_stats=0):
        cdef int64_t bad = -1
        self.dtype = np.dtype(dtype)
        self.k = _kernels(self.dtype)
        if ops.dtype != OP_DTYPE or ops.ndim != 1 or not ops.flags.c_contiguous:
            raise TypeError("ops must be a one-dimensional array of OP_DTYPE")
        self.net.n_ops = cnp.PyArray_SIZE(ops)
        self.net.ops = <fm_op *>malloc(max(1, self.net.n_ops) * sizeof(fm_op))
        if self.net.ops == NULL:
            raise MemoryError()
        memcpy(<void *>self.net.ops, cnp.PyArray_DATA(ops), self.net.n_ops * sizeof(fm_op))
        self.net.n_params, self.net.n_decayed = n_params, n_decayed
        self.net.acts_width, self.net.dacts_width, self.net.n_stats = acts_width, dacts_width, n_stats
        cdef fm_status status = fm_net_check(&self.net, self.k, &bad)
        if status != FM_OK:
            where = f"op {bad}: " if bad >= 0 else ""
            raise ValueError(where + _STATUS[status])
        self.n_in = self.net.ops[0].n_in
        self.n_out = self.net.ops[self.net.n_ops - 1].n_out
        self.min_rows = 1
        for i in range(self.net.n_ops):
            if self.k.ops[self.net.ops[i].kind].whole == FM_WHOLE_columns:
                self.min_rows = 2

    def __dealloc__(self):
        free(<void *>self.net.ops)

    @property
    def n_params(self):
        return self.net.n_params

    @property
    def n_stats(self):
        return self.net.n_stats

    @property
    def acts_width(self):
        return self.net.acts_width

    @property
    def dacts_width(self):
        return self.net.dacts_width

    cdef int64_t _block_rows(self, int64_t rows, int32_t threads) noexcept:
        return fm_block_rows(&self.net, self.k, rows, threads, _use_blas)

    def block_rows(self, int64_t rows, int32_t threads):
        """Rows of a block: a training step of `rows` rows takes so many at a time, and needs room for them."""
        return self._block_rows(rows, threads)


include "turns.pxi"


cdef enum:
    _SMALL_ROW = 32768  # bytes of activations that predict_row keeps on its stack
    _LONG_ROW = 65536  # parameters times rows; from here on predict_row releases the GIL


cdef class Pace:
    """A measurement, over many calls, of whether predictions are faster on several threads than on one."""

    cdef fm_pace c


cdef int _set_all(void *c, const fm_setting_info *setting, dict settings) except -1:
    """Sets all settings of a list, each to its default if it is not given. Removes them from the dict."""
    while setting.name != NULL:
        value = settings.pop(setting.name.decode(), setting.value)
        if setting.type != FM_SETTING_double and not -2**31 <= value < 2**62:
            raise OverflowError(f"{value} is too large for a setting")
        fm_set(c, setting, value)
        setting += 1
    return 0


cdef class OptimizerSettings:
    """The settings of an optimizer as C reads them. One object serves any number of calls.

    settings: values by name; those of FM_HYPERS in registry.h are read, other names are ignored.
    Raises TypeError without lr, OverflowError for an integer that is too large, and ValueError if average_every < 1.
    """

    cdef fm_hyper c

    def __cinit__(self, **settings):
        if "lr" not in settings:
            raise TypeError("an optimizer needs lr")
        _set_all(&self.c, fm_hyper_infos, settings)
        if self.c.average_every < 1:
            raise ValueError("average_every must be at least 1")


cdef class LossSettings:
    """The settings of a loss as C reads them. One object serves any number of calls.

    quantiles: pinball; ascending numbers in (0, 1).
    positives, negatives: binary_cross_entropy; weights of targets 1 and 0, one per output or one for all.
    ignore_index: rows with this label count for nothing; None: every row counts.
    numbers: values by name; FM_LOSS_NUMBERS in registry.h lists them with their defaults.
    Raises TypeError for another name, and ValueError if positives and negatives differ in number.
    """

    cdef fm_loss_settings c
    cdef cnp.ndarray quantiles, positives, negatives

    def __cinit__(self, *, quantiles=(), positives=(), negatives=(), ignore_index=None, **numbers):
        _set_all(&self.c, fm_loss_number_infos, numbers)
        if numbers:
            raise TypeError(f"losses have no setting {next(iter(numbers))!r}")
        self.quantiles = np.array(quantiles, np.float64).reshape(-1)
        self.c.quantiles = <const double *>cnp.PyArray_DATA(self.quantiles)
        self.c.n_quantiles = cnp.PyArray_SIZE(self.quantiles)
        self.positives = np.array(positives, np.float64).reshape(-1)
        self.negatives = np.array(negatives, np.float64).reshape(-1)
        self.c.positives = <const double *>cnp.PyArray_DATA(self.positives)
        self.c.negatives = <const double *>cnp.PyArray_DATA(self.negatives)
        self.c.n_weighted = cnp.PyArray_SIZE(self.positives)
        self.c.ignores = ignore_index is not None
        self.c.ignored = ignore_index if ignore_index is not None else 0
        if self.c.n_weighted != cnp.PyArray_SIZE(self.negatives):
            raise ValueError("positives and negatives must be as many")


_PLAIN = LossSettings()


def target_columns(int32_t loss, LossSettings settings not None, int64_t n_out):
    """Number of columns of a loss's target for n_out outputs; 0 if no number fits. Raises ValueError for no loss."""
    if not 0 <= loss < FM_N_LOSSES or n_out < 1:
        raise ValueError("no such loss, or no outputs")
    return fm_target_columns(loss, &settings.c, n_out)


cdef void *_target(cnp.ndarray target, dtype, int32_t loss, LossSettings settings, int64_t rows,
                   int64_t n_out, bint scan=True) except NULL:
    """The address of a target that suits the loss, its settings and the number of outputs. scan: also search labels
    for one outside the outputs.
    """
    cdef void *data
    cdef int64_t columns = target_columns(loss, settings, n_out)
    if columns == 0:
        raise ValueError(f"{n_out} outputs do not suit this loss")
    if not fm_loss_infos[loss].labels:
        return _data(target, dtype, _times(rows, columns), "target", False)
    data = _data(target, np.int64, rows, "target", False)
    if scan and fm_first_bad_label(<const int64_t *>data, rows, n_out, fm_ignored_label(&settings.c)) >= 0:
        raise IndexError("target holds a label outside the outputs")
    return data


cdef const double *_weights(cnp.ndarray weights, int64_t rows) except? NULL:
    if weights is None:
        return NULL
    return <const double *>_data(weights, np.float64, rows, "weights", False)


cdef void _predict_alone(Program p, const fm_ctx *c, void *out) noexcept nogil:
    cdef fm_pace pace
    if c.rows == 1:
        fm_predict_row(&p.net, p.k, c, out)
    else:
        memset(&pace, 0, sizeof(pace))
        fm_predict(&p.net, p.k, c, out, 0, 1, INFINITY, &pace)


_NO_WAY_ON = (
    b"fastmlp: a process that was forked by a signal's handler in the middle of a long call cannot go on with that "
    b"call: its threads are not there; let the child end in the handler\n"
)


cdef int32_t _ask(void *context) noexcept with gil:
    """Lets Python handle its signals in the middle of a long run. Returns 1 if a handler has raised."""
    cdef Context c = <Context>context
    cdef bint was_child = fm_is_forked_child()
    if c.job != NULL:
        c._settle()  # a handler may save the network: its counters must match the weights
    c.is_asking = True
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        c.raised = error
    c.is_asking = False
    if fm_is_forked_child() and not was_child:
        os.write(2, _NO_WAY_ON)
        os._exit(1)
    return c.raised is not None


cdef class Context:
    """The numbers of a program: borrowed flat arrays of parameters, and activations for `capacity` rows.

    Only one run at a time is possible: a second thread that tries to run gets a RuntimeError at once.

    program: the checked net.
    params, grads (n_params,): parameters and their gradients; borrowed, of the program's dtype.
    seed: fixes the dropout masks, together with `passes`.
    stats (n_stats,): running statistics, borrowed; None: zeros.
    Raises TypeError or ValueError for an array of another type or size.
    """

    cdef fm_ctx ctx
    cdef int32_t lock
    cdef readonly Program program
    cdef readonly cnp.ndarray params, grads, stats
    cdef cnp.ndarray batch_stats
    cdef cnp.ndarray step_stats  # running statistics to use once the present step is taken
    cdef cnp.ndarray acts, dacts, batch, row_loss, dx, x
    cdef tuple lent  # references to the optimizer's arrays, whose addresses C holds
    cdef int32_t n_states
    cdef int32_t forwarded
    cdef readonly int64_t most_rows  # most rows of a mini-batch: the length of row_loss
    cdef fm_train_job *job  # the training under way, or NULL
    cdef bint is_apart, is_asking
    cdef object raised  # exception of a signal's handler in the middle of a run, or None
    # The counters are here and not in Python, so Ctrl-C between two lines cannot separate them from the weights.
    cdef public int64_t t         # optimizer steps since the optimizer's state was zero
    cdef public int64_t updates   # optimizer steps in all
    cdef public int64_t epoch     # complete passes over the data
    cdef public int64_t position  # rows done in the pass under way
    cdef public uint64_t passes   # training passes; the number fixes the dropout masks of the next one
    cdef public int64_t schedule_start  # value of t at which the schedule of the learning rate began

    # Not __init__: a caller could omit it, or call it again while a run reads the arrays.
    def __cinit__(self, Program program not None, cnp.ndarray params not None, cnp.ndarray grads not None,
                  uint64_t seed, cnp.ndarray stats=None):
        self.program, self.params, self.grads = program, params, grads
        self.stats = np.zeros(program.net.n_stats, program.dtype) if stats is None else stats
        self.batch_stats = np.zeros(program.net.n_stats, program.dtype)
        self.step_stats = np.zeros(program.net.n_stats, program.dtype)
        self.ctx.stats = _data(self.stats, program.dtype, program.net.n_stats, "stats", True)
        self.ctx.batch_stats = cnp.PyArray_DATA(self.batch_stats)
        self.ctx.params = _data(params, program.dtype, program.net.n_params, "params", True)
        self.ctx.grads = _data(grads, program.dtype, program.net.n_params, "grads", True)
        self.ctx.seed = seed
        self.ctx.blas = _use_blas
        self.ctx.poll.ask, self.ctx.poll.arg = _ask, <void *>self

    cdef void _acquire(self) except *:
        self.check_idle()
        if not fm_try_lock(&self.lock):
            raise RuntimeError("this network is already running in another thread; use a copy of it there")

    cpdef check_idle(self):
        """Raises RuntimeError in a signal's handler that interrupts a run."""
        if self.is_asking:
            raise RuntimeError(
                "this network is in the middle of a step or pass that a signal's handler has interrupted; there use "
                "predict, save or a copy of it, or raise an exception to end the step"
            )

    cdef _break_off(self):
        """Raises the exception that a signal's handler raised."""
        raised, self.raised = self.raised, None
        raise raised

    def release(self):
        """Releases the lock in a forked child, in which the thread that held it no longer exists."""
        fm_unlock(&self.lock)

    @property
    def capacity(self):
        """Number of rows that the buffers hold at a time."""
        return self.ctx.capacity

    @property
    def rows(self):
        """Number of rows of the last forward pass; 0 if there is none that backward could use."""
        return self.ctx.rows if self.forwarded else 0

    def reserve(self, int64_t capacity, cnp.ndarray acts not None, cnp.ndarray dacts not None,
                cnp.ndarray batch not None, cnp.ndarray row_loss not None):
        """Sets the buffers of later runs, which hold `capacity` rows at a time.

        acts, dacts (capacity * acts_width,), (capacity * dacts_width,): activations and their gradients.
        batch (capacity * n_in,): gathered inputs.
        row_loss: float64, one element for each row that a mini-batch may have.
        Raises TypeError or ValueError for an array of another type or size, RuntimeError during a run.
        """
        cdef Program p = self.program
        cdef void *acts_data = _data(acts, p.dtype, _times(capacity, p.net.acts_width), "acts", True)
        cdef void *dacts_data = _data(dacts, p.dtype, _times(capacity, p.net.dacts_width), "dacts", True)
        _data(batch, p.dtype, _times(capacity, p.n_in), "batch", True)
        _data(row_loss, np.float64, cnp.PyArray_SIZE(row_loss), "row_loss", True)
        self._acquire()
        self.acts, self.dacts, self.batch, self.row_loss = acts, dacts, batch, row_loss
        self.ctx.acts, self.ctx.dacts, self.ctx.capacity = acts_data, dacts_data, capacity
        self.most_rows, self.forwarded = cnp.PyArray_SIZE(row_loss), 0
        fm_unlock(&self.lock)

    def check_rows(self, int64_t rows, int64_t batch_size):
        """Raises ValueError if the last of `rows` rows form a mini-batch too small for statistics of its own."""
        cdef int64_t last = rows % batch_size or batch_size
        if last < self.program.min_rows:
            has = f"the last mini-batch of {rows} rows has one; use another batch_size, or drop_last=True in fit"
            if rows == 1 or batch_size == 1:
                has = "this mini-batch has one; use a larger one"
            raise ValueError(f"BatchNorm needs at least 2 rows in training, but {has}")

    def set_state(self, tuple state not None, cnp.ndarray average):
        """Sets the optimizer's arrays, which C then reads and writes; each is flat like the parameters.

        state: one array for each state of the optimizer.
        average: the averaged parameters, or None.
        Raises TypeError or ValueError for an array of another type or size, RuntimeError during a run.
        """
        cdef Program p = self.program
        cdef void *data[FM_MAX_STATES]
        cdef void *average_data = NULL
        if len(state) > FM_MAX_STATES:
            raise ValueError(f"state holds {len(state)} arrays; there are at most {FM_MAX_STATES}")
        for i in range(FM_MAX_STATES):
            data[i] = NULL
            if i < len(state):
                data[i] = _data(state[i], p.dtype, p.net.n_params, f"state{i}", True)
        if average is not None:
            average_data = _data(average, p.dtype, p.net.n_params, "average", True)
        self._acquire()
        self.lent = (*state, average)
        self.n_states = len(state)
        for i in range(FM_MAX_STATES):
            self.ctx.state[i] = data[i]
        self.ctx.average = average_data
        fm_unlock(&self.lock)

    @property
    def panels(self):
        """Whether training steps go in panels: always if every layer can (True), never (False), or by size (None).

        Bits do not depend on it. It is for tests and measurements.
        """
        return {FM_PANELS_always: True, FM_PANELS_never: False}.get(self.ctx.panels)

    @panels.setter
    def panels(self, wanted):
        self.ctx.panels = FM_PANELS_by_size if wanted is None else FM_PANELS_always if wanted else FM_PANELS_never

    def in_panels(self, int64_t rows):
        """Whether a training step of `rows` rows on one thread goes in panels."""
        cdef fm_ctx c = self.ctx
        c.rows = self.program._block_rows(rows, 1)
        return bool(fm_in_panels(&self.program.net, self.program.k, &c))

    @property
    def n_averaged(self):
        """Number of steps whose parameters are in the average."""
        return self.ctx.n_averaged

    @n_averaged.setter
    def n_averaged(self, int64_t n):
        self.ctx.n_averaged = n

    @property
    def running(self):
        """Two numbers that some optimizers keep from step to step."""
        return self.ctx.running[0], self.ctx.running[1]

    @running.setter
    def running(self, tuple pair not None):
        self.ctx.running[0], self.ctx.running[1] = pair

    cdef int _check_optimizer(self, int32_t optimizer) except -1:
        if not 0 <= optimizer < FM_N_OPTIMIZERS or self.n_states != fm_optimizer_infos[optimizer].n_states:
            raise ValueError("no such optimizer, or no state for it")
        return 0

    cdef int64_t _rows(self, cnp.ndarray x) except -1:
        if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] != self.program.n_in:
            raise ValueError(f"x must have the shape (rows, {self.program.n_in})")
        return x.shape[0]

    def forward(self, cnp.ndarray x not None, bint training, int32_t threads, bint is_step=False):
        """Output (rows, n_out) of the last op, as a view that the next run overwrites.

        x (rows, n_in): the input.
        training: draw dropout masks and use the statistics of these rows.
        threads: most threads.
        is_step: `update` will end this training pass; it counts the pass and updates the running statistics then.
        Raises ValueError for x of another shape or with more rows than `capacity`.
        """
        cdef int64_t rows = self._rows(x)
        cdef void *data = _data(x, self.program.dtype, _times(rows, self.program.n_in), "x", False)
        check_stack()
        if rows > self.ctx.capacity:
            raise ValueError(f"{rows} rows, but buffers are reserved for {self.ctx.capacity}")
        if training:
            self.check_rows(rows, rows)
        self._acquire()
        try:
            self.x = x  # backward reads x again
            self.ctx.x, self.ctx.rows, self.ctx.training = data, rows, training
            self.ctx.draw = self.passes
            before = self.stats.copy() if is_step else None
            with nogil:
                self.forwarded = fm_forward(&self.program.net, self.program.k, &self.ctx, threads)
            if not self.forwarded:
                self._break_off()
            self.passes += training and not is_step
            if is_step:
                self.step_stats[:] = self.stats
                self.stats[:] = before
        finally:
            fm_unlock(&self.lock)
        return self._output(self.acts, fm_output(&self.program.net, self.program.k, &self.ctx))

    cdef _output(self, cnp.ndarray buffer, void *data):
        cdef int64_t size = self.ctx.rows * self.program.n_out
        cdef int64_t first = (<char *>data - <char *>cnp.PyArray_DATA(buffer)) // self.program.k.real_size
        return buffer[first:first + size].reshape(self.ctx.rows, self.program.n_out)

    def backward(self, cnp.ndarray dz not None, cnp.ndarray dx, int32_t threads):
        """Writes the gradients of all parameters into grads, for the rows of the last forward pass.

        dz (rows, n_out): gradient of the loss by the output.
        dx (rows, n_in): receives the gradient by the input, unless it is None.
        threads: most threads.
        Raises RuntimeError without a forward pass.
        """
        cdef int64_t rows = self.ctx.rows
        cdef int32_t is_done
        check_stack()
        if not self.forwarded:
            raise RuntimeError("backward needs a forward pass first")
        cdef void *dz_data = _data(dz, self.program.dtype, _times(rows, self.program.n_out), "dz", False)
        cdef void *dx_data = NULL
        if dx is not None:
            dx_data = _data(dx, self.program.dtype, _times(rows, self.program.n_in), "dx", True)
        self._acquire()
        try:
            self.ctx.dx = dx_data
            with nogil:
                memcpy(fm_output_grad(&self.program.net, self.program.k, &self.ctx), dz_data,
                       rows * self.program.n_out * self.program.k.real_size)
                is_done = fm_backward(&self.program.net, self.program.k, &self.ctx, threads)
            if not is_done:
                self.forwarded = 0
                self._break_off()
        finally:
            self.ctx.dx = NULL
            fm_unlock(&self.lock)

    def jacobian(self, cnp.ndarray x not None, cnp.ndarray target, cnp.ndarray block not None,
                 cnp.ndarray gram, cnp.ndarray scratch not None, int32_t threads, cnp.ndarray roots=None):
        """Writes the derivatives of the outputs of each row of x by the parameters into block.

        x (rows, n_in): the input.
        target (rows, n_out): adds output - target as the last column of block; or None.
        block (rows * n_out, n_params), one column more with target: receives the derivatives.
        gram (n_params + 1, n_params + 1): block^T block is added to its upper triangle; or None. Needs target.
        scratch: acts_width + dacts_width elements for each thread.
        threads: most threads; the bits do not depend on it.
        roots (rows,): factors of each row's part of block; or None.
        Raises TypeError or ValueError for an array of another type or size.
        """
        cdef Program p = self.program
        cdef fm_jacobian_job job
        cdef int32_t is_done
        cdef int64_t width = p.net.n_params + (target is not None)
        check_stack()
        job.rows = self._rows(x)
        job.x = _data(x, p.dtype, _times(job.rows, p.n_in), "x", False)
        job.target = job.gram = job.roots = NULL
        if roots is not None:
            job.roots = _data(roots, p.dtype, job.rows, "roots", False)
        if target is not None:
            job.target = _data(target, p.dtype, _times(job.rows, p.n_out), "target", False)
        if gram is not None:
            if target is None:
                raise ValueError("gram needs target")
            job.gram = _data(gram, p.dtype, _times(width, width), "gram", True)
        job.block = _data(block, p.dtype, _times(_times(job.rows, p.n_out), width), "block", True)
        if threads < 1:
            raise ValueError("threads is out of range")
        job.scratch = _data(scratch, p.dtype, _times(threads, p.net.acts_width + p.net.dacts_width), "scratch", True)
        self._acquire()
        try:
            with nogil:
                is_done = fm_jacobian(&p.net, p.k, &self.ctx, &job, threads)
            if not is_done:
                self._break_off()
        finally:
            fm_unlock(&self.lock)

    def update(self, int32_t optimizer, OptimizerSettings settings not None, int32_t threads, cnp.ndarray rates=None,
               bint is_step=False, int64_t rows=0, int64_t n=1):
        """Takes one optimizer step from grads. Returns False if some new value would not have been finite.

        optimizer: index in OPTIMIZERS. settings: its settings. threads: most threads.
        rates (2,): learning rate and momentum, as in `train`; or None.
        is_step: with the step, also count the pass that `forward` did not count, and update the running statistics.
        rows, n: with the step, also count `rows` rows of a pass over n.
        Raises ValueError if the optimizer has no state here.
        """
        cdef fm_hyper hyper = settings.c
        cdef int32_t ok
        self._check_optimizer(optimizer)
        if rates is not None:
            hyper = fm_at_rates(hyper, <const double *>_data(rates, np.float64, 2, "rates", False))
        self._acquire()
        try:
            with nogil:
                ok = fm_update(&self.program.net, self.program.k, &self.ctx, optimizer, &hyper, self.t + 1,
                               threads)
            if ok:
                self.t, self.updates = self.t + 1, self.updates + 1
                self.passes += is_step
                if is_step:
                    self.stats[:] = self.step_stats
                self.position += rows
                if rows > 0 and self.position == n:
                    self.position, self.epoch = 0, self.epoch + 1
        finally:
            fm_unlock(&self.lock)
        return bool(ok)

    def predict(self, cnp.ndarray x not None, cnp.ndarray out not None, cnp.ndarray acts not None,
                int64_t block, int64_t first, int32_t threads, double seconds, Pace pace not None):
        """Writes the output for x[first:] into out[first:], in blocks of rows. Returns the first row not done in time.

        x (rows, n_in), out (rows, n_out): input and output.
        acts: scratch, block * acts_width elements for each thread that gets rows.
        block: rows of a block. threads: most threads. seconds: time to stop after.
        pace: the measurement of the calling thread.
        Raises ValueError if first, threads or block is out of range, or acts is too small.
        """
        cdef Program p = self.program
        cdef int64_t rows = self._rows(x)
        cdef void *data = _data(x, p.dtype, _times(rows, p.n_in), "x", False)
        cdef void *out_data = _data(out, p.dtype, _times(rows, p.n_out), "out", True)
        cdef fm_ctx c = self.ctx
        check_stack()
        if not 0 <= first < rows or threads < 1 or not 1 <= block < 2**31:
            raise ValueError("first, threads or block is out of range")
        cdef int64_t blocks = min(<int64_t>threads, (rows - first - 1) // block + 1)
        if cnp.PyArray_SIZE(acts) < _times(blocks * block, p.net.acts_width):
            raise ValueError("acts is too small")
        c.acts = _data(acts, p.dtype, cnp.PyArray_SIZE(acts), "acts", True)
        c.x, c.rows, c.capacity = data, rows, block
        with nogil:  # needs no lock: it reads the parameters and writes to buffers of its own
            first = fm_predict(&p.net, p.k, &c, out_data, first, threads, seconds, &pace.c)
        return first

    def predict_row(self, cnp.ndarray x not None, cnp.ndarray out not None, Turns turns not None):
        """Writes the output for one row x (n_in,) into out (n_out,). Only returns False if x is not finite."""
        check_stack()
        cdef Program p = self.program
        cdef void *x_data
        cdef void *out_data
        turns.enter_reading()
        try:
            x_data = _data(x, p.dtype, p.n_in, "x", False)
            out_data = _data(out, p.dtype, p.n_out, "out", True)
            if p.k.first_nonfinite(x_data, p.n_in) >= 0:
                return False
            self._predict_few(x_data, 1, out_data)
        finally:
            turns.leave_reading()
        return True

    cdef int _predict_few(self, const void *x, int64_t rows, void *out) except -1:
        """Writes the output for a few rows of x into out, on this thread, with scratch memory that is freed again."""
        cdef Program p = self.program
        cdef char small[_SMALL_ROW]
        cdef fm_ctx c = self.ctx
        cdef int64_t size = rows * p.net.acts_width * p.k.real_size
        c.x, c.rows, c.capacity = x, rows, rows
        c.acts = <void *>small if size <= _SMALL_ROW else malloc(size)
        if c.acts == NULL:
            raise MemoryError()
        if rows * p.net.n_params < _LONG_ROW:
            _predict_alone(p, &c, out)  # releasing the GIL takes as long as the rows
        else:
            with nogil:
                _predict_alone(p, &c, out)
        if size > _SMALL_ROW:
            free(c.acts)
        return 0

    def train(self, cnp.ndarray x not None, cnp.ndarray target not None, cnp.ndarray order, int64_t batch_size,
              int32_t loss, int32_t optimizer, OptimizerSettings settings not None, cnp.ndarray outputs,
              int32_t threads, double seconds, bint apart=False, cnp.ndarray rates=None,
              LossSettings loss_settings not None=_PLAIN, cnp.ndarray weights=None, double loss_sum=0.0,
              bint again=False):
        """Trains on mini-batches from self.position on. Returns (sum of the losses, rows done, finite).

        A complete pass increments self.epoch, and the next call begins a new pass.

        x (rows, n_in): the input.
        target: labels (rows,) or values (rows, columns), as the loss needs.
        order: numbers of the rows to visit; None: all rows as they stand.
        batch_size: rows of a mini-batch.
        loss, optimizer: indices in LOSSES and OPTIMIZERS.
        settings, loss_settings: their settings.
        outputs (rows, n_out): receives the output of every visited row; or None.
        threads: most threads.
        seconds: the call ends after the first mini-batch that ends later than this.
        apart: begin at the first row, and leave self.position and self.epoch as they are.
        rates (steps, 2): learning rate and momentum of every step to come; None: always those of the settings.
            A momentum of NaN stands for that of the settings.
        weights (rows,): factors of the rows of x; or None.
        loss_sum: the sum of the earlier rows of the pass, so the total does not depend on where calls end.
        again: target and order are those of the call before, which has searched them for bad labels and numbers.
        Raises ValueError for sizes that do not fit, IndexError for a label or row number out of range.
        """
        cdef Program p = self.program
        cdef fm_train_job job
        cdef int64_t rows = self._rows(x), first = 0 if apart else self.position
        check_stack()
        self._fill(&job, loss, loss_settings, optimizer, settings, rows, batch_size, seconds)
        job.x = _data(x, p.dtype, _times(rows, p.n_in), "x", False)
        job.target = _target(target, p.dtype, loss, loss_settings, rows, p.n_out, not again)
        job.weights = _weights(weights, rows)
        if order is not None:
            job.n = cnp.PyArray_SIZE(order)
            job.order = <const int64_t *>_data(order, np.int64, job.n, "order", False)
            if not again and fm_first_bad_label(job.order, job.n, rows, NULL) >= 0:
                raise IndexError("order holds a row number outside x")
        if not self._holds(batch_size, threads):
            raise ValueError("batch_size or threads is out of range")
        if not 0 <= self.position or (self.position >= job.n and not apart):
            raise ValueError("position is out of range")
        self.check_rows(job.n - first, batch_size)
        if outputs is not None:
            job.outputs = _data(outputs, p.dtype, _times(rows, p.n_out), "outputs", True)
        if rates is not None:
            steps = (job.n - first + batch_size - 1) // batch_size
            job.rates = <const double *>_data(rates, np.float64, 2 * steps, "rates", False)
        job.loss_sum = loss_sum
        self._run(&job, threads, apart)
        return job.loss_sum, job.position - first, bool(job.finite)

    cdef bint _holds(self, int64_t batch_size, int32_t threads) noexcept:
        """Whether the buffers have room for a step of batch_size rows on so many threads."""
        if not 1 <= batch_size <= self.most_rows or threads < 1:
            return False
        return self.program._block_rows(batch_size, threads) <= self.ctx.capacity

    cdef int _fill(self, fm_train_job *job, int32_t loss, LossSettings loss_settings, int32_t optimizer,
                   OptimizerSettings settings, int64_t rows, int64_t batch_size, double seconds) except -1:
        """Fills in the settings of a job over all rows as they stand. The arrays of the job become NULL."""
        self._check_optimizer(optimizer)
        memset(job, 0, sizeof(fm_train_job))
        job.loss, job.loss_settings = loss, loss_settings.c
        job.optimizer, job.hyper = optimizer, settings.c
        job.n, job.batch_size, job.seconds = rows, batch_size, seconds
        return 0

    cdef int _run(self, fm_train_job *job, int32_t threads, bint apart) except -1:
        """Runs a checked job from self.position on, or from row 0 if `apart`. Counters move with the weights."""
        self._acquire()
        try:
            if not self._holds(job.batch_size, threads):  # from here on no Python code can run in between
                raise RuntimeError("the buffers of this network were changed in the middle of a call")
            job.batch, job.row_loss = cnp.PyArray_DATA(self.batch), <double *>cnp.PyArray_DATA(self.row_loss)
            job.position, job.t = 0 if apart else self.position, self.t
            self.ctx.training, self.ctx.dx, self.forwarded = True, NULL, 0
            self.ctx.draw = self.passes
            self.job, self.is_apart = job, apart
            with nogil:
                fm_train(&self.program.net, self.program.k, &self.ctx, job, threads)
            self._settle()
            if job.broken_off:
                self._break_off()
        finally:
            self.job = NULL
            fm_unlock(&self.lock)
        return 0

    cdef void _settle(self) noexcept:
        """Brings the counters up to date with the job under way. At the end of the job the pass is complete."""
        self.updates += self.job.t - self.t
        self.t, self.passes = self.job.t, self.ctx.draw
        if not self.is_apart:
            self.position = self.job.position % self.job.n
            self.epoch += self.job.position == self.job.n


include "quick.pxi"


# ---- functions without a network ---------------------------------------------------------------------

def loss_and_grad(int32_t loss, cnp.ndarray z not None, cnp.ndarray target not None, cnp.ndarray dz,
                  LossSettings settings not None=_PLAIN, cnp.ndarray weights=None, cnp.ndarray row_loss=None):
    """Mean (or sum) of the losses of the rows of raw outputs, as a float.

    loss: index in LOSSES. settings: its settings.
    z (rows, n_out): raw outputs.
    target: labels (rows,) or values (rows, columns), as the loss needs.
    dz (rows, n_out): receives the gradient by z; or None.
    weights (rows,): factors of the rows, float64; or None.
    row_loss (rows,): receives each row's loss, float64; or None.
    Raises ValueError for sizes that do not fit, IndexError for a label out of range, and what the handler of a
    signal raises on the way.
    """
    if z.ndim != 2:
        raise ValueError("z must have the shape (rows, n_out)")
    cdef const fm_kernels *k = _kernels(z.dtype)
    cdef int64_t rows = z.shape[0], n_out = z.shape[1]
    cdef double value
    cdef void *z_data = _data(z, z.dtype, _times(rows, n_out), "z", False)
    cdef void *target_data = _target(target, z.dtype, loss, settings, rows, n_out)
    cdef const double *weight_data = _weights(weights, rows)
    cdef void *dz_data = NULL
    if dz is not None:
        dz_data = _data(dz, z.dtype, _times(rows, n_out), "dz", True)
    cdef cnp.ndarray each = np.empty(rows) if row_loss is None else row_loss
    cdef double *row_data = <double *>_data(each, np.float64, rows, "row_loss", True)
    cdef list raised = []
    cdef fm_poll poll
    poll.ask, poll.arg = _ask_alone, <void *>raised
    with nogil:
        value = fm_loss(k, loss, &settings.c, row_data, dz_data, z_data, target_data, weight_data, rows, n_out,
                        &poll)
    if raised:
        raise raised[0]
    return value


def elementwise(int32_t function, cnp.ndarray x not None, cnp.ndarray y not None):
    """Writes one of FUNCTIONS, chosen by index, of every element of x into y, computed as the kernels do."""
    cdef const fm_kernels *k = _kernels(x.dtype)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    if not 0 <= function < FM_N_FUNCTIONS:
        raise ValueError("no such function")
    cdef void *x_data = _data(x, x.dtype, n, "x", False)
    cdef void *y_data = _data(y, x.dtype, n, "y", True)
    with nogil:
        k.functions[function](y_data, x_data, n)


cdef int32_t _ask_alone(void *raised) noexcept with gil:
    """Lets Python handle its signals in a long function without a network. Returns 1 if a handler has raised; the list
    then holds the exception.
    """
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        (<list>raised).append(error)
        return 1
    return 0


def cholesky_solve(cnp.ndarray minus_a not None, cnp.ndarray x not None):
    """Replaces x by A^-1 x in float64. Returns False, with x unchanged, if A is not positive definite.

    minus_a (n, n): -A, of which the upper triangle is read; overwritten.
    x (n,): the right side, then the solution.
    An exception of a signal's handler ends the call and leaves x unchanged.
    """
    cdef int64_t n = cnp.PyArray_SIZE(x)
    check_stack()
    cdef void *x_data = _data(x, np.float64, n, "x", True)
    cdef void *a_data = _data(minus_a, np.float64, _times(n, n), "minus_a", True)
    cdef int32_t ok
    cdef list raised = []
    cdef fm_poll poll
    poll.ask, poll.arg = _ask_alone, <void *>raised
    with nogil:
        ok = _build.f64.cholesky_solve(a_data, x_data, n, &poll)
    if raised:
        raise raised[0]
    return bool(ok)


def lasso_sweeps(cnp.ndarray w not None, cnp.ndarray slope not None, cnp.ndarray G not None,
                 cnp.ndarray allowed not None, double l1, int64_t most):
    """Coordinate descent on 1/2 w^T G w - c^T w + l1 |w|_1 in float64. Returns the number of sweeps.

    w (n,): the coefficients, changed in place.
    slope (n,): c - G w, changed in place with w.
    G (n, n): a symmetric matrix.
    allowed (n,): the descent ends when every condition holds within these.
    l1: the penalty.
    most: most sweeps.
    If a signal's handler raises, the call ends, and slope still equals c - G w.
    """
    cdef int64_t n = cnp.PyArray_SIZE(w), sweeps
    cdef void *w_data = _data(w, np.float64, n, "w", True)
    cdef void *slope_data = _data(slope, np.float64, n, "slope", True)
    cdef void *G_data = _data(G, np.float64, _times(n, n), "G", False)
    cdef void *allowed_data = _data(allowed, np.float64, n, "allowed", False)
    cdef list raised = []
    cdef fm_poll poll
    poll.ask, poll.arg = _ask_alone, <void *>raised
    with nogil:
        sweeps = _build.f64.lasso_sweeps(w_data, slope_data, G_data, allowed_data, l1, n, most, &poll)
    if raised:
        raise raised[0]
    return sweeps


def taken_alone(cnp.ndarray alone not None, cnp.ndarray together not None):
    """Simulates the choice between one thread and two, so that tests need no clock.

    alone, together (n,): float64; nanoseconds of step i on one thread and on two.
    Returns an int32 array (n,): 1 if step i would be taken on one thread.
    """
    cdef int64_t n = cnp.PyArray_SIZE(alone), i
    cdef const double *one = <const double *> _data(alone, np.float64, n, "alone", False)
    cdef const double *two = <const double *> _data(together, np.float64, n, "together", False)
    ways = np.zeros(n, np.int32)
    cdef int32_t *way = <int32_t *> cnp.PyArray_DATA(ways)
    cdef double now = 0, took
    cdef fm_pace pace
    memset(&pace, 0, sizeof(pace))
    with nogil:
        for i in range(n):
            way[i] = fm_pace_alone(&pace, 2, 1)
            took = one[i] if way[i] else two[i]
            now += took
            fm_pace_step(&pace, now, took)
    return ways


def first_nonfinite(cnp.ndarray x not None):
    """Flat index of the first NaN or infinity in a C-contiguous float array, or -1."""
    cdef const fm_kernels *k = _kernels(x.dtype)
    cdef int64_t n = cnp.PyArray_SIZE(x), found
    cdef void *data = _data(x, x.dtype, n, "x", False)
    with nogil:
        found = k.first_nonfinite(data, n)
    return found


def first_outside(cnp.ndarray x not None, double low, double high):
    """Flat index of the first element that is not a finite number in [low, high], or -1. x: C-contiguous floats."""
    cdef const fm_kernels *k = _kernels(x.dtype)
    cdef int64_t n = cnp.PyArray_SIZE(x), found
    cdef void *data = _data(x, x.dtype, n, "x", False)
    with nogil:
        found = k.first_outside(data, n, low, high)
    return found


def first_bad_label(cnp.ndarray labels not None, int64_t n_classes, ignored=None):
    """Index of the first label that is outside [0, n_classes) and not the ignored one, or -1."""
    cdef int64_t own = 0 if ignored is None else ignored
    cdef const int64_t *left_out = NULL if ignored is None else &own
    cdef int64_t n = cnp.PyArray_SIZE(labels), found
    cdef const int64_t *data = <const int64_t *>_data(labels, np.int64, n, "labels", False)
    with nogil:
        found = fm_first_bad_label(data, n, n_classes, left_out)
    return found


def shuffle(cnp.ndarray order not None, uint64_t seed, uint64_t epoch):
    """Permutes the int64 array `order` in place, as a function of (seed, epoch) alone."""
    cdef int64_t n = cnp.PyArray_SIZE(order)
    cdef int64_t *data = <int64_t *>_data(order, np.int64, n, "order", True)
    with nogil:
        fm_shuffle(data, n, seed, epoch)
