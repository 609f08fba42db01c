"""Linear least squares in float64: QR with refinement, minimum norm by SVD, the normal equations.

Columns are divided by powers of two first, which rounds nothing. The condition number kappa is then
within a factor sqrt(p) of that of the best column scaling (van der Sluis 1969). QR alone has an
error of about eps (kappa + kappa^2 |r| / |y|). If that costs digits, the solution and the residual
are refined together, with residuals in twice the precision (Bjorck 1967). The error is then about
eps.
"""

from dataclasses import dataclass

import numpy as np

from ..ground.arrays import Matrix
from ..ground.conversion import Weights
from ..ground.lapack import interruptible
from .estimator import weighted
from .products import blocks, by_rows, column_sums, gram, rows_times, transposed_times

_EPS = float(np.finfo(np.float64).eps)
_GOOD_ENOUGH = 100 * _EPS  # estimated errors up to this one need no refinement
_NOISE = 4  # rounded sums of two columns are off by at most this many units of rounding
_MAX_REFINEMENTS = 10
_SPLITTER = 2.0**27 + 1
_BLOCK = 1024  # so many rows of a tall matrix are factored in the cache


@dataclass(frozen=True)
class Solution:
    """A theta that minimizes |Y - A theta|.

    theta: (p, n_out).
    residual: (rows, n_out).
    rank: the rank of A.
    factor: F with F F^T = (A^T A)^-1, or the pseudo-inverse if A does not have full rank.
    """

    theta: Matrix
    residual: Matrix
    rank: int
    factor: Matrix


def solve_qr(A: Matrix, Y: Matrix) -> Solution | None:
    """Solve by QR with refinement; None if A (rows, p) lacks full column rank in float64."""
    rows, p = A.shape
    if rows < p:
        return None
    scale = power_of_two_norms(A)
    y_scale = power_of_two_norms(Y)
    A, Y = _scaled(A, scale), _scaled(Y, y_scale)
    Q, R = _qr(A)
    s = interruptible(np.linalg.svd, R, compute_uv=False)
    if s[-1] <= _EPS * max(rows, p) * s[0]:
        return None
    inverse = np.asarray(interruptible(np.linalg.inv, R), np.float64)
    theta = inverse @ transposed_times(Q, Y)
    residual = Y - rows_times(A, theta)
    kappa = s[0] / s[-1]
    spread = np.max(np.linalg.norm(residual, axis=0))  # |Y| is about 1
    if _EPS * (kappa + kappa**2 * spread) > _GOOD_ENOUGH:
        theta, residual = _refine(A, Y, Q, inverse, theta, residual)
    theta = theta * y_scale / scale[:, np.newaxis]
    return Solution(theta, residual * y_scale, p, inverse / scale[:, np.newaxis])


def _qr(A: Matrix) -> tuple[Matrix, Matrix]:
    """Return Q and R.

    A tall A is factored by blocks of rows, and their R are then factored again. This reads memory
    once instead of once per column and is as accurate (Demmel, Grigori, Hoemmen, Langou 2012).
    """
    if not _is_tall(A):
        return tuple(interruptible(np.linalg.qr, A))
    rows, p = A.shape
    n = rows // _BLOCK
    whole = n * _BLOCK
    Q, upper = np.empty((rows, p)), np.empty((n, p, p))
    inner, given = Q[:whole].reshape(n, _BLOCK, p), A[:whole].reshape(n, _BLOCK, p)
    for part in blocks(n, _BLOCK * p * p):  # Ctrl-C comes between
        inner[part], upper[part] = interruptible(np.linalg.qr, given[part])
    outer, R = _qr(np.vstack([upper.reshape(n * p, p), A[whole:]]))
    turned = outer[: n * p].reshape(n, p, p)
    for part in blocks(n, _BLOCK * p * p):
        inner[part] = inner[part] @ turned[part]
    Q[whole:] = outer[n * p :]
    return Q, R


def _is_tall(A: Matrix) -> bool:
    """Whether QR by blocks of rows is faster than QR of the whole."""
    rows, p = A.shape
    return bool(rows >= 4 * _BLOCK and p <= _BLOCK // 8)


def _svd(A: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return U, s and V^T; those of a tall A come from its factor R, with the same s."""
    if not _is_tall(A):
        return tuple(interruptible(np.linalg.svd, A, full_matrices=False))
    Q, R = _qr(A)
    inner, s, Vt = interruptible(np.linalg.svd, R)
    return rows_times(Q, np.asarray(inner)), s, Vt


def rank_of(A: Matrix) -> int:
    """Return NumPy's matrix_rank, computed from the factor R."""
    s = interruptible(np.linalg.svd, _qr(A)[1], compute_uv=False)
    return int(np.sum(s > _EPS * max(A.shape) * s[0]))


def solve_normal(A: Matrix, Y: Matrix) -> Solution:
    """Solve theta = (A^T A)^-1 A^T Y, as the lecture writes it.

    The error grows with the square of the condition number. Raises ValueError if A^T A is not
    positive definite in float64.
    """
    # Squares of unscaled columns may overflow.
    scale, y_scale = power_of_two_norms(A), power_of_two_norms(Y)
    scaled = _scaled(A, scale)
    try:
        lower = interruptible(np.linalg.cholesky, gram(scaled))
    except np.linalg.LinAlgError:
        raise ValueError(
            'X^T X is singular in float64; use solver="qr" or "svd", or use Ridge'
        ) from None
    factor = interruptible(np.linalg.inv, lower).T
    theta = (
        factor @ (factor.T @ transposed_times(scaled, Y / y_scale)) * y_scale / scale[:, np.newaxis]
    )
    return Solution(theta, Y - rows_times(A, theta), A.shape[1], factor / scale[:, np.newaxis])


def solve_minimum_norm(
    X: Matrix,
    Y: Matrix,
    fit_intercept: bool,
    weights: Weights | None = None,
    l2: float = 0.0,
) -> Solution:
    """Return the theta of minimum norm among those that minimize |Y - A theta|.

    The norm is that of the coefficients without the intercept. So theta is the limit of ridge
    regression for l2 -> 0.

    X: (rows, n_in). A is [1, X] with an intercept, otherwise X.
    Y: (rows, n_out).
    fit_intercept: whether there is an intercept.
    weights: (rows,); rows of A, Y and the residual are multiplied by their roots.
    l2: above 0 it is the penalty of ridge regression, on the directions of X that are not mere
        rounding. `factor` is still that without the penalty.
    """
    rows, n_in = X.shape
    Xc, x_mean = centered(X, weights, fit_intercept)
    Yc, y_mean = centered(Y, weights, fit_intercept)
    Xc, Yc = weighted(Xc, weights), weighted(Yc, weights)
    noise = _NOISE * _EPS * _norms(weighted(X, weights))
    constant = _norms(Xc) <= noise  # apart from rounding
    Xc = by_rows(lambda x: np.where(constant, 0, x), n_in, Xc) if constant.any() else Xc
    scale = power_of_two_norms(Xc)
    U, s, Vt = _svd(_scaled(Xc, scale))
    # Directions below `least` may come from the rounding of X. Rows minus their mean sum to 0.
    least = max(_EPS * max(rows, n_in) * s[0], float(np.linalg.norm(noise / scale)))
    rank = min(int(np.sum(s > least)), rows - int(fit_intercept))
    back = Vt.T / scale[:, np.newaxis]
    if rank < n_in or l2 > 0:
        # Xc = (U S)(V^T D) has full rank on either side, so Xc^+ = (V^T D)^+ (U S)^+.
        Q, R = interruptible(np.linalg.qr, (Vt[:rank] * scale).T)
        back = Q @ interruptible(np.linalg.inv, R).T
    target = transposed_times(U[:, :rank], Yc)
    factor = back / s[:rank]
    coef = factor @ target
    if l2 > 0 and rank > 0:
        penalized = np.vstack([(R * s[:rank]).T, np.sqrt(l2) * np.eye(rank)])
        shrunk = solve_qr(penalized, np.vstack([target, np.zeros_like(target)]))
        coef = coef if shrunk is None else Q @ shrunk.theta
    residual = Yc - rows_times(Xc, coef)
    if not fit_intercept:
        return Solution(coef, residual, rank, factor)
    theta = np.vstack([y_mean - x_mean @ coef, coef])
    total = rows if weights is None else weights.sum()
    top = np.concatenate([[total**-0.5], -x_mean @ factor])
    whole = np.vstack([top, np.column_stack([np.zeros(n_in), factor])])
    return Solution(theta, residual, rank + 1, whole)


def centered(
    A: Matrix, weights: Weights | None = None, fit_intercept: bool = True
) -> tuple[Matrix, Matrix]:
    """Return A (rows, n) minus the means of its columns, and these means (n,).

    The means are subtracted twice. If numbers are far from zero, rounding of their mean is as large
    as their own, and the same in all rows. The second time removes it. Without an intercept A is
    returned as it is, with zeros.
    """
    if not fit_intercept:
        return A, np.zeros(A.shape[1])
    mean = _means(A, weights)
    rest = by_rows(lambda a: a - mean, A.shape[1], A)
    more = _means(rest, weights)
    return by_rows(lambda a: a - more, A.shape[1], rest), mean + more


def _means(A: Matrix, weights: Weights | None) -> Matrix:
    """Return the mean of each column."""
    if weights is None:
        return column_sums(lambda a: a, A) / len(A)
    return column_sums(lambda a, w: a * w[:, np.newaxis], A, weights) / float(weights.sum())


def _scaled(A: Matrix, scale: Matrix) -> Matrix:
    """Return A / scale."""
    return by_rows(lambda a: a / scale, A.shape[1], A)


def power_of_two_norms(A: Matrix) -> Matrix:
    """Return the power of two next to the norm of each column; 1 for a column of zeros.

    Dividing by it rounds nothing.
    """
    near = _near(A)
    _, more = np.frexp(np.sqrt(column_sums(lambda a: np.square(a / near), A)))
    return np.asarray(np.ldexp(near, more))


def _norms(A: Matrix) -> Matrix:
    """Return the norm of each column."""
    near = _near(A)
    return np.asarray(near * np.sqrt(column_sums(lambda a: np.square(a / near), A)))


def _near(A: Matrix) -> Matrix:
    """Return a power of two for each column; squares of the column divided by it stay finite."""
    _, exponent = np.frexp(np.maximum(A.max(axis=0), -A.min(axis=0)))
    return np.asarray(np.ldexp(1.0, exponent))


def _refine(
    A: Matrix, Y: Matrix, Q: Matrix, inverse: Matrix, theta: Matrix, residual: Matrix
) -> tuple[Matrix, Matrix]:
    """Solve r + A theta = Y, A^T r = 0 by Newton's method with the QR factors (Bjorck 1967).

    It ends when the steps no longer shrink.
    """
    last = np.inf
    for _ in range(_MAX_REFINEMENTS):
        f = _accurate_residual(A, theta, Y, residual)
        q = Q.T @ f + inverse.T @ _accurate_product(A, residual)
        step = inverse @ q
        size = float(np.linalg.norm(q))
        if size >= last / 2:
            break
        theta, residual, last = theta + step, residual + (f - Q @ q), size
        if size == 0:
            break
    return theta, residual


# ---- twice the precision, from rounded operations (Dekker 1971, Knuth 1969) ----------------------


def _two_sum(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
    """Return the rounded sum and its rounding error, which is exact."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
    """Return the rounded product and its rounding error, which is exact."""
    p = a * b
    a_high, b_high = a * _SPLITTER, b * _SPLITTER
    a_high, b_high = a_high - (a_high - a), b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _accurate_residual(A: Matrix, theta: Matrix, Y: Matrix, residual: Matrix) -> Matrix:
    """Return Y - residual - A theta, summed in twice the precision."""
    high, low = _two_sum(Y, -residual)
    for column, row in zip(A.T, theta, strict=True):
        p, error = _two_product(column[:, np.newaxis], -row)
        high, more = _two_sum(high, p)
        low += error + more
    return high + low


def _accurate_product(A: Matrix, residual: Matrix) -> Matrix:
    """Return A^T residual, summed in twice the precision."""
    product = np.empty((A.shape[1], residual.shape[1]))
    for j, column in enumerate(A.T):
        high, low = _two_product(column[:, np.newaxis], residual)
        while len(high) > 1:  # pairs are added; an odd last row waits for the next round
            odd_high, odd_low = high[len(high) & ~1 :], low[len(low) & ~1 :]
            n = len(high) // 2
            total, error = _two_sum(high[:n], high[n : 2 * n])
            low = np.concatenate([low[:n] + low[n : 2 * n] + error, odd_low])
            high = np.concatenate([total, odd_high])
        product[j] = high[0] + low[0]
    return product
