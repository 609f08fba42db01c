"""The cost of logistic and softmax regression, its gradient and Hessian, and two of its solvers.

With A = [1, X - mean] / scale (rows, p), B (n_classes, q) and phi (p, q), the logits are
Z = A phi B^T. Without an intercept A = X / scale. X is centered because columns far from zero would
be nearly parallel to the column of ones, and the cost nearly flat along a valley.

B = (0, 1)^T makes this logistic regression. If the columns of B are orthonormal and sum to zero,
it is softmax regression without the shift of all logits, which changes nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._core import cholesky_solve
from ..ground.arrays import Matrix, Vector
from ..ground.conversion import Weights
from ..ground.errors import ConvergenceWarning, warn
from ..losses.base import softmax_parts
from ..second_order.methods import Memory, QuasiNewton
from ..second_order.objective import Point
from .estimator import with_ones
from .least_squares import power_of_two_norms, rank_of
from .products import by_rows, column_sums, gram, rows_times, transposed_times

_EPS = float(np.finfo(np.float64).eps)
MAX_HALVINGS = 40
_CG_STEPS = 30
_MEMORY = 20  # steps that L-BFGS keeps
_FLAT = 10 * _EPS**0.5  # gradient too small for a line search: it changes the cost by its rounding


@dataclass(frozen=True, eq=False)
class State:
    """The cost at one phi, its gradient (p, q), and the probabilities P (rows, n_classes)."""

    value: float
    gradient: Matrix
    P: Matrix


class SoftmaxCost:
    """The cost as a function of phi; every weight_i is 1 without weights.

    sum_i weight_i (log sum_c exp z_ic - z_i,label) + l2 / 2 |coefficients|^2
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
        """Return the parameters (p, n_classes) for [1, X] or X: the logits are [1, X] theta."""
        theta = phi / self.scale[:, np.newaxis] @ self.B.T
        if self.fit_intercept:
            theta[0] -= self.mean @ theta[1:]
        return np.asarray(theta)

    def phi(self, theta: Matrix) -> Matrix:
        """Return phi of theta (p, n_classes), up to shifts that change no probability."""
        centered = theta.copy()
        if self.fit_intercept:
            centered[0] += self.mean @ theta[1:]
        return np.asarray(self.scale[:, np.newaxis] * centered @ self.B)

    def logits(self, phi: Matrix) -> Matrix:
        """Z (rows, n_classes)."""
        return np.asarray(rows_times(self.A, phi) @ self.B.T)

    def value(self, phi: Matrix) -> float:
        """Return the cost at phi."""
        return self._value(phi, self._rows(phi)[0])

    def probabilities(self, phi: Matrix) -> Matrix:
        """Return softmax(Z), (rows, n_classes)."""
        return self._rows(phi)[1]

    def at(self, phi: Matrix) -> State:
        """Return cost, gradient and probabilities; the logits are computed once for all three."""
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
        own = np.take_along_axis(Z, self.labels[:, np.newaxis], axis=1)[:, 0]
        P, top, total = softmax_parts(Z)
        return np.log(total) - (own - top), P

    def gradient(self, phi: Matrix, P: Matrix) -> Matrix:
        """Return A^T (P - onehot(labels)) B + penalty phi (p, q), the lecture's X^T (y_hat - y)."""
        if self.is_binary:
            off = self.weights * np.where(self.labels, -P[:, 0], P[:, 1])
            return np.asarray(transposed_times(self.A, off)[:, np.newaxis] + self.penalty * phi)
        off = P.copy()
        off[np.arange(len(P)), self.labels] -= 1
        off *= self.weights[:, np.newaxis]
        return np.asarray(transposed_times(self.A, off @ self.B) + self.penalty * phi)

    def hessian(self, P: Matrix, columns: NDArray[np.intp] | None = None) -> Matrix:
        """Return the Hessian (p q, p q), for q = 1 the lecture's X^T S X.

        Its blocks are A^T S_jk A with S_jk = diag(sum_c B_cj P_c B_ck - (P B)_j (P B)_k). If
        `columns` is given, A has only these columns.
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
        """Estimate the cost minus its minimum as g^T H^-1 g / 2, the promise of a Newton step.

        Conjugate gradients approach this value from below and need no Hessian (Nocedal, Wright
        2006, algorithm 5.2). It is infinite if the cost falls along a straight line, because every
        row is then certain of a class.
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
        """Return the Hessian for phi, and the matrix that maps phi to the parameters of [1, X].

        Both together give the covariance.
        """
        back = np.diag(1 / self.scale)
        if self.fit_intercept:
            back[0, 1:] = -self.mean / self.scale[1:]
        return self.hessian(self.probabilities(phi)), back

    def check_overlap(self, phi: Matrix) -> None:
        """Raise ValueError if phi puts every row into its own class.

        Without a penalty, a larger multiple of phi then has a still lower cost.
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
        """Return the error that says why the Hessian is singular."""
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
    """Return phi and the number of Newton steps phi -= H^-1 g.

    The lecture, "Iteratively Reweighted Least Square". Each step is halved while the cost rises. It
    ends when no logit changes by more than tol. Without a penalty, raises ValueError if there is
    no minimum.
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
        """Return value and gradient of the mean cost; params is phi as a vector."""
        with np.errstate(all="ignore"):  # the line search refuses a trial that overflows
            state = self._cost.at(params.reshape(self._cost.zero.shape))
        value = state.value / self._total
        return Point(params, value, value, state.gradient.ravel() / self._total)


def minimize_lbfgs(cost: SoftmaxCost, tol: float, max_steps: int) -> tuple[Matrix, int]:
    """Return phi and the number of steps of L-BFGS (`second_order/methods.py`) on the mean cost.

    It ends when no element of the gradient exceeds tol and no step promises to lower the mean cost
    by more than tol^2. The promise matters along flat directions: there the gradient is small far
    from the minimum.
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
    """Return H^-1 g, or None if H, with its diagonal scaled to 1, is not positive definite."""
    diagonal = H.diagonal()
    if not np.all(diagonal > 0):
        return None
    d = np.sqrt(diagonal)
    factor, x = H / -np.multiply.outer(d, d), g / d
    if not cholesky_solve(factor, x):  # overwrites `factor` with R, where H = R^T R
        return None
    if np.min(factor.diagonal()) ** 2 <= _EPS * len(H):
        return None
    return np.asarray(x / d)


def warn_of_steps(max_steps: int) -> None:
    """Warn with ConvergenceWarning that `max_steps` were not enough."""
    warn(
        f"no convergence in max_steps={max_steps}; scale the columns of X, use l2 > 0, or allow "
        "more",
        ConvergenceWarning,
    )
