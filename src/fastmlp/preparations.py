"""What makes numbers of a table's columns, learnt from the training rows alone.

`Preparation` is made of plain dictionaries, so that the model file carries it as JSON and `predict`
does to new rows what `train` did to its own.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from .table import TRUTH, Array, Table, TableError, as_text, is_missing
from .targets import Target, check_scale

Spec = dict[str, Any]

MIN_ROWS = 10
_MAX_CATEGORIES = 100
_BOUND = 10.0  # standard deviations; farther values of a column that hardly varies drown the rest


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
    ignored (with a reason).
    """

    target: Target
    specs: list[Spec]
    missing: str = "impute"

    @classmethod
    def learn(cls, table: Table, target: Target, missing: str) -> "Preparation":
        """From the training rows."""
        names = [name for name in table.columns if name != target.name]
        specs = [_learn_column(name, table.columns[name]) for name in names]
        if all(spec["kind"] == "ignored" for spec in specs):
            raise TableError(f"{table.source} has no column to learn from beside {target.name!r}")
        return cls(target, specs, missing)

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
        return sum(len(spec.get("categories", [0])) for spec in self.used)

    def encode(self, table: Table) -> tuple[Array, dict[str, dict[str, int]]]:
        """The matrix (rows, n_in), and {"missing", "unknown"}: column -> count."""
        counts: dict[str, dict[str, int]] = {"missing": {}, "unknown": {}}
        matrix = np.zeros((table.rows, self.n_in), np.float64)
        at = 0
        for spec in self.used:
            name, values = spec["name"], table.column(spec["name"])
            lacking = is_missing(values)
            if lacking.any():
                counts["missing"][name] = int(lacking.sum())
            width = len(spec.get("categories", [0]))
            if spec["kind"] == "categorical":
                unknown = _one_hot(spec, values, lacking, matrix[:, at : at + width])
                if unknown == table.rows:
                    raise TableError(
                        f"{table.source}: no value of column {name!r} was there in training, "
                        f"{as_text(values[0])!r} for instance; it knew "
                        f"{', '.join(map(repr, spec['categories'][:10]))}"
                    )
                if unknown:
                    counts["unknown"][name] = unknown
            else:
                numbers = _numbers(table, spec, values)
                numbers = np.where(lacking, spec["fill"], numbers)
                scaled = (numbers - spec["mean"]) / spec["std"]
                matrix[:, at] = np.clip(scaled, -_BOUND, _BOUND)
            at += width
        return matrix, counts

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"target": vars(self.target), "columns": self.specs, "missing": self.missing}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Preparation":
        """What `to_dict` gave; KeyError, TypeError and ValueError for anything else."""
        specs = [_check_spec(spec) for spec in data["columns"]]
        return cls(Target.from_dict(data["target"]), specs, data["missing"])


def _check_spec(spec: Spec) -> Spec:
    """The spec if `encode` can use it."""
    if not isinstance(spec["name"], str):
        raise TypeError("the name of a column is no text")
    if spec["kind"] in ("numeric", "boolean"):
        check_scale(spec["mean"], spec["std"], spec["fill"])
    elif spec["kind"] == "categorical":
        if not spec["categories"] or not all(isinstance(c, str) for c in spec["categories"]):
            raise TypeError("categories are no texts")
        if not isinstance(spec["fill"], str) or not isinstance(spec["distinct"], int):
            raise TypeError("fill or distinct is malformed")
    elif spec["kind"] != "ignored" or not isinstance(spec["reason"], str):
        raise ValueError(f"there is no kind {spec['kind']!r}")
    return spec


def _learn_column(name: str, values: Array) -> Spec:
    present = values[~is_missing(values)]
    if len(present) == 0:
        return {"name": name, "kind": "ignored", "reason": "no values"}
    if values.dtype.kind == "f":
        return _learn_numeric(name, "numeric", values, present, float(np.median(present)))
    counts = Counter(present.tolist())
    if len(counts) == 1 and len(present) == len(values):
        return {"name": name, "kind": "ignored", "reason": "constant"}
    if {text.lower() for text in counts} <= TRUTH.keys():
        numbers = np.array([math.nan if v is None else TRUTH[v.lower()] for v in values])
        return _learn_numeric(
            name, "boolean", numbers, numbers, TRUTH[counts.most_common(1)[0][0].lower()]
        )
    if len(counts) > max(_MAX_CATEGORIES / 2, len(values) / 2):
        reason = f"text with {len(counts)} distinct values in {len(values)} rows"
        return {"name": name, "kind": "ignored", "reason": reason}
    kept = sorted(text for text, _ in counts.most_common(_MAX_CATEGORIES))
    fill = counts.most_common(1)[0][0]
    return {
        "name": name,
        "kind": "categorical",
        "categories": kept,
        "fill": fill,
        "distinct": len(counts),
    }


def _learn_numeric(name: str, kind: str, values: Array, present: Array, fill: float) -> Spec:
    filled = np.where(is_missing(values), fill, values)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(filled.mean()), float(filled.std())
    if not (math.isfinite(mean) and math.isfinite(std)):
        raise TableError(f"column {name!r} holds values too large to standardise; rescale it")
    if std <= 1e-12 * abs(mean):  # rounding of the mean leaves a trace of a constant
        return {"name": name, "kind": "ignored", "reason": "constant"}
    return {"name": name, "kind": kind, "mean": mean, "std": std, "fill": fill}


def _one_hot(spec: Spec, values: Array, lacking: Array, out: Array) -> int:
    """Fill `out` (rows, categories); returns how many values are in no category."""
    index = {text: i for i, text in enumerate(spec["categories"])}
    texts = [
        spec["fill"] if gone else as_text(v)
        for v, gone in zip(values.tolist(), lacking, strict=True)
    ]
    codes = np.array([index.get(text, -1) for text in texts])
    known = np.flatnonzero(codes >= 0)
    out[known, codes[known]] = 1.0
    return len(codes) - len(known)


def _numbers(table: Table, spec: Spec, values: Array) -> Array:
    """The column as float64; TableError for text that is no number."""
    if values.dtype.kind == "f":
        return values
    numbers = np.full(len(values), math.nan)
    for row, value in enumerate(values):
        if value is not None:
            try:
                numbers[row] = TRUTH[value.lower()] if value.lower() in TRUTH else float(value)
            except ValueError:
                raise TableError(
                    f"{table.source}: column {spec['name']!r} was {spec['kind']} in training, "
                    f"but row {row + 1} holds {value!r}"
                ) from None
    return numbers
