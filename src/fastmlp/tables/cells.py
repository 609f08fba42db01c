"""The cells of a column of text: whether they are numbers, dates or words, and their values."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ground.arrays import Array
from .moments import days_of_clocks, days_of_dates, has_short_year, order_of
from .numerals import CODE, MISSING_WORDS, Numeral, is_currency, is_missing_word, numeral
from .table import EXACT, TRUTH, Reading

Values = NDArray[np.float64]

CLOCK = "clock"
_FIRST = 300  # words inspected to decide whether a long column needs a closer look
_MAX_ODD = 5  # different words among numbers that may count as missing without being known as such
_ODD_SHARE = 0.1  # largest share of cells with such words
_QUANTITY = 20  # different numbers; a column with fewer may hold codes


class Cells:
    """The different texts of a column, stripped, and for each row the index of its text.

    The index (`codes`) is -1 if a row has no value.
    """

    def __init__(self, codes: Array, words: Sequence[str], na: Iterable[str] = ()) -> None:
        index: dict[str, int] = {}
        absent = {"", *na}
        places = []
        for word in words:
            stripped = word.strip()
            gone = stripped in absent
            places.append(-1 if gone else index.setdefault(stripped, len(index)))
        self.codes = np.array([*places, -1], np.intp)[codes]
        self.words = list(index)
        self.counts = np.bincount(self.codes[self.codes >= 0], minlength=len(index))

    @classmethod
    def of(cls, values: Array, na: Iterable[str] = ()) -> "Cells":
        """Make cells from an array of text with None for missing values."""
        index: dict[str, int] = {}
        codes = [-1 if v is None else index.setdefault(v, len(index)) for v in values.tolist()]
        return cls(np.array(codes, np.intp), list(index), na)

    def spread(self, values: Values | list[float]) -> Values:
        """Return a number for every row, from one number per word; NaN for missing values."""
        return np.append(np.asarray(values, np.float64), np.nan)[self.codes]

    def texts(self) -> Array:
        """Return the text of every row, or None; truth values become "True" and "False"."""
        words: list[str | None] = [*self.words]
        if words and {word.lower() for word in self.words} <= TRUTH.keys():
            words = [word.capitalize() for word in self.words]
        return np.array([*words, None], dtype=object)[self.codes]

    def without(self, gone: Iterable[str]) -> "Cells":
        """Return the same cells with some words as missing values."""
        return Cells(self.codes, self.words, gone)

    def count(self, words: Iterable[str]) -> int:
        """Return how many cells contain one of these words."""
        chosen = set(words)
        return sum(
            int(n) for word, n in zip(self.words, self.counts, strict=True) if word in chosen
        )

    def row(self, word: str) -> int:
        """Return the first row, counted from 1, that contains a word."""
        return int(np.flatnonzero(self.codes == self.words.index(word))[0]) + 1


@dataclass
class Look:
    """The result of a look at a column's words: numbers, dates or times, or text.

    numerals: word -> number, if the column holds numbers.
    order: the order of day, month and year, or "clock", if it holds dates or times.
    days: the days of all words that are not absent, if it holds dates or times.
    absent: known words for missing values.
    odd: unknown words among numbers.
    remark: why a column that looks like numbers or dates is text.
    """

    numerals: dict[str, Numeral] = field(default_factory=dict)
    order: str = ""
    days: Values | None = None
    absent: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    remark: str = ""
    count: int = 0  # number of cells to which the remark applies

    @property
    def is_text(self) -> bool:
        """Whether the column is text."""
        return not (self.numerals or self.order)


def look(cells: Cells, reading: Reading) -> Look:
    """Decide whether a column of a file holds numbers, dates or text."""
    words = cells.words
    if words and {word.lower() for word in words} <= TRUTH.keys():
        return Look()
    if not any(map(_is_something, words[:_FIRST])):
        return Look()
    numerals = {}
    if any(map(numeral, words[:_FIRST])):
        numerals = {w: n for w in words if (n := numeral(w, reading.thousands)) is not None}
    others = [word for word in words if word not in numerals]
    absent = [word for word in others if is_missing_word(word)]
    odd = [word for word in others if not is_missing_word(word)]
    if not numerals:
        return _look_at_dates(odd, absent, reading)
    if odd and not _are_exceptions(cells, numerals, odd):
        count = cells.count(odd)
        if count >= cells.count(numerals):
            return Look()
        return Look(remark=f"text, as words such as {odd[0]!r} show (--numeric)", count=count)
    return _look_at_numbers(cells, numerals, absent, odd)


def _is_something(word: str) -> bool:
    return numeral(word) is not None or order_of([word]) is not None or _is_clock(word)


def _is_clock(word: str) -> bool:
    return days_of_clocks([word]) is not None


def _are_exceptions(cells: Cells, numerals: dict[str, Numeral], odd: list[str]) -> bool:
    """Whether the odd words are few and the numbers can only be quantities."""
    rare = cells.count(odd) <= _ODD_SHARE * int(cells.counts.sum())
    return len(odd) <= _MAX_ODD and rare and len(numerals) > _QUANTITY


def _look_at_numbers(
    cells: Cells, numerals: dict[str, Numeral], absent: list[str], odd: list[str]
) -> Look:
    whole = all(n.point is not None and n.point.lstrip("-").isdigit() for n in numerals.values())
    if whole and any(map(CODE.fullmatch, numerals)):
        return Look()
    if whole and any(abs(int(n.point or 0)) > EXACT for n in numerals.values()):
        return Look(absent=absent, remark=TOO_LARGE)
    marks = Counter(mark for n in numerals.values() for mark in n.marks)
    currencies = [mark for mark in marks if is_currency(mark)]
    if len(currencies) > 1:
        return Look(remark=f"text, as it holds several currencies ({', '.join(currencies)})")
    bare = [w for w, n in numerals.items() if "%" not in n.marks and set(w) - set("-+0.,")]
    if marks["%"] and bare:
        return Look(remark=f"text, as some cells have % and others, such as {bare[0]!r}, have none")
    return Look(numerals, absent=absent, odd=odd)


TOO_LARGE = "text, as whole numbers beyond 2^53 are names rather than quantities (--numeric)"


def _look_at_dates(texts: list[str], absent: list[str], reading: Reading) -> Look:
    if not texts or reading.dates == "none":
        return Look()
    days = days_of_clocks(texts)
    if days is not None:
        return Look(order=CLOCK, absent=absent, days=days)
    found = order_of(texts)
    if found is None:
        return Look()
    order, shown = found
    if has_short_year(shown):
        return Look(remark=f"text that looks like dates, {shown!r}: write years of four digits")
    if reading.dates and order != "ymd":
        order = reading.dates
    if not order:
        hint = "--dates dmy or mdy tells their order"
        return Look(remark=f"text that looks like dates, {shown!r}: {hint}, or write 2020-02-10")
    days = days_of_dates(texts, order)
    if days is None:
        return Look(remark=f"text that looks like dates, {shown!r}, but not every one exists")
    return Look(order=order, absent=absent, days=days)


def numbers_of(
    cells: Cells, order: str | None, reading: Reading, odd: Iterable[str] = ()
) -> Values | str:
    """Return a column as float64 by a settled reading, or the first word that does not fit it.

    order: the order of dates, "clock" for times, and None for numbers.
    odd: words that count as missing, besides the known ones.

    Missing values are NaN, True is 1. If no decimal mark was settled, a word must be the same
    number with "." and with "," as the mark, or a number with "." alone.
    """
    gone = {*odd, *(word for word in cells.words if word.lower() in MISSING_WORDS)}
    values = []
    for word in cells.words:
        value = np.nan if word in gone else _value(word, order, reading)
        if value is None:
            return word
        values.append(value)
    return cells.spread(values)


def _value(word: str, order: str | None, reading: Reading) -> float | None:
    if order is not None:
        days = days_of_clocks([word]) if order == CLOCK else days_of_dates([word], order)
        return None if days is None else float(days[0])
    if word.lower() in TRUTH:
        return TRUTH[word.lower()]
    found = numeral(word, reading.thousands)
    if found is None:
        return None
    if reading.point is None and found.comma is not None and found.comma != found.point:
        return None
    text = found.under(reading.point or ".")
    return None if text is None else float(text)
