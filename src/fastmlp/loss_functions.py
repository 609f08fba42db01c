"""Losses as functions: each takes raw outputs z and targets y and returns (loss, dz).

    loss, dz = cross_entropy(z, labels)
    net.backward(dz)

`fit` runs the same C functions. All take these parameters:

z: raw outputs (rows, n_out).
y, or labels: targets, with the shape that each function gives.
sample_weight: (rows,), factors of each row's loss and gradient. The mean still divides by the
    number of rows (those whose label is not ignored), not by the sum of the weights. So weights of
    mean 1 leave the size of a step as it is.
reduction: "mean"; "sum" over rows and columns; or "none", the loss of each row.

With "none" the losses are an array (rows,). Its mean over the rows that count is "mean", and dz
holds the gradient of each row's own loss.

All return (loss, dz). dz has the shape of z; its dtype is float64 if z has it, otherwise float32.
The formulas of dz below are for "mean" without weights.

All raise ValueError for targets outside the range of the formula, for shapes that do not fit and
for settings outside their range. All raise TypeError for anything that is not numeric.
"""

from __future__ import annotations  # signatures that can be read

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .ground.arrays import Array
from .ground.conversion import as_matrix, as_numbers
from .losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Focal,
    GaussianNLL,
    Huber,
    Loss,
    Pinball,
    Poisson,
    SoftCrossEntropy,
    SquaredError,
    Tweedie,
)
from .losses.targets import as_target, meaning_of, suited, target_numbers
from .sample_weights import as_weights

Result = tuple[Any, Array]  # the loss is an array (rows,) if reduction is "none"


def cross_entropy(
    z: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float = 0.0,
    *,
    ignore_index: int | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over rows of log(sum_j exp(z_j)) - sum_j t_j z_j, for logits z and class labels.

    t = (1 - label_smoothing) onehot(label) + label_smoothing / classes,
    dz = (softmax(z) - t) / rows. The lecture, "Multi-class classification"; smoothing: Szegedy
    et al. 2016.

    z: logits (rows, classes).
    labels: integers (rows,). A matrix of floats (rows, classes) means `soft_cross_entropy`, which
        takes no ignore_index.
    label_smoothing: the share of t that goes to all classes alike, in [0, 1).
    ignore_index: the label of rows that have loss and gradient 0 and are not counted; see
        `CrossEntropy`.
    sample_weight, reduction: see the module.

    Raises ValueError for labels outside the classes, TypeError for labels that are not integers.
    """
    return _loss(
        CrossEntropy(label_smoothing, ignore_index=ignore_index, reduction=_summed(reduction)),
        z,
        labels,
        sample_weight,
        reduction,
    )


def soft_cross_entropy(
    z: ArrayLike,
    y: ArrayLike,
    label_smoothing: float = 0.0,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over rows of log(sum_j exp(z_j)) - sum_j t_j z_j, for logits z and probabilities y.

    t = (1 - label_smoothing) y + label_smoothing / classes, and dz = (softmax(z) - t) / rows.

    z: logits (rows, classes).
    y: probabilities (rows, classes), each row adding up to 1.
    label_smoothing: the share of t that goes to all classes alike, in [0, 1).
    sample_weight, reduction: see the module.

    Raises ValueError for y outside [0, 1] and for rows that do not add up to 1.
    """
    loss = SoftCrossEntropy(label_smoothing, reduction=_summed(reduction))
    return _loss(loss, z, y, sample_weight, reduction)


def binary_cross_entropy(
    z: ArrayLike,
    y: ArrayLike,
    label_smoothing: float = 0.0,
    pos_weight: float | Sequence[float] | None = None,
    output_weight: Sequence[float] | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of softplus(z) - t z, for logits z and targets y in [0, 1].

    t = (1 - label_smoothing) y + label_smoothing / 2, and dz = (sigmoid(z) - t) / (rows n_out). The
    lecture, "Logistic regression". With several outputs it is multi-label classification.

    z: logits (rows, n_out).
    y: targets in [0, 1], of the shape of z.
    label_smoothing: the share of t that goes to both answers alike, in [0, 1).
    pos_weight, output_weight: see `BinaryCrossEntropy`.
    sample_weight, reduction: see the module.

    Raises ValueError for y outside [0, 1].
    """
    loss = BinaryCrossEntropy(
        label_smoothing,
        pos_weight,  # type: ignore[arg-type]
        output_weight,  # type: ignore[arg-type]
        reduction=_summed(reduction),
    )
    return _loss(loss, z, y, sample_weight, reduction)


def squared_error(
    z: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of (z - y)^2.

    dz = 2 (z - y) / (rows n_out). The lecture's J(theta) divided by the number of elements.

    z: predictions (rows, n_out).
    y: targets of the shape of z.
    sample_weight, reduction: see the module.
    """
    return _loss(SquaredError(reduction=_summed(reduction)), z, y, sample_weight, reduction)


def absolute_error(
    z: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of |z - y|.

    dz = sign(z - y) / (rows n_out), which is 0 if z = y.

    z: predictions (rows, n_out).
    y: targets of the shape of z.
    sample_weight, reduction: see the module.
    """
    return _loss(AbsoluteError(reduction=_summed(reduction)), z, y, sample_weight, reduction)


def huber(
    z: ArrayLike,
    y: ArrayLike,
    delta: float = 1.0,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of e^2 / 2 if |e| <= delta, otherwise delta (|e| - delta / 2).

    Here e = z - y, and dz = (e, cut to -delta .. delta) / (rows n_out). Huber 1964.

    z: predictions (rows, n_out).
    y: targets of the shape of z.
    delta: the error at which the loss becomes linear, in the units of y.
    sample_weight, reduction: see the module.
    """
    return _loss(Huber(delta, reduction=_summed(reduction)), z, y, sample_weight, reduction)


def poisson(
    z: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of exp(z) - y z: the negative log-likelihood without log y!

    dz = (exp(z) - y) / (rows n_out).

    z: logarithms of rates (rows, n_out). If exp(z) overflows, the loss is infinite.
    y: counts >= 0 of the shape of z.
    sample_weight, reduction: see the module.

    Raises ValueError for y < 0.
    """
    return _loss(Poisson(reduction=_summed(reduction)), z, y, sample_weight, reduction)


def tweedie(
    z: ArrayLike,
    y: ArrayLike,
    power: float = 1.5,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of half the Tweedie deviance of y from the mean m = exp(z).

    dz = (m^(2 - power) - y m^(1 - power)) / (rows n_out). The formula is that of `Tweedie`.

    z: logarithms of means (rows, n_out).
    y: numbers >= 0 of the shape of z; above 0 if power is 2.
    power: in [1, 2]; 1 is Poisson, 2 is Gamma.
    sample_weight, reduction: see the module.

    Raises ValueError for y below its range.
    """
    return _loss(Tweedie(power, reduction=_summed(reduction)), z, y, sample_weight, reduction)


def pinball(
    z: ArrayLike,
    y: ArrayLike,
    quantiles: float | Sequence[float] = 0.5,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean of max(t e, (t - 1) e) over the elements of y and the quantiles q of the levels t.

    Here e = y - q. At e = 0 the slope is 0. Koenker, Bassett 1978.

    z: (rows, columns * k), k outputs side by side for each column of y. The first is the lowest
        quantile. Every other quantile lies softplus of its output above the one before; see
        `Pinball.response`.
    y: targets (rows, columns).
    quantiles: the k levels t, ascending, between 0 and 1; or a single one.
    sample_weight, reduction: see the module.
    """
    given = tuple(quantiles) if isinstance(quantiles, Sequence) else quantiles
    loss = Pinball(given, reduction=_summed(reduction))  # type: ignore[arg-type]
    return _loss(loss, z, y, sample_weight, reduction)


def gaussian_nll(
    z: ArrayLike,
    y: ArrayLike,
    min_variance: float = 1e-6,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over the elements of y of (log(2 pi v) + (y - m)^2 / v) / 2.

    Nix, Weigend 1994; softplus: Lakshminarayanan et al. 2017.

    z: (rows, 2 columns), first the means m, then s with v = softplus(s) + min_variance.
    y: targets (rows, columns).
    min_variance: the lower bound of v, in the squared units of y.
    sample_weight, reduction: see the module.
    """
    return _loss(
        GaussianNLL(min_variance, reduction=_summed(reduction)), z, y, sample_weight, reduction
    )


def focal(
    z: ArrayLike,
    labels: ArrayLike,
    gamma: float = 2.0,
    *,
    ignore_index: int | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over rows of -(1 - p)^gamma log p, p = softmax(z) of the label.

    dz = (1 - p)^gamma (1 - gamma p log(p) / (1 - p)) (softmax(z) - onehot(label)) / rows. Lin et
    al. 2017.

    z: logits (rows, classes).
    labels: integers (rows,).
    gamma: how much less the rows count that are right already, in [0, 100]; 0 is cross_entropy.
    ignore_index: as in `cross_entropy`.
    sample_weight, reduction: see the module.

    Raises the same errors as `cross_entropy`.
    """
    loss = Focal(gamma, ignore_index=ignore_index, reduction=_summed(reduction))
    return _loss(loss, z, labels, sample_weight, reduction)


def binary_focal(
    z: ArrayLike,
    y: ArrayLike,
    gamma: float = 2.0,
    alpha: float | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of y a (1 - p)^gamma softplus(-z) + (1 - y) b p^gamma softplus(z).

    Here p = sigmoid(z), a = alpha and b = 1 - alpha. Both are 1 if alpha is None. Lin et al. 2017.

    z: logits (rows, n_out).
    y: targets in [0, 1], of the shape of z.
    gamma: how much less the elements count that are right already, in [0, 100].
    alpha: the weight of targets 1, in [0, 1], or None.
    sample_weight, reduction: see the module.

    Raises ValueError for y outside [0, 1].
    """
    return _loss(
        BinaryFocal(gamma, alpha, reduction=_summed(reduction)), z, y, sample_weight, reduction
    )


def _summed(reduction: str) -> str:
    """Return the reduction that the loss object takes: "none" changes only the returned values."""
    return "mean" if reduction == "none" else reduction


def _loss(
    loss: Loss, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, reduction: str
) -> Result:
    z = as_numbers(z, "z")
    dtype = np.dtype(np.float64 if z.dtype == np.float64 else np.float32)
    outputs = as_matrix(z, dtype, None, "z")
    loss = suited(loss, y)
    y = target_numbers(y, "y", meaning_of(loss))
    if y.ndim and len(y) != len(outputs):
        raise ValueError(f"y has {len(y)} rows but z has {len(outputs)}")
    target = as_target(y, loss, len(outputs), outputs.shape[1], dtype)
    dz = np.empty_like(outputs)
    of = loss.row_values if reduction == "none" else loss.value
    return of(outputs, target, dz, as_weights(sample_weight, len(outputs))), dz
