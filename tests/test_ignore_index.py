"""`ignore_index`: rows without a label count for nothing, wherever rows are counted."""

import dataclasses

import numpy as np
import pytest
from helpers import DTYPES, inputs, native_only, rounding

import fastmlp
from fastmlp import LBFGS, SGD, Adam, CrossEntropy, Focal, Linear, ReLU, Sequential

OURS = {
    "plain": CrossEntropy(ignore_index=-100),
    "smooth": CrossEntropy(0.2, ignore_index=-1),
    "a class": CrossEntropy(ignore_index=2),
    "beyond": CrossEntropy(ignore_index=255),
    "sum": CrossEntropy(ignore_index=-100, reduction="sum"),
    "focal": Focal(1.5, ignore_index=-100),
}
CLASSES = 4


def counting_all(loss):
    """The same loss without the label that is ignored."""
    return dataclasses.replace(loss, ignore_index=None)


def marked(loss, rows, seed=0, share=0.3):
    """Labels (rows,), some of them ignored, and which rows count."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(rows) < share, loss.ignore_index, rng.integers(0, CLASSES, rows))
    labels[:2] = loss.ignore_index, (loss.ignore_index == 0) + 0
    return labels, labels != loss.ignore_index


def net_of(dtype="float64", width=6, seed=3):
    layers = [Linear(5, width), ReLU(), Linear(width, CLASSES)]
    return Sequential(layers, dtype=dtype, seed=seed)


def by_hand(loss, z, y, **how):
    settings = {name: v for name, v in loss.__getstate__().items() if name != "reduction"}
    function = getattr(fastmlp, loss.name)
    return function(z, y, **{"reduction": loss.reduction, **settings, **how})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", OURS)
@pytest.mark.parametrize("rows", [2, 17, 40])
def test_as_if_the_rows_were_not_there(case, rows, dtype):
    loss, z = OURS[case], inputs(rows, CLASSES, dtype)
    y, counts = marked(loss, rows)
    weights = np.random.default_rng(5).random(rows)
    z[~counts] = np.inf  # not even read
    for how, part in (({}, {}), ({"sample_weight": weights}, {"sample_weight": weights[counts]})):
        value, dz = by_hand(loss, z, y, **how)
        want, want_dz = by_hand(counting_all(loss), z[counts], y[counts], **part)
        assert value == pytest.approx(want, rel=1e-15)
        np.testing.assert_allclose(dz[counts], want_dz, rtol=rounding(dtype), atol=0)
        assert (dz[~counts] == 0).all()
        values, each = by_hand(loss, z, y, **how, reduction="none")
        want, want_dz = by_hand(counting_all(loss), z[counts], y[counts], **part, reduction="none")
        np.testing.assert_array_equal(values[counts], want)
        np.testing.assert_allclose(each[counts], want_dz, rtol=rounding(dtype, c=16), atol=1e-30)
        assert (values[~counts] == 0).all()
        assert (each[~counts] == 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", OURS)
def test_of_no_row_at_all_is_nothing(case, reduction):
    """PyTorch's mean is 0 / 0 there."""
    y = np.full(9, OURS[case].ignore_index)
    value, dz = by_hand(OURS[case], inputs(9, CLASSES), y, reduction=reduction)
    assert np.all(value == 0)
    assert (dz == 0).all()


@pytest.mark.parametrize("given", [np.uint8, np.int16, np.float64, list])
def test_labels_of_any_type_may_hold_it(given):
    y = [0, 255, 3, 2] if given is np.uint8 else [0, -1, 3, 2]
    z = inputs(4, CLASSES)
    y_given = y if given is list else np.array(y, given)
    value, _ = fastmlp.cross_entropy(z, y_given, ignore_index=y[1])
    assert value == pytest.approx(fastmlp.cross_entropy(z[[0, 2, 3]], [0, 3, 2])[0], rel=1e-14)


@pytest.mark.parametrize(
    ("value", "error"),
    [(1.0, TypeError), (True, TypeError), ("-100", TypeError), (2**63, ValueError)],
)
def test_what_is_no_label_is_refused(value, error):
    for make in (CrossEntropy, Focal):
        with pytest.raises(error, match="ignore_index"):
            make(ignore_index=value)


def test_refused_targets():
    z = inputs(3, CLASSES)
    for y in ([0, -1, 2], [0, 4, 2], [0, np.nan, 2], [0, None, 2]):
        with pytest.raises((ValueError, TypeError)):
            fastmlp.cross_entropy(z, y, ignore_index=-100)
    with pytest.raises(ValueError, match="ignore_index=-100"):  # says what would help
        fastmlp.cross_entropy(z, [0, -100, 2])
    with pytest.raises(ValueError, match="18446744073709551615"):
        fastmlp.cross_entropy(z, np.array([0, 2**64 - 1, 2], np.uint64), ignore_index=-1)
    with pytest.raises(ValueError, match="sample_weight=0"):
        fastmlp.cross_entropy(z, np.full((3, CLASSES), 0.25), ignore_index=-100)
    with pytest.raises(TypeError):
        fastmlp.SoftCrossEntropy(ignore_index=-100)


# ---- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [6, 300])  # in panels, and row by row
@pytest.mark.parametrize("case", OURS)
def test_a_step_is_that_of_the_counted_rows(case, width, dtype):
    """Over 1,024 rows: in blocks."""
    loss, x = OURS[case], inputs(2500, 5, dtype)
    y, counts = marked(loss, len(x))
    y[:1100] = loss.ignore_index  # the whole first block
    counts[:1100] = False
    one, other = net_of(dtype, width), net_of(dtype, width)
    rate = 1e-4 if loss.reduction == "sum" else 0.1
    for _ in range(3):  # the second takes the quick way
        got = one.train_step(x, y, loss=loss, optimizer=SGD(rate))
        want = other.train_step(x[counts], y[counts], loss=counting_all(loss), optimizer=SGD(rate))
        assert got == pytest.approx(want, rel=rounding(dtype, c=32))
    np.testing.assert_allclose(one.params, other.params, atol=rounding(dtype, c=64))


@native_only
@pytest.mark.parametrize("width", [6, 300])
def test_bits_do_not_depend_on_threads(width):
    loss, x = OURS["smooth"], inputs(3000, 5)
    y, _ = marked(loss, len(x))
    nets = [net_of("float32", width) for _ in range(3)]
    for net, threads in zip(nets, (1, 2, 5), strict=True):
        net.fit(x, y, loss=loss, batch_size=1500, epochs=2, threads=threads, verbose=0)
    for net in nets[1:]:
        np.testing.assert_array_equal(net.params, nets[0].params)
        assert net.history == nets[0].history


def test_quick_steps_are_those_of_the_long_way():
    loss = OURS["plain"]
    x = inputs(30, 5, "float64")
    y, _ = marked(loss, 30)
    y = y.astype(np.int64)
    quick, long = net_of(), net_of()
    for _ in range(4):
        a = quick.train_step(x, y, loss=loss, optimizer=SGD(0.1))
        b = long.train_step(x, y.tolist(), loss=loss, optimizer=SGD(0.1))
        assert a == b
    np.testing.assert_array_equal(quick.params, long.params)
    nobody = np.full(30, loss.ignore_index)
    before = quick.params.copy()
    assert quick.train_step(x, nobody, loss=loss, optimizer=SGD(0.1)) == 0
    np.testing.assert_array_equal(quick.params, before)
    with pytest.raises(ValueError, match="class 9"):
        quick.train_step(x, np.full(30, 9), loss=loss, optimizer=SGD(0.1))


@pytest.mark.parametrize("case", OURS)
def test_fit_logs_the_mean_of_the_counted_rows(case):
    """Without a rate above 0 nothing moves, so that every epoch is an evaluation."""
    loss, x = OURS[case], inputs(100, 5)
    y, counts = marked(loss, 100)
    y[:7], counts[:7] = loss.ignore_index, False  # the whole first batch
    net = net_of()
    history = net.fit(
        x, y, loss=loss, optimizer=SGD(1e-300), batch_size=7, epochs=2, shuffle=False,
        metrics=["accuracy", lambda y, z: len(y)], validation_data=(x, y), verbose=0,
    )  # fmt: skip
    want, _ = by_hand(counting_all(loss), net.predict(x)[counts], y[counts])
    right = np.mean(net.predict(x)[counts].argmax(axis=1) == y[counts])
    for name in ("", "val_"):
        assert history[name + "loss"] == pytest.approx([want] * 2, rel=1e-12)
        assert history[name + "accuracy"] == pytest.approx([right] * 2)
        assert history[name + "<lambda>"] == [counts.sum()] * 2
    scores = net.evaluate(x, y)
    assert scores["loss"] == pytest.approx(want, rel=1e-12)
    assert scores["accuracy"] == pytest.approx(right)
    nobody = net.evaluate(x, np.full(100, loss.ignore_index))
    assert nobody["loss"] == 0
    assert np.isnan(nobody["accuracy"])


@pytest.mark.parametrize("case", OURS)
def test_balanced_classes_are_counted_without_them(case):
    loss, x = OURS[case], inputs(90, 5)
    y, counts = marked(loss, 90)
    one, other = net_of(), net_of()
    for net, rows, of in (
        (one, np.arange(90), loss),
        (other, np.where(counts)[0], counting_all(loss)),
    ):
        net.fit(x[rows], y[rows], loss=of, class_weight="balanced", batch_size=90, epochs=3,
                shuffle=False, optimizer=Adam(0.01), verbose=0)  # fmt: skip
    np.testing.assert_allclose(one.params, other.params, atol=1e-12)


def test_a_side_without_a_counted_row_is_refused():
    x, y, loss = inputs(20, 5), np.full(20, -100), OURS["plain"]
    net = net_of()
    with pytest.raises(ValueError, match="nothing to learn from"):
        net.fit(x, y, loss=loss, verbose=0)
    good = np.arange(20) % CLASSES
    with pytest.raises(ValueError, match="validation rows"):
        net.fit(x, good, loss=loss, validation_data=(x, y), verbose=0)
    half = np.where(np.arange(20) < 10, good, -100)
    with pytest.raises(ValueError, match="weight above 0"):
        net.fit(x, half, loss=loss, sample_weight=(half == -100) * 1.0, verbose=0)
    assert net.step == 0


def test_the_ignored_label_is_no_lost_class(recwarn):
    y = np.where(np.arange(40) == 3, -100, np.arange(40) % 2)
    for seed in range(12):  # in one of them the marked row is held out
        net = net_of(seed=seed)
        net.fit(inputs(40, 5), y, loss=OURS["plain"], validation_split=0.4, epochs=1, verbose=0)
    assert not [w for w in recwarn if "all rows of class" in str(w.message)]


def test_full_batch_methods_and_derivatives():
    """Over 4,096 rows, which a full-batch method takes block by block."""
    loss, x = OURS["smooth"], inputs(6000, 5)
    y, counts = marked(loss, len(x))
    y[:4096], counts[:4096] = loss.ignore_index, False
    one, other = net_of(), net_of()
    value, grad = one.gradient(x, y, loss=loss)
    want, want_grad = other.gradient(x[counts], y[counts], loss=counting_all(loss))
    assert value == pytest.approx(want, rel=1e-12)
    np.testing.assert_allclose(grad, want_grad, atol=1e-13)
    one.fit(x, y, loss=loss, optimizer=LBFGS(), epochs=4, verbose=0)
    other.fit(x[counts], y[counts], loss=counting_all(loss), optimizer=LBFGS(), epochs=4, verbose=0)
    np.testing.assert_allclose(one.params, other.params, atol=1e-8)


@pytest.mark.parametrize("case", OURS)
def test_gradients_are_the_slopes_of_the_loss(case):
    loss, z, h = OURS[case], inputs(11, CLASSES), 1e-5
    y, _ = marked(loss, 11)
    _, dz = by_hand(loss, z, y)
    for place in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[place] = h
        slope = (by_hand(loss, z + step, y)[0] - by_hand(loss, z - step, y)[0]) / (2 * h)
        assert dz[place] == pytest.approx(slope, abs=1e-8)


def test_model_files_keep_it(tmp_path):
    loss, x = OURS["plain"], inputs(20, 5)
    y, _ = marked(loss, 20)
    net = net_of()
    net.fit(x, y, loss=CrossEntropy(0.1, ignore_index=np.int32(-100)), epochs=1, verbose=0)
    net.save(tmp_path / "net.fmlp")
    again = Sequential.load(tmp_path / "net.fmlp")
    assert again.loss == CrossEntropy(0.1, ignore_index=-100)
    assert again.evaluate(x, y) == net.evaluate(x, y)
    assert "ignore_index=-100" in repr(again.loss)
    assert "ignore_index" not in repr(CrossEntropy())


def test_an_ignored_row_on_a_kink_is_not_named(recwarn):
    X = np.ones((4, 2))
    X[2] = 0
    net = Sequential([Linear(2, 3), ReLU(), Linear(3, 2)], dtype="float64")
    v = np.ones(net.n_params)
    net.hessian_vector(X, np.array([0, 1, -100, 0]), v, loss=CrossEntropy(ignore_index=-100))
    assert not recwarn.list
    with pytest.warns(UserWarning, match="kink"):
        net.hessian_vector(X, np.array([0, 1, 1, 0]), v, loss=CrossEntropy(ignore_index=-100))
