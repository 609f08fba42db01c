"""The dialect of a CSV file: its encoding, its separator and the names in its header."""

import csv
import io
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .numerals import numeral
from .table import TableError

SEPARATORS = ",;\t|"
_SAMPLE_BYTES = 1 << 18
_SAMPLE_ROWS = 100
_SAMPLE_CELLS = 2000
_LEAST_ROWS, _MOST_CELLS = 10, 10 * _SAMPLE_CELLS  # of a wide file so many rows will do
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass
class Dialect:
    """How the fields of a file are found.

    skipped: the number of lines before the header.
    header: the names of the columns.
    decimal: the decimal mark, guessed from the first rows.
    """

    encoding: str
    separator: str
    skipped: int
    header: list[str]
    decimal: str


def sniff(path: Path) -> Dialect:
    """Return the dialect of a file; raises TableError if its header cannot be read."""
    with open(path, "rb") as file:
        encoding = "utf-16" if file.read(2) in _UTF16 else "utf-8-sig"
    size = _SAMPLE_BYTES
    while True:  # until the header fits
        with open(path, encoding=encoding, newline="") as stream:
            head = stream.read(size)
            is_all = not stream.read(1)
        if "\0" in head:
            raise TableError(
                f"{path} holds zero bytes, so it is no UTF-8 text; save it as UTF-8 CSV"
            )
        skipped, separators = 0, SEPARATORS
        if named := re.match(r"\ufeff?\"?sep=(.)\"?[,;]*[ \t]*(\r\n|\r|\n)", head, re.IGNORECASE):
            head, skipped, separators = head[named.end() :], 1, named[1]
        samples = {mark: _records(head, mark, is_all) for mark in separators}
        if is_all or any(len(rows) > 1 for rows in samples.values()):
            break
        size *= 8
    best = max(separators, key=lambda mark: _score(samples[mark], separators))
    rows = samples[best]
    if not rows or (len(rows[0]) == 1 and not all(samples.values())):
        raise TableError(
            f"{path}: its header cannot be read; a quote in it is never closed, or a name is "
            f"longer than {csv.field_size_limit():,} characters"
            if head.strip()
            else f"{path} is empty"
        )
    return Dialect(encoding, best, skipped, [name.strip() for name in rows[0]], _guess(rows[1:]))


def _records(head: str, separator: str, is_all: bool) -> list[list[str]]:
    """Return the first records that are not blank."""
    rows: list[list[str]] = []
    cells = 0
    # a text above the limit of csv, which pandas takes, ends the sample
    with suppress(csv.Error):
        lines = io.StringIO(head, newline="")
        for row in csv.reader(lines, delimiter=separator, skipinitialspace=True):
            if len(row) > 1 or any(cell.strip() for cell in row):
                rows.append(row)
                cells += len(row)
            if len(rows) > _SAMPLE_ROWS or (len(rows) > _LEAST_ROWS and cells > _MOST_CELLS):
                return rows
        if not is_all:
            rows.pop()  # the sample may end in the middle of this record
    return rows


def _score(rows: list[list[str]], separators: str) -> tuple[bool, float, float, int]:
    """Rate a separator: by rows as wide as the header, and cells without another separator."""
    if not rows:
        return False, 0.0, 0.0, 0
    width, below = len(rows[0]), rows[1:]
    even = sum(len(row) == width for row in below) / len(below) if below else 1.0
    cells = [cell for row in below for cell in row][:_SAMPLE_CELLS]
    others = set(separators)
    clean = sum(others.isdisjoint(c) or numeral(c.strip()) is not None for c in cells)
    return width > 1, even, clean / len(cells) if cells else 1.0, width


def _guess(rows: list[list[str]]) -> str:
    """Guess the decimal mark from the cells that show it; whole columns are checked later."""
    cells = [cell.strip() for row in rows for cell in row if "," in cell or "." in cell]
    found = [numeral(cell) for cell in cells[:_SAMPLE_CELLS]]
    commas = sum(n is not None and n.point is None for n in found)
    points = sum(n is not None and n.comma is None for n in found)
    return "," if commas > points else "."


# ---- bytes ---------------------------------------------------------------------------------------


def may_hold_codes(path: Path, dialect: Dialect) -> bool:
    """Whether a field begins with 0 and another digit; much cheaper than parsing the file."""
    if dialect.encoding == "utf-16":
        return True
    starts = np.zeros(256, bool)
    starts[list(b'\n\r" ' + dialect.separator.encode())] = True
    sign = np.zeros(256, bool)
    sign[list(b"+-")] = True
    tail = b"\n\n"
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            data = np.frombuffer(tail + chunk, np.uint8)
            zero = (data[2:-1] == ord("0")) & (data[3:] - np.uint8(ord("0")) < 10)
            places = np.flatnonzero(zero) + 1  # index of the byte before the 0
            first = starts[data[places]] | (sign[data[places]] & starts[data[places - 1]])
            if first.any():
                return True
            tail = (tail + chunk)[-3:]
    return False
