"""Calls that are refused, diverge or are broken off: what the network knows afterwards."""

import contextlib
import copy
import re
import threading
import time

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    ELU,
    LBFGS,
    SGD,
    SWA,
    Adam,
    BatchNorm,
    Callback,
    DivergenceError,
    EarlyStopping,
    LeakyReLU,
    LevenbergMarquardt,
    Linear,
    NAdam,
    ReLU,
    Residual,
    RMSprop,
    Sequential,
)

rng = np.random.default_rng(8)
X = rng.standard_normal((200, 4)).astype(np.float32)
LABELS = rng.integers(0, 3, 200)


def make(**kwargs):
    return Sequential([Linear(4, 8), ReLU(), Linear(8, 3)], **kwargs)


class At(Callback):
    """Calls `act(run)` at the end of one epoch."""

    def __init__(self, epoch, act):
        self.epoch, self.act = epoch, act

    def on_epoch_end(self, run):
        if run.epoch == self.epoch:
            self.act(run)


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [LeakyReLU(1e39), ELU(alpha=3.5e38), Residual([LeakyReLU(1e300)])]
)
def test_a_setting_that_float32_does_not_hold_is_refused(layer):
    leaves = layer.leaves()
    message = re.escape(repr(leaves[len(leaves) // 2]))
    with pytest.raises(
        ValueError, match=rf"layer \d[.a-z0-9]* is {message}, but (slope|alpha) .*float64"
    ):
        Sequential([Linear(4, 8), layer, Linear(8, 3)])
    late = Sequential([Linear(8), layer, Linear(3)])
    with pytest.raises(ValueError, match="may be at most"):
        late.fit(X, LABELS, epochs=1)
    with pytest.raises(ValueError, match="may be at most"):
        layer.forward(X)
    net = Sequential([Linear(4, 8), layer, Linear(8, 3)], dtype="float64")
    assert np.isfinite(net.forward(X)).all()


REFUSED = {
    "metric": {"metrics": ["nope"]},
    "callback": {"callbacks": [print]},
    "epochs": {"epochs": -1},
    "batch_size": {"batch_size": 0},
    "verbose": {"verbose": 7},
    "threads": {"threads": 0},
    "monitor": {"callbacks": [EarlyStopping()]},  # there is no validation data
    "optimizer": {"optimizer": "no such"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_fit_changes_nothing(name):
    net = make()
    history = net.fit(X, LABELS, epochs=2, optimizer=Adam(), metrics=["accuracy"])
    net._engine.context.position, net._unfinished_batches = 128, (200, 128, True, 0)
    state = [array.copy() for array in net._state]
    before = (net.optimizer, net.loss, net.metrics, net._unfinished_batches, net.params.copy())
    settings = {"optimizer": SGD(), "loss": "squared_error", **REFUSED[name]}
    with pytest.raises((ValueError, TypeError)):
        net.fit(X, np.eye(3)[LABELS], **settings)
    after = (net.optimizer, net.loss, net.metrics, net._unfinished_batches)
    assert after == before[:4]
    assert net._engine.context.position == 128
    assert net.history is history
    assert len(history["loss"]) == 2
    assert np.array_equal(net.params, before[4])
    assert all(map(np.array_equal, net._state, state))


def test_a_refused_update_changes_nothing():
    net = make()
    net.fit(X, LABELS, epochs=1)
    optimizer, moments = net.optimizer, net._state[0].copy()
    with pytest.raises(ValueError, match="threads"):
        net.update(SGD(), threads=0)
    assert net.optimizer is optimizer
    assert np.array_equal(net._state[0], moments)


@pytest.mark.parametrize(
    "meddle",
    [
        lambda net: net.update(RMSprop(lr=0.0)),
        lambda net: net.update("sgd"),
        lambda net: net.use_optimizer(SGD()),
        lambda net: net.set_params(np.zeros(net.n_params)),
    ],
)
def test_another_thread_cannot_change_a_network_in_training(meddle):
    errors = []

    def try_to(run):
        def meddling():
            try:
                meddle(run.net)
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=meddling)
        thread.start()
        thread.join()

    net, alone = make(), make()
    net.fit(X, LABELS, epochs=3, optimizer=Adam(), callbacks=[At(1, try_to)])
    alone.fit(X, LABELS, epochs=3, optimizer=Adam())
    assert len(errors) == 1
    assert net.params.tobytes() == alone.params.tobytes()
    assert net.optimizer == Adam()


# ---- diverged ------------------------------------------------------------------------------------


def huge_step():
    """A network and data whose first update overflows, the loss being finite."""
    return Sequential([Linear(4, 8), ReLU(), Linear(8, 1)]), 1e3 * X[:, :1]


@pytest.mark.parametrize("how", ["fit", "train_step", "update"])
@pytest.mark.parametrize(
    "kind",
    [SGD, NAdam, lambda lr: SGD(lr=lr, weight_average=SWA(start=0))],
    ids=["sgd", "nadam", "swa"],
)
def test_an_update_that_overflows_is_no_step(how, kind):
    net, y = huge_step()
    net.train_step(X, y, loss="squared_error", optimizer=kind(lr=1e-6))
    context = net._engine.context
    counts = context.t, context.updates, context.epoch, context.running, context.n_averaged
    net.grads[:] = 1e30
    call = {
        "fit": lambda: net.fit(X, y, batch_size=200, optimizer=kind(lr=3e38)),
        "train_step": lambda: net.train_step(X, y, optimizer=kind(lr=3e38)),
        "update": lambda: net.update(kind(lr=3e38)),
    }[how]
    with pytest.raises(DivergenceError, match="no longer finite in epoch 1") as caught:
        call()
    after = context.t, context.updates, context.epoch, context.running, context.n_averaged
    assert after == counts
    assert (caught.value.epoch, caught.value.step) == (1, 2)
    assert np.isfinite(net.params).all()


def test_a_refused_update_is_written_where_it_is_finite():
    """As the docstring of DivergenceError says."""
    net = make()
    net.train_step(X, LABELS, optimizer=Adam())
    before = [a.copy() for a in (net.params, *net._state)]
    net.grads[:], net.grads[5] = 0.1, np.inf
    with pytest.raises(DivergenceError):
        net.update(net.optimizer)
    refused = np.arange(net.n_params) == 5
    for old, new in zip(before, (net.params, *net._state), strict=True):
        assert np.array_equal(old == new, refused)


def test_a_loss_that_overflows_is_no_step():
    net = make()
    net.train_step(X, LABELS, optimizer=SGD())
    before = net.params.copy()
    with pytest.raises(DivergenceError, match="no longer finite in epoch 1") as caught:
        net.fit(X, 1e30 * np.eye(3)[LABELS], loss="squared_error", batch_size=50, shuffle=False)
    assert (caught.value.epoch, caught.value.step, net.step, net.epoch) == (1, 2, 1, 0)
    assert np.array_equal(net.params, before)


@pytest.mark.parametrize("how", ["train_step", "update"])
def test_weights_that_are_not_finite_are_named(how):
    net = make()
    net.train_step(X, LABELS)
    net.params[3] = np.inf
    with pytest.raises(ValueError, match="weights of this network hold NaN or infinity"):
        net.train_step(X, LABELS) if how == "train_step" else net.update(SGD())


class CountSteps(Callback):
    """Steps of each pass."""

    def __init__(self):
        self.steps = []

    def on_fit_begin(self, run):
        self.before = run.net._engine.context.updates

    def on_epoch_end(self, run):
        updates = run.net._engine.context.updates
        self.steps.append(updates - self.before)
        self.before = updates


@contextlib.contextmanager
def stop_after(net, steps):
    """Ctrl-C after so many steps of the next pass."""
    context = net._engine.context

    class Stopping:
        def __getattr__(self, name):
            return getattr(context, name)

        def __setattr__(self, name, value):
            setattr(context, name, value)

        def train(self, *args, **kwargs):
            for _ in range(steps):
                context.train(*args[:-1], 0.0, **kwargs)  # in no time: one step
            raise KeyboardInterrupt

    net._engine.context = Stopping()
    try:
        yield
    finally:
        net._engine.context = context


OTHERS = {
    "the same": ({}, 5),
    "other rows": ({"X": X + 1}, 7),
    "other labels": ({"y": 2 - LABELS}, 7),
    "other batches": ({"batch_size": 30}, 7),
    "not shuffled": ({"shuffle": False}, 7),
}


@pytest.mark.parametrize("name", OTHERS)
def test_only_the_same_pass_goes_on_where_it_stopped(name):
    change, steps = OTHERS[name]
    data = {"X": X, "y": LABELS, "batch_size": 32, "optimizer": Adam()}
    net, counter = make(), CountSteps()
    with stop_after(net, 2), pytest.raises(KeyboardInterrupt):
        net.fit(**data)
    assert net._engine.context.position == 64
    net = copy.deepcopy(net)  # as a model file keeps it
    net.fit(**(data | change), epochs=2, callbacks=[counter])
    assert counter.steps == [steps, 7]


def test_a_pass_that_diverged_is_not_gone_on_with():
    y = np.eye(3)[LABELS]
    y[150] = 1e30
    net, counter = make(), CountSteps()
    with pytest.raises(DivergenceError):
        net.fit(X, y, loss="squared_error", batch_size=32, shuffle=False)
    net.fit(X, LABELS, loss="cross_entropy", batch_size=32, epochs=2, callbacks=[counter])
    assert counter.steps == [7, 7]


# ---- a width that is not known yet ---------------------------------------------------------------

BAD_FIRST = {
    "rows of y": lambda net: net.fit(X[:, :2], LABELS[:-1]),
    "classes": lambda net: net.fit(X[:, :2], LABELS + 1),
    "nan": lambda net: net.fit(np.full((200, 2), np.nan), LABELS),
    "loss": lambda net: net.fit(X[:, :2], LABELS, loss="nope"),
    "step": lambda net: net.train_step(X[:, :2], LABELS[:-1]),
    "predict": lambda net: net.predict(X[:, :2]),
    "evaluate": lambda net: net.evaluate(X[:, :2], LABELS),
    "forward": lambda net: net.forward(X[:, 0]),
}


@pytest.mark.parametrize("name", BAD_FIRST)
def test_refused_data_do_not_fix_the_width(name):
    net = Sequential([Linear(8), ReLU(), Linear(3)])
    with pytest.raises(ValueError, match=r"\w"):
        BAD_FIRST[name](net)
    with pytest.raises(ValueError, match="width is not known"):
        print(net.n_in)
    assert net.n_out == 3
    net.fit(X, LABELS, epochs=1)
    assert net.n_in == 4


def test_threads_that_forward_first_build_one_network():
    def slow(rng, n_in, n_out):
        time.sleep(0.05)
        return rng.standard_normal((n_in, n_out))

    net, start, outcomes = Sequential([Linear(3, init=slow)]), threading.Barrier(4), []

    def use():
        start.wait()
        try:
            outcomes.append(net.forward(X))
        except (RuntimeError, ValueError) as error:
            outcomes.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outputs = [outcome for outcome in outcomes if isinstance(outcome, np.ndarray)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert outputs
    assert all(np.array_equal(output, outputs[0]) for output in outputs)
    assert all("already running in another thread" in str(error) for error in errors)


# ---- a network that could not be made ------------------------------------------------------------


def test_layers_must_be_layers():
    assert len(Sequential(Linear(4, 4) for _ in range(2)).layers) == 2
    for bad in (7, [7]):
        with pytest.raises(TypeError, match="list of layers"):
            Sequential(bad)


# ---- what a call says of its arguments -----------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message", "settings"),
    [
        (TypeError, "shuffle must be True or False, not 'batch'", {"shuffle": "batch"}),
        (TypeError, "shuffle must be True or False, not None", {"shuffle": None}),
        (TypeError, "drop_last must be True or False, not 'no'", {"drop_last": "no"}),
        (ValueError, r"\(2,\), expected \(3,\): one a class", {"class_weight": [1, 2]}),
        (ValueError, "no row has a weight above 0", {"sample_weight": np.zeros(200)}),
        (ValueError, "no row has a weight above 0", {"class_weight": {0: 0, 1: 0, 2: 0}}),
        (TypeError, "metrics must be a list", {"metrics": 3}),
        (TypeError, "callbacks must be a list", {"callbacks": 3}),
    ],
)
def test_a_bad_setting_of_fit_is_named(error, message, settings):
    net = make()
    with pytest.raises(error, match=message):
        net.fit(X, LABELS, epochs=1, **settings)
    assert (net.step, net.loss) == (0, None)


def test_no_metrics_and_no_callbacks_may_be_said_with_none():
    net, plain = make(), make()
    how = {"epochs": 1, "shuffle": np.bool_(True), "drop_last": 0}
    assert net.fit(X, LABELS, metrics=None, callbacks=None, **how) == plain.fit(X, LABELS, epochs=1)
    # a weight for some rows is enough, and a mini-batch may be masked
    net.fit(X, LABELS, sample_weight=np.arange(200) == 3)
    net.train_step(X, LABELS, sample_weight=np.zeros(200))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(list("abcd") * 50), r"numpy\.unique\(y, return_inverse=True\)"),
        (np.array(list("abcd") * 50, object), r"numpy\.unique\(y, return_inverse=True\)"),
        (np.eye(3, dtype=int)[LABELS], r"y\.argmax\(axis=1\)"),
        (np.zeros((200, 2)), r"y has 2 columns but the last layer has 3 outputs"),
    ],
)
def test_labels_of_another_form_are_told_how_to_become_some(y, message):
    for loss in (None, "cross_entropy"):
        if loss or y.dtype.kind != "f":
            with pytest.raises((ValueError, TypeError), match=message):
                make().fit(X, y, loss=loss)


def test_what_refuses_to_become_an_array_is_a_type_error():
    class Stubborn:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("detach me first")

    with pytest.raises(TypeError, match="X cannot be made an array: detach me first"):
        make().predict(Stubborn())


def test_functions_of_losses_count_rows_of_z():
    with pytest.raises(ValueError, match="y has 3 rows but z has 200"):
        fastmlp.cross_entropy(np.zeros((200, 3)), LABELS[:3])
    with pytest.raises(ValueError, match="y has 3 rows but z has 200"):
        fastmlp.squared_error(np.zeros((200, 3)), np.zeros((3, 3)))


def test_parameters_that_are_not_finite_are_refused():
    net = make()
    before = net.params.copy()
    for bad in (np.nan, np.inf, 1e300):
        values = before.astype(np.float64)
        values[7] = bad
        with pytest.raises(
            ValueError, match="params holds NaN, infinity or numbers too large for float32"
        ):
            net.set_params(values)
    with pytest.raises(TypeError, match="params has the type"):
        net.set_params("a")
    np.testing.assert_array_equal(net.params, before)


def test_one_row_before_a_batch_norm_changes_nothing():
    net = Sequential([Linear(4, 8), BatchNorm(), ReLU(), Linear(8, 3)])
    net.fit(X, LABELS, optimizer=Adam(), epochs=1)
    moments = net._state[0].copy()
    with pytest.raises(ValueError, match="BatchNorm needs at least 2 rows"):
        net.train_step(X[:1], np.ones((1, 3)), loss="squared_error", optimizer=SGD())
    assert (net.loss, net.optimizer) == ("cross_entropy", Adam())
    np.testing.assert_array_equal(net._state[0], moments)


@pytest.mark.parametrize("method", ["lbfgs", LBFGS(), LevenbergMarquardt()])
def test_full_batch_methods_are_for_fit(method):
    net = make()
    for call in (lambda: net.train_step(X, LABELS, optimizer=method), lambda: net.update(method)):
        with pytest.raises(ValueError, match="sees all rows in every step; pass it to fit"):
            call()
    with pytest.raises(TypeError, match=r"LBFGS is a class; pass an object, LBFGS\(\)"):
        net.fit(X, LABELS, optimizer=LBFGS)
    with pytest.raises(TypeError, match=r"Adam is a class; pass an object, Adam\(\)"):
        net.train_step(X, LABELS, optimizer=Adam)
    assert (net.step, net.loss, net.optimizer) == (0, None, None)
