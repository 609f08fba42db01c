"""Losses on raw outputs, by hand: each returns the mean loss and its gradient.

    loss, dz = cross_entropy(z, labels)
    net.backward(dz)

`fit` runs the same C functions; there the loss is given by its name.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core

LOSSES: tuple[str, ...] = tuple(_core.LOSSES)


def needs_labels(loss: str) -> bool:
    """Whether the target is one class label a row, rather than n_out values."""
    return bool(_core.LOSSES[loss]["labels"])


def check_loss(loss: str) -> str:
    """The name of a loss if it is one; else ValueError."""
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r} is unknown; use one of {', '.join(LOSSES)}")
    return loss


def cross_entropy(z: ArrayLike, labels: ArrayLike) -> tuple[float, NDArray[Any]]:
    """Mean over rows of log(sum_j exp(z_j)) - z_label, for logits z (rows, classes) and labels
    (rows,).

    Returns (loss, dz), dz = (softmax(z) - onehot(labels)) / rows. The lecture, "Multi-class
    classification". Raises ValueError for labels outside the classes, TypeError for labels that are
    no integers.
    """
    return _loss("cross_entropy", z, labels)


def binary_cross_entropy(z: ArrayLike, y: ArrayLike) -> tuple[float, NDArray[Any]]:
    """Mean over all elements of softplus(z) - y z, for logits z (rows, n_out) and y in [0, 1].

    Returns (loss, dz), dz = (sigmoid(z) - y) / (rows n_out). The lecture, "Logistic regression";
    with several outputs, multi-label classification. Raises ValueError for y outside [0, 1].
    """
    return _loss("binary_cross_entropy", z, y)


def squared_error(z: ArrayLike, y: ArrayLike) -> tuple[float, NDArray[Any]]:
    """Mean over all elements of (z - y)^2, for predictions z (rows, n_out) and targets y of that
    shape.

    Returns (loss, dz), dz = 2 (z - y) / (rows n_out). The lecture's J(theta) divided by the number
    of elements.
    """
    return _loss("squared_error", z, y)


def _loss(name: str, z: ArrayLike, y: ArrayLike) -> tuple[float, NDArray[Any]]:
    from .data import as_matrix, as_target  # data needs the names in this module

    dtype = np.dtype(np.float64 if np.asarray(z).dtype == np.float64 else np.float32)
    outputs = as_matrix(z, dtype, None, "z")
    target = as_target(y, name, len(outputs), outputs.shape[1], dtype)
    dz = np.empty_like(outputs)
    return loss_of(name, outputs, target, dz), dz


def loss_of(
    name: str, z: NDArray[Any], target: NDArray[Any], dz: NDArray[Any] | None = None
) -> float:
    """Mean loss of checked arrays; the gradient goes to dz where it is given."""
    return _core.loss_and_grad(_core.LOSSES[name]["index"], z, target, dz)


def probabilities(loss: str, z: NDArray[Any]) -> NDArray[Any]:
    """Softmax of the rows of z, or the sigmoid of its elements, as the loss implies; else
    ValueError.
    """
    if loss == "cross_entropy":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    if loss == "binary_cross_entropy":
        e = np.exp(-np.abs(z))
        return np.asarray(np.where(z >= 0, 1 / (1 + e), e / (1 + e)), dtype=z.dtype)
    raise ValueError(f"loss={loss!r} predicts values, not probabilities; use predict")
