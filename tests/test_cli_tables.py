"""Tables on the command line: what is told, what the options settle, and what the model keeps."""

import re
from pathlib import Path

import numpy as np
import pytest
from test_cli import MODEL, call, read_csv, refused, scores

from fastmlp import Sequential
from fastmlp.cli.main import main

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

SMALL = ["--hidden", "8", "--epochs", "5", "--dropout", "0"]


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, header, rows, separator=","):
    lines = [header, *(separator.join(map(str, row)) for row in rows)]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def train(capsys, target, *more, data="t.csv", code=0):
    return call(capsys, "train", "--data", data, "--target", target, *SMALL, *more, code=code)[0]


def predictions(capsys, data, *more):
    _, err = call(capsys, "predict", MODEL, data, "-o", "out.csv", *more)
    rows = read_csv("out.csv")
    return [row[next(iter(row))] for row in rows], err


# ---- what is told --------------------------------------------------------------------------------


def test_what_was_decided_is_told_a_line_for_each_kind(rng, capsys):
    rows = [
        [
            "?" if i % 30 == 3 else i % 37 + 0.5,
            "?" if i % 40 == 5 else i % 31 + 0.5,
            f"${i % 50}.5",
            i,
        ]
        for i in rng.permutation(120)
    ]
    write("t.csv", "a,b,c,y", rows)
    out = train(capsys, "y")
    assert re.search(r"^read +'\?' counts as missing: a \(4\), b \(3\)$", out, re.M)
    assert re.search(r"^ +\$ in numbers left out: c \(120\)$", out, re.M)


def test_a_nameless_column_that_counts_the_rows_is_left_out(rng, capsys):
    frame = pandas.DataFrame({"a": rng.normal(size=90), "k": np.repeat(list("xyz"), 30)})
    frame.to_csv("t.csv")
    out = train(capsys, "k")
    assert "left out (no name, counts the rows; --numeric keeps it): Unnamed: 0" in out
    frame.sample(frac=0.8, random_state=0).to_csv("t.csv")
    assert "left out (no name, numbers that never repeat" in train(capsys, "k")
    assert "2 numeric" in train(capsys, "k", "--numeric", "Unnamed: 0")
    frame["PassengerId"] = range(7, 97)
    frame.to_csv("t.csv", index=False)
    out = train(capsys, "k")
    assert "counts the rows; in a sorted file it tells the target; --drop" in out
    assert "PassengerId" in out
    assert "counts the rows" not in train(capsys, "k", "--drop", "PassengerId")
    frame["PassengerId"] = rng.permutation(90) * 3
    frame.to_csv("t.csv", index=False)
    assert "never repeat, as row numbers are" in train(capsys, "k")


def test_a_copy_of_the_target_is_named(rng, capsys):
    kind = rng.choice(list("xyz"), 60)
    code = {"x": 10, "y": 20, "z": 30}
    size = rng.normal(size=60)
    write("t.csv", "a,k,code,size", [[s, k, code[k], s] for s, k in zip(size, kind, strict=True)])
    assert "told by one value for each class; --drop leaves it out: code" in train(capsys, "k")
    assert "equalled by another column; --drop leaves it out: a" in train(capsys, "size")
    assert "equalled" not in train(capsys, "size", "--drop", "a")


# ---- categories and splits -----------------------------------------------------------------------


def test_a_column_that_hardly_repeats_is_no_category(capsys):
    rows = [[f"P{i}", i, "yes" if i % 2 else "no"] for i in range(1, 41)]
    write("t.csv", "name,age,member", rows)
    out = train(capsys, "member")
    assert "left out (text with 28 distinct values in 28 rows): name" in out
    out = train(capsys, "member", "--categorical", "name")
    assert "validation rows, text that no training row has: no category: name (4)" in out
    assert "test rows, text that no training row has: no category: name (8)" in out


def test_no_test_or_validation_rows_beside_a_column_of_text(rng, capsys):
    write("t.csv", "c,a,y", [["red" if i % 2 else "blue", i % 7, i * 0.5] for i in range(40)])
    assert "no rows were set aside" in train(capsys, "y", "--test-size", "0")
    assert "36 train, 4 validation" in train(capsys, "y", "--test-size", "0")
    assert "32 train, 0 validation" in train(capsys, "y", "--validation-size", "0")
    train(capsys, "y", "--validation-size", "0", "--test-size", "0")


def test_rows_are_predicted_alone_as_among_others(rng, capsys):
    rows = [["red" if i % 2 else "blue", f'"{1000 + 37 * i:,}"', i % 5 + 0.5] for i in range(60)]
    write("t.csv", "c,a,y", rows)
    train(capsys, "y")
    new = [["violet", "?", 0], ["red ", 1500, 0], ["blue", '"1,500"', 0], ["red", '"(1,500)"', 0]]
    write("new.csv", "c,a,y", new)
    together, err = predictions(capsys, "new.csv")
    assert "unknown values in c (1): count as no category, 'violet' for instance" in err
    for row, wanted in zip(new, together, strict=True):
        write("one.csv", "c,a,y", [row])
        assert predictions(capsys, "one.csv")[0] == [wanted]


def test_words_in_categories_mean_the_same_in_every_format(rng, capsys):
    pytest.importorskip("pyarrow")
    region = np.array(["NA", "EU", "None"])[np.arange(90) % 3]
    frame = pandas.DataFrame({"region": region, "b": rng.normal(size=90)})
    frame["y"] = 10.0 * (region == "NA") + frame["b"]
    frame.to_parquet("t.parquet")
    frame.to_csv("t.csv", index=False)
    train(capsys, "y", data="t.parquet")
    assert predictions(capsys, "t.csv")[0] == predictions(capsys, "t.parquet")[0]
    kind = frame.assign(y=region)
    kind.to_csv("t.csv", index=False)
    out = train(capsys, "y")
    assert "missing" not in out
    assert "3 classes" in out


def test_why_a_target_is_text_is_told_before_it_is_refused(capsys):
    write("t.csv", "a,user", [[i % 7 + 0.5, 2**60 + i] for i in range(60)])
    out = train(capsys, "user", code=2)
    assert "whole numbers beyond 2^53 are names" in out


def test_large_ids_are_classes(rng, capsys):
    a = rng.normal(size=120)
    write("t.csv", "a,user", [[v, 2**60 + int(v > 0.3) + int(v > -0.3)] for v in a])
    out = train(capsys, "user", "--epochs", "60", "--lr", "0.01")
    assert "multiclass, 3 classes" in out
    assert scores(out)["accuracy"][0] > 0.8
    found, _ = predictions(capsys, "t.csv")
    assert set(found) == {str(2**60 + i) for i in range(3)}


# ---- far values ----------------------------------------------------------------------------------


def test_what_training_has_seen_is_not_clipped(rng, capsys):
    x = np.exp(rng.normal(0, 2, 1500))
    np.save("t.npy", np.c_[x, 5 * x])
    args = ["train", "--data", "t.npy", "--hidden", "16", "--epochs", "60"]
    out, _ = call(capsys, *args)
    assert scores(out)["R2"][0] > 0.99
    assert "some values are far from the others; goes in twice" in out
    assert "column_0" in out
    s = rng.normal(50, 10, 2000)
    t = s.copy()
    t[::250] = 1e9  # a marker
    np.save("t.npy", np.c_[t, s])
    assert scores(call(capsys, *args)[0])["R2"][0] > 0.9


def test_values_far_beyond_training_are_clipped_and_told(rng, capsys):
    write("t.csv", "a,y", [[v, 2 * v] for v in rng.normal(50, 10, 100)])
    train(capsys, "y")
    write("new.csv", "a", [[1e6], [50], [-1e7]])
    _, err = predictions(capsys, "new.csv")
    assert "clipped values in a (2): far beyond those of training, and clipped" in err
    write("new.csv", "a", [[100], [50]])
    assert "clipped" not in predictions(capsys, "new.csv")[1]


# ---- options -------------------------------------------------------------------------------------


def german(values):
    return [f"{v:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".") for v in values]


def test_the_model_keeps_how_cells_are_read(rng, capsys):
    x = np.exp(rng.normal(7, 1.5, 80))
    write(
        "t.csv",
        "x;t;y",
        zip(german(x), ["13.02.2020"] * 79 + ["k"], german(x / 9), strict=True),
        ";",
    )
    train(capsys, "y", "--na", "k", "--drop", "t")
    write("point.csv", "x;y", [["1234.5", "0"]], ";")
    text = refused(capsys, "predict", MODEL, "point.csv")
    assert "column 'x' was numeric in training, but row 1 holds '1234.5'; --decimal" in text
    assert "--decimal , --na k" in call(capsys, "info", MODEL)[0]
    wanted, _ = predictions(capsys, "point.csv", "--decimal", ".")
    write("comma.csv", "x;y", [["1.234,5", "0"], ["k", "0"], ["1234,5", "0"]], ";")
    found, err = predictions(capsys, "comma.csv")
    assert found[0] == found[2] == wanted[0]
    assert "missing values in x (1)" in err
    write("dots.csv", "x;y", [["1.234", "0"]], ";")  # nothing in the file tells, the model does
    write("plain.csv", "x;y", [["1234", "0"]], ";")
    assert predictions(capsys, "dots.csv")[0] == predictions(capsys, "plain.csv")[0]


def test_dates_of_an_order_mean_the_same_in_predict(rng, capsys):
    days = pandas.date_range("2020-01-01", periods=90)
    write("t.csv", "t,y", zip(days.strftime("%d/%m/%Y"), range(90), strict=True))
    out = train(capsys, "y")
    assert "dates count in days since 1970, day first: t" in out
    write("new.csv", "t", [["02/01/2020"], ["2020-01-02"], ["2 Jan 2020"]])
    found, _ = predictions(capsys, "new.csv")
    assert found[0] == found[1] == found[2]
    write("new.csv", "t", [["01/02/2020"]])
    assert predictions(capsys, "new.csv", "--dates", "mdy")[0] == [found[0]]
    write("new.csv", "t", [["18263"]])
    assert "column 't' holds numbers, but held dates" in refused(
        capsys, "predict", MODEL, "new.csv"
    )
    write("new.csv", "t", [["31/02/2020"]])
    text = refused(capsys, "predict", MODEL, "new.csv")
    assert "'t' was a date or time in training, but row 1 holds '31/02/2020'" in text


def test_a_decimal_mark_that_training_never_showed_is_not_guessed(rng, capsys):
    write("t.csv", "a,y", [[i, i % 7 + i] for i in rng.permutation(60)])
    train(capsys, "y")
    for cell in ("1,5", "1,234"):
        write("new.csv", "a;b", [[cell, 1]], ";")
        assert f"'{cell}'; --decimal tells" in refused(capsys, "predict", MODEL, "new.csv")
    write("new.csv", "a;b", [["1,5", 1]], ";")
    wanted, _ = predictions(capsys, "new.csv", "--decimal", ",")
    write("new.csv", "a", [[1.5]])
    assert predictions(capsys, "new.csv")[0] == wanted


def test_options_about_columns(rng, capsys):
    rows = [[i % 3, f"{i % 40:03}", "x, y", i * 0.5, i] for i in rng.permutation(80)]
    write("t.csv", 'grade,code,"Maß (m, kg)",b,y', [[*r[:2], '"x, y"', *r[3:]] for r in rows])
    out = train(capsys, "y", "--categorical", "grade", "--numeric", "code", "--drop", "b")
    assert "1 categorical, 1 numeric -> 4 inputs" in out
    out = train(capsys, "y", "--drop", '"Maß (m, kg)",b', "--drop", "code")
    assert "1 numeric -> 1 input" in out
    error = refused(capsys, "train", "--data", "t.csv", "--target", "y", "--drop", "y")
    assert "--drop would leave the target" in error
    error = refused(capsys, "train", "--data", "t.csv", "--target", "y", "--drop", "grad")
    assert "did you mean 'grade'" in error
    options = ["--decimal", ".", "--thousands", "."]
    error = refused(capsys, "train", "--data", "t.csv", "--target", "y", *options)
    assert "cannot both be '.'" in error


def test_class_weight(rng, capsys):
    x = rng.normal(size=400)
    write(
        "t.csv",
        "x,y",
        [[v, "yes" if v + n > 2 else "no"] for v, n in zip(x, rng.normal(size=400), strict=True)],
    )
    counts = []
    for weight in ([], ["--class-weight", "balanced"], ["--class-weight", "yes=50"]):
        train(capsys, "y", "--epochs", "40", "--lr", "0.01", *weight)
        counts.append(predictions(capsys, "t.csv")[0].count("yes"))
    assert counts[0] < counts[1] < counts[2]
    args = ["train", "--data", "t.csv", "--target", "y"]
    assert "no class 'yess'; did you mean 'yes'" in refused(
        capsys, *args, "--class-weight", "yess=2"
    )
    args = ["train", "--data", "t.csv", "--target", "x", "--class-weight", "balanced"]
    assert "--class-weight needs classes" in refused(capsys, *args)
    for bad in ("yes", "yes=x", "yes=-1"):
        with pytest.raises(SystemExit, match="2"):
            main(["train", "--class-weight", bad])


# ---- models of old versions ----------------------------------------------------------------------


def test_a_model_without_a_reading_predicts_as_it_did(rng, capsys):
    rows = [
        [v, " red" if v > 0 else "NA " if v < -1 else "blue", 3 * v] for v in rng.normal(size=60)
    ]
    write("t.csv", "a,c,y", rows)
    train(capsys, "y")
    net = Sequential.load(MODEL)
    old = net.metadata["preparation"]
    del old["reading"], old["target"]["dates"]
    for spec in old["columns"]:
        for key in ("low", "high"):
            spec.pop(key, None)
        if spec["kind"] == "categorical":  # spaces were part of a text, and NA was missing
            spec["categories"] = [" red", "blue", "zzz"]
            spec["fill"] = "blue"
    net.save(MODEL, metadata=net.metadata)
    write("new.csv", "a,c", [[0.5, " red"], [0.5, "NA"], [0.5, "blue"], [1e9, "blue"]])
    found, err = predictions(capsys, "new.csv")
    assert found[1] == found[2] != found[0]
    assert "missing values in c (1)" in err
    assert "clipped values in a (1)" in err
    write("new.csv", "a;c", [["0,5", "blue"]], ";")
    assert predictions(capsys, "new.csv")[0] == [found[2]]


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["reading"].__setitem__("decimal", "x"),
        lambda p: p["reading"].__setitem__("na", [1]),
        lambda p: p["reading"].__setitem__("evil", 1),
        lambda p: p["reading"].__setitem__("drop", ["a"]),
        lambda p: p.__setitem__("reading", 3),
        lambda p: p["columns"][0].__setitem__("low", "x"),
        lambda p: p["columns"][0].__setitem__("tail", {}),
        lambda p: p["columns"][0].__setitem__("dates", "evil"),
        lambda p: p["columns"][0].__setitem__("odd", [1]),
    ],
)
def test_a_reading_that_is_malformed_is_a_line(change, rng, capsys):
    write("t.csv", "a,y", [[v, 2 * v] for v in rng.normal(size=40)])
    train(capsys, "y")
    net = Sequential.load(MODEL)
    change(net.metadata["preparation"])
    net.save("forged.safetensors", metadata=net.metadata)
    assert "forged.safetensors" in refused(capsys, "predict", "forged.safetensors", "t.csv")
