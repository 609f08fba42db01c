"""PyTorch as the oracle for normalization and residual blocks, in float64: outputs, gradients,
running statistics and whole runs of training."""

import numpy as np
import pytest
from helpers import assert_within, inputs

from fastmlp import (
    SGD,
    AdamW,
    BatchNorm,
    LayerNorm,
    Linear,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Tanh,
)

torch = pytest.importorskip("torch")
F64 = {"dtype": torch.float64}


class Skip(torch.nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.inside = torch.nn.Sequential(*layers)

    def forward(self, x):
        return x + self.inside(x)


# PyTorch's keywords of LayerNorm and BatchNorm1d with a scale, a shift; None: it has no such layer,
# so that its scale is kept at 1, its shift at 0.
LIKE = {
    (True, True): ({}, {}),
    (True, False): ({"bias": False}, None),
    (False, True): (None, None),
    (False, False): ({"elementwise_affine": False}, {"affine": False}),
}


def frozen(module, scale, shift):
    """The module, whose optimizer does not see what is left out."""
    for name, has, value in (("weight", scale, 1.0), ("bias", shift, 0.0)):
        if getattr(module, name) is not None and not has:
            delattr(module, name)
            module.register_buffer(name, torch.full((12,), value, **F64))
    return module


def pair(scale=True, shift=True):
    """The same network twice."""
    has = {"scale": scale, "shift": shift}
    inner = Residual([BatchNorm(momentum=0.3, **has), Linear(12, 12), Tanh()])
    # no bias in front: its gradient is rounding alone, which AdamW would blow up
    layers = [Linear(6, 12, bias=False), BatchNorm(eps=1e-3, **has), ReLU()]
    layers += [Residual([LayerNorm(**has), Linear(12, 12), inner, RMSNorm(scale=scale)])]
    net = Sequential([*layers, Linear(12, 3)], dtype="float64")
    like_layer, like_batch = LIKE[scale, shift]
    layer_norm = torch.nn.LayerNorm(12, **(like_layer or {}), **F64)
    batch_norms = [
        torch.nn.BatchNorm1d(12, **how, **(like_batch or {}), **F64)
        for how in ({"eps": 1e-3}, {"momentum": 0.3})
    ]
    first, second = (frozen(norm, scale, shift) for norm in batch_norms)
    deep = Skip(second, torch.nn.Linear(12, 12, **F64), torch.nn.Tanh())
    block = [frozen(layer_norm, scale, shift), torch.nn.Linear(12, 12, **F64), deep]
    other = torch.nn.Sequential(
        torch.nn.Linear(6, 12, bias=False, **F64),
        first,
        torch.nn.ReLU(),
        Skip(*block, torch.nn.RMSNorm(12, eps=1e-5, elementwise_affine=scale, **F64)),
        torch.nn.Linear(12, 3, **F64),
    )
    kinds = (torch.nn.Linear, torch.nn.LayerNorm, torch.nn.RMSNorm, torch.nn.BatchNorm1d)
    theirs = [module for module in other.modules() if isinstance(module, kinds)]
    leaves = [leaf for layer in net.layers for leaf in layer.leaves()]
    ours = [leaf for leaf in leaves if isinstance(leaf, (Linear, LayerNorm, RMSNorm, BatchNorm))]
    rng = np.random.default_rng(0)
    for leaf, module in zip(ours, theirs, strict=True):
        for place, tensor in zip(trained(leaf), module.parameters(), strict=True):
            place[...] = rng.standard_normal(place.shape) / 2
            tensor.data = torch.tensor(place.T.copy())
    return net, other, ours, theirs


def trained(leaf, end=""):
    names = ("weight", "bias", "scale", "shift")
    return [getattr(leaf, name + end) for name in leaf.arrays() if name in names]


def running(leaf):
    return [array for name, array in leaf.arrays().items() if name.startswith("running")]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("has", LIKE)
def test_outputs_gradients_and_running_statistics(training, has):
    net, other, ours, theirs = pair(*has)
    other.train()
    for seed in range(3):  # running statistics that are not those of the beginning
        x = 2 * inputs(30, 6, seed=seed) + 1
        net.forward(x, training=True)
        other(torch.tensor(x))
    other.train(training)
    x = torch.tensor(inputs(21, 6, seed=9), requires_grad=True)
    dz = inputs(21, 3, seed=10)
    want = other(x)
    other.zero_grad()
    want.backward(torch.tensor(dz))
    assert_within(net.forward(x.detach().numpy(), training), want.detach().numpy(), 64, n=21)
    assert_within(net.backward(dz), x.grad.numpy(), 64, n=21)
    for leaf, module in zip(ours, theirs, strict=True):
        for got, tensor in zip(trained(leaf, "_grad"), module.parameters(), strict=True):
            size = 64 * (1 + np.abs(got).max())
            assert_within(got, tensor.grad.numpy().T, size, n=21)
        if isinstance(leaf, BatchNorm):
            assert_within(leaf.running_mean, module.running_mean.numpy(), 16, n=21)
            assert_within(leaf.running_var, module.running_var.numpy(), 64, n=21)


def make_sgd(groups):
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


def make_adamw(groups):
    return torch.optim.AdamW(groups, lr=0.01, eps=1e-8, betas=(0.9, 0.999))


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [(SGD(lr=0.05, momentum=0.9), make_sgd), (AdamW(lr=0.01, weight_decay=0.1), make_adamw)],
    ids=["sgd", "adamw"],
)
@pytest.mark.parametrize("has", LIKE)
def test_training(optimizer, make, has):
    """20 steps; scale, shift and biases are not decayed. Then the running statistics count."""
    net, other, ours, theirs = pair(*has)
    weights = [m.weight for m in theirs if isinstance(m, torch.nn.Linear)]
    held = {id(w) for w in weights}
    rest = [p for p in other.parameters() if id(p) not in held]
    decay = optimizer.weight_decay
    groups = [{"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    steps, x, labels = make(groups), inputs(160, 6), np.arange(160) % 3
    other.train()
    for step in range(20):
        rows = np.arange(8 * step, 8 * step + 8)
        loss = torch.nn.functional.cross_entropy(
            other(torch.tensor(x[rows])), torch.tensor(labels[rows])
        )
        steps.zero_grad()
        loss.backward()
        steps.step()
    net.fit(x, labels, optimizer=optimizer, batch_size=8, epochs=1, shuffle=False)
    rounded = {"scale": 256, "n": 20 * 8}  # 20 steps through sums over 8 rows, by a small std
    for leaf, module in zip(ours, theirs, strict=True):
        for got, tensor in zip(trained(leaf), module.parameters(), strict=True):
            assert_within(got, tensor.detach().numpy().T, **rounded)
        if isinstance(leaf, BatchNorm):
            assert_within(leaf.running_mean, module.running_mean.numpy(), **rounded)
            assert_within(leaf.running_var, module.running_var.numpy(), **rounded)
    other.eval()
    want = other(torch.tensor(x)).detach().numpy()
    assert_within(net.predict(x), want, 16 * rounded["scale"], n=rounded["n"])
