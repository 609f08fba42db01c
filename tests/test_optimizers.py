"""Optimizers against their twins: one step, a hundred steps, decay, and what they leave alone.

Gradients are written into the network by hand, so that nothing but the optimizer is under test."""

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
import reference
from helpers import (
    DTYPES,
    OPTIMIZERS,
    assert_within,
    copies,
    gradients,
    linears,
    parameters,
    randomize,
    settings,
)

import fastmlp
from fastmlp import (
    SGD,
    Adam,
    AdamW,
    Linear,
    Sequential,
    _core,
    optimizers,
)

CLASSES = optimizers.OPTIMIZERS
EACH_OPTIMIZER = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def test_every_registered_optimizer_has_a_twin_and_a_case():
    assert set(reference.OPTIMIZERS) == set(CLASSES)
    assert set(_core.OPTIMIZERS) == {o.kernel for o in OPTIMIZERS.values()}
    assert {settings(o)[0] for o in OPTIMIZERS.values()} == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_are_those_of_the_twin(name):
    parameters = inspect.signature(reference.OPTIMIZERS[name]).parameters
    for key, value in settings(CLASSES[name]())[1].items():
        assert parameters[key].default == value


def build(dtype, widths=(13, 7, 3)):
    """13 * 7 + 7 * 3 weights and 10 biases: neither is a multiple of any vector."""
    layers = [Linear(n, m) for n, m in itertools.pairwise(widths)]
    net = Sequential(layers, dtype=dtype, seed=0)
    randomize(net)
    return net


def give_gradients(net, rng):
    """Of sizes from 1e-4 to 10: Adam's denominators and eps both matter."""
    for g in gradients(net):
        g[...] = rng.standard_normal(g.shape) * 10.0 ** rng.uniform(-4, 1, g.shape)


def follow(net, optimizer, steps):
    """The package and the twin side by side on the same random gradients. Yields after each step
    t, both, and the size of what is rounded: the parameter, and every step on its way, which is
    lr g for SGD, lr for Adam, or more where the twin moved further (RMSprop at the start)."""
    name, hyper = settings(optimizer)
    want = [p.astype(float) for p in parameters(net)]
    size = [np.abs(p) for p in want]
    states = [{} for _ in want]
    rng = np.random.default_rng(4)
    for t in range(1, steps + 1):
        give_gradients(net, rng)
        grads = [g.astype(float) for g in gradients(net)]
        net.update(optimizer)
        for i, g in enumerate(grads):
            spared = g.ndim == 1 and "weight_decay" in hyper  # weights alone are decayed
            decayed = {**hyper, "weight_decay": 0.0} if spared else hyper
            before = want[i]
            want[i] = reference.OPTIMIZERS[name](before, g, states[i], t, **decayed)
            step = np.abs(want[i] - before)
            size[i] += np.maximum(step, optimizer.lr * np.maximum(np.abs(g), 1))
        yield t, parameters(net), want, size


@EACH_OPTIMIZER
@pytest.mark.parametrize("dtype", DTYPES)
def test_trajectory(dtype, optimizer):
    net = build(dtype)
    start = copies(parameters(net))
    for t, got, want, size in follow(net, optimizer, 100):
        if t in (1, 2, 10, 100):
            for one in zip(got, want, size, strict=True):
                assert_within(*one, n=t)
    for before, after in zip(start, parameters(net), strict=True):
        assert np.abs(after - before).min() > 0


@EACH_OPTIMIZER
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_steps_of_a_larger_network(dtype, optimizer):
    """More parameters than one chunk or one vector loop: none is missed, none updated twice."""
    net = build(dtype, (300, 130, 67))
    for t, got, want, size in follow(net, optimizer, 2):
        for one in zip(got, want, size, strict=True):
            assert_within(*one, n=t)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(lr=0.1, weight_decay=0.25),
        SGD(lr=0.1, weight_decay=0.25, momentum=0.9, nesterov=True),
        SGD(lr=0.1, weight_decay=0.25, momentum=0.9, averaged=True),
        AdamW(lr=0.1, weight_decay=0.25),
    ],
)
def test_decay_shrinks_weights_and_spares_biases(dtype, optimizer):
    """Without a gradient only the decay is left: each step takes lr weight_decay of every
    weight."""
    net = build(dtype)
    before = copies(parameters(net))
    net.grads[...] = 0
    for _ in range(10):
        net.update(optimizer)
    for layer, weight, bias in zip(linears(net), before[::2], before[1::2], strict=True):
        want = weight.astype(float) * (1 - 0.1 * 0.25) ** 10
        assert_within(layer.weight, want, np.abs(want), n=10)
        np.testing.assert_array_equal(layer.bias, bias)


@EACH_OPTIMIZER
def test_no_learning_rate_no_change(optimizer):
    net = build("float32")
    before = net.params.copy()
    give_gradients(net, np.random.default_rng(0))
    net.update(dataclasses.replace(optimizer, lr=0.0))
    np.testing.assert_array_equal(net.params, before)


@EACH_OPTIMIZER
def test_update_reads_gradients_only(optimizer):
    net = build("float64")
    give_gradients(net, np.random.default_rng(0))
    before = net.grads.copy()
    net.update(optimizer)
    np.testing.assert_array_equal(net.grads, before)
    assert net.step == 1


@EACH_OPTIMIZER
def test_optimizers_hold_no_state(optimizer):
    """One object drives two networks, turn by turn, as two objects would."""
    nets = [build("float64") for _ in range(3)]
    for _ in range(5):
        for net in nets[:2]:
            net.grads[...] = 0.3
            net.update(optimizer)
    for _ in range(5):
        nets[2].grads[...] = 0.3
        nets[2].update(dataclasses.replace(optimizer))
    np.testing.assert_array_equal(nets[0].params, nets[2].params)
    np.testing.assert_array_equal(nets[1].params, nets[2].params)


@pytest.mark.parametrize("make", CLASSES.values(), ids=CLASSES)
def test_optimizers_are_values(make):
    assert make() == make() != make(lr=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().lr = 1.0


@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (SGD, {"lr": -0.1}),
        (SGD, {"lr": np.nan}),
        (SGD, {"lr": np.inf}),
        (SGD, {"momentum": -0.1}),
        (SGD, {"momentum": 1.0}),
        (SGD, {"weight_decay": -1.0}),
        (Adam, {"beta1": 1.0}),
        (Adam, {"beta2": -0.1}),
        (Adam, {"beta2": 1.0}),
        (Adam, {"eps": -1e-8}),
        (AdamW, {"weight_decay": np.nan}),
    ],
)
def test_impossible_settings_are_refused(make, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        make(**bad)


@EACH_OPTIMIZER
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_nonfinite_gradient_is_reported_and_kept_out(optimizer, value):
    net = build("float32")
    give_gradients(net, np.random.default_rng(0))
    linears(net)[0].weight_grad[3, 2] = value
    with pytest.raises(fastmlp.DivergenceError):
        net.update(optimizer)
    assert np.isfinite(net.params).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_whose_sum_overflows_are_still_finite(dtype):
    """Each alone is; the next element is not, and stays as it was."""
    net = build(dtype)
    large = 0.6 * float(np.finfo(dtype).max)
    net.params[:], net.grads[:] = large, large
    net.update(SGD(lr=1e-3, momentum=0.5))
    assert_within(net.params, np.full(net.n_params, 0.999 * large))
    assert (net._state[0] == net.grads).all()
    net.grads[1::2] = 1.5 * large  # + momentum: too much
    before = net.params.copy()
    with pytest.raises(fastmlp.DivergenceError):
        net.update(SGD(lr=1e-3, momentum=0.5))
    np.testing.assert_array_equal(net.params != before, np.arange(net.n_params) % 2 == 0)


def test_centering_begins_anew():
    """It keeps another mean: what one form has kept is nothing to the other."""
    net = build("float64")
    x = np.ones((4, 13))
    for centered in (False, True, True, False):
        same = net.optimizer is not None and net.optimizer.centered == centered
        optimizer = fastmlp.RMSprop(centered=centered)
        net.train_step(x, np.zeros((4, 3)), loss="squared_error", optimizer=optimizer)
        assert len(net._state) == (3 if centered else 2)
        assert net._engine.context.t == (2 if same else 1)
    assert optimizers.from_config(fastmlp.RMSprop(centered=True).config()).centered


@dataclasses.dataclass(frozen=True, repr=False)
class Tagged(fastmlp.Adam):
    """A user's own, with a field that C does not know."""

    tag: float = 0.0


def test_a_subclass_with_a_field_of_its_own_trains():
    X = np.random.default_rng(0).standard_normal((40, 3)).astype("f")
    twins = [Sequential([Linear(3, 2)], seed=0) for _ in range(2)]
    for net, optimizer in zip(twins, (fastmlp.Adam(lr=0.1), Tagged(lr=0.1, tag=3.0)), strict=True):
        net.fit(X, X[:, :2], loss="squared_error", optimizer=optimizer, epochs=2)
    assert np.array_equal(twins[0].params, twins[1].params)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"lr": fastmlp.StepDecay(0.1, every=3)}, "must be a number"),
        ({"shrink": 1.0}, "shrink must lie between 0 and 1"),
        ({"shrink": 0.0}, "shrink must lie between 0 and 1"),
        ({"grow": 1.0}, "grow above 1"),
        ({"min_step": 0.0}, "min_step must be above 0"),
        ({"min_step": 2.0, "max_step": 1.0}, "at most max_step"),
    ],
)
def test_rprop_refuses_steps_that_lead_nowhere(how, match):
    with pytest.raises(ValueError, match=match):
        fastmlp.Rprop(**how)


def test_rprop_begins_anew_with_another_lr_alone():
    """Only the first step has the size lr; another one would else be left aside in silence."""
    net = build("float64")
    for optimizer, first in [
        (fastmlp.Rprop(lr=0.01), True),
        (fastmlp.Rprop(lr=0.01, grow=1.1), False),
        (fastmlp.Rprop(lr=0.1, grow=1.1), True),
    ]:
        before = net.params.copy()
        net.grads[...] = 1.0
        net.update(optimizer)
        step = before - net.params
        want = optimizer.lr if first else 0.011
        np.testing.assert_allclose(step, want, rtol=1e-12)
    with pytest.raises(ValueError, match="ReduceOnPlateau lowers a learning rate, and Rprop"):
        net.fit(
            np.ones((4, 13)),
            np.ones((4, 3)),
            optimizer=fastmlp.Rprop(),
            callbacks=[fastmlp.ReduceOnPlateau("loss")],
        )


def test_tiny_gradients_keep_their_signs():
    """The product of two of 1e-30 is 0 in float32."""
    net = build("float32")
    sizes = []
    for _ in range(3):
        before = net.params.astype(float)
        net.grads[...] = 1e-30
        net.update(fastmlp.Rprop(lr=0.5))
        sizes.append(float(np.median(before - net.params)))
    np.testing.assert_allclose(sizes, [0.5, 0.6, 0.72], rtol=1e-5)
