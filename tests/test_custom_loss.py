"""Losses written in Python: the same training as in C, and what a wrong function is told."""

import pickle

import numpy as np
import pytest
from helpers import AROUND, DTYPES, OPTIMIZERS, digest, inputs, interrupted, rounding, targets

import fastmlp
from fastmlp import (
    EMA,
    SGD,
    SWA,
    Adam,
    AdamW,
    BatchNorm,
    Callback,
    CosineDecay,
    CustomLoss,
    DivergenceError,
    Dropout,
    EarlyStopping,
    Linear,
    ReLU,
    Sequential,
    Standardize,
)

ROWS, N_IN, N_OUT = 157, 11, 6
WEIGHTS = np.random.default_rng(7).gamma(1.0, size=ROWS)


def squared(pred, target):
    error = pred - target
    return (error**2).mean(axis=1), 2 * error / error.shape[1]


def softmax_loss(pred, target):
    """Labels reach the function as int64."""
    assert target.dtype == np.int64
    log_p = pred - np.logaddexp.reduce(pred.astype(float), axis=1, keepdims=True)
    onehot = np.eye(pred.shape[1])[target]
    return -(log_p * onehot).sum(axis=1), np.exp(log_p) - onehot


def build(dtype="float64", p=0.2):
    return Sequential([Linear(N_IN, 37), ReLU(), Dropout(p), Linear(37, N_OUT)], dtype=dtype)


def data(dtype="float64", name="squared_error"):
    return inputs(ROWS, N_IN, dtype), targets(name, ROWS, N_OUT, dtype)


def test_a_row_of_weight_zero_counts_for_nothing_whatever_its_loss():
    X, y = data()
    weights = WEIGHTS.copy()
    weights[::5] = 0

    def broken(pred, target):
        values, gradient = squared(pred, target)
        lost = target[:, 0] == 77
        values[lost], gradient[lost] = np.inf, np.nan
        return values, gradient

    whole, part = build(), build()
    how = {"sample_weight": weights, "optimizer": SGD(0.01)}
    want = whole.train_step(X, y, loss=squared, **how)
    y[::5] = 77
    assert part.train_step(X, y, loss=broken, **how) == want
    assert digest(part.params) == digest(whole.params)


# ---- the same as in C ------------------------------------------------------------------------

# Twelve steps carry the rounding of the first on; c covers that.
STEPS = {"batch_size": 50, "epochs": 3}


@pytest.mark.parametrize("optimizer", (OPTIMIZERS | AROUND).values(), ids=OPTIMIZERS | AROUND)
def test_a_custom_squared_error_trains_as_the_built_in_one(optimizer):
    X, y = data()
    ours, theirs = build(), build()
    how = {**STEPS, "optimizer": optimizer, "sample_weight": WEIGHTS, "validation_split": 0.2}
    how["metrics"] = ["rmse"]
    got = ours.fit(X, y, loss=squared, **how)
    want = theirs.fit(X, y, loss="squared_error", **how)
    assert list(got) == list(want)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=rounding("float64", 12, c=64))
    difference = np.abs(ours.params - theirs.params).max()
    assert difference <= rounding("float64", 12, c=64)
    assert (ours.step, ours.epoch) == (theirs.step, theirs.epoch) == (9, 3)
    counters = ("t", "updates", "epoch", "position", "passes")
    a, b = ours._engine.context, theirs._engine.context
    assert [getattr(a, name) for name in counters] == [getattr(b, name) for name in counters]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_custom_cross_entropy_trains_as_the_built_in_one(dtype):
    X, y = data(dtype, "cross_entropy")
    ours, theirs = build(dtype), build(dtype)
    how = {**STEPS, "optimizer": SGD(0.05), "class_weight": None}
    got = ours.fit(X, y, loss=softmax_loss, **how)["loss"]
    want = theirs.fit(X, y, loss="cross_entropy", **how)["loss"]
    np.testing.assert_allclose(got, want, rtol=rounding(dtype, 12, c=64))
    assert ours.evaluate(X, y).keys() == {"loss"}
    assert ours.evaluate(X, y, metrics=["accuracy"])["accuracy"] == pytest.approx(
        theirs.evaluate(X, y)["accuracy"], abs=2 / ROWS
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_train_step_and_evaluate_equal_the_built_in_one(reduction):
    X, y = data()
    ours, theirs = build(), build()
    custom = CustomLoss(squared, reduction=reduction)
    near = {"rel": rounding("float64", 10, c=64)}
    for i in range(5):
        how = {"optimizer": AdamW(0.01), "sample_weight": WEIGHTS}
        got = ours.train_step(X, y, loss=custom, **how)
        want = theirs.train_step(X, y, loss="squared_error", **how)
        scale = ROWS if reduction == "sum" else 1
        if i == 0 or reduction == "mean":  # Adam's eps sees the size of the gradient
            assert got == pytest.approx(scale * want, **near)
    assert ours._engine.context.passes == theirs._engine.context.passes == 5
    if reduction == "mean":
        got = ours.evaluate(X, y, sample_weight=WEIGHTS)["loss"]
        assert got == pytest.approx(theirs.evaluate(X, y, sample_weight=WEIGHTS)["loss"], **near)


def test_callbacks_and_schedules_run():
    X, y = data()
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, run):
            seen.append(run.logs["loss"])

    stopping = EarlyStopping("loss", patience=2, min_delta=1e9)
    lr = fastmlp.CosineDecay(0.01, steps=40)
    net = build()
    history = net.fit(
        X, y, loss=squared, optimizer=Adam(lr), callbacks=[Watch(), stopping], epochs=9
    )
    assert len(history["loss"]) == len(seen) == 3
    assert history.stop_reason


def test_threads_change_no_bit():
    X, y = data("float32")
    nets = [build("float32") for _ in range(3)]
    for threads, net in enumerate(nets, 1):
        net.fit(X, y, loss=squared, threads=threads, **STEPS)
    assert len({digest(net.params) for net in nets}) == 1


def test_fit_in_pieces_equals_fit_in_one():
    X, y = data()
    whole, parts = build(), build()
    whole.fit(X, y, loss=squared, batch_size=50, epochs=4)
    for epochs in (1, 3):
        parts.fit(X, y, loss=squared, batch_size=50, epochs=epochs)
    assert digest(whole.params, *whole._state) == digest(parts.params, *parts._state)


def test_the_function_may_spoil_its_arguments():
    X, y = data()

    def spoiling(pred, target):
        result = squared(pred, target)
        pred[:] = np.nan
        return result

    one, two = build(), build()
    one.fit(X, y, loss=spoiling, **STEPS)
    two.fit(X, y, loss=squared, **STEPS)
    assert digest(one.params) == digest(two.params)


def test_the_function_may_spoil_its_targets():
    """A mini-batch of fit is a copy; elsewhere it had been the user's y."""
    X, y = data()
    before = y.copy()

    def spoiling(pred, target):
        result = squared(pred, target)
        target[:] = 777
        return result

    net = build()
    net.train_step(X, y, loss=spoiling)
    net.evaluate(X, y, loss=spoiling)
    net.gradient(X, y, loss=spoiling)
    history = net.fit(X, y, loss=spoiling, validation_data=(X, y), **STEPS)
    np.testing.assert_array_equal(y, before)
    assert max(history["val_loss"]) < 10


# ---- interrupted -----------------------------------------------------------------------------


def test_an_exception_in_the_function_leaves_whole_steps():
    """The masks of the step that was not taken are drawn again, so that the rest is the same."""
    X, y = data()
    calls = []

    def failing(pred, target):
        calls.append(len(pred))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return squared(pred, target)

    net, undisturbed = build(), build()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, loss=failing, **STEPS)
    assert (net.step, net.epoch, net._engine.context.position) == (5, 1, 50)
    net.fit(X, y, loss=squared, batch_size=50, epochs=2)  # the rest of this pass, and one more
    undisturbed.fit(X, y, loss=squared, **STEPS)
    assert digest(net.params, *net._state) == digest(undisturbed.params, *undisturbed._state)
    assert (net.step, net.epoch) == (undisturbed.step, undisturbed.epoch) == (12, 3)


INTERRUPTED = """
import numpy as np
from fastmlp import *
calls = 0
def squared(pred, target):
    global calls
    calls += 1
    if calls == 3:
        print("ready", flush=True)  # two steps have been taken
    error = pred - target
    return (error**2).mean(axis=1), 2 * error / error.shape[1]
def net():
    return Sequential([Linear(8, 32), ReLU(), Dropout(0.2), Linear(32, 2)], seed=1)
X = np.random.default_rng(0).standard_normal((3000, 8)).astype("f")
y = X[:, :2] * 2
a = net()
try:
    a.fit(X, y, loss=squared, epochs=100000, batch_size=50)
except KeyboardInterrupt:
    print("stopped", flush=True)
steps, epochs = a.step, a.epoch
assert steps > 0
a.fit(X, y, epochs=2, batch_size=50)
b = net()
b.fit(X, y, loss=squared, epochs=epochs + 2, batch_size=50)
assert (a.step, a.epoch) == (b.step, b.epoch), (a.step, b.step)
assert a.params.tobytes() == b.params.tobytes()
print("resumed")
"""


@pytest.mark.parametrize("delay", [0.05, 0.13, 0.31])
def test_ctrl_c_leaves_whole_steps_and_resumes_exactly(tmp_path, delay):
    out, err = interrupted(INTERRUPTED, tmp_path, delay)
    assert out.split() == ["stopped", "resumed"], err


# ---- what a wrong function is told -----------------------------------------------------------


def returning(values, gradient):
    return lambda pred, target: (values(pred), gradient(pred))


def row_sums(pred):
    return pred.sum(axis=1)


WRONG = {
    "nothing": (lambda pred, target: None, TypeError, "NoneType, not a pair"),
    "one array": (lambda pred, target: pred, TypeError, "not a pair"),
    "a mean": (
        returning(np.mean, np.ones_like),
        ValueError,
        r"values .* \(157,\), not \(\); one number a row",
    ),
    "columns": (returning(np.ones_like, np.ones_like), ValueError, r"values .* \(157, 6\)"),
    "flat gradient": (returning(row_sums, row_sums), ValueError, r"gradient .* not \(157,\)"),
    "text": (
        returning(lambda p: ["a"] * len(p), np.ones_like),
        TypeError,
        "values .* must be numbers",
    ),
    "ragged": (returning(row_sums, lambda p: [[1.0], [1.0, 2.0]]), ValueError, "must be an array"),
    "nan gradient": (
        returning(row_sums, lambda p: np.where(np.arange(6) == 2, np.nan, p)),
        ValueError,
        "gradient .* holds NaN at row 0, column 2",
    ),
    "nan values": (
        returning(lambda p: np.full(len(p), np.nan), np.ones_like),
        DivergenceError,
        "no longer finite",
    ),
}


@pytest.mark.parametrize("case", ["nothing", "nan gradient", "nan values"])
def test_a_refused_step_leaves_the_running_statistics(case):
    function, error, _ = WRONG[case]
    net = Sequential([Linear(N_IN, 4), BatchNorm(), Linear(4, N_OUT)], seed=0)
    X, y = data()
    net.train_step(X, y, loss=returning(row_sums, np.ones_like))
    before = net.stats.copy()
    assert before.any()
    with pytest.raises(error):
        net.train_step(X, y, loss=function)
    np.testing.assert_array_equal(net.stats, before)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_functions_are_told_and_change_nothing(case):
    function, error, message = WRONG[case]
    X, y = data()
    for method in ("fit", "train_step"):
        net = build()
        before = net.params.copy()
        how = {"batch_size": ROWS} if method == "fit" else {}
        with pytest.raises(error, match=message):
            getattr(net, method)(X, y, loss=function, **how)
        assert np.array_equal(net.params, before)
        assert (net.step, net._engine.context.passes) == (0, 0)


def test_the_name_is_in_the_message():
    def row_mean(pred, target):
        return pred.mean(), pred

    with pytest.raises(ValueError, match="the values of row_mean"):
        build().train_step(*data(), loss=row_mean)


def test_targets_are_checked_as_far_as_one_can():
    net, (X, y) = build(), data()
    for bad, message in (
        (y[:-1], "156 rows"),
        (np.where(y > 2, np.nan, y), "NaN"),
        (np.array(3.0), "rows"),
        (y.astype(str), "encode"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            net.fit(X, bad, loss=squared)
    with pytest.raises(ValueError, match="sample_weight"):
        net.fit(X, y, loss=squared, class_weight="balanced")
    with pytest.raises(TypeError, match="a name, an object"):
        net.fit(X, y, loss=CustomLoss)
    with pytest.raises(TypeError, match="callable"):
        CustomLoss("squared")


@pytest.mark.parametrize("weight", ["balanced", {0: 0.5, 1: 3.0}])
def test_class_weights_of_labels(weight):
    """As those of the same loss in C."""
    X, y = inputs(ROWS, N_IN), targets("cross_entropy", ROWS, N_OUT)

    def cross_entropy(pred, target):
        values = [
            fastmlp.cross_entropy(z[None], t[None]) for z, t in zip(pred, target, strict=True)
        ]
        return np.array([v for v, _ in values]), np.concatenate([g for _, g in values])

    nets = build(), build()
    for net, loss in zip(nets, (cross_entropy, "cross_entropy"), strict=True):
        net.fit(X, y, loss=loss, class_weight=weight, optimizer=SGD(0.1), **STEPS)
    np.testing.assert_allclose(nets[0].params, nets[1].params, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("one_dimension", [True, False])
def test_metrics_of_values_take_a_column_as_it_was_given(one_dimension):
    """(rows,) against (rows, 1) would be every row against every other."""
    X, y = inputs(ROWS, N_IN), inputs(ROWS, 1, seed=1)

    def squared_error(pred, target):
        error = pred - target.reshape(pred.shape)
        return (error**2)[:, 0], 2 * error

    net = fastmlp.Sequential([fastmlp.Linear(N_IN, 1)], dtype="float64")
    given = y[:, 0] if one_dimension else y
    held = X[:20], given[:20]
    names = ["mae", "rmse", "r2"]
    history = net.fit(X, given, loss=squared_error, metrics=names, validation_data=held, epochs=2)
    got, want = net.evaluate(X, given), net.evaluate(X, y, loss="squared_error", metrics=names)
    assert got == pytest.approx(want, rel=1e-12)
    assert history["val_mae"][-1] == pytest.approx(
        np.abs(net.predict(X[:20]) - y[:20]).mean(), rel=1e-12
    )


def test_accuracy_is_refused_where_targets_do_not_say_what_they_mean():
    X, signs = inputs(ROWS, N_IN), np.sign(inputs(ROWS, 1, seed=1))[:, 0]

    def logistic(pred, target):
        z = pred[:, 0]
        p = 1 / (1 + np.exp(-z))
        return np.logaddexp(0, z) - target * z, (p - target)[:, None]

    net = fastmlp.Sequential([fastmlp.Linear(N_IN, 1)], dtype="float64")
    zero_one = (signs > 0).astype(int)
    history = net.fit(X, zero_one, loss=logistic, metrics=["accuracy"], epochs=1)
    got = net.evaluate(X, zero_one)["accuracy"]
    assert got == np.mean((net.predict(X)[:, 0] > 0) == zero_one)
    kept = net.params.copy()
    three = fastmlp.Sequential([fastmlp.Linear(N_IN, 3)])
    for one, y in ((net, signs), (net, 2 * zero_one), (three, zero_one + 2), (three, zero_one - 1)):
        with pytest.raises(ValueError, match=r"pass a function f\(y, out\)"):
            one.fit(X, y, loss=logistic, metrics=["accuracy"])
    with pytest.raises(ValueError, match="compare y with the outputs"):
        three.fit(X, zero_one, loss=logistic, metrics=["mae"])
    np.testing.assert_array_equal(net.params, kept)
    assert net.history is history


def test_only_the_function_knows_what_the_outputs_mean():
    net = build()
    net.fit(*data(), loss=squared, epochs=1)
    for method in (net.predict_proba, net.predict_response):
        with pytest.raises(ValueError, match="use predict"):
            method(data()[0])


def test_a_file_names_the_function_and_asks_for_it(tmp_path):
    X, y = data()
    net, undisturbed = build(), build()
    net.fit(X, y, loss=squared, epochs=2)
    net.save(tmp_path / "m")
    for other in (Sequential.load(tmp_path / "m"), pickle.loads(pickle.dumps(net))):
        assert digest(other.params) == digest(net.params)
        for call in (other.fit, other.train_step, other.evaluate):
            with pytest.raises(ValueError, match=r"loss squared, .*loss=squared"):
                call(X, y)
        other.fit(X, y, loss=squared, epochs=1)
        undisturbed = build()
        undisturbed.fit(X, y, loss=squared, epochs=3)
        assert digest(other.params) == digest(undisturbed.params)
        assert repr(other.loss) == "CustomLoss(squared)"


@pytest.mark.parametrize("use", ["forward", "backward", "train_step", "fit", "set_params"])
def test_a_loss_may_not_run_its_own_network(use):
    """Its gradient would go back through another forward pass."""
    x, y = inputs(20, 3), inputs(20, 2, seed=1)
    net = fastmlp.Sequential([fastmlp.Linear(3, 2)])
    calls = {
        "forward": lambda: net.forward(x),
        "backward": lambda: net.backward(y),
        "train_step": lambda: net.train_step(x, y, loss="squared_error"),
        "fit": lambda: net.fit(x, y, loss="squared_error"),
        "set_params": lambda: net.set_params(net.params),
    }

    def meddling(pred, target):
        net.predict(x)
        calls[use]()
        return ((pred - target) ** 2).sum(axis=1), 2 * (pred - target)

    kept = net.params.copy()
    for train in (net.fit, net.train_step, net.gradient):
        with pytest.raises(RuntimeError, match=r"net\.predict inside, or a copy"):
            train(x, y, loss=meddling)
    np.testing.assert_array_equal(net.params, kept)
    net.fit(x, y, loss="squared_error", epochs=1)  # nothing is held


# ---- a first step that fails ---------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    def save(net):
        net.save(tmp_path / "m")
        return tmp_path / "m"

    return save


def state_of(net):
    context = net._engine.context
    counters = (context.t, context.updates, context.epoch, context.position, context.passes)
    more = (context.schedule_start, context.n_averaged, context.running, net._unfinished_batches)
    arrays = (
        net.params,
        net.stats,
        *(net._state or ()),
        *([] if net._average is None else [net._average]),
    )
    kept = (net.loss, net.metrics, net.history, net.optimizer, net.keeps_average)
    return *counters, *more, *kept, digest(*arrays)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("way", ["fit", "train_step", "lbfgs"])
def test_a_loss_that_fails_in_its_first_step_changes_nothing(way, trained, saved):
    X, y = data()
    layers = [Standardize(), Linear(N_IN, 9), ReLU(), Dropout(0.5 * (way != "lbfgs"))]
    net = Sequential([*layers, Linear(9, N_OUT)], dtype="float64")
    if trained:
        adam = Adam(lr=CosineDecay(0.1, steps=99), weight_average=EMA(0.9))
        net.fit(X, y, optimizer=adam, metrics=["mae"], epochs=2)
    elif way == "train_step":
        net.layers[0].adapt(X)
    before = state_of(net)

    def wrong(pred, target):
        return pred, target  # of the wrong shape

    how = {"loss": wrong, "optimizer": "lbfgs" if way == "lbfgs" else AdamW(weight_average=SWA(1))}
    with pytest.raises(ValueError, match="must have the shape"):
        (net.train_step if way == "train_step" else net.fit)(X, y, **how)
    assert state_of(net) == before
    if trained:
        twin = Sequential.load(saved(net))
        for each in (net, twin):
            each.fit(X, y, epochs=1)
        assert digest(net.params, *net._state) == digest(twin.params, *twin._state)
    else:
        assert (net.loss, net.optimizer, net.history) == (None, None, None)
        assert net._standardize.is_adapted == (way == "train_step")


def test_a_loss_that_fails_later_leaves_what_was_trained():
    X, y = data()
    net, calls = build(), []

    def fails_in_its_second_step(pred, target):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("no more")
        return squared(pred, target)

    with pytest.raises(RuntimeError, match="no more"):
        net.fit(X, y, loss=fails_in_its_second_step, optimizer=Adam(), batch_size=50)
    assert net.step == 1
    assert net.loss.function is fails_in_its_second_step
    assert net.optimizer == Adam()


def broadcasts(pred, target):
    return ((pred - target) ** 2).sum(axis=1), 2 * (pred - target)


def nan(pred, target):
    return pred.sum(axis=1), np.nan * pred


def test_what_a_loss_returns_is_named_as_the_function_s():
    X, y = data()
    with pytest.raises(ValueError, match=r"of nan holds NaN at row 0, column 0; correct nan$"):
        build().fit(X, y, loss=nan)
    net = Sequential([Linear(N_IN, 1)])
    with pytest.raises(
        ValueError, match=r"pred \(50, 1\) .* \(50,\); use target\[:, np\.newaxis\]"
    ):
        net.fit(X, y[:, 0], loss=broadcasts, batch_size=50)
    net.fit(X, y[:, :1], loss=broadcasts, batch_size=50)
