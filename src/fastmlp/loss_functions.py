"""Losses by hand: each takes raw outputs z and targets y and returns (loss, dz).

    loss, dz = cross_entropy(z, labels)
    net.backward(dz)

`fit` runs the same C functions. dz has the dtype of z where that is float64, else float32. All take
two keywords more:

sample_weight (rows,): factors of each row's loss and gradient. The mean still divides by the number
    of rows (those whose label is not ignored), not by the sum of the weights: weights of mean 1
    leave the size of a step as it is.
reduction: "mean", or "sum" over rows and columns; "none": the loss of each row, an array (rows,)
    whose mean (over the rows that count) is "mean", and in dz the gradient of each row's own.

All raise ValueError for targets outside the range that the formula takes, for shapes that do not
fit and for settings outside their range; TypeError for what is not numeric.
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
)
from .losses.targets import as_target, meaning_of, suited, target_numbers
from .sample_weights import as_weights

Result = tuple[Any, Array]  # a number, or one for each row where reduction is "none"


def cross_entropy(
    z: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float = 0.0,
    *,
    ignore_index: int | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over rows of log(sum_j exp(z_j)) - sum_j t_j z_j, for logits z (rows, classes) and
    labels (rows,); t = (1 - label_smoothing) onehot(label) + label_smoothing / classes.

    dz = (softmax(z) - t) / rows. The lecture, "Multi-class classification"; smoothing: Szegedy et
    al. 2016. Rows whose label is ignore_index have loss and gradient 0 and are not counted; see
    `CrossEntropy`. A matrix of floats (rows, classes) in the place of labels is
    `soft_cross_entropy`, which takes no ignore_index.
    Raises ValueError for labels outside the classes, TypeError for labels that are no integers.
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
    """Mean over rows of log(sum_j exp(z_j)) - sum_j t_j z_j, for logits z (rows, classes) and
    probabilities y of that shape; t = (1 - label_smoothing) y + label_smoothing / classes.

    dz = (softmax(z) - t) / rows. Raises ValueError for y outside [0, 1] and for rows that do not
    add up to 1.
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
    """Mean over all elements of softplus(z) - t z, for logits z (rows, n_out), y in [0, 1] of that
    shape, and t = (1 - label_smoothing) y + label_smoothing / 2.

    dz = (sigmoid(z) - t) / (rows n_out). The lecture, "Logistic regression"; with several outputs,
    multi-label classification. pos_weight and output_weight: see `BinaryCrossEntropy`. Raises
    ValueError for y outside [0, 1].
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
    """Mean over all elements of (z - y)^2, for predictions z (rows, n_out) and targets y of that
    shape.

    dz = 2 (z - y) / (rows n_out). The lecture's J(theta) divided by the number of elements.
    """
    return _loss(SquaredError(reduction=_summed(reduction)), z, y, sample_weight, reduction)


def absolute_error(
    z: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of |z - y|, for z and y (rows, n_out).

    dz = sign(z - y) / (rows n_out), 0 where z = y.
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
    """Mean over all elements of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), for
    e = z - y (rows, n_out).

    dz = (e, cut to -delta .. delta) / (rows n_out). Huber 1964.
    """
    return _loss(Huber(delta, reduction=_summed(reduction)), z, y, sample_weight, reduction)


def poisson(
    z: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean over all elements of exp(z) - y z, for logarithms z (rows, n_out) of rates and counts y
    of that shape: the negative log-likelihood without log y!

    dz = (exp(z) - y) / (rows n_out). Raises ValueError for y < 0. Infinite where exp(z) overflows.
    """
    return _loss(Poisson(reduction=_summed(reduction)), z, y, sample_weight, reduction)


def pinball(
    z: ArrayLike,
    y: ArrayLike,
    quantiles: float | Sequence[float] = 0.5,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Result:
    """Mean of max(t e, (t - 1) e), e = y - q, over the elements of y (rows, columns) and the
    quantiles q of the levels t.

    z (rows, columns * k), k outputs side by side for each column: the first is the lowest quantile,
    every other one lies softplus of its output above the one before; see `Pinball.response`. At
    e = 0 the slope is 0. Koenker, Bassett 1978.
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
    """Mean over the elements of y (rows, columns) of (log(2 pi v) + (y - m)^2 / v) / 2.

    z (rows, 2 columns): first the means m, then s with v = softplus(s) + min_variance. Nix, Weigend
    1994; softplus: Lakshminarayanan et al. 2017.
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
    """Mean over rows of -(1 - p)^gamma log p, p = softmax(z) of the label, for logits z (rows,
    classes) and labels (rows,).

    dz = (1 - p)^gamma (1 - gamma p log(p) / (1 - p)) (softmax(z) - onehot(label)) / rows. Lin et
    al. 2017. ignore_index and what is raised: as of cross_entropy, which it is for gamma = 0.
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
    """Mean over all elements of y a (1 - p)^gamma softplus(-z) + (1 - y) b p^gamma softplus(z), for
    logits z (rows, n_out), p = sigmoid(z), and y in [0, 1] of that shape.

    a = alpha and b = 1 - alpha; both 1 where alpha is None. Lin et al. 2017. Raises ValueError for
    y outside [0, 1].
    """
    return _loss(
        BinaryFocal(gamma, alpha, reduction=_summed(reduction)), z, y, sample_weight, reduction
    )


def _summed(reduction: str) -> str:
    """What a loss is made with: "none" differs only in what is returned."""
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
