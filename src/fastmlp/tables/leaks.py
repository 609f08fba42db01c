"""Columns that reveal the target: row numbers, and copies of the target."""

import re

import numpy as np
from numpy.typing import NDArray

from ..ground.arrays import Array
from .table import Note, Table, as_text, is_missing

_MIN_ROWS = 10
_NAME_OF_ROWS = re.compile(
    r"(?:.*(?:[_\W]|(?<=[a-z])(?=I)))?(?:id|idx|index|row|nr|no|number|num|key)", re.IGNORECASE
)
_CAMEL_ID = re.compile(r".*[a-z](?:Id|ID|Index|Key)")
_ADVICE = "in a sorted file it tells the target; --drop leaves it out"


def row_numbers(table: Table, target: str, wanted: tuple[str, ...]) -> dict[str, str]:
    """Return the columns without a name that number the rows -> why they are left out.

    Columns with a name that number the rows stay in the table, which gets a note.
    """
    left_out = {}
    for name, values in table.columns.items():
        if name == target or name in wanted or name in table.orders:
            continue
        if not _never_repeats(values):
            continue
        in_order = bool((np.diff(values) == 1).all())
        if name in table.nameless:
            what = "counts the rows" if in_order else "numbers that never repeat"
            left_out[name] = f"no name, {what}; --numeric keeps it"
        elif in_order:
            table.note(f"counts the rows; {_ADVICE}", name)
        elif _is_dense(values) or _NAME_OF_ROWS.fullmatch(name) or _CAMEL_ID.fullmatch(name):
            table.note(f"whole numbers that never repeat, as row numbers are; {_ADVICE}", name)
    return left_out


def _never_repeats(values: Array) -> bool:
    if values.dtype.kind != "f" or len(values) < _MIN_ROWS:
        return False
    if not np.isfinite(values).all() or not (values == np.floor(values)).all():
        return False
    return len(np.unique(values)) == len(values)


def _is_dense(values: Array) -> bool:
    return bool(values.max() - values.min() + 1 == len(values))


def copies(table: Table, target: str, has_classes: bool) -> list[Note]:
    """Return notes about columns that equal the target or rename its classes."""
    found = []
    truth = table.columns[target]
    present = ~is_missing(truth)
    for name, values in table.columns.items():
        if name == target or not _may_tell(values, present, has_classes):
            continue
        if _equals(values, truth, present):
            found.append(Note("equalled by another column; --drop leaves it out", name))
        elif has_classes and _renames(values[present], truth[present]):
            found.append(Note("told by one value for each class; --drop leaves it out", name))
    return found


def _may_tell(values: Array, present: NDArray[np.bool_], has_classes: bool) -> bool:
    """Whether the first rows allow that a column reveals the target; it rejects most columns."""
    first = np.flatnonzero(present)[:50]
    return len(first) >= 2 and not (is_missing(values[first]).any() and has_classes)


def _equals(values: Array, truth: Array, present: NDArray[np.bool_]) -> bool:
    if values.dtype.kind != truth.dtype.kind:
        return False
    return bool((values[present] == truth[present]).all())


def _renames(values: Array, truth: Array) -> bool:
    if is_missing(values).any():
        return False
    pairs = set(zip(map(as_text, values.tolist()), map(as_text, truth.tolist()), strict=True))
    kinds = len({value for value, _ in pairs})
    return 2 <= kinds == len(pairs) == len({label for _, label in pairs}) < len(values)
