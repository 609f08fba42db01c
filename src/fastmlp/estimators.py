"""What the linear models and the bases share: settings that stay as they were given, and checks at
the door. They compute in float64 whatever comes in, with NumPy's BLAS and LAPACK: unlike those of
networks, the last digits of their results depend on how many threads these take.
"""

from __future__ import annotations  # signatures that can be read

import inspect

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .data import as_finite
from .frames import ColumnNames, column_names
from .products import by_rows
from .targets import as_values
from .weights import Weights, as_weights

Matrix = NDArray[np.float64]
FLOAT64 = np.dtype(np.float64)


class Estimator:
    """Base: the constructor stores its arguments, `fit` checks them and learns `n_in_` and more.

    If X is a frame whose columns have names, `feature_names_in_` keeps them: another frame must
    then have the same in the same order, while an array is taken as it stands. The last digits of
    what linear models learn depend on the threads of NumPy's BLAS; OPENBLAS_NUM_THREADS=1, set
    before NumPy is imported, fixes them.
    """

    n_in_: int
    feature_names_in_: NDArray[np.object_]  # where X had names

    def __repr__(self) -> str:
        given = [
            f"{name}={getattr(self, name)!r}"
            for name, parameter in inspect.signature(type(self)).parameters.items()
            if not np.array_equal(getattr(self, name), parameter.default)
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_in_"):
            raise ValueError(f"this {type(self).__name__} is not fitted yet; call fit first")

    def _learn_names(self, X: ArrayLike) -> None:
        """Keep the names of the columns in place of those of an earlier fit."""
        vars(self).pop("feature_names_in_", None)
        if (names := column_names(X)) is not None:
            self.feature_names_in_ = np.array(names, object)

    def _column_names(self) -> ColumnNames:
        names = vars(self).get("feature_names_in_")
        return ColumnNames(None if names is None else list(names))

    def _new_inputs(self, X: ArrayLike) -> Matrix:
        """X (rows, n_in) for a fitted estimator; ValueError for other columns, NaN or infinity."""
        self._check_fitted()
        self._column_names().check(X)
        matrix = inputs(X)
        if matrix.shape[1] != self.n_in_:
            raise ValueError(
                f"X has {matrix.shape[1]} columns, but this {type(self).__name__} was fitted "
                f"with {self.n_in_}"
            )
        return matrix


def inputs(X: ArrayLike, name: str = "X") -> Matrix:
    """X as a finite float64 array (rows, n_in); ValueError or TypeError else."""
    return as_finite(X, FLOAT64, None, name)


def values(y: ArrayLike, rows: int) -> tuple[Matrix, bool]:
    """y as a finite float64 array (rows, n_out), and whether it had one dimension only."""
    array = np.asarray(y)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"y has the shape {array.shape}, expected ({rows},) or ({rows}, n_out)")
    n_out = 1 if array.ndim == 1 else array.shape[1]
    return as_values(y, rows, n_out, FLOAT64, "y", n_out), array.ndim == 1


def used_rows(
    sample_weight: ArrayLike | None, rows: int
) -> tuple[NDArray[np.intp], Weights] | None:
    """The rows of a weight above 0, with their weights, for the others are as good as left out;
    None where all rows count alike. ValueError for what are no weights, and where no row counts.
    """
    weights = as_weights(sample_weight, rows)
    if weights is None:
        return None
    used = np.flatnonzero(weights)
    if not len(used):
        raise ValueError("sample_weight is 0 for every row; some row must count")
    return used, weights[used]


def weighted(A: Matrix, weights: Weights | None) -> Matrix:
    """Rows times the root of their weight, so that squares count as often as it says."""
    if weights is None:
        return A
    return by_rows(lambda a, w: a * np.sqrt(w)[:, np.newaxis], A.shape[1], A, weights)


def check_choice(value: str, name: str, choices: tuple[str, ...]) -> str:
    """One of the choices; else ValueError."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; use one of {', '.join(choices)}")
    return value


def with_ones(X: Matrix, fit_intercept: bool) -> Matrix:
    """[1, X]: the lecture's x_0 = 1 in front, where there is an intercept."""
    if not fit_intercept:
        return X
    return by_rows(lambda x: np.column_stack([np.ones(len(x)), x]), X.shape[1] + 1, X)
