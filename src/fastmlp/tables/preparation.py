"""What makes numbers of a table's columns, learnt from the training rows alone.

`Preparation` is made of plain dictionaries, so that the model file carries it as JSON and `predict`
does to new rows what `train` did to its own. What it does to a row depends on no other row.
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
_MAX_CATEGORIES = 100
_READING = ("decimal", "thousands", "na", "dates")  # what of a Reading a model keeps
# What was missing in a text column to the versions whose models say nothing of how cells are read.
_OLD_WORDS = (
    "#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,-NaN,-nan,1.#IND,1.#QNAN,<NA>,N/A,NA,NULL,NaN,None,n/a,"
    "nan,null"
)
_OLD_MISSING = frozenset(_OLD_WORDS.split(","))


def check_missing(table: Table, target: str, choice: str) -> tuple[Table, dict[str, int]]:
    """The rows to use, by --missing, and the number of missing values of each column with any."""
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
    """Columns -> matrix. Each spec is {"name", "kind", ...}; kinds: numeric, boolean, categorical,
    ignored (with a reason). reading: how cells of text are read, None in the files of old versions.
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
        """From the training rows. left_out: column -> reason."""
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
        """The columns that feed the network."""
        return [spec for spec in self.specs if spec["kind"] != "ignored"]

    @property
    def text_columns(self) -> list[str]:
        """Columns that were text in training and are to be read as such."""
        names = [spec["name"] for spec in self.used if spec["kind"] == "categorical"]
        return [*names, self.target.name] if self.target.is_text else names

    @property
    def n_in(self) -> int:
        """Columns of the matrix."""
        return sum(map(_width, self.used))

    def encode(self, table: Table) -> tuple[Array, Counts]:
        """The matrix (rows, n_in), and {"missing", "unknown", "clipped"}: column -> count."""
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
        """A text in a column that is none of its categories."""
        spec = next(spec for spec in self.used if spec["name"] == name)
        known = {text.strip() for text in spec["categories"]}
        texts = (as_text(v) for v in self._categories(spec, table.column(name)) if v is not None)
        return next(text for text in texts if text not in known)

    def truth(self, table: Table) -> Array | None:
        """The target's column, if the table has it without a gap and it can be read."""
        values = table.columns.get(self.target.name)
        if values is not None and values.dtype.kind == "O" and not self.target.is_text:
            read = numbers_of(Cells.of(values), self.target.dates, self._cell_reading)
            values = values if isinstance(read, str) else read
        return None if values is None or is_missing(values).any() else values

    @property
    def _cell_reading(self) -> Reading:
        return Reading(decimal=".") if self.reading is None else self.reading

    def _categories(self, spec: Spec, values: Array) -> Array:
        """The column as text, or as numbers that `as_text` knows."""
        if self.reading is not None or values.dtype.kind != "O":
            return values
        gone = _OLD_MISSING - set(spec["categories"])
        return np.array([None if value in gone else value for value in values], dtype=object)

    def _numbers(self, table: Table, spec: Spec, values: Array) -> Array:
        """The column as float64; TableError for text that has no place in it."""
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
        """The same with what was asked for put before what training found."""
        given = {name: getattr(asked, name) for name in _READING if getattr(asked, name)}
        if asked.thousands and not asked.decimal:
            given["decimal"] = asked.point
        if not given:
            return self
        return replace(self, reading=replace(self._cell_reading, **given))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        reading = {name: getattr(self._cell_reading, name) for name in _READING}
        return {
            "target": vars(self.target),
            "columns": self.specs,
            "missing": self.missing,
            "reading": reading | {"na": list(reading["na"])},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Preparation":
        """What `to_dict` gave; KeyError, TypeError and ValueError for anything else."""
        specs = [_check_spec(spec) for spec in data["columns"]]
        reading = None if "reading" not in data else _check_reading(data["reading"])
        return cls(Target.from_dict(data["target"]), specs, data["missing"], reading)


def _check_days(table: Table, name: str, order: str | None) -> None:
    """TableError where dates meet a column of numbers, or the other way round."""
    if (name in table.orders) == (order is not None):
        return
    now, was = ("dates or times", "numbers") if order is None else ("numbers", "dates or times")
    raise TableError(f"{table.source}: column {name!r} holds {now}, but held {was} in training")


def _check_reading(data: Any) -> Reading:
    """How cells are read; ValueError for what no `to_dict` wrote."""
    reading = Reading(**{**data, "na": tuple(data["na"])})
    marks = (reading.decimal in (None, ".", ","), reading.thousands in (None, ".", ",", " ", "'"))
    words = reading.dates in (None, "dmy", "mdy", "none") and all(map(_is_text, reading.na))
    if not all(marks) or not words or reading.drop or reading.categorical or reading.numeric:
        raise ValueError("how cells are read is malformed")
    return reading


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _check_spec(spec: Spec) -> Spec:
    """The spec if `encode` can use it."""
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
    """Fill `out` (rows, categories); returns how many values are in no category."""
    # spaces around text do not count, in the categories of old versions either
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
