"""Checks of targets: class labels and values become arrays of the form that the loss takes."""

from __future__ import annotations  # signatures that can be read

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..ground.advice import Meaning
from ..ground.arrays import Array
from ..ground.conversion import DROP, as_numbers, check_finite, convert, is_ready, place_of

_INT64 = np.dtype(np.int64)
_SUM_SLACK = 1e-3  # error of a sum of probabilities in half precision, or in three printed digits
_NEVER_MISSING = {str, bytes, bool, int, np.str_, np.bytes_, np.bool_, np.int64, np.int32}


# ---- missing labels ------------------------------------------------------------------------------


def check_missing(y: Any, name: str) -> None:
    """Raise ValueError if labels are missing in any form: None, NaN, NaT, NA or masked.

    A list is checked before NumPy turns the NaN among its texts into the text 'nan'. The user's own
    text 'nan' is a label like any other.
    """
    try:
        array = np.asarray(y, object) if isinstance(y, list | tuple) else np.asarray(y)
    except Exception:  # the conversion that follows explains it
        return
    if array.ndim == 0:
        return
    missing = _missing(array)
    if isinstance(y, np.ma.MaskedArray):
        missing = missing | np.ma.getmaskarray(y)
    if missing.any():
        several = array.ndim == 2 and array.shape[1] > 1
        shape = array.shape if several else array.shape[:1]
        place = place_of(int(np.argmax(missing)), shape)
        raise ValueError(f"{name} has missing labels, {place}; drop such rows")


def _missing(array: Array) -> NDArray[np.bool_]:
    """Which elements stand for no label."""
    kind = array.dtype.kind
    if kind in "fc":
        return np.isnan(array)
    if kind in "mM":
        return np.isnat(array)
    if kind == "T":  # variable-width text may hold missing values
        array = array.astype(object)
    elif kind != "O":
        return np.zeros(array.shape, bool)
    if set(map(type, array.flat)) <= _NEVER_MISSING:
        return np.zeros(array.shape, bool)
    found = np.fromiter(map(_is_missing, array.flat), bool, array.size)
    return found.reshape(array.shape)


def _is_missing(value: Any) -> bool:
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    try:
        return bool(value != value)  # NaN of any type, NaT of NumPy
    except Exception:  # a value that cannot be compared is not NaN
        return False


# ---- labels and values ---------------------------------------------------------------------------


def as_labels(
    y: ArrayLike, rows: int, n_classes: int, name: str = "y", ignored: int | None = None
) -> NDArray[np.int64]:
    """Return class labels as int64 (rows,), each in [0, n_classes) or the ignored label."""
    if is_ready(y, _INT64) and y.shape == (rows,):
        return _checked_labels(y, n_classes, name, ignored)
    check_missing(y, name)
    array = as_numbers(y, name, "classes")
    if array.ndim == 2 and array.shape == (rows, n_classes) and n_classes > 1:
        if array.dtype.kind == "f":
            raise ValueError(
                f"{name} is a matrix of floats, but this loss takes labels: {name}.argmax(axis=1), "
                'or loss="soft_cross_entropy" for probabilities'
            )
        raise ValueError(
            f"{name} looks one-hot; this loss takes labels: {name}.argmax(axis=1), or "
            "probabilities, which are floats"
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    _check_rows(array, rows, name, 1)
    if array.dtype == np.bool_:
        raise TypeError(f"{name} is boolean; class labels are integers: {name}.astype(int)")
    if array.dtype.kind == "f":
        _check_whole(array, name, "labels are integers")
    elif array.dtype.kind == "u":  # labels beyond int64 would wrap around
        beyond = array[array > np.uint64(2**63 - 1)]
        if beyond.size:
            raise ValueError(_label_message(name, int(beyond[0]), n_classes))
    labels = np.require(array, np.int64, ["C", "ALIGNED"])
    return _checked_labels(labels, n_classes, name, ignored)


def _check_whole(array: Array, name: str, advice: str) -> None:
    """Raise ValueError for floats (rows,) that are not labels, NaN and infinity included."""
    good = (np.abs(array) < 2**53) & (array == np.floor(array))
    if not good.all():
        row = int(np.argmin(good))
        check_finite(np.ascontiguousarray(array, np.float64), name, advice)
        raise ValueError(
            f"{name} holds values that are no whole numbers, {array[row]} in row {row}; {advice}"
        )


def _checked_labels(
    labels: NDArray[np.int64], n_classes: int, name: str, ignored: int | None
) -> NDArray[np.int64]:
    bad = _core.first_bad_label(labels, n_classes, ignored)
    if bad >= 0:
        raise ValueError(_label_message(name, int(labels[bad]), n_classes))
    return labels


def _label_message(name: str, label: int, n_classes: int) -> str:
    if label < 0:
        return (
            f"{name} holds the label {label}; classes count from 0; if it marks rows without a "
            f"label, give the loss ignore_index={label}"
        )
    return (
        f"{name} holds class {label} but the last layer has {n_classes} outputs; "
        f"use Linear(..., {label + 1}) or check the labels"
    )


def as_probabilities(
    y: ArrayLike, rows: int, n_out: int, dtype: np.dtype[Any], name: str = "y"
) -> Array:
    """Return probabilities (rows, n_out) of the classes, each row adding up to 1.

    Labels become rows with a single 1.
    """
    array = target_numbers(y, name, "classes")
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
        return np.eye(n_out, dtype=dtype)[as_labels(array, rows, n_out, name)]
    values = as_values(array, rows, n_out, dtype, name, n_out, "classes")
    check_range(values, 0.0, 1.0, name, "soft_cross_entropy")
    sums = values.sum(axis=1, dtype=np.float64)
    if (bad := np.abs(sums - 1) > _SUM_SLACK).any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{name} adds up to {sums[row]:.6g} in row {row}; those of classes add up to 1: "
            f'{name} / {name}.sum(axis=1, keepdims=True), or loss="binary_cross_entropy" for '
            "several labels a row"
        )
    return values


def target_numbers(y: ArrayLike, name: str, meaning: Meaning) -> Array:
    """Return y as numbers of any type; ValueError if labels of classes are missing."""
    is_plain = type(y) is np.ndarray and y.dtype.kind in "biuf"  # its NaN are found at the end
    if meaning == "classes" and not is_plain:
        check_missing(y, name)
    return as_numbers(y, name, meaning)


def as_values(
    y: ArrayLike,
    rows: int,
    columns: int,
    dtype: np.dtype[Any],
    name: str,
    n_out: int,
    meaning: Meaning = "values",
) -> Array:
    """Return targets as a finite (rows, columns) array of dtype; (rows,) will do for one column."""
    array = target_numbers(y, name, meaning)
    one_dimension = array.ndim == 1
    if one_dimension and columns == 1:
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
    values = convert(array, dtype, name)
    if _core.first_nonfinite(values) >= 0:
        if meaning == "classes":
            check_missing(values, name)
        check_finite(values.reshape(-1) if one_dimension else values, name, DROP)
    return values


def check_range(values: Array, low: float, high: float, name: str, loss: str) -> None:
    """Raise ValueError for targets outside low .. high; low is math.ulp(0) if 0 is outside."""
    least = float(values.min())
    if low == math.ulp(0.0) and least < low:
        raise ValueError(f"{name} has values of 0 or less, but {loss} takes only those above 0")
    if least < low or values.max() > high:
        end = "infinity" if np.isinf(high) else f"{high:g}"
        raise ValueError(f"{name} has values outside {low:g} .. {end}, which {loss} takes")


def as_given(y: ArrayLike, rows: int, dtype: np.dtype[Any], name: str) -> Array:
    """Return targets of any shape: whole numbers as int64, others finite in dtype."""
    array = as_numbers(y, name)
    _check_rows(array, rows, name, max(array.ndim, 1))
    if array.dtype.kind != "f":
        return np.ascontiguousarray(array, np.int64)
    values = convert(array, dtype, name)
    check_finite(values, name, DROP)
    return values


def _check_rows(array: Array, rows: int, name: str, ndim: int) -> None:
    if array.ndim != ndim:
        raise ValueError(
            f"{name} has the shape {array.shape}, expected {ndim} dimension{'s' * (ndim != 1)} "
            f"and {rows} rows"
        )
    if array.shape[0] != rows:
        raise ValueError(f"{name} has {array.shape[0]} rows but X has {rows}")


def encode_labels(y: ArrayLike, rows: int) -> tuple[Array, NDArray[np.int64]]:
    """Return the sorted classes and each row's index among them; ValueError if y is not labels."""
    check_missing(y, "y")
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (rows,):
        raise ValueError(f"y has the shape {array.shape}, expected ({rows},): one label a row")
    if array.dtype.kind == "f":
        _check_whole(array, "y", "labels are integers or strings")
    try:
        classes, labels = np.unique(array, return_inverse=True)
    except TypeError:
        raise TypeError("y mixes types that cannot be sorted; use integers or strings") from None
    if len(classes) < 2:
        raise ValueError(f"y holds one class only, {classes.tolist()[0]!r}; two are needed")
    return classes, labels.astype(np.int64)
