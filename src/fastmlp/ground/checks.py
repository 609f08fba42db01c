"""Numbers that users give: Python's, NumPy's scalars, but no truth values."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np


def as_real(value: Any) -> float | None:
    """The float of a finite real number; None for anything else, 10**400 among it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def check_number(value: Any, name: str, *, positive: bool = False) -> float:
    """The float of a finite number >= 0, or > 0 where `positive`; else ValueError."""
    number = as_real(value)
    if number is None or number < 0:
        raise ValueError(f"{name} must be a finite number >= 0, not {value!r}")
    if positive and number == 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")
    return number


def check_count(value: Any, name: str, least: int = 1) -> int:
    """The int of an integer >= least; else ValueError."""
    whole = as_whole(value)
    if whole is None or whole < least:
        raise ValueError(f"{name} must be an integer >= {least}, not {value!r}")
    return whole


def check_flag(value: Any, name: str) -> bool:
    """The bool of True, False, 1 or 0, NumPy's among them; else TypeError."""
    if not isinstance(value, int | np.integer | np.bool_) or value not in (0, 1):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def check_seed(seed: Any) -> int:
    """Seed if it is an integer of 64 bits; else ValueError."""
    whole = as_whole(seed)
    if whole is None or not 0 <= whole < 2**64:
        raise ValueError(f"seed must be an integer in 0 .. 2**64 - 1, not {seed!r}")
    return whole


def as_whole(value: Any) -> int | None:
    """The int of an integer that 64 bits could hold; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value) if -(2**63) <= int(value) < 2**64 else None
