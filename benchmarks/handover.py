"""How long two processors take to hand a cache line to each other and back.

The host of a virtual machine moves its processors: in some minutes they share a cache, in others a
line takes six times as long. Times on two threads say little without this number beside them.
`python benchmarks/handover.py`
"""

import ctypes
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from peak import find_compiler

_SOURCE = r"""
#include <stdatomic.h>
static _Alignas(128) _Atomic int turn;

/* Take one's turn n times: `own` is 0 or 1. Returns 0 if the other never came. */
int take_turns(long n, int own) {
    for (long i = 0; i < n; i++) {
        for (long spins = 0; atomic_load(&turn) != own; spins++)
            if (spins > 1000000000)
                return 0;
        atomic_store(&turn, 1 - own);
    }
    return 1;
}
"""
_TURNS, _BATCHES = 2_000, 10


class Handover:
    """The loop, compiled here and now; None is measured without a compiler or second processor."""

    def __init__(self) -> None:
        self._loop = None
        compiler = find_compiler()
        if compiler is None or len(os.sched_getaffinity(0)) < 2:
            return
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "handover.c"), Path(folder, "handover.so")
            source.write_text(_SOURCE)
            command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
            subprocess.run(command, check=True, capture_output=True)
            self._loop = ctypes.CDLL(str(library)).take_turns
        self._loop.argtypes = [ctypes.c_long, ctypes.c_int]

    def nanoseconds(self) -> float | None:
        """Of one round trip: the mean of 2,000, in the best of 10 batches."""
        if self._loop is None:
            return None
        loop = self._loop
        pair = sorted(os.sched_getaffinity(0))[:2]
        seconds: list[float] = []

        def work(own: int) -> None:
            os.sched_setaffinity(0, {pair[own]})  # of this thread alone
            for _ in range(_BATCHES):
                begun = time.perf_counter()
                loop(_TURNS, own)
                if own == 0:
                    seconds.append(time.perf_counter() - begun)

        threads = [threading.Thread(target=work, args=(own,)) for own in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return round(min(seconds) / _TURNS * 1e9, 1)


def span(values: list[float | None]) -> str:
    """'54' or '54-331', as a cell of a table."""
    found = [round(v) for v in values if v is not None]
    if not found:
        return "-"
    low, high = min(found), max(found)
    return f"{low}" if high < 1.2 * low else f"{low}-{high}"


if __name__ == "__main__":
    print(f"round trip of a cache line: {Handover().nanoseconds()} ns")
