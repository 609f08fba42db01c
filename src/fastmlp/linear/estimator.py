"""Base of the linear models and the bases: settings stored as given, and checks of the arrays.

Everything is computed in float64, whatever the type of the input, by NumPy's BLAS and LAPACK.
Unlike the results of networks, the last digits therefore depend on the number of BLAS threads.
"""

from __future__ import annotations  # signatures that can be read

import inspect
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ground.arrays import Array, Matrix
from ..ground.conversion import Weights, as_finite, as_weights
from ..ground.frames import ColumnNames, column_names
from ..losses.targets import as_values, check_missing
from .products import by_rows

FLOAT64 = np.dtype(np.float64)


class Estimator:
    """Base of the linear models and the bases.

    The constructor only stores its arguments; `fit` checks them and sets the attributes whose names
    end in an underscore. If X is a frame with column names, a later frame must have the same names
    in the same order. An array has no names, so its columns are taken in the order of the fit.

    The last digits of fitted parameters depend on the number of threads of NumPy's BLAS. Setting
    OPENBLAS_NUM_THREADS=1 before NumPy is imported fixes them.

    scikit-learn's `clone`, `Pipeline`, `cross_val_score` and `GridSearchCV` take all of them.

    Learned by `fit`:

    n_in_, n_features_in_: the number of columns of X.
    feature_names_in_: (n_in_,), the column names; set only if X was a frame with names.
    """

    _estimator_type: ClassVar[str]  # "regressor", "classifier" or "transformer", for scikit-learn
    n_in_: int
    feature_names_in_: NDArray[np.object_]  # set only if X was a frame with column names

    def __repr__(self) -> str:
        given = [
            f"{name}={getattr(self, name)!r}"
            for name, parameter in self._parameters().items()
            if not np.array_equal(getattr(self, name), parameter.default)
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    @classmethod
    def _parameters(cls) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(cls).parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name, as given to the constructor.

        deep: has no effect, because no setting is an estimator; scikit-learn passes it.
        """
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **params: Any) -> Self:
        """Change settings by name, for the next `fit`; returns the estimator itself.

        Raises ValueError for a name that is no setting, and then changes nothing.
        """
        known = self._parameters()
        for name in params:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no setting {name!r}; use one of {', '.join(known)}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    @property
    def n_features_in_(self) -> int:
        """The number of columns of X in `fit`; AttributeError before it, as in scikit-learn."""
        try:
            return self.n_in_
        except AttributeError:
            raise AttributeError(
                f"n_features_in_: this {type(self).__name__} is not fitted yet"
            ) from None

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks of an estimator; it is installed if this is called."""
        from sklearn import utils

        kind = self._estimator_type
        return utils.Tags(
            estimator_type=None if kind == "transformer" else kind,
            target_tags=utils.TargetTags(
                required=kind != "transformer", multi_output=kind == "regressor"
            ),
            regressor_tags=utils.RegressorTags() if kind == "regressor" else None,
            classifier_tags=(
                utils.ClassifierTags(multi_class=not getattr(self, "_binary", False))
                if kind == "classifier"
                else None
            ),
            transformer_tags=utils.TransformerTags() if kind == "transformer" else None,
        )

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


def r2_score(y: ArrayLike, predicted: Matrix, sample_weight: ArrayLike | None) -> float:
    """Return 1 - squared error / variance, averaged over the columns of y.

    A column that does not vary counts 1 if it is met exactly and 0 otherwise, and a single row
    gives NaN, as in scikit-learn. Raises ValueError for shapes that do not match.
    """
    target, _ = values(y, len(predicted))
    mean = predicted.reshape(len(predicted), -1)
    if target.shape != mean.shape:
        raise ValueError(f"y has {target.shape[1]} columns, but the predictions {mean.shape[1]}")
    weights = None
    if (counted := used_rows(sample_weight, len(target))) is not None:
        used, weights = counted
        target, mean = target[used], mean[used]
    if len(target) < 2:
        return math.nan
    error = np.average((target - mean) ** 2, axis=0, weights=weights)
    center = np.average(target, axis=0, weights=weights)
    spread = np.average((target - center) ** 2, axis=0, weights=weights)
    varies = target.max(axis=0) > target.min(axis=0)
    scores = np.where(error == 0, 1.0, 0.0)
    scores[varies] = 1 - error[varies] / spread[varies]
    return float(scores.mean())


def accuracy_score(y: ArrayLike, predicted: Array, sample_weight: ArrayLike | None) -> float:
    """Return the share of rows, by weight, whose label is right.

    Labels that were not in `fit` are wrong. Raises ValueError for shapes that do not match.
    """
    check_missing(y, "y")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    rows = len(predicted)
    if labels.shape != (rows,):
        raise ValueError(f"y has the shape {labels.shape}, expected ({rows},): one label a row")
    right = labels == predicted
    if (counted := used_rows(sample_weight, rows)) is not None:
        used, weights = counted
        return float(np.average(right[used], weights=weights))
    return float(np.mean(right))


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
