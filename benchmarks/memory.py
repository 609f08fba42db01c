"""Peak memory of a `fit` beside its bound, whether X is copied, and allocations of a step.

python benchmarks/memory.py [--quick] [--json FILE]

Bound: data + 4 x parameters (weights, gradient, two moments) + activations of one batch + 20 MB,
over what the process holds once everything is imported. Linux alone tells a process's peak.
"""

import argparse
import ctypes
import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from children import Answer, Child, serve
from peak import find_compiler
from report import markdown
from script import Result, run_script

MARGIN = 20 * 2**20
CASES = {  # name -> widths, rows, batch size
    "784-256-128-10": ((784, 256, 128, 10), 60_000, 128),
    "1024-2048-2048-1000": ((1024, 2048, 2048, 1000), 100_000, 256),
}
_QUICK = {"784-256-128-10": ((784, 256, 128, 10), 5_000, 128)}
# Steps: an epoch short enough to stay in C from its first to its last. Both beyond 256, up to which
# Python keeps its whole numbers: the first count that is not kept would look like one of a step.
_FEW, _MANY = 300, 500

# Counts what a process asks of the C library, and passes it on.
_COUNTER = r"""
#include <stddef.h>

static _Atomic long count;
long allocations(void) { return count; }

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
void *malloc(size_t n) { count++; return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { count++; return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { count++; return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { count++; return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { count++; return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) {
    count++;
    return (*p = __libc_memalign(a, n)) ? 0 : 12;
}
"""


def status(key: str) -> int:
    """Bytes: VmRSS now, VmHWM at the highest."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    if not found:
        raise OSError(f"this system tells no {key}")
    return int(found[1]) * 1024


def make_net(widths: tuple[int, ...]) -> Any:
    """ReLU between the layers."""
    import fastmlp

    layers = [
        layer
        for n, m in itertools.pairwise(widths)
        for layer in (fastmlp.Linear(n, m), fastmlp.ReLU())
    ]
    return fastmlp.Sequential(layers[:-1], seed=0)


def peak_of_fit(request: Answer) -> Answer:
    """Bytes before and after; run once in a process."""
    widths, rows, batch = request["widths"], request["rows"], request["batch"]
    import fastmlp

    before = status("VmRSS")
    X = np.empty((rows, widths[0]), np.float32)
    rng, block = np.random.default_rng(0), 1024
    for i in range(0, rows, block):  # in pieces, so that the data are all there is
        rng.standard_normal(out=X[i : i + block], dtype=np.float32)
    y = rng.integers(widths[-1], size=rows)
    with_data, high = status("VmRSS"), status("VmHWM")
    net = make_net(tuple(widths))
    net.fit(
        X,
        y,
        loss="cross_entropy",
        optimizer=fastmlp.Adam(lr=1e-4),
        batch_size=batch,
        epochs=1,
        threads=request["threads"],
    )
    data, params = X.nbytes + y.nbytes, net.params.nbytes
    activations = 4 * batch * sum(widths)
    return {
        "data": data,
        "params": params,
        "activations": activations,
        "bound": data + 4 * params + activations + MARGIN,
        "over_imports": status("VmHWM") - before,
        "over_data": status("VmHWM") - max(with_data, high),
        "x_bytes": X.nbytes,
    }


def allocations(request: Answer) -> Answer:
    """Calls of malloc and its kin in one epoch of few and of many steps, by threads."""
    import fastmlp

    count = ctypes.CDLL(None).allocations
    count.restype = ctypes.c_long
    batch, widths = 64, (8, 64, 64, 4)
    X = np.random.default_rng(0).standard_normal((batch * _MANY, widths[0]), dtype=np.float32)
    y = X[:, : widths[-1]].argmax(axis=1)
    net = make_net(widths)

    def counted(steps: int) -> int:
        rows = slice(steps * batch)
        before = count()
        net.fit(
            X[rows],
            y[rows],
            loss="cross_entropy",
            optimizer=fastmlp.Adam(),
            batch_size=batch,
            epochs=1,
            threads=request["threads"],
        )
        return int(count() - before)

    counted(_MANY)  # buffers and threads
    few, many = (min(counted(n) for _ in range(5)) for n in (_FEW, _MANY))
    return {"few": few, "many": many, "per_step": (many - few) / (_MANY - _FEW)}


def start() -> tuple[Answer, Callable[[Answer], Answer]]:
    """The child's side; what fit itself loads or starts counts as memory of the fit."""
    import fastmlp  # noqa: F401

    works = {"fit": peak_of_fit, "allocations": allocations}
    return {}, lambda request: works[request["do"]](request)


def ask_once(environment: dict[str, str] | None = None, **request: Any) -> dict[str, Any]:
    """One request to a fresh child."""
    threads = request["threads"]
    with Child("memory", "memory.py", ["--child"], threads, environment) as child:
        if "unavailable" in child.wait().ready:
            raise SystemExit(child.ready["unavailable"])
        return child.ask(**request)


def measure_allocations(threads: int) -> dict[str, Any]:
    """By a counter in front of the C library, compiled here; or {"problem": why not}."""
    compiler = find_compiler()
    if compiler is None:
        return {"problem": "no C compiler"}
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "counter.c"), Path(folder, "counter.so")
        source.write_text(_COUNTER)
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except subprocess.CalledProcessError:
            return {"problem": f"{compiler} could not build the counter"}
        # Python's own allocator would hide its objects from the counter.
        preload = {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}
        return {
            str(n): ask_once(preload, do="allocations", threads=n) for n in sorted({1, threads})
        }


def measure(args: argparse.Namespace) -> Result:
    rows = []
    for name, (widths, n, batch) in (_QUICK if args.quick else CASES).items():
        request = {"do": "fit", "widths": widths, "rows": n, "batch": batch}
        found = ask_once(threads=args.threads, **request)
        rows.append({"shape": name, "rows": n, "batch": batch, **found})
    return {"rows": rows, "allocations": measure_allocations(args.threads)}


def copies_x(row: dict[str, Any]) -> bool:
    """Whether fit took room for a second X besides parameters and activations."""
    return row["over_data"] - 4 * row["params"] - row["activations"] >= row["x_bytes"]


def table(result: Result) -> str:
    columns = ["fit of", "rows", "batch", "X, MB", "peak over imports, MB", "bound, MB", "X copied"]
    columns.insert(5, "over the data, MB")
    lines = []
    for r in result["rows"]:
        keys = ("x_bytes", "over_imports", "over_data", "bound")
        cells = [f"{r[key] / 2**20:,.0f}" for key in keys]
        copied = "yes" if copies_x(r) else "no"
        lines.append([r["shape"], f"{r['rows']:,}", f"{r['batch']}", *cells, copied])
    found = result["allocations"]
    if "problem" in found:
        return markdown(columns, lines) + f"\n\nAllocations of a step: {found['problem']}."
    calls = ", ".join(f"{max(0, a['per_step']):.2f} on {n}" for n, a in found.items())
    return (
        markdown(columns, lines)
        + f"\n\nAllocations a step of 8-64-64-4 inside an epoch, by number of threads: {calls}."
    )


if __name__ == "__main__":
    if "--child" in sys.argv:
        serve(start)
    else:
        run_script("memory", __doc__, measure, table)
