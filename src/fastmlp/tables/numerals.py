"""Numbers as people write them, one cell at a time, and the words for missing values."""

import re
from dataclasses import dataclass
from functools import cache

_WORDS = (
    "na n/a n.a. n.a n/d nd nan -nan null none nil missing unknown undefined void nat <na> "
    "#n/a #na #nv #div/0! #value! #ref! #name? #num! #null! #wert! #bezug! #zahl! "
    "1.#ind -1.#ind 1.#qnan -1.#qnan ? ?? - -- --- \u2013 \u2014 . .. ... \u2026 * ** \u2205 "
    "inf +inf -inf infinity +infinity -infinity \\n tbd tba k.a."
)
MISSING_WORDS = frozenset(_WORDS.split()) | {
    "not available",
    "not applicable",
    "no data",
    "n. a.",
    "k. a.",
    "keine angabe",
}

_CURRENCY = (
    r"(?:(?:US|R|C|A|CA|AU|HK|NZ|S)?\$|[\u20a0-\u20bf\u00a3\u00a5\u0e3f]|(?:USD|EUR|GBP|CHF|JPY|CNY"
    r"|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|RUB|TRY|KRW|kr|z\u0142|Fr)\.?)"
)
_QUOTES = "'\u2019"
_MINUS = "\u2212\u2013\uff0d\ufe63-"  # minus sign, en dash, full-width, small, hyphen
_NUMERAL = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>[+\uff0b{_MINUS}])?\s*(?P<before>{_CURRENCY})?\s*"
    rf"(?P<inner>[+{_MINUS}])?\s*(?P<body>[0-9.,][0-9.,{_QUOTES}\s]*)(?P<power>[eE][+-]?[0-9]+)?"
    rf"\s*(?P<after>{_CURRENCY}|[%\u2030])?\s*(?P<behind>[{_MINUS}])?(?(open)\s*\))"
)
CODE = re.compile(r"[+-]?0[0-9]+")  # 007 is not 7


@dataclass(frozen=True)
class Numeral:
    """A number in a cell, as text for float().

    point: the text if "." is the decimal mark; None if the cell is then no number.
    comma: the text if "," is the decimal mark; None if the cell is then no number.
    marks: the marks that were left out.
    """

    point: str | None
    comma: str | None
    marks: tuple[str, ...]

    def under(self, decimal: str) -> str | None:
        """Return the text for one decimal mark."""
        return self.comma if decimal == "," else self.point


def is_missing_word(text: str) -> bool:
    """Whether a cell is a known word for a missing value."""
    return text.lower() in MISSING_WORDS


def is_currency(mark: str) -> bool:
    """Whether a mark in a number is a currency."""
    return re.fullmatch(_CURRENCY, mark) is not None


@cache
def _body(decimal: str, thousands: str | None) -> re.Pattern[str]:
    """Return the pattern of digits with decimals and an optional thousands mark.

    The mark separates groups of three digits, or of two as in 12,34,567.
    """
    other = "." if decimal == "," else ","
    known = {None: rf"{other}\s{_QUOTES}", " ": r"\s", "'": _QUOTES}
    marks = known.get(thousands, thousands or "").replace(decimal, "")
    grouped = rf"[1-9][0-9]{{0,2}}(?P<mark>[{marks}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*"
    if "," in marks:
        grouped += r"|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"
    if not marks:
        grouped = "(?P<mark>(?!))"
    return re.compile(rf"(?P<whole>{grouped}|[0-9]*)(?:[{decimal}](?P<part>[0-9]*))?")


def _digits(body: str, decimal: str, thousands: str | None) -> tuple[str, str] | None:
    """Return (digits for float(), the thousands mark), or None."""
    found = _body(decimal, thousands).fullmatch(body)
    if found is None or not (found["whole"] or found["part"]):
        return None
    whole = re.sub("[^0-9]", "", found["whole"])
    has_part = found["part"] is not None
    return (f"{whole or 0}.{found['part']}" if has_part else whole), found["mark"] or ""


def numeral(text: str, thousands: str | None = None) -> Numeral | None:
    """Return the number in a cell, or None if there is none.

    thousands: the only thousands mark allowed; None allows all usual ones.
    """
    found = _NUMERAL.fullmatch(text)
    if found is None:
        return None
    body, power = found["body"].strip(), found["power"] or ""
    signs = [s for s in (found["sign"], found["inner"], found["behind"]) if s]
    if len(signs) + bool(found["open"]) > 1 or (power and found["body"][-1].isspace()):
        return None
    negative = found["open"] or (signs and signs[0] in _MINUS)
    point, comma = _digits(body, ".", thousands), _digits(body, ",", thousands)
    if point is None and comma is None:
        return None
    marks = [m for m in (found["before"], found["after"]) if m]
    marks += ["( )"] * bool(found["open"]) + [s for s in signs if s not in "+-"]
    marks += ["- behind"] * bool(found["behind"])
    for grouped in {read[1] for read in (point, comma) if read} - {"", ".", ","}:
        marks.append("blanks" if grouped.isspace() else grouped)
    start = "-" if negative else ""
    values = [None if read is None else f"{start}{read[0]}{power}" for read in (point, comma)]
    return Numeral(values[0], values[1], tuple(marks))
