"""Checks of numbers from users: Python's and NumPy's scalars are taken, truth values are not."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np


def as_real(value: Any) -> float | None:
    """Return the float of a finite real number; None for anything else, 10**400 included."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def check_number(value: Any, name: str, *, positive: bool = False) -> float:
    """Return the float of a number >= 0, or > 0 if `positive`; ValueError for anything else."""
    number = as_real(value)
    if number is None or number < 0:
        raise ValueError(f"{name} must be a finite number >= 0, not {value!r}")
    if positive and number == 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")
    return number


def check_count(value: Any, name: str, least: int = 1) -> int:
    """Return the int of an integer >= least; ValueError for anything else."""
    whole = as_whole(value)
    if whole is None or whole < least:
        raise ValueError(f"{name} must be an integer >= {least}, not {value!r}")
    return whole


def check_flag(value: Any, name: str) -> bool:
    """Return the bool of True, False, 1 or 0, also NumPy's; TypeError for anything else."""
    if not isinstance(value, int | np.integer | np.bool_) or value not in (0, 1):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def check_seed(seed: Any) -> int:
    """Return the seed as an int in 0 .. 2**64 - 1; ValueError for anything else."""
    whole = as_whole(seed)
    if whole is None or not 0 <= whole < 2**64:
        raise ValueError(f"seed must be an integer in 0 .. 2**64 - 1, not {seed!r}")
    return whole


def as_whole(value: Any) -> int | None:
    """Return the int of an integer that 64 bits could hold; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value) if -(2**63) <= int(value) < 2**64 else None
