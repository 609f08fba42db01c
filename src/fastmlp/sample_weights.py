"""Weights of rows: how much each row counts in the loss and its gradient."""

from __future__ import annotations  # signatures that can be read

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .ground.arrays import Array
from .ground.conversion import Weights, as_numbers, as_weights
from .losses import Loss

ClassWeight = str | Mapping[int, float] | ArrayLike


def class_weights(
    class_weight: ClassWeight | None,
    loss: Loss,
    target: Array,
    used: NDArray[np.int64],
    n_out: int,
    sample_weight: Weights | None = None,
) -> Weights | None:
    """Return the weight of each row's class; None stays None.

    "balanced" gives n / (k n_c) (scikit-learn's formula) to a class with n_c of the n rows `used`,
    if k classes are among them. Every row counts as its sample weight, and ignored rows do not
    count. The mean of these weights over the rows so counted is 1.

    A mapping gives the weight of some classes, and the others have 1. An array gives that of every
    class. Raises ValueError for losses without classes and for unknown classes.
    """
    if class_weight is None:
        return None
    labels, n_classes = _labels(loss, target, n_out)
    counting = loss.counting(target)
    if counting is not None:  # an ignored row has no class, and its weight of 1 has no effect
        used, labels = used[counting[used]], np.where(counting, labels, 0)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f'class_weight={class_weight!r} is unknown; use "balanced" or {{class: weight}}'
            )
        counted = weights_at(sample_weight, used)
        counts = np.bincount(labels[used], counted, n_classes)
        there = counts > 0
        by_class = np.zeros(n_classes)
        by_class[there] = counts.sum() / (np.count_nonzero(there) * counts[there])
    elif isinstance(class_weight, Mapping):
        by_class = np.ones(n_classes)
        for label, weight in class_weight.items():
            if isinstance(label, bool) or label not in range(n_classes):
                raise ValueError(
                    f"class_weight names the class {label!r}, but classes are 0 .. {n_classes - 1}"
                )
            by_class[int(label)] = as_numbers([weight], "class_weight", "values")[0]
    else:
        by_class = np.asarray(as_numbers(class_weight, "class_weight", "values"), np.float64)
    checked = as_weights(by_class, n_classes, "class_weight")
    assert checked is not None
    return checked[labels] if counting is None else np.where(counting, checked[labels], 1.0)


def _labels(loss: Loss, target: Array, n_out: int) -> tuple[NDArray[np.int64], int]:
    """The class of every row and the number of classes."""
    if loss.needs_labels:
        return target, n_out
    if not loss.predicts and target.ndim == 1 and target.dtype.kind == "i" and target.min() >= 0:
        return target, max(n_out, int(target.max()) + 1)  # a custom loss on labels
    if loss.predicts == "classes" and target.shape[1] == 1:
        if not np.all((target == 0) | (target == 1)):
            raise ValueError("class_weight needs targets 0 or 1; for others use sample_weight")
        return target[:, 0].astype(np.int64), 2
    raise ValueError(
        f"class_weight needs one class a row, which loss={loss.name!r} with {n_out} outputs does "
        "not have; use sample_weight"
    )


def combined(first: Weights | None, second: Weights | None) -> Weights | None:
    """Return the product; None stands for ones."""
    if first is None or second is None:
        return second if first is None else first
    return first * second


def weights_at(weights: Weights | None, rows: Any) -> Weights | None:
    """Return the weights of some rows; None stays None."""
    return None if weights is None else weights[rows]
