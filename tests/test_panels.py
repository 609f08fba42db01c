"""Small nets train in panels, rows along the vectors: whatever they are made of, the bits are those of row by row.

One object holds both ways against each other for every item of the registry.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers import ACTIVATIONS, AROUND, DTYPES, LOSSES, OPTIMIZERS

import fastmlp
from fastmlp import (
    Adam,
    BatchNorm,
    Dropout,
    Layer,
    LayerNorm,
    Linear,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Standardize,
    Tanh,
    _core,
)

SIZES = [1, 2, 3, 17, 33, 49]
ROWS = [1, 2, 15, 16, 17, 1025, 2500]
N_IN = 7


def activation(name: str) -> Layer:
    return getattr(fastmlp, _core.ACTIVATIONS[name]["class_name"])()


class TwoWays:
    """A net that trains in panels and its twin that trains row by row."""

    def __init__(self, layers, dtype: str = "float32", seed: int = 3) -> None:
        self.nets = [Sequential(layers(), seed=seed, dtype=dtype) for _ in range(2)]
        for net, panels in zip(self.nets, (True, False), strict=True):
            net.executor.context.panels = panels

    def fit(self, x, y, **settings) -> None:
        """Train both; losses, outputs, parameters, gradients and what belongs to the optimizer agree to the bit."""
        first, second = (self._fit(net, x, y, dict(settings)) for net in self.nets)
        assert first.keys() == second.keys()
        for name in first:
            assert np.isfinite(first[name]).all(), name
            assert np.array_equal(first[name], second[name]), name

    def _fit(self, net: Sequential, x, y, settings: dict) -> dict[str, np.ndarray]:
        settings = {"epochs": 2, "optimizer": Adam(0.01), "threads": 1, "seed": 5} | settings
        history = net.fit(x, y, **settings)
        found = {"params": net.params, "grads": net.grads, "stats": net.stats}
        found |= {f"state {i}": array for i, array in enumerate(net.state)}
        found["loss"] = np.array([epoch for epoch in history.loss])
        found["predicted"] = net.predict(x)
        return {name: np.array(array) for name, array in found.items()}


def problem(rows: int, n_out: int, loss: str = "cross_entropy", n_in: int = N_IN):
    """Inputs and targets that suit the loss."""
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, n_in))
    info = _core.LOSSES[fastmlp.losses.get_loss(LOSSES[loss]).kernel]
    if info["labels"]:
        return x, rng.integers(0, n_out, rows)
    columns = _core.target_columns(info["index"], LOSSES[loss].settings, n_out)
    return x, rng.integers(0, 2, (rows, columns)).astype(float)
