"""The lecture's data loader."""

from __future__ import annotations  # signatures that can be read

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .ground.arrays import Array
from .ground.checks import check_count, check_seed
from .ground.conversion import as_numbers, check_unmasked
from .ground.frames import is_frame


class DataLoader:
    """Mini-batches of (X, y), the lecture's data loader.

    Every iteration over it is one epoch.

    X: inputs (rows, ...), an array or a data frame.
    y: targets (rows, ...).
    batch_size: rows of a mini-batch, an integer >= 1. A number above that of the rows means all
        rows, as in `fit`. (The default of `fit` is 128.)
    shuffle: whether each pass has a new order, a function of (seed, number of the pass).
        `Sequential.fit`, which shuffles by default, draws the same order for the same seed and
        epoch.
    seed: an integer in 0 .. 2**64 - 1.
    drop_last: whether to leave out the last mini-batch if it is short.

    Raises ValueError if X and y differ in the number of rows, or have none.
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        batch_size: int = 64,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        for array, name in ((X, "X"), (y, "y")):
            check_unmasked(array, name)
        self.X = as_numbers(X, "X") if is_frame(X) else np.asarray(X)
        self.y = np.asarray(y)
        if self.X.ndim == 0 or self.y.ndim == 0 or len(self.X) != len(self.y):
            raise ValueError(
                f"X {self.X.shape} and y {self.y.shape} must have as many rows as each other"
            )
        if len(self.X) == 0:
            raise ValueError("X and y have no rows")
        self.batch_size = min(check_count(batch_size, "batch_size"), len(self.X))
        self.shuffle, self.seed, self.drop_last = shuffle, check_seed(seed), drop_last
        self.epoch = 0

    def __len__(self) -> int:
        """The number of mini-batches in a pass."""
        full, rest = divmod(len(self.X), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Iterate over one pass: pairs of (batch_size, ...) arrays."""
        order = np.arange(len(self.X))
        if self.shuffle:
            _core.shuffle(order, self.seed, self.epoch)
        self.epoch += 1
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield self.X[rows], self.y[rows]
