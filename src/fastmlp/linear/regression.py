"""Linear and ridge regression: the lecture's "Maximum likelihood estimation" and "Regularization".

    model = LinearRegression().fit(X, y)
    y_hat, std = model.predict(X_new, return_std=True)

All penalized models of the package minimize one form, summed over the rows:

    negative log-likelihood + l1 |theta|_1 + l2 / 2 |theta|^2

For regression, with sigma = 1, the first term is 1/2 |y - X theta|^2. Then `l2` is the lecture's
delta^2; other libraries call it alpha in ridge regression. A sample weight multiplies the term of
its row but not the penalty: weight 2 counts the row twice, weight 0 leaves it out.
"""

from __future__ import annotations  # signatures that can be read

import warnings
from typing import Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from ..ground.arrays import Matrix
from ..ground.checks import check_number
from ..ground.conversion import Weights
from .estimator import (
    Estimator,
    check_choice,
    inputs,
    r2_score,
    used_rows,
    values,
    weighted,
    with_ones,
)
from .least_squares import Solution, solve_minimum_norm, solve_normal, solve_qr

_SOLVERS = ("qr", "svd", "normal")


class LinearModel(Estimator):
    """Base of the models that predict x theta.

    Learned by `fit`:

    coef_: (n_in,) for y (rows,), and (n_in, n_out) for y (rows, n_out).
    intercept_: a float for y (rows,), and (n_out,) for y (rows, n_out).
    """

    _estimator_type = "regressor"
    coef_: Matrix
    intercept_: float | Matrix

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R^2, which is 1 - squared error / variance, averaged over the columns of y.

        X: the inputs, (rows, n_in).
        y: the targets, (rows,) or (rows, n_out).
        sample_weight: (rows,), how often each row counts.

        A column of y that does not vary counts 1 if it is met exactly and 0 otherwise; a single row
        gives NaN. Raises ValueError as `predict` does, and for shapes that do not match.
        """
        return r2_score(y, self.predict(X), sample_weight)

    def predict(self, X: ArrayLike) -> Matrix:
        """Return X coef_ + intercept_ for X (rows, n_in): (rows,) or (rows, n_out), as y was.

        Raises ValueError before `fit`, for other columns than in `fit`, and for NaN and infinity.
        """
        matrix = self._new_inputs(X)
        return np.asarray(matrix @ self.coef_ + self.intercept_)

    def _learn(self, coef: Matrix, intercept: Matrix, one_dimension: bool) -> None:
        """Store coef (n_in, n_out) and intercept (n_out,), without n_out if y was (rows,)."""
        self.n_in_ = len(coef)
        self.coef_ = coef[:, 0] if one_dimension else coef
        self.intercept_ = float(intercept[0]) if one_dimension else intercept


class LinearRegression(LinearModel):
    """Least squares, theta_ML = (X^T X)^-1 X^T y, with standard errors.

    solver: how theta is computed.
        "qr": QR of the scaled columns, refined if X is ill-conditioned. If columns of X depend on
        each other, it warns and continues as "svd".
        "svd": the solution of minimum norm.
        "normal": the lecture's formula as printed, which loses twice as many digits.
        A Ctrl-C leaves at once. If X has more than 127 columns, a call of LAPACK that has begun
        ends by itself in the background: with 6,000 x 1,500 after up to 1.5 s of CPU time for "qr",
        5 for "svd", 0.3 for "normal"; with 3,000 x 3,000 after up to 11 s for "qr", 17 for "svd".
    fit_intercept: whether theta has an intercept; without one, intercept_ is 0.

    Learned by `fit`:

    coef_: (n_in,) or (n_in, n_out), as for all linear models.
    intercept_: a float or (n_out,).
    rank_: the rank of the design matrix, intercept included.
    sigma_ml_: the lecture's sqrt(|r|^2 / rows), in the unit of y; a float or (n_out,).
    residual_std_: sqrt(|r|^2 / (rows - rank)), whose square is unbiased; NaN if rows = rank.
    covariance_: residual_std_^2 (X^T X)^-1 of theta, intercept first; (p, p) or (n_out, p, p).
    coef_std_: the standard errors of coef_, in its shape: square roots of the diagonal.
    intercept_std_: the standard error of intercept_, in its shape; 0 without an intercept.
    """

    def __init__(self, *, solver: str = "qr", fit_intercept: bool = True) -> None:
        self.solver, self.fit_intercept = solver, fit_intercept

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit theta to X and y.

        X: the inputs, (rows, n_in).
        y: the targets, (rows,) or (rows, n_out).
        sample_weight: (rows,), the inverse of each row's variance up to a common factor, as in
            weighted least squares.

        With weights, sigma_ml_, residual_std_ and the deviations of `predict` are those of an
        observation of weight 1. "rows" in their formulas counts the rows with a positive weight. So
        weight 2 gives the same coefficients as the row twice, but not the same deviations.

        Raises ValueError for NaN, infinity, negative weights and shapes that do not match. With
        solver="normal", raises ValueError if X^T X is singular. With solver="qr", warns with
        NumPy's RankWarning if columns of X depend on each other.
        """
        check_choice(self.solver, "solver", _SOLVERS)
        matrix, target, weights, one_dimension = regression_data(X, y, sample_weight)
        solution = self._solve(matrix, target, weights)
        first = int(bool(self.fit_intercept))
        theta = solution.theta
        intercept = theta[0] if first else np.zeros(theta.shape[1])
        self._learn(theta[first:], intercept, one_dimension)
        self._learn_names(X)
        self._learn_spread(solution, first, one_dimension)
        return self

    def _solve(self, X: Matrix, Y: Matrix, weights: Weights | None) -> Solution:
        A = weighted(with_ones(X, self.fit_intercept), weights)
        if self.solver == "normal":
            return solve_normal(A, weighted(Y, weights))
        if self.solver == "qr":
            solution = solve_qr(A, weighted(Y, weights))
            if solution is not None:
                return solution
        solution = solve_minimum_norm(X, Y, self.fit_intercept, weights)
        if self.solver == "qr" and solution.rank < A.shape[1]:
            warnings.warn(
                f"the {A.shape[1]} columns of X (intercept included) have the rank "
                f"{solution.rank} on {len(X)} rows; the solution of minimum norm is taken. Drop "
                'columns, use Ridge, or choose it with solver="svd"',
                np.exceptions.RankWarning,
                stacklevel=3,
            )
        return solution

    def _learn_spread(self, solution: Solution, first: int, one_dimension: bool) -> None:
        rows, n_out = solution.residual.shape
        self.rank_, self._factor = solution.rank, solution.factor
        squares = np.sum(solution.residual**2, axis=0)
        freedom = rows - self.rank_
        variance = squares / freedom if freedom > 0 else np.full(n_out, np.nan)
        covariance = variance[:, np.newaxis, np.newaxis] * (self._factor @ self._factor.T)
        std = np.sqrt(variance) * np.linalg.norm(self._factor, axis=1)[:, np.newaxis]
        intercept_std = std[0] if first else np.zeros(n_out)
        sigma, residual_std = np.sqrt(squares / rows), np.sqrt(variance)
        self.sigma_ml_ = float(sigma[0]) if one_dimension else sigma
        self.residual_std_ = float(residual_std[0]) if one_dimension else residual_std
        self.covariance_ = covariance[0] if one_dimension else covariance
        self.coef_std_ = std[first:, 0] if one_dimension else std[first:]
        self.intercept_std_ = float(intercept_std[0]) if one_dimension else intercept_std

    @overload
    def predict(self, X: ArrayLike, return_std: Literal[False] = False) -> Matrix: ...
    @overload
    def predict(self, X: ArrayLike, return_std: Literal[True]) -> tuple[Matrix, Matrix]: ...
    def predict(self, X: ArrayLike, return_std: bool = False) -> Matrix | tuple[Matrix, Matrix]:
        """Return the prediction X theta, and its standard deviation if `return_std` is true.

        X: the inputs, (rows, n_in).
        return_std: whether to return (mean, std) instead of mean. Both are (rows,) or
            (rows, n_out), as y was.

        The deviation is that of a new observation at x: residual_std_ sqrt(1 + x (X^T X)^-1 x^T).
        It combines the spread of y about the line and the uncertainty of the line (Draper, Smith
        1998).

        Raises ValueError before `fit`, for other columns than in `fit`, and for NaN and infinity;
        with `return_std` also if rows = rank, because then no residual is left to estimate from.
        """
        mean = super().predict(X)
        if not return_std:
            return mean
        if np.any(np.isnan(self.residual_std_)):
            raise ValueError(
                f"no standard deviation can be told from as many rows as parameters "
                f"({self.rank_}); fit with more rows"
            )
        A = with_ones(self._new_inputs(X), self.fit_intercept)
        growth = np.sqrt(1 + np.sum((A @ self._factor) ** 2, axis=1))
        return mean, np.multiply.outer(growth, self.residual_std_)


class Ridge(LinearModel):
    """Ridge regression, theta = (X^T X + l2 I)^-1 X^T y.

    Computed by QR of X stacked on sqrt(l2) I, so X^T X is never formed.

    l2: the lecture's delta^2, at least 0. l2 = 0 gives the least-squares solution of minimum norm.
    fit_intercept: whether theta has an intercept, which is not penalized.
    penalize_intercept: penalize the intercept too. This is the lecture's formula as printed, in
        which x_0 = 1 is a column like any other.

    Learned by `fit`:

    coef_: (n_in,) or (n_in, n_out), as for all linear models.
    intercept_: a float or (n_out,); 0 without an intercept.
    """

    def __init__(
        self, l2: float = 1.0, *, fit_intercept: bool = True, penalize_intercept: bool = False
    ) -> None:
        self.l2, self.fit_intercept = l2, fit_intercept
        self.penalize_intercept = penalize_intercept

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit theta to X and y.

        X: the inputs, (rows, n_in).
        y: the targets, (rows,) or (rows, n_out).
        sample_weight: (rows,), how often each row counts.

        Raises ValueError for a negative l2, for NaN, infinity, negative weights and shapes that do
        not match.
        """
        l2 = check_number(self.l2, "l2")
        matrix, target, weights, one_dimension = regression_data(X, y, sample_weight)
        if self.fit_intercept and self.penalize_intercept:
            theta = ridge_theta(with_ones(matrix, True), target, l2, False, weights)
        else:
            theta = ridge_theta(matrix, target, l2, bool(self.fit_intercept), weights)
        first = int(bool(self.fit_intercept))
        intercept = theta[0] if first else np.zeros(target.shape[1])
        self._learn(theta[first:], intercept, one_dimension)
        self._learn_names(X)
        return self


def regression_data(
    X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Matrix, Matrix, Weights | None, bool]:
    """Return X (rows, n_in), y (rows, n_out), weights, and whether y had one dimension.

    Rows of weight 0 are dropped.
    """
    matrix = inputs(X)
    target, one_dimension = values(y, len(matrix))
    counted = used_rows(sample_weight, len(matrix))
    if counted is None:
        return matrix, target, None, one_dimension
    used, weights = counted
    return matrix[used], target[used], weights, one_dimension


def ridge_theta(
    X: Matrix, Y: Matrix, l2: float, fit_intercept: bool, weights: Weights | None
) -> Matrix:
    """Return theta (p, n_out) that minimizes 1/2 |Y - A theta|^2 + l2 / 2 |coefficients|^2.

    A is [1, X] with an intercept, and X without one.
    """
    rows, n_in = X.shape
    if rows < n_in:  # QR would mistake dependent rows for further directions
        return solve_minimum_norm(X, Y, fit_intercept, weights, l2).theta
    penalty = np.sqrt(l2) * np.eye(n_in)
    if fit_intercept:
        penalty = np.column_stack([np.zeros(n_in), penalty])
    A = np.vstack([weighted(with_ones(X, fit_intercept), weights), penalty])
    solution = solve_qr(A, np.vstack([weighted(Y, weights), np.zeros((n_in, Y.shape[1]))]))
    if solution is None:  # dependent columns, and l2 is too small to separate them
        solution = solve_minimum_norm(X, Y, fit_intercept, weights, l2)
    return solution.theta
