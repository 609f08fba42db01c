"""The column to predict: its task, and its classes or its mean and scale."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ground.arrays import Array
from .table import EXACT, TableError, as_text

TASKS = ("binary", "multiclass", "regression")
_MAX_CLASSES = 20  # whole numbers with more distinct values than this are quantities


def infer_task(name: str, values: Array, override: str | None) -> tuple[str, str]:
    """Return (task, reason) for a target column without missing values.

    name: the name of the column.
    values: the column.
    override: the task that the user chose, or None.

    Raises TableError if the column has one value only, or does not suit the task.
    """
    is_text = values.dtype.kind != "f"
    distinct = len(set(values.tolist()))
    if distinct < 2:
        raise TableError(f"target {name!r} has only one value; choose a column that varies")
    if override is not None:
        _check_override(name, values, distinct, override)
        return override, "as asked"
    if distinct == 2:
        return "binary", f"{name!r} has 2 distinct values"
    if is_text:
        if distinct > max(len(values) / 2, _MAX_CLASSES):
            raise TableError(
                f"target {name!r} is text with {distinct} distinct values in {len(values)} rows; "
                f"choose a column of classes or numbers, or see with --numeric {name} what is none"
            )
        return "multiclass", f"{name!r} is text with {distinct} distinct values"
    if not np.all(values == np.floor(values)):
        return "regression", f"{name!r} holds fractional numbers"
    if distinct <= min(_MAX_CLASSES, len(values) / 5):
        return "multiclass", f"{name!r} holds {distinct} distinct whole numbers"
    return "regression", f"{name!r} holds {distinct} distinct numbers"


def _check_override(name: str, values: Array, distinct: int, task: str) -> None:
    if task == "regression" and values.dtype.kind != "f":
        raise TableError(
            f"target {name!r} holds text ({values[0]!r}), but regression needs numbers; "
            f"leave --task out, choose another --target or, if these are numbers, give "
            f"--numeric {name}"
        )
    if task == "binary" and distinct != 2:
        raise TableError(
            f"target {name!r} has {distinct} distinct values, not 2; use --task multiclass"
        )
    if task == "multiclass" and distinct > max(len(values) / 2, _MAX_CLASSES):
        raise TableError(
            f"target {name!r} has {distinct} distinct values in {len(values)} rows; "
            "use --task regression or choose another --target"
        )


@dataclass
class Target:
    """The column to predict.

    name: the name of the column.
    task: "binary", "multiclass" or "regression".
    classes: the classes as text, for classification.
    mean: the mean of the training rows, for regression.
    std: the standard deviation of the training rows, for regression.
    dates: how its text is read, if it holds dates or times.
    """

    name: str
    task: str
    classes: list[str] = field(default_factory=list)
    mean: float = 0.0
    std: float = 1.0
    dates: str | None = None

    @classmethod
    def learn(cls, name: str, task: str, values: Array, train: Array) -> "Target":
        """Learn the classes from all rows, or mean and std from the training rows."""
        if task != "regression":
            return cls(name, task, [as_text(value) for value in sorted(set(values.tolist()))])
        mean, std = float(values[train].mean()), float(values[train].std())
        if not 0 < std < math.inf:
            raise TableError(f"target {name!r} does not vary, or its values are too large")
        return cls(name, task, mean=mean, std=std)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Target":
        """Return the target whose `vars` were stored.

        Raises TypeError or ValueError for anything else.
        """
        target = cls(**data)
        texts = [target.name, target.task, *target.classes]
        if not all(isinstance(text, str) for text in texts) or target.task not in TASKS:
            raise TypeError("the target is malformed")
        if (target.task == "regression") != (not target.classes):
            raise ValueError("the classes do not suit the task")
        check_scale(target.mean, target.std)
        if target.dates not in (None, "ymd", "dmy", "mdy", "clock"):
            raise ValueError("the order of dates is malformed")
        return target

    @property
    def is_text(self) -> bool:
        """Whether the classes are words, or codes that only look like numbers ("007")."""
        return not all(_is_number(name) for name in self.classes)

    def encode(self, values: Array) -> Array:
        """Return class labels, with -1 for unknown classes, or standardized values."""
        if self.task == "regression":
            return np.asarray((values - self.mean) / self.std)
        index = {name.strip(): label for label, name in enumerate(self.classes)}
        return np.array([index.get(as_text(value), -1) for value in values.tolist()])

    @property
    def loss(self) -> str:
        """The loss that suits the task."""
        losses = {"binary": "binary_cross_entropy", "multiclass": "cross_entropy"}
        return losses.get(self.task, "squared_error")

    @property
    def n_out(self) -> int:
        """The number of outputs that the network needs."""
        return len(self.classes) if self.task == "multiclass" else 1


def _is_number(text: str) -> bool:
    try:
        return as_text(float(text)) == text and abs(float(text)) <= EXACT
    except ValueError:
        return False


def check_scale(mean: Any, std: Any, fill: Any = 0.0) -> None:
    """Raise ValueError unless all are finite numbers and std is positive."""
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in (mean, fill)):
        raise ValueError("a mean is no number")
    if not isinstance(std, int | float) or not 0 < std < math.inf:
        raise ValueError("a standard deviation is not positive")
