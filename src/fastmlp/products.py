"""Products of tall matrices by blocks of rows: Ctrl-C comes between, and nothing as tall is made on
the way. Up to a block they are NumPy's own to the bit.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_AT_ONCE = 2**26  # multiply-adds: 0.1 s even where they wait for the memory
_LEAST_ROWS = 64  # fewer would leave a BLAS below its speed


def _blocks(rows: int, work: int) -> Iterator[slice]:
    """Rows with so many multiply-adds each, some at a time."""
    step = max(_LEAST_ROWS, _AT_ONCE // max(1, work))
    for first in range(0, rows, step):
        yield slice(first, first + step)


def rows_times(A: Matrix, B: Matrix) -> Matrix:
    """A B, (rows, p) times (p, q)."""
    out = np.empty((len(A), B.shape[1]))
    for part in _blocks(len(A), B.size):
        np.matmul(A[part], B, out=out[part])
    return out


def transposed_times(A: Matrix, B: Matrix) -> Matrix:
    """A^T B, (p, q), of (rows, p) and (rows, q) or (rows,)."""
    out = np.zeros(A.shape[1:] + B.shape[1:])
    for part in _blocks(len(A), out.size):
        out += A[part].T @ B[part]
    return out


def gram(A: Matrix, weights: Matrix | None = None) -> Matrix:
    """A^T diag(weights) A, (p, p); without weights they are 1."""
    out = np.zeros((A.shape[1], A.shape[1]))
    for part in _blocks(len(A), out.size):
        own = A[part]
        out += own.T @ (own if weights is None else weights[part, np.newaxis] * own)
    return out
