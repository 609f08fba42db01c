"""Lasso and elastic net: linear regression with exact zeros among its coefficients.

    1/2 |y - intercept - X w|^2 + l1 |w|_1 + l2 / 2 |w|^2        (the lecture, "Ridge, Lasso")

scikit-learn divides the first term by the rows: its `alpha` is (l1 + l2) / rows and its `l1_ratio`
l1 / (l1 + l2). Solved by coordinate descent on the features in use, with products of columns kept
("covariance updates": Friedman, Hastie, Tibshirani 2010, section 2.2; csrc/kernels/lasso.c) and,
where that takes long, a jump to the exact solution for the signs found (Lee et al. 2007); stopped
by the conditions of Karush, Kuhn and Tucker.
"""

from __future__ import annotations  # signatures that can be read

import math
import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core import cholesky_solve, lasso_sweeps
from .errors import ConvergenceWarning
from .estimators import Matrix, weighted
from .least_squares import centred, solve_minimum_norm
from .linear_models import LinearModel, regression_data, ridge_theta
from .numeric import check_count, check_number
from .products import gram
from .weights import Weights

_EPS = float(np.finfo(np.float64).eps)
_AT_ONCE = 32  # features taken in together, since their products then read X once ...
_AHEAD = 0.2  # ... if they are that near, in shares of l1, to violating their condition
_FEW = 256  # features, all of which are taken in at once
_PER_DECADE = 20  # values of l1 on the way down
_SAFETY = 1000  # sweeps that end so far within the tolerance are as good as a jump


class ElasticNet(LinearModel):
    """Linear regression with both penalties; the intercept is not penalised.

    `fit` ends when every condition for a minimum holds within tol |x_j| |y| (columns and y less
    their means). Where `max_sweeps` passes over the features in use are not enough, it comes down
    to l1 from larger ones, as `lasso_path` does, with as many for each, and warns with
    ConvergenceWarning if these are not enough either. Without l1 it is `Ridge` and solved like it
    (`n_sweeps_` is then 0), without l2 `Lasso`.

    Learned: `coef_` (exact zeros where a feature is not used), `intercept_`, `n_sweeps_`, and
    `dual_gap_`: the cost is at most that much above the smallest possible one, for l1 = 0 as well
    (to the rounding of the cost). These two are the largest over the outputs.
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
        """Learn from X (rows, n_in) and y (rows,) or (rows, n_out), each output by itself, rows
        counting sample_weight (rows,) times (in the formula above for scikit-learn, "rows" is then
        the sum of the weights).

        Raises ValueError for negative penalties and weights, NaN, infinity and shapes that do not
        fit.
        """
        l1, l2, tol = self._check_settings()
        max_sweeps = check_count(self.max_sweeps, "max_sweeps")
        matrix, target, weights, one_dimension = regression_data(X, y, sample_weight)
        problems = [_Problem(matrix, y_k, bool(self.fit_intercept), weights) for y_k in target.T]
        results = [problem.minimize(l1, l2, tol, max_sweeps) for problem in problems]
        _warn_unless_converged(results, max_sweeps)
        pairs = list(zip(problems, results, strict=True))
        self.n_sweeps_ = max(result.sweeps for result in results)
        self.dual_gap_ = max(problem.dual_gap(result.coef, l1, l2) for problem, result in pairs)
        coef = np.column_stack([result.coef for result in results])
        intercept = np.array([problem.intercept(result.coef) for problem, result in pairs])
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
    sample_weight: ArrayLike | None = None,
) -> tuple[Matrix, Matrix, Matrix]:
    """Lasso (elastic net for l2 > 0) for many l1, from the largest on, each begun at the last.

    Returns (l1s, coefs, intercepts) of the shapes (k,), (n_in, k) and (k,), in falling order of l1.
    Left out, `l1s` are n_l1s numbers in equal ratios from the smallest l1 for which all
    coefficients are zero, max_j |x_j^T y|, down to `ratio` times it: 1e-3, or 1e-2 where X has more
    columns than rows, for which smaller l1 take long. y and sample_weight have the shape (rows,).
    Raises ValueError as ElasticNet.fit does.
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
        if not 0 < check_number(ratio, "ratio") < 1:
            raise ValueError(f"ratio must lie between 0 and 1, not {ratio!r}")
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
    """One output: X and y less their means, rows times the roots of their weights, and the products
    x_i^T x_j of the columns i in use.
    """

    def __init__(
        self, X: Matrix, y: Matrix, fit_intercept: bool, weights: Weights | None = None
    ) -> None:
        n_in, Y = X.shape[1], y[:, np.newaxis]
        self._given = X, Y, fit_intercept, weights
        Xc, self.x_mean = centred(X, weights, fit_intercept)
        Yc, y_mean = centred(Y, weights, fit_intercept)
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
        # x_i^T x_j for the i in use and all j, with room for more; gram: for the j in use
        if n_in <= min(_FEW, len(X)):
            self.used = np.arange(n_in)
            self._space = self.products = self.gram = gram(self.columns.T)
        else:
            self.used = np.empty(0, dtype=np.intp)
            self._space, self.gram = np.empty((_AT_ONCE, n_in)), np.empty((0, 0))
            self.products = self._space[:0]

    def intercept(self, coef: Matrix) -> float:
        """The best intercept for these coefficients."""
        return float(self.y_mean - self.x_mean @ coef)

    def minimize(self, l1: float, l2: float, tol: float, max_sweeps: int) -> _Result:
        """`solve`; where that does not converge, along a path: with fewer rows than features, a
        small l1 takes in so many at first that they depend on each other, and jumps are not
        possible. From above the features in use stay few.
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
        """Minimise over the features in use; take in those that violate their condition; repeat.
        Without l1 that is ridge regression, and of minimum norm without l2.
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
        """Cost less the value of a dual: an upper bound of the distance from the minimum, the least
        of those that there are.

        At s r, the residual scaled to be feasible, where the l2 term counts as rows sqrt(l2) I
        below X, 0 below y: of no use for l1 = 0, where s is 0 but at the minimum itself. For l2 > 0
        at r, which is feasible as it stands where the penalty's conjugate is that of both terms.
        For l1 = l2 = 0 at what r has at right angles to the columns of X.
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
    """Minimise 1/2 w^T G w - c^T w + l1 |w|_1 in w, in place, until every condition holds within
    allowed; in the lasso G = X^T X + l2 I and c = X^T y of the features in use.
    """

    def __init__(self, G: Matrix, c: Matrix, l1: float, w: Matrix, allowed: Matrix) -> None:
        self.G, self.c, self.l1, self.w, self.allowed = G, c, l1, w, allowed
        self.converged = False

    def run(self, max_sweeps: int) -> int:
        """Sweep and jump until the conditions hold; returns the number of sweeps."""
        # A jump takes as long as a number of sweeps that grows with the features; of few features
        # sweeps take less than a line of Python.
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
        """Go to the exact minimum for the present signs; a coefficient that would change its sign
        on the way becomes zero, and the minimum is sought anew without it. Each leg lowers the
        cost.
        """
        while True:
            used = np.flatnonzero(self.w)
            signs = np.sign(self.w[used])
            exact = self.c[used] - self.l1 * signs
            if not cholesky_solve(-self.G[np.ix_(used, used)], exact):
                return  # dependent columns are left to the sweeps
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
            ):  # columns that all but depend on each other
                self.w[:] = before
                return
            if not crossing.any():
                return

    def _cost(self) -> float:
        w = self.w
        return float((self.G @ w / 2 - self.c) @ w + self.l1 * np.sum(np.abs(w)))

    def _rounding(self) -> float:
        return _EPS * len(self.w) * float(np.abs(self.c) @ np.abs(self.w))
