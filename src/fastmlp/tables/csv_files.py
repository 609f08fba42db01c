"""CSV files: their decimal mark, and which of their columns are numbers, dates or text.

pandas parses the file. The columns that it leaves as text are inspected word by word, with the same
decimal mark for the whole file.
"""

import csv
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..ground.arrays import Array
from .cells import CLOCK, Cells, Look, look
from .csv_dialects import may_hold_codes, sniff
from .numerals import CODE, numeral
from .table import EXACT, Reading, Table, TableError, check_choices, check_names, is_beyond


def read_csv(
    path: Path, pandas: Any, reading: Reading, text: Iterable[str] = (), settled: bool = False
) -> Table:
    """Return the table in a CSV file.

    path: the file.
    pandas: the module, imported by the caller.
    reading: how cells are read.
    text: columns that are text, whatever they look like.
    settled: leave the text of the other columns as it is, and decide nothing about them.

    Raises TableError.
    """
    try:
        file = _CsvFile(path, pandas, reading, {*text, *reading.categorical}, settled)
        return file.table()
    except UnicodeError:
        raise TableError(f"{path} is not UTF-8 text; save it as UTF-8 CSV") from None
    except pandas.errors.EmptyDataError:
        raise TableError(f"{path} is empty") from None
    except pandas.errors.ParserWarning:
        raise TableError(
            f"{path} is no regular CSV: rows have more fields than the header"
        ) from None
    except TableError:
        raise
    except (pandas.errors.ParserError, csv.Error, ValueError, OverflowError) as error:
        raise TableError(f"{path} is no regular CSV: {' '.join(str(error).split())}") from None


# In cells, one a line. Blanks only: \s would also run over the lines of missing cells.
_SOME_CODE = re.compile(rf"(?m)^[^\S\n]*{CODE.pattern}[^\S\n]*$")


@dataclass
class _Proof:
    """Cells as evidence for the decimal mark: mark -> (column, cell).

    `shown` are cells that only one mark fits, `unclear` are cells that both marks fit.
    """

    shown: dict[str, tuple[str, str]] = field(default_factory=dict)
    unclear: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, name: str, column: Look, by_length: bool) -> None:
        """Add the evidence of a column of numbers.

        by_length: count 1234 beside 1.234 as evidence that the column has no thousands marks.
        """
        unclear = {}
        for word, n in column.numerals.items():
            if n.point is None or n.comma is None:
                self.shown.setdefault("," if n.point is None else ".", (name, word))
            elif n.point != n.comma:
                unclear["," if "," in word else "."] = (name, word)
        if by_length and any(word.isdigit() and len(word) > 3 for word in column.numerals):
            self.shown = unclear | self.shown
        else:
            self.unclear = unclear | self.unclear


class _CsvFile:
    """One file while it becomes a table; columns are identified by their index."""

    def __init__(
        self, path: Path, pandas: Any, reading: Reading, text: set[str], settled: bool
    ) -> None:
        self.path, self.pandas, self.reading, self.settled = path, pandas, reading, settled
        self.dialect = sniff(path)
        header = self.dialect.header
        self.names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
        check_names(str(path), self.names)
        check_choices(str(path), self.names, reading)
        dropped = set(reading.drop)
        self.kept = [p for p, name in enumerate(self.names) if name not in dropped]
        self.text = [place for place in self.kept if self.names[place] in text]
        self.beyond = set[int]()  # whole numbers that float64 would confuse
        self.source_table = Table(str(path), {})
        self.source_table.nameless = {n for n, h in zip(self.names, header, strict=True) if not h}

    def table(self) -> Table:
        """Read the file, decide what each column is, and convert it."""
        table, decimal = self.source_table, self.reading.point
        if self.settled:
            numbers, cells = self._parse(decimal or ".")
            looks: dict[int, Look] = {}
        else:
            numbers, cells, looks, decimal = self._find_out(decimal)
        table.decimal = decimal
        for place in self.kept:
            name = self.names[place]
            if place not in cells:
                values = numbers[place].astype(np.float64)
            elif (seen := looks.get(place, Look())).is_text:
                values = self._text(name, cells[place], seen)
            elif seen.order:
                values = self._days(name, cells[place], seen)
            else:
                values = self._numbers(name, cells[place], seen, decimal or ".")
            table.columns[name] = values
        return table

    # ---- read ------------------------------------------------------------------------------------

    def _read(self, decimal: str, as_text: Sequence[int], only: bool = False) -> Any:
        """pandas' frame, with `as_text` as they stand; only: no other columns."""
        # one type, or None, where that will do: with a dict pandas makes a Series of every column
        types = str if only else dict.fromkeys(as_text, str) or None
        with warnings.catch_warnings():
            warnings.simplefilter("error", self.pandas.errors.ParserWarning)
            # index_col=False makes rows with more fields than the header an error, not an index.
            # low_memory=False makes pandas choose one type for the whole column.
            return self.pandas.read_csv(
                self.path,
                sep=self.dialect.separator,
                skiprows=self.dialect.skipped,
                header=0,
                names=range(len(self.names)),
                index_col=False,
                low_memory=False,
                encoding=self.dialect.encoding,
                skipinitialspace=True,
                keep_default_na=False,
                na_values=["", *self.reading.na],
                decimal=decimal,
                dtype=types,
                usecols=list(as_text) if only else None,
            )

    def _parse(self, decimal: str) -> tuple[dict[int, Array], dict[int, Cells]]:
        """Return the columns that pandas reads as numbers, and the cells of the others."""
        frame = self._read(decimal, self.text)
        numbers: dict[int, Array] = {}
        self.beyond = set[int]()
        kinds = list(frame.dtypes)
        for kind in {
            kinds[place] for place in self.kept
        }:  # at once, since a frame's columns cost much one by one
            if kind.kind in "iuf":
                places = [place for place in self.kept if kinds[place] == kind]
                is_all = len(places) == len(kinds)
                block = np.asfortranarray((frame if is_all else frame[places]).to_numpy())
                numbers |= {place: block[:, i] for i, place in enumerate(places)}
                if kind.kind in "iu" and is_beyond(block):
                    self.beyond.update(p for p in places if is_beyond(numbers[p]))
        texts = {p: self._cells(frame[p]) for p in self.kept if p not in numbers}
        return numbers, texts

    def _cells(self, series: Any) -> Cells:
        codes, words = self.pandas.factorize(series)
        return Cells(codes, [str(word) for word in words], self.reading.na)

    def _texts(self, places: Sequence[int]) -> dict[int, Cells]:
        """Return the cells, as in the file, of columns that pandas read as numbers."""
        if not places:
            return {}
        frame = self._read(".", places, only=True)
        return {place: self._cells(frame[place]) for place in places}

    def _find_out(
        self, decimal: str | None
    ) -> tuple[dict[int, Array], dict[int, Cells], dict[int, Look], str | None]:
        """Return (numbers, cells, looks, decimal mark).

        If the columns show another mark than the first rows did, the file is read again.
        """
        mark = decimal or self.dialect.decimal
        for _ in range(3):
            numbers, cells = self._parse(mark)
            cells |= self._names_of_digits(numbers, cells)
            looks = {place: self._look(place, cells[place]) for place in cells}
            if decimal is not None:
                break
            found = self._decide(numbers, cells, looks, mark)
            if (found or ".") == mark:
                decimal = found
                break
            mark = found or "."
        return numbers, cells, looks, decimal

    def _names_of_digits(
        self, numbers: dict[int, Array], cells: dict[int, Cells]
    ) -> dict[int, Cells]:
        """Return the columns of whole numbers that are names, not quantities.

        007 is not 7, and float64 cannot distinguish whole numbers beyond 2^53.
        """
        codes = may_hold_codes(self.path, self.dialect)
        large, others = list[int](), list[int]()
        for place in self.kept:
            if place in cells or self.names[place] in self.reading.numeric:
                continue
            values = numbers[place]
            if values.dtype.kind in "iu":
                (large if place in self.beyond else others).append(place)
                continue
            is_large = np.nanmax(np.abs(values), initial=0) > EXACT
            if not codes and not is_large:
                continue
            with np.errstate(invalid="ignore"):
                if (values[np.isfinite(values)] % 1 == 0).all():
                    (large if is_large else others).append(place)
        if codes:
            large += self._with_codes(others)
        found = {}
        for place, column in self._texts(large).items():
            if any(map(CODE.fullmatch, column.words)) or look(column, self.reading).is_text:
                found[place] = column
        return found

    def _with_codes(self, places: Sequence[int]) -> list[int]:
        """Those of the columns in which some cell may be one: the others, most of a wide file, are
        not looked at word by word.
        """
        if not places:
            return []
        block = self._read(".", places, only=True).to_numpy(dtype=object, na_value="")
        columns = zip(places, block.T, strict=True)
        return [place for place, column in columns if _SOME_CODE.search("\n".join(column))]

    def _look(self, place: int, column: Cells) -> Look:
        if place in self.text:
            return Look()
        seen, point = look(column, self.reading), self.reading.point
        if point is not None and seen.numerals:
            bad = [word for word, n in seen.numerals.items() if n.under(point) is None]
            if bad:
                remark = f"text, as {bad[0]!r} is no number where {point!r} is decimal"
                return Look(remark=remark, count=column.count(bad))
        return seen

    # ---- the decimal mark ------------------------------------------------------------------------

    def _decide(
        self,
        numbers: dict[int, Array],
        cells: dict[int, Cells],
        looks: dict[int, Look],
        mark: str,
    ) -> str | None:
        """Return the decimal mark, or None if no cell shows it.

        Raises TableError if cells contradict each other, or if both marks fit all of them.
        """
        by_length = self.dialect.separator != ","
        proof = _Proof()
        for place, seen in looks.items():
            proof.add(self.names[place], seen, by_length)
        floats = [p for p, v in numbers.items() if p not in cells and v.dtype.kind == "f"]
        for place in floats:  # read with `mark`
            if mark not in proof.shown and _has_clear_decimals(numbers[place]):
                proof.shown[mark] = (self.names[place], "")
        other = "." if mark == "," else ","
        if (not proof.shown and by_length) or (other in proof.shown and mark not in proof.shown):
            for place, column in self._texts(floats).items():
                proof.add(self.names[place], look(column, self.reading), by_length)
        if len(proof.shown) > 1:
            (a, cell), (b, other) = (
                (name, cell or self._clear_cell(name, mark))
                for mark, (name, cell) in sorted(proof.shown.items(), reverse=True)
            )
            raise TableError(
                f"{self.path}: {cell!r} in column {a!r} and {other!r} in column {b!r} cannot both "
                "be decimal; give --decimal . or --decimal , or keep one as text with --categorical"
            )
        if "," in proof.shown:
            name, cell = proof.shown[","]
            what = "commas are decimal" + f", as {cell!r} shows" * bool(cell) + " (--decimal)"
            if mark == ",":  # this call is the last, so the note is made once
                self.source_table.note(what, name)
        if proof.shown:
            return next(iter(proof.shown))
        return self._presume(proof.unclear)

    def _presume(self, unclear: dict[str, tuple[str, str]]) -> str | None:
        """Return the decimal mark if every mark could also be a thousands mark."""
        separator = self.dialect.separator
        if not unclear or separator == ",":
            return "." if unclear else None
        mark, (name, cell) = next(iter(unclear.items()))
        if separator != ";" and mark == "." and len(unclear) == 1:
            what = (
                f"{cell!r} is read as {_read_as(cell)}; --decimal , if it is {_read_as(cell, ',')}"
            )
            self.source_table.note(what, name)
            return "."
        other = "." if mark == "," else ","
        raise TableError(
            f"{self.path}: {cell!r} in column {name!r} is either {_read_as(cell)} or "
            f"{_read_as(cell, ',')}, and nothing in the file tells; give --decimal {mark} or "
            f"--decimal {other}"
        )

    def _clear_cell(self, name: str, mark: str) -> str:
        """Return a cell of a column of numbers that shows the decimal mark."""
        place = self.names.index(name)
        column = self._texts([place])[place]
        proof = _Proof()
        proof.add("", look(column, self.reading), False)
        return proof.shown.get(mark, ("", column.words[0]))[1]

    # ---- convert ---------------------------------------------------------------------------------

    def _text(self, name: str, column: Cells, seen: Look) -> Array:
        if seen.remark:
            self.source_table.note(seen.remark, name, seen.count)
        self._tell_missing(name, column, seen)
        return column.without(seen.absent).texts()

    def _tell_missing(self, name: str, column: Cells, seen: Look) -> None:
        for word in seen.absent:
            self.source_table.note(f"{word!r} counts as missing", name, column.count([word]))
        for word in seen.odd:
            what = f"{word!r} is no number and counts as missing (--categorical keeps it)"
            self.source_table.note(what, name, column.count([word]))
        if seen.odd:
            self.source_table.odd[name] = seen.odd

    def _days(self, name: str, column: Cells, seen: Look) -> Array:
        self._tell_missing(name, column, seen)
        present = column.without(seen.absent)
        if seen.order == CLOCK:
            self.source_table.note("times count in days", name)
        else:
            order = {"dmy": ", day first", "mdy": ", month first"}.get(seen.order, "")
            self.source_table.note(f"dates count in days since 1970{order}", name)
        assert seen.days is not None
        self.source_table.orders[name] = seen.order
        return present.spread(seen.days)

    def _numbers(self, name: str, column: Cells, seen: Look, decimal: str) -> Array:
        self._tell_missing(name, column, seen)
        marks: Counter[str] = Counter()
        other = "." if decimal == "," else ","
        values = []
        for word, count in zip(column.words, column.counts, strict=True):
            numeral = seen.numerals.get(word)
            text = numeral and numeral.under(decimal)
            values.append(float(text) if text else np.nan)
            if numeral:
                marks.update(dict.fromkeys(numeral.marks, int(count)))
                marks[f"{other} between thousands"] += int(count) * (other in word)
        for mark, count in marks.items():
            if count:
                what = mark if "between" in mark else f"{mark} in numbers"
                self.source_table.note(f"{what} left out", name, count)
        return column.spread(values)


def _read_as(cell: str, decimal: str = ".") -> str | None:
    found = numeral(cell)
    return None if found is None else found.under(decimal)


def _has_clear_decimals(values: Array) -> bool:
    """Whether the decimals of a column cannot be groups of three digits."""
    present = values[np.isfinite(values)]
    parts = np.abs(present[present % 1 != 0])
    thousands = parts * 1000
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(thousands - np.round(thousands)) > 1e-9 * thousands
    return bool((parts < 1).any() or off.any())
