"""Losses against their twins, at every size and at the far ends of the line."""

import numpy as np
import pytest
import reference
from helpers import DTYPES, LOSSES, assert_within, inputs, loss_function, rounding, targets
from hypothesis import given
from hypothesis import strategies as st

import fastmlp
from fastmlp import _core

sizes = st.integers(1, 70)


def test_every_registered_loss_has_a_twin():
    assert set(_core.LOSSES) == set(reference.LOSSES)
    assert set(_core.LOSSES) <= set(fastmlp.__all__)


def check_loss(name, z, y, c=8):
    """The loss within c roundings of its size and of what is rounded on the way to it: the sum of
    exponentials, which is at least 1, or the product y z. dz within c roundings of its bound."""
    before = z.copy()
    value, dz = loss_function(name)(z, y)
    z64, y64 = z.astype(float), y if name == "cross_entropy" else y.astype(float)
    want, want_dz = reference.LOSSES[name](z64, y64)
    terms = z.shape[1]  # along a row; rows are summed in double
    if name == "cross_entropy":
        passed, bound = 1.0, 1 / len(z)
    elif name == "binary_cross_entropy":
        passed, bound = np.mean(np.abs(y64 * z64)), 1 / z.size
    else:
        passed, bound = 0.0, 2 * np.abs(z64 - y64) / z.size
    assert isinstance(value, float)
    assert abs(value - want) <= rounding(z.dtype, terms, c) * (want + passed)
    assert dz.dtype == z.dtype
    assert_within(dz, want_dz, bound, n=terms if name == "cross_entropy" else 1, c=c)
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("name", LOSSES)
@given(
    rows=sizes, n_out=st.integers(2, 70), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 1000)
)
def test_loss_at_any_size(name, rows, n_out, dtype, seed):
    check_loss(name, 3 * inputs(rows, n_out, dtype, seed), targets(name, rows, n_out, dtype, seed))


@given(rows=sizes, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 1000))
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cross_entropy"])
def test_loss_of_one_output(name, rows, dtype, seed):
    check_loss(name, 3 * inputs(rows, 1, dtype, seed), targets(name, rows, 1, dtype, seed))


def test_cross_entropy_of_one_output_is_refused():
    """It would be 0 whatever the label."""
    with pytest.raises(ValueError, match="binary_cross_entropy"):
        fastmlp.cross_entropy(inputs(3, 1), np.zeros(3, int))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n_out", [1000, 1027])
def test_loss_of_many_outputs(name, dtype, n_out):
    check_loss(name, inputs(33, n_out, dtype), targets(name, 33, n_out, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
@given(size=st.sampled_from([30.0, 100.0, 800.0, 1e4]), seed=st.integers(0, 1000))
def test_loss_is_stable(name, dtype, size, seed):
    """Raw outputs up to 1e4: exp of them is infinite in both types, the losses are not."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-size, size, (7, 5)).astype(dtype)
    z[0] = [size, -size, 0, size, -size]
    y = targets(name, 7, 5, dtype, seed)
    if name == "binary_cross_entropy":
        y[1:4] = np.round(y[1:4])  # certain targets on either side
    check_loss(name, z, y)
    value, dz = loss_function(name)(z, y)
    assert np.isfinite([value, *dz.flat]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_losses_keep_their_digits(dtype):
    """A certain and right answer costs exp(-|z|), not 0, in relative terms."""
    z = np.array([[20.0], [-20.0]], dtype)
    value, dz = fastmlp.binary_cross_entropy(z, np.array([[1.0], [0.0]], dtype))
    want = np.log1p(np.exp(-20.0))
    assert abs(value - want) <= rounding(dtype, c=32) * want
    assert_within(dz, [[-want / 2], [want / 2]], 0.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 5, 64])
def test_cross_entropy_of_equal_outputs_is_log_of_their_number(classes, dtype):
    labels = np.arange(6) % classes
    value, dz = fastmlp.cross_entropy(np.full((6, classes), 0.75, dtype), labels)
    assert abs(value - np.log(classes)) <= rounding(dtype, classes) * np.log(classes + 1)
    assert_within(dz, (1 / classes - np.eye(classes)[labels]) / 6, 1 / 6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_gradient_sums_to_zero_in_each_row(dtype):
    _, dz = fastmlp.cross_entropy(5 * inputs(40, 23, dtype), targets("cross_entropy", 40, 23))
    assert_within(dz.astype(float).sum(axis=1), np.zeros(40), 1 / 40, n=23, dtype=dtype)
    assert np.abs(dz).max() > 1e-3


def test_cross_entropy_of_an_excluded_class():
    """-inf says: not this class. It then weighs nothing, and gets no gradient."""
    z = inputs(5, 4)
    labels = np.array([0, 1, 2, 0, 1])
    excluded = np.insert(z, 2, -np.inf, axis=1)
    value, dz = fastmlp.cross_entropy(excluded, labels + (labels >= 2))
    want, want_dz = fastmlp.cross_entropy(z, labels)
    assert abs(value - want) <= rounding("float64", 5) * want
    assert_within(dz, np.insert(want_dz, 2, 0, axis=1), 1 / 5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_labels_of_any_integer_type(dtype):
    z, labels = inputs(9, 4), targets("cross_entropy", 9, 4)
    want = fastmlp.cross_entropy(z, labels.astype(np.int64))
    got = fastmlp.cross_entropy(z, labels.astype(dtype))
    assert got[0] == want[0]
    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("name", ["binary_cross_entropy", "squared_error"])
def test_one_output_takes_flat_targets(name):
    z, y = inputs(6, 1), targets(name, 6, 1)
    flat, column = loss_function(name)(z, y[:, 0]), loss_function(name)(z, y)
    assert flat[0] == column[0]
    np.testing.assert_array_equal(flat[1], column[1])


@pytest.mark.parametrize("name", LOSSES)
def test_rows_are_summed_in_double(name):
    """Many float32 rows: the mean is as good as one row's loss, however many there are."""
    rows = 30_000
    z, y = inputs(rows, 3, "float32"), targets(name, rows, 3, "float32")
    value, _ = loss_function(name)(z, y)
    want, _ = reference.LOSSES[name](z.astype(float), y)
    assert abs(value - want) <= rounding("float32", 1, c=1) * want


@pytest.mark.parametrize("name", LOSSES)
def test_nan_shows_in_the_loss(name):
    z, y = inputs(40, 5, "float32"), targets(name, 40, 5, "float32")
    z[17, 3] = np.nan
    assert np.isnan(loss_function(name)(z, y)[0])


@pytest.mark.parametrize(
    ("name", "y"),
    [
        ("cross_entropy", [0, 1, 3]),
        ("cross_entropy", [0, -1, 2]),
        ("cross_entropy", [0.0, 0.5, 1.0]),
        ("cross_entropy", [0, 1]),
        ("cross_entropy", [[1.0, 0, 0]] * 3),
        ("cross_entropy", [[0], [1], [2]] * 2),
        ("binary_cross_entropy", [[0.5, 1.1, 0]] * 3),
        ("binary_cross_entropy", [[0.5, -0.1, 0]] * 3),
        ("binary_cross_entropy", [[0.5, np.nan, 0]] * 3),
        ("binary_cross_entropy", [0.0, 1.0, 0.0]),
        ("squared_error", [[1.0, 2.0]] * 3),
        ("squared_error", [1.0, 2.0, 3.0]),
        ("squared_error", [[1.0, 2.0, 3.0]] * 2),
    ],
)
def test_impossible_targets_are_refused(name, y):
    with pytest.raises((ValueError, TypeError)):
        loss_function(name)(inputs(3, 3), np.array(y))
