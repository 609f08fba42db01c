"""The executor: a program with its buffers. Whole networks and single layers both use it."""

import os
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..ground.arrays import Array
from ..ground.runtime import resolve_threads
from ..optimizers import Optimizer
from .plan import ABSENT, Layout, aligned_empty

SLICE_SECONDS = 0.1  # seconds that C runs before Python sees a Ctrl-C
_PREDICT_BLOCK = 128  # rows that one thread takes through the whole network at a time
_ROW_STEP = 16  # rows; buffers for a multiple of it begin at a cache line and hold whole panels


_executors: "weakref.WeakSet[Executor]" = weakref.WeakSet()


def _release_all() -> None:
    """In a forked child, release networks that threads of the parent held: these are not there."""
    for executor in list(_executors):
        executor.turns.keep_own()
        executor.context.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_all)


class Executor:
    """Runs one Layout over flat `params`, `grads` and `stats`, which belong to the caller."""

    def __init__(
        self,
        layout: Layout,
        params: Array,
        grads: Array,
        dtype: np.dtype[Any],
        seed: int,
        stats: Array | None = None,
        turns: _core.Turns | None = None,
    ) -> None:
        self.layout, self.dtype = layout, dtype
        self.program = _core.Program(
            layout.ops,
            layout.n_params,
            layout.n_decayed,
            layout.acts_width,
            layout.dacts_width,
            dtype,
            layout.n_stats,
        )
        self.context = _core.Context(self.program, params, grads, seed, stats)
        self.turns = turns or _core.Turns()  # a network and its layers share theirs
        self.quick = _core.QuickWay(self.context, self.turns)
        _executors.add(self)
        self._predicting = threading.local()  # buffers and pace of each thread that predicts

    def reserve_batches(self, rows: int, threads: int) -> None:
        """Make room for training steps of mini-batches of `rows` rows."""
        self.reserve(self.program.block_rows(rows, threads), rows)

    def reserve(self, rows: int, batch_size: int = 0) -> None:
        """Make room for `rows` rows at a time, of mini-batches of `batch_size` rows (0: of `rows`).

        Buffers that are large enough are kept.
        """
        batch_size = max(rows, batch_size)
        if rows <= self.context.capacity and batch_size <= self.context.most_rows:
            return
        rows = max(rows, self.context.capacity)
        batch_size = max(batch_size, self.context.most_rows)
        capacity = -(-rows // _ROW_STEP) * _ROW_STEP
        try:
            acts = aligned_empty(capacity * self.layout.acts_width, self.dtype)
            self.context.reserve(
                capacity,
                acts,
                aligned_empty(capacity * self.layout.dacts_width, self.dtype),
                aligned_empty(capacity * self.layout.n_in, self.dtype),
                np.empty(max(capacity, batch_size)),
            )
        except MemoryError:
            raise MemoryError(
                f"no memory for the activations of {rows} rows; use a smaller batch_size"
            ) from None
        self._acts = acts

    def input_of(self, op: int, x: Array) -> Array:
        """Return the input of an op in the last forward, that of x: a view (rows, n_in)."""
        place, n = int(self.layout.ops["x"][op]), int(self.layout.ops["n_in"][op])
        if place == ABSENT:
            return x
        first = place * self.context.capacity
        return self._acts[first : first + len(x) * n].reshape(len(x), n)

    def forward(self, x: Array, training: bool, threads: int | None) -> Array:
        """Return the output for x, kept for backward; in training every call draws new masks."""
        with self.turns.changing:
            self.reserve(len(x))
            return self.context.forward(x, training, resolve_threads(threads)).copy()

    def backward(self, dz: Array, threads: int | None) -> Array:
        """Fill grads; returns the gradient by the input of the last forward."""
        with self.turns.changing:
            return self._backward(dz, resolve_threads(threads))

    def _backward(self, dz: Array, threads: int) -> Array:
        expected = (self.context.rows, self.layout.n_out)
        if expected[0] == 0:
            raise RuntimeError("backward needs a forward pass first")
        if dz.shape != expected:
            raise ValueError(f"dz has the shape {dz.shape}, but the last forward gave {expected}")
        dx = np.empty((len(dz), self.layout.n_in), self.dtype)
        self.context.backward(dz, dx, threads)
        return dx

    def update(self, optimizer: Optimizer, threads: int | None) -> bool:
        """Take one optimizer step from grads; False if some new value would not be finite."""
        index = _core.OPTIMIZERS[optimizer.kernel]["index"]
        with self.turns.changing:
            rates = self.rates(optimizer, 1)
            return self.context.update(index, optimizer.settings, resolve_threads(threads), rates)

    def rates(self, optimizer: Optimizer, n: int) -> NDArray[np.float64] | None:
        """Learning rates and momenta (n, 2) of the next n steps; None if they do not change."""
        return optimizer.rates(self.context.t - self.context.schedule_start, n)

    def predict(self, x: Array, threads: int | None) -> Array:
        """Return the output for x, without training, in memory for a few blocks of rows."""
        with self.turns.reading:
            return self._predict(x, resolve_threads(threads))

    def predict_row(self, row: Array, out: Array) -> bool:
        """Write the output for one row; False if the row is not finite."""
        return self.context.predict_row(row, out, self.turns)

    def _predict(self, x: Array, threads: int) -> Array:
        n_blocks = min(threads, -(-len(x) // _ROW_STEP))
        share = -(-len(x) // n_blocks)
        block = _core.fixed_block() or min(-(-share // _ROW_STEP) * _ROW_STEP, _PREDICT_BLOCK)
        size = n_blocks * block * self.layout.acts_width
        acts = getattr(self._predicting, "acts", None)
        if acts is None or acts.size != size:
            self._predicting.acts = acts = aligned_empty(size, self.dtype)
            self._predicting.pace = _core.Pace()
        out = np.empty((len(x), self.layout.n_out), self.dtype)
        row = 0
        while row < len(x):
            row = self.context.predict(
                x, out, acts, block, row, threads, SLICE_SECONDS, self._predicting.pace
            )
        return out
