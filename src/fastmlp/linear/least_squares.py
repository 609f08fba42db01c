"""Linear least squares in float64: QR with refinement, minimum norm by SVD, the normal equations.

Columns are scaled by powers of two first, which changes no bit of the answer's meaning and makes
the condition number kappa that of the best column scaling within a factor sqrt(p) (van der Sluis
1969). QR alone has an error of about eps (kappa + kappa^2 |r| / |y|); where that costs digits, the
solution and the residual are refined together with residuals in twice the precision (Bjorck 1967),
which leaves an error of about eps.
"""

from dataclasses import dataclass

import numpy as np

from ..ground.arrays import Matrix
from ..ground.conversion import Weights
from ..ground.lapack import interruptible
from .estimator import weighted
from .products import blocks, by_rows, column_sums, gram, rows_times, transposed_times

_EPS = float(np.finfo(np.float64).eps)
_GOOD_ENOUGH = 100 * _EPS  # an estimated error that needs no refinement
_NOISE = 4  # units of rounding: what a sum of two columns, rounded, is from it, with a margin
_MAX_REFINEMENTS = 10
_SPLITTER = 2.0**27 + 1
_BLOCK = 1024  # rows of a tall matrix that are factored in the cache


@dataclass(frozen=True)
class Solution:
    """theta (p, n_out) that minimises |Y - A theta|, the residual (rows, n_out), the rank of A, and
    `factor` F with F F^T = (A^T A)^-1, the pseudo-inverse where A has not full rank.
    """

    theta: Matrix
    residual: Matrix
    rank: int
    factor: Matrix


def solve_qr(A: Matrix, Y: Matrix) -> Solution | None:
    """By QR with refinement; None where A (rows, p) has not full column rank in float64."""
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
    """Q and R; of a tall A by blocks of rows, then of their R, which reads memory once instead of
    once for each column (Demmel, Grigori, Hoemmen, Langou 2012), and is as accurate.
    """
    rows, p = A.shape
    n = rows // _BLOCK
    if n < 4 or p > _BLOCK // 8:
        Q, R = interruptible(np.linalg.qr, A)
        return Q, R
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


def _svd(A: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """U, s and V^T; of a tall A by its factor R, whose singular values it has."""
    rows, p = A.shape
    if rows < 4 * _BLOCK or p > _BLOCK // 8:
        U, s, Vt = interruptible(np.linalg.svd, A, full_matrices=False)
        return U, s, Vt
    Q, R = _qr(A)
    inner, s, Vt = interruptible(np.linalg.svd, R)
    return rows_times(Q, np.asarray(inner)), s, Vt


def rank_of(A: Matrix) -> int:
    """NumPy's matrix_rank, by the factor R."""
    s = interruptible(np.linalg.svd, _qr(A)[1], compute_uv=False)
    return int(np.sum(s > _EPS * max(A.shape) * s[0]))


def solve_normal(A: Matrix, Y: Matrix) -> Solution:
    """theta = (A^T A)^-1 A^T Y as the lecture writes it; the condition number counts squared.

    Raises ValueError where A^T A is not positive definite in float64.
    """
    scale, y_scale = power_of_two_norms(A), power_of_two_norms(Y)  # else squares may overflow
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
    """Of all theta that minimise |Y - A theta|, the one whose coefficients (not the intercept) have
    the smallest norm: the limit of ridge regression for l2 -> 0. A is [1, X] with an intercept.
    With weights, rows of A, Y and the residual are times their roots. With l2 > 0, ridge regression
    on what of X is no rounding; `factor` is then that without it.
    """
    rows, n_in = X.shape
    Xc, x_mean = centred(X, weights, fit_intercept)
    Yc, y_mean = centred(Y, weights, fit_intercept)
    Xc, Yc = weighted(Xc, weights), weighted(Yc, weights)
    noise = _NOISE * _EPS * _norms(weighted(X, weights))
    constant = _norms(Xc) <= noise  # but for rounding
    Xc = by_rows(lambda x: np.where(constant, 0, x), n_in, Xc) if constant.any() else Xc
    scale = power_of_two_norms(Xc)
    U, s, Vt = _svd(_scaled(Xc, scale))
    # Directions that X, rounded otherwise, would not have: rows less their mean sum to 0.
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
        penalised = np.vstack([(R * s[:rank]).T, np.sqrt(l2) * np.eye(rank)])
        shrunk = solve_qr(penalised, np.vstack([target, np.zeros_like(target)]))
        coef = coef if shrunk is None else Q @ shrunk.theta
    residual = Yc - rows_times(Xc, coef)
    if not fit_intercept:
        return Solution(coef, residual, rank, factor)
    theta = np.vstack([y_mean - x_mean @ coef, coef])
    total = rows if weights is None else weights.sum()
    top = np.concatenate([[total**-0.5], -x_mean @ factor])
    whole = np.vstack([top, np.column_stack([np.zeros(n_in), factor])])
    return Solution(theta, residual, rank + 1, whole)


def centred(
    A: Matrix, weights: Weights | None = None, fit_intercept: bool = True
) -> tuple[Matrix, Matrix]:
    """A (rows, n) less the means of its columns, and these (n,); A itself and zeros without an
    intercept.

    Twice, since numbers far from zero have means whose rounding is as large as that of the numbers:
    it is the same in all rows, and what is left after the second time is rounding of the result.
    """
    if not fit_intercept:
        return A, np.zeros(A.shape[1])
    mean = _means(A, weights)
    rest = by_rows(lambda a: a - mean, A.shape[1], A)
    more = _means(rest, weights)
    return by_rows(lambda a: a - more, A.shape[1], rest), mean + more


def _means(A: Matrix, weights: Weights | None) -> Matrix:
    """Of each column."""
    if weights is None:
        return column_sums(lambda a: a, A) / len(A)
    return column_sums(lambda a, w: a * w[:, np.newaxis], A, weights) / float(weights.sum())


def _scaled(A: Matrix, scale: Matrix) -> Matrix:
    """A / scale."""
    return by_rows(lambda a: a / scale, A.shape[1], A)


def power_of_two_norms(A: Matrix) -> Matrix:
    """The power of two next to the norm of each column (1 for a column of zeros): dividing by it
    rounds nothing.
    """
    near = _near(A)
    _, more = np.frexp(np.sqrt(column_sums(lambda a: np.square(a / near), A)))
    return np.asarray(np.ldexp(near, more))


def _norms(A: Matrix) -> Matrix:
    """Of each column."""
    near = _near(A)
    return np.asarray(near * np.sqrt(column_sums(lambda a: np.square(a / near), A)))


def _near(A: Matrix) -> Matrix:
    """A power of two for each column: squares of what is divided by it stay in the range."""
    _, exponent = np.frexp(np.maximum(A.max(axis=0), -A.min(axis=0)))
    return np.asarray(np.ldexp(1.0, exponent))


def _refine(
    A: Matrix, Y: Matrix, Q: Matrix, inverse: Matrix, theta: Matrix, residual: Matrix
) -> tuple[Matrix, Matrix]:
    """Newton's method on r + A theta = Y, A^T r = 0 with the QR factors (Bjorck 1967), until the
    steps no longer shrink.
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
    """The sum and its rounding error, exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
    """The product and its rounding error, exactly."""
    p = a * b
    a_high, b_high = a * _SPLITTER, b * _SPLITTER
    a_high, b_high = a_high - (a_high - a), b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _accurate_residual(A: Matrix, theta: Matrix, Y: Matrix, residual: Matrix) -> Matrix:
    """Y - residual - A theta, summed in twice the precision."""
    high, low = _two_sum(Y, -residual)
    for column, row in zip(A.T, theta, strict=True):
        p, error = _two_product(column[:, np.newaxis], -row)
        high, more = _two_sum(high, p)
        low += error + more
    return high + low


def _accurate_product(A: Matrix, residual: Matrix) -> Matrix:
    """A^T residual, summed in twice the precision."""
    product = np.empty((A.shape[1], residual.shape[1]))
    for j, column in enumerate(A.T):
        high, low = _two_product(column[:, np.newaxis], residual)
        while len(high) > 1:  # a tree of pairs; a last odd row waits
            odd_high, odd_low = high[len(high) & ~1 :], low[len(low) & ~1 :]
            n = len(high) // 2
            total, error = _two_sum(high[:n], high[n : 2 * n])
            low = np.concatenate([low[:n] + low[n : 2 * n] + error, odd_low])
            high = np.concatenate([total, odd_high])
        product[j] = high[0] + low[0]
    return product
