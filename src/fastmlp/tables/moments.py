"""Dates and times as people write them, as days: since 1970 in UTC, or of a duration."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Days = NDArray[np.float64]

_DAY = 86_400e6  # microseconds
_NAMES = (
    "january february march april may june july august september october november december "
    "jan feb mar apr may jun jul aug sep oct nov dec"
)
_MONTHS = {name: place % 12 + 1 for place, name in enumerate(_NAMES.split())} | {"sept": 9}
_TIME = (
    r"(?:(?:T|,?\s+)(?P<h>\d{1,2}):(?P<min>\d\d)(?::(?P<s>\d\d)(?:[.,](?P<f>\d{1,9}))?)?"
    r"(?:\s?(?P<half>[AaPp])\.?[Mm]\.?)?\s?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?"
)
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?")
_YEAR_FIRST = re.compile(rf"(?P<y>\d{{4}})(?P<mark>[-/.])(?P<m>\d\d?)(?P=mark)(?P<d>\d\d?){_TIME}")
_YEAR_LAST = re.compile(
    rf"(?P<a>\d\d?)(?P<mark>[-/.])\s?(?P<b>\d\d?)(?P=mark)\s?(?P<y>\d{{4}}){_TIME}"
)
_NAMED = re.compile(
    rf"(?:(?P<d>\d\d?)\.?[- ](?P<month>[A-Za-z]{{3,9}})\.?[- ,]\s?(?P<y>\d{{4}})"
    rf"|(?P<month2>[A-Za-z]{{3,9}})\.? (?P<d2>\d\d?)(?:st|nd|rd|th)?,? (?P<y2>\d{{4}})){_TIME}"
)
_SHORT_YEAR = re.compile(rf"\d\d?(?P<mark>[-/.])\d\d?(?P=mark)\d\d{_TIME}")
_CLOCK = re.compile(
    r"(?P<sign>[+-])?(?:(?P<days>\d+) days?,? ?(?P<sign2>[+-])?)?"
    r"(?:(?P<h>\d+):(?P<min>[0-5]\d)(?::(?P<s>[0-5]\d)(?:\.(?P<f>\d{1,9}))?)?)?"
)


def _parts(text: str, order: str) -> tuple[re.Match[str], str, str, str] | None:
    """Return (match, year, month, day) of a date; `order` decides about 02/10/2020."""
    if found := _YEAR_FIRST.fullmatch(text):
        return found, found["y"], found["m"], found["d"]
    if found := _NAMED.fullmatch(text):
        month = _MONTHS.get((found["month"] or found["month2"]).lower(), 0)
        return found, found["y"] or found["y2"], str(month), found["d"] or found["d2"]
    if order != "ymd" and (found := _YEAR_LAST.fullmatch(text)):
        first, second = found["a"], found["b"]
        return found, found["y"], *((second, first) if order == "dmy" else (first, second))
    return None


def _iso(text: str, order: str) -> tuple[str, int] | None:
    """Return (a date for NumPy, minutes that its zone is ahead of UTC), or None."""
    parts = _parts(text, order)
    if parts is None:
        return None
    found, year, month, day = parts
    hour = int(found["h"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found["half"] in "Pp")
    time = f"{hour:02}:{found['min'] or '00'}:{found['s'] or '00'}.{(found['f'] or '0')[:6]}"
    zone, ahead = found["zone"] or "Z", 0
    if zone[0] in "+-":
        ahead = int(zone[:3]) * 60 + int(f"{zone[0]}{zone[3:].lstrip(':') or 0}")
    return f"{year}-{int(month):02}-{int(day):02}T{time}", ahead


def days_of_dates(texts: Sequence[str], order: str) -> Days | None:
    """Return the days since 1970 of dates, or None if any text is not a date.

    order: "ymd"; "dmy" or "mdy" allow 02/10/2020 too.
    """
    if all(map(_PLAIN.fullmatch, texts)):  # the format that NumPy reads
        try:
            return days_of_stamps(np.array(texts, dtype="datetime64[us]"))
        except ValueError:
            return None
    dates = [_iso(text, order) for text in texts]
    if any(date is None for date in dates):
        return None
    found = [date for date in dates if date is not None]
    try:
        stamps = np.array([iso for iso, _ in found], dtype="datetime64[us]")
    except ValueError:  # a date that does not exist, such as the 30th of February
        return None
    minutes = np.array([ahead for _, ahead in found], dtype="timedelta64[m]")
    return days_of_stamps(stamps - minutes)


def days_of_stamps(stamps: NDArray[np.datetime64]) -> Days:
    """Return days since 1970, or days of durations, as float64 with NaN for missing values."""
    days = stamps.astype(np.int64).astype(np.float64) / _DAY
    days[np.isnat(stamps)] = np.nan
    return days


def days_of_clocks(texts: Sequence[str]) -> Days | None:
    """Return the days of 12:30, 12:30:15 and "2 days 12:30:15", or None if any text is no time."""
    days = []
    for text in texts:
        found = _CLOCK.fullmatch(text)
        if found is None or not (found["days"] or found["h"]):
            return None
        seconds = int(found["h"] or 0) * 3600 + int(found["min"] or 0) * 60 + int(found["s"] or 0)
        time = seconds * 1e6 + float(f"0.{found['f'] or 0}") * 1e6
        whole = int(found["days"] or 0) * (-1 if found["sign"] == "-" else 1)
        backward = found["sign2"] == "-" or (not found["days"] and found["sign"] == "-")
        days.append((whole * _DAY + (-time if backward else time)) / _DAY)
    return np.array(days)


def has_short_year(text: str) -> bool:
    """Whether a date has a year of two digits, whose century is unknown."""
    return _SHORT_YEAR.fullmatch(text) is not None


def order_of(texts: Sequence[str]) -> tuple[str, str] | None:
    """Return the order of dates and the text that shows it, or None if not all are dates.

    The order is "ymd", "dmy" or "mdy", or "" if it is not clear.
    """
    order, shown = "ymd", texts[0] if texts else ""
    if all(map(_PLAIN.fullmatch, texts)):
        return order, shown
    for text in texts:
        if _YEAR_FIRST.fullmatch(text) or _NAMED.fullmatch(text):
            continue
        found = _YEAR_LAST.fullmatch(text)
        if found is None:
            return ("", text) if has_short_year(text) else None
        proof = "dmy" if int(found["a"]) > 12 else "mdy" if int(found["b"]) > 12 else ""
        if order in ("ymd", "") and proof:
            order, shown = proof, text
        elif order == "ymd":  # in dates with dots the day comes first
            order, shown = ("dmy", text) if found["mark"] == "." else ("", text)
        elif proof and proof != order:
            return "", text
    return order, shown
