"""Lasso and elastic net: the conditions for a minimum, scikit-learn's answers, exact zeros."""

import warnings

import numpy as np
import pytest
from helpers import assert_within, inputs

from fastmlp import ConvergenceWarning, ElasticNet, Lasso, Ridge, lasso_path
from fastmlp._core import lasso_sweeps
from fastmlp.linear.lasso import _Problem


def problem(rows=80, n_in=15, n_used=4, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, n_in)) @ (np.eye(n_in) + 0.3) + rng.standard_normal(n_in)
    w = np.zeros(n_in)
    w[:n_used] = rng.standard_normal(n_used) + 2
    return X, X @ w + 3 + noise * rng.standard_normal(rows)


def cost(model, X, y, l1, l2=0.0):
    r = y - model.predict(X)
    return r @ r / 2 + l1 * np.sum(np.abs(model.coef_)) + l2 / 2 * np.sum(model.coef_**2)


def largest_l1(X, y):
    return np.max(np.abs((X - X.mean(axis=0)).T @ (y - y.mean())))


def check_conditions(model, X, y, l1, l2=0.0):
    """Karush, Kuhn, Tucker: x_j^T r - l2 w_j is l1 sign(w_j), within +-l1 where w_j is 0; the sum
    of residuals is 0. To the tolerance that `fit` promises."""
    r = y - model.predict(X)
    centered, y_c = X - X.mean(axis=0), y - y.mean()
    slope = centered.T @ r - l2 * model.coef_
    used = model.coef_ != 0
    # twice, for the rounding in this check
    allowed = 2 * model.tol * np.linalg.norm(centered, axis=0) * np.linalg.norm(y_c)
    assert np.all(np.abs(slope - l1 * np.sign(model.coef_))[used] <= allowed[used])
    assert np.all(np.abs(slope)[~used] <= l1 + allowed[~used])
    assert abs(r.sum()) <= model.tol * np.abs(y).sum()


@pytest.mark.parametrize("share", [0.9, 0.3, 0.03, 0.001])
@pytest.mark.parametrize("l2", [0.0, 5.0])
@pytest.mark.parametrize("shape", [(80, 15), (30, 100)])
def test_minimum_and_scikit_learn(share, l2, shape):
    sk = pytest.importorskip("sklearn.linear_model")
    X, y = problem(*shape)
    l1 = share * largest_l1(X, y)
    model = (ElasticNet(l1, l2) if l2 else Lasso(l1)).fit(X, y)
    check_conditions(model, X, y, l1, l2)
    total = l1 + l2
    theirs = sk.ElasticNet(total / len(X), l1_ratio=l1 / total, tol=1e-14, max_iter=1_000_000).fit(
        X, y
    )
    ours_cost, their_cost = cost(model, X, y, l1, l2), cost(theirs, X, y, l1, l2)
    assert ours_cost <= their_cost * (1 + 1e-8)
    assert abs(ours_cost - their_cost) <= 1e-8 * their_cost
    np.testing.assert_allclose(model.coef_, theirs.coef_, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(model.coef_ == 0, theirs.coef_ == 0)
    assert model.intercept_ == pytest.approx(theirs.intercept_, rel=1e-8)
    # the bound holds, but for rounding in the cost
    assert ours_cost - their_cost <= model.dual_gap_ + 1e-12 * ours_cost
    assert 0 <= model.dual_gap_ <= 1e-8 * ours_cost


def test_dual_gap_bounds_the_distance_from_the_minimum():
    """After one sweep the cost is above the smallest, by no more than the gap."""
    X, y = problem(200, 300, seed=3)
    l1 = 0.05 * largest_l1(X, y)
    with pytest.warns(ConvergenceWarning, match="max_sweeps=1 ") as caught:
        early = Lasso(l1, max_sweeps=1).fit(X, y)
    assert caught[0].filename == __file__
    best = Lasso(l1).fit(X, y)
    above = cost(early, X, y, l1) - cost(best, X, y, l1)
    assert 0 < above <= early.dual_gap_
    assert best.dual_gap_ < above / 1e3


@pytest.mark.parametrize("l2", [0.0, 2.0])
def test_dual_gap_of_zeros(l2):
    """There r = y, and the dual's best point on its ray is y l1 / max |x_j^T y|."""
    X, y = problem()
    largest = largest_l1(X, y)
    gap = _Problem(X, y, fit_intercept=True).dual_gap(np.zeros(15), 0.4 * largest, l2)
    y_c = y - y.mean()
    assert gap == pytest.approx(0.6**2 * (y_c @ y_c) / 2)


def test_zeros_are_exact_and_the_true_features_are_found(rng):
    X = rng.standard_normal((300, 50))
    y = X[:, 3] - 2 * X[:, 11] + 3 * X[:, 40] + 0.1 * rng.standard_normal(300)
    model = Lasso(0.1 * largest_l1(X, y)).fit(X, y)
    assert np.flatnonzero(model.coef_).tolist() == [3, 11, 40]
    assert np.all(Ridge(1.0).fit(X, y).coef_ != 0)


def test_soft_threshold_of_orthonormal_columns(rng):
    """There w_j = sign(x_j^T y) max(|x_j^T y| - l1, 0) / (1 + l2)."""
    X, _ = np.linalg.qr(rng.standard_normal((30, 6)))
    y = rng.standard_normal(30)
    c = X.T @ y
    l1, l2 = float(np.median(np.abs(c))), 0.5
    model = ElasticNet(l1, l2, fit_intercept=False).fit(X, y)
    want = np.sign(c) * np.maximum(np.abs(c) - l1, 0) / (1 + l2)
    assert_within(model.coef_, want, n=30)
    assert model.intercept_ == 0


def test_without_l1_it_is_ridge():
    X, y = problem()
    ours, ridge = ElasticNet(0.0, 3.0).fit(X, y), Ridge(3.0).fit(X, y)
    np.testing.assert_allclose(ours.coef_, ridge.coef_, rtol=1e-8)
    assert ours.intercept_ == pytest.approx(ridge.intercept_, rel=1e-8)


@pytest.mark.parametrize("shape", [(100, 5), (20, 60)])
@pytest.mark.parametrize("l2", [0.0, 1e-6, 3.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_dual_gap_without_l1_is_near_zero_at_the_minimum(shape, l2, fit_intercept):
    X, y = problem(*shape)
    model = ElasticNet(0.0, l2, fit_intercept=fit_intercept).fit(X, y)
    assert 0 <= model.dual_gap_ <= 1e-13 * (y @ y)
    ridge = Ridge(l2, fit_intercept=fit_intercept).fit(X, y)
    np.testing.assert_array_equal(model.coef_, ridge.coef_)
    assert model.n_sweeps_ == 0


@pytest.mark.parametrize("l1", [0.0, 1e-9, 1e-3, 20.0])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_dual_gap_bounds_the_distance_of_any_coefficients(l1, l2, rng):
    """It is a bound wherever it is asked for, and goes to 0 at the minimum."""
    X, y = problem(60, 8)
    gaps, above = [], []
    best = ElasticNet(l1, l2).fit(X, y)
    off = rng.standard_normal(8)
    for share in (1.0, 1e-1, 1e-3, 0.0):
        coef = best.coef_ + share * off
        gaps.append(_Problem(X, y, fit_intercept=True).dual_gap(coef, l1, l2))
        near = ElasticNet(l1, l2)
        near.coef_, near.n_in_ = coef, 8
        near.intercept_ = y.mean() - X.mean(axis=0) @ coef
        above.append(cost(near, X, y, l1, l2) - cost(best, X, y, l1, l2))
    assert np.all(np.array(gaps) >= np.array(above) - 1e-12 * (y @ y))
    assert np.all(np.diff(gaps) < 0)
    assert gaps[-1] <= 1e-9 * (y @ y)


def test_smallest_l1_of_zeros_is_the_largest_moment():
    X, y = problem()
    l1 = largest_l1(X, y)
    zero = Lasso(l1 * (1 + 1e-9)).fit(X, y)
    assert not zero.coef_.any()
    assert zero.intercept_ == pytest.approx(y.mean())
    assert np.count_nonzero(Lasso(l1 * (1 - 1e-6)).fit(X, y).coef_) == 1


def test_equal_and_constant_columns():
    """Equal columns have no single solution: the cost must be the smallest all the same."""
    X, y = problem()
    l1 = 0.05 * largest_l1(X, y)
    once = Lasso(l1).fit(X, y)
    doubled = np.column_stack([X, X, np.full(len(X), 0.1), np.zeros(len(X))])
    twice = Lasso(l1).fit(doubled, y)
    check_conditions(twice, doubled, y, l1)
    assert cost(twice, doubled, y, l1) == pytest.approx(cost(once, X, y, l1), rel=1e-10)
    assert not twice.coef_[-2:].any()


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_columns_that_stand_in_several_places_end_at_the_minimum(seed):
    """Cholesky factors that exist by rounding alone had ended in a LinAlgError."""
    r = np.random.default_rng(seed)
    X = r.normal(size=(50, 20))
    y = X[:, :3] @ [1, -2, 3] + r.normal(size=50)
    model = Lasso(1.0).fit(np.c_[X, X[:, :5], -X[:, :5]], y)
    assert model.dual_gap_ <= 1e-8 * (y @ y)
    plain = Lasso(1.0).fit(X, y)
    same = np.r_[model.coef_[:20]]
    same[:5] += model.coef_[20:25] - model.coef_[25:]
    np.testing.assert_allclose(same, plain.coef_, rtol=0, atol=1e-6)


def test_a_column_whose_square_is_zero_stays_out():
    X, y = problem(n_in=5)
    X[:, 2] *= 1e-170
    for max_sweeps in (3, 10_000):
        model = Lasso(1e-9, max_sweeps=max_sweeps).fit(X, y)
        assert model.coef_[2] == 0
        assert np.isfinite(model.coef_).all()
    others = Lasso(1e-9).fit(np.delete(X, 2, axis=1), y)
    np.testing.assert_allclose(np.delete(model.coef_, 2), others.coef_, rtol=1e-9)


@pytest.mark.parametrize("share", [1e-4, 1e-6])
def test_small_penalties_converge_with_fewer_rows_than_columns(share, recwarn):
    """Sweeps from zero took in more features than rows, on which no jump is possible."""
    X, y = problem(50, 200, seed=3)
    l1 = share * largest_l1(X, y)
    model = Lasso(l1).fit(X, y)
    assert not recwarn.list
    check_conditions(model, X, y, l1)
    assert np.count_nonzero(model.coef_) < 50


def test_more_columns_than_rows_without_a_penalty():
    """Many solutions, all exact: for a penalty of next to nothing the jumps find no single one."""
    X, y = inputs(5, 12), inputs(5, 1, seed=1)[:, 0]
    for l1, near in ((0.0, 1e-13), (1e-12, 1e-8)):
        model = Lasso(l1).fit(X, y)
        np.testing.assert_allclose(model.predict(X), y, atol=near)


def test_a_target_without_spread_gives_zeros():
    model = Lasso(1.0).fit(inputs(10, 3), np.full(10, 4.0))
    assert not model.coef_.any()
    assert model.intercept_ == pytest.approx(4.0)
    assert model.dual_gap_ == 0


def test_several_outputs_are_fitted_one_by_one():
    X, y = problem()
    Y = np.column_stack([y, X[:, 7] - y])
    model = Lasso(20.0).fit(X, Y)
    for k in range(2):
        one = Lasso(20.0).fit(X, Y[:, k])
        np.testing.assert_array_equal(model.coef_[:, k], one.coef_)
        assert model.intercept_[k] == one.intercept_
    assert model.predict(X).shape == Y.shape


def test_path_holds_the_fits():
    X, y = problem()
    l1s, coefs, intercepts = lasso_path(X, y, n_l1s=20, ratio=1e-2)
    assert coefs.shape == (15, 20)
    assert l1s[0] == pytest.approx(largest_l1(X, y))
    assert_within(l1s[1:] / l1s[:-1], np.full(19, 1e-2 ** (1 / 19)), c=16)
    assert not coefs[:, 0].any()
    for l1, coef, intercept in zip(l1s, coefs.T, intercepts, strict=True):
        model = Lasso(l1).fit(X, y)
        np.testing.assert_allclose(coef, model.coef_, rtol=1e-8, atol=1e-8)
        assert intercept == pytest.approx(model.intercept_, rel=1e-8)
    given, coefs, _ = lasso_path(X, y, l1s=[1.0, 30.0, 5.0], l2=2.0)
    assert given.tolist() == [30.0, 5.0, 1.0]
    np.testing.assert_allclose(coefs[:, 1], ElasticNet(5.0, 2.0).fit(X, y).coef_, rtol=1e-8)


def sweep_twin(w, c, G, l1):
    """One sweep of soft thresholding, slopes computed anew each time."""
    w = w.copy()
    for j in range(len(w)):
        pull = c[j] - G[j] @ w + G[j, j] * w[j]
        w[j] = np.sign(pull) * max(abs(pull) - l1, 0.0) / G[j, j]
    return w


@pytest.mark.parametrize("n", [1, 7, 40])
def test_a_sweep_is_its_twin(n, rng):
    A = rng.standard_normal((60, n))
    G, c = A.T @ A, A.T @ rng.standard_normal(60)
    l1 = 0.3 * float(np.max(np.abs(c)))
    w = np.zeros(n)
    slope, want = c.copy(), w.copy()
    for _ in range(3):
        assert lasso_sweeps(w, slope, G, np.zeros(n), l1, 1) == 1
        want = sweep_twin(want, c, G, l1)
        assert_within(w, want, np.abs(want) + 1, n=60 * n, c=16)
        assert_within(slope, c - G @ w, np.abs(c) + l1, n=60 * n, c=16)
        np.testing.assert_array_equal(w == 0, want == 0)
    loose = np.full(n, 1e-6 * l1)
    assert 1 <= lasso_sweeps(w, slope, G, loose, l1, 1000) < 1000
    off = np.where(w == 0, np.abs(c - G @ w) - l1, np.abs(c - G @ w - l1 * np.sign(w)))
    assert np.all(off <= 2 * loose)


def test_the_sweeps_take_their_own_arrays_only():
    w, G = np.zeros(3), np.eye(3)
    with pytest.raises(ValueError, match="G has 9 elements, expected 4"):
        lasso_sweeps(w[:2], w[:2].copy(), G, w[:2].copy(), 1.0, 1)
    with pytest.raises(TypeError, match="w must be a C-contiguous"):
        lasso_sweeps(w.astype(np.float32), w, G, w, 1.0, 1)


@pytest.mark.parametrize("alike", [0.0, 0.75])
def test_path_of_wide_data_down_to_all_but_interpolation(alike, rng):
    """Every point is the exact solution for its signs, and meets the conditions."""
    X = rng.standard_normal((60, 300)) + alike * 2 * rng.standard_normal((60, 1))
    y = X[:, :5] @ [1, -2, 3, 1, 1] + rng.standard_normal(60)
    l1s, coefs, intercepts = lasso_path(X, y, ratio=1e-3, n_l1s=40)
    Xc, yc = X - X.mean(axis=0), y - y.mean()
    for l1, coef, intercept in zip(l1s, coefs.T, intercepts, strict=True):
        model = Lasso(l1)
        model.coef_, model.intercept_, model.n_in_ = coef, intercept, 300
        check_conditions(model, X, y, l1)
        used = np.flatnonzero(coef)
        A = Xc[:, used]
        exact = np.linalg.solve(A.T @ A, A.T @ yc - l1 * np.sign(coef[used]))
        np.testing.assert_allclose(coef[used], exact, rtol=0, atol=1e-9 * np.max(np.abs(coef)))
    assert 50 <= np.count_nonzero(coefs[:, -1]) <= 59


def test_bad_settings_and_inputs_are_named():
    X, y = problem()
    for call, match in [
        (lambda: Lasso(-1.0).fit(X, y), "l1 must be a finite number >= 0"),
        (lambda: ElasticNet(1.0, np.nan).fit(X, y), "l2 must be a finite number >= 0"),
        (lambda: Lasso(tol=0).fit(X, y), "tol must be a finite number above 0"),
        (lambda: Lasso(max_sweeps=0).fit(X, y), "max_sweeps must be an integer >= 1"),
        (lambda: Lasso().fit(X * np.nan, y), "X holds NaN"),
        (lambda: Lasso().fit(X * 1e200, y), "overflow float64; scale X and y down"),
        (lambda: Lasso().fit(X, y[1:]), "y has 79 rows but X has 80"),
        (lambda: lasso_path(X, np.column_stack([y, y])), "path of one at a time"),
        (lambda: lasso_path(X, y, ratio=1), "ratio must lie between 0 and 1"),
        (lambda: lasso_path(X, y, n_l1s=0), "n_l1s must be an integer >= 1"),
        (lambda: lasso_path(X, y, l1s=[1.0, -1.0]), "every l1 must be .* not -1.0"),
        (lambda: lasso_path(X, y, l1s=[]), "l1s is empty"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lasso().fit(X, y)
