"""Base of the linear models and the bases: settings stored as given, and checks of the arrays.

Everything is computed in float64, whatever the type of the input, by NumPy's BLAS and LAPACK.
Unlike the results of networks, the last digits therefore depend on the number of BLAS threads.
"""

from __future__ import annotations  # signatures that can be read

import inspect

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ground.arrays import Matrix
from ..ground.conversion import Weights, as_finite, as_weights
from ..ground.frames import ColumnNames, column_names
from ..losses.targets import as_values
from .products import by_rows

FLOAT64 = np.dtype(np.float64)


class Estimator:
    """Base of the linear models and the bases.

    The constructor only stores its arguments; `fit` checks them and sets the attributes whose names
    end in an underscore. If X is a frame with column names, a later frame must have the same names
    in the same order. An array has no names, so its columns are taken in the order of the fit.

    The last digits of fitted parameters depend on the number of threads of NumPy's BLAS. Setting
    OPENBLAS_NUM_THREADS=1 before NumPy is imported fixes them.

    Learned by `fit`:

    n_in_: the number of columns of X.
    feature_names_in_: (n_in_,), the column names; set only if X was a frame with names.
    """

    n_in_: int
    feature_names_in_: NDArray[np.object_]  # set only if X was a frame with column names

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
        """Store the column names of X, and drop the names from an earlier fit."""
        vars(self).pop("feature_names_in_", None)
        if (names := column_names(X)) is not None:
            self.feature_names_in_ = np.array(names, object)

    def _column_names(self) -> ColumnNames:
        names = vars(self).get("feature_names_in_")
        return ColumnNames(None if names is None else list(names))

    def _new_inputs(self, X: ArrayLike) -> Matrix:
        """Return X as (rows, n_in); raises ValueError for other columns, NaN and infinity."""
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
    """Return X as a finite float64 array (rows, n_in), or raise ValueError or TypeError."""
    return as_finite(X, FLOAT64, None, name)


def values(y: ArrayLike, rows: int) -> tuple[Matrix, bool]:
    """Return y as a finite float64 array (rows, n_out), and whether y had one dimension."""
    array = np.asarray(y)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"y has the shape {array.shape}, expected ({rows},) or ({rows}, n_out)")
    n_out = 1 if array.ndim == 1 else array.shape[1]
    return as_values(y, rows, n_out, FLOAT64, "y", n_out), array.ndim == 1


def used_rows(
    sample_weight: ArrayLike | None, rows: int
) -> tuple[NDArray[np.intp], Weights] | None:
    """Return the indices of the rows with a positive weight, and these weights.

    Rows of weight 0 are dropped. Returns None without sample weights. Raises ValueError for invalid
    weights, and if every weight is 0.
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
    """Return `value` if it is one of the choices, or raise ValueError."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; use one of {', '.join(choices)}")
    return value


def with_ones(X: Matrix, fit_intercept: bool) -> Matrix:
    """[1, X]: the lecture's x_0 = 1 in front, where there is an intercept."""
    if not fit_intercept:
        return X
    return by_rows(lambda x: np.column_stack([np.ones(len(x)), x]), X.shape[1] + 1, X)
