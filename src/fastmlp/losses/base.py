"""Base of the losses: settings, targets, and the meaning of the raw outputs."""

from __future__ import annotations  # signatures that can be read

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..ground import checks
from ..ground.advice import Meaning
from ..ground.arrays import Array
from ..ground.checks import check_fields
from ..ground.conversion import Weights, as_matrix, as_numbers, as_weights
from ..ground.frozen import Settings
from .targets import as_values, check_range, target_numbers

LossFunction = Callable[[Array, Array], tuple[Any, Any]]


number = partial(checks.number, wrong_type=TypeError)


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
        check_fields(self)
        self._check()

    def _check(self) -> None:
        """Raise ValueError or TypeError for settings that do not go together."""

    def __call__(
        self, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[float, Array]:
        """Return (loss, dz) of raw outputs and targets.

        z: raw outputs (rows, n_out).
        y: targets, as for `fit`.
        sample_weight: (rows,), factors of each row's loss and gradient; None means 1. The mean
            still divides by the number of rows, not by the sum of the weights.

        dz has the shape of z; its dtype is float64 if z has it, otherwise float32. Raises
        ValueError for targets that do not fit, TypeError for anything that is not numeric.
        """
        loss, outputs, target, weights = self._checked(z, y, sample_weight)
        dz = np.empty_like(outputs)
        return loss.value(outputs, target, dz, weights), dz

    def of_rows(
        self, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], Array]:
        """Return the loss of each row (rows,) and the gradients of these losses; see `__call__`."""
        loss, outputs, target, weights = self._checked(z, y, sample_weight)
        dz = np.empty_like(outputs)
        return loss.row_values(outputs, target, dz, weights), dz

    def _checked(
        self, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Loss, Array, Array, Weights | None]:
        """Return the loss that suits y, and the arrays in the form that it takes."""
        z = as_numbers(z, "z")
        dtype = np.dtype(np.float64 if z.dtype == np.float64 else np.float32)
        outputs = as_matrix(z, dtype, None, "z")
        loss = self.suited(y)
        y = target_numbers(y, "y", loss.meaning)
        if y.ndim and len(y) != len(outputs):
            raise ValueError(f"y has {len(y)} rows but z has {len(outputs)}")
        target = loss.as_target(y, len(outputs), outputs.shape[1], dtype)
        return loss, outputs, target, as_weights(sample_weight, len(outputs))

    def suited(self, y: Any) -> Loss:
        """Return the loss that takes targets such as y: this one, unless y has another form."""
        return self

    @property
    def meaning(self) -> Meaning:
        """What the targets are; of a custom loss only the user knows."""
        if self.predicts == "classes":
            return "classes"
        return "values" if self.predicts == "values" else "features"

    def as_target(
        self, y: ArrayLike, rows: int, n_out: int, dtype: np.dtype[Any], name: str = "y"
    ) -> Array:
        """Return y in the form that the loss takes; ValueError and TypeError say what is wrong."""
        columns = self.target_columns(n_out)
        values = as_values(y, rows, columns, dtype, name, n_out, self.meaning)
        check_range(values, self.low, self.high, name, self.name)
        return values

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
    return softmax_parts(z)[0]


def softmax_parts(z: Array) -> tuple[Array, Array, Array]:
    """Return the softmax of each row, its largest z, and its sum of exp(z_j - largest)."""
    top = z.max(axis=1, keepdims=True)
    e = np.exp(z - top)
    total = e.sum(axis=1, keepdims=True)
    e /= total
    return e, top[:, 0], total[:, 0]


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), elementwise."""
    e = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1 / (1 + e), e / (1 + e)), dtype=z.dtype)
