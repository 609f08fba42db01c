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

    Every pass over it is one epoch. With `shuffle` its order is a function of (seed, number of the
    pass) and the one that `Sequential.fit` draws for the same seed and epoch. The last batch may be
    short; `drop_last` leaves it out. A batch_size above the number of rows is that number, as in
    fit, whose defaults are others (batch_size 128, shuffle). Raises ValueError where the rows of X
    and y differ in number, or there are none.
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
        """Number of mini-batches in a pass."""
        full, rest = divmod(len(self.X), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """One pass: pairs of (batch_size, ...) arrays."""
        order = np.arange(len(self.X))
        if self.shuffle:
            _core.shuffle(order, self.seed, self.epoch)
        self.epoch += 1
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield self.X[rows], self.y[rows]
