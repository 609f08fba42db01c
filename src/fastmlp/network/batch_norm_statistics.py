"""Running statistics of BatchNorm, computed from data for weights that training does not follow.

Averaged weights have other activations than the weights whose statistics training follows.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..engine.executor import Executor
from ..ground.arrays import Array
from ..second_order.objective import BLOCK_ROWS

_KIND = _core.OPS["batch_norm"]


def has_batch_norm(executor: Executor) -> bool:
    """Whether any op keeps running statistics."""
    return bool((executor.layout.ops["kind"] == _KIND).any())


def statistics_of(
    executor: Executor, params: Array, matrix: Array, rows: NDArray[np.int64], threads: int
) -> Array:
    """Return the `stats` (n_stats,) of these weights, for these rows of a checked matrix.

    They are the mean and the variance, with 1 / (rows - 1), of the input of every BatchNorm without
    dropout. Each BatchNorm takes a forward pass of its own, since its input depends on those
    before. The network is left unchanged. Raises ValueError for fewer than 2 rows and for inputs
    that overflow.
    """
    if len(rows) < 2:
        raise ValueError("the statistics of BatchNorm need at least 2 rows")
    layout, stats = executor.layout, executor.context.stats.copy()
    own = Executor(layout, params, np.empty_like(params), executor.dtype, 0, stats)
    own.reserve(min(len(rows), BLOCK_ROWS))
    for op in np.flatnonzero(layout.ops["kind"] == _KIND):
        n, first = int(layout.ops["n_in"][op]), int(layout.ops["s"][op])
        mean, squares, count = np.zeros(n), np.zeros(n), 0
        with np.errstate(over="ignore", invalid="ignore"):
            for x in _inputs(own, int(op), matrix, rows, threads):
                # Chan, Golub, LeVeque 1983: the moments of two sets from those of each
                block_mean = x.mean(axis=0)
                gap, both = block_mean - mean, count + len(x)
                squares += ((x - block_mean) ** 2).sum(axis=0) + gap**2 * (count * len(x) / both)
                mean, count = mean + gap * (len(x) / both), both
            stats[first : first + n] = mean
            stats[first + n : first + 2 * n] = squares / (count - 1)
        if not np.isfinite(stats[first : first + 2 * n]).all():
            raise ValueError("the inputs of a BatchNorm are too large for a variance; scale X")
    return stats


def _inputs(
    executor: Executor, op: int, matrix: Array, rows: NDArray[np.int64], threads: int
) -> Iterator[Array]:
    """Yield the input of one op, in float64, block by block."""
    for first in range(0, len(rows), BLOCK_ROWS):
        x = np.ascontiguousarray(matrix[rows[first : first + BLOCK_ROWS]])
        executor.context.forward(x, False, threads)
        yield executor.input_of(op, x).astype(np.float64)
