"""Logistic and softmax regression with l1: exact zeros among the coefficients.

This is Newton's method with the exact penalty (Lee, Sun, Saunders 2014; Friedman, Hastie,
Tibshirani 2010, section 3, with all classes at once). Every step minimizes a quadratic model of the
cost plus l1 |w|_1, over the features in use, by the coordinate descent of `lasso.py`.
"""

import numpy as np
from numpy.typing import NDArray

from ..ground.arrays import Matrix
from ..ground.lapack import interruptible
from .lasso import CoordinateDescent
from .softmax_cost import MAX_HALVINGS, SoftmaxCost, warn_of_steps

_EPS = float(np.finfo(np.float64).eps)
_NEAR = 0.9  # share of l1; a feature with a larger slope is in use
_AT_ONCE = 3000  # coefficients in one quadratic model, whose matrix is 72 MB
_SWEEPS = 10_000  # at most, for one quadratic model


def minimize_sparse(cost: SoftmaxCost, l1: float, tol: float, max_steps: int) -> tuple[Matrix, int]:
    """Return phi, whose coefficients are phi / scale, and the number of steps.

    It ends when no logit changes by more than tol. B must be the identity or (0, 1)^T, so that each
    column of phi belongs to one class.
    """
    first = int(cost.fit_intercept)
    scale = cost.scale[first:, np.newaxis]

    def whole(phi: Matrix, value: float) -> float:
        return value + l1 * float(np.sum(np.abs(phi[first:] / scale)))

    phi = cost.zero
    state = cost.at(phi)
    for step in range(1, max_steps + 1):
        slope, w = state.gradient[first:] * scale, phi[first:] / scale
        off = np.abs(np.where(w != 0, slope + l1 * np.sign(w), slope)) - l1 * (w == 0)
        counts = ((w != 0) | (np.abs(slope) > _NEAR * l1)).any(axis=1)
        used = np.flatnonzero(counts)
        most = max(1, _AT_ONCE // w.shape[1])
        is_part = len(used) > most
        if is_part:  # take the features that are farthest from their condition
            used = np.sort(used[np.argsort(-off[used].max(axis=1))[:most]])
        change = np.zeros_like(phi)
        _step_of(cost, state.P, state.gradient, phi, used, l1, change)
        before = whole(phi, state.value)
        noise = _EPS * len(state.P) * abs(before)  # a rise that may be rounding
        for _ in range(MAX_HALVINGS):
            new = cost.at(phi + change)
            if whole(phi + change, new.value) <= before + noise:
                break
            change = change / 2
        phi, state = phi + change, new
        if np.max(np.abs(cost.logits(change))) <= tol and not (is_part and off.max() > tol * l1):
            return _shifted(phi, cost, first), step
    warn_of_steps(max_steps)
    return _shifted(phi, cost, first), max_steps


def _step_of(
    cost: SoftmaxCost,
    P: Matrix,
    gradient: Matrix,
    phi: Matrix,
    used: NDArray[np.intp],
    l1: float,
    change: Matrix,
) -> None:
    """Write the step to the minimum of the quadratic model into `change`.

    The model is over the features in use and the intercept. The intercept has no penalty, so it is
    eliminated first.
    """
    first, q = int(cost.fit_intercept), phi.shape[1]
    columns = np.concatenate([np.arange(first), used + first])
    unit = np.repeat(cost.scale[columns], q)
    H = cost.hessian(P, columns) * np.multiply.outer(unit, unit)
    g = gradient[columns].ravel() * unit
    k = first * q
    w = phi[used + first].ravel() / unit[k:]
    G, c, back = H[k:, k:], g[k:], np.zeros((k, len(w)))
    if first:
        inverse = interruptible(np.linalg.pinv, H[:k, :k], rcond=1e-12, hermitian=True)
        back = inverse @ H[:k, k:]
        G, c = G - H[k:, :k] @ back, c - back.T @ g[:k]
    G = np.ascontiguousarray((G + G.T) / 2)
    new = w.copy()
    if len(w):
        moment = G @ w - c
        rounding = 16 * _EPS * (np.abs(moment) + l1 + np.abs(G) @ np.abs(w))
        CoordinateDescent(G, moment, l1, new, rounding).run(_SWEEPS)
    step = new - w
    if first:
        intercept = -(inverse @ g[:k]) - back @ step
        step = np.concatenate([intercept, step])
    change[columns] = (step * unit).reshape(-1, q)


def _shifted(phi: Matrix, cost: SoftmaxCost, first: int) -> Matrix:
    """Shift the coefficients of each feature to the smallest squares, intercepts to the sum zero.

    The shift changes neither the probabilities nor the l1 penalty.
    """
    if phi.shape[1] == 1:
        return phi
    middle = np.sort(phi, axis=1)
    low, high = middle[:, (phi.shape[1] - 1) // 2], middle[:, phi.shape[1] // 2]
    shift = np.clip(phi.mean(axis=1), low, high)
    if cost.penalized:
        shift[first:] = 0  # l2 has already chosen among them
    if first:
        shift[0] = 0
    shifted = np.asarray(phi - shift[:, np.newaxis])
    if first:  # the intercepts of [1, X], not those of the centered columns, sum to zero
        shifted[0] -= cost.scale[0] * cost.theta(shifted)[0].mean()
    return shifted
