"""Batch normalization folded into the linear layers next to it: the same outputs, less work.

With its running statistics, BatchNorm is y = g x + c for each feature. Here g = scale / sqrt(var +
eps) and c = shift - g mean. After a Linear, both together are the Linear (W g, b g + c). Before a
Linear, they are the Linear (g W, b + c W).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..ground.arrays import Array
from ..layers import ACTIVATION_CLASSES, Dropout, Layer, Linear
from ..layers.normalization import BatchNorm
from ..layers.residual import Residual
from ..network.network import Network

N = TypeVar("N", bound=Network)


class _Affine(NamedTuple):
    """The map y = factor x + offset of each feature."""

    factor: Array
    offset: Array

    def then(self, other: "_Affine") -> "_Affine":
        """Return this map followed by another."""
        return _Affine(self.factor * other.factor, self.offset * other.factor + other.offset)


_Transparent = Dropout | ACTIVATION_CLASSES["Identity"]  # no effect at inference
_Values = dict[Layer, dict[str, Array]]  # the future contents of each new layer's arrays


def fold(net: N) -> N:
    """See Sequential.fold."""
    values: _Values = {}
    with net._engine.turns.reading:
        layers = _folded(net.layers, values, "layer ")
    new = type(net)(layers, seed=net.seed, dtype=net.dtype, n_in=net.n_in)
    for layer, arrays in values.items():
        for name, place in layer.arrays().items():
            place[...] = arrays[name]
    new._known_names = net._known_names
    new.loss, new.metrics, new.metadata = net.loss, net.metrics, dict(net.metadata)
    return new


def _folded(layers: Sequence[Layer], values: _Values, where: str) -> list[Layer]:
    """Return new layers without batch normalization; `values` receives their contents."""
    out: list[Layer] = []
    waiting: tuple[int, _Affine] | None = None  # (index, map) for the next Linear
    for i, layer in enumerate(layers):
        if isinstance(layer, BatchNorm):
            affine = _affine_of(layer)
            place = _last_that_acts(out)
            if waiting is None and place >= 0 and isinstance(out[place], Linear):
                out[place] = _behind(out[place], affine, values)
            else:
                waiting = (i, affine if waiting is None else waiting[1].then(affine))
            continue
        if waiting is not None and not isinstance(layer, Linear | _Transparent):
            break
        out.append(_copy(layer, values, f"{where}{i}."))
        if waiting is not None and isinstance(layer, Linear):
            out[-1] = _before(out[-1], waiting[1], values)
            waiting = None
    if waiting is not None:
        raise ValueError(
            f"{where}{waiting[0]} is a BatchNorm without a Linear right before or behind it, which "
            "it could be folded into; move it next to one"
        )
    return out


def _last_that_acts(layers: list[Layer]) -> int:
    """Return the index of the last layer that changes its input at inference, or -1."""
    acting = [i for i, layer in enumerate(layers) if not isinstance(layer, _Transparent)]
    return acting[-1] if acting else -1


def _affine_of(layer: BatchNorm) -> _Affine:
    held = {name: array.astype(np.float64) for name, array in layer.arrays().items()}
    factor = held.get("scale", 1.0) / np.sqrt(held["running_var"] + layer.eps)
    return _Affine(factor, held.get("shift", 0.0) - factor * held["running_mean"])


def _copy(layer: Layer, values: _Values, where: str) -> Layer:
    if isinstance(layer, Residual):
        return Residual(_folded(layer.layers, values, f"{where}layers."))
    new = type(layer)(**layer.config())
    values[new] = {name: array.astype(np.float64) for name, array in layer.arrays().items()}
    return new


def _behind(layer: Layer, affine: _Affine, values: _Values) -> Layer:
    held = values.pop(layer)
    bias = held.get("bias", 0.0) * affine.factor + affine.offset
    return _with_bias(held["weight"] * affine.factor, bias, values)


def _before(layer: Layer, affine: _Affine, values: _Values) -> Layer:
    held = values.pop(layer)
    bias = held.get("bias", 0.0) + affine.offset @ held["weight"]
    return _with_bias(affine.factor[:, None] * held["weight"], bias, values)


def _with_bias(weight: Array, bias: Any, values: _Values) -> Linear:
    new = Linear(*weight.shape)
    values[new] = {"weight": weight, "bias": bias}
    return new
