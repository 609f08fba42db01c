"""Checks of numbers from users: Python's and NumPy's scalars are taken, truth values are not.

A field of a dataclass declares its range where it stands:

    beta1: float = number(0.9, below=1)

`check_fields` then checks it. The limits of `number` are those of `check_number`, which makes the
message.
"""

import math
from collections.abc import Callable
from dataclasses import MISSING, field
from functools import cache, partial
from numbers import Integral, Real
from typing import Any

import numpy as np

Check = Callable[[Any, str], Any]  # (value, name) -> the value in plain form


def as_real(value: Any) -> float | None:
    """Return the float of a finite real number; None for anything else, 10**400 included."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def check_number(
    value: Any,
    name: str,
    low: float = 0.0,
    high: float = math.inf,
    *,
    positive: bool = False,
    below: float = math.inf,
    advice: str = "",
    wrong_type: type[Exception] = ValueError,
) -> float:
    """Return the float of a finite number in low .. high; ValueError for anything else.

    positive: whether 0 is refused.
    below: a number that is refused, with all above it.
    advice: the end of the message.
    wrong_type: what is raised for a value that is no number.
    """
    number = as_real(value)
    too_low = number is None or number < low or (positive and number == 0)
    if number is not None and not too_low and number <= high and number < below:
        return number
    if min(high, below) == math.inf:
        least = "" if low == -math.inf else f" >= {low:g}"
        range_ = f"be a finite number{' above 0' if positive else least}"
    elif positive and below < math.inf:
        range_ = f"lie between 0 and {below:g}"
    else:
        end = f"< {below:g}" if below < math.inf else f"<= {high:g}"
        range_ = f"be a number with {low:g} {'<' if positive else '<='} {name} {end}"
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    raise (ValueError if is_number else wrong_type)(f"{name} must {range_}{advice}, not {value!r}")


def check_count(value: Any, name: str, least: int = 1, most: int | None = None) -> int:
    """Return the int of an integer in least .. most; ValueError for anything else."""
    whole = as_whole(value)
    if whole is None or whole < least or (most is not None and whole > most):
        shown = most if most is None or most < 2**16 else f"2**{most.bit_length()} - 1"
        range_ = f">= {least}" if most is None else f"in {least} .. {shown}"
        raise ValueError(f"{name} must be an integer {range_}, not {value!r}")
    return whole


def check_flag(value: Any, name: str) -> bool:
    """Return the bool of True, False, 1 or 0, also NumPy's; TypeError for anything else."""
    return check_truth(bool(value) if _is_0_or_1(value) else value, name)


def check_truth(value: Any, name: str) -> bool:
    """Return the bool of True or False, also NumPy's; TypeError for anything else, 1 included."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _is_0_or_1(value: Any) -> bool:
    return isinstance(value, int | np.integer) and value in (0, 1)


def check_seed(seed: Any) -> int:
    """Return the seed as an int in 0 .. 2**64 - 1; ValueError for anything else."""
    return check_count(seed, "seed", 0, 2**64 - 1)


def as_whole(value: Any) -> int | None:
    """Return the int of an integer that 64 bits could hold; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value) if -(2**63) <= int(value) < 2**64 else None


# ---- fields of dataclasses -----------------------------------------------------------------------


def declared(check: Check, default: Any = MISSING) -> Any:
    """Return a field that `check_fields` passes through a check."""
    return field(default=default, metadata={"check": check})


def number(
    default: Any = MISSING,
    low: float = 0.0,
    high: float = math.inf,
    *,
    optional: bool = False,
    **limits: Any,
) -> Any:
    """Return a field with the range of a `check_number`; None is taken too if it is `optional`."""
    if not optional:
        return declared(partial(check_number, low=low, high=high, **limits), default)

    def check(value: Any, name: str) -> float | None:
        given = {"low": low, "high": high, "advice": ", or None", **limits}
        return None if value is None else check_number(value, name, **given)

    return declared(check, default)


def count(default: Any = MISSING, least: int = 1, most: int | None = None) -> Any:
    """Return a field with the range of a `check_count`."""
    return declared(partial(check_count, least=least, most=most), default)


def flag(default: bool) -> Any:
    """Return a field that is True or False."""
    return declared(check_truth, default)


def check_fields(settings: Any) -> None:
    """Give the declared fields of a frozen dataclass their checked values.

    A class that gives a field another default keeps the range that its base declares.
    """
    kind: Any = type(settings)
    for name, check, good in _checks_of(kind):
        value = getattr(settings, name)
        if value is not good:  # most settings are defaults, and some are made in loops
            object.__setattr__(settings, name, check(value, name))


@cache
def _checks_of(kind: Any) -> list[tuple[str, Check, Any]]:
    """Return name, check and default of each declared field; MISSING for a default out of range."""
    checks: dict[str, Check] = {}
    for base in reversed(kind.__mro__):
        for name, one in vars(base).get("__dataclass_fields__", {}).items():
            if "check" in one.metadata:
                checks[name] = one.metadata["check"]
    return [(name, check, _good_default(kind, name, check)) for name, check in checks.items()]


def _good_default(kind: Any, name: str, check: Check) -> Any:
    default = getattr(kind, name, MISSING)
    try:
        return default if check(default, name) == default else MISSING
    except (TypeError, ValueError):
        return MISSING
