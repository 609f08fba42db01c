"""Who may use a network at a moment: any number of threads that read it, or one that changes it."""

import threading

_BUSY = (
    "this network is already running in another thread; use a copy of it there (copy.deepcopy), "
    "or wait for the other thread"
)
_IN_LOSS = (
    "a loss may not run, train or change the network that it is computed for: its gradient would "
    "belong to another forward pass; use net.predict inside, or a copy of the network"
)


class Turns:
    """Three context managers: `reading` and `changing` refuse at once and never wait; inside of
    `only_reading` the thread that changes the network may not go on with it.

    The thread that changes a network may also read it and enter again, as callbacks of fit do.
    """

    def __init__(self) -> None:
        self.reading, self.changing = _Reading(self), _Changing(self)
        self.only_reading = _OnlyReading(self)
        self._guard = threading.Lock()  # held for a few instructions only
        self._owner = 0  # identity of the changing thread, 0: none
        self._depth = 0
        self._readers: dict[int, int] = {}  # how often each thread is reading
        self.is_held = False

    def keep_own(self) -> None:
        """In a forked child: only the thread that forked is there, and goes on as it was."""
        me = threading.get_ident()
        self._guard = threading.Lock()
        self._readers = {me: self._readers[me]} if me in self._readers else {}
        if self._owner != me:
            self._owner, self._depth, self.is_held = 0, 0, False

    def __reduce__(self) -> tuple[type["Turns"], tuple[()]]:
        return Turns, ()  # a copy is used by nobody

    def enter_reading(self) -> None:
        """Raises RuntimeError where another thread changes the network."""
        me = threading.get_ident()
        with self._guard:
            if self._owner not in (0, me):
                raise RuntimeError(_BUSY)
            self._readers[me] = self._readers.get(me, 0) + 1

    def leave_reading(self) -> None:
        """The end of enter_reading."""
        me = threading.get_ident()
        with self._guard:
            left = self._readers.get(me, 1) - 1
            if left:
                self._readers[me] = left
            else:
                self._readers.pop(me, None)

    def enter_changing(self) -> None:
        """Raises RuntimeError where another thread changes or reads the network."""
        me = threading.get_ident()
        with self._guard:
            if self.is_held and self._owner == me:
                raise RuntimeError(_IN_LOSS)
            # Ctrl-C may come between entering and the block that leaves: what this thread is said
            # to read is then over, and must not lock the network for good.
            self._readers.pop(me, None)
            if self._owner not in (0, me) or (self._owner == 0 and self._readers):
                raise RuntimeError(_BUSY)
            self._owner, self._depth = me, self._depth + 1

    def leave_changing(self) -> None:
        """The end of enter_changing."""
        with self._guard:
            self._depth -= 1
            if self._depth == 0:
                self._owner = 0


class _Reading:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        self._turns.enter_reading()

    def __exit__(self, *exception: object) -> None:
        self._turns.leave_reading()


class _Changing:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        self._turns.enter_changing()

    def __exit__(self, *exception: object) -> None:
        self._turns.leave_changing()


class _OnlyReading:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        self._turns.is_held = True

    def __exit__(self, *exception: object) -> None:
        self._turns.is_held = False
