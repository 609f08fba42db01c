"""layer.weight -= step: the line a student writes works, and once."""

import numpy as np
import pytest

from fastmlp import (
    SGD,
    BatchNorm,
    LayerNorm,
    Linear,
    ReLU,
    RMSNorm,
    Sequential,
    Standardize,
    cross_entropy,
)

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 2)), np.arange(40) % 3


def build(dtype="float32"):
    layers = [Standardize().adapt(X), Linear(2, 5), BatchNorm(), ReLU(), LayerNorm(), RMSNorm()]
    return Sequential([*layers, Linear(5, 3)], seed=0, dtype=dtype)


PLACES = {
    "weight": lambda net: net.layers[1],
    "bias": lambda net: net.layers[1],
    "weight_grad": lambda net: net.layers[1],
    "bias_grad": lambda net: net.layers[1],
    "running_mean": lambda net: net.layers[2],
    "running_var": lambda net: net.layers[2],
    "scale": lambda net: net.layers[4],
    "scale_grad": lambda net: net.layers[5],
    "shift": lambda net: net.layers[4],
    "shift_grad": lambda net: net.layers[2],
    "mean": lambda net: net.layers[0],
    "std": lambda net: net.layers[0],
    "params": lambda net: net,
    "grads": lambda net: net,
    "stats": lambda net: net,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PLACES)
def test_an_operation_in_place_counts_once(name, dtype):
    net = build(dtype)
    owner = PLACES[name](net)
    view = getattr(owner, name)
    view[...] = RNG.uniform(1, 2, view.shape)
    before = view.copy()
    step = RNG.uniform(0, 0.5, view.shape).astype(dtype)
    exec(f"owner.{name} -= step")
    np.testing.assert_array_equal(view, before - step)
    exec(f"owner.{name} *= 2")
    np.testing.assert_array_equal(view, (before - step) * np.asarray(2, dtype))
    setattr(owner, name, before.tolist())
    np.testing.assert_array_equal(view, before)
    assert getattr(owner, name).base is view.base or getattr(owner, name) is view


@pytest.mark.parametrize("name", PLACES)
def test_what_does_not_fit_is_refused_and_changes_nothing(name):
    net = build()
    owner = PLACES[name](net)
    before = getattr(owner, name).copy()
    bad = before.astype(np.float64)
    bad.flat[1] = np.nan
    for values, error, message in (
        (before[:-1], ValueError, rf"{name} has the shape .*write \.{name}\[\.\.\.\] = value"),
        (0.0, ValueError, f"{name} has the shape"),
        (bad, ValueError, f"{name} holds NaN at row"),
        (np.full(before.shape, 1e300), ValueError, f"{name} holds numbers too large for float32"),
        (np.full(before.shape, "a"), TypeError, f"{name} has the type"),
        (None, TypeError, f"{name} is None"),
    ):
        if name == "std" and values is not None and np.ndim(values) == 0:
            values = 1.0
        with pytest.raises(error, match=message):
            setattr(owner, name, values)
        np.testing.assert_array_equal(getattr(owner, name), before)


def test_the_lecture_s_loop_by_layers_is_that_of_the_optimizer():
    by_hand, by_class = (
        Sequential([Linear(2, 5), ReLU(), Linear(5, 3)], seed=0, dtype="float64") for _ in range(2)
    )
    for _ in range(5):
        for net in (by_hand, by_class):
            net.backward(cross_entropy(net.forward(X), Y)[1])
        for layer in (by_hand.layers[0], by_hand.layers[2]):
            layer.weight -= 0.5 * layer.weight_grad
            layer.bias -= 0.5 * layer.bias_grad
        by_class.update(SGD(0.5))
    size = 5 * np.finfo(np.float64).eps
    np.testing.assert_allclose(by_hand.params, by_class.params, rtol=size * 8, atol=size)


def test_variances_and_deviations_stay_such():
    net = build()
    with pytest.raises(ValueError, match="running_var must be >= 0"):
        net.layers[2].running_var = -np.ones(5)
    with pytest.raises(ValueError, match="std must be above 0"):
        net.layers[0].std = [1.0, 0.0]


def test_a_bias_that_is_not_there():
    layer = Linear(2, 3, bias=False)
    with pytest.raises(ValueError, match=r"has no bias; make it with bias=True"):
        layer.bias = np.zeros(3)
    with pytest.raises(ValueError, match="input width is not known"):
        Linear(3).weight = np.zeros((2, 3))


def test_an_update_that_is_not_finite_is_told():
    layer = Linear(2, 3)
    with pytest.raises(ValueError, match=r"weight holds infinity .*written already"):
        layer.weight += np.inf
