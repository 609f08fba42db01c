"""Single kernels, timed one by one through the layers: `pytest benchmarks/test_kernels.py`.

With --benchmark-disable each runs once, to see that it works.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import SGD, Adam, AdamW, Dropout, Layer, Linear, Optimizer, Sequential

ROWS = 128
PAIRS = [(8, 64), (256, 128), (784, 256), (1024, 1024)]
ELEMENTWISE_WIDTH = 256
ACTIVATIONS = sorted(fastmlp.layers.ACTIVATION_CLASSES)
OPTIMIZERS = [SGD(), SGD(momentum=0.9), SGD(momentum=0.9, nesterov=True), Adam(), AdamW()]
Loss = Callable[[Any, Any], tuple[float, Any]]


def normal(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def pair_name(pair: tuple[int, int]) -> str:
    return "{}-{}".format(*pair)


@pytest.mark.parametrize("pair", PAIRS, ids=pair_name)
def test_linear_forward(benchmark: Any, pair: tuple[int, int]) -> None:
    n_in, n_out = pair
    benchmark.extra_info["flop"] = 2 * ROWS * n_in * n_out
    y = benchmark(Linear(n_in, n_out, seed=0).forward, normal(ROWS, n_in))
    assert y.shape == (ROWS, n_out)


@pytest.mark.parametrize("pair", PAIRS, ids=pair_name)
def test_linear_backward(benchmark: Any, pair: tuple[int, int]) -> None:
    n_in, n_out = pair
    layer = Linear(n_in, n_out, seed=0)
    layer.forward(normal(ROWS, n_in))
    benchmark.extra_info["flop"] = 4 * ROWS * n_in * n_out
    dx = benchmark(layer.backward, normal(ROWS, n_out))
    assert dx.shape == (ROWS, n_in)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_forward(benchmark: Any, name: str) -> None:
    layer: Layer = fastmlp.layers.ACTIVATION_CLASSES[name]()
    y = benchmark(layer.forward, normal(ROWS, ELEMENTWISE_WIDTH))
    assert np.isfinite(y).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_backward(benchmark: Any, name: str) -> None:
    layer: Layer = fastmlp.layers.ACTIVATION_CLASSES[name]()
    layer.forward(normal(ROWS, ELEMENTWISE_WIDTH))
    dx = benchmark(layer.backward, normal(ROWS, ELEMENTWISE_WIDTH))
    assert np.isfinite(dx).all()


def test_dropout_forward(benchmark: Any) -> None:
    y = benchmark(Dropout(0.5, seed=0).forward, normal(ROWS, ELEMENTWISE_WIDTH), training=True)
    assert 0 < np.count_nonzero(y) < y.size


@pytest.mark.parametrize("n_out", [10, 1000])
def test_cross_entropy(benchmark: Any, n_out: int) -> None:
    loss, dz = benchmark(fastmlp.cross_entropy, normal(ROWS, n_out), np.arange(ROWS) % n_out)
    assert loss > 0
    assert dz.shape == (ROWS, n_out)


@pytest.mark.parametrize("loss", [fastmlp.binary_cross_entropy, fastmlp.squared_error])
def test_loss_of_values(benchmark: Any, loss: Loss) -> None:
    y = (normal(ROWS, 10) > 0).astype(np.float32)
    value, dz = benchmark(loss, normal(ROWS, 10), y)
    assert value > 0
    assert dz.shape == y.shape


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_update(benchmark: Any, optimizer: Optimizer) -> None:
    net = Sequential([Linear(784, 256), Linear(256, 128), Linear(128, 10)], seed=0)
    net.grads[:] = normal(net.n_params) * np.float32(1e-3)
    before = net.params.copy()
    benchmark.extra_info["n_params"] = net.n_params
    benchmark(net.update, optimizer)
    assert np.any(net.params != before)
