"""Calls of LAPACK that a Ctrl-C does not have to wait for."""

import threading
from collections.abc import Callable
from typing import Any

from .arrays import Array

_LONG = (
    2**30
)  # multiply-adds, elements times the shorter side: about 0.1 s, and a thread is nothing
_LOOK = 0.05  # seconds between two looks at the signals


def interruptible(function: Callable[..., Any], matrix: Array, **settings: Any) -> Any:
    """Return function(matrix, **settings), a function of numpy.linalg.

    A long call runs in a thread of its own, with the same bits, while this thread waits for it and
    sees signals. If a handler raises, the exception leaves at once. The call then ends by itself in
    the background and its result is dropped.
    """
    is_long = matrix.size * min(matrix.shape[-2:]) >= _LONG
    if not is_long or threading.current_thread() is not threading.main_thread():
        return function(matrix, **settings)  # only the main thread gets signals
    results: list[Any] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(function(matrix, **settings))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK)
    if errors:
        raise errors[0]
    return results[0]
