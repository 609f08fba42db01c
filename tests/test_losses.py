"""Losses against their twins, at every size and at the far ends of the line."""

import copy
import pickle

import numpy as np
import pytest
import reference
from helpers import (
    DTYPES,
    LOSSES,
    assert_within,
    fitting,
    inputs,
    loss_function,
    loss_kink,
    loss_settings,
    rounding,
    suits,
    targets,
    twin_loss,
)
from hypothesis import assume, given
from hypothesis import strategies as st

import fastmlp
from fastmlp import Linear, Sequential, _core, losses
from fastmlp.losses import get_loss

sizes = st.integers(1, 70)
SINGLE = [case for case in LOSSES if suits(case, 1)]


def test_every_registered_loss_has_a_twin_a_class_and_a_function():
    assert set(_core.LOSSES) == set(reference.LOSSES) == set(losses.LOSS_CLASSES)
    assert set(_core.LOSSES) <= set(fastmlp.__all__)
    assert {c.__name__ for c in losses.LOSS_CLASSES.values()} <= set(fastmlp.__all__)


def scales(loss, z, y, want_dz, tiny):
    """What is rounded on the way to the sum of the losses, beside that sum; and the size of what is
    rounded on the way to dz, before the division by the number of terms."""
    if loss.name in (
        "cross_entropy",
        "soft_cross_entropy",
        "focal",
    ):  # the sum of exponentials, which is at least 1
        power = 1 + getattr(loss, "gamma", 0)
        return power * len(z), power**2
    if loss.name in ("squared_error", "huber"):
        return 0.0, 2 * np.abs(z - y)
    if loss.name == "absolute_error":
        return 0.0, 1.0
    if loss.name == "binary_cross_entropy":
        t = (1 - loss.label_smoothing) * y + loss.label_smoothing / 2
        return np.sum(np.abs(t * z)), 1.0
    if loss.name == "binary_focal":
        return (1 + loss.gamma) * z.size, (1 + loss.gamma) ** 2
    if loss.name == "poisson":
        return np.sum(np.exp(z) + np.abs(y * z)), np.exp(z) + y
    if loss.name == "tweedie":
        y = y.reshape(z.shape)
        a, b, log_y = 1 - loss.power, 2 - loss.power, np.log(np.where(y > 0, y, 1))
        moved = np.exp(b * z) + y * np.exp(a * z)
        size = (2 + np.abs(z) + np.abs(log_y)) * (moved + y**b)
        return np.sum(size * (2 + np.abs(z - log_y))), (1 + np.abs(z)) * moved
    if loss.name == "pinball":
        k = len(loss.quantiles)
        return np.sum(np.abs(reference.quantiles_of(z, k))), k
    if loss.name == "gaussian_nll":
        mean, spread = np.split(z, 2, axis=1)
        v = reference.softplus(spread) + loss.min_variance
        slope = reference.sigmoid(spread) + tiny  # subnormal numbers have fewer digits
        ratio = (y - mean) ** 2 / v
        by_spread = (1 + ratio) * slope / v
        return np.sum(np.abs(np.log(v)) + ratio + 1), np.hstack([np.abs(y - mean) / v, by_spread])
    return float(z.size), np.abs(want_dz).max() * z.size  # a loss that this test does not know


def check_loss(case, z, y, c=8):
    """Value and gradient within c roundings of what `scales` says."""
    loss, before = LOSSES[case], z.copy()
    value, dz = loss_function(case)(z, y)
    z64, y64 = z.astype(float), y if loss.needs_labels else y.astype(float)
    want, want_dz = twin_loss(case)(z64, y64)
    by_row = loss.needs_labels or loss.name == "soft_cross_entropy"  # one term, of all outputs
    terms = len(z) if by_row else y.size
    if loss.name == "pinball":
        terms = z.size
    passed, bound = scales(loss, z64, y64, want_dz, np.finfo(z.dtype).tiny)
    if loss.reduction == "mean":
        passed, bound = passed / terms, bound / terms
    n = z.shape[1]  # along a row; rows are summed in double
    assert isinstance(value, float)
    assert abs(value - want) <= rounding(z.dtype, n, c) * (abs(want) + passed)
    assert dz.dtype == z.dtype
    assert_within(dz, want_dz, bound, n=n if by_row else 1, c=c)
    np.testing.assert_array_equal(z, before)


def keep_off_kinks(case, z, y):
    """Sums of quantiles are rounded: which side of one an example lies on is then a matter of
    luck."""
    if len(getattr(LOSSES[case], "quantiles", ())) > 1:
        near = rounding(z.dtype, c=16) * (1 + np.abs(z).max())
        assume(loss_kink(case, z.astype(float), y.astype(float)) > near)


@pytest.mark.parametrize("case", LOSSES)
@given(n=st.integers(2, 70), rows=sizes, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 1000))
def test_loss_at_any_size(case, n, rows, dtype, seed):
    n_out = fitting(case, n)
    z, y = 3 * inputs(rows, n_out, dtype, seed), targets(case, rows, n_out, dtype, seed + 1)
    keep_off_kinks(case, z, y)
    check_loss(case, z, y)


@given(rows=sizes, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 1000))
@pytest.mark.parametrize("case", SINGLE)
def test_loss_of_one_output(case, rows, dtype, seed):
    check_loss(case, 3 * inputs(rows, 1, dtype, seed), targets(case, rows, 1, dtype, seed + 1))


def test_cross_entropy_of_one_output_is_refused():
    """It would be 0 whatever the label."""
    with pytest.raises(ValueError, match="binary_cross_entropy"):
        fastmlp.cross_entropy(inputs(3, 1), np.zeros(3, int))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("n", [1000, 1027])
def test_loss_of_many_outputs(case, dtype, n):
    n_out = fitting(case, n)
    check_loss(case, inputs(33, n_out, dtype), targets(case, 33, n_out, dtype), c=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOSSES)
@given(size=st.sampled_from([30.0, 100.0, 800.0, 1e4]), seed=st.integers(0, 1000))
def test_loss_is_stable(case, dtype, size, seed):
    """Raw outputs up to 1e4: exp of them is infinite in both types, the losses are not. That of
    poisson is exp itself, so there only the lower end is."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-size, size, (7, 6)).astype(dtype)
    z[0] = [size, -size, 0, size, -size, size]
    if LOSSES[case].name == "poisson":
        z = np.minimum(z, 20)
    if LOSSES[case].name == "tweedie":  # infinite at both ends, unless power is 1 or 2
        z = np.clip(z, -20, 20)
    y = targets(case, 7, 6, dtype, seed)
    if LOSSES[case].name == "soft_cross_entropy":
        y[1:4] = np.eye(6)[:3]
    elif LOSSES[case].high == 1:
        y[1:4] = np.round(y[1:4])  # certain targets on either side
    keep_off_kinks(case, z, y)
    check_loss(case, z, y)
    value, dz = loss_function(case)(z, y)
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


ONE_COLUMN = [c for c in LOSSES if not LOSSES[c].needs_labels and "soft" not in LOSSES[c].name]


@pytest.mark.parametrize("case", ONE_COLUMN)
def test_one_column_takes_flat_targets(case):
    n_out = fitting(case, 1)
    z, y = inputs(6, n_out), targets(case, 6, n_out)
    flat, column = loss_function(case)(z, y[:, 0]), loss_function(case)(z, y)
    assert flat[0] == column[0]
    np.testing.assert_array_equal(flat[1], column[1])


@pytest.mark.parametrize("case", LOSSES)
def test_rows_are_summed_in_double(case):
    """Many float32 rows: the mean is as good as one row's loss, however many there are."""
    rows = 30_000
    z, y = inputs(rows, 6, "float32"), targets(case, rows, 6, "float32")
    value, _ = loss_function(case)(z, y)
    want, _ = twin_loss(case)(z.astype(float), y)
    assert abs(value - want) <= rounding("float32", 1, c=1) * abs(want)


@pytest.mark.parametrize("case", LOSSES)
def test_nan_shows_in_the_loss(case):
    for column in range(6):
        z, y = inputs(40, 6, "float32"), targets(case, 40, 6, "float32")
        z[17, column] = np.nan
        assert np.isnan(loss_function(case)(z, y)[0])


@pytest.mark.parametrize(
    ("name", "y"),
    [
        ("cross_entropy", [0, 1, 3]),
        ("cross_entropy", [0, -1, 2]),
        ("cross_entropy", [0.0, 0.5, 1.0]),
        ("cross_entropy", [0, 1]),
        ("cross_entropy", [[1, 0, 0]] * 3),
        ("cross_entropy", [[0.5, 0, 0]] * 3),
        ("soft_cross_entropy", [[0.5, 0, 0]] * 3),
        ("soft_cross_entropy", [0.5, 1.0, 0.0]),
        ("soft_cross_entropy", [0, 1, 3]),
        ("cross_entropy", [[0], [1], [2]] * 2),
        ("binary_cross_entropy", [[0.5, 1.1, 0]] * 3),
        ("binary_cross_entropy", [[0.5, -0.1, 0]] * 3),
        ("binary_cross_entropy", [[0.5, np.nan, 0]] * 3),
        ("binary_cross_entropy", [0.0, 1.0, 0.0]),
        ("squared_error", [[1.0, 2.0]] * 3),
        ("squared_error", [1.0, 2.0, 3.0]),
        ("squared_error", [[1.0, 2.0, 3.0]] * 2),
        ("poisson", [[1.0, -1.0, 0.0]] * 3),
        ("tweedie", [[1.0, -1.0, 0.0]] * 3),
        ("tweedie-gamma", [[1.0, 1.0, 0.0]] * 3),
        ("focal", [0, 1, 3]),
        ("focal", [[1.0, 0, 0]] * 3),
        ("binary_focal", [[0.5, 1.1, 0]] * 3),
        ("gaussian_nll", [[1.0, 2.0, 3.0]] * 3),
        ("pinball-three", [[1.0, 2.0, 3.0]] * 3),
    ],
)
def test_impossible_targets_are_refused(name, y):
    with pytest.raises((ValueError, TypeError)):
        loss_function(name)(inputs(3, 3), np.array(y))


# ---- what single losses promise --------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinite_outputs_where_they_mean_something(dtype):
    z = np.array([[0.0, -np.inf, 1.0]], dtype)
    want = fastmlp.focal(z[:, [0, 2]], [0])
    value, dz = fastmlp.focal(z, [0])
    assert value == pytest.approx(want[0], rel=rounding(dtype))
    assert dz[0, 1] == 0
    rate_zero = np.array([[-np.inf]], dtype)
    value, dz = fastmlp.poisson(rate_zero, [0.0])  # no events, and none were expected
    assert (value, dz[0, 0]) == (0, 0)
    assert fastmlp.poisson(rate_zero, [1.0])[0] == np.inf
    assert fastmlp.poisson(np.array([[1e4]], dtype), [1.0])[0] == np.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_at_kinks(dtype):
    z, y = np.zeros((1, 1), dtype), [0.0]
    for case in ("absolute_error", "pinball", "huber"):
        value, dz = loss_function(case)(z, y)
        assert (value, dz[0, 0]) == (0, 0)
    assert fastmlp.huber(z + 1, y, delta=1.0)[1][0, 0] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_0_is_cross_entropy(dtype):
    z = 20 * inputs(40, 5, dtype)
    z[0] = [50, -50, 0, 0, 0]
    labels = targets("focal", 40, 5)
    labels[0] = 0  # p = 1 exactly
    value, dz = fastmlp.focal(z, labels, gamma=0)
    want, want_dz = fastmlp.cross_entropy(z, labels)
    assert value == pytest.approx(want, rel=rounding(dtype, 40))
    assert_within(dz, want_dz, 1 / 40, c=8)
    y = targets("binary_focal", 40, 5, dtype)
    value, dz = fastmlp.binary_focal(z, y, gamma=0)
    want, want_dz = fastmlp.binary_cross_entropy(z, y)
    assert value == pytest.approx(want, rel=rounding(dtype, 40))
    assert_within(dz, want_dz, 1 / 200, c=8)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 1000), size=st.sampled_from([1.0, 30.0, 1e4]))
def test_quantiles_never_cross(dtype, seed, size):
    loss = fastmlp.Pinball((0.01, 0.1, 0.5, 0.9, 0.99))
    z = size * inputs(20, 10, dtype, seed)
    q = loss.response(z).reshape(20, 2, 5)
    assert (np.diff(q, axis=2) >= 0).all()
    assert q.dtype == dtype
    want = reference.quantiles_of(z.astype(float), 5)
    assert_within(q, want, np.abs(z.reshape(20, 2, 5)).cumsum(axis=2) + 5, n=5)


def learned(loss, n_out, y, x=None, epochs=300):
    """A network with a bias alone, or one of x too, trained on y."""
    x = np.zeros((len(y), 1)) if x is None else x
    net = Sequential([Linear(x.shape[1], n_out)], dtype="float64")
    net.fit(x, y, loss=loss, optimizer=fastmlp.Adam(lr=0.05), epochs=epochs, batch_size=len(y))
    net.fit(x, y, optimizer=fastmlp.Adam(lr=0.002), epochs=epochs, batch_size=len(y))
    return net.predict_response(x)


def test_each_loss_learns_what_it_is_for():
    """The best constant: mean, median, quantiles, rate, mean and deviation, within a tenth of the
    spread or 0.01 of the share of rows below."""
    y = np.random.default_rng(5).gamma(2.0, size=2000)
    levels = (0.1, 0.5, 0.9)

    def shares(q):
        return (y[:, np.newaxis] < q).mean(axis=0)

    near = 0.1
    np.testing.assert_allclose(shares(learned("absolute_error", 1, y)[0]), 0.5, atol=0.01)
    np.testing.assert_allclose(shares(learned(fastmlp.Pinball(levels), 3, y)[0]), levels, atol=0.01)
    np.testing.assert_allclose(shares(learned(fastmlp.Pinball(0.9), 1, y)[0]), 0.9, atol=0.01)
    np.testing.assert_allclose(learned("gaussian_nll", 2, y)[0], [y.mean(), y.std()], atol=near)
    counts = np.random.default_rng(6).poisson(3.0, 2000)
    assert learned("poisson", 1, counts)[0, 0] == pytest.approx(counts.mean(), abs=near)
    outliers = np.r_[np.full(90, 1.0), np.full(10, 1000.0)]
    assert learned("huber", 1, outliers)[0, 0] < 1.2 < outliers.mean()


def test_label_smoothing_has_a_finite_best():
    """The best logits differ by log((1 - s + s/k) / (s/k))."""
    z = np.array([[np.log(0.9 + 0.1 / 3), np.log(0.1 / 3), np.log(0.1 / 3)]])
    _, dz = fastmlp.cross_entropy(z, [0], label_smoothing=0.1)
    assert_within(dz, np.zeros((1, 3)), 1.0)


# ---- the objects -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", LOSSES)
def test_objects_compare_copy_and_print(case):
    loss = LOSSES[case]
    _ = loss.settings
    again = eval(repr(loss), vars(fastmlp))
    for other in (again, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other == loss
        assert hash(other) == hash(loss)
    assert get_loss(loss) is loss
    assert losses.from_config(loss.config()) == loss


def test_names_stand_for_the_defaults():
    z, y = inputs(5, 6), targets("huber", 5, 6)
    for name in _core.LOSSES:
        assert get_loss(name) == losses.LOSS_CLASSES[name]()
    assert fastmlp.Huber().value(z, y) == fastmlp.huber(z, y)[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fastmlp.Huber(0), "delta"),
        (lambda: fastmlp.Huber(float("nan")), "delta"),
        (lambda: fastmlp.Huber("1"), "number"),
        (lambda: fastmlp.Huber(True), "number"),
        (lambda: fastmlp.CrossEntropy(1.0), "with 0 <= label_smoothing < 1"),
        (lambda: fastmlp.BinaryCrossEntropy(-0.1), "label_smoothing"),
        (lambda: fastmlp.Focal(-1), "gamma"),
        (lambda: fastmlp.BinaryFocal(alpha=1.5), "alpha"),
        (lambda: fastmlp.GaussianNLL(0), "min_variance"),
        (lambda: fastmlp.Pinball(()), "empty"),
        (lambda: fastmlp.Pinball((0.5, 0.1)), "ascend"),
        (lambda: fastmlp.Pinball((0.5, 0.5)), "ascend"),
        (lambda: fastmlp.Pinball((0.0, 0.5)), "between 0 and 1"),
        (lambda: fastmlp.Pinball("0.5"), "between 0 and 1, not '0.5'"),
        (lambda: fastmlp.SquaredError(reduction="none"), "reduction"),
        (lambda: get_loss("mse"), "one of cross_entropy"),
        (lambda: get_loss(3), "a name"),
        (lambda: get_loss(fastmlp.Huber), "Huber"),
        (lambda: fastmlp.GaussianNLL().response(np.zeros((2, 3))), "two outputs"),
        (lambda: fastmlp.Pinball((0.1, 0.9)).response(np.zeros((2, 3))), "2 outputs"),
        (lambda: fastmlp.Huber().probabilities(np.zeros((2, 3))), "use predict"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_responses():
    z = inputs(9, 6)
    p = fastmlp.CrossEntropy().response(z)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(p, fastmlp.Focal().response(z))
    np.testing.assert_allclose(fastmlp.BinaryFocal().response(z), 1 / (1 + np.exp(-z)))
    np.testing.assert_allclose(fastmlp.Poisson().response(z), np.exp(z))
    assert fastmlp.Huber().response(z) is z
    loss = fastmlp.GaussianNLL(min_variance=0.1)
    mean, deviation = np.split(loss.response(z), 2, axis=1)
    np.testing.assert_array_equal(mean, z[:, :3])
    np.testing.assert_allclose(deviation**2, np.log1p(np.exp(z[:, 3:])) + 0.1)
    three = fastmlp.Pinball((0.1, 0.4, 0.9))
    np.testing.assert_array_equal(three.point(z), three.response(z)[:, [1, 4]])


def test_outputs_that_do_not_suit_are_refused_before_any_work():
    net = Sequential([Linear(3, 3)])
    before = net.params.copy()
    for loss, message in (("gaussian_nll", "two outputs"), (fastmlp.Pinball((0.1, 0.9)), "2 out")):
        with pytest.raises(ValueError, match=message):
            net.fit(inputs(5, 3), inputs(5, 1), loss=loss)
    with pytest.raises(ValueError, match=r"3 columns .* 6 outputs, which suit 2"):
        Sequential([Linear(3, 6)]).fit(
            inputs(5, 3), inputs(5, 3), loss=fastmlp.Pinball((0.1, 0.5, 0.9))
        )
    assert np.array_equal(net.params, before)


# ---- scikit-learn ----------------------------------------------------------------------------


def test_values_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    z, y = inputs(50, 2), inputs(50, 2, seed=3)
    weight = np.random.default_rng(4).random(50)
    weight /= weight.mean()  # theirs divide by the sum of the weights
    for sample_weight in (None, weight):
        how = {"sample_weight": sample_weight}
        assert fastmlp.absolute_error(z, y, **how)[0] == pytest.approx(
            metrics.mean_absolute_error(y, z, **how), rel=1e-12
        )
        assert fastmlp.squared_error(z, y, **how)[0] == pytest.approx(
            metrics.mean_squared_error(y, z, **how), rel=1e-12
        )
        assert fastmlp.pinball(z, y, 0.2, **how)[0] == pytest.approx(
            metrics.mean_pinball_loss(y, z, alpha=0.2, **how), rel=1e-12
        )
        labels = targets("cross_entropy", 50, 2)
        assert fastmlp.cross_entropy(z, labels, **how)[0] == pytest.approx(
            metrics.log_loss(labels, fastmlp.CrossEntropy().response(z), **how), rel=1e-12
        )
        counts = targets("poisson", 50, 1)
        best = fastmlp.poisson(np.log(np.maximum(counts, 1e-300)), counts, **how)[0]
        deviance = 2 * (fastmlp.poisson(z[:, :1], counts, **how)[0] - best)
        want = metrics.mean_poisson_deviance(counts[:, 0], np.exp(z[:, 0]), **how)
        assert deviance == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [1.0, 1 + 1e-9, 1.3, 1.9, 2 - 1e-9, 2.0])
def test_tweedie_is_the_integral_of_its_slope_and_0_at_y(power, dtype):
    """Near the mean, far from it, and near its limits, where the textbook's terms cancel."""
    y = np.geomspace(1e-3, 1e3, 7)[:, None].astype(dtype)
    log_y = np.log(y.astype(float))
    value = fastmlp.tweedie(log_y.astype(dtype), y, power, reduction="none")[0]
    size = 1 + y[:, 0] ** (2 - power)
    assert (np.abs(value) <= rounding(dtype, c=16) * size * (1 + np.abs(log_y[:, 0]))).all()
    nodes, weights = np.polynomial.legendre.leggauss(60)
    for u in (-5.0, -1.0, -1e-2, 0.9, 3.0):
        z = (log_y + u).astype(dtype)
        got = fastmlp.tweedie(z, y, power, reduction="none")[0]
        half = (z.astype(float) - np.log(y.astype(float))) / 2  # integral over z from log y
        at = np.log(y.astype(float)) + half * (nodes + 1)
        slopes = np.exp((2 - power) * at) - y * np.exp((1 - power) * at)
        want = (half * slopes * weights).sum(axis=1)
        moved = (np.exp((2 - power) * z) + y * np.exp((1 - power) * z) + size[:, None])[:, 0]
        allowed = moved * (2 + np.abs(z) + np.abs(log_y))[:, 0] * max(1, abs(u))
        assert (np.abs(got - want) <= rounding(dtype, c=16) * allowed).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tweedie_of_no_events(dtype):
    z = np.array([[-800.0], [0.0], [5.0]], dtype)
    values, dz = fastmlp.tweedie(z, np.zeros(3), 1.5, reduction="none")
    np.testing.assert_allclose(values, 2 * np.exp(z[:, 0] / 2), rtol=1e-6)
    np.testing.assert_allclose(dz, np.exp(z / 2), rtol=1e-6)
    assert fastmlp.tweedie(z, np.zeros(3), 1.0)[0] == pytest.approx(np.exp(z).mean(), rel=1e-6)
    for power in (0.99, 2.01, np.nan):
        with pytest.raises(ValueError, match="power"):
            fastmlp.Tweedie(power)
    with pytest.raises(ValueError, match="y has values of 0 or less, but tweedie takes only"):
        fastmlp.tweedie(z, np.zeros(3), 2.0)
    with pytest.raises(ValueError, match=r"y has values outside 0 \.\. infinity, which tweedie"):
        fastmlp.tweedie(z, -np.ones(3))
    tiny = np.full(3, 1e-44, dtype)  # above 0 in float32 too
    assert np.isfinite(fastmlp.tweedie(np.full((3, 1), -90, dtype), tiny, 2.0)[0])


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_tweedie_regression_is_that_of_statsmodels(power, is_weighted, rng):
    """Deviance and coefficients of a generalized linear model with the log link."""
    sm = pytest.importorskip("statsmodels.api")
    families, log = sm.families, sm.families.links.Log()
    X, weights = rng.standard_normal((200, 3)), rng.integers(1, 5, 200) * 1.0
    mean = np.exp(X @ [0.5, -0.3, 0.2] + 1)
    y = rng.gamma(2.0, mean / 2)
    if power < 2:
        y = np.round(y)  # zeros among them
    family = {
        1.0: families.Poisson(log),
        1.5: families.Tweedie(log, var_power=1.5),
        2.0: families.Gamma(log),
    }[power]
    how = weights if is_weighted else None
    theirs = sm.GLM(y, sm.add_constant(X), family=family, freq_weights=how).fit(tol=1e-14)
    net = Sequential([Linear(3, 1)], dtype="float64")
    net.params[:] = 0
    loss = fastmlp.Tweedie(power)
    net.fit(X, y, loss=loss, sample_weight=how, epochs=200, optimizer=fastmlp.LBFGS())
    got = [net.layers[0].bias[0], *net.layers[0].weight[:, 0]]
    np.testing.assert_allclose(got, theirs.params, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(net.predict_response(X)[:, 0], theirs.fittedvalues, rtol=1e-5)
    z = np.log(theirs.fittedvalues)[:, None]
    value = fastmlp.tweedie(z, y, power, sample_weight=how, reduction="sum")[0]
    assert 2 * value == pytest.approx(theirs.deviance, rel=1e-12)


def test_gradients_of_scikit_learn():
    """Its private losses of boosted trees and linear models, one output each."""
    theirs = pytest.importorskip("sklearn._loss")
    z, y = 3 * inputs(60, 1)[:, 0], 3 * inputs(60, 1, seed=3)[:, 0]
    counts, binary = targets("poisson", 60, 1)[:, 0], (y > 0).astype(float)
    for case, loss, target, factor in (
        ("absolute_error", theirs.AbsoluteError(), y, 1),
        ("pinball-low", theirs.PinballLoss(quantile=0.05), y, 1),
        ("poisson", theirs.HalfPoissonLoss(), counts, 1),
        ("tweedie-1.1", theirs.HalfTweedieLoss(power=1.1), counts, None),
        ("binary_cross_entropy", theirs.HalfBinomialLoss(), binary, 1),
        ("squared_error", theirs.HalfSquaredError(), y, 2),
    ):
        losses_, slopes = loss.loss_gradient(y_true=target, raw_prediction=z)
        value, dz = loss_function(case)(z[:, None], target)
        if factor is None:  # it leaves out the terms of y alone
            factor = 1
        else:
            assert value == pytest.approx(factor * losses_.mean(), rel=1e-12)
        np.testing.assert_allclose(dz[:, 0], factor * slopes / 60, rtol=1e-11)


# ---- what the outputs already went through -------------------------------------------------------


def last_activation_cases():
    """Pairs of a loss and a last activation that can only be a mistake."""
    bounded = ["Sigmoid", "Tanh"]
    below = [*bounded, "ReLU", "Softplus", "ELU", "SELU", "GELU", "GELUTanh", "SiLU", "Mish"]
    below.append("Hardswish")
    for loss in ("cross_entropy", "focal"):  # a softmax does not feel a bound on one side
        yield from (
            (loss, name, name in [*bounded, "ReLU", "Hardswish"]) for name in [*below, "LeakyReLU"]
        )
    for loss in (
        "binary_cross_entropy",
        "binary_focal",
        "poisson",
        "gaussian_nll",
        "pinball-three",
    ):
        yield from ((loss, name, True) for name in below)
        yield from ((loss, name, False) for name in ("Identity", "LeakyReLU"))
    for loss in (
        "squared_error",
        "absolute_error",
        "huber",
        "pinball",
    ):  # whatever suits the target
        yield from ((loss, name, False) for name in below)


@pytest.mark.parametrize(("case", "name", "is_mistake"), list(last_activation_cases()))
def test_an_activation_in_front_of_the_loss_s_own_is_named(case, name, is_mistake, recwarn):
    n_out = fitting(case, 2)
    layers = [Linear(3, n_out), getattr(fastmlp, name)(), fastmlp.Dropout(0.1)]
    x, y = inputs(20, 3), targets(case, 20, n_out)
    Sequential(layers, seed=0).fit(x, y, loss=LOSSES[case], epochs=3)
    shown = [str(w.message) for w in recwarn if w.category is not fastmlp.LearningHint]
    assert len(shown) == int(is_mistake)
    if is_mistake:
        assert f"leave out the last {name}(" in shown[0]
        assert LOSSES[case].name in shown[0]


def test_sigmoid_before_binary_cross_entropy_says_what_to_do():
    net = Sequential([Linear(3, 1), fastmlp.Sigmoid()])
    message = (
        r"binary_cross_entropy takes logits and applies the sigmoid itself: leave out the last "
        r"Sigmoid\(\)"
    )
    with pytest.warns(UserWarning, match=message) as shown:
        net.fit(inputs(9, 3), np.ones(9), loss="binary_cross_entropy", epochs=2)
    assert shown[0].filename == __file__


# ---- probabilities as targets, and one value a row -----------------------------------------------


def soft_problem(rows=60, classes=5, dtype="float32"):
    rng = np.random.default_rng(3)
    x = inputs(rows, 4, dtype)
    return x, rng.dirichlet(np.ones(classes) / 3, rows).astype(dtype)


@pytest.mark.parametrize("classes", [2, 5, 16, 17, 40])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_hot_probabilities_are_labels(smoothing, dtype, classes):
    z, labels = 3 * inputs(35, classes, dtype), targets("cross_entropy", 35, classes)
    want, dz_want = fastmlp.cross_entropy(z, labels, smoothing)
    for function in (fastmlp.cross_entropy, fastmlp.soft_cross_entropy):
        value, dz = function(z, np.eye(classes)[labels], smoothing)
        assert_within(np.float64(value), want, 8 + abs(want), dtype=dtype)
        assert_within(dz, dz_want, 1 / 35)


def test_no_probability_times_a_logit_out_of_range_is_nothing():
    z = np.array([[3e38, -3e38], [0, -3e38]], np.float32)
    value, dz = fastmlp.cross_entropy(z, np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert value == 0
    np.testing.assert_array_equal(dz, 0)


def test_cross_entropy_of_a_matrix_trains_scores_and_is_saved(tmp_path):
    """Labels will do for validation, and after it."""
    x, y = soft_problem()
    labels = y.argmax(axis=1)
    nets = [Sequential([Linear(4, 5)], seed=0) for _ in range(2)]
    how = {"epochs": 30, "batch_size": 20, "optimizer": "adam", "metrics": ["accuracy"]}
    first = nets[0].fit(x, y, loss="cross_entropy", validation_data=(x, labels), **how)
    second = nets[1].fit(x, y, loss="soft_cross_entropy", validation_data=(x, y), **how)
    assert first["loss"] == second["loss"]
    assert first["val_accuracy"] == second["val_accuracy"]
    assert np.array_equal(nets[0].params, nets[1].params)
    scores = nets[0].evaluate(x, y)
    out = nets[0].predict(x)
    assert scores["accuracy"] == np.mean(out.argmax(axis=1) == labels)
    want = -np.mean(np.sum(y * reference.log_softmax(out.astype(float)), axis=1))
    assert scores["loss"] == pytest.approx(want, rel=1e-5)
    nets[0].save(tmp_path / "m")
    loaded = Sequential.load(tmp_path / "m")
    assert loaded.loss == nets[0].loss
    np.testing.assert_array_equal(loaded.predict_proba(x), nets[0].predict_proba(x))
    by_labels = nets[0].evaluate(x, labels)["loss"]
    assert by_labels == pytest.approx(nets[0].evaluate(x, np.eye(5)[labels])["loss"], rel=1e-12)


def test_settings_and_weights_hold_for_a_matrix_too():
    x, y = soft_problem()
    weights = np.random.default_rng(4).random(60)
    nets = [Sequential([Linear(4, 5)], seed=0) for _ in range(2)]
    how = {"epochs": 2, "sample_weight": weights}
    nets[0].fit(x, y, loss=fastmlp.CrossEntropy(0.1, reduction="sum"), **how)
    nets[1].fit(x, y, loss=fastmlp.SoftCrossEntropy(0.1, reduction="sum"), **how)
    assert np.array_equal(nets[0].params, nets[1].params)
    with pytest.raises(ValueError, match="class_weight needs one class a row"):
        nets[0].fit(x, y, loss="cross_entropy", class_weight="balanced")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda y: y * 0.9, "add up to 1"),
        (lambda y: y - 0.5, "values outside 0 .. 1"),
        (lambda y: y[:, :4], "4 columns but the last layer has 5"),
        (lambda y: y[:50], "50 rows"),
        (lambda y: np.where(y == y.max(), np.nan, y), "missing"),
        (lambda y: np.eye(5, dtype=int)[y.argmax(axis=1)], "looks one-hot.*floats"),
    ],
)
def test_matrices_that_are_no_probabilities_are_refused(spoil, match):
    x, y = soft_problem()
    net = Sequential([Linear(4, 5)], seed=0)
    before = net.params.copy()
    with pytest.raises(ValueError, match=match):
        net.fit(x, spoil(y), loss="cross_entropy")
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize("case", LOSSES)
def test_a_value_for_each_row(case):
    """Their mean, or sum, is the loss; a row alone has its own; so has its gradient."""
    if LOSSES[case].reduction == "sum":
        return
    n_out = fitting(case, 3)
    z, y = inputs(9, n_out), targets(case, 9, n_out)
    weights = np.arange(9) / 4
    settings = loss_settings(case) | {"reduction": "none"}
    function = getattr(fastmlp, LOSSES[case].name)
    values, dz = function(z, y, **settings, sample_weight=weights)
    value, _ = loss_function(case)(z, y, sample_weight=weights)
    assert values.shape == (9,)
    counted = LOSSES[case].counted(y)  # 9 but for rows that are ignored
    assert_within(values.sum() / counted, value, abs(value), n=9)
    for row in range(9):
        one = slice(row, row + 1)
        alone, dz_alone = loss_function(case)(z[one], y[one], sample_weight=weights[one])
        assert_within(values[row], alone, abs(alone))
        assert_within(dz[one], dz_alone, np.abs(dz_alone).max() + 1e-300)
    net = Sequential([Linear(n_out, n_out)], dtype="float64", seed=0)
    scores = net.evaluate(z, y, loss=LOSSES[case], reduction="none", sample_weight=weights)
    whole = net.evaluate(z, y, loss=LOSSES[case], sample_weight=weights)
    assert_within(scores["loss"].sum() / counted, whole["loss"], abs(whole["loss"]), n=9)
    assert scores.keys() == whole.keys()


def test_evaluate_takes_no_other_reduction():
    net = Sequential([Linear(4, 5)], seed=0)
    x, y = soft_problem()
    with pytest.raises(ValueError, match='reduction must be "none" or left out'):
        net.evaluate(x, y, loss="cross_entropy", reduction="sum")

    def squares(z, target):
        return ((z - target) ** 2).sum(axis=1), 2 * (z - target)

    each = net.evaluate(x, y, loss=squares, metrics=[], reduction="none")["loss"]
    np.testing.assert_allclose(each, ((net.predict(x) - y) ** 2).sum(axis=1), rtol=1e-5)


# ---- weights of ones and of outputs --------------------------------------------------------------


@pytest.mark.parametrize("n_out", [1, 3, 16, 17, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_output_has_its_own_weights(dtype, n_out):
    rng = np.random.default_rng(5)
    z, y = 3 * inputs(9, n_out, dtype), rng.random((9, n_out)).astype(dtype)
    how = {"pos_weight": rng.random(n_out), "output_weight": 2 * rng.random(n_out)}
    value, dz = fastmlp.binary_cross_entropy(z, y, 0.1, **how)
    want, dz_want = reference.binary_cross_entropy(z.astype(float), y.astype(float), 0.1, **how)
    assert_within(np.float64(value), want, abs(want), n=n_out, dtype=dtype)
    assert_within(dz, dz_want, 4 / dz.size)
    same, dz_same = fastmlp.binary_cross_entropy(z, y, pos_weight=1.0)
    plain, dz_plain = fastmlp.binary_cross_entropy(z, y)
    assert_within(np.float64(same), plain, plain, n=n_out, dtype=dtype)
    assert_within(dz_same, dz_plain, 1 / dz.size)


def test_weights_of_outputs_train_and_are_saved(tmp_path):
    x, y = inputs(40, 4, "float32"), np.random.default_rng(0).integers(0, 2, (40, 3))
    loss = fastmlp.BinaryCrossEntropy(pos_weight=[1, 2, 3], output_weight=np.array([1.0, 0.0, 2.0]))
    net = Sequential([Linear(4, 3)], seed=0)
    before = net.layers[0].weight.copy()
    net.fit(x, y, loss=loss, epochs=2, optimizer="sgd")
    moved = np.abs(net.layers[0].weight - before).max(axis=0) > 0
    assert moved.tolist() == [True, False, True]
    net.save(tmp_path / "m")
    assert Sequential.load(tmp_path / "m").loss == loss == pickle.loads(pickle.dumps(loss))
    with pytest.raises(ValueError, match="weighs 3 outputs, but the last layer has 2"):
        Sequential([Linear(4, 2)]).fit(x, y[:, :2], loss=loss)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"pos_weight": -1.0}, "pos_weight must be finite and >= 0"),
        ({"pos_weight": [1.0, np.nan]}, "pos_weight must be finite and >= 0"),
        ({"pos_weight": []}, "pos_weight must be finite and >= 0"),
        ({"output_weight": 2.0}, "output_weight must be a list"),
        ({"pos_weight": [1, 2], "output_weight": [1, 2, 3]}, "one for each output"),
    ],
)
def test_weights_that_are_none_are_refused(how, match):
    with pytest.raises(ValueError, match=match):
        fastmlp.BinaryCrossEntropy(**how)


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_can_be_called(case):
    """The function of the same name is the same call; `of_rows` gives its "none"."""
    loss, n_out = LOSSES[case], fitting(case, 3)
    z, y, weights = inputs(9, n_out), targets(case, 9, n_out), np.arange(9.0)
    function, settings = getattr(fastmlp, loss.name), loss_settings(case)
    value, dz = loss(z, y, weights)
    expected = function(z, y, sample_weight=weights, **settings)
    assert value == expected[0]
    np.testing.assert_array_equal(dz, expected[1])
    if loss.reduction == "mean":
        each, rows_dz = loss.of_rows(z, y, weights)
        expected = function(z, y, sample_weight=weights, **settings | {"reduction": "none"})
        np.testing.assert_array_equal(each, expected[0])
        np.testing.assert_array_equal(rows_dz, expected[1])


def test_called_with_probabilities_cross_entropy_is_that_of_probabilities():
    z, y = np.zeros((2, 3)), np.full((2, 3), 1 / 3)
    assert fastmlp.CrossEntropy(0.1)(z, y)[0] == fastmlp.SoftCrossEntropy(0.1)(z, y)[0]


def test_a_custom_loss_can_be_called():
    loss = fastmlp.CustomLoss(lambda z, y: (((z - y) ** 2).sum(axis=1), 2 * (z - y)))
    z, y = np.array([[1.0], [2.0]]), np.array([[0.0], [4.0]])
    value, dz = loss(z, y)
    assert value == 2.5
    np.testing.assert_array_equal(dz, [[1.0], [-2.0]])
