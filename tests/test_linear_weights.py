"""Weights of rows in the linear models: rows repeated, rows left out, statsmodels, scikit-learn."""

import numpy as np
import pytest
from helpers import assert_within

from fastmlp import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SoftmaxRegression,
    lasso_path,
)

SOLVERS = ["qr", "svd", "normal"]
REGRESSIONS = {
    **{solver: lambda s=solver: LinearRegression(solver=s) for solver in SOLVERS},
    "no intercept": lambda: LinearRegression(fit_intercept=False),
    "ridge": lambda: Ridge(2.0),
    "ridge, intercept penalized": lambda: Ridge(2.0, penalize_intercept=True),
    "ridge, wide": lambda: Ridge(20.0),
    "lasso": lambda: Lasso(5.0),
    "elastic net": lambda: ElasticNet(3.0, 2.0),
    "lasso without intercept": lambda: Lasso(5.0, fit_intercept=False),
}
CLASSIFIERS = {
    "logistic": lambda **how: LogisticRegression(**how),
    "softmax": lambda **how: SoftmaxRegression(**how),
}
each_regression = pytest.mark.parametrize("name", REGRESSIONS)
each_classifier = pytest.mark.parametrize("name", CLASSIFIERS)


def data(rng, rows=40, n_in=4):
    X = rng.standard_normal((rows, n_in)) + 1
    y = X @ np.arange(1, n_in + 1) + rng.standard_normal(rows)
    return X, y, rng.integers(0, 4, rows)


def labels_of(name, X, rng):
    """Classes that overlap, so that a maximum of the likelihood exists."""
    noise = rng.logistic(size=len(X))
    z = X[:, 0] - X[:, 1] + 2 * noise
    return (z > 0).astype(int) if name == "logistic" else np.digitize(z, [-1.5, 1.5])


def learned(model):
    return np.r_[np.ravel(model.intercept_), np.ravel(model.coef_)]


@each_regression
def test_whole_weights_are_repeated_rows(name, rng):
    X, y, w = data(rng, *((25, 40) if "wide" in name else ()))
    ours = REGRESSIONS[name]().fit(X, y, w)
    repeated = REGRESSIONS[name]().fit(np.repeat(X, w, axis=0), np.repeat(y, w))
    np.testing.assert_allclose(learned(ours), learned(repeated), rtol=1e-9, atol=1e-11)


@each_regression
def test_weight_0_leaves_a_row_out_and_weight_1_changes_nothing(name, rng):
    X, y, _ = data(rng)
    Y = np.column_stack([y, -(y**2)])
    w = (rng.random(40) < 0.7).astype(float)
    ours = REGRESSIONS[name]().fit(X, Y, w)
    without = REGRESSIONS[name]().fit(X[w > 0], Y[w > 0])
    assert_within(learned(ours), learned(without), n=160, c=64)
    ones, plain = REGRESSIONS[name]().fit(X, Y, np.ones(40)), REGRESSIONS[name]().fit(X, Y)
    assert_within(learned(ones), learned(plain), n=160, c=64)
    if isinstance(ours, LinearRegression):
        for key in ("sigma_ml_", "residual_std_", "coef_std_", "covariance_"):
            assert_within(getattr(ours, key), getattr(without, key), n=160, c=64)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares_are_those_of_statsmodels(solver, fit_intercept, rng):
    sm = pytest.importorskip("statsmodels.api")
    X, y, _ = data(rng)
    w = rng.exponential(size=40)
    model = LinearRegression(solver=solver, fit_intercept=fit_intercept).fit(X, y, w)
    A = sm.add_constant(X) if fit_intercept else X
    theirs = sm.WLS(y, A, weights=w).fit()
    first = int(fit_intercept)
    std = np.r_[model.intercept_std_, model.coef_std_][1 - first :]
    near = {"rtol": 1e-10, "atol": 0}
    np.testing.assert_allclose(learned(model)[1 - first :], theirs.params, **near)
    np.testing.assert_allclose(std, theirs.bse, **near)
    np.testing.assert_allclose(model.covariance_, theirs.cov_params(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(model.residual_std_**2, theirs.scale, **near)
    r = y - model.predict(X)
    assert model.sigma_ml_ == pytest.approx(np.sqrt(np.mean(w * r**2)), rel=1e-12)
    new = X[:3] + 1
    _, spread = model.predict(new, return_std=True)
    prediction = theirs.get_prediction(sm.add_constant(new, has_constant="add") if first else new)
    np.testing.assert_allclose(spread, prediction.se_obs, **near)


def test_weighted_least_squares_of_dependent_columns_have_minimum_norm(rng):
    X, y, _ = data(rng)
    X = np.column_stack([X, X[:, 0]])
    w = rng.exponential(size=40)
    model = LinearRegression(solver="svd").fit(X, y, w)
    assert model.rank_ == 5
    np.testing.assert_allclose(model.coef_[0], model.coef_[-1], rtol=1e-10)
    r = y - model.predict(X)
    assert np.max(np.abs(np.column_stack([np.ones(40), X]).T @ (w * r))) < 1e-11
    assert_within(model.sigma_ml_, np.sqrt(np.mean(w * r**2)), n=160, c=16)


@pytest.mark.parametrize("l2", [0.0, 2.0])
def test_penalized_models_are_scikit_learns(l2, rng):
    sk = pytest.importorskip("sklearn.linear_model")
    X, y, _ = data(rng)
    w = rng.exponential(size=40)
    ridge = Ridge(l2 + 1).fit(X, y, w)
    theirs = sk.Ridge(l2 + 1).fit(X, y, w)
    np.testing.assert_allclose(ridge.coef_, theirs.coef_, rtol=1e-9)
    assert ridge.intercept_ == pytest.approx(theirs.intercept_, rel=1e-9)
    l1 = 8.0
    ours = ElasticNet(l1, l2).fit(X, y, w)
    total = l1 + l2
    net = sk.ElasticNet(total / w.sum(), l1_ratio=l1 / total, tol=1e-14, max_iter=10**6)
    net.fit(X, y, sample_weight=w)
    np.testing.assert_allclose(ours.coef_, net.coef_, rtol=1e-8, atol=1e-9)
    assert ours.intercept_ == pytest.approx(net.intercept_, rel=1e-8)
    _, coefs, intercepts = lasso_path(X, y, l1s=[30.0, l1], l2=l2, sample_weight=w)
    np.testing.assert_allclose(coefs[:, 1], ours.coef_, rtol=1e-9, atol=1e-11)
    assert intercepts[1] == pytest.approx(ours.intercept_, rel=1e-9)


@each_classifier
@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_whole_weights_are_repeated_rows_for_classifiers(name, solver, l2, rng):
    X, _, w = data(rng, 200)
    y = labels_of(name, X, rng)
    how = {"solver": solver, "l2": l2}
    ours = CLASSIFIERS[name](**how).fit(X, y, w)
    repeated = CLASSIFIERS[name](**how).fit(np.repeat(X, w, axis=0), np.repeat(y, w))
    near = 1e-8 if solver == "newton" else 1e-4
    np.testing.assert_allclose(learned(ours), learned(repeated), rtol=near, atol=near)
    if name == "logistic" and solver == "newton":
        np.testing.assert_allclose(ours.coef_std_, repeated.coef_std_, rtol=1e-8)


@each_classifier
@pytest.mark.parametrize("solver", ["newton", "lbfgs", "sgd"])
def test_weight_0_leaves_a_row_out_for_classifiers(name, solver, rng):
    """A class of which no row counts is none."""
    X, _, _ = data(rng, 200)
    y = labels_of(name, X, rng)
    w = (rng.random(200) < 0.7).astype(float)
    names = np.array(["no", "so", "yes"])[y]
    names[w == 0] = "other"
    how = {"solver": solver, "l2": 0.1, "epochs": 3}
    ours = CLASSIFIERS[name](**how).fit(X, names, w)
    without = CLASSIFIERS[name](**how).fit(X[w > 0], names[w > 0])
    np.testing.assert_array_equal(ours.classes_, without.classes_)
    assert_within(learned(ours), learned(without), n=1000, c=64)


def test_logistic_weights_are_statsmodels_frequencies(rng):
    sm = pytest.importorskip("statsmodels.api")
    X, _, w = data(rng, 200)
    y = labels_of("logistic", X, rng)
    model = LogisticRegression().fit(X, y, w)
    theirs = sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial(), freq_weights=w)
    theirs = theirs.fit(tol=1e-14)
    np.testing.assert_allclose(learned(model), theirs.params, rtol=1e-7)
    np.testing.assert_allclose(np.r_[model.intercept_std_, model.coef_std_], theirs.bse, rtol=1e-7)


@each_classifier
@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0}, {1: 0.25, 0: 2}])
@pytest.mark.parametrize("with_rows", [False, True])
def test_class_weights_are_scikit_learns(name, class_weight, with_rows, rng):
    sk = pytest.importorskip("sklearn.linear_model")
    X, _, _ = data(rng, 200)
    y = labels_of(name, X, rng)
    w = rng.exponential(size=200) if with_rows else None
    if with_rows and class_weight == "balanced":  # older ones count rows
        own = {c: w.sum() / (len(set(y)) * w[y == c].sum()) for c in set(y)}
    else:
        own = class_weight
    ours = CLASSIFIERS[name](l2=0.5, class_weight=class_weight).fit(X, y, w)
    theirs = sk.LogisticRegression(C=2.0, tol=1e-12, max_iter=10_000, class_weight=own)
    theirs.fit(X, y, sample_weight=w)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-6)


@each_classifier
def test_sgd_does_not_depend_on_the_unit_of_the_weights(name, rng):
    """Weights and l2 times 1,000 are the same problem, not steps that are 1,000 times as long."""
    X, _, w = data(rng, 200)
    y = labels_of(name, X, rng)
    one, many = (CLASSIFIERS[name](l2=unit, solver="sgd").fit(X, y, unit * w) for unit in (1, 1000))
    np.testing.assert_allclose(learned(many), learned(one), rtol=1e-9)


def test_sgd_takes_the_weights(rng):
    X, _, _ = data(rng, 300)
    y = labels_of("logistic", X, rng)
    w = np.where(y == 1, 4.0, 0.5)
    how = {"l2": 1.0, "class_weight": {0: 2.0}}
    best = LogisticRegression(**how).fit(X, y, w)
    sgd = LogisticRegression(solver="sgd", lr=0.02, epochs=300, **how).fit(X, y, w)
    np.testing.assert_allclose(learned(sgd), learned(best), atol=0.1)
    plain = LogisticRegression(l2=1.0).fit(X, y)
    assert abs(plain.intercept_ - best.intercept_) > 0.5


def test_bad_weights_are_refused_and_leave_the_model_alone(rng):
    X, y, _ = data(rng)
    labels = (y > np.median(y)).astype(int)
    fits = [
        LinearRegression(),
        Ridge(),
        Lasso(),
        LogisticRegression(l2=1.0),
        SoftmaxRegression(1.0),
    ]
    for model in fits:
        target = labels if hasattr(model, "class_weight") else y
        before = learned(model.fit(X, target))
        for bad, match in [
            (np.ones(39), r"sample_weight has the shape \(39,\), expected \(40,\)"),
            (-np.ones(40), "weights are >= 0"),
            (np.full(40, np.nan), "sample_weight holds NaN"),
            (np.zeros(40), "sample_weight is 0 for every row"),
        ]:
            with pytest.raises(ValueError, match=match):
                model.fit(X, target, bad)
        np.testing.assert_array_equal(learned(model), before)
    for bad, match in [
        ("even", "class_weight='even' is unknown"),
        ({2: 1.0}, r"class_weight names 2, but y holds \[0, 1\]"),
        ({1: 0.0}, "class_weight of 1 must be a finite number above 0"),
        ({1: "much"}, "class_weight of 1 must be a finite number"),
    ]:
        with pytest.raises(ValueError, match=match):
            LogisticRegression(class_weight=bad).fit(X, labels)
    with pytest.raises(ValueError, match="y holds one class only"):
        LogisticRegression().fit(X, labels, labels)
