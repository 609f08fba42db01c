"""Lists of layers, of which networks and blocks are made: checks, and first weights."""

from __future__ import annotations  # so that numpy.random, slow to load, loads on first use

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.plan import Layout, leaves_of
from .activation import ACTIVATION_CLASSES, GLU, PReLU
from .base import OWN_LAYER, Layer
from .dropout import Dropout
from .linear import Linear
from .normalization import BatchNorm, LayerNorm, RMSNorm, Standardize

LAYERS: dict[str, type[Layer]] = {
    **{
        c.__name__: c
        for c in (Linear, GLU, PReLU, Dropout, BatchNorm, LayerNorm, RMSNorm, Standardize)
    },
    **ACTIVATION_CLASSES,
}


def check_layers(layers: Any, example: str) -> tuple[Layer, ...]:
    """Return the layers as a tuple, each in one place; the errors show `example`."""
    try:
        if isinstance(layers, str | bytes):
            raise TypeError
        found = (layers,) if isinstance(layers, Layer) else tuple(layers)
    except TypeError:
        raise TypeError(f"layers must be a list of layers, {example}, not {layers!r}") from None
    if not found:
        raise ValueError(f"layers is empty; at least one is needed: {example}")
    for layer in found:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must be a list of layers, {example}, {_not_a_layer(layer)}")
    leaves = leaves_of(found)
    for layer in (*found, *leaves):
        kind = type(layer)
        own = kind.record is Layer.record and layer in leaves
        if own or kind.forward is not Layer.forward or kind.backward is not Layer.backward:
            raise TypeError(OWN_LAYER.format(layer))
    if len({id(leaf) for leaf in leaves}) < len(leaves):
        raise ValueError("a layer appears twice; make a new one for each place")
    return found


def _not_a_layer(given: Any) -> str:
    """Return what was given in place of a layer, and what it could be."""
    name = given if isinstance(given, str) else getattr(given, "__name__", "")
    known = next((own for own in LAYERS if own.lower() == name.lower().replace("_", "")), None)
    if known is not None:
        return f"not {given!r}; write {known}({'' if known in ACTIVATION_CLASSES else '...'})"
    return f"not {given!r}; {OWN_LAYER.format('that')}"


def initial_values(leaves: Sequence[Layer], layout: Layout, seed: int) -> list[dict[str, Any]]:
    """Return the first values of the arrays of each leaf of an unfused layout.

    Leaves without a seed of their own draw from (seed, place).
    """
    values = []
    for index, leaf in enumerate(leaves):
        rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
        behind = (o for o in leaves[index + 1 :] if not o.keeps_scale)
        values.append(leaf.initial_arrays(rng, int(layout.ops[index]["n_in"]), next(behind, None)))
    return values
