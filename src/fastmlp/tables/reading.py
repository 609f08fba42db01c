"""Tables for the command line: files of any supported format, read into columns.

A column is float64 with NaN, or text with None, for missing values. preparation.py relies on that.
"""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any

import numpy as np

from ..ground.arrays import Array
from .cells import CLOCK, Cells, look, numbers_of
from .csv_files import read_csv
from .moments import days_of_stamps
from .numerals import numeral
from .table import (
    Reading,
    Table,
    TableError,
    as_column,
    as_texts,
    check_choices,
    check_names,
    near_misses,
)

EXTENSIONS = (".csv", ".npz", ".npy", ".parquet")
DIGITS = "digits"


# ---- read ----------------------------------------------------------------------------------------


def read_table(
    source: str,
    target: str | None = None,
    text: Sequence[str] = (),
    reading: Reading | None = None,
    settled: bool = False,
) -> Table:
    """Return the table in a file, or scikit-learn's digits for the word "digits".

    source: the path of the file, or "digits".
    target: the name of the array in .npz, or the index of the column in .npy; other formats ignore
        it.
    text: columns that are text, whatever they look like in this file; used for .csv.
    reading: how cells are read; unset fields are found out from the file.
    settled: find nothing out: the text of the other columns stays as it is. So the reading of a row
        does not depend on other rows.

    Raises TableError for a file that cannot be read or has no rows, and for unknown columns.
    """
    path, reading = Path(source), reading or Reading()
    if source == DIGITS and not path.exists():
        return _choose(_digits(), reading)
    if path.is_dir():
        raise TableError(f"{source} is a folder; give one {', '.join(EXTENSIONS)} file in it")
    if not path.exists():
        raise TableError(f"there is no file {source}{_near_file(path)}")
    extension = path.suffix.lower()
    readers = {".parquet": _parquet, ".npz": _npz, ".npy": _npy}
    if extension not in EXTENSIONS:
        raise TableError(
            f"{source}: the extension {extension or '(none)'!r} is unknown; "
            f"use {', '.join(EXTENSIONS)}"
        )
    if path.stat().st_size == 0:
        raise TableError(f"{source} is empty")
    try:
        if extension == ".csv":
            table = read_csv(path, _pandas("CSV"), reading, text, settled)
        else:
            table = readers[extension](path, target)
    except TableError:
        raise
    except OSError as error:
        raise TableError(f"{source} cannot be read: {error.strerror or _line(error)}") from None
    table = _choose(table, reading, extension == ".csv")
    if extension != ".csv" and not settled:
        _note_numbers(table, reading)
    if not table.columns or table.rows == 0:
        raise TableError(f"{source} has no {'rows' if table.columns else 'columns left'}")
    return table


def _choose(table: Table, reading: Reading, is_csv: bool = False) -> Table:
    """Apply --drop, --categorical, --numeric and --na; `read_csv` has applied all but --numeric."""
    if not is_csv:
        check_choices(table.source, list(table.columns), reading)
        for name in reading.drop:
            del table.columns[name]
        for name in reading.categorical:
            table.columns[name] = as_texts(table.columns[name].astype(object))
            table.orders.pop(name, None)
        for name, values in table.columns.items():
            table.columns[name] = _without(values, reading.na)
    for name in reading.numeric:
        if table.columns[name].dtype.kind == "O":
            table.columns[name] = _as_asked(table, name, reading)
    return table


def _without(values: Array, na: Sequence[str]) -> Array:
    """Return the column with the words for missing values as missing values."""
    if not na:
        return values
    if values.dtype.kind == "O":
        return Cells.of(values, na).texts()
    found = [n for word in na if (n := numeral(word)) is not None and n.point is not None]
    gone = np.isin(values, [float(n.point) for n in found if n.point])
    return np.where(gone, np.nan, values)


def _note_numbers(table: Table, reading: Reading) -> None:
    """Note the columns that are text in the file although they look like numbers."""
    asked = {*reading.categorical, *reading.numeric}
    texts = {n: v for n, v in table.columns.items() if v.dtype.kind == "O" and n not in asked}
    for name, values in texts.items():
        if look(Cells.of(values), reading).numerals:
            table.note("numbers, but text in the file; --numeric reads them as numbers", name)


def _as_asked(table: Table, name: str, reading: Reading) -> Array:
    """Return a column of text as numbers; raises TableError at the first cell that is none."""
    cells = Cells.of(table.columns[name], reading.na)
    values = numbers_of(cells, None, replace(reading, decimal=table.decimal or reading.point))
    if isinstance(values, str):
        raise TableError(
            f"{table.source}: column {name!r} is to be numeric, but row {cells.row(values)} holds "
            f"{values!r}; --na {values!r} makes such cells missing"
        )
    gone = {cells.words[code] for code in cells.codes[np.isnan(values) & (cells.codes >= 0)]}
    for word in sorted(gone):
        table.note(f"{word!r} counts as missing", name, cells.count([word]))
    return values


def _near_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in EXTENSIONS]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, 3, 0.6)
    return f"; did you mean {' or '.join(str(path.parent / name) for name in close)}?" * bool(close)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _digits() -> Table:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise TableError(
            'the digits need scikit-learn; pip install "fastmlp[train]", or give --data FILE'
        ) from None
    data = load_digits()
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    columns = {name: data.data[:, i] for i, name in enumerate(names)}
    return Table("scikit-learn's digits", columns | {"digit": data.target.astype(float)}, "digit")


def _parquet(path: Path, target: str | None) -> Table:
    _pandas("Parquet")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise TableError('reading Parquet needs pyarrow; pip install "fastmlp[parquet]"') from None
    try:
        # Integers with gaps are read as objects: float64 cannot distinguish those beyond 2^53.
        frame = parquet.read_table(path).to_pandas(
            integer_object_nulls=True, date_as_object=False, timestamp_as_object=False
        )
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise TableError(f"{path} is no Parquet file, or damaged: {_line(error)}") from None
    return _from_frame(path, frame)


def _pandas(what: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise TableError(f'reading {what} needs pandas; pip install "fastmlp[train]"') from None
    return pandas


def _from_frame(path: Path, frame: Any) -> Table:
    """Return the named levels of a frame's index, followed by its columns."""
    table = Table(str(path), {})
    levels = [place for place, name in enumerate(frame.index.names) if name is not None]
    series = [frame.index.get_level_values(place).to_series(index=frame.index) for place in levels]
    series += [frame.iloc[:, place] for place in range(frame.shape[1])]
    names = [frame.index.names[place] for place in levels] + list(frame.columns)
    keys = [str(name).strip() or f"Unnamed: {place}" for place, name in enumerate(names)]
    check_names(str(path), keys)
    if len(levels) < frame.index.nlevels and type(frame.index).__name__ != "RangeIndex":
        table.note("an index without a name is left out")
    for key, column in zip(keys, series, strict=True):
        _put(table, key, _of_series(column))
    table.nameless = {k for k, n in zip(keys, names, strict=True) if not str(n).strip()}
    return table


def _of_series(series: Any) -> Array:
    kind = getattr(series.dtype, "kind", "O")
    if kind in "Mm":
        unit = "datetime64" if kind == "M" else "timedelta64"
        values = series.to_numpy(dtype=f"{unit}[us]", na_value=getattr(np, unit)("NaT"))
    elif kind == "f":
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    elif kind in "iu" and not series.hasnans:
        values = series.to_numpy(dtype=f"{kind}8")
    else:
        values = series.to_numpy(dtype=object, na_value=None)
    return np.asarray(values)


def _put(table: Table, name: str, values: Array) -> None:
    """Add a column as days (for dates and durations), as numbers or as text."""
    if values.dtype.kind in "Mm":
        unit = "datetime64[us]" if values.dtype.kind == "M" else "timedelta64[us]"
        table.columns[name] = days_of_stamps(values.astype(unit))
        table.orders[name] = "ymd" if values.dtype.kind == "M" else CLOCK
        return
    column = as_column(values)
    if any(isinstance(value, time) for value in values.tolist()[:1000] if values.dtype.kind == "O"):
        times = numbers_of(Cells.of(column), CLOCK, Reading())
        if not isinstance(times, str):
            column, table.orders[name] = times, CLOCK
    table.columns[name] = column


def _npz(path: Path, target: str | None) -> Table:
    arrays = _load_numpy(path)
    name = target or "y"
    if "X" not in arrays:
        raise TableError(f'{path} has no array "X"; it has {", ".join(arrays) or "none"}')
    if name not in arrays and target is not None:
        raise TableError(f"{path} has no array {name!r}; {near_misses(name, arrays)}")
    X = arrays["X"]
    if X.ndim > 2:
        X = X.reshape(len(X), -1)
    if X.ndim != 2:
        raise TableError(f"{path}: X must be (rows, features), its shape is {X.shape}")
    table = Table(str(path), {}, name)
    _put_matrix(table, X, [f"x{i}" for i in range(X.shape[1])])
    if name in arrays:
        y = arrays[name]
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.shape != (len(X),):
            raise TableError(
                f"{path}: {name} must be one value a row, ({len(X)},); its shape is {y.shape}"
            )
        _put(table, name, y)
    return table


def _npy(path: Path, target: str | None) -> Table:
    array = _load_numpy(path)["array"]
    if array.ndim != 2 or array.shape[1] == 0:
        raise TableError(f"{path}: expected a (rows, columns) array, its shape is {array.shape}")
    width = array.shape[1]
    index = -1
    if target is not None:
        try:
            index = int(target)
        except ValueError:
            raise TableError(f"{path}: --target is a column index here, not {target!r}") from None
    if not -width <= index < width:
        raise TableError(f"{path} has columns 0 .. {width - 1}, no column {index}")
    names = [f"column_{i}" for i in range(width)]
    table = Table(str(path), {}, names[index % width])
    _put_matrix(table, array, names)
    return table


def _load_numpy(path: Path) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"array": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        if error.errno is not None:
            raise
        raise TableError(f"{path} is no NumPy file, or damaged") from None
    except Exception as error:  # broken bytes cause zipfile, zlib, struct and other errors
        if "Object arrays" in str(error):
            raise TableError(
                f"{path} holds Python objects, which are never loaded; store numbers or text"
            ) from None
        raise TableError(f"{path} is no NumPy file, or damaged") from None


def _put_matrix(table: Table, matrix: Array, names: Sequence[str]) -> None:
    if matrix.dtype.kind == "c" or matrix.dtype.names:
        raise TableError(f"{table.source} has type {matrix.dtype}; store real numbers or text")
    for place, name in enumerate(names):
        _put(table, name, matrix[:, place])
