"""Products and sums of tall matrices by blocks of rows.

Ctrl-C is seen between two blocks, and no temporary array is as tall as the matrix. A matrix of one
block has NumPy's own bits.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ..ground.arrays import Matrix

_AT_ONCE = 2**26  # multiply-adds of a block: at most 0.1 s, even if they wait for memory
_TOUCH = 16  # multiply-adds that take as long as reading and writing one number
_LEAST_ROWS = 64  # with fewer rows a BLAS is slower
_LEAST_OF_SUMS = 512  # rows; each block of a sum of products makes a matrix as large as the sum


def blocks(rows: int, work: int, least: int = 1) -> Iterator[slice]:
    """Yield blocks of rows with `work` multiply-adds each; a block has at least `least` rows."""
    step = max(least, _AT_ONCE // max(1, work))
    for first in range(0, rows, step):
        yield slice(first, first + step)


def by_rows(function: Callable[..., Matrix], width: int, *arrays: Matrix) -> Matrix:
    """Return the result (rows, width) of a function of the rows of all arrays."""
    rows = len(arrays[0])
    out = np.empty((rows, width))
    for part in blocks(rows, _TOUCH * width):
        out[part] = function(*(array[part] for array in arrays))
    return out


def column_sums(function: Callable[..., Matrix], *arrays: Matrix) -> Matrix:
    """Return the sums over all rows of a function of the rows of all arrays."""
    total = np.zeros(())
    for part in blocks(len(arrays[0]), _TOUCH * arrays[0][:1].size):
        total = total + function(*(array[part] for array in arrays)).sum(axis=0)
    return total


def rows_times(A: Matrix, B: Matrix) -> Matrix:
    """Return A B, (rows, p) times (p, q)."""
    out = np.empty((len(A), B.shape[1]))
    for part in blocks(len(A), B.size, _LEAST_ROWS):
        np.matmul(A[part], B, out=out[part])
    return out


def transposed_times(A: Matrix, B: Matrix) -> Matrix:
    """Return A^T B, (p, q), of (rows, p) and (rows, q) or (rows,)."""
    out = np.zeros(A.shape[1:] + B.shape[1:])
    for part in blocks(len(A), out.size, _LEAST_OF_SUMS):
        out += A[part].T @ B[part]
    return out


def gram(A: Matrix, weights: Matrix | None = None) -> Matrix:
    """Return A^T diag(weights) A, (p, p); weights of None are 1."""
    out = np.zeros((A.shape[1], A.shape[1]))
    for part in blocks(len(A), out.size, _LEAST_OF_SUMS):
        own = A[part]
        out += own.T @ (own if weights is None else weights[part, np.newaxis] * own)
    return out
