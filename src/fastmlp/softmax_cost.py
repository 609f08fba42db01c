"""The cost of logistic and softmax regression with its gradient and Hessian, and what minimises it.

With A = [1, X - mean] / scale (rows, p), B (n_classes, q) and phi (p, q) the logits are
Z = A phi B^T; without an intercept A = X / scale. Columns far from zero would be all but parallel
to the ones, and costs all but equal along the valley. B = (0, 1)^T makes it logistic regression;
orthonormal columns that sum to zero make it softmax regression without the direction that changes
nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._core import cholesky_solve
from .errors import ConvergenceWarning, warn
from .estimators import Matrix, with_ones
from .least_squares import power_of_two_norms, rank_of
from .objective import Point, Vector
from .products import by_rows, column_sums, gram, rows_times, transposed_times
from .second_order import Memory, QuasiNewton
from .weights import Weights

_EPS = float(np.finfo(np.float64).eps)
MAX_HALVINGS = 40
_CG_STEPS = 30
_MEMORY = 20  # steps of L-BFGS that are kept
_FLAT = 10 * _EPS**0.5  # gradients that change a cost by its rounding: no line search sees them


@dataclass(frozen=True, eq=False)
class State:
    """The cost at some phi, its gradient (p, q), and the probabilities P (rows, n_classes)."""

    value: float
    gradient: Matrix
    P: Matrix


class SoftmaxCost:
    """sum_i weight_i (log sum_c exp z_ic - z_i,label) + l2 / 2 |coefficients|^2, as a function of
    phi; without weights they are 1.
    """

    def __init__(
        self,
        X: Matrix,
        labels: NDArray[np.int64],
        B: Matrix,
        l2: float,
        fit_intercept: bool,
        weights: Weights | None = None,
    ) -> None:
        p, n = X.shape[1] + int(fit_intercept), len(X)
        mean = column_sums(lambda x: x, X) / n if fit_intercept else np.zeros(X.shape[1])
        A = by_rows(lambda x: with_ones(x - mean, fit_intercept), p, X)
        self.mean, self.fit_intercept = mean, fit_intercept
        self.scale = power_of_two_norms(A) / 2.0 ** round(np.log2(n) / 2)
        self.A, self.B, self.labels = by_rows(lambda a: a / self.scale, p, A), B, labels
        penalty = l2 / self.scale**2
        if fit_intercept:
            penalty[0] = 0
        self.weights = np.ones(len(A)) if weights is None else weights
        self.penalty: Matrix = penalty[:, np.newaxis]
        self.penalized = l2 > 0
        self.is_binary = np.array_equal(B, [[0.0], [1.0]])
        self.zero = np.zeros((A.shape[1], B.shape[1]))

    def theta(self, phi: Matrix) -> Matrix:
        """The parameters (p, n_classes) of [1, X] or X: logits are [1, X] theta."""
        theta = phi / self.scale[:, np.newaxis] @ self.B.T
        if self.fit_intercept:
            theta[0] -= self.mean @ theta[1:]
        return np.asarray(theta)

    def phi(self, theta: Matrix) -> Matrix:
        """The inverse of `theta`, for (p, n_classes) up to what changes no probability."""
        centred = theta.copy()
        if self.fit_intercept:
            centred[0] += self.mean @ theta[1:]
        return np.asarray(self.scale[:, np.newaxis] * centred @ self.B)

    def logits(self, phi: Matrix) -> Matrix:
        """Z (rows, n_classes)."""
        return np.asarray(rows_times(self.A, phi) @ self.B.T)

    def value(self, phi: Matrix) -> float:
        """The cost."""
        return self._value(phi, self._rows(phi)[0])

    def probabilities(self, phi: Matrix) -> Matrix:
        """softmax(Z), (rows, n_classes)."""
        return self._rows(phi)[1]

    def at(self, phi: Matrix) -> State:
        """All of it, from the logits made once."""
        nll, P = self._rows(phi)
        return State(self._value(phi, nll), self.gradient(phi, P), P)

    def _value(self, phi: Matrix, nll: Matrix) -> float:
        return float(self.weights @ nll + np.sum(self.penalty * phi**2) / 2)

    def _rows(self, phi: Matrix) -> tuple[Matrix, Matrix]:
        """-log p of each row's own class, and P."""
        if self.is_binary:  # one logit a row
            z = rows_times(self.A, phi)[:, 0]
            small = np.exp(-np.abs(z))
            nll = np.log1p(small) + np.maximum(np.where(self.labels, -z, z), 0)
            large = 1 / (1 + small)
            small *= large
            return nll, np.stack([np.where(z > 0, small, large), np.where(z > 0, large, small)], 1)
        Z = self.logits(phi)
        Z -= Z.max(axis=1, keepdims=True)
        own = np.take_along_axis(Z, self.labels[:, np.newaxis], axis=1)[:, 0]
        P = np.exp(Z, out=Z)
        total = P.sum(axis=1)
        nll = np.log(total) - own
        P /= total[:, np.newaxis]
        return nll, P

    def gradient(self, phi: Matrix, P: Matrix) -> Matrix:
        """A^T (P - onehot(labels)) B + penalty phi: the lecture's X^T (y_hat - y), (p, q)."""
        if self.is_binary:
            off = self.weights * np.where(self.labels, -P[:, 0], P[:, 1])
            return np.asarray(transposed_times(self.A, off)[:, np.newaxis] + self.penalty * phi)
        off = P.copy()
        off[np.arange(len(P)), self.labels] -= 1
        off *= self.weights[:, np.newaxis]
        return np.asarray(transposed_times(self.A, off @ self.B) + self.penalty * phi)

    def hessian(self, P: Matrix, columns: NDArray[np.intp] | None = None) -> Matrix:
        """Blocks A^T S_jk A, S_jk = diag(sum_c B_cj P_c B_ck - (P B)_j (P B)_k), as (p q, p q): the
        lecture's X^T S X for q = 1. Of some columns of A alone where they are named.
        """
        A = self.A if columns is None else self.A[:, columns]
        penalty = self.penalty[:, 0] if columns is None else self.penalty[columns, 0]
        p, q = A.shape[1], self.B.shape[1]
        PB = P @ self.B
        H = np.empty((p, q, p, q))
        for j in range(q):
            for k in range(j + 1):
                if self.is_binary:
                    S = self.weights * P[:, 0] * P[:, 1]
                else:
                    S = self.weights * (P @ (self.B[:, j] * self.B[:, k]) - PB[:, j] * PB[:, k])
                H[:, j, :, k] = gram(A, S)
                H[:, k, :, j] = H[:, j, :, k]
        flat = H.reshape(p * q, p * q)
        flat[np.diag_indices(p * q)] += np.repeat(penalty, q)
        return flat

    def distance(self, phi: Matrix) -> float:
        """g^T H^-1 g / 2, how far the cost is above its minimum by a step of Newton's: from below,
        by conjugate gradients, which need no Hessian (Nocedal, Wright 2006, algorithm 5.2).
        Infinite where the cost falls along a straight line, all rows being certain of a class.
        """
        P = self.probabilities(phi)
        rest = self.gradient(phi, P)
        direction, square, found = rest.copy(), float(np.sum(rest**2)), 0.0
        for _ in range(_CG_STEPS):
            Z = self.logits(direction)
            curved = self.weights[:, np.newaxis] * P * (Z - np.sum(P * Z, axis=1, keepdims=True))
            product = transposed_times(self.A, curved @ self.B) + self.penalty * direction
            bend = float(np.sum(direction * product))
            if not bend > 0:
                return found if found > 0 or square == 0 else math.inf
            found += square * (square / bend) / 2
            rest = rest - square / bend * product
            before, square = square, float(np.sum(rest**2))
            direction = rest + square / before * direction
        return found

    def spread(self, phi: Matrix) -> tuple[Matrix, Matrix]:
        """The Hessian, and what phi is for [1, X] as a matrix: all that `covariance` needs."""
        back = np.diag(1 / self.scale)
        if self.fit_intercept:
            back[0, 1:] = -self.mean / self.scale[1:]
        return self.hessian(self.probabilities(phi)), back

    def check_overlap(self, phi: Matrix) -> None:
        """ValueError where these weights put every row into its own class: without a penalty,
        larger weights of that direction are better still.
        """
        if self.is_binary:
            z = rows_times(self.A, phi)[:, 0]
            if np.min(np.where(self.labels, z, -z)) > np.sqrt(_EPS) * np.max(np.abs(z)):
                raise ValueError(_SEPARABLE)
            return
        Z = self.logits(phi)
        own = np.take_along_axis(Z, self.labels[:, np.newaxis], axis=1)
        np.put_along_axis(Z, self.labels[:, np.newaxis], -np.inf, axis=1)
        largest = float(np.max(np.abs(own)))
        if np.min(own[:, 0] - Z.max(axis=1)) > np.sqrt(_EPS) * largest:
            raise ValueError(_SEPARABLE)

    def no_minimum(self) -> ValueError:
        """Why the Hessian is singular."""
        if self.penalized:
            return ValueError(
                "the Hessian is singular in float64; raise l2, or scale the columns of X alike"
            )
        p = self.A.shape[1]
        rank = rank_of(self.A)
        if rank < p:
            return ValueError(
                f"the {p} columns of X (intercept included) have the rank {rank}, so the "
                "coefficients are not determined; drop columns or use l2 > 0, 1e-3 for instance"
            )
        return ValueError(_SEPARABLE)


_SEPARABLE = (
    "the classes can be separated, at least some of the rows from all others, so the likelihood "
    "grows as the weights go to infinity; use l2 > 0, 1e-3 for instance"
)


def minimize_newton(cost: SoftmaxCost, tol: float, max_steps: int) -> tuple[Matrix, int]:
    """phi and the number of steps phi -= H^-1 g (the lecture, "Iteratively Reweighted Least
    Square"), each halved while the cost rises; ends when no logit changes by more than tol.

    Without a penalty, raises ValueError where there is no minimum.
    """
    phi, state = cost.zero, cost.at(cost.zero)
    for step in range(1, max_steps + 1):
        direction = _solve_positive(cost.hessian(state.P), state.gradient.ravel())
        if direction is None:
            raise cost.no_minimum()
        change = direction.reshape(phi.shape)
        noise = _EPS * len(state.P) * abs(state.value)  # a rise that may be rounding
        for _ in range(MAX_HALVINGS):
            new = cost.at(phi - change)
            if new.value <= state.value + noise:
                break
            change = change / 2
        phi, state = phi - change, new
        if not cost.penalized:
            cost.check_overlap(phi)
        if np.max(np.abs(cost.logits(change))) <= tol:
            return phi, step
    warn_of_steps(max_steps)
    return phi, max_steps


class _MeanCost:
    """The mean cost as an objective of `QuasiNewton`."""

    eps = _EPS

    def __init__(self, cost: SoftmaxCost) -> None:
        self._cost, self._total = cost, float(cost.weights.sum())

    def at(self, params: Vector) -> Point:
        """Value and gradient; params: phi as a vector."""
        with np.errstate(all="ignore"):  # a trial too far is refused
            state = self._cost.at(params.reshape(self._cost.zero.shape))
        value = state.value / self._total
        return Point(params, value, value, state.gradient.ravel() / self._total)


def minimize_lbfgs(cost: SoftmaxCost, tol: float, max_steps: int) -> tuple[Matrix, int]:
    """phi and the number of steps of L-BFGS (`second_order.py`) on the mean cost; ends when no
    element of its gradient exceeds tol and no step promises to lower it by more than tol^2: along
    flat directions the gradient is small far from the minimum.
    """

    def is_over(point: Point) -> bool:
        return bool(np.max(np.abs(point.grad)) <= tol and stepper.promise(point) <= tol**2)

    objective = _MeanCost(cost)
    stepper = QuasiNewton(objective, Memory(_MEMORY))
    point, steps = objective.at(cost.zero.ravel()), 0
    while steps < max_steps and not is_over(point):
        found = stepper.step(point)
        if found is None:
            break
        point, steps = found, steps + 1
    phi = point.params.reshape(cost.zero.shape)
    if not cost.penalized:
        cost.check_overlap(phi)
    if np.max(np.abs(point.grad)) > max(tol, _FLAT):
        warn_of_steps(max_steps)
    return phi, steps


def _solve_positive(H: Matrix, g: Matrix) -> Matrix | None:
    """H^-1 g; None where H, its columns scaled alike, is not positive definite in float64."""
    diagonal = H.diagonal()
    if not np.all(diagonal > 0):
        return None
    d = np.sqrt(diagonal)
    factor, x = H / -np.multiply.outer(d, d), g / d
    if not cholesky_solve(factor, x):  # and R, H = R^T R, is what `factor` holds after it
        return None
    if np.min(factor.diagonal()) ** 2 <= _EPS * len(H):
        return None
    return np.asarray(x / d)


def warn_of_steps(max_steps: int) -> None:
    """ConvergenceWarning: they were not enough."""
    warn(
        f"no convergence in max_steps={max_steps}; scale the columns of X, use l2 > 0, or allow "
        "more",
        ConvergenceWarning,
    )
