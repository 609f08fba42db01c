"""What makes numbers of a table's columns, learnt from the training rows alone.

`Preparation` is made of plain dictionaries, so that the model file carries it as JSON and `predict`
does to new rows what `train` did to its own.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tables import TRUTH, Table, TableError, as_text

Array = NDArray[Any]
Spec = dict[str, Any]

TASKS = ("binary", "multiclass", "regression")
MIN_ROWS = 10
_MAX_CLASSES = 20  # whole numbers with more distinct values than this are quantities
_MAX_CATEGORIES = 100
_BOUND = 10.0  # standard deviations; farther values of a column that hardly varies drown the rest


# ---- the target ----------------------------------------------------------------------------------


def is_missing(values: Array) -> NDArray[np.bool_]:
    """Where a column has no value; infinities count as missing."""
    if values.dtype.kind == "f":
        return ~np.isfinite(values)
    return np.array([value is None for value in values], dtype=bool)


def infer_task(name: str, values: Array, override: str | None) -> tuple[str, str]:
    """(task, reason) for a target column without missing values; TableError for a useless one."""
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
                "choose a column of classes or numbers"
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
            "leave --task out or choose another --target"
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
    """The column to predict: `classes` as text, or mean and std of values."""

    name: str
    task: str
    classes: list[str] = field(default_factory=list)
    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def learn(cls, name: str, task: str, values: Array, train: Array) -> "Target":
        """Classes of all rows; mean and std of the training rows."""
        if task != "regression":
            return cls(name, task, [as_text(value) for value in sorted(set(values.tolist()))])
        mean, std = float(values[train].mean()), float(values[train].std())
        if not 0 < std < math.inf:
            raise TableError(f"target {name!r} does not vary, or its values are too large")
        return cls(name, task, mean=mean, std=std)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Target":
        """What `vars` gave; TypeError and ValueError for anything else."""
        target = cls(**data)
        texts = [target.name, target.task, *target.classes]
        if not all(isinstance(text, str) for text in texts) or target.task not in TASKS:
            raise TypeError("the target is malformed")
        if (target.task == "regression") != (not target.classes):
            raise ValueError("the classes do not suit the task")
        _check_numbers(target.mean, target.std)
        return target

    @property
    def is_text(self) -> bool:
        """Whether its classes are words, or codes that only look like numbers ("007")."""
        return not all(_is_number(name) for name in self.classes)

    def encode(self, values: Array) -> Array:
        """Class labels, -1 for unknown ones; or standardised values."""
        if self.task == "regression":
            return np.asarray((values - self.mean) / self.std)
        index = {name: label for label, name in enumerate(self.classes)}
        return np.array([index.get(as_text(value), -1) for value in values.tolist()])

    @property
    def loss(self) -> str:
        """The loss that suits the task."""
        losses = {"binary": "binary_cross_entropy", "multiclass": "cross_entropy"}
        return losses.get(self.task, "squared_error")

    @property
    def n_out(self) -> int:
        """Outputs that the network needs."""
        return len(self.classes) if self.task == "multiclass" else 1


def _is_number(text: str) -> bool:
    try:
        return as_text(float(text)) == text
    except ValueError:
        return False


# ---- the features --------------------------------------------------------------------------------


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
        _check_numbers(spec["mean"], spec["std"], spec["fill"])
    elif spec["kind"] == "categorical":
        if not spec["categories"] or not all(isinstance(c, str) for c in spec["categories"]):
            raise TypeError("categories are no texts")
        if not isinstance(spec["fill"], str) or not isinstance(spec["distinct"], int):
            raise TypeError("fill or distinct is malformed")
    elif spec["kind"] != "ignored" or not isinstance(spec["reason"], str):
        raise ValueError(f"there is no kind {spec['kind']!r}")
    return spec


def _check_numbers(mean: Any, std: Any, fill: Any = 0.0) -> None:
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in (mean, fill)):
        raise ValueError("a mean is no number")
    if not isinstance(std, int | float) or not 0 < std < math.inf:
        raise ValueError("a standard deviation is not positive")


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


# ---- the split -----------------------------------------------------------------------------------


def split_rows(
    labels: Array | None, rows: int, validation: float, test: float, seed: int
) -> tuple[Array, Array, Array]:
    """(train, validation, test) rows; with labels, every class keeps its share in each part.

    Rows shuffled, then sorted by class: evenly spaced picks of that list are a stratified sample.
    A class is never without a training row.
    """
    order = np.random.default_rng(seed).permutation(rows)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    is_test = _spaced(rows, round(test * rows) or bool(test))
    rest = order[~is_test]
    is_validation = _spaced(len(rest), round(validation * rows) or bool(validation))
    train, held = rest[~is_validation], [rest[is_validation], order[is_test]]
    if labels is not None:
        for label in np.setdiff1d(labels, labels[train]):
            for part, chosen in enumerate(held):
                hits = chosen[labels[chosen] == label]
                if len(hits):
                    held[part] = chosen[chosen != hits[0]]
                    train = np.append(train, hits[0])
                    break
    return np.sort(train), np.sort(held[0]), np.sort(held[1])


def _spaced(n: int, picks: int) -> NDArray[np.bool_]:
    """Mask of `picks` evenly spaced places out of n."""
    steps = (np.arange(n + 1) * picks + n // 2) // max(n, 1)
    return np.asarray(np.diff(steps) > 0)
