"""Tables written in the ways that people and programs write CSV, read back and compared.

`python tests/fuzz_tables.py --seconds 120` draws one way after the other and stops at the first
table that comes back different, with the seed that repeats it; test_tables.py runs the first 200.
"""

import argparse
import dataclasses
import math
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from fastmlp.tables import read_table
from fastmlp.tables.preparation import Preparation
from fastmlp.tables.table import TableError
from fastmlp.tables.targets import Target

ROWS = 40
EPOCH = datetime(1970, 1, 1)
DATES = {
    "iso": "%Y-%m-%d",
    "iso with time": "%Y-%m-%d %H:%M:%S",
    "iso with T and Z": "%Y-%m-%dT%H:%M:%SZ",
    "iso with zone": "%Y-%m-%d %H:%M:%S+00:00",
    "slashes, year first": "%Y/%m/%d",
    "day first, dots": "%d.%m.%Y",
    "day first, slashes": "%d/%m/%Y %H:%M",
    "month first": "%m/%d/%Y",
    "month first, half days": "%m/%d/%Y %I:%M %p",
    "month by name": "%d %b %Y",
    "American name": "%B %d, %Y",
}
WORDS = ["", "NA", "N/A", "nan", "NULL", "None", "?", "-", "#DIV/0!", "missing", "."]
MINUS = {"hyphen": "-", "minus sign": "\u2212", "en dash": "\u2013"}


@dataclass(frozen=True)
class Style:
    """One way to write a table."""

    separator: str
    quotes: str  # "where needed", "all", "text"
    decimal: str
    thousands: str
    minus: str
    mark: str  # what stands at a price
    missing: str
    date: str
    truth: tuple[str, str]
    encoding: str
    line_end: str
    blank_lines: str  # "none", "first", "last", "between"
    before: str  # blanks before a field
    after: str
    header: str  # "plain", "padded", "quoted"
    names_separator: bool  # Excel's line sep=;
    ends: bool  # the last line has an end


def draw_style(rng: random.Random) -> Style:
    """A style that leaves no doubt about decimals."""
    separator = rng.choice(",;\t|")
    decimal = rng.choice(".,") if separator != "," or rng.random() < 0.2 else "."
    other = "." if decimal == "," else ","
    return Style(
        separator=separator,
        quotes=rng.choice(["where needed", "where needed", "all", "text"]),
        decimal=decimal,
        thousands=rng.choice(["", "", other, " ", "\u00a0", "\u202f", "'", "\u2019"]),
        minus=rng.choice([*MINUS, "hyphen", "brackets", "behind"]),
        mark=rng.choice(["", "$", "\u20ac", " \u20ac", "%", " %", "USD ", " kr"]),
        missing=rng.choice(["", *WORDS]),
        date=rng.choice(list(DATES)),
        truth=rng.choice([("True", "False"), ("TRUE", "FALSE"), ("true", "false")]),
        encoding=rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]),
        line_end=rng.choice(["\n", "\r\n", "\r"]),
        blank_lines=rng.choice(["none", "none", "first", "last", "between"]),
        before=rng.choice(["", "", " ", "  "]),
        after=rng.choice(["", "", " "]),
        header=rng.choice(["plain", "padded", "quoted"]),
        names_separator=rng.random() < 0.1,
        ends=rng.random() < 0.8,
    )


# ---- the table -----------------------------------------------------------------------------------


def draw_columns(rng: random.Random) -> dict[str, list]:
    """Columns as Python values; None is a gap."""

    def gaps(values):
        return [None if rng.random() < 0.15 else value for value in values]

    days = [datetime(2019, 1, 1) + timedelta(days=37 * i + rng.randrange(30)) for i in range(ROWS)]
    words = rng.sample(["NA", "None", "red", "gr\u00fcn", "a, b", 'c "d"', "e; f", "-", "x|y"], 3)
    return {
        "measure": [rng.uniform(-5000, 5000) for _ in range(ROWS)],
        "price": gaps([10 ** rng.uniform(-1, 6) for _ in range(ROWS)]),
        "count": gaps([rng.randrange(-40, 40) for _ in range(ROWS)]),
        "big": [2**60 + rng.randrange(3) for _ in range(ROWS)],
        "code": [f"{rng.randrange(12):03}" for _ in range(ROWS)],
        "word": [rng.choice(words) for _ in range(ROWS)],
        "flag": [rng.random() < 0.5 for _ in range(ROWS)],
        "day": gaps(days),
        "Ma\u00df (m, kg)": [rng.choice([0.25, 0.5, 12.75]) for _ in range(ROWS)],
    }


def write_number(value: float, style: Style, places: int, mark: str = "") -> str:
    """The number as the style has it."""
    text = f"{abs(value):,.{places}f}"
    swap = {",": style.thousands, ".": style.decimal}
    body = "".join(swap.get(letter, letter) for letter in text)
    if mark in ("$", "USD ", "\u20ac"):
        body = mark + body
    else:
        body += mark
    if value >= 0:
        return body
    if style.minus == "brackets":
        return f"({body})"
    if style.minus == "behind" and not mark:
        return f"{body}-"
    return f"{MINUS.get(style.minus, '-')}{body}"


def write_cell(name: str, value, style: Style) -> str:
    if value is None:
        return style.missing
    if name in ("measure", "price"):
        return write_number(value, style, 2, style.mark if name == "price" else "")
    if name.startswith("Ma"):
        return write_number(value, style, 2)
    if name == "count":
        return write_number(value, style, 0)
    if name == "flag":
        return style.truth[0 if value else 1]
    return value.strftime(DATES[style.date]) if name == "day" else str(value)


def wanted(name: str, values: list, style: Style) -> list:
    """What must come back: floats, or texts; NaN or None for gaps."""
    if name in ("measure", "price") or name.startswith("Ma"):
        return [math.nan if v is None else float(f"{v:.2f}") for v in values]
    if name == "count":
        return [math.nan if v is None else float(v) for v in values]
    if name == "day":
        form = DATES[style.date]
        stamps = [
            None if v is None else datetime.strptime(v.strftime(form), form).replace(tzinfo=None)
            for v in values
        ]
        return [math.nan if s is None else (s - EPOCH) / timedelta(days=1) for s in stamps]
    return [str(value) for value in values]


# ---- the file ------------------------------------------------------------------------------------


def quote(text: str, style: Style, is_text: bool) -> str:
    """The field, in quotes where it needs them or the style has them."""
    special = {style.separator, '"', "\n", "\r"}
    needed = bool(special & set(text))
    if needed or style.quotes == "all" or (style.quotes == "text" and is_text):
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text


def write(path: Path, columns: dict[str, list], style: Style) -> None:
    """The table as a file."""
    names = []
    for name in columns:
        shown = quote(name, style, style.header == "quoted")
        names.append(f"{style.before}{shown}{style.after}" if style.header == "padded" else shown)
    lines = [style.separator.join(names)]
    for row in zip(*columns.values(), strict=True):
        fields = []
        for name, value in zip(columns, row, strict=True):
            text = quote(write_cell(name, value, style), style, name in ("word", "code", "day"))
            fields.append(f"{style.before}{text}{style.after}")
        lines.append(style.separator.join(fields))
    if style.names_separator:
        lines.insert(0, f"sep={style.separator}")
    elif style.blank_lines == "first":
        lines.insert(0, "")
    if style.blank_lines == "between":
        lines.insert(len(lines) // 2 + 1, "")
    if style.blank_lines == "last":
        lines += ["", ""]
    text = style.line_end.join(lines) + style.line_end * style.ends
    path.write_bytes(text.encode(style.encoding))


def differences(got: dict, columns: dict[str, list], style: Style) -> list[str]:
    """What came back other than it was written."""
    found = [] if list(got) == list(columns) else [f"columns {list(got)}"]
    for name, values in columns.items():
        want = wanted(name, values, style)
        have = got[name].tolist() if name in got else []
        same = len(have) == len(want) and all(
            a == b or (a != a and b != b) for a, b in zip(have, want, strict=True)
        )
        if not same:
            pairs = zip(want, have, strict=False)
            first = next(((w, h) for w, h in pairs if w != h and w == w), (len(want), len(have)))
            found.append(f"{name}: wrote {first[0]!r}, read {first[1]!r}")
    return found


def check(seed: int, folder: Path) -> list[str]:
    """Problems of one drawn table: as a whole, and each of three rows predicted alone."""
    rng = random.Random(seed)
    style, columns = draw_style(rng), draw_columns(rng)
    path = folder / "table.csv"
    write(path, columns, style)
    try:
        table = read_table(str(path))
        found = differences(table.columns, columns, style)
        if not found:
            values = table.columns["measure"]
            target = Target.learn("measure", "regression", values, np.arange(ROWS))
            learned = Preparation.learn(table, target, "impute")
            learned = Preparation.from_dict(learned.to_dict())
            found = alone(learned, table, columns, style, path, rng)
    except TableError as error:
        found = [f"refused: {error}"]
    return [*found, str(style), path.read_bytes()[:400].decode(style.encoding)] if found else []


def alone(learned, table, columns, style, path, rng) -> list[str]:
    """Rows that are prepared otherwise when they are alone in a file."""
    together = learned.encode(table)[0]
    for row in rng.sample(range(ROWS), 3):
        few = dataclasses.replace(style, blank_lines="none")
        write(path, {name: [values[row]] for name, values in columns.items()}, few)
        new = read_table(
            str(path), text=learned.text_columns, reading=learned.reading, settled=True
        )
        if not np.array_equal(learned.encode(new)[0][0], together[row]):
            return [f"row {row} alone differs"]
    return []


def main() -> int:
    """Run for some seconds; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, help="the first one (default: by the clock)")
    options = parser.parse_args()
    first = time.time_ns() % 10**9 if options.seed is None else options.seed
    end, seed = time.monotonic() + options.seconds, first
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end or seed == first:
            if problems := check(seed, Path(folder)):
                print(f"seed {seed}:", *problems, sep="\n  ")
                return 1
            seed += 1
    print(f"{seed - first:,} tables, seeds {first} to {seed - 1}: all came back as they were")
    return 0


if __name__ == "__main__":
    sys.exit(main())
