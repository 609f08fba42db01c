"""Weights of rows and of classes, and the sum instead of the mean."""

import numpy as np
import pytest
from helpers import (
    DTYPES,
    LOSSES,
    assert_within,
    digest,
    inputs,
    loss_function,
    rounding,
    targets,
    twin_loss,
)

import fastmlp
from fastmlp import SGD, Adam, Dropout, Linear, ReLU, Sequential

ROWS, N_IN, N_OUT = 157, 11, 6
WEIGHTS = np.random.default_rng(7).gamma(1.0, size=ROWS)


def build(dtype="float32", n_out=N_OUT):
    return Sequential([Linear(N_IN, 37), ReLU(), Dropout(0.2), Linear(37, n_out)], dtype=dtype)


def data(case, dtype="float32"):
    return inputs(ROWS, N_IN, dtype), targets(case, ROWS, N_OUT, dtype)


# ---- rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOSSES)
def test_weights_multiply_loss_and_gradient_of_each_row(case, dtype):
    z, y = inputs(ROWS, N_OUT, dtype), targets(case, ROWS, N_OUT, dtype)
    loss = loss_function(case)
    value, dz = loss(z, y, sample_weight=WEIGHTS)
    plain = loss(z, y)[1]
    assert_within(dz, plain * WEIGHTS[:, None].astype(dtype), np.abs(plain) * WEIGHTS[:, None])
    rows = [loss(z[i : i + 1], y[i : i + 1])[0] for i in range(ROWS)]
    divisor = 1 if LOSSES[case].reduction == "sum" else LOSSES[case].counted(y)
    assert value == pytest.approx(np.dot(rows, WEIGHTS) / divisor, rel=1e-12)
    want, want_dz = twin_loss(case)(z.astype(float), y, sample_weight=WEIGHTS)
    if dtype == "float64":
        assert value == pytest.approx(want, rel=1e-12)
        assert_within(dz, want_dz, np.abs(want_dz).max(), n=N_OUT, c=8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("case", LOSSES)
def test_a_row_of_weight_zero_counts_for_nothing_whatever_its_loss(case, bad, dtype):
    z, y = inputs(ROWS, N_OUT, dtype), targets(case, ROWS, N_OUT, dtype)
    weights = WEIGHTS.copy()
    weights[::5] = 0
    want, want_dz = loss_function(case)(z, y, sample_weight=weights)
    z[::5] = bad
    value = LOSSES[case].value(z, y, dz := np.empty_like(z), weights)
    assert value == want
    np.testing.assert_array_equal(dz, want_dz)
    np.testing.assert_array_equal(dz[::5], 0)


def test_training_passes_over_an_infinite_loss_of_weight_zero():
    X, y = data("squared_error")
    weights = np.ones(ROWS)
    weights[3] = 0
    y[3] = 1e30  # its square is infinite in float32
    net = build()
    net.fit(X, y, loss="squared_error", sample_weight=weights, epochs=2)
    assert net.step == 4


@pytest.mark.parametrize("case", LOSSES)
def test_weights_of_one_change_no_bit(case):
    X, y = data(case)
    plain, ones = build(), build()
    how = {"loss": LOSSES[case], "batch_size": 50, "epochs": 2}
    assert plain.fit(X, y, **how) == ones.fit(X, y, sample_weight=np.ones(ROWS), **how)
    assert digest(plain.params) == digest(ones.params)
    assert plain.evaluate(X, y) == ones.evaluate(X, y, sample_weight=np.ones(ROWS))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOSSES)
def test_fit_and_train_step_and_by_hand_agree_with_weights(case, dtype):
    """Three ways to the same bits: rows of each batch carry their own weights along."""
    X, y = data(case, dtype)
    loss, optimizer = LOSSES[case], SGD(lr=1e-3, momentum=0.9)
    nets = [build(dtype) for _ in range(3)]
    how = {"loss": loss, "optimizer": optimizer, "batch_size": 50, "epochs": 1}
    history = nets[0].fit(X, y, sample_weight=WEIGHTS, threads=2, **how)
    order = np.arange(ROWS)
    fastmlp._core.shuffle(order, 0, 0)
    total = 0.0
    for first in range(0, ROWS, 50):
        rows = order[first : first + 50]
        value = nets[1].train_step(
            X[rows], y[rows], loss=loss, optimizer=optimizer, sample_weight=WEIGHTS[rows]
        )
        z = nets[2].forward(X[rows], training=True)
        want, dz = loss_function(case)(z, y[rows], sample_weight=WEIGHTS[rows])
        nets[2].backward(dz)
        nets[2].update(optimizer)
        assert value == want
        share = loss.counted(y, rows) / loss.counted(y)  # rows that are ignored do not count
        total += value if loss.reduction == "sum" else value * share
    assert history["loss"][0] == pytest.approx(total, rel=1e-14)
    assert len({digest(net.params) for net in nets}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOSSES)
def test_threads_do_not_change_weighted_training(case, dtype):
    X, y = inputs(600, N_IN, dtype), targets(case, 600, N_OUT, dtype)
    weights = np.random.default_rng(8).random(600)
    seen = set()
    for threads in (1, 2, 3, 4):
        net = Sequential([Linear(N_IN, 64), ReLU(), Linear(64, N_OUT)], dtype=dtype)
        how = {"loss": LOSSES[case], "sample_weight": weights, "batch_size": 250, "epochs": 2}
        history = net.fit(X, y, optimizer=Adam(), threads=threads, **how)
        seen.add((digest(net.params), tuple(history["loss"])))
    assert len(seen) == 1


@pytest.mark.parametrize("case", LOSSES)
def test_a_step_of_many_rows_takes_each_with_its_own_weight(case):
    """More rows than go through together, without an order: rows, targets and weights advance
    alike."""
    X, y = inputs(700, N_IN), targets(case, 700, N_OUT)
    weights = np.random.default_rng(8).random(700)
    one, two = build("float64"), build("float64")
    value = one.train_step(
        X, y, loss=LOSSES[case], optimizer=SGD(1e-4), sample_weight=weights, threads=1
    )
    z = two.forward(X, training=True)
    want, dz = loss_function(case)(z, y, sample_weight=weights)
    two.backward(dz)
    two.update(SGD(1e-4))
    assert value == want
    assert digest(one.params) == digest(two.params)


def test_a_row_of_weight_two_counts_as_two_rows():
    X, y = inputs(40, N_IN), targets("squared_error", 40, 1)
    twice = np.r_[np.arange(40), np.arange(10)]
    weight = np.r_[np.full(10, 2.0), np.ones(30)]
    a, b = (Sequential([Linear(N_IN, 1)], dtype="float64") for _ in range(2))
    b.params[:] = a.params
    loss = fastmlp.SquaredError(reduction="sum")
    for _ in range(5):
        one = a.train_step(X, y, loss=loss, optimizer=SGD(lr=1e-3), sample_weight=weight)
        two = b.train_step(X[twice], y[twice], loss=loss, optimizer=SGD(lr=1e-3))
        assert one == pytest.approx(two, rel=1e-12)
    np.testing.assert_allclose(a.params, b.params, rtol=1e-12)


def test_evaluate_and_validation_are_weighted():
    X, y = data("squared_error")
    net = build()
    held = (X[:50], y[:50], WEIGHTS[:50])
    history = net.fit(X[50:], y[50:], epochs=2, validation_data=held)
    assert net.evaluate(*held[:2], sample_weight=held[2])["loss"] == history["val_loss"][-1]
    assert net.evaluate(*held[:2])["loss"] != history["val_loss"][-1]
    z = net.predict(X[:50])
    assert history["val_loss"][-1] == fastmlp.squared_error(z, y[:50], sample_weight=held[2])[0]


def test_rows_that_are_split_off_keep_their_weights():
    X, y = data("squared_error")
    order = np.arange(ROWS)
    fastmlp._core.shuffle(order, 0, 2**64 - 1)
    held = np.sort(order[: round(ROWS * 0.25)])
    net = build()
    history = net.fit(X, y, epochs=1, validation_split=0.25, sample_weight=WEIGHTS)
    score = net.evaluate(X[held], y[held], sample_weight=WEIGHTS[held])
    assert score["loss"] == history["val_loss"][-1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(ROWS - 1), r"expected \(157,\)"),
        (np.ones((ROWS, 1)), r"expected \(157,\)"),
        (-WEIGHTS, "negative"),
        (np.where(WEIGHTS > 2, np.nan, 1), "NaN"),
        (np.where(WEIGHTS > 2, np.inf, 1), "infinity"),
        (["a"] * ROWS, "sample_weight"),
    ],
)
def test_bad_weights_are_refused_before_any_work(weights, message):
    X, y = data("squared_error")
    net = build()
    before = net.params.copy()
    for call in (net.fit, net.train_step, net.evaluate):
        with pytest.raises((ValueError, TypeError), match=message):
            call(X, y, sample_weight=weights)
    with pytest.raises((ValueError, TypeError), match=r"validation sample_weight|validation"):
        net.fit(X, y, validation_data=(X, y, weights))
    assert np.array_equal(net.params, before)
    assert net.step == 0


# ---- classes ---------------------------------------------------------------------------------


def class_weighted(case, y, class_weight, **how):
    """The parameters after training with the class weights, and after training with `rows`."""
    n_out = N_OUT if LOSSES[case].needs_labels else 1
    net = build(n_out=n_out)
    net.fit(inputs(ROWS, N_IN, "float32"), y, loss=LOSSES[case], class_weight=class_weight, **how)
    return digest(net.params)


def row_weighted(case, y, rows, **how):
    n_out = N_OUT if LOSSES[case].needs_labels else 1
    net = build(n_out=n_out)
    net.fit(inputs(ROWS, N_IN, "float32"), y, loss=LOSSES[case], sample_weight=rows, **how)
    return digest(net.params)


LABEL_CASES = [case for case in LOSSES if LOSSES[case].needs_labels]
BINARY_CASES = [c for c in LOSSES if LOSSES[c].high == 1 and "soft" not in LOSSES[c].name]
SKEWED = np.random.default_rng(9).choice(
    5, ROWS, p=[0.6, 0.2, 0.1, 0.05, 0.05]
)  # class 5 is absent


@pytest.mark.parametrize("case", LABEL_CASES + BINARY_CASES)
def test_class_weights_are_weights_of_rows(case):
    utils = pytest.importorskip("sklearn.utils")
    y = SKEWED if case in LABEL_CASES else (SKEWED > 1).astype(int)
    balanced = utils.compute_sample_weight("balanced", y)
    assert balanced.mean() == pytest.approx(1)
    assert class_weighted(case, y, "balanced") == row_weighted(case, y, balanced)
    chosen = utils.compute_sample_weight({0: 0.5, 1: 3.0}, y)
    assert class_weighted(case, y, {0: 0.5, 1: 3.0}) == row_weighted(case, y, chosen)
    counts = np.bincount(y, WEIGHTS)  # every row counts as its weight
    both = (counts.sum() / (len(counts) * counts))[y] * WEIGHTS
    assert np.bincount(y, both) == pytest.approx(np.full(len(counts), WEIGHTS.sum() / len(counts)))
    got = class_weighted(case, y, "balanced", sample_weight=WEIGHTS)
    assert got == row_weighted(case, y, both)
    whole = [0.5, 3.0] + [1.0] * (4 if case in LABEL_CASES else 0)
    assert class_weighted(case, y, whole) == row_weighted(case, y, chosen)


def test_balanced_counts_the_training_rows_alone_and_leaves_validation_unweighted():
    X, net = inputs(ROWS, N_IN, "float32"), build()
    history = net.fit(X, SKEWED, epochs=1, class_weight="balanced", validation_split=0.25)
    order = np.arange(ROWS)
    fastmlp._core.shuffle(order, 0, 2**64 - 1)
    held, rest = np.sort(order[:39]), np.sort(order[39:])
    assert history["val_loss"][0] == net.evaluate(X[held], SKEWED[held])["loss"]
    counts = np.bincount(SKEWED[rest])
    weights = (len(rest) / (np.count_nonzero(counts) * counts))[SKEWED]
    other = build()
    other.fit(X, SKEWED, epochs=1, sample_weight=weights, validation_split=0.25)
    assert digest(net.params) == digest(other.params)


def test_balanced_classes_count_alike():
    """Without hidden layers and inputs the best probabilities are the weighted shares."""
    net = Sequential([Linear(1, 6)], dtype="float64")
    X = np.zeros((ROWS, 1))
    for lr in (0.1, 0.01):
        net.fit(X, SKEWED, class_weight="balanced", optimizer=Adam(lr), epochs=400, batch_size=ROWS)
    np.testing.assert_allclose(net.predict_proba(X[:1])[0, :5], 0.2, atol=0.005)


@pytest.mark.parametrize(
    ("loss", "y", "class_weight", "message"),
    [
        ("cross_entropy", SKEWED, "even", "balanced"),
        ("cross_entropy", SKEWED, {6: 1.0}, r"class 6, but classes are 0 \.\. 5"),
        ("cross_entropy", SKEWED, {-1: 1.0}, "class -1"),
        ("cross_entropy", SKEWED, {0: -1.0}, "negative"),
        ("cross_entropy", SKEWED, [1.0, 2.0], r"expected \(6,\)"),
        ("squared_error", np.zeros((ROWS, 6)), "balanced", "sample_weight"),
        ("binary_cross_entropy", np.zeros((ROWS, 6)), "balanced", "sample_weight"),
    ],
)
def test_bad_class_weights_are_refused(loss, y, class_weight, message):
    net = build()
    with pytest.raises(ValueError, match=message):
        net.fit(inputs(ROWS, N_IN), y, loss=loss, class_weight=class_weight)
    assert net.step == 0


def test_class_weights_need_certain_targets():
    net = build(n_out=1)
    with pytest.raises(ValueError, match="0 or 1"):
        net.fit(
            inputs(ROWS, N_IN),
            np.full(ROWS, 0.5),
            loss="binary_cross_entropy",
            class_weight="balanced",
        )


# ---- the sum ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", fastmlp._core.LOSSES)
def test_the_sum_is_the_mean_times_its_terms(name, dtype):
    z, y = inputs(23, N_OUT, dtype), targets(name, 23, N_OUT, dtype)
    terms = {"pinball": z.size, "soft_cross_entropy": len(z)}.get(name, y.size)
    mean, dz = loss_function(name)(z, y)
    total, dz_sum = getattr(fastmlp, name)(z, y, reduction="sum")
    assert total == pytest.approx(terms * mean, rel=1e-12)
    size = np.abs(terms * dz) + (name == "soft_cross_entropy")  # a difference of probabilities
    assert_within(dz_sum, terms * dz, size, c=8)
    assert np.abs(dz_sum).max() > 0


def test_history_and_evaluate_report_the_sum():
    X, y = data("squared_error")
    net = Sequential([Linear(N_IN, N_OUT)])
    loss = fastmlp.SquaredError(reduction="sum")
    history = net.fit(X, y, loss=loss, optimizer=SGD(lr=0.0), epochs=1, batch_size=50)
    total = net.evaluate(X, y)["loss"]
    want = np.square(net.predict(X).astype(float) - y).sum()
    assert total == pytest.approx(want, rel=rounding("float32"))
    assert history["loss"][0] == pytest.approx(total, rel=1e-12)
