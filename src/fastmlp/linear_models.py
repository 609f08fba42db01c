"""Linear and ridge regression: the lecture's "Maximum likelihood estimation" and "Regularisation".

    model = LinearRegression().fit(X, y)
    y_hat, std = model.predict(X_new, return_std=True)

All penalised models of the package minimise one form, summed over the examples:

    negative log-likelihood + l1 |theta|_1 + l2 / 2 |theta|^2

which for regression, with sigma = 1, is 1/2 |y - X theta|^2 + ...; `l2` is then the lecture's
delta^2, and what other libraries call alpha in ridge regression. With a sample_weight every row's
term counts that many times, the penalty once: a weight 2 is the row twice, a weight 0 none.
"""

from __future__ import annotations  # signatures that can be read

import warnings
from typing import Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from .estimators import (
    Estimator,
    Matrix,
    check_choice,
    inputs,
    used_rows,
    values,
    weighted,
    with_ones,
)
from .least_squares import Solution, solve_minimum_norm, solve_normal, solve_qr
from .numeric import check_number
from .weights import Weights

_SOLVERS = ("qr", "svd", "normal")


class LinearModel(Estimator):
    """Base of the models that predict x theta. y of one dimension gives coef_ (n_in,) and a float
    intercept_; y (rows, n_out) gives coef_ (n_in, n_out) and intercept_ (n_out,).
    """

    coef_: Matrix
    intercept_: float | Matrix

    def predict(self, X: ArrayLike) -> Matrix:
        """X coef_ + intercept_, of the shape (rows,) or (rows, n_out)."""
        matrix = self._new_inputs(X)
        return np.asarray(matrix @ self.coef_ + self.intercept_)

    def _learn(self, coef: Matrix, intercept: Matrix, one_dimension: bool) -> None:
        """Keep coef (n_in, n_out) and intercept (n_out,) in the shape that y had."""
        self.n_in_ = len(coef)
        self.coef_ = coef[:, 0] if one_dimension else coef
        self.intercept_ = float(intercept[0]) if one_dimension else intercept


class LinearRegression(LinearModel):
    """Least squares, theta_ML = (X^T X)^-1 X^T y, with the deviation of y about it.

    solver: "qr" (scaled, and refined where X is ill-conditioned; where columns of X depend on each
    other it warns and goes on as "svd"), "svd" (of all solutions the one of minimum norm), or
    "normal" (the lecture's formula as printed, which loses twice the digits). With more than 127
    columns a Ctrl-C waits for a call of LAPACK: with 6,000 x 1,500 up to 1.5 s of CPU time for
    "qr", 5 for "svd", 0.3 for "normal"; with 3,000 x 3,000 up to 11 and 17 s for "qr" and "svd".

    Learned: `coef_`, `intercept_` (0 without one), `rank_` (of the design matrix, intercept
    included), `sigma_ml_` (the lecture's sqrt(|r|^2 / rows), r = y - X theta), `residual_std_`
    (sqrt(|r|^2 / (rows - rank)), without bias; NaN where rows = rank), `covariance_` of theta,
    intercept first: residual_std_^2 (X^T X)^-1, (p, p) or (n_out, p, p), and its square roots
    `coef_std_` and `intercept_std_`, shaped as coef_ and intercept_.
    """

    def __init__(self, *, solver: str = "qr", fit_intercept: bool = True) -> None:
        self.solver, self.fit_intercept = solver, fit_intercept

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from X (rows, n_in) and y (rows,) or (rows, n_out).

        sample_weight (rows,): the inverse of a row's variance, up to a common factor, as in
        weighted least squares. sigma_ml_, residual_std_ and the deviations that predict tells are
        those of an observation of weight 1, and "rows" above counts those of a weight above 0. So
        coefficients are as if a row of weight 2 stood there twice; deviations are not.

        Raises ValueError for NaN, infinity, negative weights and shapes that do not fit, and with
        solver="normal" where X^T X is singular; warns with numpy's RankWarning as said above.
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
        """X theta, (rows,) or (rows, n_out); with return_std also the predictive standard
        deviation.

        That of a new observation at x: residual_std_ sqrt(1 + x (X^T X)^-1 x^T), the spread of y
        about the line together with what is unknown about the line (Draper, Smith 1998). Raises
        ValueError with return_std where rows = rank, for then no spread was left.
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
    """Ridge regression: theta = (X^T X + l2 I)^-1 X^T y, l2 being the lecture's delta^2.

    The intercept is not penalised; `penalize_intercept=True` is the lecture's formula as printed,
    with x_0 = 1 a column like any other. Computed by QR of X over sqrt(l2) I, so X^T X is never
    formed; l2 = 0 is least squares of minimum norm. A Ctrl-C waits as in `LinearRegression` with
    "qr", with fewer rows than columns as with "svd".

    Learned: `coef_` and `intercept_`.
    """

    def __init__(
        self, l2: float = 1.0, *, fit_intercept: bool = True, penalize_intercept: bool = False
    ) -> None:
        self.l2, self.fit_intercept = l2, fit_intercept
        self.penalize_intercept = penalize_intercept

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from X (rows, n_in) and y (rows,) or (rows, n_out), rows counting sample_weight
        (rows,) times.

        Raises ValueError for a negative l2, NaN, infinity, negative weights and shapes that do not
        fit.
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
    """X (rows, n_in), y (rows, n_out) and weights of the rows that count; whether y had one
    dimension.
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
    """theta (p, n_out) of 1/2 |Y - A theta|^2 + l2 / 2 |coefficients|^2, A = [1, X] or X."""
    rows, n_in = X.shape
    if rows < n_in:  # rows that depend on each other would look like directions
        return solve_minimum_norm(X, Y, fit_intercept, weights, l2).theta
    penalty = np.sqrt(l2) * np.eye(n_in)
    if fit_intercept:
        penalty = np.column_stack([np.zeros(n_in), penalty])
    A = np.vstack([weighted(with_ones(X, fit_intercept), weights), penalty])
    solution = solve_qr(A, np.vstack([weighted(Y, weights), np.zeros((n_in, Y.shape[1]))]))
    if solution is None:  # l2 is too small to tell apart columns that depend on each other
        solution = solve_minimum_norm(X, Y, fit_intercept, weights, l2)
    return solution.theta
