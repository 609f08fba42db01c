"""The limits: how many floating-point operations a second this machine does at best, and how fast
it reads memory.

A loop of independent fused multiply-adds on vectors, compiled here and now for each instruction set
of this machine, on one thread and on several at once; and a sum over an array that no cache holds.
`python benchmarks/peak.py [--threads N] [--json FILE]`
"""

import argparse
import ctypes
import json
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chips import held_to

_SOURCE = r"""
/* 12 chains of acc = acc * a + b: enough to hide the latency of an FMA (4) in two units, few enough
   for AVX2's 16 registers. */
typedef REAL vector __attribute__((vector_size(BYTES)));
typedef REAL loose __attribute__((vector_size(BYTES), aligned(sizeof(REAL))));
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define DECLARE(i) vector acc##i = zero + (REAL)(i);
#define FMA(i) acc##i = acc##i * a + b;
#define SUM(i) sum += acc##i;

REAL run(long repeats, REAL a0, REAL b0) {
    vector zero = {0}, a = zero + a0, b = zero + b0, sum = zero;
    EACH(DECLARE)
    for (long r = 0; r < repeats; r++) { EACH(FMA) }
    EACH(SUM)
    return sum[0];
}

#define ADD(i) acc##i += *(const loose *)(x + (i) * (BYTES / sizeof(REAL)));

REAL read_all(const REAL *x, long repeats) {
    vector zero = {0}, sum = zero;
    EACH(DECLARE)
    for (long r = 0; r < repeats; r++, x += 12 * (BYTES / sizeof(REAL))) { EACH(ADD) }
    EACH(SUM)
    return sum[0];
}
"""
_CHAINS = 12
_SECONDS = 0.02  # of one measurement
_MEMORY_BYTES = 2**28  # read by each thread: more than any cache
_FLAGS = ("-O2", "-ffp-contract=fast")
_TYPES = {  # C type, its ctypes twin, bytes
    "float32": ("float", ctypes.c_float, 4),
    "float64": ("double", ctypes.c_double, 8),
}


@dataclass(frozen=True)
class InstructionSet:
    """Vectors of `vector_bytes`; `words` of /proc/cpuinfo tell whether the machine has them."""

    name: str
    flags: tuple[str, ...]
    vector_bytes: int
    words: frozenset[str] = frozenset()


_X86_SETS = (
    InstructionSet(
        "avx512",
        ("-march=x86-64-v4", "-mprefer-vector-width=512"),
        64,
        frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ),
    InstructionSet("avx2", ("-march=x86-64-v3",), 32, frozenset({"avx2", "fma", "bmi1", "bmi2"})),
)
_X86_BASELINE = InstructionSet("sse2", (), 16)
_OTHER_MACHINE = InstructionSet("native", ("-mcpu=native",), 16)


def instruction_sets() -> list[InstructionSet]:
    """Those that this run may use, the widest first."""
    found, limit = machine_sets(), held_to()
    if limit == _X86_BASELINE.name:
        return [_X86_BASELINE]
    names = [s.name for s in found]
    return found[names.index(limit) :] if limit in names else found


def every_set() -> list[InstructionSet]:
    """Those that a program can be built for on this kind of machine."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return [_OTHER_MACHINE]
    return [*_X86_SETS, _X86_BASELINE]


def machine_sets() -> list[InstructionSet]:
    """Those of this machine, the widest first."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return [_OTHER_MACHINE]
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    return [s for s in _X86_SETS if words >= s.words] or [_X86_BASELINE]


def find_compiler() -> str | None:
    """The first of $CC, gcc, cc and clang that is there."""
    names = (os.environ.get("CC"), "gcc", "cc", "clang")
    return next((name for name in names if name and shutil.which(name)), None)


class Meter:
    """The loop for one instruction set and type."""

    def __init__(self, compiler: str, instructions: InstructionSet, dtype: str) -> None:
        c_name, c_type, n_bytes = _TYPES[dtype]
        self.flop = 2 * _CHAINS * instructions.vector_bytes // n_bytes  # of one repeat
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "peak.c"), Path(folder, "peak.so")
            source.write_text(_SOURCE)
            defines = [f"-DREAL={c_name}", f"-DBYTES={instructions.vector_bytes}"]
            command = [compiler, *_FLAGS, *instructions.flags, *defines, "-shared", "-fPIC"]
            command += ["-o", str(library), str(source)]
            subprocess.run(command, check=True, capture_output=True)
            compiled = ctypes.CDLL(str(library))
        self._loop, self._read = compiled.run, compiled.read_all
        self._loop.argtypes, self._loop.restype = [ctypes.c_long, c_type, c_type], c_type
        self._read.argtypes, self._read.restype = [ctypes.c_void_p, ctypes.c_long], c_type
        self._bytes = _CHAINS * instructions.vector_bytes  # of one repeat
        self._repeats = self._calibrate()

    def gflops(self, threads: int) -> float:
        """One measurement, of about a fiftieth of a second; the best of several counts."""
        seconds = self._timed(self._repeats, threads)
        return threads * self._repeats * self.flop / seconds * 1e-9

    def gigabytes(self, arrays: list[ctypes.Array[ctypes.c_char]]) -> float:
        """Read a second, by a thread for each array: one measurement."""
        repeats = _MEMORY_BYTES // self._bytes
        places = [ctypes.addressof(array) for array in arrays]
        seconds = timed(lambda i: self._read(places[i], repeats), len(places))
        return len(places) * repeats * self._bytes / seconds * 1e-9

    def _calibrate(self) -> int:
        repeats = 1000
        while (seconds := self._timed(repeats, 1)) < _SECONDS / 4:
            repeats *= 2
        return max(1, round(repeats * _SECONDS / seconds))

    def _timed(self, repeats: int, threads: int) -> float:
        return timed(lambda i: self._loop(repeats, 0.999, 0.001), threads)


def timed(call: Callable[[int], Any], threads: int) -> float:
    """Seconds from the common start of call(0), call(1), ... to the last end; ctypes lets go of the
    GIL.
    """
    barrier = threading.Barrier(threads + 1)
    ends = [0.0] * threads

    def work(i: int) -> None:
        barrier.wait()
        call(i)
        ends[i] = time.perf_counter()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return max(ends) - start


class Peak:
    """The best measured so far; `measure` again at any time, since shared machines vary.

    Without a working compiler there are no numbers, and `problem` says why.
    """

    def __init__(self, threads: int) -> None:
        self.threads, self.problem = threads, ""
        self.compiler = find_compiler()
        self._sets = instruction_sets()
        self._meters: dict[tuple[str, str], Meter] = {}
        self._best: dict[tuple[str, str, int], float] = {}
        self._memory: dict[int, float] = {}
        if self.compiler is None:
            self.problem = "no C compiler (gcc, cc, clang or $CC)"
            return
        try:
            for s in self._sets:
                for dtype in _TYPES:
                    self._meters[s.name, dtype] = Meter(self.compiler, s, dtype)
        except (OSError, subprocess.CalledProcessError):
            self._meters, self.problem = {}, f"{self.compiler} could not build the loop"

    def measure(self, rounds: int = 10) -> None:
        """Measure each loop `rounds` times, in turns."""
        for _ in range(rounds):
            for (name, dtype), meter in self._meters.items():
                for threads in {1, self.threads}:
                    key = (name, dtype, threads)
                    self._best[key] = max(self._best.get(key, 0.0), meter.gflops(threads))

    def measure_memory(self, rounds: int = 5) -> None:
        """How fast it is read, on one thread and on all."""
        meter = next(iter(self._meters.values()), None)
        if meter is None:
            return
        arrays = [ctypes.create_string_buffer(_MEMORY_BYTES) for _ in range(self.threads)]
        for array in arrays:  # pages that were never written are all the same one
            ctypes.memset(array, 1, _MEMORY_BYTES)
        for _ in range(rounds):
            for threads in {1, self.threads}:
                found = meter.gigabytes(arrays[:threads])
                self._memory[threads] = max(self._memory.get(threads, 0.0), found)

    def limit(self, name: str | None = None, dtype: str = "float32") -> float | None:
        """GFLOP/s of all threads with that instruction set, the widest by default."""
        return self._best.get((name or self._sets[0].name, dtype, self.threads))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the widest instruction set first."""
        sets: dict[str, Any] = {}
        for s in self._sets if self._best else []:
            sets[s.name] = {"flags": " ".join((*_FLAGS, *s.flags))}
            for dtype in _TYPES:
                one, several = (self._best[s.name, dtype, n] for n in (1, self.threads))
                sets[s.name][dtype] = {
                    "one_thread": round(one, 1),
                    "all_threads": round(several, 1),
                }
        known: dict[str, Any] = {"compiler": self.compiler, "threads": self.threads}
        if self.problem:
            known["problem"] = self.problem
        if self._memory:
            known["memory"] = {  # GB/s
                "one_thread": round(self._memory[1], 1),
                "all_threads": round(self._memory[self.threads], 1),
            }
        return known | {"sets": sets}


def measure(threads: int | None = None, rounds: int = 10) -> dict[str, Any]:
    """Best of `rounds` measurements, on one thread and on `threads` (default: all)."""
    peak = Peak(threads or len(os.sched_getaffinity(0)))
    peak.measure(rounds)
    peak.measure_memory(rounds)
    return peak.as_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="default: every processor")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    result = measure(args.threads, args.rounds)
    if "problem" in result:
        print(f"the peak is not known: {result['problem']}")
    for name, numbers in result["sets"].items():
        for dtype in _TYPES:
            one, several = numbers[dtype]["one_thread"], numbers[dtype]["all_threads"]
            print(
                f"{name:6} {dtype}: {one:7.1f} GFLOP/s on one thread, "
                f"{several:7.1f} on {result['threads']} ({numbers['flags']})"
            )
    if "memory" in result:
        one, several = result["memory"].values()
        print(f"memory: {one:.1f} GB/s read by one thread, {several:.1f} by {result['threads']}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
