"""Data frames: the names of their columns, and their numbers as one array.

A frame is recognized by its attributes (pandas, polars, Arrow and others like them), so none of
these packages is needed.
"""

from collections import Counter
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np

from .arrays import Array

_SHOWN = 5  # names in a message


def is_frame(x: Any) -> bool:
    """Whether x is a table with labeled columns that becomes an array."""
    kind = type(x)
    return (
        kind is not np.ndarray
        and (hasattr(kind, "columns") or hasattr(kind, "column_names"))
        and hasattr(kind, "__array__")
    )


def column_names(x: Any) -> list[str] | None:
    """Return the names of a frame's columns; None for other data, and if all are numbers.

    If any name is text, other labels (dates, pairs of a MultiIndex, numbers) count as what they
    print.
    """
    if not is_frame(x):
        return None
    labels = list(x.column_names if hasattr(type(x), "column_names") else x.columns)
    if all(isinstance(label, Integral) for label in labels):
        return None
    return [str(label) for label in labels]


class ColumnNames:
    """The column names of the data that a model has learned from; None while no X had any.

    An array has no names to compare and passes. Its columns are taken in the order of the fit.
    """

    def __init__(self, known: list[str] | None = None) -> None:
        self.known = known

    def check(self, x: Any, name: str = "X") -> None:
        """Raise ValueError if x is a frame with other names, or with these in another order."""
        if self.known is None or type(x) is np.ndarray:
            return
        given = column_names(x)
        if given is not None:
            compare(given, self.known, name)

    def check_row(self, x: Any) -> None:
        """Raise the same error for one row, a Series with the names as its index."""
        if self.known is None or type(x) is np.ndarray:
            return
        index = getattr(x, "index", None)
        if index is None or callable(index):  # list.index is a method that finds an element
            return
        labels = list(index)
        if not all(isinstance(label, Integral) for label in labels):
            compare([str(label) for label in labels], self.known, "x")

    def learn(self, x: Any) -> None:
        """Keep the names of x, if it has some and none are known yet."""
        if self.known is None and type(x) is not np.ndarray:
            self.known = column_names(x)


def compare(given: list[str], known: list[str], name: str) -> None:
    """Raise ValueError that says how the given names differ from the known ones, if they do."""
    if given == known:
        return
    strange = list((Counter(given) - Counter(known)).elements())
    absent = list((Counter(known) - Counter(given)).elements())
    if not strange and not absent:
        place = next(i for i, pair in enumerate(zip(given, known, strict=True)) if len({*pair}) > 1)
        raise ValueError(
            f"the columns of {name} are in another order than at fit: column {place} is "
            f"{given[place]!r} and was {known[place]!r}; sort "
            "them, by frame[list(model.feature_names_in_)] for instance"
        )
    parts = [
        f"{word} {_shown(names)}"
        for word, names in (("unexpected", strange), ("missing", absent))
        if names
    ]
    raise ValueError(
        f"the column names of {name} are not those of the fit: {', '.join(parts)}; give the "
        "columns in feature_names_in_, in that order (an array is taken as it stands)"
    )


def _shown(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + rest


def numbers_of(frame: Any) -> Array | None:
    """Return a frame of numbers and truth values as one array, with NaN for missing numbers.

    None means that some column holds something else. NumPy alone would make Python objects of mixed
    columns.
    """
    if not hasattr(type(frame), "iloc"):  # polars and Arrow convert by themselves
        array = np.asarray(frame)
        return array if array.dtype.kind in "biuf" else None
    kinds = set(frame.dtypes)
    if any(getattr(kind, "kind", "O") not in "biuf" for kind in kinds):
        return None
    if len(kinds) == 1 and isinstance(next(iter(kinds)), np.dtype):
        return np.asarray(frame)
    try:
        # A nullable or sparse type names the type of its values.
        plain = [getattr(k, "numpy_dtype", getattr(k, "subtype", k)) for k in kinds]
        return np.asarray(frame.to_numpy(dtype=np.result_type(*plain)))
    except (TypeError, ValueError):  # some integers or truth values are missing
        return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))


def columns_of(frame: Any) -> Iterator[tuple[str, Any]]:
    """Yield each column with its label as text."""
    if hasattr(type(frame), "iloc"):
        for place, label in enumerate(frame.columns):
            yield str(label), frame.iloc[:, place]
    else:
        names = frame.column_names if hasattr(type(frame), "column_names") else frame.columns
        columns = frame.get_columns() if hasattr(frame, "get_columns") else frame.columns
        yield from zip(map(str, names), columns, strict=True)
