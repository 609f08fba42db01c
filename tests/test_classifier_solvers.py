"""Which solver the classifiers take, what is there after it, and the penalty l1."""

import pickle
import warnings

import numpy as np
import pytest
from helpers import inputs

from fastmlp import LogisticRegression, SoftmaxRegression


def problem(rows=300, n_in=8, n_classes=2, seed=0):
    """Classes that overlap, on columns that are correlated, of other units and offsets."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, n_in)) @ (np.eye(n_in) + 0.3)
    Z = X[:, :4] @ rng.standard_normal((4, n_classes)) + rng.gumbel(size=(rows, n_classes))
    X[:, 0] *= 3
    X[:, -1] += 5
    return X, Z.argmax(axis=1)


def kind_of(n_classes):
    return LogisticRegression if n_classes == 2 else SoftmaxRegression


# ---- auto ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_in", "n_classes", "l2", "is_newton"),
    [
        (99, 2, 1.0, True),
        (100, 2, 1.0, False),
        (24, 5, 1.0, True),
        (25, 5, 1.0, False),
        (100, 2, 0.0, True),
    ],
)
def test_auto_is_newton_up_to_a_size(n_in, n_classes, l2, is_newton):
    X, y = problem(3 * n_in * n_classes, n_in, n_classes)
    kind = kind_of(n_classes)
    auto = kind(l2).fit(X, y)
    named = kind(l2, solver="newton" if is_newton else "lbfgs").fit(X, y)
    np.testing.assert_array_equal(auto.coef_, named.coef_)
    assert auto.n_steps_ == named.n_steps_
    assert hasattr(auto, "_spread") == is_newton
    assert [kind()._solver(n, 0.0) for n in (500, 501)] == ["newton", "lbfgs"]


@pytest.mark.parametrize(("n_in", "n_classes"), [(150, 2), (40, 5)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_above_that_size_it_finds_what_newton_finds(n_in, n_classes, fit_intercept):
    X, y = problem(400, n_in, n_classes)
    kind = kind_of(n_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auto = kind(1.0, fit_intercept=fit_intercept).fit(X, y)
    exact = kind(1.0, solver="newton", fit_intercept=fit_intercept).fit(X, y)
    np.testing.assert_allclose(auto.coef_, exact.coef_, atol=1e-5 * np.abs(exact.coef_).max())
    np.testing.assert_allclose(auto.predict_proba(X), exact.predict_proba(X), atol=1e-6)


def test_standard_errors_are_made_on_demand_and_kept_by_pickle():
    X, y = problem()
    model = LogisticRegression(0.5).fit(X, y)
    assert "_covariance" not in vars(model)
    A = np.column_stack([np.ones(len(X)), X])
    P = model.predict_proba(X)[:, 1]
    D = 0.5 * np.eye(9)
    D[0, 0] = 0
    want = np.linalg.inv(A.T @ (A * (P * (1 - P))[:, np.newaxis]) + D)
    for m in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(m.covariance_, want, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(m.coef_std_, np.sqrt(want.diagonal())[1:], rtol=1e-7)
        assert m.intercept_std_ == pytest.approx(np.sqrt(want[0, 0]), rel=1e-7)
    big = LogisticRegression(1.0).fit(*problem(400, 150))
    assert not hasattr(big, "covariance_")
    with pytest.raises(AttributeError, match='fit with solver="newton"'):
        big.coef_std_  # noqa: B018
    with pytest.raises(AttributeError, match='fit with solver="newton"'):
        LogisticRegression().covariance_  # noqa: B018


def test_logits_far_from_zero_keep_their_cost():
    """exp of them overflows: the cost of a row is then its distance from the boundary."""
    X = np.array([[-3.0], [-1.0], [1.0], [2.0]]) * 1e3
    model = LogisticRegression(1e-12, solver="newton").fit(X, [0, 1, 0, 1])
    softmax = SoftmaxRegression(2e-12, solver="newton").fit(X, [0, 1, 0, 1])
    np.testing.assert_allclose(model.predict_proba(X), softmax.predict_proba(X), atol=1e-8)
    assert np.isfinite(model.decision_function(1e300 * np.ones((1, 1)))).all()


# ---- l1 ------------------------------------------------------------------------------------------


def cost(model, X, y, l1, l2):
    P = model.predict_proba(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    w = model.coef_
    return -np.log(P).sum() + l1 * np.abs(w).sum() + l2 / 2 * np.sum(w**2)


def check_conditions(model, X, y, l1, l2, weights=None):
    """The slope by w is -l1 sign(w), within +-l1 where w is 0; residuals sum to 0."""
    w = np.ones(len(X)) if weights is None else weights
    off = model.predict_proba(X) - (y[:, np.newaxis] == model.classes_)
    off *= w[:, np.newaxis]
    coef = model.coef_
    if coef.ndim == 1:
        coef, off = coef[:, np.newaxis], off[:, 1:]
    slope = X.T @ off + l2 * coef
    near = 1e-7 * np.abs(X).sum(axis=0)[:, np.newaxis]
    violation = np.where(coef != 0, np.abs(slope + l1 * np.sign(coef)), np.abs(slope) - l1)
    assert np.all(violation <= near)
    if model.fit_intercept:
        assert np.all(np.abs(off.sum(axis=0)) <= 1e-7 * len(X))


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize(("l1", "l2"), [(0.5, 0.0), (5.0, 0.0), (40.0, 0.0), (3.0, 2.0)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_l1_meets_the_conditions_and_scikit_learn(n_classes, l1, l2, fit_intercept):
    sk = pytest.importorskip("sklearn.linear_model")
    X, y = problem(200, 8, n_classes)
    model = kind_of(n_classes)(l2, l1=l1, fit_intercept=fit_intercept).fit(X, y)
    check_conditions(model, X, y, l1, l2)
    how = {"C": 1 / (l1 + l2), "tol": 1e-10, "max_iter": 100_000, "fit_intercept": fit_intercept}
    theirs = sk.LogisticRegression(solver="saga", l1_ratio=l1 / (l1 + l2), **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = theirs.set_params(penalty="elasticnet").fit(X, y)
    want = theirs.coef_[0] if n_classes == 2 else theirs.coef_.T
    ours = model.coef_
    if n_classes == 4:  # theirs may be another of equally good ones: compare what is the same
        np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
        assert np.abs(ours).sum() == pytest.approx(np.abs(want).sum(), rel=1e-6, abs=1e-9)
    else:
        np.testing.assert_allclose(ours, want, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(ours == 0, np.abs(want) < 1e-9)


def test_l1_without_an_intercept_is_liblinears():
    sk = pytest.importorskip("sklearn.linear_model")
    X, y = problem(200, 8)
    ours = LogisticRegression(l1=4.0, fit_intercept=False).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sk.LogisticRegression(
            penalty="l1", C=0.25, solver="liblinear", tol=1e-12, max_iter=10_000,
            fit_intercept=False,
        ).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(ours.coef_, theirs.coef_[0], atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_l1_on_more_columns_than_rows(n_classes):
    """Separable, so without a penalty there would be no minimum."""
    X, y = inputs(60, 200), np.arange(60) % n_classes
    X[:, 0] += 3 * y
    model = kind_of(n_classes)(l1=2.0).fit(X, y)
    check_conditions(model, X, y, 2.0, 0.0)
    assert 0 < np.count_nonzero(model.coef_) < 60 * n_classes
    np.testing.assert_array_less(0.5, np.abs(model.coef_[0]).max())


def test_more_coefficients_than_one_model_takes(monkeypatch):
    X, y = problem(200, 30, 3)
    whole = SoftmaxRegression(l1=1.0).fit(X, y)
    monkeypatch.setattr("fastmlp.linear.sparse_classes._AT_ONCE", 24)
    parts = SoftmaxRegression(l1=1.0).fit(X, y)
    check_conditions(parts, X, y, 1.0, 0.0)
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=1e-6)


def test_l1_of_weights_units_and_zeros():
    X, y = problem(200, 8)
    w = np.random.default_rng(0).integers(0, 3, 200)
    ours = LogisticRegression(l1=3.0).fit(X, y, w)
    many = LogisticRegression(l1=3.0).fit(np.repeat(X, w, axis=0), np.repeat(y, w))
    np.testing.assert_allclose(ours.coef_, many.coef_, atol=1e-8)
    huge = LogisticRegression(l1=1e6).fit(X, y)
    assert not huge.coef_.any()
    assert huge.intercept_ == pytest.approx(np.log(y.mean() / (1 - y.mean())))
    small = LogisticRegression(l1=1e-9).fit(X, y)
    np.testing.assert_allclose(small.coef_, LogisticRegression().fit(X, y).coef_, atol=1e-6)
    far = X + 1e4
    moved = LogisticRegression(l1=3.0).fit(far, y)
    np.testing.assert_allclose(moved.coef_, LogisticRegression(l1=3.0).fit(X, y).coef_, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_equal_solutions_give_the_smallest_squares(n_classes):
    """Shifting all classes between the two middle coefficients changes neither fit nor l1."""
    X, y = problem(200, 6, n_classes)
    model = SoftmaxRegression(l1=2.0).fit(X, y)
    for row in model.coef_:
        low, high = np.sort(row)[n_classes // 2 - 1 : n_classes // 2 + 1]
        assert low <= 1e-12
        assert high >= -1e-12
        assert abs(np.clip(row.mean(), low, high)) < 1e-12
    assert abs(model.intercept_.sum()) < 1e-9
    if n_classes == 2:
        half = LogisticRegression(l1=2.0).fit(X, y)
        np.testing.assert_allclose(model.coef_[:, 1] - model.coef_[:, 0], half.coef_, atol=1e-7)


@pytest.mark.parametrize("kind", [LogisticRegression, SoftmaxRegression])
def test_l1_is_refused_where_it_cannot_be(kind):
    X, y = problem()
    for settings, match in [
        ({"l1": -1.0}, "l1 must be a finite number >= 0"),
        ({"l1": 1.0, "solver": "lbfgs"}, "solver='lbfgs' has no exact zeros.* use \"newton\""),
        ({"l1": 1.0, "solver": "sgd"}, "solver='sgd' has no exact zeros"),
    ]:
        with pytest.raises(ValueError, match=match):
            kind(**settings).fit(X, y)
    model = LogisticRegression(l1=1.0).fit(X, y)
    assert not hasattr(model, "covariance_")
    assert repr(model) == "LogisticRegression(l1=1.0)"
