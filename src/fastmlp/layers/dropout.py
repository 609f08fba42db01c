"""The dropout layer."""

from __future__ import annotations  # so that numpy.random, slow to load, loads on first use

from typing import Any

import numpy as np

from ..ground.arrays import Array
from ..ground.checks import check_number, check_seed
from .base import Layer, make_record


class Dropout(Layer):
    """Inverted dropout: training zeroes inputs with probability p, divides the others by 1 - p.

    Nothing happens outside of training. The mask depends on the seed, the number of the training
    pass, the layer, the row and the column, never on the number of threads.

    p: the probability of zero, in [0, 1).
    seed: the seed of a layer alone; in a network the network's counts.

    Raises ValueError for a p or a seed outside its range.
    """

    keeps_scale = True

    def __init__(self, p: float = 0.5, *, seed: int | None = None) -> None:
        self.p = check_number(p, "p", below=1)
        self.seed = None if seed is None else check_seed(seed)

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record."""
        return make_record("dropout", index, n_in, n_in, attr=self.p)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return {"p": self.p}

    def _mask_seed(self) -> int:
        # Two layers alone must not share their masks, so without a seed each draws one.
        return int(np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0])
