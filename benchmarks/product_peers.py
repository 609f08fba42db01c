"""The child processes of `kernels.py`: products of fastmlp, OpenBLAS and MKL on the same arrays.

Requests and answers:

    {"do": "load", "size", "dtype", "products", "pool", "seconds"}  -> {}
    {"do": "round"}           -> {product: seconds a call}
    {"do": "peak", "dtype"}   -> GFLOP/s of multiply-adds, best of 3 (fastmlp alone)
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from children import Answer, calibrated, timed
from chips import INSTRUCTIONS
from machine import ROOT
from peak import InstructionSet, Meter, every_set, find_compiler
from products import Arrays, Products, compile_products
from worker import use_processors

PEERS = ("openblas", "mkl")
Work = Callable[[int], Any]  # makes so many calls
_DTYPES = ("float32", "float64")


class FastMLP:
    """The products compiled from `csrc`."""

    def __init__(self, instructions: InstructionSet, csrc: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._libraries = {
                dtype: compile_products(Path(folder), instructions, dtype, csrc)
                for dtype in _DTYPES
            }
        compiler = find_compiler()
        assert compiler
        self._meters = {dtype: Meter(compiler, instructions, dtype) for dtype in _DTYPES}
        self.about = {"version": "this folder" if csrc == ROOT / "csrc" else str(csrc)}

    def works(self, arrays: Arrays, names: list[str]) -> dict[str, Work]:
        products = Products(self._libraries[arrays.w.dtype.name], arrays)
        for name in names:
            products.check(name)
        return {name: products.work(name, "cold") for name in names}

    def peak(self, dtype: str) -> float:
        return max(self._meters[dtype].gflops(1) for _ in range(3))


class Calls:
    """Products by calls from Python, W (or dW) taken from the pool in turn."""

    def __init__(self, product: str, arrays: Arrays, wrap: Any, call: Any) -> None:
        x, z = wrap(arrays.x), wrap(arrays.z)
        copies = [wrap(w) for w in arrays.w]
        self._call, self._next = call, 0
        x_out, z_out = wrap(arrays.x_out), wrap(arrays.z_out)
        if product == "forward":
            self._operands = [(x, w, z_out) for w in copies]
        elif product == "input_grad":
            self._operands = [(z, w.T, x_out) for w in copies]
        else:
            self._operands = [(x.T, z, dw) for dw in copies]

    def __call__(self, calls: int) -> None:
        operands, call, n = self._operands, self._call, len(self._operands)
        for i in range(self._next, self._next + calls):
            a, b, out = operands[i % n]
            call(a, b, out=out)
        self._next = (self._next + calls) % n


class OpenBLAS:
    """NumPy's."""

    def __init__(self) -> None:
        from threadpoolctl import threadpool_info

        np.ones((2, 2)) @ np.ones((2, 2))
        found = [i for i in threadpool_info() if i["user_api"] == "blas"]
        if not found or found[0]["internal_api"] != "openblas":
            raise ImportError(f"NumPy's BLAS is not OpenBLAS: {found}")
        core = found[0]["architecture"]
        self.about = {"version": found[0]["version"], "chooses": f"its kernels for {core}"}

    def works(self, arrays: Arrays, names: list[str]) -> dict[str, Work]:
        return {name: Calls(name, arrays, lambda a: a, np.matmul) for name in names}


class MKL:
    """PyTorch's."""

    def __init__(self) -> None:
        import torch

        if not torch.backends.mkl.is_available():
            raise ImportError("this PyTorch has no MKL")
        torch.set_num_threads(1)
        self.about = {"version": torch.__version__, "chooses": what_mkl_says()}
        self._torch = torch

    def works(self, arrays: Arrays, names: list[str]) -> dict[str, Work]:
        wrap, call = self._torch.from_numpy, self._torch.mm
        return {name: Calls(name, arrays, wrap, call) for name in names}


def what_mkl_says() -> str:
    """The instruction set MKL names in its log, in a process like this one."""
    program = "import torch; a = torch.ones(64, 64); torch.mm(a, a)"
    command = [sys.executable, "-c", f"import os; os.environ['MKL_VERBOSE'] = '1'; {program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"MKL_VERBOSE oneMKL (.*?) Product .* architecture (.*?), \w+ ", done.stdout)
    if not found:
        return "it does not say"
    return f"oneMKL {found[1]}, which names its target '{found[2]}'"


def start_peer(
    library: str, kernels: str, csrc: str = str(ROOT / "csrc")
) -> tuple[Answer, Callable[[Answer], Any]]:
    """The child's side."""
    use_processors(1)
    if library == "fastmlp":
        sets = every_set()
        instructions = next((s for s in sets if s.name == INSTRUCTIONS[kernels]), sets[0])
        peer: Any = FastMLP(instructions, Path(csrc))
    else:
        peer = {"openblas": OpenBLAS, "mkl": MKL}[library]()
    works: dict[str, Work] = {}
    times: dict[str, int] = {}
    overhead: dict[str, float] = {}

    def load(request: Answer) -> Answer:
        works.clear()  # so that two pools are never there at once
        arrays = Arrays(tuple(request["size"]), request["dtype"], request["pool"])
        works.update(peer.works(arrays, request["products"]))
        for name, work in works.items():
            times[name] = calibrated(work, request["seconds"])
            overhead[name] = 0.0 if library == "fastmlp" else call_seconds(peer, name, arrays)
        return {}

    def answer(request: Answer) -> Any:
        if request["do"] == "load":
            return load(request)
        if request["do"] == "peak":
            return peer.peak(request["dtype"])
        return {n: seconds_a_call(w, times[n], overhead[n]) for n, w in works.items()}

    return peer.about, answer


def seconds_a_call(work: Work, times: int, overhead: float) -> float:
    """Without the overhead; a product so small that it is more than half of all keeps that half."""
    seconds = timed(work, times) / times
    return max(seconds - overhead, seconds / 2)


def call_seconds(peer: Any, name: str, arrays: Arrays) -> float:
    """What a call takes on 2 x 2 matrices, of which there are as many copies."""
    n_bytes = 4 * arrays.w.itemsize
    small = Arrays((2, 2, 2), arrays.w.dtype.name, n_bytes * len(arrays.w))
    work = peer.works(small, [name])[name]
    work(min(100, len(arrays.w)))
    calls = min(2000, max(200, len(arrays.w)))
    return min(timed(work, calls) for _ in range(3)) / calls
