"""The three products of `Linear`, compiled from `csrc/kernels/gemm.h` and called in a loop in C.

The flags are those of the build; instruction set, element type and folder of the sources are
chosen, so that two versions of the kernels can be timed in turns.
"""

import ctypes
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import ROOT, kernel_flags
from peak import InstructionSet, find_compiler

PRODUCTS = ("forward", "input_grad", "weight_grad")
Size = tuple[int, int, int]  # rows, n_in, n_out

# Every call takes the next copy of W, or of dW where that is what is written.
_SOURCE = r"""
#include "kernels/gemm.h"

static real *copy_of(real *w, long call, long copies, gemm_shape s) {
    return w + call % copies * s.n_in * s.n_out;
}
#define RUN(name, call)                                                                            \
    void name(long from, long to, long copies, real *x, real *w, real *b, real *z, gemm_shape s) { \
        for (long i = from; i < to; i++)                                                           \
            call;                                                                                  \
    }
RUN(forward, gemm_forward(z, x, copy_of(w, i, copies, s), b, 0, s.n_out, s))
RUN(input_grad, gemm_input_grad(x, z, copy_of(w, i, copies, s), 0, s.n_in, s))
RUN(weight_grad, gemm_weight_grad(copy_of(w, i, copies, s), x, z, 0, s.n_in, s))
"""


class ProductShape(ctypes.Structure):
    """gemm_shape of gemm.h."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("n_in", ctypes.c_int64),
        ("n_out", ctypes.c_int64),
        ("blas", ctypes.c_int32),
    )


def compile_products(
    folder: Path, instructions: InstructionSet, dtype: str = "float32", csrc: Path = ROOT / "csrc"
) -> ctypes.CDLL:
    """A library with the three loops; OSError or CalledProcessError if it cannot be built."""
    compiler = find_compiler()
    if compiler is None:
        raise OSError("no C compiler (gcc, cc, clang or $CC)")
    name = f"products_{instructions.name}_{dtype}"
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(_SOURCE)
    flags = [*shlex.split(kernel_flags() or "-O3"), *instructions.flags]
    flags += [f"-DFM_DOUBLE={int(dtype == 'float64')}", "-I", str(csrc), "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source)], check=True)
    return ctypes.CDLL(str(library))


def reference(product: str, x: Any, w: Any, b: Any, z: Any) -> Any:
    """What the product gives, in float64."""
    x, w, b, z = (a.astype(np.float64) for a in (x, w, b, z))
    return {"forward": lambda: x @ w + b, "input_grad": lambda: z @ w.T}.get(
        product, lambda: x.T @ z
    )()


def aligned(values: Any) -> Any:
    """A copy that begins at a cache line, as fastmlp's own arrays do."""
    room = np.empty(values.size * values.itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + values.size * values.itemsize].view(values.dtype)
    copy = copy.reshape(values.shape)
    copy[...] = values
    return copy


class Arrays:
    """x, b, z of one size, and as many copies of W as come to `pool` bytes, at least one."""

    def __init__(self, size: Size, dtype: str, pool: int) -> None:
        rows, n_in, n_out = self.size = size
        kind = np.dtype(dtype)
        rng = np.random.default_rng(3)
        self.x, self.z, self.b, w = (
            aligned(rng.standard_normal(shape, dtype=kind))
            for shape in ((rows, n_in), (rows, n_out), (n_out,), (n_in, n_out))
        )
        # Outputs stand apart: numbers that are fed back would grow from call to call.
        self.x_out, self.z_out = aligned(self.x), aligned(self.z)
        self.w = aligned(np.broadcast_to(w, (max(1, pool // w.nbytes), n_in, n_out)))


class Products:
    """What calls a product on arrays."""

    def __init__(self, library: ctypes.CDLL, arrays: Arrays) -> None:
        self.library, self.arrays = library, arrays
        self.shape = ProductShape(*arrays.size, 0)
        self.copies = {"warm": 1, "cold": len(arrays.w)}

    def work(self, product: str, where: str) -> Callable[[int], Any]:
        """What makes so many calls; it goes on with the copy after the one it used last."""
        a, function, done = self.arrays, getattr(self.library, product), 0
        x = a.x_out if product == "input_grad" else a.x
        z = a.z_out if product == "forward" else a.z
        pointers = [v.ctypes.data_as(ctypes.c_void_p) for v in (x, a.w, a.b, z)]
        copies = ctypes.c_long(self.copies[where])

        def run(calls: int) -> None:
            nonlocal done
            bounds = ctypes.c_long(done), ctypes.c_long(done + calls)
            function(*bounds, copies, *pointers, self.shape)
            done += calls

        return run

    def check(self, product: str) -> None:
        """RuntimeError unless the product is what NumPy gives in float64."""
        a = self.arrays
        expected = reference(product, a.x, a.w[0], a.b, a.z)
        self.work(product, "warm")(1)
        got = {"forward": a.z_out, "input_grad": a.x_out, "weight_grad": a.w[0]}[product]
        depth = {"forward": self.shape.n_in, "input_grad": self.shape.n_out}.get(
            product, self.shape.rows
        )
        error = np.abs(got - expected).max() / np.abs(expected).max()
        if not error <= 4 * np.finfo(got.dtype).eps * np.sqrt(depth):
            raise RuntimeError(f"{product} of {a.size} differs from NumPy's by {error}")
