"""The limit: how many floating-point operations a second this machine does at best.

A loop of independent fused multiply-adds on vectors, compiled here and now, on one thread and on
several at once. `python benchmarks/peak.py [--threads N] [--json FILE]`
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
from pathlib import Path
from typing import Any

_SOURCE = r"""
/* 12 chains of acc = acc * a + b: enough to hide the latency of an FMA (4) in two units, few enough
   for AVX2's 16 registers. */
typedef REAL vector __attribute__((vector_size(BYTES)));
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
"""
_CHAINS = 12
_SECONDS = 0.02  # of one measurement
_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_V3 = {"avx2", "fma", "bmi1", "bmi2"}


def instruction_set() -> tuple[list[str], int]:
    """Compiler flags and vector bytes for the widest vectors here."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ["-mcpu=native"], 16
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    if words >= _V4:
        return ["-march=x86-64-v4", "-mprefer-vector-width=512"], 64
    return (["-march=x86-64-v3"], 32) if words >= _V3 else ([], 16)


class Meter:
    """The compiled loops; `compiler` is None, and every result too, where nothing compiles."""

    def __init__(self) -> None:
        flags, self.vector_bytes = instruction_set()
        self.flags = ["-O2", "-ffp-contract=fast", *flags]
        names = (os.environ.get("CC"), "gcc", "cc", "clang")
        self.compiler = next((name for name in names if name and shutil.which(name)), None)
        self._loops: dict[str, Any] = {}
        self._repeats: dict[str, int] = {}
        if self.compiler:
            self._compile()

    def _compile(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "peak.c")
            source.write_text(_SOURCE)
            for dtype, real in (("float32", "float"), ("float64", "double")):
                library = Path(folder, f"{dtype}.so")
                defines = [f"-DREAL={real}", f"-DBYTES={self.vector_bytes}"]
                command = [self.compiler, *self.flags, *defines, "-shared", "-fPIC"]
                try:
                    subprocess.run(
                        [*command, "-o", str(library), str(source)], check=True, capture_output=True
                    )
                    loop = ctypes.CDLL(str(library)).run
                except (OSError, subprocess.CalledProcessError):
                    self.compiler = None
                    return
                c_real = ctypes.c_float if real == "float" else ctypes.c_double
                loop.argtypes, loop.restype = [ctypes.c_long, c_real, c_real], c_real
                self._loops[dtype] = loop

    def gflops(self, dtype: str = "float32", threads: int = 1) -> float | None:
        """One measurement, of about a fiftieth of a second; the best of several counts."""
        if not self.compiler:
            return None
        if dtype not in self._repeats:
            self._repeats[dtype] = self._calibrate(dtype)
        seconds = self._timed(dtype, self._repeats[dtype], threads)
        return threads * self._repeats[dtype] * self._flop(dtype) / seconds * 1e-9

    def _flop(self, dtype: str) -> int:
        """Of one repeat."""
        return 2 * _CHAINS * self.vector_bytes // (4 if dtype == "float32" else 8)

    def _calibrate(self, dtype: str) -> int:
        repeats = 1000
        while (seconds := self._timed(dtype, repeats, 1)) < _SECONDS / 4:
            repeats *= 2
        return max(1, round(repeats * _SECONDS / seconds))

    def _timed(self, dtype: str, repeats: int, threads: int) -> float:
        """Seconds from the common start to the last end; ctypes lets go of the GIL."""
        barrier = threading.Barrier(threads + 1)
        ends = [0.0] * threads

        def work(i: int) -> None:
            barrier.wait()
            self._loops[dtype](repeats, 0.999, 0.001)
            ends[i] = time.perf_counter()

        workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        barrier.wait()
        start = time.perf_counter()
        for worker in workers:
            worker.join()
        return max(ends) - start


def measure(
    threads: int | None = None, rounds: int = 10, meter: Meter | None = None
) -> dict[str, Any]:
    """Best GFLOP/s of `rounds` measurements: {"float32": {"one_thread", "all_threads"}, ...}."""
    meter = meter or Meter()
    count = threads or len(os.sched_getaffinity(0))
    result: dict[str, Any] = {
        "compiler": meter.compiler,
        "flags": " ".join(meter.flags),
        "threads": count,
    }
    for dtype in ("float32", "float64"):
        result[dtype] = {}
        for name, n in (("one_thread", 1), ("all_threads", count)):
            measured = [meter.gflops(dtype, n) for _ in range(rounds)]
            result[dtype][name] = max((m for m in measured if m is not None), default=None)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="default: every processor")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    result = measure(args.threads, args.rounds)
    if result["compiler"] is None:
        print("no working C compiler (gcc, cc, clang or $CC): the peak is not known")
    else:
        for dtype in ("float32", "float64"):
            one, several = result[dtype]["one_thread"], result[dtype]["all_threads"]
            print(
                f"{dtype}: {one:7.1f} GFLOP/s on one thread, "
                f"{several:7.1f} on {result['threads']} ({result['flags']})"
            )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
