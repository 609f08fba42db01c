# Which threads may use a network at a moment: any number that read it, or one that changes it.
#
# This is written in Cython for two reasons. In Python, asking took `predict_row` longer than its arithmetic. And here
# the GIL makes every method atomic: neither another thread nor Ctrl-C can interrupt it.

from cpython.pythread cimport PyThread_get_thread_ident

_BUSY = (
    "this network is already running in another thread; use a copy of it there (copy.deepcopy), "
    "or wait for the other thread"
)
_IN_LOSS = (
    "a loss may not run, train or change the network that it is computed for: its gradient would "
    "belong to another forward pass; use net.predict inside, or a copy of the network"
)


cdef class Turns:
    """Three context managers that guard a network: `reading`, `changing` and `only_reading`.

    reading: raises RuntimeError at once if another thread changes the network.
    changing: raises RuntimeError at once if another thread reads or changes it.
    only_reading: inside, the thread that changes the network may read it, but not change it.

    None of them waits. The thread that changes a network may also read it and enter `changing` again, as callbacks of
    fit do.
    """

    cdef readonly object reading, changing, only_reading
    cdef unsigned long owner  # identity of the changing thread, valid if depth > 0
    cdef int64_t depth
    cdef unsigned long reader  # identity of one reading thread, mostly the only one ...
    cdef int64_t n_reading  # ... and how often it has entered
    cdef dict others  # how often each other reading thread has entered, by identity
    cdef bint is_held

    def __cinit__(self):
        self.reading, self.changing, self.only_reading = _Reading(self), _Changing(self), _OnlyReading(self)
        self.others = {}

    def __reduce__(self):
        return Turns, ()  # no thread uses the copy yet

    cdef bint _is_taken(self):
        return self.depth > 0 and self.owner != PyThread_get_thread_ident()

    cdef _forget(self, unsigned long thread):
        if self.reader == thread:
            self.n_reading = 0
        if self.others:
            self.others.pop(thread, None)

    @cython.critical_section
    def keep_own(self):
        """For a forked child: only the thread that forked exists there, and it keeps its place."""
        me = PyThread_get_thread_ident()
        self.n_reading = (self.n_reading if self.reader == me else 0) + self.others.get(me, 0)
        self.reader, self.others = me, {}
        if self._is_taken():
            self.depth, self.is_held = 0, False

    @cython.critical_section
    cpdef enter_reading(self):
        """Begins reading. Raises RuntimeError if another thread changes the network."""
        me = PyThread_get_thread_ident()
        if self._is_taken():
            raise RuntimeError(_BUSY)
        if self.n_reading == 0 or self.reader == me:
            self.reader = me
            self.n_reading += 1
        else:
            self.others[me] = self.others.get(me, 0) + 1

    @cython.critical_section
    cpdef leave_reading(self):
        """Ends what enter_reading began."""
        me = PyThread_get_thread_ident()
        if self.n_reading and self.reader == me:
            self.n_reading -= 1
        else:
            left = self.others.pop(me, 1) - 1
            if left:
                self.others[me] = left

    @cython.critical_section
    cpdef enter_changing(self):
        """Begins changing. Raises RuntimeError if another thread uses the network, or inside `only_reading`."""
        me = PyThread_get_thread_ident()
        if self._is_taken():
            raise RuntimeError(_BUSY)
        if self.is_held and self.depth:
            raise RuntimeError(_IN_LOSS)
        # Ctrl-C may come between enter_reading and the block that calls leave_reading. This thread then no longer
        # reads, although it is still counted, and that must not lock the network for good.
        self._forget(me)
        if self.depth == 0 and (self.n_reading or self.others):
            raise RuntimeError(_BUSY)
        self.owner = me
        self.depth += 1

    @cython.critical_section
    cpdef leave_changing(self):
        """Ends what enter_changing began."""
        if self.depth:
            self.depth -= 1
        if self.depth == 0:
            self.is_held = False


cdef class _Reading:
    cdef Turns turns

    def __init__(self, Turns turns not None):
        self.turns = turns

    def __enter__(self):
        self.turns.enter_reading()

    def __exit__(self, *exception):
        self.turns.leave_reading()


cdef class _Changing:
    cdef Turns turns

    def __init__(self, Turns turns not None):
        self.turns = turns

    def __enter__(self):
        self.turns.enter_changing()

    def __exit__(self, *exception):
        self.turns.leave_changing()


cdef class _OnlyReading:
    cdef Turns turns

    def __init__(self, Turns turns not None):
        self.turns = turns

    def __enter__(self):
        self.turns.is_held = True

    def __exit__(self, *exception):
        self.turns.is_held = False
