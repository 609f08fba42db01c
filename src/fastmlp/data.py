"""Arrays at the door: converted and checked once per call, and the lecture's data loader."""

from collections.abc import Iterator
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from .losses import Loss, get_loss
from .numeric import check_count, check_seed

Array = NDArray[Any]
_INT64 = np.dtype(np.int64)


def as_matrix(x: ArrayLike, dtype: np.dtype[Any], n_in: int | None, name: str = "X") -> Array:
    """x as a C-contiguous (rows, n_in) array of dtype; itself, in place, if it is one already.

    Raises TypeError for what is not numeric, ValueError for a shape that does not fit.
    """
    if _is_ready(x, dtype) and x.ndim == 2 and x.shape[1] == n_in and len(x):
        return x
    array = as_numbers(x, name)
    if array.ndim != 2:
        hint = f"; for one row use {name}.reshape(1, -1), for one column {name}.reshape(-1, 1)"
        raise ValueError(
            f"{name} has {array.ndim} dimension{'s' * (array.ndim != 1)}, expected 2 "
            f"(rows, features){hint if array.ndim == 1 else ''}"
        )
    rows, columns = array.shape
    if rows == 0 or columns == 0:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    if n_in is not None and columns != n_in:
        raise ValueError(f"{name} has {columns} columns, but the first layer takes {n_in}")
    return _convert(array, dtype, name)


def as_finite(x: ArrayLike, dtype: np.dtype[Any], n_in: int | None, name: str = "X") -> Array:
    """`as_matrix`; ValueError for NaN and infinity too."""
    matrix = as_matrix(x, dtype, n_in, name)
    check_finite(matrix, name)
    return matrix


def _is_ready(x: ArrayLike, dtype: np.dtype[Any]) -> TypeGuard[Array]:
    """Whether x is an array that C takes as it stands: asked first, as it is for most calls."""
    return type(x) is np.ndarray and x.dtype is dtype and x.flags.carray


def as_row(x: ArrayLike, dtype: np.dtype[Any], n_in: int) -> Array:
    """x as a contiguous (n_in,) array of dtype; itself, in place, if it is one already."""
    if _is_ready(x, dtype) and x.shape == (n_in,):
        return x
    array = as_numbers(x, "x")
    if array.shape != (n_in,):
        raise ValueError(f"x has the shape {array.shape}, expected one row of {n_in} numbers")
    return _convert(array, dtype, "x")


def as_labels(y: ArrayLike, rows: int, n_classes: int, name: str = "y") -> NDArray[np.int64]:
    """Class labels as int64 (rows,), each in [0, n_classes)."""
    if _is_ready(y, _INT64) and y.shape == (rows,):
        return _checked_labels(y, n_classes, name)
    array = as_numbers(y, name)
    if array.ndim == 2 and array.shape == (rows, n_classes) and n_classes > 1:
        raise ValueError(f"{name} looks one-hot; this loss takes labels: {name}.argmax(axis=1)")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    _check_rows(array, rows, name, 1)
    if array.dtype == np.bool_:
        raise TypeError(f"{name} is boolean; class labels are integers: {name}.astype(int)")
    if array.dtype.kind == "f":
        # the comparison also refuses NaN and infinity
        if not np.all((np.abs(array) < 2**53) & (array == np.floor(array))):
            raise ValueError(f"{name} holds values that are no whole numbers; labels are integers")
    elif array.dtype.kind == "u" and array.size and array.max() >= n_classes:
        raise ValueError(_label_message(name, int(array.max()), n_classes))
    return _checked_labels(np.require(array, np.int64, ["C", "ALIGNED"]), n_classes, name)


def _checked_labels(labels: NDArray[np.int64], n_classes: int, name: str) -> NDArray[np.int64]:
    bad = _core.first_bad_label(labels, n_classes)
    if bad >= 0:
        raise ValueError(_label_message(name, int(labels[bad]), n_classes))
    return labels


def _label_message(name: str, label: int, n_classes: int) -> str:
    if label < 0:
        return f"{name} holds the label {label}; classes count from 0"
    return (
        f"{name} holds class {label} but the last layer has {n_classes} outputs; "
        f"use Linear(..., {label + 1}) or check the labels"
    )


def as_values(
    y: ArrayLike, rows: int, columns: int, dtype: np.dtype[Any], name: str, n_out: int
) -> Array:
    """Targets as a finite (rows, columns) array of dtype; (rows,) will do for one column."""
    array = as_numbers(y, name)
    if array.ndim == 1 and columns == 1:
        array = array[:, np.newaxis]
    if array.ndim == 1 and len(array) == rows:
        raise ValueError(
            f"{name} has one value a row, but the last layer has {n_out} outputs; for class labels "
            f'pass loss="cross_entropy", for values give {name} {n_out} columns'
        )
    _check_rows(array, rows, name, 2)
    if array.shape[1] != columns:
        suits = "" if columns == n_out else f", which suit {columns} in this loss"
        raise ValueError(
            f"{name} has {array.shape[1]} columns but the last layer has {n_out} outputs{suits}"
        )
    values = _convert(array, dtype, name)
    check_finite(values, name)
    return values


def as_target(
    y: ArrayLike, loss: str | Loss, rows: int, n_out: int, dtype: np.dtype[Any], name: str = "y"
) -> Array:
    """y in the form that the loss wants; ValueError and TypeError say what is wrong with it."""
    chosen = get_loss(loss)
    if chosen.needs_labels:
        if n_out == 1:
            binary = "binary_focal" if chosen.name == "focal" else "binary_cross_entropy"
            raise ValueError(
                f"{chosen.name} needs one output per class; for two classes use "
                f'Linear(..., 2), or one output with loss="{binary}"'
            )
        return as_labels(y, rows, n_out, name)
    if not chosen.predicts:
        return as_given(y, rows, dtype, name)
    values = as_values(y, rows, chosen.target_columns(n_out), dtype, name, n_out)
    if values.min() < chosen.low or values.max() > chosen.high:
        end = "infinity" if np.isinf(chosen.high) else f"{chosen.high:g}"
        raise ValueError(
            f"{name} has values outside {chosen.low:g} .. {end}, which {chosen.name} takes"
        )
    return values


def as_given(y: ArrayLike, rows: int, dtype: np.dtype[Any], name: str) -> Array:
    """Targets of any shape with so many rows: whole numbers as int64, others finite in dtype."""
    array = as_numbers(y, name)
    _check_rows(array, rows, name, max(array.ndim, 1))
    if array.dtype.kind != "f":
        return np.ascontiguousarray(array, np.int64)
    values = _convert(array, dtype, name)
    check_finite(values.reshape(rows, -1), name)
    return values


_IMPUTE = "remove or impute such rows (numpy.nan_to_num, or a median per column)"


def check_finite(x: Array, name: str, advice: str = _IMPUTE) -> None:
    """ValueError that names the first NaN or infinity."""
    bad = _core.first_nonfinite(x)
    if bad >= 0:
        row, column = divmod(bad, x.shape[1]) if x.ndim == 2 else (bad, 0)
        kind = "NaN" if np.isnan(x.flat[bad]) else "infinity"
        raise ValueError(f"{name} holds {kind} at row {row}, column {column}; {advice}")


def as_numbers(x: ArrayLike, name: str) -> Array:
    """x as an array of numbers of any type; TypeError and ValueError for what is none."""
    if x is None:
        raise TypeError(f"{name} is None; an array is needed")
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise TypeError(f"{name} is sparse; convert it first: {name}.toarray()")
    if isinstance(x, np.ma.MaskedArray):
        if np.ma.is_masked(x):
            raise ValueError(f"{name} has masked values; fill them first: {name}.filled(...)")
        x = x.data
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} is no rectangular array: {error}") from None
    except Exception as error:  # of its __array__, as a tensor's with a gradient
        raise TypeError(f"{name} cannot be made an array: {error}") from None
    if array.dtype.kind == "O":
        array = _of_objects(array, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} has the type {array.dtype}; numbers are needed, encode it first"
            + _how_to_encode(array, name)
        )
    return array


def _how_to_encode(array: Array, name: str) -> str:
    """What makes labels of text."""
    return f": numpy.unique({name}, return_inverse=True)[1]" if array.ndim == 1 else ""


def _of_objects(array: Array, name: str) -> Array:
    if any(type(value).__name__ in ("NAType", "NaTType") for value in array.flat):  # pandas
        raise ValueError(f"{name} has missing values (NA); fill or drop such rows first")
    try:
        if any(isinstance(value, str | bytes) for value in array.flat):  # float("1") would work
            raise TypeError
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"{name} holds objects that are not numbers; encode them first"
            + _how_to_encode(array, name)
        ) from None


def _convert(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):
        converted = np.require(array, dtype=dtype, requirements=["C", "ALIGNED"])
    if array.dtype.itemsize > dtype.itemsize and _core.first_nonfinite(converted) >= 0:
        original = np.asarray(array, dtype=np.float64)
        if np.any(np.isinf(converted) & np.isfinite(original)):
            raise ValueError(f"{name} holds numbers too large for {dtype}; scale them down")
    return converted


def _check_rows(array: Array, rows: int, name: str, ndim: int) -> None:
    if array.ndim != ndim:
        raise ValueError(
            f"{name} has the shape {array.shape}, expected {ndim} dimension{'s' * (ndim != 1)} "
            f"and {rows} rows"
        )
    if array.shape[0] != rows:
        raise ValueError(f"{name} has {array.shape[0]} rows but X has {rows}")


class DataLoader:
    """Mini-batches of (X, y), the lecture's data loader.

    Every pass over it is one epoch. With `shuffle` its order is a function of (seed, number of the
    pass) and the one that `Sequential.fit` draws for the same seed and epoch. The last batch may be
    short; `drop_last` leaves it out. A batch_size above the number of rows is that number, as in
    fit, whose defaults are others (batch_size 128, shuffle). Raises ValueError where the rows of X
    and y differ in number, or there are none.
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        batch_size: int = 64,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.X, self.y = np.asarray(X), np.asarray(y)
        if self.X.ndim == 0 or self.y.ndim == 0 or len(self.X) != len(self.y):
            raise ValueError(
                f"X {self.X.shape} and y {self.y.shape} must have as many rows as each other"
            )
        if len(self.X) == 0:
            raise ValueError("X and y have no rows")
        self.batch_size = min(check_count(batch_size, "batch_size"), len(self.X))
        self.shuffle, self.seed, self.drop_last = shuffle, check_seed(seed), drop_last
        self.epoch = 0

    def __len__(self) -> int:
        """Number of mini-batches in a pass."""
        full, rest = divmod(len(self.X), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """One pass: pairs of (batch_size, ...) arrays."""
        order = np.arange(len(self.X))
        if self.shuffle:
            _core.shuffle(order, self.seed, self.epoch)
        self.epoch += 1
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield self.X[rows], self.y[rows]
