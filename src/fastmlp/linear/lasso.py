"""Lasso and elastic net: linear regression with exact zeros among its coefficients.

    1/2 |y - intercept - X w|^2 + l1 |w|_1 + l2 / 2 |w|^2        (the lecture, "Ridge, Lasso")

scikit-learn divides the first term by the rows: its `alpha` is (l1 + l2) / rows and its `l1_ratio`
l1 / (l1 + l2).

The solver is coordinate descent on the features in use. It keeps the products of their columns
("covariance updates": Friedman, Hastie, Tibshirani 2010, section 2.2; csrc/kernels/lasso.c). If
the sweeps take long, it jumps to the exact solution for the present signs (Lee et al. 2007). It
stops by the conditions of Karush, Kuhn and Tucker.
"""

from __future__ import annotations  # signatures that can be read

import math
import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core import cholesky_solve, lasso_sweeps
from ..ground.arrays import Matrix
from ..ground.checks import check_count, check_number
from ..ground.conversion import Weights
from ..ground.errors import ConvergenceWarning
from .estimator import weighted
from .least_squares import centered, solve_minimum_norm
from .products import gram
from .regression import LinearModel, regression_data, ridge_theta

_EPS = float(np.finfo(np.float64).eps)
# Features that join together, because one pass over X computes all of their products; ...
_AT_ONCE = 32
_AHEAD = 0.2  # ... they join if they are at most this share of l1 from violating their condition
_FEW = 256  # features; up to this number all of them are used from the start
_PER_DECADE = 20  # values of l1 for each factor 10 of a path down to l1
_SAFETY = 1000  # factor by which sweeps must beat the tolerance to be as exact as a jump


class ElasticNet(LinearModel):
    """Linear regression with the penalty l1 |w|_1 + l2 / 2 |w|^2.

    The minimized cost is 1/2 |y - intercept - X w|^2 + l1 |w|_1 + l2 / 2 |w|^2 (the lecture,
    "Ridge, Lasso"). The sum over the rows is not divided by their number: scikit-learn's alpha is
    (l1 + l2) / rows, and its l1_ratio is l1 / (l1 + l2).

    l1: the penalty of the absolute values, at least 0. With l1 = 0 this is `Ridge`, solved like it.
    l2: the penalty of the squares, at least 0. With l2 = 0 this is `Lasso`.
    fit_intercept: whether there is an intercept, which is not penalized.
    tol: `fit` ends when every condition for a minimum holds within tol |x_j| |y|, for columns x_j
        and y minus their means.
    max_sweeps: the most sweeps over the features in use. If they are not enough, `fit` comes down
        to l1 from larger values as `lasso_path` does, with at most `max_sweeps` for each value. If
        that fails too, it warns with ConvergenceWarning.

    Learned by `fit`:

    coef_: (n_in,) or (n_in, n_out), exactly 0 for the features that are not used.
    intercept_: a float or (n_out,); 0 without an intercept.
    n_sweeps_: the number of sweeps, the largest over the outputs; 0 if l1 = 0.
    dual_gap_: a bound of how far the cost is above its minimum, up to rounding; the largest over
        the outputs. It holds for l1 = 0 too.
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

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the coefficients to X and y, for each output separately.

        X: the inputs, (rows, n_in).
        y: the targets, (rows,) or (rows, n_out).
        sample_weight: (rows,), how often each row counts. In scikit-learn's alpha, "rows" is then
            the sum of the weights.

        Raises ValueError for negative penalties and weights, for NaN, infinity and shapes that do
        not match.
        """
        l1, l2, tol = self._check_settings()
        max_sweeps = check_count(self.max_sweeps, "max_sweeps")
        matrix, target, weights, one_dimension = regression_data(X, y, sample_weight)
        problems = [_Problem(matrix, y_k, bool(self.fit_intercept), weights) for y_k in target.T]
        results = [problem.minimize(l1, l2, tol, max_sweeps) for problem in problems]
        _warn_unless_converged(results, max_sweeps)
        pairs = list(zip(problems, results, strict=True))
        dual_gap = max(problem.dual_gap(result.coef, l1, l2) for problem, result in pairs)
        coef = np.column_stack([result.coef for result in results])
        intercept = np.array([problem.intercept(result.coef) for problem, result in pairs])
        self.n_sweeps_, self.dual_gap_ = max(result.sweeps for result in results), dual_gap
        self._learn(coef, intercept, one_dimension)
        self._learn_names(X)
        return self

    def _check_settings(self) -> tuple[float, float, float]:
        return (
            check_number(self.l1, "l1"),
            check_number(self.l2, "l2"),
            check_number(self.tol, "tol", positive=True),
        )


class Lasso(ElasticNet):
    """Linear regression with the penalty l1 |w|_1: `ElasticNet` with l2 = 0.

    The minimized cost is 1/2 |y - intercept - X w|^2 + l1 |w|_1 (the lecture, "Ridge, Lasso");
    scikit-learn's alpha is l1 / rows.

    l1: the penalty of the absolute values, at least 0.
    fit_intercept: whether there is an intercept, which is not penalized.
    tol: the tolerance of the conditions for a minimum, as in `ElasticNet`.
    max_sweeps: the most sweeps over the features in use, as in `ElasticNet`.

    Learned by `fit`: coef_, intercept_, n_sweeps_ and dual_gap_, as in `ElasticNet`.
    """

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
    sample_weight: ArrayLike | None = None,
) -> tuple[Matrix, Matrix, Matrix]:
    """Fit the lasso (elastic net for l2 > 0) for many values of l1.

    The values are solved in falling order; each solution is the start for the next.

    X: the inputs, (rows, n_in).
    y: the targets, (rows,).
    l1s: the values of l1. Default: `n_l1s` values in equal ratios, from max_j |x_j^T y|, the
        smallest l1 for which all coefficients are zero, down to `ratio` times it.
    n_l1s: the number of values if `l1s` is not given.
    ratio: the smallest over the largest value, between 0 and 1, if `l1s` is not given. Default:
        1e-3, or 1e-2 if X has more columns than rows, because smaller l1 then take long.
    l2: the penalty of the squares, the same for every l1.
    fit_intercept: whether there is an intercept, which is not penalized.
    tol: the tolerance of the conditions for a minimum, as in `ElasticNet`.
    max_sweeps: the most sweeps for each l1. If they are not enough, a ConvergenceWarning is given.
    sample_weight: (rows,), how often each row counts.

    Returns (l1s, coefs, intercepts), in falling order of l1: (k,), (n_in, k) and (k,).

    Raises ValueError as `ElasticNet.fit` does, and for an empty `l1s`, for a `ratio` out of range
    and for y with more than one column.
    """
    matrix, target, weights, _ = regression_data(X, y, sample_weight)
    if target.shape[1] != 1:
        raise ValueError(f"y has {target.shape[1]} columns; take the path of one at a time")
    l2, tol = check_number(l2, "l2"), check_number(tol, "tol", positive=True)
    max_sweeps = check_count(max_sweeps, "max_sweeps")
    problem = _Problem(matrix, target[:, 0], fit_intercept, weights)
    if l1s is None:
        if ratio is None:
            ratio = 1e-3 if len(matrix) >= matrix.shape[1] else 1e-2
        ratio = check_number(ratio, "ratio", positive=True, below=1)
        steps = np.geomspace(1, ratio, check_count(n_l1s, "n_l1s"))
        grid = float(np.max(np.abs(problem.moment))) * steps
    else:
        given = np.ravel(l1s).tolist()
        if not given:
            raise ValueError("l1s is empty; give one l1 at least, or leave it out")
        grid = np.sort([check_number(l1, "every l1") for l1 in given])[::-1]
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
    """The lasso of one output: X and y minus their means, and the products of columns in use.

    Rows of X and y are multiplied by the square roots of their weights.
    """

    def __init__(
        self, X: Matrix, y: Matrix, fit_intercept: bool, weights: Weights | None = None
    ) -> None:
        n_in, Y = X.shape[1], y[:, np.newaxis]
        self._given = X, Y, fit_intercept, weights
        Xc, self.x_mean = centered(X, weights, fit_intercept)
        Yc, y_mean = centered(Y, weights, fit_intercept)
        self.y_mean = float(y_mean[0])
        self.columns = np.ascontiguousarray(weighted(Xc, weights).T)  # (n_in, rows)
        self.y = weighted(Yc, weights)[:, 0]
        with np.errstate(over="ignore"):
            self.norms = np.sqrt(np.einsum("ij,ij->i", self.columns, self.columns))
            self.y_norm = float(np.linalg.norm(self.y))
            size = np.linalg.norm(self.norms) ** 2 + self.y_norm**2
        if not np.isfinite(size):
            raise ValueError("products of X with itself or y overflow float64; scale X and y down")
        self.moment = self.columns @ self.y
        # products: x_i^T x_j for i in use and all j, with room for more i; gram: for j in use.
        if n_in <= min(_FEW, len(X)):
            self.used = np.arange(n_in)
            self._space = self.products = self.gram = gram(self.columns.T)
        else:
            self.used = np.empty(0, dtype=np.intp)
            self._space, self.gram = np.empty((_AT_ONCE, n_in)), np.empty((0, 0))
            self.products = self._space[:0]

    def intercept(self, coef: Matrix) -> float:
        """Return the best intercept for these coefficients."""
        return float(self.y_mean - self.x_mean @ coef)

    def minimize(self, l1: float, l2: float, tol: float, max_sweeps: int) -> _Result:
        """Call `solve`; if it does not converge, follow a path of falling l1.

        With fewer rows than features, a small l1 may take in so many features at once that they
        depend on each other; then no jump is possible. On a path the features in use stay few.
        """
        result = self.solve(l1, l2, tol, max_sweeps)
        top = float(np.max(np.abs(self.moment)))
        if result.converged or not 0 < l1 < top:
            return result
        points = 1 + math.ceil(_PER_DECADE * math.log10(top / l1))
        coef, sweeps = np.zeros_like(result.coef), result.sweeps
        for point in np.geomspace(top, l1, points)[1:]:
            down = self.solve(float(point), l2, tol, max_sweeps, coef)
            coef, sweeps = down.coef, sweeps + down.sweeps
            if not down.converged:
                return result
        return _Result(coef, sweeps, True)

    def solve(
        self, l1: float, l2: float, tol: float, max_sweeps: int, start: Matrix | None = None
    ) -> _Result:
        """Minimize over the features in use, add those that violate their condition, and repeat.

        l1 = 0 is ridge regression; with l2 = 0 too, the solution of minimum norm.
        """
        if l1 == 0:
            X, Y, fit_intercept, weights = self._given
            theta = ridge_theta(X, Y, l2, fit_intercept, weights)
            return _Result(theta[int(fit_intercept) :, 0], 0, True)
        allowed = tol * self.norms * self.y_norm
        coef = np.zeros(len(self.norms)) if start is None else start.copy()
        sweeps, converged = 0, True
        while converged:
            excess = np.abs(self.moment - coef[self.used] @ self.products) - l1 - allowed
            excess[self.used] = -np.inf
            if excess.max() > 0:
                likely = np.flatnonzero(excess > -_AHEAD * l1)
                n = max(_AT_ONCE, min(len(self.used), np.count_nonzero(excess > 0)))
                self._use(likely[np.argsort(excess[likely])[::-1][:n]])
            elif sweeps:
                break
            G = self.gram
            if l2 > 0:
                G = G.copy()
                G[np.diag_indices(len(G))] += l2
            moment = self.moment[self.used]
            inner = CoordinateDescent(G, moment, l1, coef[self.used], allowed[self.used])
            sweeps += inner.run(max_sweeps - sweeps)
            coef[self.used] = inner.w
            converged = inner.converged
        return _Result(coef, sweeps, converged)

    def _use(self, features: NDArray[np.intp]) -> None:
        before, self.used = len(self.used), np.concatenate([self.used, features])
        if len(self.used) > len(self._space):
            self._space = np.empty((2 * len(self.used), len(self.columns)))
            self._space[:before] = self.products
        self.products = self._space[: len(self.used)]
        np.matmul(self.columns[features], self.columns.T, out=self.products[before:])
        self.gram = np.ascontiguousarray(self.products[:, self.used])

    def dual_gap(self, coef: Matrix, l1: float, l2: float) -> float:
        """Return the cost minus the value of a dual: an upper bound of cost minus minimum.

        The smallest of the following bounds, for the residual r = y - X w:

        - The dual at s r, with the largest s <= 1 that makes s r feasible. The l2 term counts as
          rows sqrt(l2) I below X and 0 below y. Useless for l1 = 0: s is then 0, except at the
          minimum.
        - For l2 > 0, the dual at r itself: it is always feasible if the conjugate of the penalty is
          that of both terms together.
        - For l1 = l2 = 0, the dual at the part of r that is orthogonal to the columns of X.
        """
        residual = self.y - coef @ self.columns
        squares = float(residual @ residual)
        pull = self.columns @ residual
        if l1 == l2 == 0:
            rest = solve_minimum_norm(self.columns.T, residual[:, np.newaxis], False).residual
            return max(0.0, squares - float(np.sum(rest**2))) / 2
        largest = float(np.max(np.abs(pull - l2 * coef)))
        s = min(1.0, l1 / largest) if largest > 0 else 1.0
        penalty = l2 * float(coef @ coef) / 2
        cost = squares / 2 + l1 * float(np.sum(np.abs(coef))) + penalty
        gap = cost - s * float(residual @ self.y) + s**2 * (squares / 2 + penalty)
        if l2 > 0:
            with np.errstate(over="ignore"):
                conjugate = float(np.sum(np.maximum(np.abs(pull) - l1, 0) ** 2)) / (2 * l2)
            gap = min(gap, cost - float(residual @ self.y) + squares / 2 + conjugate)
        return max(0.0, gap)


class CoordinateDescent:
    """Minimize 1/2 w^T G w - c^T w + l1 |w|_1 in w, in place, by coordinate descent.

    It ends when every condition for a minimum holds within `allowed`. In the lasso, G = X^T X +
    l2 I and c = X^T y for the features in use.
    """

    def __init__(self, G: Matrix, c: Matrix, l1: float, w: Matrix, allowed: Matrix) -> None:
        self.G, self.c, self.l1, self.w, self.allowed = G, c, l1, w, allowed
        self.converged = False

    def run(self, max_sweeps: int) -> int:
        """Sweep and jump until the conditions hold; returns the number of sweeps."""
        # The number of sweeps that take as long as one jump grows with the number of features. If
        # the features are few, a sweep takes less time than a line of Python.
        at_once, sweeps = max(100 - len(self.w), 10 + len(self.w) // 8), 0
        while not self.converged and sweeps < max_sweeps:
            most = min(at_once, max_sweeps - sweeps)
            slope = self.c - self.G @ self.w
            done = lasso_sweeps(self.w, slope, self.G, self.allowed / _SAFETY, self.l1, most)
            if done == most:
                self._jump()
            self.converged, sweeps = self._holds(), sweeps + done
        return sweeps

    def _holds(self) -> bool:
        slope, w = self.c - self.G @ self.w, self.w
        off = np.abs(slope - self.l1 * np.sign(w)) - self.l1 * (w == 0)
        return bool((off <= self.allowed).all())

    def _jump(self) -> None:
        """Go to the exact minimum for the present signs.

        The first coefficient that would change its sign on the way becomes zero, and the search
        repeats without it. Each leg lowers the cost.
        """
        while True:
            used = np.flatnonzero(self.w)
            signs = np.sign(self.w[used])
            exact = self.c[used] - self.l1 * signs
            if not cholesky_solve(-self.G[np.ix_(used, used)], exact):
                return  # the columns depend on each other: only sweeps can go on
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
            if (
                not self._cost() <= cost + self._rounding()
            ):  # the columns nearly depend on each other
                self.w[:] = before
                return
            if not crossing.any():
                return

    def _cost(self) -> float:
        w = self.w
        return float((self.G @ w / 2 - self.c) @ w + self.l1 * np.sum(np.abs(w)))

    def _rounding(self) -> float:
        return _EPS * len(self.w) * float(np.abs(self.c) @ np.abs(self.w))
