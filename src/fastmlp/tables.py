"""Tables for the command line: files read into columns, whatever their format.

A column is float64 with NaN for missing values, or text with None for them; nothing else reaches
preparations.py.
"""

import csv
import difflib
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EXTENSIONS = (".csv", ".npz", ".npy", ".parquet")
DIGITS = "digits"
TRUTH = {"true": 1.0, "false": 0.0}


class TableError(ValueError):
    """The user's file or choice does not fit; the message says what to do."""


@dataclass
class Table:
    """Named columns of equal length: float64 with NaN for missing, or text with None for it."""

    source: str
    columns: dict[str, Array]
    target: str | None = None  # where the file itself says so

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def take(self, rows: Array) -> "Table":
        """The table of these rows (indices or a mask)."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Table(self.source, columns, self.target)

    def column(self, name: str, what: str = "column") -> Array:
        """A column; TableError with the near misses for an unknown name."""
        if name not in self.columns:
            raise TableError(
                f"{self.source} has no {what} {name!r}; {near_misses(name, self.columns)}"
            )
        return self.columns[name]


def near_misses(name: str, names: Sequence[str] | dict[str, Array]) -> str:
    """A question about similar names, or the names there are."""
    lower = {known.lower(): known for known in names}
    close = [lower[hit] for hit in difflib.get_close_matches(name.lower(), lower, 3, 0.5)]
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    shown = ", ".join(list(names)[:12])
    return f"it has {shown}{', ...' if len(names) > 12 else ''}"


# ---- read ----------------------------------------------------------------------------------------


def read_table(source: str, target: str | None = None, text: Sequence[str] = ()) -> Table:
    """The table in a file, or scikit-learn's digits for the word "digits".

    target matters to .npz (name of the array) and .npy (index of the column). Columns named in
    `text` are text, whatever they look like in this file; that matters to .csv. Raises TableError.
    """
    path = Path(source)
    if source == DIGITS and not path.exists():
        return _digits()
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
        table = _csv(path, text) if extension == ".csv" else readers[extension](path, target)
    except TableError:
        raise
    except OSError as error:
        raise TableError(f"{source} cannot be read: {error.strerror or _line(error)}") from None
    if not table.columns or table.rows == 0:
        raise TableError(f"{source} has no rows")
    return table


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


def _csv(path: Path, text: Sequence[str]) -> Table:
    pandas = _pandas("CSV")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            separator = max(",;\t", key=file.readline().count)
            file.seek(0)
            header = next(csv.reader(file, delimiter=separator), [])
        _check_header(path, header)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)

            def read(**options: Any) -> Any:
                # index_col=False: rows with more fields than the header are an error, not an index;
                # low_memory=False: the type is that of the whole column
                return pandas.read_csv(
                    path,
                    sep=separator,
                    index_col=False,
                    low_memory=False,
                    encoding="utf-8-sig",
                    **options,
                )

            names = [name if name else f"Unnamed: {place}" for place, name in enumerate(header)]
            as_texts = {name: str for name in names if name.strip() in text}
            frame = read(dtype=as_texts)
            _keep_codes(frame, read)
    except UnicodeDecodeError:
        raise TableError(f"{path} is not UTF-8 text; save it as UTF-8 CSV") from None
    except pandas.errors.EmptyDataError:
        raise TableError(f"{path} is empty") from None
    except pandas.errors.ParserWarning:
        raise TableError(
            f"{path} is no regular CSV: rows have more fields than the header"
        ) from None
    except (pandas.errors.ParserError, ValueError) as error:
        raise TableError(f"{path} is no regular CSV: {_line(error)}") from None
    table = _from_frame(path, frame)
    for name, values in table.columns.items():
        if values.dtype.kind == "O" and name not in text:
            table.columns[name] = _from_texts(values, separator)
    return table


def _check_header(path: Path, header: Sequence[str]) -> None:
    names = [name.strip() for name in header if name.strip()]
    for name in names:
        if names.count(name) > 1:
            raise TableError(f"{path} has two columns {name!r}; rename one")


def _keep_codes(frame: Any, read: Callable[..., Any]) -> None:
    """Columns of numbers some of which have a leading zero are codes: 007 is not 7."""
    whole = [
        place
        for place in range(frame.shape[1])
        if frame.iloc[:, place].dtype.kind in "iuf"
        and (frame.iloc[:, place].dropna() % 1 == 0).all()
    ]
    if not whole:
        return
    texts = read(usecols=whole, dtype=str)
    for column, place in enumerate(whole):
        if texts.iloc[:, column].str.match(r"\s*[+-]?0\d+\s*$").any():
            frame.isetitem(place, texts.iloc[:, column])


_DECIMAL_COMMA = re.compile(r"[+-]?\d*,?\d+(?:[eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?")


def _from_texts(texts: Array, separator: str) -> Array:
    """Numbers for decimal commas where fields end in semicolons, days for dates as Parquet has
    them; else the texts.
    """
    present = [text.strip() for text in texts if text is not None]
    if separator == ";" and any("," in text for text in present):
        if all(map(_DECIMAL_COMMA.fullmatch, present)):
            return np.array([math.nan if t is None else float(t.replace(",", ".")) for t in texts])
    elif present and all(map(_DATE.fullmatch, present)):
        try:
            stamps = [np.datetime64("NaT" if t is None else t.strip(), "us") for t in texts]
        except ValueError:  # the 30th of February
            return texts
        return _days(np.array(stamps))
    return texts


def _days(stamps: Array) -> Array:
    """Days since 1970 as float64, NaN where there is no date."""
    days = stamps.astype(np.float64) / 86_400e6
    days[np.isnat(stamps)] = math.nan
    return days


def _parquet(path: Path, target: str | None) -> Table:
    pandas = _pandas("Parquet")
    try:
        import pyarrow
    except ImportError:
        raise TableError('reading Parquet needs pyarrow; pip install "fastmlp[parquet]"') from None
    try:
        frame = pandas.read_parquet(path, engine="pyarrow")
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
    columns: dict[str, Array] = {}
    for position, name in enumerate(frame.columns):
        series = frame.iloc[:, position]
        kind = series.dtype.kind if hasattr(series.dtype, "kind") else "O"
        if kind == "M":  # dates count as days
            stamps = series.to_numpy(dtype="datetime64[us]", na_value=np.datetime64("NaT"))
            values = _days(stamps)
        elif kind in "iuf":
            values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            values = as_column(series.to_numpy(dtype=object, na_value=None))
        key = str(name).strip()
        if key in columns:
            raise TableError(f"{path} has two columns {key!r}; rename one")
        columns[key] = values
    return Table(str(path), columns)


def as_column(values: Array) -> Array:
    """Numbers as float64, everything else as text; booleans as "True" and "False"."""
    if values.dtype.kind in "iuf":
        return values.astype(np.float64)
    if values.dtype.kind not in "bOUS":
        raise TableError(f"values of type {values.dtype} cannot be used; store numbers or text")
    texts = [None if _is_missing(value) else as_text(value) for value in values.tolist()]
    kinds = {text.lower() for text in texts if text is not None}
    if kinds and kinds <= TRUTH.keys():
        texts = [None if text is None else text.capitalize() for text in texts]
    elif not any(isinstance(value, str | bytes) for value in values.tolist()):
        try:
            return np.array([math.nan if t is None else float(t) for t in texts])
        except ValueError:
            pass
    return np.array(texts, dtype=object)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_text(value: Any) -> str:
    """The value as users write it: 3, not 3.0."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


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
    columns = _from_matrix(path, X, [f"x{i}" for i in range(X.shape[1])])
    if name in arrays:
        y = arrays[name]
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.shape != (len(X),):
            raise TableError(
                f"{path}: {name} must be one value a row, ({len(X)},); its shape is {y.shape}"
            )
        columns[name] = as_column(y)
    return Table(str(path), columns, name)


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
    return Table(str(path), _from_matrix(path, array, names), names[index % width])


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
    except Exception as error:  # zipfile, zlib and struct errors: whatever broken bytes cause
        if "Object arrays" in str(error):
            raise TableError(
                f"{path} holds Python objects, which are never loaded; store numbers or text"
            ) from None
        raise TableError(f"{path} is no NumPy file, or damaged") from None


def _from_matrix(path: Path, matrix: Array, names: Sequence[str]) -> dict[str, Array]:
    if matrix.dtype.kind == "c" or matrix.dtype.names:
        raise TableError(f"{path} has type {matrix.dtype}; store real numbers or text")
    return {name: as_column(matrix[:, i]) for i, name in enumerate(names)}
