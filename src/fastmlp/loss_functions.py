"""Losses as functions: each takes raw outputs z and targets y and returns (loss, dz).

    loss, dz = cross_entropy(z, labels)
    net.backward(dz)

`fit` runs the same C functions. The class that a function names tells the formula and the
parameters that are not here:

z: raw outputs (rows, n_out).
y, or labels: targets, with the shape that the class gives.
sample_weight: (rows,), factors of each row's loss and gradient. The mean still divides by the
    number of rows (those whose label is not ignored), not by the sum of the weights. So weights of
    mean 1 leave the size of a step as it is.
reduction: "mean"; "sum" over rows and columns; or "none", the loss of each row.

With "none" the losses are an array (rows,). Its mean over the rows that count is "mean", and dz
holds the gradient of each row's own loss.

All return (loss, dz). dz has the shape of z; its dtype is float64 if z has it, otherwise float32.
All raise ValueError for targets outside the range of the formula, for shapes that do not fit and
for settings outside their range. All raise TypeError for anything that is not numeric.
"""

from __future__ import annotations  # signatures that can be read

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from . import losses
from .ground.arrays import Array

Result = tuple[Any, Array]  # the loss is an array (rows,) if reduction is "none"
Weight = ArrayLike | None


def cross_entropy(
    z: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float = 0.0,
    *,
    ignore_index: int | None = None,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `CrossEntropy`."""
    return _result(
        losses.CrossEntropy,
        z,
        labels,
        sample_weight,
        reduction,
        label_smoothing,
        ignore_index=ignore_index,
    )


def soft_cross_entropy(
    z: ArrayLike,
    y: ArrayLike,
    label_smoothing: float = 0.0,
    *,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `SoftCrossEntropy`."""
    return _result(losses.SoftCrossEntropy, z, y, sample_weight, reduction, label_smoothing)


def binary_cross_entropy(
    z: ArrayLike,
    y: ArrayLike,
    label_smoothing: float = 0.0,
    pos_weight: float | Sequence[float] | None = None,
    output_weight: Sequence[float] | None = None,
    *,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `BinaryCrossEntropy`."""
    return _result(
        losses.BinaryCrossEntropy,
        z,
        y,
        sample_weight,
        reduction,
        label_smoothing,
        pos_weight,
        output_weight,
    )


def squared_error(
    z: ArrayLike, y: ArrayLike, *, sample_weight: Weight = None, reduction: str = "mean"
) -> Result:
    """See `SquaredError`."""
    return _result(losses.SquaredError, z, y, sample_weight, reduction)


def absolute_error(
    z: ArrayLike, y: ArrayLike, *, sample_weight: Weight = None, reduction: str = "mean"
) -> Result:
    """See `AbsoluteError`."""
    return _result(losses.AbsoluteError, z, y, sample_weight, reduction)


def huber(
    z: ArrayLike,
    y: ArrayLike,
    delta: float = 1.0,
    *,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `Huber`."""
    return _result(losses.Huber, z, y, sample_weight, reduction, delta)


def poisson(
    z: ArrayLike, y: ArrayLike, *, sample_weight: Weight = None, reduction: str = "mean"
) -> Result:
    """See `Poisson`."""
    return _result(losses.Poisson, z, y, sample_weight, reduction)


def tweedie(
    z: ArrayLike,
    y: ArrayLike,
    power: float = 1.5,
    *,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `Tweedie`."""
    return _result(losses.Tweedie, z, y, sample_weight, reduction, power)


def pinball(
    z: ArrayLike,
    y: ArrayLike,
    quantiles: float | Sequence[float] = 0.5,
    *,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `Pinball`."""
    return _result(losses.Pinball, z, y, sample_weight, reduction, quantiles)


def gaussian_nll(
    z: ArrayLike,
    y: ArrayLike,
    min_variance: float = 1e-6,
    *,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `GaussianNLL`."""
    return _result(losses.GaussianNLL, z, y, sample_weight, reduction, min_variance)


def focal(
    z: ArrayLike,
    labels: ArrayLike,
    gamma: float = 2.0,
    *,
    ignore_index: int | None = None,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `Focal`."""
    return _result(
        losses.Focal, z, labels, sample_weight, reduction, gamma, ignore_index=ignore_index
    )


def binary_focal(
    z: ArrayLike,
    y: ArrayLike,
    gamma: float = 2.0,
    alpha: float | None = None,
    *,
    sample_weight: Weight = None,
    reduction: str = "mean",
) -> Result:
    """See `BinaryFocal`."""
    return _result(losses.BinaryFocal, z, y, sample_weight, reduction, gamma, alpha)


def _result(
    kind: type[losses.Loss],
    z: Any,
    y: Any,
    sample_weight: Any,
    reduction: str,
    *own: Any,
    **named: Any,
) -> Result:
    if reduction == "none":
        return kind(*own, **named).of_rows(z, y, sample_weight)
    return kind(*own, reduction=reduction, **named)(z, y, sample_weight)
