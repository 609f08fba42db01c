"""fit around its steps: history, validation, stopping, metrics, progress, tasks."""

import functools
import io
import sys

import numpy as np
import pytest
from helpers import rounding

import fastmlp
from fastmlp import (
    SGD,
    Adam,
    Callback,
    DataLoader,
    Dropout,
    EarlyStopping,
    Linear,
    Pinball,
    ReduceOnPlateau,
    ReLU,
    Sequential,
    Tanh,
    losses,
    metrics,
)
from fastmlp.training import progress

rng = np.random.default_rng(3)
X = rng.standard_normal((300, 4)).astype(np.float32)
LABELS = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int) + (X[:, 2] > 0.8)
VALUES = np.stack([X[:, 0] - 2 * X[:, 1], X[:, 2]], axis=1)


def classifier(**kwargs):
    return Sequential([Linear(4, 24), ReLU(), Linear(24, 3)], **kwargs)


# ---- what is logged ------------------------------------------------------------------------------


def test_history_has_one_entry_an_epoch_for_every_name():
    history = classifier().fit(
        X, LABELS, epochs=4, metrics=["accuracy"], validation_data=(X[:50], LABELS[:50])
    )
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert {len(values) for values in history.values()} == {4}


def test_the_logged_validation_is_what_evaluate_says():
    net = classifier()
    history = net.fit(X[50:], LABELS[50:], epochs=3, validation_data=(X[:50], LABELS[:50]))
    scores = net.evaluate(X[:50], LABELS[:50])
    assert scores["loss"] == history["val_loss"][-1]
    assert scores["accuracy"] == np.mean(net.predict(X[:50]).argmax(axis=1) == LABELS[:50])


def test_the_logged_loss_and_accuracy_are_those_of_the_batches_as_they_came():
    net, loop = classifier(), classifier()
    history = net.fit(
        X, LABELS, loss="cross_entropy", epochs=2, batch_size=64, metrics=["accuracy"]
    )
    loader = DataLoader(X, LABELS, batch_size=64, shuffle=True, seed=0)
    for epoch in range(2):
        losses, right = [], 0
        for xb, yb in loader:
            right += np.sum(loop.forward(xb).argmax(axis=1) == yb)
            losses += [loop.train_step(xb, yb)] * len(xb)
        assert history["loss"][epoch] == pytest.approx(np.mean(losses), rel=1e-12)
        assert history["accuracy"][epoch] == right / len(X)


def test_metrics_are_what_their_names_say():
    y, out = VALUES.astype(float), VALUES + rng.normal(0, 0.3, VALUES.shape)
    error = out - y
    assert metrics.mae(y, out) == pytest.approx(np.abs(error).mean())
    assert metrics.rmse(y, out) == pytest.approx(np.sqrt((error**2).mean()))
    sklearn = pytest.importorskip("sklearn.metrics")
    assert metrics.r2(y, out) == pytest.approx(sklearn.r2_score(y, out))
    assert np.isnan(metrics.r2(np.ones((5, 1)), np.zeros((5, 1))))
    assert metrics.accuracy(np.array([0, 2, 1]), np.eye(3)) == pytest.approx(1 / 3)
    assert metrics.accuracy(np.array([[1.0, 0.0]]), np.array([[0.3, 0.2]])) == 0.5


def test_metrics_are_of_what_the_outputs_mean():
    """A rate, a mean, a quantile; not the raw outputs."""
    counts = np.arange(300) % 4
    net = Sequential([Linear(4, 1)])
    net.fit(X, counts, loss="poisson", epochs=1)
    scores = net.evaluate(X, counts, metrics=["mae", "rmse", "r2"])
    rate = net.predict_response(X)
    y = counts[:, None].astype(np.float32)
    for name, score in scores.items():
        if name != "loss":
            assert score == getattr(metrics, name)(y, rate)
    net = Sequential([Linear(4, 4)])
    history = net.fit(X, VALUES, loss="gaussian_nll", metrics=["rmse"], validation_split=0.2)
    assert {"rmse", "val_rmse"} < history.keys()
    y, means = VALUES.astype(np.float32), net.predict(X)[:, :2]
    assert net.evaluate(X, VALUES)["rmse"] == metrics.rmse(y, means)
    net = Sequential([Linear(4, 6)])
    net.fit(X, VALUES, loss=Pinball((0.1, 0.6, 0.9)), epochs=1)
    assert net.evaluate(X, VALUES, metrics=["mae"])["mae"] == metrics.mae(
        y, net.predict_response(X)[:, [1, 4]]
    )


def test_metrics_must_suit_the_loss():
    for loss in losses.LOSS_CLASSES.values():
        good, bad = ("accuracy", "mae") if loss.predicts == "classes" else ("mae", "accuracy")
        assert list(metrics.get_metrics([good], loss())) == [good]
        with pytest.raises(ValueError, match="does not predict"):
            metrics.get_metrics([bad], loss())


@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_metrics_of_float32_are_taken_in_float64(mean):
    many = np.random.default_rng(0).standard_normal((400_000, 2))
    y = (mean + many).astype(np.float32)
    out = y + np.float32(0.5) * np.roll(many, 1).astype(np.float32)
    a, b = y.astype(np.float64), out.astype(np.float64)
    want = {
        metrics.r2: 1
        - np.mean(((a - b) ** 2).sum(axis=0) / ((a - a.mean(axis=0)) ** 2).sum(axis=0)),
        metrics.mae: np.abs(a - b).mean(),
        metrics.rmse: np.sqrt(((a - b) ** 2).mean()),
    }
    for metric, value in want.items():
        assert metric(y, out) == pytest.approx(value, rel=rounding(np.float64, y.size))


def test_r2_of_a_constant_target_is_nan():
    for dtype in (np.float32, np.float64):
        y = np.full((1000, 1), 0.1, dtype)
        assert np.isnan(metrics.r2(y, y + dtype(0.01)))


def test_a_function_is_a_metric():
    def bias(y, out):
        return float((out - y).mean())

    net = Sequential([Linear(4, 2)])
    history = net.fit(X, VALUES, epochs=2, metrics=[bias, "r2"], validation_split=0.2)
    assert list(history) == ["loss", "bias", "r2", "val_loss", "val_bias", "val_r2"]
    assert net.evaluate(X, VALUES).keys() == {"loss", "bias", "r2"}


def test_plot_draws_the_losses():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = classifier().fit(X, LABELS, epochs=3, validation_split=0.2).plot()
    assert [line.get_label() for line in axes.lines][:2] == ["training", "validation"]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    assert axes.get_xlabel() == "epoch"


# ---- rows held out -------------------------------------------------------------------------------


def test_validation_split_holds_rows_out():
    seen = []

    class Watch(Callback):
        def on_fit_begin(self, run):
            seen.append(run.has_validation)

    # One row is an outlier that only training on it can fit; where it is held out, it is in no
    # batch.
    net = classifier()
    net.fit(X, LABELS, epochs=1, validation_split=0.25, callbacks=[Watch()], batch_size=50)
    assert seen == [True]
    assert net.step == 5  # ceil(225 / 50), not ceil(300 / 50)
    again = classifier()
    again.fit(X, LABELS, epochs=1, validation_split=0.25, batch_size=50)
    assert again.params.tobytes() == net.params.tobytes()


def test_drop_last_and_a_batch_larger_than_the_data():
    net = classifier()
    net.fit(X, LABELS, epochs=1, batch_size=128, drop_last=True)
    assert net.step == 2
    net = classifier()
    net.fit(X, LABELS, epochs=2, batch_size=1000)
    assert net.step == 2


# ---- early stopping ------------------------------------------------------------------------------


class Scripted(Callback):
    """Logs a given curve, and remembers the weights of each epoch."""

    def __init__(self, curve):
        self.curve, self.weights = curve, []

    def on_epoch_end(self, run):
        run.logs["score"] = self.curve[run.epoch - 1]
        self.weights.append(run.net.params.copy())


@pytest.mark.parametrize(
    ("curve", "settings", "epochs", "best"),
    [
        ([5, 4, 3, 4, 5, 6, 7], {"patience": 0}, 4, 3),
        ([5, 4, 3, 4, 5, 6, 7], {"patience": 1}, 4, 3),
        ([5, 4, 3, 4, 5, 6, 7], {"patience": 2}, 5, 3),
        ([5, 4, 3, 4, 5, 2, 7], {"patience": 3}, 7, 6),
        ([5, 4.9, 4.8, 4.7, 4.6], {"patience": 2, "min_delta": 0.5}, 3, 1),
        ([1, 2, 3, 2, 2, 9], {"patience": 2, "mode": "max"}, 5, 3),
        ([3, np.nan, np.nan, 1], {"patience": 2}, 3, 1),
        ([3, 2, 1], {"patience": 5}, 3, 3),
    ],
)
def test_early_stopping(curve, settings, epochs, best):
    script, stopping = Scripted(curve), EarlyStopping("score", **{"mode": "min", **settings})
    net = classifier()
    history = net.fit(X, LABELS, epochs=len(curve), callbacks=[script, stopping])
    assert len(history["loss"]) == epochs
    assert stopping.best_epoch == best
    assert np.array_equal(net.params, script.weights[best - 1])
    stopped = epochs < len(curve)
    assert (stopping.stopped_epoch == epochs) == stopped
    assert bool(history.stop_reason) == stopped


def test_early_stopping_may_leave_the_last_weights():
    script = Scripted([1, 2, 3])
    stopping = EarlyStopping("score", patience=2, mode="min", restore_best=False)
    net = classifier()
    net.fit(X, LABELS, epochs=9, callbacks=[script, stopping])
    assert np.array_equal(net.params, script.weights[2])


class NoEpoch(Callback):
    """Fails where training begins."""

    def on_epoch_end(self, run):
        raise AssertionError("an epoch was trained")


class Logger(Callback):
    def on_epoch_end(self, run):
        run.logs["f1"] = float(run.epoch)


def test_what_will_not_be_logged_is_refused_before_training():
    def refused(message, *callbacks, **settings):
        net = classifier()
        before = net.params.copy()
        with pytest.raises(ValueError, match=message):
            net.fit(X, LABELS, epochs=2, callbacks=callbacks, **settings)
        assert net.step == 0
        assert net.history is None
        np.testing.assert_array_equal(net.params, before)

    split = {"validation_split": 0.1, "metrics": ["accuracy"]}
    logged = "logged are loss, accuracy, val_loss, val_accuracy"
    for kind in (EarlyStopping, ReduceOnPlateau):
        refused(f"{kind.__name__} monitors 'val_f1'.*{logged}", kind("val_f1", mode="max"), **split)
        refused("'r2', which is not logged", kind("r2"), **split)
        refused("'accuracy', which is not logged; logged are loss; ", kind("accuracy"))
        refused("has no validation data", kind("val_f1", mode="max"))
    # ReduceOnPlateau logs the rate, for those behind it
    lr = EarlyStopping("lr", mode="min")
    classifier().fit(X, LABELS, epochs=2, callbacks=[ReduceOnPlateau("loss"), lr])
    refused("'lr', which is not logged", lr, ReduceOnPlateau("loss"))


def test_what_a_callback_logs_may_be_watched():
    stopping = EarlyStopping("f1", mode="max")
    classifier().fit(X, LABELS, epochs=3, callbacks=[Logger(), stopping])
    assert (stopping.best, stopping.best_epoch) == (3.0, 3)
    with pytest.raises(ValueError, match="'f2', which is not logged; logged are loss, f1"):
        classifier().fit(X, LABELS, callbacks=[Logger(), EarlyStopping("f2", mode="max")])


def test_auto_infers_for_what_fastmlp_knows_alone():
    modes = {"loss": "min", "mae": "min", "rmse": "min", "accuracy": "max", "r2": "max"}
    for name, mode in modes.items():
        for kind in (EarlyStopping, ReduceOnPlateau):
            assert kind(name).mode == kind("val_" + name).mode == mode
    for name in ("val_f1", "auc", "val_", ""):
        for kind in (EarlyStopping, ReduceOnPlateau):
            with pytest.raises(ValueError, match='mode="min" or mode="max"'):
                kind(name)
            assert kind(name, mode="max").mode == "max"
    with pytest.raises(TypeError, match="monitor must be a name"):
        EarlyStopping(5)


# ---- going on ------------------------------------------------------------------------------------


def test_two_fits_equal_one_long_one():
    one, two = classifier(), classifier()
    one.fit(X, LABELS, epochs=5, batch_size=32)
    two.fit(X, LABELS, epochs=2, batch_size=32)
    two.fit(X, LABELS, epochs=3, batch_size=32)
    assert one.params.tobytes() == two.params.tobytes()


def test_a_change_of_optimizer_starts_its_state_anew_and_a_change_of_rate_does_not():
    net = classifier()
    net.fit(X, LABELS, optimizer=Adam(lr=0.01), epochs=1)
    moments = net._state[0].copy()
    net.fit(X, LABELS, optimizer=Adam(lr=0.0), epochs=0)
    assert np.array_equal(net._state[0], moments)
    net.use_optimizer(SGD())
    assert not net._state[0].any()


def test_a_callback_that_raises_leaves_a_usable_network():
    class Boom(Callback):
        def on_epoch_end(self, run):
            raise RuntimeError("boom")

    net = classifier()
    with pytest.raises(RuntimeError, match="boom"):
        net.fit(X, LABELS, callbacks=[Boom()])
    assert net.epoch == 1
    net.fit(X, LABELS, epochs=1)


# ---- tasks ---------------------------------------------------------------------------------------


def test_the_loss_follows_from_y():
    for y, want in ((LABELS, "cross_entropy"), (VALUES, "squared_error")):
        net = Sequential([Linear(4, 3 if y.ndim == 1 else 2)])
        net.fit(X, y, epochs=1)
        assert net.loss == want
    with pytest.raises(ValueError, match="binary_cross_entropy"):
        Sequential([Linear(4, 1)]).fit(X, LABELS > 0)


def test_every_task_is_learned():
    binary = (X[:, :1] * X[:, 1:2] > 0).astype(np.float32)
    both = np.hstack([binary, X[:, 2:3] > 0]).astype(np.float32)
    for y, loss, n_out in ((binary, "binary_cross_entropy", 1), (both, "binary_cross_entropy", 2)):
        net = Sequential([Linear(4, 32), Tanh(), Linear(32, n_out)], seed=1)
        net.fit(X, y, loss=loss, optimizer=Adam(lr=0.02), epochs=80, batch_size=32)
        assert net.evaluate(X, y)["accuracy"] > 0.95
        probability = net.predict_proba(X)
        assert np.allclose(probability, 1 / (1 + np.exp(-net.predict(X).astype(float))), atol=1e-6)
    flat = Sequential([Linear(4, 1)])
    flat.fit(X, binary[:, 0], loss="binary_cross_entropy", epochs=1)  # (rows,) for one output
    net = classifier()
    net.fit(X, LABELS, optimizer=Adam(lr=0.02), epochs=60, batch_size=32)
    assert net.evaluate(X, LABELS)["accuracy"] > 0.95
    assert np.allclose(net.predict_proba(X).sum(axis=1), 1, atol=1e-6)
    line = Sequential([Linear(4, 2)])
    line.fit(X, VALUES, optimizer=SGD(lr=0.1), epochs=100, batch_size=50)
    assert line.evaluate(X, VALUES, metrics=["r2"])["r2"] > 0.9999
    with pytest.raises(ValueError, match="use predict"):
        line.predict_proba(X)


def test_xor_needs_a_hidden_layer():
    """The lecture: a line cannot, one hidden layer can."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    y = np.array([0, 1, 1, 0])
    line = Sequential([Linear(2, 2)], seed=0)
    line.fit(x, y, optimizer=Adam(lr=0.05), epochs=500, batch_size=4)
    assert line.evaluate(x, y)["accuracy"] <= 0.75
    net = Sequential([Linear(2, 8), Tanh(), Linear(8, 2)], seed=0)
    net.fit(x, y, optimizer=Adam(lr=0.05), epochs=500, batch_size=4)
    assert net.evaluate(x, y) == {"loss": pytest.approx(0, abs=0.01), "accuracy": 1.0}


def test_before_there_is_anything_to_say():
    net = Sequential([Linear(3), Dropout(0.1)])
    with pytest.raises(ValueError, match="width is not known"):
        _ = net.params
    with pytest.raises(ValueError, match="not been trained"):
        classifier().predict_proba(X)
    assert net.forward(X).shape == (300, 3)
    assert net.n_params == 15


# ---- initial weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", fastmlp.initializers.INITIALIZERS)
def test_initializers_have_the_variance_of_their_formula(name):
    n_in, n_out = 400, 300
    weight = Linear(n_in, n_out, init=name, seed=0).weight
    want = {
        "zeros": 0,
        "small_normal": 1e-4,
        "xavier": 1 / n_in,
        "he": 2 / n_in,
        "glorot": 2 / (n_in + n_out),
        "orthogonal": 1 / n_in,
    }[name if name in ("zeros", "small_normal", "orthogonal") else name.split("_")[0]]
    # 120,000 draws: the standard error of a variance is sqrt(2 / n), 0.4%
    assert weight.var() == pytest.approx(want, rel=0.02)
    assert abs(weight.mean()) < 5 * np.sqrt(want / weight.size) + 1e-12
    if name.endswith("uniform"):
        assert np.abs(weight).max() <= np.sqrt(3 * want) * (1 + 1e-6)
    if name == "orthogonal":
        assert np.allclose(weight.T @ weight, np.eye(n_out), atol=1e-5)


def test_an_initializer_may_be_a_function_and_biases_are_zero():
    lin = Linear(3, 2, init=lambda rng, n_in, n_out: np.full((n_in, n_out), 0.25))
    assert np.all(lin.weight == 0.25)
    assert not lin.bias.any()
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        _ = Linear(3, 2, init=lambda rng, n_in, n_out: np.zeros(5)).weight
    with pytest.raises(ValueError, match="he_normal"):
        Linear(3, 2, init="henormal")


def test_the_default_suits_the_activation():
    def variance(*after):
        return Sequential([Linear(500, 400), *after], seed=0).layers[0].weight.var()

    assert variance(ReLU()) == pytest.approx(2 / 500, rel=0.02)
    assert variance(Tanh()) == pytest.approx(2 / 900, rel=0.02)
    assert variance() == pytest.approx(2 / 900, rel=0.02)


def test_the_default_looks_behind_dropout():
    for between in ([], [Dropout(0.5)], [Dropout(0.1), Dropout(0.1)]):
        net = Sequential([Linear(100, 100, seed=1), *between, ReLU(), Linear(100, 1)])
        want = Linear(100, 100, seed=1, init="he_normal")
        assert np.array_equal(net.layers[0].weight, want.weight)


# ---- progress ------------------------------------------------------------------------------------


def test_progress(capsys):
    classifier().fit(X, LABELS, epochs=2, verbose=0)
    assert capsys.readouterr() == ("", "")
    classifier().fit(X, LABELS, epochs=2, verbose=2, validation_split=0.1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  loss ")
    assert "val_loss" in lines[1]
    assert "rows/s" in lines[1]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_loss_metrics_and_rate(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    classifier().fit(X, LABELS, epochs=3, verbose=1, metrics=["accuracy"])
    shown = sys.stderr.getvalue()
    assert "epoch 3/3" in shown
    assert "accuracy" in shown
    assert "row/s" in shown
    assert "100%" in shown


def test_the_bar_shows_no_share_of_epochs_that_may_not_come(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    stopper = EarlyStopping("loss", patience=1, min_delta=100.0)
    classifier().fit(X, LABELS, epochs=50, verbose=1, callbacks=[stopper])
    shown = sys.stderr.getvalue()
    assert "of at most 50" in shown
    assert "%" not in shown


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch):
    """One of the first epoch and of the last; between them by the clock, in a long epoch too."""
    clock = iter(np.arange(0.0, 1e6, 3.0))  # seconds, at every look
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr("fastmlp.training.epochs.SLICE_SECONDS", 0.0)
    classifier().fit(X, LABELS, epochs=200, verbose=1, batch_size=50)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert "\r" not in err
    assert 5 <= len(lines) <= 60
    assert any("% of it" in line for line in lines)
    assert any(line.startswith("epoch   1/200  loss ") for line in lines)
    assert lines[-1].startswith("epoch 200/200  loss ")
    assert len(set(lines)) == len(lines)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: 0.0)
    classifier().fit(X, LABELS, epochs=200, verbose=1)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_progress_without_standard_error(monkeypatch):
    for stream in (None, io.StringIO()):
        if stream is not None:
            stream.close()
        monkeypatch.setattr(sys, "stderr", stream)
        assert len(classifier().fit(X, LABELS, epochs=2, verbose=1)["loss"]) == 2


def test_loader_covers_every_row_once():
    loader = DataLoader(X, LABELS, batch_size=64, shuffle=True, seed=1)
    assert len(loader) == 5
    first, second = (np.concatenate([x for x, _ in loader]) for _ in range(2))
    for rows in (first, second):
        assert np.array_equal(np.sort(rows, axis=0), np.sort(X, axis=0))
    assert not np.array_equal(first, second)
    assert [len(x) for x, _ in DataLoader(X, LABELS, batch_size=64, drop_last=True)] == [64] * 4
    with pytest.raises(ValueError, match="as many rows"):
        DataLoader(X, LABELS[:-1])


# ---- names and places in the history -------------------------------------------------------------


class LogsAt(Callback):
    """Logs `value` as "x" in the given epochs."""

    def __init__(self, epochs, value):
        self.epochs, self.value = epochs, value

    def on_epoch_end(self, run):
        if run.epoch in self.epochs:
            run.logs["x"] = self.value


def test_what_is_logged_now_and_then_keeps_its_epochs():
    history = classifier().fit(X, LABELS, epochs=5, callbacks=[LogsAt((2, 3), 7.0)])
    np.testing.assert_array_equal(history["x"], [np.nan, 7, 7, np.nan, np.nan])
    assert len(history["loss"]) == 5


@pytest.mark.parametrize("verbose", [1, 2])
def test_logs_that_are_no_numbers_can_be_shown(verbose, capsys):
    how = {"epochs": 2, "callbacks": [LogsAt((1, 2), "warm")], "verbose": verbose}
    assert classifier().fit(X, LABELS, **how)["x"] == ["warm", "warm"]
    assert "x warm" in "".join(capsys.readouterr())


def test_metrics_without_a_name_are_called_by_their_function_or_class():
    class Share:
        def __init__(self, label):
            self.label = label

        def __call__(self, y, out):
            return np.mean(out.argmax(axis=1) == self.label)

    def scaled(y, out, factor):
        return factor * out.mean()

    history = classifier().fit(
        X, LABELS, epochs=1, metrics=[Share(1), functools.partial(scaled, factor=2)]
    )
    assert list(history) == ["loss", "Share", "scaled"]
    with pytest.raises(ValueError, match="cannot be called 'Share'"):
        classifier().fit(X, LABELS, metrics=[Share(0), Share(1)])
