"""Tall matrices by blocks of rows: Ctrl-C comes between, and nothing as tall is made on the way. Up
to a block all is NumPy's own to the bit.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ..ground.arrays import Matrix

_AT_ONCE = 2**26  # multiply-adds: 0.1 s even where they wait for the memory
_TOUCH = 16  # of them take as long as a number that is read and written anew
_LEAST_ROWS = 64  # fewer would leave a BLAS below its speed
_LEAST_OF_SUMS = 512  # each block of a sum of products makes a matrix as large as the sum


def blocks(rows: int, work: int, least: int = 1) -> Iterator[slice]:
    """Rows with so many multiply-adds each, some at a time, `least` at least."""
    step = max(least, _AT_ONCE // max(1, work))
    for first in range(0, rows, step):
        yield slice(first, first + step)


def by_rows(function: Callable[..., Matrix], width: int, *arrays: Matrix) -> Matrix:
    """What a function makes of the rows of all arrays, (rows, width)."""
    rows = len(arrays[0])
    out = np.empty((rows, width))
    for part in blocks(rows, _TOUCH * width):
        out[part] = function(*(array[part] for array in arrays))
    return out


def column_sums(function: Callable[..., Matrix], *arrays: Matrix) -> Matrix:
    """The sums over all rows of what a function makes of the rows of all arrays."""
    total = np.zeros(())
    for part in blocks(len(arrays[0]), _TOUCH * arrays[0][:1].size):
        total = total + function(*(array[part] for array in arrays)).sum(axis=0)
    return total


def rows_times(A: Matrix, B: Matrix) -> Matrix:
    """A B, (rows, p) times (p, q)."""
    out = np.empty((len(A), B.shape[1]))
    for part in blocks(len(A), B.size, _LEAST_ROWS):
        np.matmul(A[part], B, out=out[part])
    return out


def transposed_times(A: Matrix, B: Matrix) -> Matrix:
    """A^T B, (p, q), of (rows, p) and (rows, q) or (rows,)."""
    out = np.zeros(A.shape[1:] + B.shape[1:])
    for part in blocks(len(A), out.size, _LEAST_OF_SUMS):
        out += A[part].T @ B[part]
    return out


def gram(A: Matrix, weights: Matrix | None = None) -> Matrix:
    """A^T diag(weights) A, (p, p); without weights they are 1."""
    out = np.zeros((A.shape[1], A.shape[1]))
    for part in blocks(len(A), out.size, _LEAST_OF_SUMS):
        own = A[part]
        out += own.T @ (own if weights is None else weights[part, np.newaxis] * own)
    return out
