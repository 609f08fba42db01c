"""How long two processors take to hand a cache line to each other and back, and how long to read
many lines that the other has just written: what bounds two threads on a tiny net.

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
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from peak import find_compiler
from shapes import SHAPES

_SOURCE = r"""
#include <stdatomic.h>
#include <time.h>
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

static _Alignas(128) char lines[1 << 20];

/* Write n lines when it is one's turn and read them when the other has written them, `times` times:
 * returns nanoseconds of one reading, the least of all. */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
double read_lines(long n, long times, int own) {
    double least = 1e18;
    for (long i = 0; i < times; i++) {
        if (own == 0) {
            for (long j = 0; j < n; j++)
                ((volatile char *)lines)[64 * j] = (char)i;
            take_turns(1, 0);
            while (atomic_load(&turn) != 0)
                ;
        } else {
            while (atomic_load(&turn) != 1)
                ;
            const double begin = now();
            long sum = 0;
            for (long j = 0; j < n; j++)
                sum += ((volatile char *)lines)[64 * j];
            const double took = now() - begin;
            least = took < least && sum < 1L << 60 ? took : least;
            take_turns(1, 1);
        }
    }
    return least;
}
"""
_TURNS, _BATCHES = 2_000, 10
_LINES = (100, 200, 400, 800, 1600)
_LINE = 16  # float32 numbers


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
            compiled = ctypes.CDLL(str(library))
        self._loop, self._read = compiled.take_turns, compiled.read_lines
        self._loop.argtypes = [ctypes.c_long, ctypes.c_int]
        self._read.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_int]
        self._read.restype = ctypes.c_double

    def nanoseconds(self) -> float | None:
        """Of one round trip: the mean of 2,000, in the best of 10 batches."""
        if self._loop is None:
            return None
        seconds: list[float] = []

        def work(own: int) -> None:
            for _ in range(_BATCHES):
                begun = time.perf_counter()
                self._loop(_TURNS, own)
                if own == 0:
                    seconds.append(time.perf_counter() - begun)

        _on_two_processors(work)
        return round(min(seconds) / _TURNS * 1e9, 1)

    def nanoseconds_a_line(self) -> dict[int, float]:
        """Of reading so many lines one after another that the other processor has just written."""
        found: dict[int, float] = {}

        def work(own: int) -> None:
            for n in _LINES:
                least = self._read(n, 200, own)
                if own == 1:
                    found[n] = round(least / n, 2)

        if self._loop is not None:
            _on_two_processors(work)
        return found


def _on_two_processors(work: Callable[[int], None]) -> None:
    """work(0) and work(1) in a thread each, held to a processor each."""
    pair = sorted(os.sched_getaffinity(0))[:2]

    def held(own: int) -> None:
        os.sched_setaffinity(0, {pair[own]})  # of this thread alone
        work(own)

    threads = [threading.Thread(target=held, args=(own,)) for own in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def lines_exchanged(widths: tuple[int, ...], batch: int) -> float:
    """Cache lines of float32 that a thread of two fetches from the other in a step: what the weight
    gradients of its half of the parameters read of the other's rows (inputs and slopes of every
    layer), and the half of the parameters that the other has updated.
    """
    n_params = sum(a * b + b for a, b in pairwise(widths))
    # half of the inputs but x itself, which nobody writes, and all slopes
    numbers = sum(widths[1:-1]) / 2 + sum(widths[1:])
    return batch / 2 * numbers / _LINE + n_params / 2 / _LINE


def span(values: list[float | None]) -> str:
    """'54' or '54-331', as a cell of a table."""
    found = [round(v) for v in values if v is not None]
    if not found:
        return "-"
    low, high = min(found), max(found)
    return f"{low}" if high < 1.2 * low else f"{low}-{high}"


def main() -> None:
    """The round trip, the lines, and what they leave of two threads on the small nets."""
    handover = Handover()
    print(f"round trip of a cache line: {handover.nanoseconds()} ns")
    a_line = handover.nanoseconds_a_line()
    if not a_line:
        return
    print("reading lines that the other has written:", a_line, "ns a line by how many")
    for shape in SHAPES.values():
        lines = lines_exchanged(shape.widths, shape.batch)
        near = min(a_line, key=lambda n: abs(n - lines))
        print(f"{shape.name}: {lines:,.0f} lines a step, {lines * a_line[near] / 1e3:,.1f} us")


if __name__ == "__main__":
    main()
