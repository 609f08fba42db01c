"""The split of rows into training, validation (when to stop) and test."""

import numpy as np
from numpy.typing import NDArray

from ..ground.arrays import Array


def split_rows(
    labels: Array | None, rows: int, validation: float, test: float, seed: int
) -> tuple[Array, Array, Array]:
    """Return (train, validation, test) rows; with labels, stratified by class.

    The rows are shuffled, then sorted by class; evenly spaced picks of that list are a stratified
    sample. Every class gets at least one training row.
    """
    order = np.random.default_rng(seed).permutation(rows)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    is_test = _spaced(rows, round(test * rows) or bool(test))
    rest = order[~is_test]
    is_validation = _spaced(len(rest), round(validation * rows) or bool(validation))
    train, held = rest[~is_validation], [rest[is_validation], order[is_test]]
    if labels is not None:
        for label in np.setdiff1d(labels, labels[train]):
            for part, chosen in enumerate(held):
                hits = chosen[labels[chosen] == label]
                if len(hits):
                    held[part] = chosen[chosen != hits[0]]
                    train = np.append(train, hits[0])
                    break
    return np.sort(train), np.sort(held[0]), np.sort(held[1])


def _spaced(n: int, picks: int) -> NDArray[np.bool_]:
    """Return a mask of `picks` evenly spaced places out of n."""
    steps = (np.arange(n + 1) * picks + n // 2) // max(n, 1)
    return np.asarray(np.diff(steps) > 0)
