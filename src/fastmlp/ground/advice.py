"""Advice about text in place of numbers; it never turns quantities into ranks."""

import re
from reprlib import repr as shortened
from typing import Any, Literal

import numpy as np

from .arrays import Array

# The use of an array: inputs, targets of a loss on classes, targets of any loss, or quantities.
Meaning = Literal["features", "classes", "target", "values"]

_LIKE_NUMBER = re.compile(r"[\s\d.,'%$€£+\-eE_/:]*\d[\s\d.,'%$€£+\-eE_/:]*")


def how_to_encode(array: Array, name: str, meaning: Meaning) -> str:
    """Return the end of an error message about text or objects: the fix, or the obstacle.

    If all texts are numbers, they are to be read as numbers. Codes for texts, 0, 1, .. in the order
    of the alphabet, suit classes alone, because they would turn quantities into ranks.
    """
    verb = "" if meaning == "values" else ", encode it first"
    if array.dtype.kind not in "OUST":  # dates and complex numbers are not text
        return verb
    values = array.ravel().tolist()
    numbers = [_as_float(value) is not None for value in values]
    if values and all(numbers):
        return f"{verb}: {_call(name, values, meaning)}"
    if meaning == "classes" or (meaning == "target" and not any(map(_is_like_number, values))):
        return verb + (f": numpy.unique({name}, return_inverse=True)[1]" * (array.ndim == 1))
    if not values:
        return verb
    first = numbers.index(False)
    row = first // max(1, array.size // len(array)) if array.ndim else 0
    return f"{verb}; row {row} holds {shortened(values[first])}, which is no number"


def _call(name: str, values: list[Any], meaning: Meaning) -> str:
    whole = meaning in ("classes", "target") and all(map(_is_whole_text, values))
    call = f"astype({'int' if whole else 'float'})"
    return f"{name}.{call}" if name.isidentifier() else call


def _as_float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_whole_text(value: Any) -> bool:
    try:
        np.int64(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_like_number(value: Any) -> bool:
    """Whether a value is a number, or looks like one that float does not read: 1,5 or 12%."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return _as_float(value) is not None or _LIKE_NUMBER.fullmatch(text) is not None
