"""Products of tall matrices by blocks of rows are those of all rows at once, whatever the blocks,
and the linear models that use them find the same.
"""

import numpy as np
import pytest

from fastmlp import Lasso, LinearRegression, LogisticRegression, SoftmaxRegression
from fastmlp.linear import least_squares, products
from fastmlp.linear.products import gram, rows_times, transposed_times

RNG = np.random.default_rng(0)
ROWS = 203
A, B, C = (RNG.standard_normal(shape) for shape in ((ROWS, 7), (7, 3), (ROWS, 3)))
WEIGHTS = RNG.uniform(0, 2, ROWS)
PRODUCTS = {
    "A B": (lambda: rows_times(A, B), A @ B),
    "A^T C": (lambda: transposed_times(A, C), A.T @ C),
    "A^T c": (lambda: transposed_times(A, C[:, 0]), C[:, 0] @ A),
    "A^T A": (lambda: gram(A), A.T @ A),
    "A^T W A": (lambda: gram(A, WEIGHTS), A.T @ (WEIGHTS[:, np.newaxis] * A)),
    "C^T C, by columns": (lambda: gram(np.asfortranarray(C)), C.T @ C),
}


@pytest.fixture(params=[1, 7, 40, ROWS - 1, ROWS])
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(products, "_AT_ONCE", 1)
    monkeypatch.setattr(products, "_LEAST_ROWS", request.param)
    return int(request.param)


@pytest.mark.parametrize("name", PRODUCTS)
def test_blocks_change_no_product(rows_at_once: int, name: str) -> None:
    product, want = PRODUCTS[name]
    found = product()
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)
    if rows_at_once == ROWS:
        assert np.array_equal(found, want)


def test_blocks_are_no_larger_than_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_AT_ONCE", 7 * 3 * 50)
    for work, rows in ((7 * 3, 50), (10**9, 5)):
        parts = [range(ROWS)[part] for part in products.blocks(ROWS, work, 5)]
        assert max(map(len, parts)) == rows
        assert [row for part in parts for row in part] == list(range(ROWS))


@pytest.mark.parametrize("rows", [3, 7, 100, 5000])
@pytest.mark.parametrize("rank", [1, 4, 7])
def test_rank_and_singular_values_of_a_tall_matrix(rows: int, rank: int) -> None:
    matrix = RNG.standard_normal((rows, rank)) @ RNG.standard_normal((rank, 7))
    assert least_squares.rank_of(matrix) == np.linalg.matrix_rank(matrix) == min(rows, rank)
    U, s, Vt = least_squares._svd(matrix)
    np.testing.assert_allclose(s, np.linalg.svd(matrix, compute_uv=False), atol=1e-13 * s[0])
    np.testing.assert_allclose(U.T @ U, np.eye(len(s)), atol=1e-13)
    np.testing.assert_allclose(U * s @ Vt, matrix, atol=1e-13 * s[0])


Y = A @ RNG.standard_normal(7) + RNG.standard_normal(ROWS)
MODELS = {
    "normal": lambda: LinearRegression(solver="normal").fit(A, Y),
    "lasso": lambda: Lasso(3.0).fit(A, Y),
    "newton": lambda: LogisticRegression(solver="newton").fit(A, Y > 0),
    "lbfgs": lambda: LogisticRegression(solver="lbfgs").fit(A, Y > 0, sample_weight=WEIGHTS),
    "softmax": lambda: SoftmaxRegression(solver="newton").fit(A, np.digitize(Y, [-1, 1])),
}
WANTED = {name: fit().coef_ for name, fit in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
def test_blocks_change_no_model(rows_at_once: int, name: str) -> None:
    np.testing.assert_allclose(MODELS[name]().coef_, WANTED[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows", [4096, 5000, 9 * 1024 + 3])
def test_blocks_of_a_tall_factor(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By groups of blocks, and again where their triangles are tall."""
    size = np.array([1, 1e-9, 1, 1e9, 1])
    tall = RNG.standard_normal((rows, 5)) * size
    Q, R = least_squares._qr(tall)
    monkeypatch.setattr(products, "_AT_ONCE", 1)
    assert all(map(np.array_equal, least_squares._qr(tall), (Q, R)))
    monkeypatch.setattr(least_squares, "_BLOCK", 8 * 5)  # of which 5 rows are left
    Q, R = least_squares._qr(tall)
    np.testing.assert_allclose(Q.T @ Q, np.eye(5), atol=1e-13)
    np.testing.assert_allclose(Q @ R / size, tall / size, atol=1e-13)  # relative to the column
    assert np.array_equal(R, np.triu(R))
