"""Polynomial and radial bases against their definitions, one element at a time."""

from itertools import product
from math import comb

import numpy as np
import pytest
from helpers import assert_within, inputs

from fastmlp import LinearRegression, PolynomialBasis, RBFBasis, Ridge


@pytest.mark.parametrize(("n_in", "degree"), [(1, 1), (1, 10), (2, 2), (3, 4), (7, 2), (4, 1)])
@pytest.mark.parametrize("bias", [False, True])
def test_polynomial_holds_every_monomial_once(n_in, degree, bias):
    X = inputs(5, n_in)
    basis = PolynomialBasis(degree, bias=bias)
    phi = basis.fit_transform(X)
    assert phi.shape == (5, basis.n_out_) == (5, comb(n_in + degree, degree) - (not bias))
    every = product(range(degree + 1), repeat=n_in)
    wanted = {powers for powers in every if (0 if bias else 1) <= sum(powers) <= degree}
    assert {tuple(powers) for powers in basis.powers_.tolist()} == wanted
    want = np.prod(X[:, np.newaxis, :] ** basis.powers_, axis=2)
    assert_within(phi, want, np.abs(want), n=degree + n_in)
    degrees = basis.powers_.sum(axis=1)
    assert np.all(np.diff(degrees) >= 0)


def test_polynomial_of_the_lecture():
    """phi(x) = [1, x1, x2, x1^2, x1 x2, x2^2]; the lecture prints the last two the other way."""
    basis = PolynomialBasis(2, bias=True)
    phi = basis.fit_transform([[2.0, 3.0]])
    np.testing.assert_array_equal(phi, [[1, 2, 3, 4, 6, 9]])
    assert basis.names() == ["1", "x1", "x2", "x1^2", "x1 x2", "x2^2"]
    assert basis.names(["a", "b"])[3:] == ["a^2", "a b", "b^2"]


def test_polynomial_leaves_the_ones_to_the_model():
    """With `bias` the column would stand there twice."""
    X = inputs(30, 2)
    y = 3 + X[:, 0] * X[:, 1]
    basis = PolynomialBasis(2)
    model = LinearRegression().fit(basis.fit_transform(X), y)
    assert model.rank_ == basis.n_out_ + 1
    want = np.array([name == "x1 x2" for name in basis.names()], float)
    assert_within(model.coef_, want, n=30, c=16)
    assert_within(model.predict(basis.transform(X)), y, np.abs(y) + 3, n=30, c=16)


def test_rbf_is_its_definition():
    X, centres = inputs(6, 3), inputs(4, 3, seed=1)
    phi = RBFBasis(centres, lam=0.7).fit(X).transform(X)
    want = [[np.exp(-np.sum((x - mu) ** 2) / 0.7) for mu in centres] for x in X]
    assert phi.shape == (6, 4)
    assert_within(phi, np.array(want), c=8)
    with_bias = RBFBasis(centres, lam=0.7, bias=True).fit_transform(X)
    np.testing.assert_array_equal(with_bias, np.column_stack([np.ones(6), phi]))


def test_rbf_of_the_lecture():
    """lambda = 1 and centres 1, 2, 4 at x = 3."""
    phi = RBFBasis([[1.0], [2.0], [4.0]], bias=True).fit_transform([[3.0]])
    assert_within(phi, np.array([[1, np.exp(-4.0), np.exp(-1.0), np.exp(-1.0)]]))


def test_rbf_centres_default_to_the_training_points():
    X = inputs(8, 2)
    basis = RBFBasis(lam=2.0).fit(X)
    np.testing.assert_array_equal(basis.centers_, X)
    phi = basis.transform(X)
    np.testing.assert_array_equal(np.diagonal(phi), np.ones(8))
    np.testing.assert_array_equal(phi, phi.T)
    X[0] += 1
    assert not np.array_equal(basis.centers_, X)  # a copy


def test_rbf_far_from_the_origin_keeps_its_digits():
    """|x|^2 - 2 x mu + |mu|^2 would leave nothing of a distance of 1 at 1e9."""
    X = np.array([[1e9], [1e9 + 1]])
    phi = RBFBasis(X).fit_transform(X)
    assert_within(phi, np.array([[1, np.exp(-1.0)], [np.exp(-1.0), 1]]))


def test_rbf_with_ridge_fits_a_curve():
    x = np.linspace(0, 6, 60)[:, np.newaxis]
    y = np.sin(x[:, 0])
    basis = RBFBasis(lam=1.0)
    model = Ridge(1e-6).fit(basis.fit_transform(x), y)
    between = np.linspace(0.05, 5.95, 37)[:, np.newaxis]
    error = np.abs(model.predict(basis.transform(between)) - np.sin(between[:, 0]))
    line = LinearRegression().fit(x, y).predict(between) - np.sin(between[:, 0])
    assert error.max() < np.abs(line).max() / 100


@pytest.mark.parametrize("basis", [PolynomialBasis(2), RBFBasis([[0.0, 0.0]])])
def test_bad_inputs_are_named(basis):
    X = inputs(4, 2)
    with pytest.raises(ValueError, match="call fit first"):
        type(basis)().transform(X)
    basis.fit(X)
    with pytest.raises(ValueError, match=r"3 columns.*fitted with 2"):
        basis.transform(inputs(4, 3))
    X[1, 1] = np.nan
    for call in (basis.fit, basis.transform):
        with pytest.raises(ValueError, match="NaN at row 1, column 1"):
            call(X)
    with pytest.raises(ValueError, match="expected 2"):
        basis.fit(X[:, 0])
    with pytest.raises(TypeError, match=r"objects that are not numbers|numbers are needed"):
        basis.fit([["a", "b"]])


def test_bad_settings_are_named():
    X = inputs(4, 2)
    for degree in (0, 1.5, True, "2"):
        with pytest.raises(ValueError, match="degree must be an integer >= 1"):
            PolynomialBasis(degree).fit(X)
    with pytest.raises(ValueError, match="lower the degree"):
        PolynomialBasis(30).fit(inputs(1, 30))
    with pytest.raises(ValueError, match="overflows float64; scale X down"):
        PolynomialBasis(3).fit_transform(X * 1e150)
    with pytest.raises(ValueError, match="3 names were given for 2 inputs"):
        PolynomialBasis(2).fit(X).names(["a", "b", "c"])
    for lam in (0, -1.0, np.inf, np.nan, None):
        with pytest.raises(ValueError, match="lam must be"):
            RBFBasis(lam=lam).fit(X)
    with pytest.raises(ValueError, match="centers have 3 columns, but X has 2"):
        RBFBasis(inputs(2, 3)).fit(X)
    with pytest.raises(ValueError, match="centers holds infinity"):
        RBFBasis([[np.inf, 0.0]]).fit(X)
