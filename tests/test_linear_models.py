"""Linear and ridge regression: NIST's certified digits, the textbook's formulas, scikit-learn."""

import inspect
import tracemalloc
import warnings

import mpmath
import nist_strd
import numpy as np
import pytest
from helpers import assert_within, inputs, rounding

import fastmlp
from fastmlp import LinearRegression, PolynomialBasis, Ridge
from fastmlp.linear import least_squares
from fastmlp.linear import regression as linear_models
from fastmlp.linear.least_squares import power_of_two_norms

WANTED_DIGITS = {"Filip": 7}  # the others 8


def digits(got, want, size=1.0) -> float:
    """Correct digits of the worst element: -log10 of its relative error, of the error over `size`
    where the certified value is 0."""
    got, want = np.atleast_1d(got), np.atleast_1d(want)
    assert got.shape == want.shape
    error = np.max(np.abs(got - want) / np.where(want == 0, size, np.abs(want)))
    return 16.0 if error == 0 else -float(np.log10(error))


def fitted(data, solver="qr"):
    """The model of a NIST set, its theta and the standard errors of theta, intercept first."""
    X, y = data.arrays()
    X = PolynomialBasis(data.degree).fit_transform(X)
    model = LinearRegression(solver=solver, fit_intercept=data.intercept).fit(X, y)
    if not data.intercept:
        return model, model.coef_, model.coef_std_
    return model, np.r_[model.intercept_, model.coef_], np.r_[model.intercept_std_, model.coef_std_]


def each_set(test):
    return pytest.mark.parametrize("data", nist_strd.SETS, ids=lambda data: data.name)(test)


@each_set
def test_nist_data_give_the_certified_values(data):
    """Solved in 60 digits from the decimals, they must agree to the 15 digits printed."""
    with mpmath.workdps(60):
        y = mpmath.matrix(data.y)
        columns = [[mpmath.mpf(v) for v in column] for column in data.columns]
        columns = columns if data.degree == 1 else [
            [v**k for v in columns[0]] for k in range(1, data.degree + 1)
        ]  # fmt: skip
        if data.intercept:
            columns.insert(0, [mpmath.mpf(1)] * len(y))
        A = mpmath.matrix(columns).T
        inverse = (A.T * A) ** -1
        theta = inverse * (A.T * y)
        r = y - A * theta
        s = mpmath.sqrt((r.T * r)[0] / (A.rows - A.cols))
        std = [s * mpmath.sqrt(inverse[j, j]) for j in range(A.cols)]
        theta, std, s = [float(v) for v in theta], [float(v) for v in std], float(s)
    assert digits(theta, data.coef) > 14
    assert digits(std, data.coef_std) > 14
    assert digits(s, data.residual_std) > 14


@each_set
def test_certified_digits(data):
    model, theta, std = fitted(data)
    wanted = WANTED_DIGITS.get(data.name, 8)
    size = float(np.abs([float(v) for v in data.y]).max())
    assert digits(theta, data.coef) >= wanted
    assert digits(std, data.coef_std, size) >= wanted
    assert digits(model.residual_std_, data.residual_std, size) >= wanted
    assert model.rank_ == len(data.coef)


def test_svd_solves_longley_and_filip():
    for data, wanted in ((nist_strd.LONGLEY, 8), (nist_strd.FILIP, 7)):
        _, theta, std = fitted(data, "svd")
        assert digits(theta, data.coef) >= wanted
        assert digits(std, data.coef_std) >= wanted


def test_normal_equations_lose_digits():
    """Their condition number is the square: half the digits of Longley, all of Filip."""
    qr, normal = (fitted(nist_strd.LONGLEY, solver)[1] for solver in ("qr", "normal"))
    certified = nist_strd.LONGLEY.coef
    assert digits(normal, certified) < 9 < digits(qr, certified) - 3
    assert digits(normal, certified) > 4  # it is the lecture's formula all the same
    with pytest.raises(ValueError, match='singular in float64; use solver="qr"'):
        fitted(nist_strd.FILIP, "normal")


@pytest.mark.parametrize("solver", ["qr", "svd", "normal"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_out", [None, 1, 3])
def test_regression_is_the_textbooks(solver, fit_intercept, n_out, rng):
    """theta = (X^T X)^-1 X^T y, sigma_ML, s^2 (X^T X)^-1 and s sqrt(1 + x (X^T X)^-1 x^T)."""
    rows, n_in = 40, 4
    X = rng.standard_normal((rows, n_in)) + 1
    y = rng.standard_normal((rows, n_out or 1)) + X[:, :1]
    y = y[:, 0] if n_out is None else y
    model = LinearRegression(solver=solver, fit_intercept=fit_intercept).fit(X, y)
    A = np.column_stack([np.ones(rows), X]) if fit_intercept else X
    inverse = np.linalg.inv(A.T @ A)
    theta = inverse @ A.T @ y
    r = y - A @ theta
    near = {"n": rows * A.shape[1], "c": 16}
    first = int(fit_intercept)
    assert_within(model.coef_, theta[first:], **near)
    assert_within(model.intercept_, theta[0] if first else np.zeros(theta.shape[1:]), **near)
    assert_within(model.sigma_ml_, np.sqrt(np.mean(r**2, axis=0)), **near)
    s = np.sqrt(np.sum(r**2, axis=0) / (rows - A.shape[1]))
    assert_within(model.residual_std_, s, **near)
    covariance = np.multiply.outer(s**2, inverse)
    assert_within(model.covariance_, covariance, **near)
    std = np.sqrt(np.multiply.outer(inverse.diagonal(), s**2))
    assert_within(model.coef_std_, std[first:], **near)
    assert_within(model.intercept_std_, std[0] if first else np.zeros(theta.shape[1:]), **near)

    new = rng.standard_normal((7, n_in))
    new_A = np.column_stack([np.ones(7), new]) if fit_intercept else new
    mean, spread = model.predict(new, return_std=True)
    assert_within(mean, new_A @ theta, **near)
    growth = np.array([np.sqrt(1 + a @ inverse @ a) for a in new_A])
    assert_within(spread, np.multiply.outer(growth, s), **near)
    np.testing.assert_array_equal(mean, model.predict(new))


def test_predictive_deviation_covers_new_observations(rng):
    """Of new y, 94.3 % lie within 1.96 deviations, though the line is uncertain here."""
    inside, total = 0, 0
    for _ in range(200):
        X = rng.standard_normal((60, 20))
        model = LinearRegression().fit(X, X.sum(axis=1) + rng.standard_normal(60))
        new = rng.standard_normal((50, 20))
        mean, std = model.predict(new, return_std=True)
        y = new.sum(axis=1) + rng.standard_normal(50)
        inside, total = inside + int(np.sum(np.abs(y - mean) < 1.96 * std)), total + 50
    # Student's t with 39 degrees of freedom has 94.3 % there; 10,000 draws leave a deviation of
    # 0.23 %, of somewhat more as each 50 share a fit
    assert abs(inside / total - 0.943) < 0.01


def test_one_output_of_many_is_the_fit_alone():
    X, Y = inputs(30, 3), inputs(30, 2, seed=1)
    both = LinearRegression().fit(X, Y)
    for k in range(2):
        one = LinearRegression().fit(X, Y[:, k])
        assert_within(both.coef_[:, k], one.coef_, n=30)
        assert_within(both.covariance_[k], one.covariance_, n=30)
        assert isinstance(one.intercept_, float)
        assert isinstance(one.sigma_ml_, float)


def test_columns_of_any_size():
    """Scaling a column by a power of two scales its coefficient and nothing else."""
    X, y = inputs(30, 4), inputs(30, 1, seed=1)[:, 0]
    scale = 2.0 ** np.array([-400, 0, 3, 400])
    want, got = LinearRegression().fit(X, y), LinearRegression().fit(X * scale, y)
    np.testing.assert_array_equal(got.coef_ * scale, want.coef_)
    assert got.residual_std_ == want.residual_std_
    A = np.column_stack([X * scale, np.zeros(30)])
    powers = power_of_two_norms(A)
    assert powers[-1] == 1
    norms = np.linalg.norm(X, axis=0)
    assert np.all((powers[:-1] / scale > norms / 1.0001) & (powers[:-1] / scale <= 2 * norms))
    np.testing.assert_array_equal(np.frexp(powers)[0], 0.5)


@pytest.mark.parametrize("rows", [4095, 4096, 4097, 9000])
@pytest.mark.parametrize("p", [1, 9, 128])
def test_tall_matrices_are_factored_by_blocks(rows, p, rng):
    A = rng.standard_normal((rows, p)) * 10.0 ** rng.integers(-6, 6, p)
    Q, R = least_squares._qr(A)
    np.testing.assert_allclose(Q.T @ Q, np.eye(p), atol=rounding(float, rows, 8))
    near = rounding(float, rows, 8) * np.linalg.norm(A, axis=0)
    assert np.all(np.abs(Q @ R - A) <= near)
    assert not np.tril(R, -1).any()


def test_tall_and_ill_conditioned_data_keep_their_digits(rng):
    t = rng.random(20_000)
    X = np.stack([t**k for k in range(1, 8)], axis=1)
    theta = np.arange(1.0, 9.0)
    y = theta[0] + X @ theta[1:]
    model = LinearRegression().fit(X, y)
    assert model.rank_ == 8
    np.testing.assert_allclose(model.coef_, theta[1:], rtol=1e-9)


# ---- dependent columns ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20, 6), (5, 9)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_dependent_columns_give_the_minimum_norm(shape, fit_intercept, rng):
    X = rng.standard_normal(shape)
    X[:, -1] = X[:, 0] - 2 * X[:, 1]
    X[:, 2] = 0.1  # with an intercept, a constant column is one more that depends
    y = rng.standard_normal(len(X))
    with pytest.warns(np.exceptions.RankWarning, match='solver="svd"') as caught:
        model = LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svd = LinearRegression(solver="svd", fit_intercept=fit_intercept).fit(X, y)
    np.testing.assert_array_equal(svd.coef_, model.coef_)
    shift, y_shift = (X.mean(axis=0), y.mean()) if fit_intercept else (0, 0)
    centered = X - shift
    if fit_intercept:
        centered[:, 2] = 0
    want = np.linalg.pinv(centered) @ (y - y_shift)
    assert_within(model.coef_, want, n=len(X), c=64)
    assert model.rank_ == 5  # 4 centered columns and the ones; 5 columns; or 5 rows


def test_minimum_norm_is_the_limit_of_ridge(rng):
    X = rng.standard_normal((20, 3))
    X, y = np.column_stack([X, 100 * X[:, 0]]), rng.standard_normal(20)
    limit = LinearRegression(solver="svd").fit(X, y)
    l2 = 1e-6
    near = Ridge(l2).fit(X, y)
    # the smallest curvature that counts is about 20, so l2 moves the coefficients by about l2 / 20
    np.testing.assert_allclose(near.coef_, limit.coef_, rtol=l2, atol=l2)
    np.testing.assert_allclose(
        Ridge(0.0).fit(X, y).coef_, limit.coef_, rtol=rounding(float, 20, 64)
    )


def test_dependent_columns_keep_their_standard_errors(rng):
    """What the fit predicts does not depend on a column that repeats another."""
    X, y, new = rng.standard_normal((20, 3)), rng.standard_normal(20), rng.standard_normal((6, 3))
    once = LinearRegression().fit(X, y)
    twice = LinearRegression(solver="svd").fit(np.column_stack([X, X]), y)
    got = twice.predict(np.column_stack([new, new]), return_std=True)
    for a, b in zip(got, once.predict(new, return_std=True), strict=True):
        assert_within(a, b, n=20, c=64)
    assert_within(twice.residual_std_, once.residual_std_, n=20, c=64)


def test_no_deviation_from_as_many_rows_as_parameters():
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    assert np.isnan(model.residual_std_)
    assert model.coef_ == pytest.approx([2.0])
    with pytest.raises(ValueError, match="fit with more rows"):
        model.predict([[2.0]], return_std=True)


def test_a_constant_column_is_seen_where_its_mean_is_rounded():
    """0.1 has no exact mean: what is left of such a column must not count as a direction."""
    X = np.column_stack([np.full(7, 0.1), np.arange(7.0)])
    model = LinearRegression(solver="svd").fit(X, 2 * np.arange(7.0))
    assert model.rank_ == 2
    assert_within(model.coef_, [0.0, 2.0], n=7)


# ---- ridge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 5), (6, 20), (8, 8)])
@pytest.mark.parametrize("l2", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("intercept", ["free", "penalized", "none"])
def test_ridge_is_the_closed_form(shape, l2, intercept, rng):
    """(X^T X + delta^2 D)^-1 X^T y, D = I but for a free intercept."""
    X, Y = rng.standard_normal(shape) + 0.5, rng.standard_normal((shape[0], 2)) + 3
    model = Ridge(
        l2, fit_intercept=intercept != "none", penalize_intercept=intercept == "penalized"
    ).fit(X, Y)
    A = X if intercept == "none" else np.column_stack([np.ones(len(X)), X])
    D = np.eye(A.shape[1])
    if intercept == "free":
        D[0, 0] = 0
    H = A.T @ A + l2 * D
    theta = np.linalg.solve(H, A.T @ Y)
    first = int(intercept != "none")
    scale = np.abs(theta).max() * np.linalg.cond(H)  # the closed form loses the digits
    assert_within(model.coef_, theta[first:], scale, n=X.size)
    assert_within(model.intercept_, theta[0] if first else np.zeros(2), scale, n=X.size)


@pytest.mark.parametrize("shape", [(50, 6), (10, 40)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_ridge_equals_scikit_learn(shape, fit_intercept, rng):
    sk = pytest.importorskip("sklearn.linear_model")
    X, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
    ours = Ridge(2.5, fit_intercept=fit_intercept).fit(X, y)
    theirs = sk.Ridge(2.5, fit_intercept=fit_intercept, solver="svd").fit(X, y)
    assert_within(ours.coef_, theirs.coef_, n=X.size)
    assert_within(ours.intercept_, theirs.intercept_, n=X.size)
    assert_within(ours.predict(X), theirs.predict(X), n=X.size)


def test_ridge_of_many_columns_needs_no_square_of_them():
    X, y = inputs(4, 3000), np.arange(4.0)
    tracemalloc.start()
    Ridge(1.0).fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000**2 * 8 / 10


def test_ridge_shrinks_the_intercept_only_if_asked():
    X, y = inputs(20, 2), np.full(20, 5.0)
    assert Ridge(10.0).fit(X, y).intercept_ == pytest.approx(5.0)
    X -= X.mean(axis=0)
    shrunk = Ridge(10.0, penalize_intercept=True).fit(X, y).intercept_
    assert shrunk == pytest.approx(5.0 * 20 / (20 + 10))


# ---- what both share -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", [LinearRegression(), Ridge()], ids=repr)
def test_bad_inputs_are_named(model):
    X, y = inputs(8, 3), inputs(8, 1)[:, 0]
    with pytest.raises(ValueError, match="not fitted yet; call fit first"):
        type(model)().predict(X)
    for bad, match in [
        (np.where(np.arange(24).reshape(8, 3) == 7, np.nan, X), "X holds NaN at row 2, column 1"),
        (np.where(np.arange(24).reshape(8, 3) == 7, np.inf, X), "X holds infinity"),
        (X[:, 0], r"reshape\(-1, 1\)"),
        (X[:0], "X is empty"),
        (X[:7], "y has 8 rows but X has 7"),
    ]:
        with pytest.raises(ValueError, match=match):
            model.fit(bad, y)
    for bad, match in [
        (np.where(np.arange(8) == 3, np.nan, y), "y holds NaN at row 3"),
        (y[:, np.newaxis, np.newaxis], "y has the shape"),
        (3.0, "y has the shape"),
    ]:
        with pytest.raises(ValueError, match=match):
            model.fit(X, bad)
    with pytest.raises(TypeError, match="y has the type"):
        model.fit(X, ["a"] * 8)
    model.fit(X, y)
    with pytest.raises(ValueError, match=r"X has 2 columns, but this .* was fitted with 3"):
        model.predict(X[:, :2])
    with pytest.raises(ValueError, match="X holds NaN"):
        model.predict(X * np.nan)


def test_bad_settings_are_named():
    X, y = inputs(8, 3), inputs(8, 1)
    with pytest.raises(ValueError, match="solver='QR' is unknown; use one of qr, svd, normal"):
        LinearRegression(solver="QR").fit(X, y)
    for l2 in (-1, np.nan, np.inf, "1", True, None):
        with pytest.raises(ValueError, match="l2 must be a finite number >= 0"):
            Ridge(l2).fit(X, y)


def test_inputs_of_other_types_are_converted_and_left_alone():
    X, y = inputs(12, 2, "float32"), np.arange(12)
    before = X.copy(), y.copy()
    model = LinearRegression().fit(X, y)
    want = LinearRegression().fit(X.astype(float), y.astype(float))
    np.testing.assert_array_equal(model.coef_, want.coef_)
    assert model.predict(X).dtype == np.float64
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])


ESTIMATORS = [
    value
    for value in vars(fastmlp).values()
    if inspect.isclass(value) and issubclass(value, linear_models.Estimator)
]


@pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)
def test_constructors_store_their_arguments_untouched(kind):
    """What scikit-learn's clone relies on: no conversion, no check, nothing else."""
    names = list(inspect.signature(kind).parameters)
    given = {name: object() for name in names}
    assert vars(kind(**given)) == given
    changed = kind(**{names[0]: "x"})
    assert repr(changed) == f"{kind.__name__}({names[0]}='x')"
    assert repr(kind()) == f"{kind.__name__}()"


def test_every_estimator_is_exported():
    assert len(ESTIMATORS) == 8
    assert {kind.__name__ for kind in ESTIMATORS} <= set(fastmlp.__all__)


@pytest.mark.filterwarnings("ignore:overflow")  # of the covariance, which is beyond float64 here
@pytest.mark.parametrize("solver", ["qr", "svd", "normal"])
@pytest.mark.parametrize("size", [1e-160, 1e100, 1e200])
def test_columns_of_any_size_are_fitted(solver, size):
    """Their squares overflow beyond 1e154."""
    X = inputs(50, 3)
    model, y = LinearRegression(solver=solver), X @ [1.0, 2.0, 3.0] + 4
    model.fit(size * X, y)
    np.testing.assert_allclose(model.predict(size * X), y, rtol=1e-10, atol=1e-12)
