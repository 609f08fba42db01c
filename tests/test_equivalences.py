"""Different ways to the same numbers give the same bits: by hand or by fit, fused or not, any
threads."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    ACTIVATIONS,
    AROUND,
    DTYPES,
    LOSSES,
    OPTIMIZERS,
    activation,
    copies,
    digest,
    everything,
    gradients,
    inputs,
    loss_function,
    targets,
)

import fastmlp
from fastmlp import (
    SGD,
    Adam,
    AdamW,
    DataLoader,
    Dropout,
    Linear,
    Residual,
    Sequential,
    Standardize,
    _core,
)
from fastmlp.layers import LAYERS, Activation

ROWS, N_IN, N_OUT = 157, 11, 6  # the last of the batches of 50 has 7 rows
CASES = OPTIMIZERS | AROUND
EACH_OPTIMIZER = pytest.mark.parametrize("optimizer", CASES.values(), ids=CASES)


class Unfused(Sequential):
    _fuse = False


def build(name="gelu", *, dtype="float32", seed=0, hidden=(37, 18), p=0.3, kind=Sequential):
    layers = []
    for width in hidden:
        layers += [Linear(width), activation(name)] + ([Dropout(p)] if p else [])
    return kind([*layers, Linear(N_OUT)], n_in=N_IN, dtype=dtype, seed=seed)


def data(loss="cross_entropy", dtype="float32", rows=ROWS):
    return inputs(rows, N_IN, dtype), targets(loss, rows, N_OUT, dtype)


def assert_same(a, b):
    """Parameters, moments, counters."""
    assert digest(*everything(a)) == digest(*everything(b))
    assert (a.step, a.epoch) == (b.step, b.epoch)


def n_counted(loss, y):
    """Rows of a target that the loss counts."""
    ignored = getattr(LOSSES[loss], "ignore_index", None)
    return len(y) if ignored is None else np.count_nonzero(y != ignored)


def train_by_hand(net, X, y, loss, optimizer, *, batch_size, epochs, shuffle):
    """The lecture's loop. Returns the loss of every epoch."""
    loader = DataLoader(X, y, batch_size=batch_size, shuffle=shuffle, seed=net.seed)
    means = []
    for _ in range(epochs):
        total = 0.0
        for xb, yb in loader:
            z = net.forward(xb, training=True)
            value, dz = loss_function(loss)(z, yb)
            net.backward(dz)
            net.update(optimizer)
            is_sum = LOSSES[loss].reduction == "sum"
            total += value if is_sum else value * n_counted(loss, yb) / n_counted(loss, y)
        means.append(total)
    return means


# ---- by hand and by fit ----------------------------------------------------------------------


def check_by_hand_equals_fit(name, loss, optimizer, dtype="float32", shuffle=True):
    X, y = data(loss, dtype)
    a, b = build(name, dtype=dtype), build(name, dtype=dtype)
    start = a.params.copy()
    how = {"batch_size": 50, "epochs": 3, "shuffle": shuffle}
    history = a.fit(X, y, loss=LOSSES[loss], optimizer=optimizer, threads=2, **how)
    means = train_by_hand(b, X, y, loss, optimizer, **how)
    assert digest(*everything(a)) == digest(*everything(b))
    assert a.step == b.step == 12
    assert (a.params != start).any()
    np.testing.assert_allclose(
        history["loss"], means, rtol=1e-14
    )  # sums of 157 doubles in two orders


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_by_hand_equals_fit_for_every_activation(name):
    check_by_hand_equals_fit(name, "cross_entropy", Adam())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_by_hand_equals_fit_for_every_loss(loss, dtype, shuffle):
    check_by_hand_equals_fit("tanh", loss, SGD(lr=0.05, momentum=0.9), dtype, shuffle)


@EACH_OPTIMIZER
def test_by_hand_equals_fit_for_every_optimizer(optimizer):
    check_by_hand_equals_fit("relu", "squared_error", optimizer)


@pytest.mark.parametrize("loss", LOSSES)
def test_train_step_equals_by_hand(loss):
    check_train_step(loss, AdamW(lr=0.01))


@EACH_OPTIMIZER
def test_train_step_equals_by_hand_for_every_optimizer(optimizer):
    check_train_step("cross_entropy", optimizer)


def check_train_step(loss, optimizer):
    X, y = data(loss)
    a, b = build(), build()
    for i in (0, 50, 100, 150):
        xb, yb = X[i : i + 50], y[i : i + 50]
        value = a.train_step(xb, yb, loss=LOSSES[loss], optimizer=optimizer)
        want, dz = loss_function(loss)(b.forward(xb, training=True), yb)
        b.backward(dz)
        b.update(optimizer)
        assert value == want
        assert_same(a, b)


def test_fit_in_pieces_equals_fit_in_one():
    """fit goes on where the net stands: weights, moments, order of the epochs, masks."""
    X, y = data()
    a, b = build(), build()
    how = {"loss": "cross_entropy", "optimizer": Adam(), "batch_size": 50}
    whole = a.fit(X, y, epochs=5, **how)
    parts = [b.fit(X, y, epochs=n, **how) for n in (2, 1, 2)]
    assert_same(a, b)
    assert whole["loss"] == [value for part in parts for value in part["loss"]]


def test_predict_in_between_changes_nothing():
    X, y = data()
    a, b = build(), build()
    for net in (a, b):
        for _ in range(3):
            net.train_step(X, y, loss="cross_entropy", optimizer=Adam())
            if net is a:
                net.predict(X[:20])
                net.evaluate(X, y)
                net.forward(X[:3])
    assert_same(a, b)


# ---- module by module ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_module_by_module_equals_one_call(name, dtype):
    """The first training pass of each, so that dropout draws the same masks."""
    X, _ = data(dtype=dtype)
    dz = inputs(ROWS, N_OUT, dtype, seed=9)
    net = build(name, dtype=dtype)
    z = net.forward(X, training=True)
    dx = net.backward(dz)
    grads = copies(gradients(net))
    net.grads[...] = 0

    x, d = X, dz
    for layer in net.layers:
        x = layer.forward(x, training=True)
    for layer in reversed(net.layers):
        d = layer.backward(d)
    assert digest(z, dx, *grads) == digest(x, d, *gradients(net))
    assert np.abs(grads[0]).max() > 0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_layers_alone_equal_a_network_of_them(name):
    """New layers, each on its own, with the network's weights copied in."""
    X, _ = data()
    dz = inputs(ROWS, N_OUT, "float32", seed=9)
    net = build(name, p=0, hidden=(37,))
    first, middle, last = Linear(N_IN, 37), activation(name), Linear(37, N_OUT)
    first.weight[...], last.weight[...] = net.layers[0].weight, net.layers[2].weight
    z = last.forward(middle.forward(first.forward(X)))
    dx = first.backward(middle.backward(last.backward(dz)))
    assert digest(z, dx) == digest(net.forward(X, training=True), net.backward(dz))
    assert digest(first.weight_grad, last.bias_grad) == digest(
        net.layers[0].weight_grad, net.layers[2].bias_grad
    )


def test_predict_equals_forward():
    X, _ = data()
    net = build()
    assert digest(net.predict(X)) == digest(net.forward(X)) == digest(net.predict(X, threads=1))
    if fastmlp.get_config()["gemm"] == "native":  # a BLAS rounds small products in its own way
        assert digest(net.predict(X)[40:43]) == digest(net.predict(X[40:43]))


# ---- fused and not ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_fused_equals_unfused(name, dtype):
    X, y = data(dtype=dtype)
    a, b = (build(name, dtype=dtype, p=0.2, kind=kind) for kind in (Sequential, Unfused))
    assert len(b._engine.layout.ops) == 7
    assert len(a._engine.layout.ops) == 7 - 2 * _core.ACTIVATIONS[name]["from_y"]
    how = {"loss": "cross_entropy", "optimizer": Adam(lr=0.01), "batch_size": 50, "epochs": 3}
    assert a.fit(X, y, **how)["loss"] == b.fit(X, y, **how)["loss"]
    assert_same(a, b)
    assert digest(a.predict(X)) == digest(b.predict(X))
    dz = inputs(ROWS, N_OUT, dtype, seed=9)
    a.forward(X)
    b.forward(X)
    assert digest(a.backward(dz), *gradients(a)) == digest(b.backward(dz), *gradients(b))


# ---- threads ---------------------------------------------------------------------------------


def check_threads(
    name="relu", loss="cross_entropy", optimizer=None, dtype="float32", hidden=(64, 33), rows=600
):
    """Wide enough to be worth four threads: several blocks of rows, several slices of gradients."""
    X, y = data(loss, dtype, rows=rows)
    seen = set()
    for threads in (1, 2, 3, 4):
        net = build(name, dtype=dtype, hidden=hidden)
        history = net.fit(
            X,
            y,
            loss=LOSSES[loss],
            optimizer=optimizer or Adam(),
            batch_size=rows * 5 // 12,  # the last one is short
            epochs=2,
            threads=threads,
        )
        out = net.predict(X, threads=threads)
        seen.add((digest(*everything(net), out), tuple(history["loss"])))
    assert len(seen) == 1


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_threads_do_not_change_any_activation(name):
    check_threads(name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_threads_do_not_change_any_loss(loss, dtype):
    check_threads("tanh", loss, dtype=dtype)


@EACH_OPTIMIZER
def test_threads_do_not_change_any_optimizer(optimizer):
    check_threads(optimizer=optimizer)


@pytest.mark.parametrize(
    ("hidden", "rows"), [((300, 100), 600), ((129, 65, 33), 100), ((500,), 37), ((32, 16), 12_000)]
)
def test_threads_do_not_change_any_shape(hidden, rows):
    check_threads(hidden=hidden, rows=rows)


def test_threads_may_change_during_training():
    X, y = data(rows=600)
    a, b = build(hidden=(64, 64)), build(hidden=(64, 64))
    for threads in (1, 2, 4, 3):
        for net, n in ((a, 1), (b, threads)):
            net.fit(X, y, batch_size=250, epochs=1, threads=n)
    assert_same(a, b)


# ---- instruction sets -------------------------------------------------------------------------


THREADS = (1, 2, 3, 4, 8)
STEPS = 200
INNER = [kind for kind in LAYERS.values() if not issubclass(kind, Activation | Linear)]


def contract_net(name, dtype, hidden, kind):
    """Two hidden layers with dropout, and a layer of this kind: behind the first Linear, unless it
    is for the input.
    """
    made = kind([Linear(hidden[0])]) if kind is Residual else kind()
    layers = [Linear(hidden[0]), activation(name), Dropout(0.3)]
    layers += [Linear(hidden[1]), activation(name), Dropout(0.3), Linear(N_OUT)]
    layers.insert(0 if kind is Standardize else 1, made)
    return Sequential(layers, n_in=N_IN, dtype=dtype)


def contract_rows(threads):
    """A hash for each of the registry's layers, activations, losses and optimizers, in both types,
    after 200 steps with shuffling and dropout, on nets that eight threads have work for; and of
    some with few rows, which go layer by layer.
    """
    cases = list(CASES.values())
    kinds = range(max(len(cases), len(ACTIVATIONS), len(LOSSES), len(INNER)))
    for i, dtype in itertools.product(kinds, DTYPES):
        name, loss = ACTIVATIONS[i % len(ACTIVATIONS)], list(LOSSES)[i % len(LOSSES)]
        few = i % 4 == 3
        X, y = data(loss, dtype, rows=20 if few else 357)
        hidden = (410, 400) if few else (96, 65)
        net = contract_net(name, dtype, hidden, INNER[i % len(INNER)])
        batch_size = 5 if few else 100
        history = net.fit(
            X,
            y,
            loss=LOSSES[loss],
            optimizer=cases[i % len(cases)],
            batch_size=batch_size,
            epochs=STEPS // (-(-len(X) // batch_size)),
            threads=threads,
        )
        assert net.step == STEPS
        losses = np.array(history["loss"])
        yield digest(*everything(net), losses, net.predict(X, threads=threads))


@pytest.mark.timeout(900)  # minutes under a sanitizer
def test_the_same_bits_for_all_threads_and_every_build_with_fused_multiply_add():
    """The contract, over the registry: what is added to it is covered without being named here."""
    config = fastmlp.get_config()
    if config["gemm"] != "native":
        pytest.skip("a BLAS gives other bits for other shapes")
    builds = [name for name in config["available_kernels"] if name != "base"] or ["base"]
    program = "import test_equivalences as t\nfor n in t.THREADS: print(*t.contract_rows(n))"
    seen = set()
    for name in builds:
        child = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "FASTMLP_KERNELS": name},
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = child.stdout.splitlines()
        assert len(lines) == len(THREADS)
        seen.update(lines)
    assert len(seen) == 1


@pytest.mark.parametrize("build", fastmlp.get_config()["available_kernels"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_rows_and_large_batches_on_every_build(build, dtype):
    """The packed left operand at its fullest: tiles of 6 rows once ran over its end."""
    program = (
        "import numpy as np; from fastmlp import Linear, Sequential;"
        f"x = np.ones((300, 1024), '{dtype}');"
        f"net = Sequential([Linear(1024, 1024), Linear(1024, 3)], dtype='{dtype}', seed=0);"
        "net.train_step(x, np.zeros(300, int), threads=1)"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FASTMLP_KERNELS": build},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr


# ---- seeds -----------------------------------------------------------------------------------


def test_equal_seeds_give_equal_networks():
    X, y = data()
    nets = [build(seed=s) for s in (3, 3, 4)]
    assert digest(nets[0].params) == digest(nets[1].params) != digest(nets[2].params)
    losses = [net.fit(X, y, epochs=2, batch_size=50)["loss"] for net in nets]
    assert losses[0] == losses[1] != losses[2]
    assert digest(nets[0].params) == digest(nets[1].params) != digest(nets[2].params)


def test_layers_of_one_network_start_differently():
    net = Sequential([Linear(9, 9), Linear(9, 9)], seed=0)
    assert (net.layers[0].weight != net.layers[1].weight).all()


# ---- the loader ------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_loader_visits_every_row_once(shuffle, drop_last):
    X = np.arange(ROWS, dtype=np.float32)[:, None]
    loader = DataLoader(X, np.arange(ROWS), batch_size=50, shuffle=shuffle, drop_last=drop_last)
    passes = []
    for _ in range(2):
        batches = list(loader)
        sizes = [len(xb) for xb, _ in batches]
        assert sizes == [50, 50, 50] + ([] if drop_last else [7])
        assert len(loader) == len(sizes)
        for xb, yb in batches:
            np.testing.assert_array_equal(xb[:, 0], yb)
        passes.append(np.concatenate([yb for _, yb in batches]))
    for seen in passes:
        assert len(set(seen)) == len(seen) == sum(sizes)
    assert (passes[0] == passes[1]).all() == (not shuffle)
    assert (passes[0] == np.arange(len(passes[0]))).all() == (not shuffle)


def test_loader_follows_the_seed():
    X = np.arange(ROWS, dtype=np.float32)[:, None]
    orders = [
        np.concatenate([xb[:, 0] for xb, _ in DataLoader(X, X, shuffle=True, seed=s)])
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).mean() > 0.9


def test_fit_drops_the_last_batch_as_the_loader_does():
    X, y = data()
    a, b = build(), build()
    a.fit(X, y, loss="cross_entropy", optimizer=Adam(), batch_size=50, epochs=1, drop_last=True)
    for xb, yb in DataLoader(X, y, batch_size=50, shuffle=True, seed=0, drop_last=True):
        b.train_step(xb, yb, loss="cross_entropy", optimizer=Adam())
    assert digest(a.params) == digest(b.params)
    assert a.step == b.step == 3
