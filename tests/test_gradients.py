"""Analytic gradients of whole networks against central differences in float64."""

import numpy as np
import pytest
import reference
from helpers import (
    ACTIVATIONS,
    LOSSES,
    activation,
    copies,
    gradients,
    inputs,
    loss_function,
    loss_kink,
    parameters,
    randomize,
    relative_error,
    rounding,
    targets,
    twin,
    twin_loss,
)

from fastmlp import Dropout, Linear, Sequential

STEP = 1e-5
TOLERANCE = (
    1e-8  # error of the difference: STEP^2 from the third derivative, eps / STEP from rounding
)
ROWS, N_IN, N_OUT = 4, 5, 6


def build(name, *, dtype="float64"):
    layers = [Linear(N_IN, 7), activation(name), Linear(7, 6), activation(name), Linear(6, N_OUT)]
    net = Sequential(layers, dtype=dtype, seed=0)
    randomize(net)
    return net


def nearest_kink(net, x):
    """How near a sample comes to a place where a derivative jumps."""
    distance = np.inf
    for layer in twin(net):
        if isinstance(layer, reference.Activate) and layer.name in reference.KINKS:
            for kink in reference.KINKS[layer.name]:
                distance = min(distance, np.abs(x - kink).min())
        x = layer.forward(x)
    return distance


def smooth_inputs(net, loss, y):
    """A batch that no step of the differences carries across a kink, of the net or of the loss,
    drawn again until it is one."""
    for seed in range(100):
        x = inputs(ROWS, N_IN, seed=seed)
        z = reference.forward(twin(net), x)
        if min(nearest_kink(net, x), loss_kink(loss, z, y)) > 1000 * STEP:
            return x
    raise AssertionError("every draw lies near a kink")


def central_differences(f, array):
    """df/da for every element of `array`, which is moved in place."""
    slope = np.empty_like(array)
    for i in np.ndindex(array.shape):
        middle = array[i]
        array[i] = middle + STEP
        above = f()
        array[i] = middle - STEP
        below = f()
        array[i] = middle
        slope[i] = (above - below) / (2 * STEP)
    return slope


def check_gradients(net, x, loss, y, value=None):
    """`value` computes the loss again; the default is forward and loss of the same net."""
    error = loss_function(loss)
    z = net.forward(x, training=True)
    dx = net.backward(error(z, y)[1])
    analytic = [*copies(gradients(net)), dx]
    value = value or (lambda: error(net.forward(x), y)[0])
    for got, array in zip(analytic, [*parameters(net), x], strict=True):
        assert np.abs(got).max() > 1e-6  # no part of the net is dead: there is something to compare
        assert relative_error(got, central_differences(value, array)) < TOLERANCE


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients(name, loss):
    net = build(name)
    y = targets(loss, ROWS, N_OUT)
    check_gradients(net, smooth_inputs(net, loss, y), loss, y)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_of_an_activation_at_the_end(name, loss):
    """The last layer's derivative meets the loss's directly; no linear layer stands first."""
    net = Sequential([activation(name), Linear(N_IN, N_OUT), activation(name)], dtype="float64")
    randomize(net)
    y = targets(loss, ROWS, N_OUT)
    check_gradients(net, smooth_inputs(net, loss, y), loss, y)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["tanh", "relu", "gelu"])
def test_gradients_with_dropout(name, loss):
    """A new net of the same seed draws the same first mask, so that the loss is one function of
    the weights."""

    def fresh():
        layers = [Linear(N_IN, 8), activation(name), Dropout(0.4), Linear(8, N_OUT)]
        return Sequential(layers, dtype="float64", seed=6)

    net, y = fresh(), targets(loss, ROWS, N_OUT)
    randomize(net)
    x = smooth_inputs(net, loss, y)

    def value():
        other = fresh()
        other.params[...] = net.params
        return loss_function(loss)(other.forward(x, training=True), y)[0]

    check_gradients(net, x, loss, y, value)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_equal_the_twin(name, loss):
    """Wider than differences can afford: 70 rows and widths beyond a vector; rounding alone
    separates them."""
    layers = [Linear(33, 40), activation(name), Linear(40, 17), activation(name), Linear(17, 12)]
    net = Sequential(layers, dtype="float64")
    randomize(net)
    x, y = inputs(70, 33), targets(loss, 70, 12)
    z = net.forward(x, training=True)
    dx = net.backward(loss_function(loss)(z, y)[1])
    other = twin(net)
    want_dx = reference.backward(other, twin_loss(loss)(reference.forward(other, x), y)[1])
    want = [g for layer in other[::2] for g in (layer.weight_grad, layer.bias_grad)]
    for got, expected in zip([*gradients(net), dx], [*want, want_dx], strict=True):
        assert relative_error(got, expected) < rounding("float64", n=70)
