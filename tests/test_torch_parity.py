"""The same numbers as PyTorch, in float64: 1e-12 after one step, 1e-8 after a hundred.

torch keeps weights as (n_out, n_in), ours transposed, and decays biases unless told not to."""

import numpy as np
import pytest
from helpers import (
    ACTIVATIONS,
    LOSSES,
    activation,
    gradients,
    inputs,
    linears,
    loss_function,
    parameters,
    randomize,
    relative_error,
    targets,
)

import fastmlp
from fastmlp import SGD, Adam, AdamW, Dropout, Linear, Sequential, _core

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # tiny products: more threads only wait for each other

ONE_STEP, HUNDRED_STEPS = 1e-12, 1e-8
ROWS, N_IN, N_OUT = 23, 9, 4

TORCH_ACTIVATIONS = {
    "identity": torch.nn.Identity,
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "elu": torch.nn.ELU,
    "selu": torch.nn.SELU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
    "mish": torch.nn.Mish,
    "softplus": torch.nn.Softplus,
    "sigmoid": torch.nn.Sigmoid,
    "tanh": torch.nn.Tanh,
}
TORCH_LOSSES = {
    "cross_entropy": torch.nn.CrossEntropyLoss,
    "binary_cross_entropy": torch.nn.BCEWithLogitsLoss,
    "squared_error": torch.nn.MSELoss,
}
# ours, torch's class, its keywords: weight_decay goes to weights alone
OPTIMIZERS = {
    "sgd": (SGD(lr=0.05), torch.optim.SGD, {"lr": 0.05}),
    "sgd-momentum": (
        SGD(lr=0.02, momentum=0.9),
        torch.optim.SGD,
        {"lr": 0.02, "momentum": 0.9},
    ),
    "sgd-nesterov": (
        SGD(lr=0.02, momentum=0.9, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    ),
    "adam": (Adam(lr=0.01), torch.optim.Adam, {"lr": 0.01}),
    "adam-betas": (
        Adam(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-4),
        torch.optim.Adam,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4},
    ),
    "adamw": (
        AdamW(lr=0.01, weight_decay=0.1),
        torch.optim.AdamW,
        {"lr": 0.01, "weight_decay": 0.1},
    ),
}


def test_everything_registered_is_compared():
    assert set(_core.ACTIVATIONS) <= set(TORCH_ACTIVATIONS)
    assert set(TORCH_LOSSES) == set(_core.LOSSES)
    names = {type(ours).__name__.lower() for ours, _, _ in OPTIMIZERS.values()}
    assert names == set(_core.OPTIMIZERS)


def ours(name):
    layers = [Linear(N_IN, 13), activation(name), Linear(13, 8), activation(name), Linear(8, N_OUT)]
    net = Sequential(layers, dtype="float64", seed=0)
    randomize(net)
    return net


def theirs(net, name):
    """A torch network with a copy of the weights."""
    first, second, last = linears(net)
    model = torch.nn.Sequential(
        torch.nn.Linear(*first.weight.shape),
        TORCH_ACTIVATIONS[name](),
        torch.nn.Linear(*second.weight.shape),
        TORCH_ACTIVATIONS[name](),
        torch.nn.Linear(*last.weight.shape),
    ).double()
    with torch.no_grad():
        for mine, other in zip(linears(net), model[::2], strict=True):
            other.weight.copy_(torch.from_numpy(mine.weight.T.copy()))
            other.bias.copy_(torch.from_numpy(mine.bias.copy()))
    return model


def in_our_layout(model, get=lambda p: p.detach()):
    """weight, bias, weight, bias, ... as our arrays stand."""
    return [get(p).numpy().T for layer in model[::2] for p in (layer.weight, layer.bias)]


def parameter_groups(model):
    linear = list(model[::2])
    return [
        {"params": [layer.weight for layer in linear]},
        {"params": [layer.bias for layer in linear], "weight_decay": 0.0},
    ]


def assert_all_close(got, want, tolerance):
    for a, b in zip(got, want, strict=True):
        assert relative_error(a, b) <= tolerance


def torch_targets(y):
    return torch.from_numpy(y.copy())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    z = np.linspace(-20, 20, 4001).reshape(1, -1)
    layer = activation(name)
    y, dx = layer.forward(z), layer.backward(np.ones_like(z))
    other = torch.from_numpy(z.copy()).requires_grad_()
    out = TORCH_ACTIVATIONS[name]()(other)
    out.sum().backward()
    # torch's softplus is the identity beyond its threshold of 20, where the difference is exp(-20)
    np.testing.assert_allclose(y, out.detach().numpy(), rtol=ONE_STEP, atol=ONE_STEP)
    np.testing.assert_allclose(dx, other.grad.numpy(), rtol=ONE_STEP, atol=ONE_STEP)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_loss(loss, size):
    z, y = size * inputs(ROWS, N_OUT), targets(loss, ROWS, N_OUT)
    value, dz = loss_function(loss)(z, y)
    other = torch.from_numpy(z).requires_grad_()
    want = TORCH_LOSSES[loss]()(other, torch_targets(y))
    want.backward()
    assert relative_error(value, want.item()) <= ONE_STEP
    assert relative_error(dz, other.grad.numpy()) <= ONE_STEP


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_of_a_network(name, loss):
    net = ours(name)
    model = theirs(net, name)
    x, y = inputs(ROWS, N_IN), targets(loss, ROWS, N_OUT)
    z = net.forward(x, training=True)
    value, dz = loss_function(loss)(z, y)
    dx = net.backward(dz)

    other = torch.from_numpy(x).requires_grad_()
    out = model(other)
    want = TORCH_LOSSES[loss]()(out, torch_targets(y))
    want.backward()
    assert relative_error(z, out.detach().numpy()) <= ONE_STEP
    assert relative_error(value, want.item()) <= ONE_STEP
    assert_all_close(gradients(net), in_our_layout(model, lambda p: p.grad), ONE_STEP)
    assert relative_error(dx, other.grad.numpy()) <= ONE_STEP


def check_training(name, loss, case):
    """Full batches, one by one: the losses agree all the way."""
    optimizer, torch_optimizer, keywords = OPTIMIZERS[case]
    net = ours(name)
    model = theirs(net, name)
    other = torch_optimizer(parameter_groups(model), **keywords)
    x, y = inputs(ROWS, N_IN), targets(loss, ROWS, N_OUT)
    start = net.params.copy()
    for step in range(1, 101):
        value = net.train_step(x, y, loss=loss, optimizer=optimizer)
        other.zero_grad()
        want = TORCH_LOSSES[loss]()(model(torch.from_numpy(x)), torch_targets(y))
        want.backward()
        other.step()
        tolerance = ONE_STEP if step == 1 else HUNDRED_STEPS
        assert relative_error(value, want.item()) <= tolerance
        if step in (1, 100):
            assert_all_close(parameters(net), in_our_layout(model), tolerance)
    assert relative_error(net.params, start) > 0.01


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_training_with_each_optimizer(case):
    check_training("tanh", "cross_entropy", case)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_with_each_loss(loss):
    check_training("gelu", loss, "sgd-momentum")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_training_with_each_activation(name):
    check_training(name, "squared_error", "adam")


def test_dropout_scales_as_theirs_and_rests_at_test_time():
    """The masks differ; what is kept is scaled alike."""
    x = inputs(ROWS, N_IN)
    for p in (0.1, 0.25, 0.5):
        mine = Dropout(p).forward(x, training=True)
        other = torch.nn.functional.dropout(torch.from_numpy(x), p).numpy()
        kept = (mine != 0) & (other != 0)
        assert kept.sum() > 20
        np.testing.assert_allclose(mine[kept], other[kept], rtol=ONE_STEP)


def test_attributes_mean_the_same():
    z = inputs(11, 7)
    pairs = [
        (fastmlp.LeakyReLU(0.3), torch.nn.LeakyReLU(0.3)),
        (fastmlp.ELU(0.7), torch.nn.ELU(0.7)),
    ]
    for mine, other in pairs:
        want = other(torch.from_numpy(z)).numpy()
        np.testing.assert_allclose(mine.forward(z), want, rtol=ONE_STEP)
