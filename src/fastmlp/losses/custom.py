"""Losses written in Python: the user's function, and checks of what it returns."""

from __future__ import annotations  # signatures that can be read

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..ground.arrays import Array
from ..ground.conversion import check_finite
from .base import Loss, LossFunction
from .targets import as_given


@dataclass(frozen=True)
class LostFunction:
    """A stand-in for a function, which a model file can name but not hold."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError("the name of a function is text")

    def __call__(self, pred: Array, target: Array) -> tuple[Any, Any]:
        """Raises ValueError."""
        raise ValueError(
            f"this network was trained with the loss {self.name}, a Python function, which a model "
            f"file cannot hold; pass it again: loss={self.name}"
        )


@dataclass(frozen=True, repr=False)
class CustomLoss(Loss):
    """A loss given by a Python function; `fit(loss=function)` means the same.

    function: (pred, target) -> (values, gradient), with the arrays below.
    reduction: "mean" or "sum", see `Loss`.

    The function gets and returns:

    pred: raw outputs (rows, n_out) in the network's dtype.
    target: the rows of y as they were given, whole numbers as int64, others in the network's dtype.
    values: (rows,), the loss of each row.
    gradient: (rows, n_out), the gradient of each row's value by its outputs.

    The function neither divides by the number of rows nor multiplies by weights; both are done with
    its results. Every mini-batch calls back into Python; forward, backward and update still run in
    C.

    Raises TypeError and ValueError, when it is called, for results of another form.
    """

    name: ClassVar[str] = "custom"
    predicts: ClassVar[str] = ""
    function: LossFunction

    def _check(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be callable, not {self.function!r}")

    @property
    def label(self) -> str:
        """The function's name."""
        if isinstance(self.function, LostFunction):
            return self.function.name
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def __repr__(self) -> str:
        reduction = "" if self.reduction == "mean" else f", reduction={self.reduction!r}"
        return f"CustomLoss({self.label}{reduction})"

    def config(self) -> dict[str, Any]:
        """Return the settings for a model file, which names the function but cannot hold it."""
        return {"name": self.name, "function": self.label, "reduction": self.reduction}

    @property
    def needs_labels(self) -> bool:
        """Always False, because only the function knows its targets."""
        return False

    @property
    def index(self) -> int:
        """Raises TypeError, because this loss is not in C."""
        raise TypeError("a loss written in Python has no place in the list of C")

    def target_columns(self, n_out: int) -> int:
        """Return n_out, since any number of columns would do."""
        return n_out

    def as_target(
        self, y: ArrayLike, rows: int, n_out: int, dtype: np.dtype[Any], name: str = "y"
    ) -> Array:
        """Return whole numbers as int64 and others in dtype, of any shape."""
        return as_given(y, rows, dtype, name)

    def check_usable(self) -> None:
        """Raise ValueError if a model file has lost the function."""
        if isinstance(self.function, LostFunction):
            self.function(np.empty(0), np.empty(0))

    def response(self, z: Array) -> Array:
        """Raises ValueError, because only the function knows what the outputs mean."""
        raise ValueError(f"what the outputs mean is known to {self.label} alone; use predict")

    def point(self, z: Array) -> Array:
        """Return the raw outputs."""
        return z

    def call(self, z: Array, target: Array) -> tuple[Array, Array]:
        """Return the values (rows,) in float64 and the gradient in the dtype of z.

        Raises TypeError and ValueError for results of another form.
        """
        result = self.function(z, target)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(
                f"{self.label} returned {type(result).__name__}, not a pair (values, gradient)"
            )
        if target.ndim == 1 and z.shape[1] == 1 and np.shape(result[1]) == (len(z), len(z)):
            raise ValueError(
                f"the gradient of {self.label} compares every row with every other: pred "
                f"{z.shape} was broadcast against target {target.shape}; use "
                "target[:, np.newaxis], or give fit a y of one column"
            )
        values = self._array(result[0], "values", (len(z),), np.dtype(np.float64))
        return values, self._array(result[1], "gradient", z.shape, z.dtype)

    def _array(self, given: Any, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        try:
            array = np.asarray(given)
        except ValueError as error:
            raise ValueError(f"the {what} of {self.label} must be an array: {error}") from None
        if array.dtype.kind not in "biuf":
            raise TypeError(f"the {what} of {self.label} must be numbers, not {array.dtype}")
        if array.shape != shape:
            hint = "; one number a row, without a mean" if what == "values" else ""
            raise ValueError(
                f"the {what} of {self.label} must have the shape {shape}, not {array.shape}{hint}"
            )
        with np.errstate(over="ignore"):
            return np.array(array, dtype, order="C")

    def value(
        self, z: Array, target: Array, dz: Array | None = None, weights: Array | None = None
    ) -> float:
        """Return the loss; its gradient, weighted and divided by the rows, is written to dz."""
        total, gradient = self.weighed(z, target, weights)
        if dz is not None:
            dz[...] = gradient
        return self.reduce(total, len(z))

    def row_values(
        self, z: Array, target: Array, dz: Array | None = None, weights: Array | None = None
    ) -> Array:
        """Return the loss of each row (rows,), as the function gives it; dz is left as it is."""
        values: Array = np.asarray(self.call(z.copy(), target.copy())[0], np.float64)
        return values if weights is None else np.where(weights == 0, 0.0, values * weights)

    def weighed(self, z: Array, target: Array, weights: Array | None) -> tuple[float, Array]:
        """Return the sum of the rows' losses, and the gradient of the loss."""
        values, gradient = self.call(z.copy(), target.copy())
        if weights is not None:  # rows of weight 0 count for nothing, even infinite ones
            values[weights == 0], gradient[weights == 0] = 0, 0
        if not np.isfinite(values).all():
            return float("nan"), gradient
        check_finite(gradient, f"the gradient of {self.label}", f"correct {self.label}")
        if self.reduction == "mean":
            gradient /= len(z)
        if weights is not None:
            values *= weights
            gradient *= weights[:, np.newaxis].astype(gradient.dtype)
        return float(values.sum()), gradient
