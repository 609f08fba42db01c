"""How cells become numbers, dates or words: what people write, and what must be told."""

import numpy as np
import pytest
from fuzz_tables import check

from fastmlp.tables import TableError, read_table

pandas = pytest.importorskip("pandas")


@pytest.fixture
def read(tmp_path):
    def read(content, **options):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(str(path), **options)

    return read


def told(table):
    return [f"{note.what}: {note.column} ({note.cells})" for note in table.notes]


def equal(values, wanted):
    assert values.dtype.kind == "f", values[:5]
    assert np.array_equal(values, np.array(wanted, float), equal_nan=True), values


NAN = float("nan")


@pytest.mark.parametrize("start", range(0, 200, 25))
def test_tables_written_in_200_ways_come_back(start, tmp_path):
    for seed in range(start, start + 25):
        assert check(seed, tmp_path) == [], seed


# ---- missing values ------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["NA", "None", "null", "nan", "N/A", "-", "?"])
def test_words_are_words_in_a_column_of_words(word, read):
    table = read(f"a,b\n{word},1\nx,2\n,3\n{word},4\n")
    assert table.columns["a"].tolist() == [word, "x", None, word]
    assert told(table) == []


@pytest.mark.parametrize(
    "word", ["NA", "n/a", "None", "?", "-", "--", ".", "unknown", "#DIV/0!", "#NV", "NaN", "\u2014"]
)
def test_words_between_numbers_are_missing_and_named(word, read):
    table = read(f"a,b\n1.5,1\n{word},2\n2.5,3\n{word} ,4\n")
    equal(table.columns["a"], [1.5, NAN, 2.5, NAN])
    assert told(table) == [f"{word!r} counts as missing: a (2)"]


def test_other_words_between_many_quantities_are_missing_and_named(read):
    rows = [str(i * 1.5) for i in range(60)]
    rows[7] = rows[40] = "out of range"
    table = read("a\n" + "\n".join(rows) + "\n")
    assert np.isnan(table.columns["a"]).sum() == 2
    assert "'out of range' is no number" in told(table)[0]
    assert told(table)[0].endswith("a (2)")
    # few numbers may be codes, and many words are a vocabulary: they stay, with a line
    table = read("a\n" + "\n".join(["4", "6", "8", "rotary"] * 9 + ["6"] * 30) + "\n")
    assert set(table.columns["a"]) == {"4", "6", "8", "rotary"}
    assert "'rotary'" in told(table)[0]
    table = read("a\n" + "\n".join(f"{i}a" if i % 7 == 0 else str(i) for i in range(90)) + "\n")
    assert table.columns["a"][7] == "7a"
    assert told(table)[0].endswith("a (13)")


def test_words_of_ones_own_are_missing_everywhere(read):
    from fastmlp.tables.table import Reading

    table = read("a,c\n1,x\n-999,-999\nk,y\n", reading=Reading(na=("-999", "k")))
    equal(table.columns["a"], [1, NAN, NAN])
    assert table.columns["c"].tolist() == ["x", None, "y"]


def test_other_formats_have_words_for_missing_and_numbers_as_text_too(tmp_path):
    from fastmlp.tables.table import Reading

    matrix = np.array([["1.5", "-999", "x"], ["2.5", "3", "k"], ["-999", "4", "y"]])
    np.save(tmp_path / "t.npy", matrix)
    table = read_table(str(tmp_path / "t.npy"))
    text = "numbers, but text in the file; --numeric reads them as numbers"
    assert told(table) == [f"{text}: column_0 (0)", f"{text}: column_1 (0)"]
    reading = Reading(na=("-999", "k"), numeric=("column_0", "column_1"))
    columns = read_table(str(tmp_path / "t.npy"), reading=reading).columns
    equal(columns["column_0"], [1.5, 2.5, NAN])
    equal(columns["column_1"], [NAN, 3, 4])
    assert columns["column_2"].tolist() == ["x", None, "y"]
    np.save(tmp_path / "t.npy", np.array([[1, -999], [2, 3]]))
    equal(
        read_table(str(tmp_path / "t.npy"), reading=reading_of("-999")).columns["column_1"],
        [NAN, 3],
    )


def reading_of(*na):
    from fastmlp.tables.table import Reading

    return Reading(na=na)


def test_spaces_around_text_make_no_category(read):
    table = read('c,t,n\nred ,  True,1 \n red,False , 2\n"red ",True\u00a0,"3 "\n" ",,"  "\n')
    assert table.columns["c"].tolist() == ["red", "red", "red", None]
    assert table.columns["t"].tolist() == ["True", "False", "True", None]
    equal(table.columns["n"], [1, 2, 3, NAN])


# ---- numbers -------------------------------------------------------------------------------------


def test_one_reading_of_decimals_for_the_whole_file(read):
    table = read("x;b;n\n999;0,5;1\n1.234;-1,25;2\n15.000;3,0;3\n")
    equal(table.columns["x"], [999, 1234, 15000])
    equal(table.columns["b"], [0.5, -1.25, 3])
    assert any("commas are decimal" in line for line in told(table))
    assert ". between thousands left out: x (2)" in told(table)
    equal(read("x\tb\n1.234,56\t1\n7\t2\n").columns["x"], [1234.56, 7])
    equal(read('x,b\n"1,234",0.5\n999,2.25\n').columns["x"], [1234, 999])
    equal(read('x,b\n"1,5",1\n"22,75",2\n').columns["x"], [1.5, 22.75])


def test_the_first_rows_do_not_decide_what_is_decimal(read):
    head = "x;y;c\n" + "1.234;5;red\n" * 300
    table = read(head + "7;5,5;red\n")  # the only cell that shows it is the last
    assert table.columns["x"][0] == 1234
    assert table.columns["y"][-1] == 5.5
    table = read("x;y\n" + "1,5;2\n" * 300 + "1.234;2\n")
    assert table.columns["x"][-1] == 1234


@pytest.mark.parametrize(
    "content",
    ["x;y\n1.5;2,5\n2.5;3,5\n", "x;y\n1,5;1\n1.5;2\n", 'x,y\n"1,5",1.5\n"2,5",2.5\n'],
)
def test_cells_that_contradict_each_other_are_refused_and_shown(content, read):
    with pytest.raises(
        TableError, match=r"'1\.5' in column '.' and '.,5' in column '.' .*--decimal"
    ):
        read(content)


def test_what_could_be_read_both_ways_is_refused_or_told(read):
    for content in ("x;k\n1.234;a\n15.000;b\n999;c\n", "x;k\n1,234;a\n2,500;b\n"):
        with pytest.raises(TableError, match=r"'\d+[.,]\d+' in column 'x' is either .*--decimal"):
            read(content)
    table = read("x\tk\n1.234\ta\n15.000\tb\n")
    equal(table.columns["x"], [1.234, 15])
    assert "--decimal" in told(table)[0]
    # numbers beyond 999 without a mark show that there are no marks between thousands
    equal(read("x;k\n1.234;a\n5000;b\n").columns["x"], [1.234, 5000])
    table = read('x,k\n"1,234",a\n"15,000",b\n')
    equal(table.columns["x"], [1234, 15000])
    assert told(table) == [", between thousands left out: x (2)"]


def test_options_settle_what_is_decimal(read):
    from fastmlp.tables.table import Reading

    content = "x;k\n1.234;a\n15.000;b\n999;c\n"
    equal(read(content, reading=Reading(decimal=".")).columns["x"], [1.234, 15, 999])
    equal(read(content, reading=Reading(decimal=",")).columns["x"], [1234, 15000, 999])
    equal(read(content, reading=Reading(thousands=".")).columns["x"], [1234, 15000, 999])
    table = read("x;k\n1,5;a\n2;b\n", reading=Reading(decimal="."))
    assert table.columns["x"].tolist() == ["1,5", "2"]
    assert "'1,5' is no number where '.' is decimal" in told(table)[0]


@pytest.mark.parametrize(
    ("cells", "values", "mark"),
    [
        (["$1,234.50", "$7", "-$3"], [1234.5, 7, -3], "$"),
        (["12%", "3.5 %", "0%"], [12, 3.5, 0], "%"),
        (["5 \u20ac", "6\u20ac", "7.25 \u20ac"], [5, 6, 7.25], "\u20ac"),
        (["EUR 5", "EUR 6", "EUR 7"], [5, 6, 7], "EUR"),
        (["\u22121.5", "2", "\u22123"], [-1.5, 2, -3], "\u2212"),
        (["(1,200)", "15.5", "(3)"], [-1200, 15.5, -3], "( )"),
        (["12-", "3.5", "1-"], [-12, 3.5, -1], "- behind"),
        (["1 234", "12 000.5", "7"], [1234, 12000.5, 7], "blanks"),
        (["1\u202f234", "5", "7"], [1234, 5, 7], "blanks"),
        (["1'234.5", "5", "7"], [1234.5, 5, 7], "'"),
        (["12,34,567", "5.5", "1,00,000"], [1234567, 5.5, 100000], ", between thousands"),
    ],
)
def test_marks_in_numbers_are_left_out_and_told(cells, values, mark, read):
    table = read("a;b\n" + "".join(f"{cell};1\n" for cell in cells))
    equal(table.columns["a"], values)
    assert any(line.startswith(mark) for line in told(table))


def test_percent_in_some_cells_only_is_no_quantity(read):
    table = read("a,b\n5%,1\n0.06,2\n7%,3\n")
    assert table.columns["a"].tolist() == ["5%", "0.06", "7%"]
    assert "some cells have %" in told(table)[0]


def test_two_currencies_are_no_quantity(read):
    table = read("a;b\n$5;1\n\u20ac6;1\n$7;1\n")
    assert table.columns["a"].tolist() == ["$5", "\u20ac6", "$7"]
    assert "several currencies" in told(table)[0]


@pytest.mark.parametrize(
    "cells",
    [["2,5 kg", "3"], ["1.2.3", "1.2.4"], ["10x", "5"], ["1_000", "2_000"], ["0x1f", "0x2"]],
)
def test_what_is_no_number_stays_text(cells, read):
    table = read("a;b\n" + "".join(f"{cell};1\n" for cell in cells))
    assert table.columns["a"].tolist() == cells


def test_whole_numbers_beyond_2_to_53_keep_their_identity(read, tmp_path):
    ids = [2**60, 2**60 + 1, 2**60 + 2, 2**64 + 5]
    table = read("u,v,g\n" + "".join(f"{i},{i % 7},{j or ''}\n" for j, i in enumerate(ids)))
    assert table.columns["u"].tolist() == [str(i) for i in ids]
    assert any("2^53" in line for line in told(table))
    gap = read("u,v\n9007199254740993,1\n,2\n9007199254740992,1\nNA,1\n").columns["u"].tolist()
    assert gap == ["9007199254740993", None, "9007199254740992", None]
    np.savez(tmp_path / "t.npz", X=np.array([[2**60, 1], [2**60 + 1, 2]]), y=[1, 2])
    assert read_table(str(tmp_path / "t.npz")).columns["x0"].tolist() == [str(i) for i in ids[:2]]
    equal(read_table(str(tmp_path / "t.npz")).columns["x1"], [1, 2])
    equal(read("a\n1e300\n1e18\n5.5\n").columns["a"], [1e300, 1e18, 5.5])


def test_a_column_can_be_asked_for_as_numbers_or_text(read):
    from fastmlp.tables.table import Reading

    table = read("a,b\n007,1\n008,2\n", reading=Reading(numeric=("a",), categorical=("b",)))
    equal(table.columns["a"], [7, 8])
    assert table.columns["b"].tolist() == ["1", "2"]
    with pytest.raises(TableError, match="column 'a' is to be numeric, but row 2 holds 'tall'"):
        read("a,b\n1,1\ntall,2\n", reading=Reading(numeric=("a",)))
    with pytest.raises(TableError, match=r"--numeric: .* has no column 'B'; did you mean 'b'"):
        read("a,b\n1,1\n", reading=Reading(numeric=("B",)))
    with pytest.raises(TableError, match="cannot be both"):
        read("a,b\n1,1\n", reading=Reading(numeric=("b",), drop=("b",)))
    # what is left out decides nothing
    table = read("a;b\n1.5;1,5\n", reading=Reading(drop=("b",)))
    assert list(table.columns) == ["a"]
    equal(table.columns["a"], [1.5])


# ---- dates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["2020-02-10T00:00:00Z", "2020-02-11T12:00:00Z"], [18302, 18303.5]),
        (["2020-02-10 01:00:00+01:00", "2020-02-09T19:00:00-0500"], [18302, 18302]),
        (["02/10/2020", "02/29/2020"], [18302, 18321]),
        (["29.2.2020", "10.2.2020"], [18321, 18302]),
        (["10.02.2020", "11.02.2020"], [18302, 18303]),
        (["10-02-2020 06:00", "29-02-2020"], [18302.25, 18321]),
        (["2020/02/10", "2020/02/11"], [18302, 18303]),
        (["10 Feb 2020", "February 11, 2020"], [18302, 18303]),
        (["02/13/2020 1:30 PM", "02/13/2020 12:00 AM"], [18305.5625, 18305]),
        (["2020-02-10", "NA"], [18302, NAN]),
    ],
)
def test_dates_in_many_orders(cells, days, read):
    table = read("t;b\n" + "".join(f"{cell};1\n" for cell in cells))
    equal(table.columns["t"], days)
    assert any("dates count in days since 1970" in line for line in told(table))


def test_ambiguous_dates_are_told_and_an_option_settles_them(read):
    from fastmlp.tables.table import Reading

    content = "t,b\n02/10/2020,1\n03/04/2020,2\n"
    table = read(content)
    assert table.columns["t"][0] == "02/10/2020"
    assert "looks like dates" in told(table)[0]
    assert "--dates dmy or mdy" in told(table)[0]
    equal(read(content, reading=Reading(dates="mdy")).columns["t"], [18302, 18325])
    equal(read(content, reading=Reading(dates="dmy")).columns["t"], [18537, 18355])
    assert "years of four digits" in told(read("t,b\n01.02.20,1\n13.02.20,2\n"))[0]
    for rows in (
        "13/02/2020,1\n02/13/2020,1\n",
        "10.02.20,1\n11.02.20,1\n",
        "31.02.2020,1\n1.2.2020,1\n",
    ):
        table = read("t,b\n" + rows)
        assert table.columns["t"].dtype.kind == "O"
        assert "looks like dates" in told(table)[0]
    table = read("t,b\n2020-02-10,1\n", reading=Reading(dates="none"))
    assert table.columns["t"].tolist() == ["2020-02-10"]


def test_times_and_durations_are_days(read):
    table = read("t,d,b\n06:00,1 days 12:00:00,1\n18:00:00,-1 days +12:00:00,2\n")
    equal(table.columns["t"], [0.25, 0.75])
    equal(table.columns["d"], [1.5, -0.5])


def test_parquet_keeps_index_dates_durations_and_large_integers(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {
            "day": pandas.date_range("2020-02-10", periods=3).date,
            "zone": pandas.date_range("2020-02-10", periods=3, tz="Asia/Tokyo"),
            "took": pandas.to_timedelta([6, 12, 18], unit="h"),
            "at": [pandas.Timestamp(f"2020-01-01 {h}:00").time() for h in ("06", "12", "18")],
            "user": pandas.array([2**60, None, 2**60 + 1], dtype="Int64"),
            "text": ["red ", " red", ""],
            "n": [1.5, None, 2.5],
        },
        index=pandas.MultiIndex.from_arrays([[5, 6, 7], list("abc")], names=["x", "k"]),
    )
    frame.to_parquet(tmp_path / "t.parquet")
    columns = read_table(str(tmp_path / "t.parquet")).columns
    equal(columns["x"], [5, 6, 7])
    assert columns["k"].tolist() == ["a", "b", "c"]
    equal(columns["day"], [18302, 18303, 18304])
    equal(columns["zone"], [18301.625, 18302.625, 18303.625])
    equal(columns["took"], [0.25, 0.5, 0.75])
    equal(columns["at"], [0.25, 0.5, 0.75])
    assert columns["user"].tolist() == [str(2**60), None, str(2**60 + 1)]
    assert columns["text"].tolist() == ["red", "red", None]
    equal(columns["n"], [1.5, NAN, 2.5])
    frame.reset_index(drop=True).to_parquet(tmp_path / "t.parquet")
    assert "x" not in read_table(str(tmp_path / "t.parquet")).columns


# ---- where fields end ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('a, y, k\n1, 2, "x, 0"\n3, 4, "z, 1"\n', ["a", "y", "k"]),
        (
            "Temp (C, in);Menge (Stk, ca.);y\n0.5;1;2\n1.5;2;3\n",
            ["Temp (C, in)", "Menge (Stk, ca.)", "y"],
        ),
        ("a, x;b, y\n1,5;2,5\n3,5;4,5\n", ["a, x", "b, y"]),
        ("\n\n  \na;y\n1;2\n", ["a", "y"]),
        ("sep=;\r\na;y\r\n1;2\r\n", ["a", "y"]),
        ("sep=|\na|y;z\n1|2\n", ["a", "y;z"]),
        ("a|y\n1|2\n", ["a", "y"]),
        ("a;b;c\n1;x, y;2\n3;z, w;4\n", ["a", "b", "c"]),
        ('"a\nb";y\n1;2\n', ["a\nb", "y"]),
        ("\ufeffa\ty\n1\t2\n", ["a", "y"]),
    ],
)
def test_fields_end_where_rows_agree(content, names, read):
    assert list(read(content).columns) == names


def test_files_that_cannot_be_tables_are_a_clear_error(read):
    for content, words in (
        ('a,"b,y\n' + "1,2,3\n" * 30_000, "quote in it is never closed"),
        ('a,"b,y\n1,2,3\n', "CSV"),
        ("a," + "b" * 200_000 + "\n1,2\n", "longer than 131,072"),
        ("a,b\n1,2,3\n", "more fields than the header"),
        ("\n\n", "empty"),
        ("a,b,a\n1,2,3\n", "two columns 'a'"),
        ("a,b\n1\0,2\n", "zero bytes"),
        ("a,b\n1,2\n".encode("utf-16-le"), "zero bytes"),
    ):
        with pytest.raises(TableError, match=words):
            read(content)


def test_long_cells_and_wide_headers_are_no_error(read):
    table = read("a,b\n" + "x" * 300_000 + ",1\ny,2\n")
    assert len(table.columns["a"][0]) == 300_000
    names = [f"a long name of column {i}" for i in range(20_000)]
    table = read(",".join(names) + "\n" + ",".join(["1"] * len(names)) + "\n")
    assert len(table.columns) == len(names)


def test_utf16_is_read(read):
    assert read("größe;b\nä;1,5\n".encode("utf-16")).columns["größe"].tolist() == ["ä"]


@pytest.mark.timeout(60)
def test_a_code_beside_a_sparse_column_of_many_rows(tmp_path):
    """Lines of missing cells are looked at once each, not once for every line before them."""
    rows = 100_000
    lines = [f"{i % 90:05d},{7 if i == 0 else ''},{i % 5}" for i in range(rows)]
    path = tmp_path / "sparse.csv"
    path.write_text("id,count,y\n" + "\n".join(lines) + "\n")
    table = read_table(path)
    assert table.columns["id"][:2].tolist() == ["00000", "00001"]
    assert table.columns["count"][0] == 7
