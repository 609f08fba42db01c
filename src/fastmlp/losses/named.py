"""The losses of C, each with its formula. z: raw outputs (rows, n_out); y: targets."""

from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..ground.arrays import Array
from ..ground.checks import as_real
from .base import Loss, check_number, sigmoid, softmax


def _check_smoothing(value: float) -> None:
    check_number("label_smoothing", value, 0, 1)
    if value >= 1:
        raise ValueError(f"label_smoothing must be below 1, not {value!r}")


def _as_factors(name: str, value: Any) -> float | tuple[float, ...] | None:
    """Return a finite number >= 0, or several as a tuple; None stays None."""
    if value is None:
        return None
    if np.ndim(value) == 1 and len(value):
        return tuple(float(_checked_factor(name, one)) for one in np.asarray(value).tolist())
    return _checked_factor(name, value)


def _checked_factor(name: str, value: Any) -> float:
    number = as_real(value)
    if number is None or number < 0:
        raise ValueError(f"{name} must be finite and >= 0, or a list of such, not {value!r}")
    return number


# ---- classes -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class _Softmax(Loss):
    """Base of the losses on logits of classes that exclude each other."""

    link: ClassVar[str] = "takes logits and applies the softmax itself"
    predicts: ClassVar[str] = "classes"

    def response(self, z: Array) -> Array:
        """The softmax of the rows."""
        return softmax(z)

    def is_narrowed_by(self, activation: str) -> bool:
        """See Loss.is_narrowed_by; only differences of logits count, so one end may be bounded."""
        has_slope = _core.ACTIVATIONS[activation]["range"] == "half_open"
        return super().is_narrowed_by(activation) and not has_slope


@dataclass(frozen=True, repr=False)
class _OfLabels(_Softmax):
    """Base of the losses whose target is one label a row, of which one label may be ignored."""

    _: KW_ONLY
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        given = self.ignore_index
        if given is not None:
            if isinstance(given, bool | np.bool_) or not isinstance(given, Integral):
                raise TypeError(f"ignore_index must be a whole number or None, not {given!r}")
            if not -(2**63) <= given < 2**63:
                raise ValueError(f"ignore_index must fit into 64 bits, not {given!r}")
            object.__setattr__(self, "ignore_index", int(given))
        super().__post_init__()

    def counting(self, target: Array) -> NDArray[np.bool_] | None:
        """See Loss.counting."""
        return None if self.ignore_index is None else np.asarray(target != self.ignore_index)


@dataclass(frozen=True, repr=False)
class CrossEntropy(_OfLabels):
    """log(sum_j exp(z_j)) - sum_j t_j z_j for labels y (rows,).

    t is 1 - label_smoothing at the label, and label_smoothing / n_out more for every class (Szegedy
    et al. 2016). The lecture, "Multi-class classification". Response: softmax(z).

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
    label_smoothing: float = 0.0

    def _check(self) -> None:
        _check_smoothing(self.label_smoothing)


@dataclass(frozen=True, repr=False)
class SoftCrossEntropy(_Softmax):
    """CrossEntropy for probabilities y (rows, classes), each row adding up to 1.

    t = (1 - label_smoothing) y + label_smoothing / n_out. PyTorch's cross_entropy with targets that
    are probabilities. The loss "cross_entropy" becomes this one if y is a matrix of floats. Labels
    (rows,) are taken as well, for validation data. Response: softmax(z).

    label_smoothing: the share of t that goes to all classes alike, in [0, 1).
    reduction: "mean" or "sum", see `Loss`.

    Raises ValueError for a setting outside its range.
    """

    name: ClassVar[str] = "soft_cross_entropy"
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    label_smoothing: float = 0.0

    def _check(self) -> None:
        _check_smoothing(self.label_smoothing)


@dataclass(frozen=True, repr=False)
class BinaryCrossEntropy(Loss):
    """softplus(z) - t z for y in [0, 1], t = (1 - label_smoothing) y + label_smoothing / 2.

    The lecture, "Logistic regression". With several outputs it is multi-label classification.
    Response: sigmoid(z).

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
    label_smoothing: float = 0.0
    pos_weight: float | tuple[float, ...] | None = None
    output_weight: tuple[float, ...] | None = None

    def _check(self) -> None:
        _check_smoothing(self.label_smoothing)
        for name in ("pos_weight", "output_weight"):
            object.__setattr__(self, name, _as_factors(name, getattr(self, name)))
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

    Rows that are right already count less. Response: softmax(z). Factors of single classes are the
    `class_weight` of fit.

    gamma: how much less rows count that are right already, in [0, 100]; 0 is cross_entropy.
    ignore_index: see `CrossEntropy`.
    reduction: "mean" or "sum", see `Loss`.

    Raises ValueError and TypeError for settings outside their range.
    """

    name: ClassVar[str] = "focal"
    gamma: float = 2.0

    def _check(self) -> None:
        check_number("gamma", self.gamma, 0, 100)


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
    gamma: float = 2.0
    alpha: float | None = None

    def _check(self) -> None:
        check_number("gamma", self.gamma, 0, 100)
        if self.alpha is not None:
            check_number("alpha", self.alpha, 0, 1)

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

    reduction: "mean" or "sum", see `Loss`.
    """

    name: ClassVar[str] = "squared_error"
    has_unit: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class AbsoluteError(Loss):
    """|z - y|, whose best constant is the median. The gradient at z = y is 0.

    reduction: "mean" or "sum", see `Loss`.
    """

    name: ClassVar[str] = "absolute_error"
    has_unit: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class Huber(Loss):
    """e^2 / 2 for |e| <= delta, otherwise delta (|e| - delta / 2), with e = z - y (Huber 1964).

    delta: the error at which the loss becomes linear, in the units of y.
    reduction: "mean" or "sum", see `Loss`.

    Raises ValueError for a delta outside 1e-30 .. 1e30.
    """

    name: ClassVar[str] = "huber"
    has_unit: ClassVar[bool] = True
    delta: float = 1.0

    def _check(self) -> None:
        check_number("delta", self.delta, 1e-30, 1e30)


@dataclass(frozen=True, repr=False)
class Poisson(Loss):
    """exp(z) - y z for counts y >= 0 of the rate exp(z): the negative log-likelihood without log y!

    Response: the rate. Raw outputs above 88 in float32 (709 in float64) overflow, and training
    stops.

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
    quantiles: tuple[float, ...] = (0.5,)

    def _check(self) -> None:
        given = self.quantiles if isinstance(self.quantiles, tuple | list) else (self.quantiles,)
        if not given:
            raise ValueError("quantiles is empty; (0.1, 0.5, 0.9), for instance")
        for quantile in given:
            check_number("a quantile", quantile, 0, 1)
        if min(given) <= 0 or max(given) >= 1:
            raise ValueError(f"quantiles must lie between 0 and 1, not {self.quantiles!r}")
        if any(a >= b for a, b in pairwise(given)):
            raise ValueError(f"quantiles must ascend, not {self.quantiles!r}; sort them")
        object.__setattr__(self, "quantiles", tuple(map(float, given)))

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
    min_variance: float = 1e-6

    def _check(self) -> None:
        check_number("min_variance", self.min_variance, 1e-30, 1e30)

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
        Pinball,
        GaussianNLL,
        Focal,
        BinaryFocal,
    )
}
