"""Least squares where rows or columns depend on each other, far from zero as well: of all minima
the one with the smallest coefficients, and the rank of what is no rounding.

Right values come from numbers that are exact in float64, solved in twice the digits, and from
`least`, the pseudo-inverse of rows less their mean with directions cut far above rounding.
"""

import warnings
from fractions import Fraction

import numpy as np
import pytest

from fastmlp import ElasticNet, Lasso, LinearRegression, Ridge, lasso_path

MODELS = {
    "svd": lambda **how: LinearRegression(solver="svd", **how),
    "qr": lambda **how: LinearRegression(**how),
    "ridge": lambda **how: Ridge(0.0, **how),
    "ridge, all but none": lambda **how: Ridge(1e-300, **how),
    "elastic net": lambda **how: ElasticNet(0.0, 0.0, **how),
    "lasso": lambda **how: Lasso(0.0, **how),
}
each_model = pytest.mark.parametrize("name", MODELS)
pytestmark = pytest.mark.filterwarnings("ignore::numpy.exceptions.RankWarning")


def least(X, y, weights=None, fit_intercept=True, l2=0.0, cut=1e-9):
    """Coefficients of minimum norm (or of ridge regression on the same directions), the rank."""
    weights = np.ones(len(X)) if weights is None else weights
    X, y, w = (a[weights > 0].astype(np.longdouble) for a in (X, y, weights))
    if fit_intercept:
        X, y = X - (w @ X) / w.sum(), y - (w @ y) / w.sum()
    A, b = (np.sqrt(w)[:, np.newaxis] * X).astype(float), (np.sqrt(w) * y).astype(float)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    k = int(np.sum(s > cut * np.linalg.norm(A))) if A.any() else 0
    coef = Vt[:k].T @ (s[:k] / (s[:k] ** 2 + l2) * (U[:, :k].T @ b))
    return coef, k + int(fit_intercept)


def assert_least(model, X, y, weights=None, fit_intercept=True, **how):
    want, rank = least(X, y, weights, fit_intercept, **how)
    np.testing.assert_allclose(
        model.coef_, want, rtol=0, atol=1e-9 * max(np.abs(want).max(), 1e-300)
    )
    if hasattr(model, "rank_"):
        assert model.rank_ == rank


# ---- the examples of the report ------------------------------------------------------------------


@each_model
def test_a_row_twice(name):
    X = np.array([[0.1, 0.7, 0.3, 0.9], [0.4, 0.2, 0.6, 0.5], [0.1, 0.7, 0.3, 0.9]])
    y = np.array([1.0, 2, 1])
    model = MODELS[name]().fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-13)
    np.testing.assert_allclose(model.coef_, np.array([30, -50, 30, -40]) / 59, atol=1e-13)
    free = MODELS[name](fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(free.coef_, [1.4961, -0.3536, 1.98996, 0.5566], atol=1e-4)
    one = MODELS[name](fit_intercept=False).fit([[1, 2, 3], [1, 2, 3]], [1, 1])
    np.testing.assert_allclose(one.coef_, np.array([1, 2, 3]) / 14, atol=1e-14)


@each_model
def test_two_rows_far_from_zero(name):
    X, y = np.array([[2016.3, 8.2], [2028.1, 0.0]]), np.array([1.0, 2.0])
    model = MODELS[name]().fit(X, y)
    d = [Fraction(b) - Fraction(a) for a, b in X.T]  # the only direction, exactly
    want = [float(v / (d[0] ** 2 + d[1] ** 2)) for v in d]
    np.testing.assert_allclose(model.coef_, want, rtol=1e-12)
    np.testing.assert_allclose(model.predict(X), y, rtol=1e-12)
    assert getattr(model, "rank_", 2) == 2


# ---- families ------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("shape", [(2, 2), (2, 5), (5, 5), (10, 20), (20, 100), (50, 60)])
@pytest.mark.parametrize("offset", [0.0, 10.0, 1e3, 1e5])
def test_fewer_rows_than_columns_and_one(name, shape, offset):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal(shape) + offset, rng.standard_normal(shape[0])
        assert_least(MODELS[name]().fit(X, y), X, y)


@each_model
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_columns_of_other_offsets_and_units(name, fit_intercept, weighted):
    """A year, a body temperature, a price in millions beside what is about 1."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((9, 12))
        X[:, 0] = 2000 + rng.integers(0, 25, 9)
        X[:, 1] = rng.normal(37, 0.5, 9)
        X[:, 2] = 1e6 * rng.random(9)
        y = rng.standard_normal(9)
        w = rng.integers(0, 3, 9) * rng.exponential(size=9) if weighted else None
        model = MODELS[name](fit_intercept=fit_intercept).fit(X, y, w)
        assert_least(model, X, y, w, fit_intercept)


@each_model
@pytest.mark.parametrize("shape", [(4, 6), (8, 12), (12, 12), (20, 40)])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("kind", ["twice", "sums", "weights", "weights of 0"])
def test_rows_that_depend_on_each_other(name, shape, fit_intercept, kind):
    """With targets that contradict each other as well."""
    rows, n_in = shape
    for seed in range(6):
        rng = np.random.default_rng(seed)
        half = rng.standard_normal((rows // 2, n_in))
        mix = np.eye(rows // 2)[::-1] if kind != "sums" else rng.standard_normal([rows // 2] * 2)
        X, y, w = np.vstack([half, mix @ half]), rng.standard_normal(rows), None
        if kind == "weights":
            w = rng.exponential(size=rows)
        elif kind == "weights of 0":
            w = np.ones(rows)
            w[1::4] = 0
        model = MODELS[name](fit_intercept=fit_intercept).fit(X, y, w)
        assert_least(model, X, y, w, fit_intercept)


@each_model
@pytest.mark.parametrize("offset", [0, 10, 1000, 10_000, 100_000, 10_000_000])
@pytest.mark.parametrize("rows", [4, 6, 60, 500])
@pytest.mark.parametrize("kind", ["whole numbers", "rounded sums", "weights"])
def test_a_total_beside_its_parts(name, offset, rows, kind):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        if kind == "rounded sums":
            a, b = rng.standard_normal(rows) + offset, 3 * rng.standard_normal(rows) + offset
        else:
            a, b = rng.integers(0, 50, (2, rows)) + float(offset)
        X, y = np.column_stack([a, b, a + b]), 0.1 * a - 0.2 * b + rng.standard_normal(rows)
        w = None
        if kind == "weights":
            w = rng.integers(0, 3, rows).astype(float)
            w[:4] = 1
        model = MODELS[name]().fit(X, y, w)
        want, rank = least(X, y, w, cut=1e-7 if offset < 1e6 else 1e-6)
        # the rounding of a sum that is `offset` tilts the plane of the parts by that much
        tilt = 1e-13 * max(offset, 10)
        np.testing.assert_allclose(model.coef_, want, rtol=0, atol=tilt * np.abs(want).max())
        assert getattr(model, "rank_", rank) == rank


@pytest.mark.parametrize("year", [0, 2000, 1e6])
def test_dummies_that_sum_to_one_beside_a_year(year):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = np.column_stack([np.eye(4)[rng.integers(0, 4, 60)], year + rng.integers(0, 20, 60)])
        y = rng.standard_normal(60)
        with pytest.warns(np.exceptions.RankWarning, match="have the rank 5 on 60 rows"):
            model = LinearRegression().fit(X, y)
        assert_least(model, X, y)


def test_columns_that_vary_little_beside_their_mean_keep_their_digits():
    """What is told apart by the numbers as given counts: 1e9 and steps of 1e-4 have 13 digits."""
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 64, (40, 2)) / 2**13
    X, y = 1e9 + steps, steps @ [3.0, -1.0]
    # qr finds the intercept, -2e9, with them: its digits are those of the largest number
    for solver, digits in (("svd", 1e-10), ("qr", 1e-8)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = LinearRegression(solver=solver).fit(X, y)
        assert model.rank_ == 3
        np.testing.assert_allclose(model.coef_, [3, -1], rtol=digits)


@pytest.mark.parametrize(
    "l2", [0.0, 1e-40, 1e-28, 1e-24, 1e-20, 1e-16, 1e-12, 1e-8, 1e-4, 1.0, 1e3]
)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_ridge_of_rows_that_repeat_for_any_penalty(l2, fit_intercept, offset):
    rng = np.random.default_rng(0)
    X = np.vstack([rng.standard_normal((4, 12))] * 2) + offset
    for y in (np.tile(rng.standard_normal(4), 2), rng.standard_normal(8)):
        model = Ridge(l2, fit_intercept=fit_intercept).fit(X, y)
        assert_least(model, X, y, None, fit_intercept, l2=l2)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_a_penalized_intercept_is_a_column_like_any_other(offset):
    rng = np.random.default_rng(0)
    X, y = np.vstack([rng.standard_normal((4, 12))] * 2) + offset, rng.standard_normal(8)
    model = Ridge(0.0, penalize_intercept=True).fit(X, y)
    want, _ = least(np.column_stack([np.ones(8), X]), y, fit_intercept=False)
    np.testing.assert_allclose(np.r_[model.intercept_, model.coef_], want, atol=1e-9)


def test_a_path_ends_at_the_minimum_norm():
    rng = np.random.default_rng(0)
    X, y = np.vstack([rng.standard_normal((4, 12))] * 2), rng.standard_normal(8)
    l1s, coefs, _ = lasso_path(X, y, l1s=[1.0, 0.0])
    assert l1s[-1] == 0
    np.testing.assert_allclose(coefs[:, -1], least(X, y)[0], atol=1e-12)


def test_several_outputs_and_inputs_left_alone():
    rng = np.random.default_rng(0)
    X, Y = np.vstack([rng.standard_normal((4, 12))] * 2), rng.standard_normal((8, 3))
    before = X.copy()
    for fit_intercept in (True, False):
        model = Ridge(0.0, fit_intercept=fit_intercept).fit(X, Y)
        for k in range(3):
            want, _ = least(X, Y[:, k], None, fit_intercept)
            np.testing.assert_allclose(model.coef_[:, k], want, atol=1e-12)
        flat = np.column_stack([X, np.full(8, 1e-300)])  # all but zeros: left out, not written to
        kept = flat.copy()
        Ridge(0.0, fit_intercept=fit_intercept).fit(flat, Y)
        np.testing.assert_array_equal(flat, kept)
    np.testing.assert_array_equal(X, before)


def test_one_row_and_constant_columns():
    for model in (m() for m in MODELS.values()):
        model.fit([[0.1, 3.0]], [2.0])
        np.testing.assert_array_equal(model.coef_, 0)
        assert model.intercept_ == 2
        model.fit(np.full((5, 2), 0.1), np.arange(5.0))
        np.testing.assert_array_equal(model.coef_, 0)
        assert model.intercept_ == pytest.approx(2)
