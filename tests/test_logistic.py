"""Logistic and softmax regression: statsmodels' digits, derivatives, equivalences, no minimum."""

import sys
import warnings

import numpy as np
import pytest
from helpers import assert_within, inputs

from fastmlp import ConvergenceWarning, LogisticRegression, SoftmaxRegression
from fastmlp.linear.softmax_cost import SoftmaxCost

SIZES, SHIFTS = np.array([1, 100, 0.01, 3]), np.array([0, 1000, 0, 1])


def problem(n_classes=2, rows=400, seed=0, scaled=True):
    """Columns of very different sizes, and labels that no line separates."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, 4))
    z = X @ [1, -1, 0.5, 0] + 0.3 + rng.logistic(size=rows)
    y = np.digitize(z, np.linspace(-1, 1, n_classes - 1) if n_classes > 2 else [0])
    return (X if scaled else X * SIZES + SHIFTS), y


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_logistic_equals_statsmodels(solver, fit_intercept):
    sm = pytest.importorskip("statsmodels.api")
    if solver == "lbfgs":
        pytest.importorskip("scipy")
    X, y = problem(scaled=False)
    model = LogisticRegression(solver=solver, fit_intercept=fit_intercept).fit(X, y)
    A = sm.add_constant(X) if fit_intercept else X
    theirs = sm.Logit(y, A).fit(disp=0, maxiter=100, tol=1e-12)
    first = int(fit_intercept)
    np.testing.assert_allclose(model.coef_, theirs.params[first:], rtol=1e-6)
    assert model.intercept_ == pytest.approx(theirs.params[0] if first else 0, rel=1e-6)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], theirs.predict(A), rtol=1e-6)
    if solver == "newton":
        np.testing.assert_allclose(model.coef_std_, theirs.bse[first:], rtol=1e-6)
        assert model.intercept_std_ == pytest.approx(theirs.bse[0] if first else 0, rel=1e-6)
        np.testing.assert_allclose(model.covariance_, theirs.cov_params(), rtol=1e-6)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("kind", [LogisticRegression, SoftmaxRegression])
def test_columns_far_from_zero_change_the_intercept_alone(kind, solver):
    """To lbfgs they were all but parallel to the ones: it stopped anywhere, without a word."""
    if solver == "lbfgs":
        pytest.importorskip("scipy")
    X, y = problem()
    near, far = (kind(solver=solver).fit(data, y) for data in (X, X + 1e6))
    np.testing.assert_allclose(far.coef_, near.coef_, rtol=1e-6)
    np.testing.assert_allclose(far.predict_proba(X + 1e6), near.predict_proba(X), rtol=1e-6)
    if solver == "newton" and kind is LogisticRegression:
        np.testing.assert_allclose(far.coef_std_, near.coef_std_, rtol=1e-6)
        ones = -1e6 * np.ones(4)  # the intercept there is that here less 1e6 times the coefficients
        variance = near.covariance_[0, 0] + 2 * ones @ near.covariance_[0, 1:]
        variance += ones @ near.covariance_[1:, 1:] @ ones
        assert far.intercept_std_ == pytest.approx(np.sqrt(variance), rel=1e-6)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_softmax_equals_statsmodels(solver, fit_intercept):
    sm = pytest.importorskip("statsmodels.api")
    if solver == "lbfgs":
        pytest.importorskip("scipy")
    X, y = problem(4, scaled=fit_intercept)
    model = SoftmaxRegression(solver=solver, fit_intercept=fit_intercept).fit(X, y)
    A = sm.add_constant(X) if fit_intercept else X
    theirs = sm.MNLogit(y, A).fit(disp=0, maxiter=100, tol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict(A), rtol=1e-6)
    theta = np.vstack([model.intercept_, model.coef_]) if fit_intercept else model.coef_
    np.testing.assert_allclose((theta - theta[:, :1])[:, 1:], theirs.params, rtol=1e-6)
    if solver == "newton":
        odds, std = model.log_odds(0)
        np.testing.assert_allclose(odds[:, 1:], theirs.params, rtol=1e-6)
        np.testing.assert_allclose(std[:, 1:], theirs.bse, rtol=1e-6)
        assert not odds[:, 0].any()
        assert not std[:, 0].any()


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_penalized_equals_scikit_learn(solver):
    sk = pytest.importorskip("sklearn.linear_model")
    for n_classes, kind in ((2, LogisticRegression), (3, SoftmaxRegression)):
        X, y = problem(n_classes)
        model = kind(4.0, solver=solver).fit(X, y)
        theirs = sk.LogisticRegression(C=1 / 4.0, tol=1e-12, max_iter=10_000).fit(X, y)
        coef, intercept = theirs.coef_.T, theirs.intercept_
        if n_classes == 2:
            coef, intercept = coef[:, 0], intercept[0]
        # they stop when a step lowers the mean cost by 64 eps; its curvature is at least l2 / rows
        near = np.sqrt(2 * 64 * np.finfo(float).eps * len(X) / 4)
        np.testing.assert_allclose(model.coef_, coef, atol=near)
        np.testing.assert_allclose(model.intercept_, intercept, atol=near)


@pytest.mark.parametrize("l2", [0.0, 3.0])
def test_two_class_softmax_equals_logistic(l2):
    """The lecture's conclusion; |theta_0|^2 + |theta_1|^2 is half of |theta_1 - theta_0|^2."""
    X, y = problem()
    logistic = LogisticRegression(l2 / 2).fit(X, y)
    softmax = SoftmaxRegression(l2).fit(X, y)
    near = {"rtol": 1e-8, "atol": 1e-8}  # the tol of both
    np.testing.assert_allclose(softmax.coef_[:, 1] - softmax.coef_[:, 0], logistic.coef_, **near)
    apart = softmax.intercept_[1] - softmax.intercept_[0]
    assert apart == pytest.approx(logistic.intercept_, abs=1e-8)
    np.testing.assert_allclose(softmax.predict_proba(X), logistic.predict_proba(X), **near)
    _, std = softmax.log_odds(0)
    np.testing.assert_allclose(std[1:, 1], logistic.coef_std_, **near)


def test_coefficients_of_softmax_sum_to_zero():
    X, y = problem(4)
    for l2 in (0.0, 2.0):
        model = SoftmaxRegression(l2).fit(X, y)
        assert_within(model.coef_.sum(axis=1), np.zeros(4), np.abs(model.coef_).max(), n=4)
        assert_within(model.intercept_.sum(), 0.0, np.abs(model.intercept_).max(), n=4)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_gradient_and_hessian_are_differences_of_the_cost(n_classes, l2):
    X, labels = problem(n_classes, rows=30)
    model = SoftmaxRegression() if n_classes > 2 else LogisticRegression()
    cost = SoftmaxCost(X, labels, model._contrast(np.arange(n_classes)), l2, fit_intercept=True)
    phi = inputs(*cost.zero.shape, seed=5)
    P = cost.probabilities(phi)
    gradient, hessian = cost.gradient(phi, P), cost.hessian(P)
    h = np.finfo(float).eps ** (1 / 3)
    for i in range(phi.size):
        step = np.zeros(phi.size)
        step[i] = h
        step = step.reshape(phi.shape)
        slope = (cost.value(phi + step) - cost.value(phi - step)) / (2 * h)
        assert slope == pytest.approx(gradient.flat[i], abs=h**2 * 100 * cost.value(phi))
        ends = [cost.gradient(p, cost.probabilities(p)).ravel() for p in (phi + step, phi - step)]
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), hessian[:, i], atol=h**2 * 1000)


@pytest.mark.parametrize(("kind", "n_classes"), [(LogisticRegression, 2), (SoftmaxRegression, 3)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_sgd_comes_near_newton(kind, n_classes, fit_intercept):
    X, y = problem(n_classes)
    exact = kind(5.0, fit_intercept=fit_intercept).fit(X, y)
    settings = {"solver": "sgd", "lr": 0.5, "batch_size": 400, "epochs": 400}
    # the whole data as one batch: plain gradient descent, which goes to the same point
    full = kind(5.0, fit_intercept=fit_intercept, **settings).fit(X, y)
    np.testing.assert_allclose(full.coef_, exact.coef_, atol=1e-6)
    np.testing.assert_allclose(full.intercept_, exact.intercept_, atol=1e-6)
    loss = full.history_["loss"]
    assert len(loss) == 400
    assert loss[-1] < loss[0]
    mini = kind(5.0, fit_intercept=fit_intercept, solver="sgd", lr=0.02, seed=3).fit(X, y)
    # mini-batches of 32 wander: the spread of lr / batch_size and the gradient's variance, about 1
    np.testing.assert_allclose(mini.coef_, exact.coef_, atol=4 * np.sqrt(0.02 / 32))
    again = kind(5.0, fit_intercept=fit_intercept, solver="sgd", lr=0.02, seed=3).fit(X, y)
    np.testing.assert_array_equal(mini.coef_, again.coef_)
    plain = kind(5.0, fit_intercept=fit_intercept, momentum=0.0, **settings).fit(X, y)
    np.testing.assert_allclose(plain.coef_, exact.coef_, atol=1e-6)


# ---- no minimum ----------------------------------------------------------------------------------


def quasi_separated():
    """Rows with the flag are all of class 1, the others of both."""
    X, y = problem()
    flag = np.arange(len(X)) % 5 == 0
    return np.column_stack([X, flag]), np.where(flag, 1, y)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_separable_classes_are_refused(solver):
    X, _ = problem()
    with pytest.raises(ValueError, match=r"can be separated.*use l2 > 0"):
        LogisticRegression(solver=solver).fit(X, X[:, 0] > 0)
    with pytest.raises(ValueError, match=r"can be separated.*use l2 > 0"):
        SoftmaxRegression(solver=solver).fit(X[:, :1], np.digitize(X[:, 0], [-1, 1]))
    model = LogisticRegression(1e-3, solver=solver).fit(X, X[:, 0] > 0)
    assert np.mean(model.predict(X) == (X[:, 0] > 0)) > 0.99
    assert np.isfinite(model.coef_).all()


def test_partly_separable_classes_are_refused():
    X, y = quasi_separated()
    mixed = X @ (np.eye(5) + 0.3)  # no column alone separates
    for inputs_ in (X, mixed):
        with pytest.raises(ValueError, match="at least some of the rows"):
            LogisticRegression().fit(inputs_, y)
        assert np.isfinite(LogisticRegression(1e-3).fit(inputs_, y).coef_).all()
    X, y = problem(3)
    X = np.column_stack([X, y == 2])
    with pytest.raises(ValueError, match="at least some of the rows"):
        SoftmaxRegression().fit(X, y)


@pytest.mark.parametrize(
    ("rows", "n_in", "seed"), [(400, 4, 0), (400, 3, 20), (100, 3, 22), (100, 3, 34), (100, 4, 11)]
)
def test_dependent_columns_are_refused_without_a_penalty(rows, n_in, seed):
    """Rounding leaves the later Hessians positive definite: the pivots have to tell."""
    X, y = problem(rows=rows, seed=seed)
    X = X[:, :n_in]
    X = np.column_stack([X, X @ np.random.default_rng(seed).standard_normal(n_in)])
    with pytest.raises(ValueError, match=rf"have the rank {n_in + 1}.*use l2 > 0"):
        LogisticRegression().fit(X, y)
    assert np.isfinite(LogisticRegression(1.0).fit(X, y).coef_).all()
    with pytest.raises(ValueError, match="singular in float64; raise l2"):
        LogisticRegression(1e-30).fit(X, y)


@pytest.mark.parametrize(("seed", "spread"), [(0, 10), (29, 10), (64, 5), (110, 5)])
def test_newton_halves_steps_that_overshoot(seed, spread):
    """With log-normal columns full steps go up and never come back; halved, they arrive."""
    rng = np.random.default_rng(seed)
    X, y = np.exp(spread * rng.standard_normal((24, 3))), rng.integers(0, 2, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegression(1e-4).fit(X, y)
    A = np.column_stack([np.ones(24), X])
    gradient = A.T @ (model.predict_proba(X)[:, 1] - y) + 1e-4 * np.r_[0, model.coef_]
    # the last step moved no logit by more than tol, so the gradient is below tol sum |x| / 4
    assert np.all(np.abs(gradient) <= model.tol * np.abs(A).sum(axis=0) / 4)


def test_too_few_steps_warn():
    X, y = problem(3)
    for solver in ("newton", "lbfgs"):
        with pytest.warns(ConvergenceWarning, match="max_steps=2") as caught:
            SoftmaxRegression(solver=solver, max_steps=2).fit(X, y)
        assert caught[0].filename == __file__


def test_lbfgs_needs_no_scipy(monkeypatch):
    X, y = problem()
    exact = LogisticRegression(1.0, solver="newton").fit(X, y)
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    found = LogisticRegression(1.0, solver="lbfgs").fit(X, y)
    np.testing.assert_allclose(found.coef_, exact.coef_, rtol=1e-6, atol=1e-7)


# ---- labels and inputs ---------------------------------------------------------------------------


def test_another_solver_leaves_nothing_of_the_one_before():
    X, y = problem(3)
    pytest.importorskip("scipy")
    model = SoftmaxRegression().fit(X, y)
    model.log_odds(0)
    model.solver = "lbfgs"
    model.fit(10 * X, y)
    model.solver = "newton"  # the standard errors there were are those of other data
    with pytest.raises(ValueError, match='fit with solver="newton"'):
        model.log_odds(0)
    two = LogisticRegression().fit(X, y > 0)
    two.solver = "sgd"
    two.fit(X, y > 0)
    assert not hasattr(two, "covariance_")
    assert not hasattr(two, "n_steps_")


def test_labels_of_any_kind():
    X, y = problem()
    want = LogisticRegression().fit(X, y)
    for labels in (y == 1, y.astype(float), np.where(y, 7, -3), np.where(y, "yes", "no")):
        model = LogisticRegression().fit(X, labels)
        np.testing.assert_array_equal(model.coef_, want.coef_)
        predicted = model.predict(X)
        assert predicted.dtype == labels.dtype
        np.testing.assert_array_equal(predicted == labels, want.predict(X) == y)
        odds = SoftmaxRegression().fit(X, labels).log_odds(labels[0])
        assert odds[0].shape == (5, 2)


def test_prediction_is_the_boundary():
    """p = 1/2, z = 0, and the change of label are one and the same place."""
    X, y = problem()
    model = LogisticRegression().fit(X, y)
    z = model.decision_function(X)
    assert_within(z, X @ model.coef_ + model.intercept_, n=5, c=16)
    np.testing.assert_array_equal(model.predict(X), (z > 0).astype(int))
    P = model.predict_proba(X)
    assert_within(P[:, 1], 1 / (1 + np.exp(-z)), c=8)
    assert_within(P.sum(axis=1), np.ones(len(X)))
    three = SoftmaxRegression().fit(*problem(3))
    np.testing.assert_array_equal(three.predict(X), three.predict_proba(X).argmax(axis=1))


@pytest.mark.parametrize("kind", [LogisticRegression, SoftmaxRegression])
def test_bad_inputs_are_named(kind):
    X, y = problem()
    for bad_y, match in [
        (y[1:], r"y has the shape \(399,\), expected \(400,\)"),
        (np.eye(2)[y], "one label a row"),
        (y + 0.5, "no whole numbers"),
        (np.where(y, np.nan, 0.0), f"y has missing labels, row {np.argmax(y)}; drop such rows"),
        (np.where(y, np.inf, 0.0), f"y holds infinity at row {np.argmax(y)}"),
        (np.zeros(400), "one class only, 0.0"),
    ]:
        with pytest.raises(ValueError, match=match):
            kind().fit(X, bad_y)
    with pytest.raises(TypeError, match="mixes types"):
        kind().fit(X[:2], np.array(["a", 1], dtype=object))
    with pytest.raises(ValueError, match="X holds NaN"):
        kind().fit(X * np.nan, y)
    with pytest.raises(ValueError, match="call fit first"):
        kind().predict(X)
    model = kind().fit(X, y)
    with pytest.raises(ValueError, match=r"X has 2 columns, but this .* was fitted with 4"):
        model.predict_proba(X[:, :2])
    for settings, match in [
        ({"solver": "irls"}, "solver='irls' is unknown; use one of auto, newton, lbfgs, sgd"),
        ({"l2": -1.0}, "l2 must be a finite number >= 0"),
        ({"tol": 0}, "tol must be a finite number above 0"),
        ({"max_steps": 0}, "max_steps must be an integer >= 1"),
        ({"solver": "sgd", "lr": -1.0}, "lr must be"),
        ({"solver": "sgd", "batch_size": 0}, "batch_size"),
        ({"solver": "sgd", "epochs": 0}, "epochs"),
        ({"solver": "sgd", "momentum": 1.0}, "with 0 <= momentum < 1"),
    ]:
        with pytest.raises(ValueError, match=match):
            kind(**settings).fit(X, y)


def test_classes_must_suit_the_model():
    X, y = problem(3)
    with pytest.raises(ValueError, match="3 classes; use SoftmaxRegression"):
        LogisticRegression().fit(X, y)
    model = SoftmaxRegression().fit(X, y)
    with pytest.raises(ValueError, match="5 is none of the classes"):
        model.log_odds(5)
    with pytest.raises(ValueError, match="need the Hessian"):
        SoftmaxRegression(solver="sgd", l2=1.0).fit(X, y).log_odds(0)


# ---- how near stochastic gradient descent comes --------------------------------------------------


def mean_cost(model, X, y):
    places = np.searchsorted(model.classes_, y)
    own = np.take_along_axis(model.predict_proba(X), places[:, np.newaxis], axis=1)
    return -np.log(own).mean() + model.l2 / 2 * np.sum(model.coef_**2) / len(X)


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("name", ["load_digits", "load_breast_cancer", "load_iris", "load_wine"])
def test_sgd_s_defaults_come_near_the_minimum(name, shift, recwarn):
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = getattr(datasets, name)(return_X_y=True)
    X = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1) + shift
    kind = LogisticRegression if len(np.unique(y)) == 2 else SoftmaxRegression
    best, found = kind(1.0).fit(X, y), kind(1.0, solver="sgd").fit(X, y)
    assert mean_cost(found, X, y) < 1.005 * mean_cost(best, X, y)
    np.testing.assert_allclose(found.predict_proba(X), best.predict_proba(X), atol=0.06)
    assert not recwarn.list


def test_the_distance_to_the_minimum_is_that_of_a_newton_step():
    X, y = problem(3)
    onto = np.linalg.qr(np.c_[np.ones(3), np.eye(3)[:, :2]])[0][:, 1:]
    for cost in (SoftmaxCost(X, y, onto, 2.0, True), SoftmaxCost(X, y, onto, 0.0, False)):
        phi = 0.1 * inputs(cost.zero.size, 1).reshape(cost.zero.shape)
        P = cost.probabilities(phi)
        g = cost.gradient(phi, P).ravel()
        want = g @ np.linalg.solve(cost.hessian(P), g) / 2
        assert cost.distance(phi) == pytest.approx(want, rel=1e-9)
        np.testing.assert_allclose(cost.phi(cost.theta(phi)), phi, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"epochs": 1}, {"lr": 1e-4}, {"lr": 3.0}])
def test_sgd_far_from_the_minimum_says_what_to_do(settings):
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True)
    if settings:
        X = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    model = SoftmaxRegression(1.0, solver="sgd", **settings)
    advice = r'standardize the columns of X.* epochs.* lr.* solver="newton"'
    with pytest.warns(ConvergenceWarning, match=advice) as shown:
        model.fit(X, y)
    assert shown[0].filename == __file__
    assert mean_cost(model, X, y) > 1.02 * mean_cost(SoftmaxRegression(1.0).fit(X, y), X, y)


@pytest.mark.parametrize("l2", [8e3, 1e4])
def test_sgd_that_grows_without_bound_says_so(l2, recwarn):
    """Costs that overflow had passed as near the minimum, or raised OverflowError."""
    X, y = problem(2)
    LogisticRegression(l2, solver="sgd").fit(X, y)
    assert [w.category for w in recwarn] == [ConvergenceWarning]


def test_a_slope_without_a_curvature_is_far_from_the_minimum():
    X, y = problem(2)
    cost = SoftmaxCost(X, y, np.array([[0.0], [1.0]]), 0.0, True)
    assert cost.distance(np.full_like(cost.zero, 1e9)) == np.inf
