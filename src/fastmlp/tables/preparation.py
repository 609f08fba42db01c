"""The conversion of a table's columns to inputs, learned from the training rows alone.

A `Preparation` consists of plain dictionaries, so the model file can store it as JSON. Then
`predict` converts new rows exactly as `train` did. The conversion of a row depends on no other row.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ground.arrays import Array
from . import scales
from .cells import CLOCK, Cells, numbers_of
from .numerals import numeral
from .table import TRUTH, Reading, Table, TableError, as_text, is_missing
from .targets import Target

Spec = dict[str, Any]
Counts = dict[str, dict[str, int]]

MIN_ROWS = 10
_MAX_CATEGORIES = 100  # of one column; rarer texts belong to none
_READING = ("decimal", "thousands", "na", "dates")  # the fields of a Reading that a model stores
# Missing values of a text column in old versions, whose models do not store how cells are read.
_OLD_WORDS = (
    "#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,-NaN,-nan,1.#IND,1.#QNAN,<NA>,N/A,NA,NULL,NaN,None,n/a,"
    "nan,null"
)
_OLD_MISSING = frozenset(_OLD_WORDS.split(","))


def check_missing(table: Table, target: str, choice: str) -> tuple[Table, dict[str, int]]:
    """Return the rows to use, by --missing, and the number of missing values per column."""
    lacking = {name: is_missing(values) for name, values in table.columns.items()}
    counts = {name: int(mask.sum()) for name, mask in lacking.items() if mask.any()}
    keep = ~lacking[target]
    features = {name: count for name, count in counts.items() if name != target}
    if choice == "refuse" and counts:
        shown = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:10])
        raise TableError(f"{table.source} has missing values: {shown}; use --missing impute")
    if choice == "drop":
        for name in features:
            keep = keep & ~lacking[name]
    if keep.sum() < MIN_ROWS:
        why = f" of {table.rows} have no missing value" if counts else ""
        fix = "; use --missing impute" if choice == "drop" and features else ""
        raise TableError(
            f"{table.source}: {keep.sum()} rows{why}, at least {MIN_ROWS} are needed{fix}"
        )
    return (table if keep.all() else table.take(keep)), counts


@dataclass
class Preparation:
    """The conversion of columns to a matrix.

    target: the column to predict.
    specs: one {"name", "kind", ...} per column. The kind is numeric, boolean, categorical or
        ignored (with a reason).
    missing: the choice of --missing.
    reading: how cells of text are read; None in files of old versions.
    """

    target: Target
    specs: list[Spec]
    missing: str = "impute"
    reading: Reading | None = None

    @classmethod
    def learn(
        cls,
        table: Table,
        target: Target,
        missing: str,
        reading: Reading | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> "Preparation":
        """Learn the conversion from the training rows.

        table: the training rows.
        target: the column to predict.
        missing: the choice of --missing.
        reading: how cells of text are read.
        left_out: column -> reason, for columns to ignore.

        Raises TableError if no column is left.
        """
        reading, left_out = reading or Reading(), left_out or {}
        names = [name for name in table.columns if name != target.name]
        specs = [
            _ignored(name, left_out[name])
            if name in left_out
            else _learn_column(table, name, name in reading.categorical)
            for name in names
        ]
        if all(spec["kind"] == "ignored" for spec in specs):
            reasons = "; ".join(f"{spec['name']}: {spec['reason']}" for spec in specs[:5])
            raise TableError(
                f"{table.source} has no column to learn from beside {target.name!r}"
                + (f" ({reasons})" if reasons else "")
            )
        kept = {name: getattr(reading, name) for name in _READING}
        kept["decimal"] = reading.point or table.decimal
        return cls(target, specs, missing, Reading(**kept))

    @property
    def used(self) -> list[Spec]:
        """The specs of the columns that are inputs of the network."""
        return [spec for spec in self.specs if spec["kind"] != "ignored"]

    @property
    def text_columns(self) -> list[str]:
        """The columns that were text in training, to be read as text again."""
        names = [spec["name"] for spec in self.used if spec["kind"] == "categorical"]
        return [*names, self.target.name] if self.target.is_text else names

    @property
    def n_in(self) -> int:
        """The number of columns of the matrix."""
        return sum(map(_width, self.used))

    def encode(self, table: Table) -> tuple[Array, Counts]:
        """Return the matrix (rows, n_in), and for "missing", "unknown", "clipped": column -> count.

        Raises TableError for an unknown column, and for text in a column of numbers.
        """
        counts: Counts = {"missing": {}, "unknown": {}, "clipped": {}}
        matrix = np.zeros((table.rows, self.n_in), np.float64)
        at = 0
        for spec in self.used:
            name, values = spec["name"], table.column(spec["name"])
            out = matrix[:, at : at + _width(spec)]
            if spec["kind"] == "categorical":
                values = self._categories(spec, values)
                lacking = is_missing(values)
                counts["unknown"][name] = _one_hot(spec, values, lacking, out)
            else:
                numbers = self._numbers(table, spec, values)
                lacking = is_missing(numbers)
                filled = np.where(lacking, spec["fill"], numbers)
                counts["clipped"][name] = scales.apply(spec, filled, out)
            counts["missing"][name] = int(lacking.sum())
            at += out.shape[1]
        told = {
            what: {name: count for name, count in columns.items() if count}
            for what, columns in counts.items()
        }
        return matrix, told

    def unknown_value(self, table: Table, name: str) -> str:
        """Return a text in a column that is none of its categories."""
        spec = next(spec for spec in self.used if spec["name"] == name)
        known = {text.strip() for text in spec["categories"]}
        texts = (as_text(v) for v in self._categories(spec, table.column(name)) if v is not None)
        return next(text for text in texts if text not in known)

    def truth(self, table: Table) -> Array | None:
        """Return the target's column, or None if it is absent, incomplete or unreadable."""
        values = table.columns.get(self.target.name)
        if values is not None and values.dtype.kind == "O" and not self.target.is_text:
            read = numbers_of(Cells.of(values), self.target.dates, self._cell_reading)
            values = values if isinstance(read, str) else read
        return None if values is None or is_missing(values).any() else values

    @property
    def _cell_reading(self) -> Reading:
        return Reading(decimal=".") if self.reading is None else self.reading

    def _categories(self, spec: Spec, values: Array) -> Array:
        """Return the column as text, or as numbers that `as_text` can turn into text."""
        if self.reading is not None or values.dtype.kind != "O":
            return values
        gone = _OLD_MISSING - set(spec["categories"])
        return np.array([None if value in gone else value for value in values], dtype=object)

    def _numbers(self, table: Table, spec: Spec, values: Array) -> Array:
        """Return the column as float64; raises TableError for text that is no number or date."""
        name, order = spec["name"], spec.get("dates")
        if values.dtype.kind == "f":
            if self.reading is not None and np.isfinite(values).any():
                _check_days(table, name, order)
            return values
        reading = self._cell_reading
        if order not in (None, CLOCK) and reading.dates in ("dmy", "mdy"):
            order = reading.dates
        cells = Cells.of(values, reading.na)
        numbers = numbers_of(cells, order, reading, spec.get("odd", ()))
        if isinstance(numbers, str):
            was = "a date or time" if order else spec["kind"]
            fix = "; --decimal tells how to read it" if numeral(numbers) and not order else ""
            raise TableError(
                f"{table.source}: column {name!r} was {was} in training, "
                f"but row {cells.row(numbers)} holds {numbers!r}{fix}"
            )
        return numbers

    def with_reading(self, asked: Reading) -> "Preparation":
        """Return a copy in which the given options replace the reading found in training."""
        given = {name: getattr(asked, name) for name in _READING if getattr(asked, name)}
        if asked.thousands and not asked.decimal:
            given["decimal"] = asked.point
        if not given:
            return self
        return replace(self, reading=replace(self._cell_reading, **given))

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        reading = {name: getattr(self._cell_reading, name) for name in _READING}
        return {
            "target": vars(self.target),
            "columns": self.specs,
            "missing": self.missing,
            "reading": reading | {"na": list(reading["na"])},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Preparation":
        """Return the preparation that `to_dict` wrote.

        Raises KeyError, TypeError or ValueError for anything else.
        """
        specs = [_check_spec(spec) for spec in data["columns"]]
        reading = None if "reading" not in data else _check_reading(data["reading"])
        return cls(Target.from_dict(data["target"]), specs, data["missing"], reading)


def _check_days(table: Table, name: str, order: str | None) -> None:
    """Raise TableError if a column of numbers now has dates, or the reverse."""
    if (name in table.orders) == (order is not None):
        return
    now, was = ("dates or times", "numbers") if order is None else ("numbers", "dates or times")
    raise TableError(f"{table.source}: column {name!r} holds {now}, but held {was} in training")


def _check_reading(data: Any) -> Reading:
    """Return how cells are read; raises ValueError for data that `to_dict` cannot have written."""
    reading = Reading(**{**data, "na": tuple(data["na"])})
    marks = (reading.decimal in (None, ".", ","), reading.thousands in (None, ".", ",", " ", "'"))
    words = reading.dates in (None, "dmy", "mdy", "none") and all(map(_is_text, reading.na))
    if not all(marks) or not words or reading.drop or reading.categorical or reading.numeric:
        raise ValueError("how cells are read is malformed")
    return reading


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _check_spec(spec: Spec) -> Spec:
    """Return the spec if `encode` can use it, or raise KeyError, TypeError or ValueError."""
    if not isinstance(spec["name"], str):
        raise TypeError("the name of a column is no text")
    if spec["kind"] in ("numeric", "boolean"):
        scales.check(spec)
        if spec.get("dates") not in (None, "ymd", "dmy", "mdy", CLOCK):
            raise ValueError("the order of dates is malformed")
        if not all(map(_is_text, spec.get("odd", []))):
            raise TypeError("words for missing values are no texts")
    elif spec["kind"] == "categorical":
        if not spec["categories"] or not all(map(_is_text, spec["categories"])):
            raise TypeError("categories are no texts")
        if not isinstance(spec["fill"], str) or not isinstance(spec["distinct"], int):
            raise TypeError("fill or distinct is malformed")
    elif spec["kind"] != "ignored" or not isinstance(spec["reason"], str):
        raise ValueError(f"there is no kind {spec['kind']!r}")
    return spec


def _width(spec: Spec) -> int:
    return len(spec["categories"]) if spec["kind"] == "categorical" else scales.width(spec)


def _ignored(name: str, reason: str) -> Spec:
    return {"name": name, "kind": "ignored", "reason": reason}


def _learn_column(table: Table, name: str, is_category: bool) -> Spec:
    values = table.columns[name]
    present = values[~is_missing(values)]
    if len(present) == 0:
        return _ignored(name, "no values")
    if values.dtype.kind == "f":
        spec = _learn_numeric(name, "numeric", values, float(np.median(present)))
        if name in table.orders:
            spec["dates"] = table.orders[name]
        if name in table.odd:
            spec["odd"] = table.odd[name]
        return spec
    counts = Counter(present.tolist())
    if len(counts) == 1 and len(present) == len(values):
        return _ignored(name, "constant")
    if {text.lower() for text in counts} <= TRUTH.keys() and not is_category:
        numbers = np.array([math.nan if v is None else TRUTH[v.lower()] for v in values])
        return _learn_numeric(name, "boolean", numbers, TRUTH[counts.most_common(1)[0][0].lower()])
    if 2 * len(counts) > len(present) and not is_category:
        shown = f"text with {len(counts)} distinct values in {len(values)} rows"
        return _ignored(name, shown)
    kept = sorted(text for text, _ in counts.most_common(_MAX_CATEGORIES))
    return {
        "name": name,
        "kind": "categorical",
        "categories": kept,
        "fill": counts.most_common(1)[0][0],
        "distinct": len(counts),
    }


def _learn_numeric(name: str, kind: str, values: Array, fill: float) -> Spec:
    scale = scales.learn(name, np.where(is_missing(values), fill, values))
    if scale is None:
        return _ignored(name, "constant")
    return {"name": name, "kind": kind, "fill": fill, **scale}


def _one_hot(spec: Spec, values: Array, lacking: Array, out: Array) -> int:
    """Fill `out` (rows, categories) and return how many values are in no category."""
    # Categories of old versions may have spaces around them, which do not count.
    places = [(text.strip(), place) for place, text in enumerate(spec["categories"])]
    index = dict(reversed(places))
    texts = [
        spec["fill"].strip() if gone else as_text(v)
        for v, gone in zip(values.tolist(), lacking, strict=True)
    ]
    codes = np.array([index.get(text, -1) for text in texts], np.intp)
    known = np.flatnonzero(codes >= 0)
    out[known, codes[known]] = 1.0
    return len(codes) - len(known)
