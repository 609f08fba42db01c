"""The losses of C, each with its formula. z: raw outputs (rows, n_out); y: targets.

The gradients dz are those of the mean without weights.
"""

from __future__ import annotations  # signatures that can be read

import math
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..ground.arrays import Array
from ..ground.checks import as_real, check_number, declared
from .base import Loss, number, sigmoid, softmax
from .targets import as_labels, as_probabilities


def _check_ignored(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number or None, not {value!r}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} must fit into 64 bits, not {value!r}")
    return int(value)


def _check_factors(value: Any, name: str) -> float | tuple[float, ...] | None:
    """Return a finite number >= 0, or several as a tuple; None stays None."""
    if value is None:
        return None
    several = np.ndim(value) == 1 and len(value)
    factors = [as_real(one) for one in (np.asarray(value).tolist() if several else [value])]
    good = tuple(one for one in factors if one is not None and one >= 0)
    if len(good) < len(factors):
        raise ValueError(f"{name} must be finite and >= 0, or a list of such, not {value!r}")
    return good if several else good[0]


def _check_quantiles(value: Any, name: str) -> tuple[float, ...]:
    given = value if isinstance(value, tuple | list) else (value,)
    if not given:
        raise ValueError(f"{name} is empty; (0.1, 0.5, 0.9), for instance")
    limits: dict[str, Any] = {"positive": True, "below": 1, "wrong_type": TypeError}
    levels = tuple(check_number(one, "a quantile", **limits) for one in given)
    if any(a >= b for a, b in pairwise(levels)):
        raise ValueError(f"{name} must ascend, not {value!r}; sort them")
    return levels


# ---- classes -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class _Softmax(Loss):
    """Base of the losses on logits of classes that exclude each other."""

    link: ClassVar[str] = "takes logits and applies the softmax itself"
    predicts: ClassVar[str] = "classes"

    def response(self, z: Array) -> Array:
        """The softmax of the rows."""
        return softmax(z)

    def _check_classes(self, n_out: int) -> None:
        if n_out == 1:
            binary = _core.LOSSES[self.name]["binary"]
            raise ValueError(
                f"{self.name} needs one output per class; for two classes use "
                f'Linear(..., 2), or one output with loss="{binary}"'
            )

    def is_narrowed_by(self, activation: str) -> bool:
        """See Loss.is_narrowed_by; only differences of logits count, so one end may be bounded."""
        has_slope = _core.ACTIVATIONS[activation]["range"] == "half_open"
        return super().is_narrowed_by(activation) and not has_slope


@dataclass(frozen=True, repr=False)
class _OfLabels(_Softmax):
    """Base of the losses whose target is one label a row, of which one label may be ignored."""

    _: KW_ONLY
    ignore_index: int | None = declared(_check_ignored, None)

    def counting(self, target: Array) -> NDArray[np.bool_] | None:
        """See Loss.counting."""
        return None if self.ignore_index is None else np.asarray(target != self.ignore_index)

    def as_target(
        self, y: ArrayLike, rows: int, n_out: int, dtype: np.dtype[Any], name: str = "y"
    ) -> Array:
        """See Loss.as_target."""
        self._check_classes(n_out)
        return as_labels(y, rows, n_out, name, self.ignore_index)


@dataclass(frozen=True, repr=False)
class CrossEntropy(_OfLabels):
    """log(sum_j exp(z_j)) - sum_j t_j z_j for labels y (rows,).

    t is 1 - label_smoothing at the label, and label_smoothing / n_out more for every class (Szegedy
    et al. 2016). The lecture, "Multi-class classification". dz = (softmax(z) - t) / rows.
    Response: softmax(z).

    label_smoothing: the share of t that goes to all classes alike, in [0, 1).
    ignore_index: the label of rows that add nothing to loss, gradient and metrics. It may be a
        class or not; None means no such label. A mean divides by the number of the other rows, as
        PyTorch's does without weights.
    reduction: "mean" or "sum", see `Loss`.

    If all rows of a batch are ignored, the loss and all gradients are 0, while PyTorch has NaN. The
    step counts, and momentum and decay go on.

    A class weight multiplies the whole loss of the rows of this class. PyTorch weighs every class's
    term of the smoothed loss instead. Raises ValueError and TypeError for settings outside their
    range.
    """

    name: ClassVar[str] = "cross_entropy"
    label_smoothing: float = number(0.0, below=1)

    def suited(self, y: Any) -> Loss:
        """See Loss.suited; a matrix of floats is one of probabilities."""
        try:
            array = y if hasattr(y, "dtype") else np.asarray(y)
            is_soft = array.ndim == 2 and array.shape[1] > 1 and np.asarray(array).dtype.kind == "f"
        except Exception:  # the conversion that follows explains it
            return self
        if not is_soft:
            return self
        if self.ignore_index is not None:
            raise ValueError(
                "ignore_index is about labels, but y holds probabilities; leave ignore_index out "
                "and give such rows sample_weight=0"
            )
        return SoftCrossEntropy(self.label_smoothing, reduction=self.reduction)


@dataclass(frozen=True, repr=False)
class SoftCrossEntropy(_Softmax):
    """CrossEntropy for probabilities y (rows, classes), each row adding up to 1.

    t = (1 - label_smoothing) y + label_smoothing / n_out, dz = (softmax(z) - t) / rows. PyTorch's
    cross_entropy with targets that are probabilities. The loss "cross_entropy" becomes this one if
    y is a matrix of floats. Labels (rows,) are taken as well, for validation data. Response:
    softmax(z).

    label_smoothing: the share of t that goes to all classes alike, in [0, 1).
    reduction: "mean" or "sum", see `Loss`.

    Raises ValueError for a setting outside its range.
    """

    name: ClassVar[str] = "soft_cross_entropy"
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    label_smoothing: float = number(0.0, below=1)

    def as_target(
        self, y: ArrayLike, rows: int, n_out: int, dtype: np.dtype[Any], name: str = "y"
    ) -> Array:
        """See Loss.as_target."""
        self._check_classes(n_out)
        return as_probabilities(y, rows, n_out, dtype, name)


@dataclass(frozen=True, repr=False)
class BinaryCrossEntropy(Loss):
    """softplus(z) - t z for y in [0, 1], t = (1 - label_smoothing) y + label_smoothing / 2.

    dz = (sigmoid(z) - t) / (rows n_out). Response: sigmoid(z). The lecture, "Logistic regression".
    With several outputs it is multi-label classification.

    label_smoothing: the share of t that goes to both answers alike, in [0, 1).
    pos_weight: how much a target 1 counts against a target 0, for example the ratio of zeros to
        ones: a number, or one for each output.
    output_weight: how much each output counts, a list of one number for each.
    reduction: "mean" or "sum", see `Loss`.

    With weights the loss is -(w (p t log s + (1 - t) log(1 - s))), where s = sigmoid(z), w is the
    output's weight and p its pos_weight. The mean still divides by all elements, as PyTorch's does.
    Raises ValueError for a setting outside its range.
    """

    name: ClassVar[str] = "binary_cross_entropy"
    link: ClassVar[str] = "takes logits and applies the sigmoid itself"
    predicts: ClassVar[str] = "classes"
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    label_smoothing: float = number(0.0, below=1)
    pos_weight: float | tuple[float, ...] | None = declared(_check_factors, None)
    output_weight: tuple[float, ...] | None = declared(_check_factors, None)

    def _check(self) -> None:
        if isinstance(self.output_weight, float):
            raise ValueError("output_weight must be a list, one number for each output")
        lengths = [len(w) for w in self._lists()]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"pos_weight holds {lengths[0]} numbers and output_weight {lengths[1]}; give one "
                "for each output"
            )

    def _lists(self) -> list[tuple[float, ...]]:
        """Return the weights that hold one number for each output."""
        return [w for w in (self.pos_weight, self.output_weight) if isinstance(w, tuple)]

    def _settings(self) -> dict[str, Any]:
        if self.pos_weight is None and self.output_weight is None:
            return {"label_smoothing": self.label_smoothing}
        positive = np.asarray(1.0 if self.pos_weight is None else self.pos_weight)
        each = np.asarray(1.0 if self.output_weight is None else self.output_weight)
        of_ones, of_zeros = np.broadcast_arrays(np.atleast_1d(positive * each), each)
        return {
            "label_smoothing": self.label_smoothing,
            "positives": of_ones,
            "negatives": of_zeros,
        }

    def target_columns(self, n_out: int) -> int:
        """See Loss.target_columns."""
        for weights in self._lists():
            if len(weights) != n_out:
                raise ValueError(
                    f"{self!r} weighs {len(weights)} outputs, but the last layer has {n_out}; give "
                    "one number for each output"
                )
        return super().target_columns(n_out)

    def response(self, z: Array) -> Array:
        """The sigmoid of the elements."""
        return sigmoid(z)


@dataclass(frozen=True, repr=False)
class Focal(_OfLabels):
    """-(1 - p)^gamma log p, p = softmax(z) of the label (Lin et al. 2017), for labels y (rows,).

    dz = (1 - p)^gamma (1 - gamma p log(p) / (1 - p)) (softmax(z) - onehot(y)) / rows. Rows that are
    right already count less. Response: softmax(z). Factors of single classes are the
    `class_weight` of fit.

    gamma: how much less rows count that are right already, in [0, 100]; 0 is cross_entropy.
    ignore_index: see `CrossEntropy`.
    reduction: "mean" or "sum", see `Loss`.

    Raises ValueError and TypeError for settings outside their range.
    """

    name: ClassVar[str] = "focal"
    gamma: float = number(2.0, high=100)


@dataclass(frozen=True, repr=False)
class BinaryFocal(Loss):
    """y a (1 - p)^gamma softplus(-z) + (1 - y) (1 - a) p^gamma softplus(z) for y in [0, 1].

    Here p = sigmoid(z) (Lin et al. 2017). Response: sigmoid(z).

    gamma: how much less elements count that are right already, in [0, 100]. 0 without alpha is
        binary_cross_entropy.
    alpha: a, the weight of targets 1, in [0, 1]; None means that both targets count fully.
    reduction: "mean" or "sum", see `Loss`.

    Raises ValueError for a setting outside its range.
    """

    name: ClassVar[str] = "binary_focal"
    link: ClassVar[str] = "takes logits and applies the sigmoid itself"
    predicts: ClassVar[str] = "classes"
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    gamma: float = number(2.0, high=100)
    alpha: float | None = number(None, high=1, optional=True)

    def _settings(self) -> dict[str, Any]:
        alpha = self.alpha
        weights = {} if alpha is None else {"positive": alpha, "negative": 1 - alpha}
        return {"gamma": self.gamma, **weights}

    def response(self, z: Array) -> Array:
        """The sigmoid of the elements."""
        return sigmoid(z)


# ---- values --------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class SquaredError(Loss):
    """(z - y)^2, the lecture's J(theta); not half of it.

    dz = 2 (z - y) / (rows n_out).

    reduction: "mean" or "sum", see `Loss`.
    """

    name: ClassVar[str] = "squared_error"
    has_unit: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class AbsoluteError(Loss):
    """|z - y|, whose best constant is the median. The gradient at z = y is 0.

    dz = sign(z - y) / (rows n_out).

    reduction: "mean" or "sum", see `Loss`.
    """

    name: ClassVar[str] = "absolute_error"
    has_unit: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class Huber(Loss):
    """e^2 / 2 for |e| <= delta, otherwise delta (|e| - delta / 2), with e = z - y (Huber 1964).

    dz = (e, cut to -delta .. delta) / (rows n_out).

    delta: the error at which the loss becomes linear, in the units of y.
    reduction: "mean" or "sum", see `Loss`.

    Raises ValueError for a delta outside 1e-30 .. 1e30.
    """

    name: ClassVar[str] = "huber"
    has_unit: ClassVar[bool] = True
    delta: float = number(1.0, 1e-30, 1e30)


@dataclass(frozen=True, repr=False)
class Poisson(Loss):
    """exp(z) - y z for counts y >= 0 of the rate exp(z): the negative log-likelihood without log y!

    dz = (exp(z) - y) / (rows n_out). Response: the rate. Raw outputs above 88 in float32 (709 in
    float64) overflow, and training stops.

    reduction: "mean" or "sum", see `Loss`.
    """

    name: ClassVar[str] = "poisson"
    link: ClassVar[str] = "takes logarithms of rates and applies exp itself"
    low: ClassVar[float] = 0.0

    def raw_outputs(self) -> str:
        """See Loss.raw_outputs."""
        return "logarithms of rates"

    def response(self, z: Array) -> Array:
        """The rate exp(z)."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(z))


@dataclass(frozen=True, repr=False)
class Tweedie(Loss):
    """Half of the deviance of a Tweedie distribution with the mean m = exp(z), for y >= 0.

    y^(2-p) / ((1-p) (2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p), where p is the power. Its limits
    are y log(y / m) - y + m for p = 1 and log(m / y) + y / m - 1 for p = 2 (Jorgensen 1987). The
    gradient is m^(2-p) - y m^(1-p).

    power: p in [1, 2], with which the variance grows: it is proportional to m^p. 1 is Poisson, 2 is
        Gamma, which takes y > 0 alone. Between them y may be 0, as the sums of claims of insurance
        are: a random number of random amounts.
    reduction: "mean" or "sum", see `Loss`.

    The loss is 0 if m = y; twice its sum is the deviance that statsmodels reports. Its gradients
    for p = 1 are those of `Poisson`, which leaves out the terms of y alone. Response: the mean m.

    Raises ValueError for a power outside its range.
    """

    name: ClassVar[str] = "tweedie"
    link: ClassVar[str] = "takes logarithms of means and applies exp itself"
    power: float = number(1.5, 1, 2)

    @property
    def low(self) -> float:  # type: ignore[override]
        """The least target: 0, or the least number above it."""
        return math.ulp(0.0) if self.power == 2 else 0.0

    def raw_outputs(self) -> str:
        """See Loss.raw_outputs."""
        return "logarithms of means"

    def response(self, z: Array) -> Array:
        """The mean exp(z)."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(z))


@dataclass(frozen=True, repr=False)
class Pinball(Loss):
    """max(t (y - q), (t - 1) (y - q)) for the t-quantile q of y (Koenker, Bassett 1978).

    quantiles: the level t in (0, 1), or k of them, ascending.
    reduction: "mean" or "sum", see `Loss`.

    The network has k outputs for each column of y, side by side. The first is the lowest quantile.
    Every other quantile lies softplus of its output above the one before, so that they never cross.
    Response: the quantiles, in the places of the outputs. mae, rmse and r2 take the quantile
    nearest to the median.

    Raises ValueError and TypeError for levels outside (0, 1) or not ascending.
    """

    name: ClassVar[str] = "pinball"
    has_unit: ClassVar[bool] = True
    link: ClassVar[str] = "applies softplus to the gaps between quantiles itself"
    quantiles: tuple[float, ...] = declared(_check_quantiles, (0.5,))

    def _outputs(self) -> str:
        return f"{len(self.quantiles)} outputs (quantiles) for each column of y"

    def is_narrowed_by(self, activation: str) -> bool:
        """See Loss.is_narrowed_by; a single quantile has no gap that could be narrowed."""
        return len(self.quantiles) > 1 and super().is_narrowed_by(activation)

    def raw_outputs(self) -> str:
        """See Loss.raw_outputs; a single quantile is the output itself."""
        return "lowest quantiles and gaps before softplus" * (len(self.quantiles) > 1)

    def response(self, z: Array) -> Array:
        """The quantiles (rows, n_out), ascending for each column of y."""
        k = len(self.quantiles)
        self.target_columns(z.shape[1])
        steps = z.reshape(len(z), -1, k).copy()
        steps[:, :, 1:] = np.logaddexp(0, steps[:, :, 1:])
        return np.asarray(np.add.accumulate(steps, axis=2).reshape(z.shape))

    def point(self, z: Array) -> Array:
        """The quantile nearest to the median."""
        k = len(self.quantiles)
        nearest = min(range(k), key=lambda i: abs(self.quantiles[i] - 0.5))
        return self.response(z)[:, nearest::k]


@dataclass(frozen=True, repr=False)
class GaussianNLL(Loss):
    """(log(2 pi v) + (y - m)^2 / v) / 2, for y normal with mean m and variance v.

    Nix, Weigend 1994.

    min_variance: the lower bound of v, in 1e-30 .. 1e30, in the squared units of y.
    reduction: "mean" or "sum", see `Loss`.

    The network has 2 k outputs for k columns of y: first the k means, then k numbers s. They give
    v = softplus(s) + min_variance, which grows no faster than s (Lakshminarayanan et al. 2017).
    Response: first the k means, then the k standard deviations. mae, rmse and r2 take the mean.

    Raises ValueError for a min_variance outside its range.
    """

    name: ClassVar[str] = "gaussian_nll"
    link: ClassVar[str] = "applies softplus to the variances itself"
    min_variance: float = number(1e-6, 1e-30, 1e30)

    def _outputs(self) -> str:
        return "two outputs (mean and variance) for each column of y"

    def raw_outputs(self) -> str:
        """See Loss.raw_outputs."""
        return "means and variances before softplus"

    def response(self, z: Array) -> Array:
        """Means, then standard deviations."""
        columns = self.target_columns(z.shape[1])
        variance = np.logaddexp(0, z[:, columns:]) + self.min_variance
        return np.concatenate([z[:, :columns], np.sqrt(variance)], axis=1).astype(z.dtype)

    def point(self, z: Array) -> Array:
        """The mean."""
        return z[:, : self.target_columns(z.shape[1])]


LOSS_CLASSES: dict[str, type[Loss]] = {
    c.name: c
    for c in (
        CrossEntropy,
        SoftCrossEntropy,
        BinaryCrossEntropy,
        SquaredError,
        AbsoluteError,
        Huber,
        Poisson,
        Tweedie,
        Pinball,
        GaussianNLL,
        Focal,
        BinaryFocal,
    )
}
