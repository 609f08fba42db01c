"""The arrays of one `fit`, checked once."""

from __future__ import annotations  # signatures that can be read

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..ground.arrays import Array
from ..ground.checks import check_number
from ..ground.conversion import Weights, as_finite, as_weights
from ..ground.errors import warn
from ..losses import Loss
from ..network.network import Network
from ..sample_weights import ClassWeight, class_weights, combined, weights_at


class TrainingData:
    """Checked arrays of one fit: all rows, which of them to train on, and validation data."""

    def __init__(
        self,
        net: Network,
        X: ArrayLike,
        y: ArrayLike,
        loss: Loss,
        validation_data: tuple[ArrayLike, ...] | None,
        validation_split: float,
        sample_weight: ArrayLike | None,
        class_weight: ClassWeight | None,
    ) -> None:
        self.given = X
        self.X, self.y = checked_pair(net, X, y, loss, "X", "y")
        net._column_names.learn(X)
        self.weights = as_weights(sample_weight, len(self.X))
        self.rows: NDArray[np.int64] = np.arange(len(self.X))
        self.validation: tuple[Array, Array, Weights | None] | None = None
        if validation_data is not None:
            if validation_split:
                raise ValueError("give validation_data or validation_split, not both")
            if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
                raise ValueError("validation_data must be (X, y) or (X, y, sample_weight)")
            Xv, yv, *rest = validation_data
            Xv, yv = checked_pair(net, Xv, yv, loss, "validation X", "validation y")
            weights = as_weights(rest[0] if rest else None, len(Xv), "validation sample_weight")
            self.validation = Xv, yv, weights
        elif validation_split:
            self._split(validation_split, net.seed)
            self._tell_lost_classes(loss)
        self._check_counting(loss)
        by_class = class_weights(class_weight, loss, self.y, self.rows, net.n_out, self.weights)
        self.weights = combined(self.weights, by_class)
        if self.weights is not None and not self._weighed(loss).any():
            raise ValueError("no row has a weight above 0, so there is nothing to learn from")

    def _weighed(self, loss: Loss) -> Array:
        """Return the weights of the training rows that count."""
        assert self.weights is not None
        counting = loss.counting(self.y)
        weights = self.weights if counting is None else self.weights * counting
        return weights[self.rows]

    def _check_counting(self, loss: Loss) -> None:
        """Raise ValueError if all training rows, or all validation rows, have the ignored label."""
        if not loss.counted(self.y, self.rows):
            raise ValueError(
                f"all training rows have the label that {loss!r} ignores, so there is nothing to "
                "learn from; check the labels"
            )
        if self.validation is not None and not loss.counted(self.validation[1]):
            raise ValueError(
                f"all validation rows have the label that {loss!r} ignores; give some that count"
            )

    def _split(self, share: float, seed: int) -> None:
        """Set a random share of the rows aside for validation; only those are copied."""
        n = len(self.rows)
        held_out = round(n * check_number(share, "validation_split", positive=True, below=1))
        if not 0 < held_out < n:
            raise ValueError(
                f"validation_split={share!r} of {n} rows leaves one side empty; 0.1 is usual"
            )
        shuffled = self.rows.copy()
        _core.shuffle(shuffled, seed, 2**64 - 1)  # a number that no epoch has
        held, self.rows = np.sort(shuffled[:held_out]), np.sort(shuffled[held_out:])
        self.validation = self.X[held], self.y[held], weights_at(self.weights, held)

    def _tell_lost_classes(self, loss: Loss) -> None:
        """Warn if chance has left no row of a class to train on."""
        if self.validation is None or not loss.needs_labels:
            return
        held = self.validation[1]
        counting = loss.counting(held)
        lost = np.setdiff1d(held if counting is None else held[counting], self.y[self.rows])
        if len(lost):
            warn(
                f"validation_split has taken all rows of class {lost[0]:.0f}, for it is not "
                "stratified; pass what scikit-learn's train_test_split(X, y, stratify=y) returns "
                "as validation_data"
            )


def checked_pair(
    net: Network, X: ArrayLike, y: ArrayLike, loss: Loss, x_name: str, y_name: str
) -> tuple[Array, Array]:
    """Return X and y in the form that C takes; ValueError or TypeError before any work."""
    net._column_names.check(X, x_name)
    x = as_finite(X, net.dtype, net.n_in, x_name)
    return x, loss.as_target(y, len(x), net.n_out, net.dtype, y_name)
