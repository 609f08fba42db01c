"""Residual blocks: y = x + f(x)."""

from __future__ import annotations  # signatures that can be read

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..engine.plan import leaves_of
from ..ground.arrays import Array
from .base import Home, Layer, make_record
from .dropout import Dropout
from .linear import Linear
from .lists import check_layers, initial_values


class Branch(Layer):
    """The beginning of a residual block, at which the input goes two ways."""

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record; `plan` links it with its Add."""
        return make_record("branch", 0, n_in, n_in)


class Add(Layer):
    """The end of a residual block, at which both ways are added."""

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record; `plan` links it with its Branch."""
        return make_record("add", 0, n_in, n_in)


class Residual(Layer):
    """y = x + f(x), with f the `layers` one after another, which keep the width (He et al. 2016).

        Sequential([Linear(8, 64), Residual([LayerNorm(), Linear(64, 64), ReLU()]), Linear(64, 3)])

    layers: a list of layers, in which further blocks may stand.

    Raises TypeError for anything that is not a layer. Raises ValueError if f ends with another
    width, and for a layer that stands in two places.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        if isinstance(layers, Layer):
            raise TypeError(f"layers must be a list of layers: Residual([{layers!r}])")
        self.layers = check_layers(layers, "Residual([Linear(8, 8), ReLU()])")
        self._n_in = self.layers[0].n_in
        self._ends = Branch(), Add()

    def __repr__(self) -> str:
        return f"Residual([{', '.join(map(repr, self.layers))}])"

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        inside = [{"type": type(layer).__name__, **layer.config()} for layer in self.layers]
        return {"layers": inside}

    def leaves(self) -> list[Layer]:
        """See Layer.leaves."""
        return [self._ends[0], *leaves_of(self.layers), self._ends[1]]

    def named_leaves(self, name: str) -> list[tuple[str, Layer]]:
        """See Layer.named_leaves."""
        parts = [layer.named_leaves(f"{name}.layers.{i}") for i, layer in enumerate(self.layers)]
        return [leaf for part in parts for leaf in part]

    def attach(self, home: Home) -> None:
        """See Layer.attach; the layers inside follow."""
        super().attach(home)
        op = home.op + 1
        for layer in self.layers:
            layer.attach(home.at(op))
            op += len(layer.leaves())

    def _home_of_copy(self, home: Home) -> None:
        """Return None, because the layers inside take their places along."""

    def _mask_seed(self) -> int:
        # From the seeds of the dropout inside. Without any, each block alone draws its own masks.
        seeds = [leaf.seed for leaf in self.leaves() if isinstance(leaf, Dropout)]
        given = [seed for seed in seeds if seed is not None]
        return int(np.random.SeedSequence(given or None).generate_state(1, np.uint64)[0])

    def _dtype_alone(self, x: ArrayLike) -> np.dtype[Any]:
        linear = next((leaf for leaf in self.leaves() if isinstance(leaf, Linear)), None)
        return super()._dtype_alone(x) if linear is None else linear._dtype_alone(x)

    def _make_home(self, n_in: int, dtype: np.dtype[Any]) -> Home:
        for leaf in self.leaves():
            leaf.check_is_free()
        home = super()._make_home(n_in, dtype)
        # The seed of the layers inside that have none of their own.
        seed = int(np.random.SeedSequence().generate_state(1)[0])
        values = initial_values(self.leaves(), home.layout, seed)
        self.attach(home)
        for leaf, initial in zip(self.leaves(), values, strict=True):
            for name, array in leaf.arrays().items():
                array[...] = initial[name]
        return home
