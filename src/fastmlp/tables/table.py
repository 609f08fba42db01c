"""A table: named columns, how its file was read, and the decisions made while reading."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ground.arrays import Array

TRUTH = {"true": 1.0, "false": 0.0}
EXACT = 2.0**53  # float64 cannot distinguish whole numbers beyond this


class TableError(ValueError):
    """An error in the user's file or options; the message says what to do."""


class Note(NamedTuple):
    """A decision made while reading: `what`, in which column, in how many `cells` (0: in all)."""

    what: str
    column: str = ""
    cells: int = 0


@dataclass(frozen=True)
class Reading:
    """How cells are read. Fields that are None or empty are found out from the file.

    decimal: the decimal mark, "." or ",".
    thousands: the thousands mark: ".", ",", " " or "'".
    na: words that are missing values in every column.
    dates: the order of 02/10/2020, "dmy" or "mdy"; "none" leaves dates as text.
    drop: names of columns to leave out.
    categorical: names of columns that are text.
    numeric: names of columns that are numbers.
    """

    decimal: str | None = None
    thousands: str | None = None
    na: tuple[str, ...] = ()
    dates: str | None = None
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()

    @property
    def point(self) -> str | None:
        """The decimal mark that was given, or that follows from the thousands mark."""
        return self.decimal or {".": ",", ",": "."}.get(self.thousands or "")


@dataclass
class Table:
    """Named columns of equal length: float64 with NaN, or text with None, for missing values.

    source: the name of the file, for messages.
    columns: name -> values.
    target: the column to predict, if the file itself says so.
    decimal: the decimal mark found in the file; None if no cell showed it.
    notes: the decisions made while reading.
    orders: column of dates or times -> how its text is read ("ymd", "dmy", "mdy", "clock").
    odd: column of numbers -> the unknown words in it that count as missing values.
    nameless: columns that have no name in the file.
    """

    source: str
    columns: dict[str, Array]
    target: str | None = None
    decimal: str | None = None
    notes: list[Note] = field(default_factory=list)
    orders: dict[str, str] = field(default_factory=dict)
    odd: dict[str, list[str]] = field(default_factory=dict)
    nameless: set[str] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values())))

    def take(self, rows: Array) -> "Table":
        """Return the table of some rows, given as indices or a mask."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        kept = (self.notes, self.orders, self.odd, self.nameless)
        return Table(self.source, columns, self.target, self.decimal, *kept)

    def column(self, name: str, what: str = "column") -> Array:
        """Return a column; raises TableError with similar names for an unknown name."""
        if name not in self.columns:
            raise TableError(
                f"{self.source} has no {what} {name!r}; {near_misses(name, self.columns)}"
            )
        return self.columns[name]

    def note(self, what: str, column: str = "", cells: int = 0) -> None:
        """Add a note to `notes`."""
        self.notes.append(Note(what, column, cells))


def near_misses(name: str, names: Sequence[str] | dict[str, Array]) -> str:
    """Return a question about similar names, or the list of names if none is similar."""
    lower = {known.lower(): known for known in names}
    close = [lower[hit] for hit in difflib.get_close_matches(name.lower(), lower, 3, 0.5)]
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    shown = ", ".join(list(names)[:12])
    return f"it has {shown}{', ...' if len(names) > 12 else ''}"


def check_names(source: str, names: Sequence[str]) -> None:
    """Raise TableError if two columns have the same name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TableError(f"{source} has two columns {name!r}; rename one")
        seen.add(name)


def check_choices(source: str, names: Sequence[str], reading: Reading) -> None:
    """Raise TableError if options name unknown columns or contradict each other."""
    known, chosen = set(names), dict[str, str]()
    for option in ("drop", "categorical", "numeric"):
        for name in getattr(reading, option):
            if name not in known:
                raise TableError(
                    f"--{option}: {source} has no column {name!r}; {near_misses(name, names)}"
                )
            if chosen.setdefault(name, option) != option:
                raise TableError(f"column {name!r} cannot be both --{chosen[name]} and --{option}")


def is_missing(values: Array) -> NDArray[np.bool_]:
    """Return a mask of the missing values of a column; infinities count as missing."""
    if values.dtype.kind == "f":
        return ~np.isfinite(values)
    return np.array([value is None for value in values], dtype=bool)


def as_text(value: Any) -> str:
    """Return the value as users write it: 3, not 3.0."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def as_texts(values: Array) -> Array:
    """Return any column as stripped text, with None for missing values."""
    texts = [None if _is_nothing(v) else as_text(v).strip() or None for v in values.tolist()]
    kinds = {text.lower() for text in texts if text is not None}
    if kinds and kinds <= TRUTH.keys():
        texts = [None if text is None else text.capitalize() for text in texts]
    return np.array(texts, dtype=object)


def _is_nothing(value: Any) -> bool:
    # NaN and NaT differ from themselves. The types come first, because pandas' NA has no truth
    # value.
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def as_column(values: Array) -> Array:
    """Return numbers as float64 and everything else as text.

    Booleans become "True" and "False". Whole numbers that float64 cannot distinguish become text.
    """
    if values.dtype.kind in "iu":
        return as_texts(values.astype(object)) if is_beyond(values) else values.astype(np.float64)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.kind not in "bOUS":
        raise TableError(f"values of type {values.dtype} cannot be used; store numbers or text")
    present = [value for value in values.tolist() if not _is_nothing(value)]
    if values.dtype.kind != "O" or any(isinstance(v, str | bytes | bool) for v in present):
        return as_texts(values)
    if all(isinstance(v, int) for v in present) and any(abs(v) > EXACT for v in present):
        return as_texts(values)
    try:
        return np.array([math.nan if _is_nothing(v) else float(v) for v in values.tolist()])
    except (TypeError, ValueError):
        return as_texts(values)


def is_beyond(values: Array) -> bool:
    """Whether some whole numbers are too large for float64 to distinguish."""
    return len(values) > 0 and (int(values.max()) > EXACT or int(values.min()) < -EXACT)
