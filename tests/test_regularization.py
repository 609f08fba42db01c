"""What stands around an optimizer: penalties, clipping, max-norm, averaged weights; against their
twins, step by step, on gradients that are written in by hand.
"""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import reference
from helpers import (
    AROUND,
    DTYPES,
    assert_within,
    copies,
    digest,
    everything,
    gradients,
    inputs,
    linears,
    parameters,
    randomize,
    settings,
    targets,
)

import fastmlp
from fastmlp import (
    EMA,
    SGD,
    SWA,
    Adam,
    AdamW,
    CosineDecay,
    Dropout,
    EarlyStopping,
    Linear,
    LinearWarmup,
    Lion,
    NAdam,
    ReLU,
    ScheduleFreeAdamW,
    Sequential,
)

WIDTHS = (23, 70, 3)  # more columns than one block of them, and none a multiple of a vector


def build(dtype, widths=WIDTHS):
    layers = [Linear(n, m) for n, m in itertools.pairwise(widths)]
    net = Sequential(layers, dtype=dtype, seed=0)
    randomize(net)
    return net


def small():
    return Sequential([Linear(6, 16), ReLU(), Dropout(0.2), Linear(16, 3)], seed=5)


X = inputs(200, 6, "float32")
Y = targets("cross_entropy", 200, 3)


def twin_step(optimizer, want, grads, states, t):
    """One step of all parameters in the words of reference.py."""
    name, hyper = settings(optimizer)
    hyper["lr"] = optimizer.lr_at(t - 1)
    if optimizer.clip_norm is not None:
        grads = reference.clip_by_norm(grads, optimizer.clip_norm)
    for i, g in enumerate(grads):
        own, is_weight = dict(hyper), g.ndim == 2
        if optimizer.clip_value is not None:
            g = reference.clip_by_value(g, optimizer.clip_value)
        if is_weight:
            g = reference.penalized(g, want[i], optimizer.l1, optimizer.l2)
        elif "weight_decay" in own:
            own["weight_decay"] = 0.0
        want[i] = reference.OPTIMIZERS[name](want[i], g, states[i], t, **own)
        if is_weight and optimizer.max_norm is not None:
            want[i] = reference.max_norm(want[i], optimizer.max_norm)


def follow(net, optimizer, steps):
    """The network and its twin, and the size of what is rounded: parameters and steps."""
    want = [p.astype(float) for p in parameters(net)]
    size = [np.abs(p) for p in want]
    states = [{} for _ in want]
    rng = np.random.default_rng(4)
    for t in range(1, steps + 1):
        for g in gradients(net):
            g[...] = rng.standard_normal(g.shape) * 10.0 ** rng.uniform(-3, 0, g.shape)
        grads = [g.astype(float) for g in gradients(net)]
        before = copies(want)
        net.update(optimizer)
        twin_step(optimizer, want, grads, states, t)
        for i, old in enumerate(before):
            size[i] += np.abs(want[i] - old) + optimizer.lr_at(t - 1) * np.maximum(
                np.abs(grads[i]), 1
            )
        yield t, parameters(net), want, size


SETTINGS = {
    "l1": SGD(lr=0.05, l1=0.3),
    "l2": Adam(lr=0.01, l2=0.3),
    "elastic net": AdamW(lr=0.01, l1=0.1, l2=0.2, weight_decay=0.1),
    "clip_norm": SGD(lr=0.05, momentum=0.5, clip_norm=2.0),
    "clip_value": SGD(lr=0.05, clip_value=0.1),
    "clip_norm and penalty": NAdam(lr=0.01, clip_norm=2.0, l2=0.2),
    "max_norm": SGD(lr=0.05, max_norm=0.9),
    "all": AdamW(lr=0.01, clip_value=0.5, l1=0.01, l2=0.1, weight_decay=0.1, max_norm=0.9),
    "schedule-free": ScheduleFreeAdamW(lr=0.01, clip_value=0.5, l2=0.1),
    "schedule-free warm-up": ScheduleFreeAdamW(lr=LinearWarmup(0.01, warmup=30), weight_decay=0.1),
    "cosine": NAdam(lr=CosineDecay(0.02, steps=80, final=0.001, warmup=10), weight_decay=0.1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", SETTINGS.values(), ids=SETTINGS)
def test_a_hundred_steps_are_those_of_the_twin(optimizer, dtype):
    for t, got, want, size in follow(build(dtype), optimizer, 100):
        for one in zip(got, want, size, strict=True):
            assert_within(*one, n=t)


@pytest.mark.parametrize("name", AROUND)
def test_every_setting_of_the_tests_acts(name):
    """Equal threads, files and instruction sets would prove nothing of what never acts."""
    optimizer = AROUND[name]
    off = {"l1": 0.0, "l2": 0.0, "clip_norm": None, "clip_value": None, "max_norm": None}
    changed = {k: v for k, v in off.items() if getattr(optimizer, k) != v}
    for field in changed:
        with_it, without = small(), small()
        with_it.fit(X, Y, optimizer=optimizer, epochs=1, batch_size=20)
        plain = dataclasses.replace(optimizer, **{field: off[field]})
        without.fit(X, Y, optimizer=plain, epochs=1, batch_size=20)
        assert (with_it.params != without.params).any(), field


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_norm_holds_for_every_unit_and_leaves_shorter_ones_alone(dtype):
    net = build(dtype)
    before = copies(layer.weight for layer in linears(net))
    net.grads[...] = 0
    net.update(SGD(lr=0.1, max_norm=1.0))
    eps, longer = np.finfo(dtype).eps, []
    for layer, old in zip(linears(net), before, strict=True):
        was = np.linalg.norm(old.astype(float), axis=0)
        norm = np.linalg.norm(layer.weight.astype(float), axis=0)
        np.testing.assert_array_equal(layer.weight[:, was <= 1], old[:, was <= 1])
        np.testing.assert_allclose(norm[was > 1], 1, rtol=4 * eps)
        longer.extend(was > 1)
    assert 10 < sum(longer) < len(longer) - 10


def test_a_penalty_pulls_weights_to_zero_and_spares_biases():
    net = build("float64")
    before = copies(parameters(net))
    net.grads[...] = 0
    net.update(SGD(lr=0.1, l1=0.01, l2=0.5))
    for layer, w, b in zip(linears(net), before[::2], before[1::2], strict=True):
        want = w - 0.1 * (0.01 * np.sign(w) + 0.5 * w)
        assert_within(layer.weight, want, np.abs(w) + 0.001)
        np.testing.assert_array_equal(layer.bias, b)


@pytest.mark.parametrize("size", [1e153, 1e160, 1e300])
def test_clip_norm_takes_gradients_whose_squares_overflow(size):
    small_net, large = build("float64"), build("float64")
    grads = np.random.default_rng(3).standard_normal(small_net.n_params)
    for net, scale in ((small_net, 1.0), (large, size)):
        net.grads[...] = scale * grads
        net.update(SGD(lr=0.1, clip_norm=0.5))
    assert_within(large.params, small_net.params, np.abs(small_net.params) + 0.05)
    assert np.abs(large.params - build("float64").params).max() > 0
    large.grads[7] = np.inf
    with pytest.raises(fastmlp.DivergenceError):
        large.update(SGD(lr=0.1, clip_norm=0.5))


@pytest.mark.parametrize("limit", ["clip_norm", "clip_value", "max_norm"])
def test_a_limit_that_nothing_reaches_changes_nothing(limit):
    with_it, without = build("float32"), build("float32")
    for net, optimizer in ((with_it, Adam(**{limit: 1e6})), (without, Adam())):
        for seed in range(5):
            net.grads[...] = np.random.default_rng(seed).standard_normal(net.grads.shape)
            net.update(optimizer)
    np.testing.assert_array_equal(with_it.params, without.params)


def test_zero_has_no_sign():
    """Lion does not move without a gradient, and l1 does not move a weight of 0."""
    net = build("float32")
    before = net.params.copy()
    net.grads[...] = 0
    net.update(Lion(lr=0.1))
    np.testing.assert_array_equal(net.params, before)
    net.params[...] = 0
    net.update(SGD(lr=0.1, l1=0.5))
    assert not net.params.any()


def test_the_reported_loss_is_that_of_the_data():
    a, b = small(), small()
    loss = a.train_step(X, Y, loss="cross_entropy", optimizer=SGD(l2=10.0))
    assert loss == b.train_step(X, Y, loss="cross_entropy", optimizer=SGD())


def test_l2_is_ridge_regression():
    """The lecture's ridge on n rows with delta^2: l2 = 2 delta^2 / n, weights alone penalized."""
    x, y = inputs(50, 3), inputs(50, 1, seed=8)
    delta2 = 4.0
    net = Sequential([Linear(3, 1)], dtype="float64")
    optimizer = SGD(lr=0.2, l2=2 * delta2 / 50)
    net.fit(x, y, optimizer=optimizer, batch_size=50, epochs=400, shuffle=False)
    design = np.hstack([x, np.ones((50, 1))])
    penalty = np.diag([delta2, delta2, delta2, 0.0])
    want = np.linalg.solve(design.T @ design + penalty, design.T @ y)
    np.testing.assert_allclose(net.params, want[:, 0], rtol=1e-12)


# ---- gradients that are not finite ---------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "optimizer",
    [SGD(clip_norm=1.0), Adam(l1=0.1, max_norm=0.5), Adam(weight_average=EMA(0.5))],
    ids=["clip_norm", "max_norm", "ema"],
)
def test_a_nonfinite_gradient_is_reported_and_kept_out(optimizer, value):
    net = build("float32")
    net.grads[...] = 0.1
    net.update(optimizer)
    linears(net)[0].weight_grad[3, 2] = value
    before = net.params.copy()
    with pytest.raises(fastmlp.DivergenceError):
        net.update(optimizer)
    assert all(np.isfinite(array).all() for array in everything(net))
    if optimizer.clip_norm is not None:  # no norm, no step at all
        np.testing.assert_array_equal(net.params, before)


def test_clipping_by_value_lets_no_nan_through():
    net = build("float32")
    net.grads[...] = 0.1
    linears(net)[0].weight_grad[3, 2] = np.nan
    with pytest.raises(fastmlp.DivergenceError):
        net.update(SGD(clip_value=0.5))


def test_a_diverging_fit_with_clipping_keeps_its_last_finite_weights():
    net = Sequential([Linear(6, 4), Linear(4, 1)])
    x = (X * 1e30).astype(np.float32)
    with pytest.raises(fastmlp.DivergenceError, match="lower the learning rate"):
        net.fit(x, X[:, :1], optimizer=SGD(lr=1.0, clip_norm=1.0), epochs=3)
    assert np.isfinite(net.params).all()


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"l1": -1.0}, "l1 must be a finite number >= 0"),
        ({"l2": np.nan}, "l2 must be a finite number >= 0"),
        ({"clip_norm": 0.0}, "clip_norm must be a finite number above 0, or None"),
        ({"clip_value": -1.0}, "clip_value must be"),
        ({"max_norm": np.inf}, "max_norm must be"),
        ({"max_norm": True}, "max_norm must be"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "not both"),
    ],
)
def test_impossible_settings_are_refused(bad, error):
    with pytest.raises(ValueError, match=error):
        Adam(**bad)


def test_averages_are_checked():
    with pytest.raises(TypeError, match=r"EMA\(\.\.\.\) or SWA"):
        Adam(weight_average=0.9)
    for bad in (0, 1, 1.5, "a"):
        with pytest.raises(ValueError, match="decay must lie between 0 and 1"):
            EMA(bad)
    for bad in ({"start": -1}, {"start": 1.0}, {"start": 2**63}, {"start": 1, "every": 0}):
        with pytest.raises(ValueError, match="must be an integer in"):
            SWA(**bad)
    with pytest.raises(ValueError, match="averages by itself"):
        ScheduleFreeAdamW(weight_average=EMA())
    with pytest.raises(ValueError, match="has no max_norm"):
        ScheduleFreeAdamW(max_norm=1.0)
    with pytest.raises(ValueError, match="beta1 must be above 0"):
        ScheduleFreeAdamW(beta1=0)


def test_settings_are_shown_where_they_differ():
    assert repr(Adam()) == "Adam(lr=0.001)"
    assert repr(SGD(0.1, l2=0.5)) == "SGD(lr=0.1, l2=0.5)"
    assert eval(repr(AROUND["everything"]), vars(fastmlp)) == AROUND["everything"]


# ---- averaged weights ----------------------------------------------------------------------------


AVERAGES = {
    "ema": (EMA(0.9), lambda w: reference.ema(w, 0.9)),
    "swa": (SWA(start=4), lambda w: reference.swa(w, 4)),
    "swa-every": (SWA(start=10, every=7), lambda w: reference.swa(w, 10, 7)),
    "swa-from the start": (SWA(start=0, every=3), lambda w: reference.swa(w, 0, 3)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [None, 0.9])
@pytest.mark.parametrize(("average", "twin"), AVERAGES.values(), ids=AVERAGES)
def test_averages_are_those_of_the_twin(average, twin, limit, dtype):
    net, weights = build(dtype), []
    rng = np.random.default_rng(1)
    for t in range(1, 101):
        net.grads[...] = rng.standard_normal(net.grads.shape)
        net.update(SGD(lr=0.05, weight_average=average, max_norm=limit))
        weights.append(net.params.astype(float))
        if t in (1, 2, 3, 4, 9, 10, 16, 17, 100):
            assert_within(net.averaged_params, twin(weights), np.max(np.abs(weights), axis=0), n=t)


def test_training_does_not_look_at_the_average():
    a, b = small(), small()
    a.fit(X, Y, optimizer=Adam(), epochs=3)
    b.fit(X, Y, optimizer=Adam(weight_average=EMA(0.9)), epochs=3)
    np.testing.assert_array_equal(a.params, b.params)
    assert (b.averaged_params != b.params).any()


@pytest.mark.parametrize(
    "optimizer", [Adam(weight_average=EMA(0.9)), ScheduleFreeAdamW(lr=0.01)], ids=["ema", "free"]
)
def test_inside_averaged_the_network_has_its_averaged_weights(optimizer, tmp_path):
    net = small()
    net.fit(X, Y, optimizer=optimizer, epochs=3)
    before, averaged = digest(*everything(net)), net.averaged_params
    assert (averaged != net.params).any()
    with net.averaged() as same:
        assert same is net
        np.testing.assert_array_equal(net.params, averaged)
        out = net.predict(X)
        net.save(tmp_path / "averaged")
        twin = copy.deepcopy(net)
        for train in (
            lambda: net.fit(X, Y),
            lambda: net.train_step(X, Y),
            lambda: net.update(optimizer),
            lambda: net.averaged().__enter__(),
        ):
            with pytest.raises(RuntimeError, match="averaged"):
                train()
    assert digest(*everything(net)) == before
    for other in (twin, Sequential.load(tmp_path / "averaged")):
        np.testing.assert_array_equal(other.predict(X), out)
        np.testing.assert_array_equal(other.averaged_params, averaged)
    net.set_params(averaged)
    np.testing.assert_array_equal(net.predict(X), out)
    np.testing.assert_array_equal(net.averaged_params, averaged)


def test_an_error_inside_averaged_brings_the_weights_back():
    net = small()
    net.fit(X, Y, optimizer=Adam(weight_average=EMA(0.9)), epochs=1)
    before = net.params.copy()
    with pytest.raises(KeyError), net.averaged():
        raise KeyError
    np.testing.assert_array_equal(net.params, before)
    net.fit(X, Y, epochs=1)


class _Interrupted:
    """An array whose first assignment Ctrl-C cuts off."""

    def __init__(self, array):
        self.array, self.times = array, 0

    def copy(self):
        return self.array.copy()

    def __setitem__(self, where, values):
        self.times += 1
        if self.times == 1:
            raise KeyboardInterrupt
        self.array[where] = values


def test_ctrl_c_while_averaged_ends_waits_for_the_weights(monkeypatch):
    net = small()
    net.fit(X, Y, optimizer=Adam(weight_average=EMA(0.9)), epochs=2)
    before = net.params.copy()
    monkeypatch.setattr(net, "_weights", lambda: [_Interrupted(net.params)])
    with pytest.raises(KeyboardInterrupt), net.averaged():
        assert not np.array_equal(net.params, before)
    monkeypatch.undo()
    np.testing.assert_array_equal(net.params, before)
    net.fit(X, Y, optimizer=Adam(weight_average=EMA(0.9)), epochs=1)  # no longer inside


def test_without_an_average_there_is_none():
    net = small()
    net.fit(X, Y, epochs=1)
    assert not net.keeps_average
    with pytest.raises(ValueError, match=r"weight_average=EMA"):
        _ = net.averaged_params
    with pytest.raises(ValueError, match=r"weight_average=EMA"), net.averaged():
        pass
    with pytest.raises(ValueError, match=r"give an array of the shape \(163,\)"):
        net.set_params(np.zeros(4))


def test_another_average_begins_anew_and_the_same_goes_on():
    net = small()
    net.fit(X, Y, optimizer=Adam(weight_average=SWA(start=0)), epochs=2, batch_size=50)
    assert net._engine.context.n_averaged == 8
    net.fit(X, Y, optimizer=Adam(lr=0.01, weight_average=SWA(start=0)), epochs=1, batch_size=50)
    assert net._engine.context.n_averaged == 12
    before, weights = net.params.copy(), []
    for _ in range(3):
        net.train_step(X, Y, optimizer=Adam(lr=0.01, weight_average=SWA(start=1)))
        weights.append(net.params.astype(float))
    assert net._engine.context.n_averaged == 3
    assert_within(net.averaged_params, np.mean(weights, axis=0), np.abs(before) + 0.1, n=3)
    net.fit(X, Y, optimizer=Adam(), epochs=1)
    assert net._average is None


def test_validation_and_early_stopping_see_the_averaged_weights():
    """The average that scored best is what the network has in the end."""
    net, stopping = small(), EarlyStopping(patience=3)
    optimizer = Adam(lr=0.05, weight_average=EMA(0.95))
    history = net.fit(
        X,
        Y,
        optimizer=optimizer,
        epochs=60,
        validation_data=(X[:40], 2 - Y[:40]),
        callbacks=[stopping],
        batch_size=20,
    )
    assert stopping.stopped_epoch
    best = history["val_loss"][stopping.best_epoch - 1]
    assert net.evaluate(X[:40], 2 - Y[:40])["loss"] == best == min(history["val_loss"])
    with net.averaged():
        assert net.evaluate(X[:40], 2 - Y[:40])["loss"] == best


def test_the_average_of_schedule_free_is_the_twin_s_x():
    net = build("float64")
    states = [{} for _ in parameters(net)]
    want = copies(parameters(net))
    rng = np.random.default_rng(3)
    optimizer = ScheduleFreeAdamW(lr=0.01, weight_decay=0.1)
    for t in range(1, 51):
        for g in gradients(net):
            g[...] = rng.standard_normal(g.shape)
        net.update(optimizer)
        twin_step(optimizer, want, copies(gradients(net)), states, t)
    with net.averaged():
        for got, state in zip(parameters(net), states, strict=True):
            assert_within(got, state["x"], np.abs(state["x"]) + 1, n=50)


def test_schedule_free_with_another_beta1_begins_anew():
    """Its average follows from the state by beta1: the old state would give another one."""
    net, twin = small(), small()
    net.fit(X, Y, optimizer=ScheduleFreeAdamW(lr=0.01), epochs=2)
    twin.set_params(net.params)
    net.use_optimizer(ScheduleFreeAdamW(lr=0.01, beta1=0.5))
    np.testing.assert_array_equal(net.averaged_params, net.params)
    twin.use_optimizer(ScheduleFreeAdamW(lr=0.01, beta1=0.5))
    for one in (net, twin):
        one.grads[:] = 0.1
        one.update(ScheduleFreeAdamW(lr=0.01, beta1=0.5))
    assert digest(net.params, *net._state) == digest(twin.params, *twin._state)
    state = net._state
    net.use_optimizer(ScheduleFreeAdamW(lr=0.02, beta1=0.5))  # goes on
    assert net._state is state
