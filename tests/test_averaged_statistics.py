"""BatchNorm with weights that were not trained themselves: statistics from data, where averaged
weights get theirs, and that they are never those of other weights."""

import copy

import numpy as np
import pytest
from helpers import DTYPES, assert_within, digest, inputs

from fastmlp import (
    EMA,
    SWA,
    Adam,
    BatchNorm,
    Dropout,
    EarlyStopping,
    Linear,
    ReLU,
    Residual,
    ScheduleFreeAdamW,
    Sequential,
    Standardize,
)

X, Y = inputs(5000, 6), np.random.default_rng(2).integers(0, 3, 5000)  # more than one block
AVERAGES = {
    "ema": Adam(0.01, weight_average=EMA(0.98)),
    "swa": Adam(0.01, weight_average=SWA(start=0)),
    "free": ScheduleFreeAdamW(0.01),
}


def build(dtype="float32"):
    block = Residual([BatchNorm(), Linear(8), BatchNorm(), ReLU()])
    layers = [Standardize(), Linear(6, 8), BatchNorm(), ReLU(), Dropout(0.3), block, Linear(3)]
    return Sequential(layers, dtype=dtype, seed=4)


def expected(net, x):
    """Layer by layer in NumPy's float64: [(mean, variance)] of what comes into each BatchNorm."""
    found, x = [], np.asarray(x, np.float64)
    for layer in net.layers:
        inside = layer.layers if isinstance(layer, Residual) else [layer]
        z = x
        for part in inside:
            held = {name: array.astype(np.float64) for name, array in part.arrays().items()}
            if isinstance(part, Standardize):
                z = (z - held["mean"]) / held["std"]
            elif isinstance(part, Linear):
                z = z @ held["weight"] + held["bias"]
            elif isinstance(part, ReLU):
                z = np.maximum(z, 0)
            elif isinstance(part, BatchNorm):
                mean, var = z.mean(axis=0), z.var(axis=0, ddof=1)
                found.append((mean, var))
                z = (z - mean) / np.sqrt(var + part.eps) * held["scale"] + held["shift"]
        x = x + z if isinstance(layer, Residual) else z
    return found


def norms(net):
    return [net.layers[2], net.layers[5].layers[0], net.layers[5].layers[2]]


def assert_statistics(net, want):
    """In float64 within rows * eps: NumPy adds along the rows one after another."""
    n = 64 if net.dtype == np.float32 else len(X) ** 2
    for layer, (mean, var) in zip(norms(net), want, strict=True):
        assert_within(layer.running_mean, mean, np.abs(mean) + np.sqrt(var), n=n)
        assert_within(layer.running_var, var, var, n=n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_of_data_are_those_of_numpy(dtype):
    net = build(dtype)
    net.fit(X, Y, epochs=1)
    kept, before = net.params.copy(), net.layers[0].mean.copy()
    net.update_statistics(X)
    assert_statistics(net, expected(net, X))
    np.testing.assert_array_equal(net.params, kept)
    np.testing.assert_array_equal(net.layers[0].mean, before)


def test_statistics_do_not_depend_on_threads_and_leave_training_alone():
    seen = set()
    for threads in (1, 2, 3):
        net = build()
        net.fit(X, Y, epochs=1)
        net.update_statistics(X, threads=threads)
        net.fit(X, Y, epochs=1)
        seen.add(digest(net.params, net.stats))
    assert len(seen) == 1


@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_weights_have_their_own_statistics(name):
    net = build()
    net.fit(X, Y, optimizer=AVERAGES[name], epochs=2)
    kept = digest(net.params, net.stats)
    with net.averaged():
        assert_statistics(net, expected(net, X))
        out = net.predict(X)
        saved = copy.deepcopy(net)
    assert digest(net.params, net.stats) == kept
    np.testing.assert_array_equal(saved.predict(X), out)
    net.set_params(net.averaged_params, net.averaged_stats)
    np.testing.assert_array_equal(net.predict(X), out)


@pytest.mark.parametrize("name", AVERAGES)
def test_statistics_of_averages_do_not_change_training(name):
    """Nor does asking for them."""
    a, b = build(), build()
    a.fit(X, Y, optimizer=AVERAGES[name], epochs=2, validation_data=(X, Y))
    for _ in range(2):
        b.fit(X, Y, optimizer=AVERAGES[name], epochs=1)
        with b.averaged(X):
            b.predict(X)
    assert digest(a.params, a.stats, *a._state) == digest(b.params, b.stats, *b._state)


def test_averages_without_statistics_of_their_own_are_refused():
    """Steps by hand, and steps after a fit: never silently those of the raw weights."""
    net, optimizer = build(), AVERAGES["ema"]
    net.fit(X, Y, optimizer=optimizer, epochs=1)
    net.train_step(X[:50], Y[:50])
    with pytest.raises(ValueError, match=r"net\.averaged\(X\)"), net.averaged():
        pass
    with net.averaged(X):
        assert_statistics(net, expected(net, X))
    with net.averaged():  # they hold until the next step
        assert_statistics(net, expected(net, X))
    net.use_optimizer(Adam(0.01, weight_average=EMA(0.5)))
    with pytest.raises(ValueError, match=r"net\.averaged\(X\)"), net.averaged():
        pass
    assert not net._shows_average
    net.train_step(X[:50], Y[:50])  # the refusals left it usable


def test_statistics_computed_inside_stay_with_the_average():
    net = build()
    net.fit(X, Y, optimizer=AVERAGES["ema"], epochs=1)
    raw = net.stats.copy()
    with net.averaged():
        net.update_statistics(X[:300])
        out = net.predict(X)
    np.testing.assert_array_equal(net.stats, raw)
    with net.averaged():
        np.testing.assert_array_equal(net.predict(X), out)


def test_without_batch_norm_there_is_nothing_to_keep():
    net = Sequential([Standardize(), Linear(6, 3)])
    net.fit(X, Y, optimizer=AVERAGES["ema"], epochs=1)
    with net.averaged():
        pass
    net.set_params(net.averaged_params, net.averaged_stats)
    assert net._average_stats is None


def test_a_file_holds_them(tmp_path):
    net = build()
    net.fit(X, Y, optimizer=AVERAGES["swa"], epochs=1)
    net.save(tmp_path / "net")
    loaded = Sequential.load(tmp_path / "net")
    np.testing.assert_array_equal(loaded.averaged_stats, net.averaged_stats)
    with net.averaged(), loaded.averaged():
        np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    net.train_step(X[:50], Y[:50])
    net.save(tmp_path / "net")
    with pytest.raises(ValueError, match="pass the training inputs"):
        _ = Sequential.load(tmp_path / "net").averaged_stats


def test_early_stopping_brings_back_the_averaged_weights_with_theirs():
    net, stopping = build(), EarlyStopping(patience=2)
    held = X[:400], (Y[:400] + 1) % 3
    history = net.fit(
        X, Y, optimizer=AVERAGES["ema"], epochs=20, validation_data=held, callbacks=[stopping]
    )
    best = min(history["val_loss"])
    assert net.evaluate(*held)["loss"] == best
    with net.averaged():
        assert net.evaluate(*held)["loss"] == best


def test_what_cannot_give_statistics_is_refused():
    net = build()
    net.fit(X, Y, epochs=1)
    kept = net.stats.copy()
    with pytest.raises(ValueError, match="at least 2 rows"):
        net.update_statistics(X[:1])
    with pytest.raises(ValueError, match="NaN"):
        net.update_statistics(np.full((4, 6), np.nan))
    net.layers[1].weight[:] = 1e30
    with pytest.raises(ValueError, match="scale X"):
        net.update_statistics(np.float32(1e9) * X)
    np.testing.assert_array_equal(net.stats, kept)
    with pytest.raises(ValueError, match=r"give an array of the shape"):
        net.set_params(net.params, np.zeros(3))
    Sequential([Linear(2, 2)]).update_statistics(X[:, :2])  # nothing to do
