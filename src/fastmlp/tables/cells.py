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
_FIRST = 300  # words that tell whether a long column is worth a closer look
_MAX_ODD = 5  # different words that may stand between numbers without being known for "missing"
_ODD_SHARE = 0.1
_QUANTITY = 20  # with fewer different numbers, a column may be codes


class Cells:
    """The different texts of a column, stripped, and where they stand; codes are -1 where there is
    none.
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
        """From text with None for missing."""
        index: dict[str, int] = {}
        codes = [-1 if v is None else index.setdefault(v, len(index)) for v in values.tolist()]
        return cls(np.array(codes, np.intp), list(index), na)

    def spread(self, values: Values | list[float]) -> Values:
        """A number for every row, from those of the words; NaN where there is none."""
        return np.append(np.asarray(values, np.float64), np.nan)[self.codes]

    def texts(self) -> Array:
        """The texts, None where there is none; truth values as "True" and "False"."""
        words: list[str | None] = [*self.words]
        if words and {word.lower() for word in self.words} <= TRUTH.keys():
            words = [word.capitalize() for word in self.words]
        return np.array([*words, None], dtype=object)[self.codes]

    def without(self, gone: Iterable[str]) -> "Cells":
        """The same with some words missing."""
        return Cells(self.codes, self.words, gone)

    def count(self, words: Iterable[str]) -> int:
        """How many cells hold one of these words."""
        chosen = set(words)
        return sum(
            int(n) for word, n in zip(self.words, self.counts, strict=True) if word in chosen
        )

    def row(self, word: str) -> int:
        """The first row, from 1, that holds a word."""
        return int(np.flatnonzero(self.codes == self.words.index(word))[0]) + 1


@dataclass
class Look:
    """What a column's words are: `numerals` if they are numbers, `order` if they are dates (or
    "clock"), with the `days` of all words that are not absent; neither for text. `absent` are known
    words for missing values, `odd` others between numbers. `remark` says why a column that looks
    like numbers or dates is text.
    """

    numerals: dict[str, Numeral] = field(default_factory=dict)
    order: str = ""
    days: Values | None = None
    absent: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    remark: str = ""
    count: int = 0  # cells that the remark is about

    @property
    def is_text(self) -> bool:
        """Whether the words are words."""
        return not (self.numerals or self.order)


def look(cells: Cells, reading: Reading) -> Look:
    """What a column of a file looks like."""
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
    """Whether few odd words stand between what can only be quantities."""
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
    """A column as float64 by a settled reading, or the first word that has no place in it.

    order: of dates and times, None for numbers. Words for missing values, and `odd` ones, are NaN;
    True is 1. Where the mark of decimals was never settled, only what both marks agree on, or "."
    alone allows, is a number.
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
