"""Arrays from users: checked and converted once per call."""

from __future__ import annotations  # signatures that can be read

from collections.abc import Iterator
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .advice import Meaning, how_to_encode
from .arrays import Array
from .frames import columns_of, is_frame, numbers_of

Weights = NDArray[np.float64]  # (rows,): how much each row counts


def as_matrix(x: ArrayLike, dtype: np.dtype[Any], n_in: int | None, name: str = "X") -> Array:
    """Return x as a C-contiguous (rows, n_in) array of dtype; if x is one already, x itself.

    Raises TypeError for anything that is not numeric, ValueError for a shape that does not fit.
    """
    if is_ready(x, dtype) and x.ndim == 2 and x.shape[1] == n_in and len(x):
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
    return convert(array, dtype, name)


def as_finite(x: ArrayLike, dtype: np.dtype[Any], n_in: int | None, name: str = "X") -> Array:
    """Return `as_matrix` of x; ValueError for NaN and infinity too."""
    matrix = as_matrix(x, dtype, n_in, name)
    check_finite(matrix, name)
    return matrix


def is_ready(x: ArrayLike, dtype: np.dtype[Any]) -> TypeGuard[Array]:
    """Whether C can take x as it is. This is asked first, because it is so in most calls."""
    return type(x) is np.ndarray and x.dtype is dtype and x.flags.carray


def as_row(x: ArrayLike, dtype: np.dtype[Any], n_in: int) -> Array:
    """Return x as a contiguous (n_in,) array of dtype; if x is one already, x itself."""
    if is_ready(x, dtype) and x.shape == (n_in,):
        return x
    array = as_numbers(x, "x")
    if array.shape != (n_in,):
        raise ValueError(f"x has the shape {array.shape}, expected one row of {n_in} numbers")
    return convert(array, dtype, "x")


_IMPUTE = "remove or impute such rows (numpy.nan_to_num, or a median per column)"
DROP = "remove such rows"
_NO_NUMBER = ("NAType", "NaTType")  # the types of missing values in pandas


def check_finite(x: Array, name: str, advice: str = _IMPUTE, unit: str = "row") -> None:
    """Raise ValueError for the first NaN or infinity; `unit` is what the first axis counts."""
    bad = _core.first_nonfinite(x)
    if bad >= 0:
        kind = "NaN" if np.isnan(x.flat[bad]) else "infinity"
        raise ValueError(f"{name} holds {kind} at {place_of(bad, x.shape, unit)}; {advice}")


def assign(place: Array, values: ArrayLike, name: str) -> None:
    """Copy finite numbers of the same shape into a view.

    After `layer.weight -= step` Python assigns the view to itself, and nothing is left to copy.
    Raises TypeError for anything that is not numeric, ValueError for another shape, NaN and
    infinity.
    """
    numbers = as_numbers(values, name, "values")
    if numbers.shape != place.shape:
        raise ValueError(
            f"{name} has the shape {place.shape}, not {numbers.shape}; to fill it with one value "
            f"write .{name}[...] = value"
        )
    converted = convert(numbers, place.dtype, name)
    written = " (written already, by an operation in place)" if converted is values else ""
    check_finite(converted, name, f"its numbers must be finite{written}")
    place[...] = converted


def place_of(index: int, shape: tuple[int, ...], unit: str = "row") -> str:
    """Return the place in an array of the element with this index in C order, as text."""
    if len(shape) < 2:
        return f"{unit} {index}"
    places = [int(i) for i in np.unravel_index(index, shape)]
    return f"{unit} {places[0]}, column {', '.join(map(str, places[1:]))}"


def check_unmasked(x: Any, name: str) -> None:
    """Raise ValueError for masked values, which NumPy would take for numbers."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        place = place_of(int(np.argmax(np.ma.getmaskarray(x))), x.shape)
        raise ValueError(f"{name} has masked values, at {place}; fill them first: .filled(...)")


def as_numbers(x: ArrayLike, name: str, meaning: Meaning = "features") -> Array:
    """Return x as an array of numbers of any type; TypeError and ValueError for anything else.

    `meaning` decides how the error message proposes to turn text into numbers.
    """
    if type(x) is not np.ndarray:
        x = _unwrapped(x, name)
    if is_frame(x):
        numbers = numbers_of(x)
        if numbers is not None:
            return numbers
        columns = [
            as_numbers(column, f"column {label!r} of {name}", meaning)
            for label, column in columns_of(x)
        ]
        return np.column_stack(columns) if columns else np.empty(np.shape(x))
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} is no rectangular array: {error}") from None
    except Exception as error:  # __array__ may raise anything, as that of a tensor with a gradient
        raise TypeError(f"{name} cannot be made an array: {error}") from None
    if array.dtype.kind == "O":
        array = _of_objects(array, name, meaning)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} has the type {array.dtype}; numbers are needed"
            + how_to_encode(array, name, meaning)
        )
    return array


def _unwrapped(x: Any, name: str) -> Any:
    """Return x, or the data of a masked array; an error for None, sparse and masked values."""
    if x is None:
        raise TypeError(f"{name} is None; an array is needed")
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise TypeError(f"{name} is sparse; convert it first: {name}.toarray()")
    check_unmasked(x, name)
    return x.data if isinstance(x, np.ma.MaskedArray) else x


def _of_objects(array: Array, name: str, meaning: Meaning) -> Array:
    kinds: set[type] = set()
    for part in _parts(array):
        kinds.update(map(type, part.flat))
    if any(kind.__name__ in _NO_NUMBER for kind in kinds):
        index = next(i for i, v in enumerate(array.flat) if type(v).__name__ in _NO_NUMBER)
        place = place_of(index, array.shape)
        advice = _IMPUTE if meaning == "features" else DROP
        raise ValueError(f"{name} has missing values (NA), at {place}; {advice}")
    try:
        if any(issubclass(kind, str | bytes) for kind in kinds):  # NumPy would take float("1")
            raise TypeError
        return _converted(array, np.dtype(np.float64))
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"{name} holds objects that are not numbers" + how_to_encode(array, name, meaning)
        ) from None


def convert(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Return numbers in the form that C takes; ValueError for one that is too large for dtype."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):
        converted = _converted(array, dtype)
    if array.dtype.itemsize > dtype.itemsize and _core.first_nonfinite(converted) >= 0:
        original = np.asarray(array, dtype=np.float64)
        if np.any(np.isinf(converted) & np.isfinite(original)):
            raise ValueError(f"{name} holds numbers too large for {dtype}; scale them down")
    return converted


_AT_ONCE = 2**22  # numbers converted at a time; Python sees a Ctrl-C in between


def _converted(array: Array, dtype: np.dtype[Any]) -> Array:
    if array.size <= _AT_ONCE:
        return np.require(array, dtype=dtype, requirements=["C", "ALIGNED"])
    out = np.empty(array.shape, dtype)
    for part, place in zip(_parts(array), _parts(out), strict=True):
        place[...] = part
    return out


def _parts(array: Array) -> Iterator[Array]:
    """Yield views of whole rows, of at most _AT_ONCE numbers unless a single row has more."""
    if array.size <= _AT_ONCE:
        yield array
        return
    rows = max(1, _AT_ONCE * len(array) // array.size)
    for first in range(0, len(array), rows):
        yield array[first : first + rows]


def as_weights(
    sample_weight: ArrayLike | None, rows: int, name: str = "sample_weight"
) -> Weights | None:
    """Return one finite number >= 0 for each row, in float64; None stays None."""
    if sample_weight is None:
        return None
    numbers = as_numbers(sample_weight, name, "values")
    weights = np.ascontiguousarray(numbers, dtype=np.float64)
    each = "class" if name == "class_weight" else "row"
    if weights.shape != (rows,):
        raise ValueError(f"{name} has the shape {weights.shape}, expected ({rows},): one a {each}")
    check_finite(weights, name, "weights are finite numbers >= 0", each)
    if (weights < 0).any():
        place = int(np.argmax(weights < 0))
        raise ValueError(
            f"{name} holds a negative number, {weights[place]:g}, at {each} {place}; weights are "
            ">= 0"
        )
    return weights
