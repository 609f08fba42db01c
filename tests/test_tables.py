"""Tables and what prepares them: dialects, tasks, splits, and the way through JSON."""

import json

import numpy as np
import pytest

from fastmlp.cli.splits import split_rows
from fastmlp.tables import read_table
from fastmlp.tables.preparation import Preparation
from fastmlp.tables.table import Table, TableError, as_column
from fastmlp.tables.targets import Target, infer_task


@pytest.mark.parametrize("seed", range(3))
def test_split_is_stratified_complete_and_gives_every_class_to_training(seed, rng):
    labels = np.concatenate([np.zeros(150, int), np.ones(45, int), [2, 2, 3]])
    rng.shuffle(labels)
    parts = split_rows(labels, len(labels), 0.1, 0.2, seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert abs(len(parts[2]) - 40) <= 2
    assert set(labels[parts[0]]) == {0, 1, 2, 3}
    for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
        assert abs(np.sum(labels[part] == 0) - 150 * share) <= 2
        assert abs(np.sum(labels[part] == 1) - 45 * share) <= 2


def test_preparation_learns_from_training_rows_and_survives_json():
    table = Table("t", {"a": np.array([1.0, 3.0, np.nan, 3.0]), "y": np.arange(4.0)})
    target = Target.learn("y", "regression", table.columns["y"], np.arange(4))
    learned = Preparation.learn(table, target, "impute")
    copy = Preparation.from_dict(json.loads(json.dumps(learned.to_dict())))
    new = Table("n", {"a": np.array([np.inf, 2.5, 1e9])})
    matrix, counts = copy.encode(new)
    assert counts == {"missing": {"a": 1}, "unknown": {}, "clipped": {"a": 1}}
    filled = np.array([1.0, 3.0, 3.0, 3.0])
    assert matrix[0, 0] == pytest.approx((3 - filled.mean()) / filled.std())
    assert matrix[1, 0] == pytest.approx(0)
    assert np.isfinite(matrix).all()


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no", "no", "yes"], "binary"),
        ([True, False, True, True], "binary"),
        (list("abcabc"), "multiclass"),
        ([0, 1, 2] * 10, "multiclass"),
        (list(range(50)), "regression"),
        ([100, 200, 350, 120], "regression"),
        ([0.5, 1.5, 2.25], "regression"),
    ],
)
def test_task_is_inferred(values, task):
    assert infer_task("y", as_column(np.array(values)), None)[0] == task


def test_csv_dialects(tmp_path):
    pytest.importorskip("pandas")
    path = tmp_path / "semicolon.csv"
    path.write_bytes("\ufeffa;b\n1;x\n;\n".encode())
    columns = read_table(str(path)).columns
    assert np.array_equal(columns["a"], [1, np.nan], equal_nan=True)
    assert columns["b"].tolist() == ["x", None]


def columns_of(path, content, **options):
    pytest.importorskip("pandas")
    path.write_text(content)
    return read_table(str(path), **options).columns


def test_codes_with_leading_zeros_are_text(tmp_path):
    content = "code,n,x,gap\n0123,1,0.5,01\n0777,20,00.5,\n"
    columns = columns_of(tmp_path / "a.csv", content)
    assert columns["code"].tolist() == ["0123", "0777"]
    assert columns["gap"].tolist() == ["01", None]
    assert columns["n"].tolist() == [1.0, 20.0]
    assert columns["x"].tolist() == [0.5, 0.5]
    columns = columns_of(tmp_path / "a.csv", content, text=["n"])
    assert columns["n"].tolist() == ["1", "20"]


def test_a_long_column_has_one_type(tmp_path):
    # pandas infers by pieces of some hundred thousand rows unless it is told not to
    lines = ["c,d,e,f", *["01,1.5,1.5,1.5"] * 300_000, "A,1,1,1"]
    code = columns_of(tmp_path / "a.csv", "\n".join(lines))["c"]
    assert set(code.tolist()) == {"01", "A"}


def test_decimal_commas_between_semicolons(tmp_path):
    columns = columns_of(tmp_path / "a.csv", "x;y;z\n1,5;2,5 kg;1\n-2e3;3;2\n;4;3\n")
    assert np.array_equal(columns["x"], [1.5, -2000, np.nan], equal_nan=True)
    assert columns["y"].tolist() == ["2,5 kg", "3", "4"]
    columns = columns_of(tmp_path / "a.csv", 'x,y\n"1,5",2\n"2,5",3\n')
    assert columns["x"].tolist() == [1.5, 2.5]


def test_dates_are_days_in_every_format(tmp_path):
    pandas = pytest.importorskip("pandas")
    content = "day,not\n2024-02-29,2024-02-30\n1970-01-02 12:00,2024-01-01\n,2024-01-01\n"
    columns = columns_of(tmp_path / "a.csv", content)
    assert np.array_equal(columns["day"], [19782, 1.5, np.nan], equal_nan=True)
    assert columns["not"].tolist()[0] == "2024-02-30"
    pytest.importorskip("pyarrow")
    days = pandas.to_datetime(["2024-02-29", "1970-01-02 12:00", None], format="mixed")
    pandas.DataFrame({"day": days}).to_parquet(tmp_path / "a.parquet")
    table = read_table(str(tmp_path / "a.parquet"))
    assert np.array_equal(table.columns["day"], columns["day"], equal_nan=True)


def test_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(TableError, match="two columns 'a'"):
        columns_of(tmp_path / "a.csv", "a,b,a\n1,2,3\n")


@pytest.mark.parametrize("asked", [(), ("c7",)], ids=["", "one column as text"])
def test_a_wide_file_is_read_as_a_narrow_one(tmp_path, asked):
    """Its first rows are thousands of cells, and its whole numbers are looked at together."""
    pytest.importorskip("pandas")
    width, rows = 3000, 40
    cells = [[f"{row * column % 256}" for column in range(width)] for row in range(rows)]
    cells[-1][3], cells[-1][4], cells[-1][5] = "1,5", f"{2**60 + 1}", "007"
    names = [f"c{column}" for column in range(width)]
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(map(";".join, [names, *cells])) + "\n")
    table = read_table(str(path), text=asked)
    assert table.decimal == ","
    assert table.columns["c3"].tolist() == [3.0 * row % 256 for row in range(rows - 1)] + [1.5]
    texts = {"c4": 4, "c5": 5} | dict.fromkeys(asked, 7)
    for name, column in texts.items():
        assert table.columns[name].tolist() == [row[column] for row in cells]
    for name in table.columns.keys() - texts.keys() - {"c3"}:
        column = int(name[1:])
        assert table.columns[name].tolist() == [row * column % 256 for row in range(rows)]
