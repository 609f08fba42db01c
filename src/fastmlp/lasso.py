"""Lasso and elastic net: linear regression with exact zeros among its coefficients.

    1/2 |y - intercept - X w|^2 + l1 |w|_1 + l2 / 2 |w|^2        (the lecture, "Ridge, Lasso")

scikit-learn divides the first term by the rows: its `alpha` is (l1 + l2) / rows and its `l1_ratio`
l1 / (l1 + l2). Solved by coordinate descent on the features in use, with products of columns kept
("covariance updates": Friedman, Hastie, Tibshirani 2010, section 2.2) and a jump to the exact
solution for the signs found (Lee et al. 2007); stopped by the conditions of Karush, Kuhn and
Tucker.
"""

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ConvergenceWarning
from .estimators import Matrix, inputs, values
from .linear_models import LinearModel
from .numeric import check_count, check_number

_EPS = float(np.finfo(np.float64).eps)


class ElasticNet(LinearModel):
    """Linear regression with both penalties; the intercept is not penalised.

    `fit` ends when every condition for a minimum holds within tol |x_j| |y| (columns and y less
    their means), and warns with ConvergenceWarning if `max_sweeps` passes over the features in use
    were not enough. Without l1 it is `Ridge`, without l2 `Lasso`.

    Learned: `coef_` (exact zeros where a feature is not used), `intercept_`, `n_sweeps_`, and
    `dual_gap_`: the cost is at most that much above the smallest possible one. These two are the
    largest over the outputs.
    """

    def __init__(
        self,
        l1: float = 1.0,
        l2: float = 1.0,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-10,
        max_sweeps: int = 10_000,
    ) -> None:
        self.l1, self.l2, self.fit_intercept = l1, l2, fit_intercept
        self.tol, self.max_sweeps = tol, max_sweeps

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from X (rows, n_in) and y (rows,) or (rows, n_out), each output by itself.

        Raises ValueError for negative penalties, NaN, infinity and shapes that do not fit.
        """
        l1, l2, tol = self._check_settings()
        max_sweeps = check_count(self.max_sweeps, "max_sweeps")
        matrix = inputs(X)
        target, one_dimension = values(y, len(matrix))
        problems = [_Problem(matrix, y_k, bool(self.fit_intercept)) for y_k in target.T]
        results = [problem.solve(l1, l2, tol, max_sweeps) for problem in problems]
        _warn_unless_converged(results, max_sweeps)
        pairs = list(zip(problems, results, strict=True))
        self.n_sweeps_ = max(result.sweeps for result in results)
        self.dual_gap_ = max(problem.dual_gap(result.coef, l1, l2) for problem, result in pairs)
        coef = np.column_stack([result.coef for result in results])
        intercept = np.array([problem.intercept(result.coef) for problem, result in pairs])
        self._learn(coef, intercept, one_dimension)
        return self

    def _check_settings(self) -> tuple[float, float, float]:
        return (
            check_number(self.l1, "l1"),
            check_number(self.l2, "l2"),
            check_number(self.tol, "tol", positive=True),
        )


class Lasso(ElasticNet):
    """Linear regression with the penalty l1 |w|_1; see ElasticNet, whose l2 is 0 here."""

    def __init__(
        self,
        l1: float = 1.0,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-10,
        max_sweeps: int = 10_000,
    ) -> None:
        self.l1, self.fit_intercept = l1, fit_intercept
        self.tol, self.max_sweeps = tol, max_sweeps

    def _check_settings(self) -> tuple[float, float, float]:
        return check_number(self.l1, "l1"), 0.0, check_number(self.tol, "tol", positive=True)


def lasso_path(
    X: ArrayLike,
    y: ArrayLike,
    *,
    l1s: ArrayLike | None = None,
    n_l1s: int = 100,
    ratio: float | None = None,
    l2: float = 0.0,
    fit_intercept: bool = True,
    tol: float = 1e-10,
    max_sweeps: int = 10_000,
) -> tuple[Matrix, Matrix, Matrix]:
    """Lasso (elastic net for l2 > 0) for many l1, from the largest on, each begun at the last.

    Returns (l1s, coefs, intercepts) of the shapes (k,), (n_in, k) and (k,), in falling order of l1.
    Left out, `l1s` are n_l1s numbers in equal ratios from the smallest l1 for which all
    coefficients are zero, max_j |x_j^T y|, down to `ratio` times it: 1e-3, or 1e-2 where X has more
    columns than rows, for which smaller l1 take long. y has the shape (rows,).
    Raises ValueError as ElasticNet.fit does.
    """
    matrix = inputs(X)
    target, _ = values(y, len(matrix))
    if target.shape[1] != 1:
        raise ValueError(f"y has {target.shape[1]} columns; take the path of one at a time")
    l2, tol = check_number(l2, "l2"), check_number(tol, "tol", positive=True)
    max_sweeps = check_count(max_sweeps, "max_sweeps")
    problem = _Problem(matrix, target[:, 0], fit_intercept)
    if l1s is None:
        if ratio is None:
            ratio = 1e-3 if len(matrix) >= matrix.shape[1] else 1e-2
        if not 0 < check_number(ratio, "ratio") < 1:
            raise ValueError(f"ratio must lie between 0 and 1, not {ratio!r}")
        steps = np.geomspace(1, ratio, check_count(n_l1s, "n_l1s"))
        grid = float(np.max(np.abs(problem.moment))) * steps
    else:
        grid = np.sort([check_number(l1, "every l1") for l1 in np.ravel(l1s)])[::-1]
    results: list[_Result] = []
    for l1 in grid:
        start = results[-1].coef if results else None
        results.append(problem.solve(float(l1), l2, tol, max_sweeps, start))
    _warn_unless_converged(results, max_sweeps)
    coefs = np.column_stack([result.coef for result in results])
    return grid, coefs, np.array([problem.intercept(result.coef) for result in results])


@dataclass(frozen=True)
class _Result:
    coef: Matrix
    sweeps: int
    converged: bool


def _warn_unless_converged(results: list[_Result], max_sweeps: int) -> None:
    if not all(result.converged for result in results):
        warnings.warn(
            f"the lasso did not converge in max_sweeps={max_sweeps} passes; columns of X depend on "
            "each other: use l2 > 0, a larger l1, or allow more",
            ConvergenceWarning,
            stacklevel=3,
        )


class _Problem:
    """One output: X and y less their means, and the products x_i^T x_j of the columns i in use."""

    def __init__(self, X: Matrix, y: Matrix, fit_intercept: bool) -> None:
        n_in = X.shape[1]
        self.x_mean = X.mean(axis=0) if fit_intercept else np.zeros(n_in)
        self.y_mean = float(y.mean()) if fit_intercept else 0.0
        self.X, self.y = X - self.x_mean, y - self.y_mean
        with np.errstate(over="ignore"):
            self.norms = np.linalg.norm(self.X, axis=0)
            size = np.linalg.norm(self.norms) ** 2 + np.linalg.norm(self.y) ** 2
        if not np.isfinite(size):
            raise ValueError("products of X with itself or y overflow float64; scale X and y down")
        self.moment = self.X.T @ self.y
        self.used = np.empty(0, dtype=np.intp)
        self.products = np.empty((n_in, 0))  # x_i^T x_j for all i and the j in use

    def intercept(self, coef: Matrix) -> float:
        """The best intercept for these coefficients."""
        return float(self.y_mean - self.x_mean @ coef)

    def solve(
        self, l1: float, l2: float, tol: float, max_sweeps: int, start: Matrix | None = None
    ) -> _Result:
        """Minimise over the features in use; take in those that violate their condition; repeat."""
        allowed = tol * self.norms * float(np.linalg.norm(self.y))
        coef = np.zeros(len(self.norms)) if start is None else start.copy()
        sweeps, converged = 0, True
        while converged:
            slope = self.moment - self.products @ coef[self.used]
            excess = np.abs(slope) - l1 - allowed
            excess[self.used] = 0
            wrong = np.flatnonzero(excess > 0)
            if len(wrong):
                worst = np.argsort(excess[wrong])[::-1][: max(10, len(self.used))]
                self._use(wrong[worst])
            elif sweeps:
                break
            inner = _CoordinateDescent(self, l1, l2, coef[self.used], allowed[self.used])
            sweeps += inner.run(max_sweeps - sweeps)
            coef[self.used] = inner.w
            converged = inner.converged
        return _Result(coef, sweeps, converged)

    def _use(self, features: NDArray[np.intp]) -> None:
        self.used = np.concatenate([self.used, features])
        self.products = np.column_stack([self.products, self.X.T @ self.X[:, features]])

    def dual_gap(self, coef: Matrix, l1: float, l2: float) -> float:
        """Cost less the value of the dual at s r, the residual scaled to be feasible: an upper
        bound of the distance from the minimum. The l2 term counts as rows sqrt(l2) I below X, 0
        below y.
        """
        residual = self.y - self.X @ coef
        largest = float(np.max(np.abs(self.X.T @ residual - l2 * coef)))
        s = min(1.0, l1 / largest) if largest > 0 else 1.0
        squares = residual @ residual + l2 * (coef @ coef)
        cost = squares / 2 + l1 * np.sum(np.abs(coef))
        return max(0.0, float(cost - s * (residual @ self.y) + s**2 * squares / 2))


class _CoordinateDescent:
    """The features in use only: 1/2 w^T G w - c^T w + l1 |w|_1, G = X^T X + l2 I, c = X^T y."""

    def __init__(self, problem: _Problem, l1: float, l2: float, w: Matrix, allowed: Matrix) -> None:
        used = problem.used
        self.G = problem.products[used] + l2 * np.eye(len(used))
        self.c, self.l1, self.w, self.allowed = problem.moment[used], l1, w, allowed
        self.converged = False

    def run(self, max_sweeps: int) -> int:
        """Sweep until the conditions hold within `allowed`; returns the number of sweeps."""
        if self._holds():
            self.converged = True
            return 1
        for sweep in range(1, max_sweeps + 1):
            self._sweep()
            self._jump()
            if self._holds():
                self.converged = True
                return sweep
        return max_sweeps

    def _holds(self) -> bool:
        slope = self.c - self.G @ self.w
        off = np.where(
            self.w == 0, np.abs(slope) - self.l1, np.abs(slope - self.l1 * np.sign(self.w))
        )
        return bool(np.all(off <= self.allowed))

    def _sweep(self) -> None:
        """Minimise over one coefficient after another: soft thresholding."""
        slope = self.c - self.G @ self.w
        for j, curvature in enumerate(self.G.diagonal()):
            old = self.w[j]
            if curvature == 0:  # the square of a tiny column
                continue
            pull = slope[j] + curvature * old
            beyond = abs(pull) - self.l1
            new = np.sign(pull) * beyond / curvature if beyond > 4 * _EPS * self.l1 else 0.0
            if new != old:
                slope -= (new - old) * self.G[j]
                self.w[j] = new

    def _jump(self) -> None:
        """Go to the exact minimum for the present signs; a coefficient that would change its sign
        on the way becomes zero, and the minimum is sought anew without it. Each leg lowers the
        cost.
        """
        while True:
            used = np.flatnonzero(self.w)
            signs = np.sign(self.w[used])
            G = self.G[np.ix_(used, used)]
            try:
                np.linalg.cholesky(G)
                exact = np.linalg.solve(G, self.c[used] - self.l1 * signs)
            except np.linalg.LinAlgError:  # dependent columns are left to the sweeps
                return
            before, cost = self.w.copy(), self._cost()
            step = exact - before[used]
            crossing = np.sign(exact) != signs
            if crossing.any():
                share = np.where(crossing, before[used] / np.where(crossing, -step, 1), np.inf)
                first = int(np.argmin(share))
                self.w[used] += share[first] * step
                self.w[used[first]] = 0
            else:
                self.w[used] = exact
            if not self._cost() <= cost:  # columns that all but depend on each other
                self.w[:] = before
                return
            if not crossing.any():
                return

    def _cost(self) -> float:
        w = self.w
        return float((self.G @ w / 2 - self.c) @ w + self.l1 * np.sum(np.abs(w)))
