"""Base of the losses: settings, targets, and the meaning of the raw outputs."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..ground.arrays import Array
from ..ground.frozen import Settings

LossFunction = Callable[[Array, Array], tuple[Any, Any]]


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Raise TypeError for anything but a number, ValueError for one outside of low .. high."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not low <= value <= high:  # refuses NaN too
        raise ValueError(f"{name} must lie in {low:g} .. {high:g}, not {value!r}")


@dataclass(frozen=True, repr=False)
class Loss(Settings):
    """Base of all losses.

    reduction: "mean", or "sum" (the lecture's costs), which divides neither the loss nor its
        gradient by the number of rows and columns.

    Raises ValueError for a setting outside its range.
    """

    predicts: ClassVar[str] = "values"  # or "classes", or "" if only the user knows
    link: ClassVar[str] = ""  # the predicate of a sentence: what the loss does to raw outputs
    low: ClassVar[float] = -math.inf  # the least target
    high: ClassVar[float] = math.inf  # the largest target
    has_unit: ClassVar[bool] = False  # whether the loss changes with the unit of the targets
    _: KW_ONLY
    reduction: str = "mean"

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum"):
            raise ValueError(f'reduction must be "mean" or "sum", not {self.reduction!r}')
        self._check()
        for name, value in self.__getstate__().items():
            if isinstance(value, np.generic):  # JSON takes plain numbers only
                object.__setattr__(self, name, value.item())

    def _check(self) -> None:
        """Raise ValueError or TypeError for settings outside their range."""

    @cached_property
    def needs_labels(self) -> bool:
        """Whether the target is one class label a row, rather than columns of values."""
        return bool(_core.LOSSES[self.name]["labels"])

    @cached_property
    def index(self) -> int:
        """The place of the loss in the list of C."""
        return int(_core.LOSSES[self.name]["index"])

    @cached_property
    def settings(self) -> _core.LossSettings:
        """The settings in the form that C reads."""
        return _core.LossSettings(sum=self.reduction == "sum", **self._settings())

    def _settings(self) -> dict[str, Any]:
        """The fields of this loss for C, which gives them the same names."""
        return {name: value for name, value in self.__getstate__().items() if name != "reduction"}

    def target_columns(self, n_out: int) -> int:
        """Return the number of columns of y for n_out outputs; ValueError if none fits."""
        columns = _core.target_columns(self.index, self.settings, n_out)
        if columns == 0:
            raise ValueError(
                f"{self.name} needs {self._outputs()}, but the last layer has {n_out}; change its "
                "Linear(..., n_out)"
            )
        return columns

    def _outputs(self) -> str:
        return "other outputs"

    def is_narrowed_by(self, activation: str) -> bool:
        """Whether this activation before the loss puts some predictions out of reach of the link.

        Bounded logits do, for example. That can only be a mistake.
        """
        return bool(self.link) and _core.ACTIVATIONS[activation]["range"] != "unbounded"

    def reduce(self, total: float, rows: int) -> float:
        """Return the mean of a sum over so many `counted` rows, or the sum, as `reduction` says."""
        return total if self.reduction == "sum" else total / max(1, rows)

    def counting(self, target: Array) -> NDArray[np.bool_] | None:
        """Which rows of a target count; None if all do."""
        return None

    def counted(self, target: Array, rows: NDArray[np.int64] | None = None) -> int:
        """How many of these rows of a target enter the divisor of a mean; rows=None means all."""
        own = target if rows is None or self.counting(target[:0]) is None else target[rows]
        counting = self.counting(own)
        if counting is not None:
            return int(np.count_nonzero(counting))
        return len(target if rows is None else rows)

    def value(
        self, z: Array, target: Array, dz: Array | None = None, weights: Array | None = None
    ) -> float:
        """Return the loss of checked arrays; if dz is given, the gradient is written to it."""
        return _core.loss_and_grad(self.index, z, target, dz, self.settings, weights)

    def row_values(
        self, z: Array, target: Array, dz: Array | None = None, weights: Array | None = None
    ) -> NDArray[np.float64]:
        """Return the loss of each row (rows,) of checked arrays, whose mean (or sum) is `value`.

        If dz is given, the gradient of each row's own loss is written to it.
        """
        values = np.empty(len(z))
        _core.loss_and_grad(self.index, z, target, dz, self.settings, weights, values)
        if dz is not None and self.reduction == "mean":
            dz *= self.counted(target)
        return values

    def raw_outputs(self) -> str:
        """Return what raw outputs are if they can be mistaken for their `response`, or "".

        Logits cannot: their argmax, or sign, is the class that has the highest probability.
        """
        return ""

    def response(self, z: Array) -> Array:
        """Return what raw outputs z (rows, n_out) mean: the inverse of the loss's link."""
        return z

    def point(self, z: Array) -> Array:
        """Return one value for each column of the target, to which mae, rmse and r2 compare it."""
        return self.response(z)

    def probabilities(self, z: Array) -> Array:
        """Return the `response` of a loss on classes; ValueError for a loss on values."""
        if self.predicts != "classes":
            raise ValueError(
                f"loss={self.name!r} predicts values, not probabilities; use predict or "
                "predict_response"
            )
        return self.response(z)


def softmax(z: Array) -> Array:
    """Return exp(z_j) / sum_j exp(z_j) of each row."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), elementwise."""
    e = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1 / (1 + e), e / (1 + e)), dtype=z.dtype)
