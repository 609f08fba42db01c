"""The command line end to end, each test in an empty folder and, where it matters, a process."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import child_process

from fastmlp import SGD, DivergenceError, EarlyStopping, Linear, Sequential
from fastmlp.cli import report
from fastmlp.cli import train as train_command
from fastmlp.cli.main import main
from fastmlp.tables import read_table
from fastmlp.tables.preparation import Preparation
from fastmlp.tables.targets import Target
from fastmlp.training.run import History

pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

MODEL, CURVE = "fastmlp-model.safetensors", "fastmlp-learning-curve.png"
COMMAND = [sys.executable, "-m", "fastmlp"]
QUICK = ["--hidden", "16", "--epochs", "30", "--batch-size", "16", "--lr", "0.01"]


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args, code=0):
    """(stdout, stderr) of a process of its own."""
    done = subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def call(capsys, *args, code=0):
    """(stdout, stderr) of main() in this process: importing pandas once is enough."""
    capsys.readouterr()
    assert main(args) == code
    return capsys.readouterr()


def refused(capsys, *args):
    """The error line of a command that must fail and leave every file as it was."""
    before = snapshot()
    _, err = call(capsys, *args, code=2)
    last = err.strip().splitlines()[-1]
    assert err.count("fastmlp: error: ") == 1
    assert last.startswith("fastmlp: error: ")
    assert snapshot() == before
    return last.removeprefix("fastmlp: error: ")


def snapshot():
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def scores(out):
    """{metric: (network, baseline)} from the table of test metrics."""
    found = re.findall(r"^  (accuracy|log loss|RMSE|MAE|R2) +(\S+) +(\S+)$", out, re.M)
    return {name: (float(a.replace(",", "")), float(b.replace(",", ""))) for name, a, b in found}


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def flowers(rng, rows=240):
    """A class that numbers, words and truth values tell, with holes in all of them."""
    size = rng.normal(size=rows)
    colour = rng.choice(["red", "green", "blue"], rows)
    wild = rng.random(rows) < 0.5
    kind = np.where(colour == "red", "rose", np.where(size > 0, "lily", "fern"))
    return [
        {
            "size": "" if i % 17 == 3 else f"{2 * size[i] + 50:.4f}",
            "colour": "" if i % 29 == 5 else str(colour[i]),
            "wild": "" if i % 31 == 7 else str(bool(wild[i])),
            "unit": "cm",
            "kind": "" if i in (11, 12) else str(kind[i]),
        }
        for i in range(rows)
    ]


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def line(rng, rows=300):
    """X and y = a line in it, in units far from 0 and 1."""
    X = rng.normal(size=(rows, 3)) * [1, 10, 100] + [0, 5, 1000]
    return X, 5000 + 200 * X[:, 0] - 30 * X[:, 1] + rng.normal(size=rows)


# ---- the main job --------------------------------------------------------------------------------


def test_default_reaches_0975_and_writes_model_and_picture():
    out, err = run("train")
    network, base = scores(out)["accuracy"]
    assert network >= 0.975
    assert base < 0.15
    for word in ("1,797 rows", "multiclass", "1,258 train, 180 validation", "parameters", "recall"):
        assert word in out
    assert "epoch" in err  # the progress
    assert "has not improved" in out
    assert sorted(path.name for path in Path().iterdir()) == [CURVE, MODEL]
    assert Path(CURVE).read_bytes().startswith(b"\x89PNG")
    after_next = re.search(r"^next +fastmlp (.*)$", out, re.M).group(1).split()
    assert "accuracy 0.9" in run(*after_next)[0]


def test_csv_classes_with_words_and_holes(rng, capsys):
    rows = flowers(rng)
    write_csv("flowers.csv", rows)
    out, _ = call(capsys, "train", "--data", "flowers.csv", "--target", "kind", *QUICK)
    assert scores(out)["accuracy"][0] > 0.85 > scores(out)["accuracy"][1] + 0.2
    assert "multiclass, 3 classes" in out
    assert re.search(r"missing +values by column: size \d+, colour \d+, wild \d+, kind 2", out)
    assert "2 rows with a missing target dropped" in out
    assert "1 numeric, 1 categorical, 1 boolean -> 5 inputs" in out
    assert "left out (constant): unit" in out

    rows[0]["colour"] = "violet"
    write_csv("new.csv", [{k: v for k, v in row.items() if k != "kind"} for row in rows])
    out, err = call(capsys, "predict", MODEL, "new.csv", "-o", "out.csv")
    assert "colour (1)" in err
    predictions = read_csv("out.csv")
    assert len(predictions) == len(rows)
    assert predictions[0].keys() == {
        "kind", "probability_fern", "probability_lily", "probability_rose",
    }  # fmt: skip
    hits = [p["kind"] == r["kind"] for p, r in zip(predictions, rows, strict=True)]
    assert np.mean(hits) > 0.85
    for row in predictions:
        proba = {k.removeprefix("probability_"): float(v) for k, v in row.items() if k != "kind"}
        assert sum(proba.values()) == pytest.approx(1, abs=1e-5)
        assert max(proba, key=proba.get) == row["kind"]
    to_stdout, _ = call(capsys, "predict", MODEL, "new.csv")
    assert to_stdout == Path("out.csv").read_text()


def test_csv_regression_in_the_targets_own_units(rng, capsys):
    X, y = line(rng)
    rows = [{"a": a, "b": b, "c": c, "price": p} for (a, b, c), p in zip(X, y, strict=True)]
    write_csv("houses.csv", rows)
    args = ["train", "--data", "houses.csv", "--target", "price", "--hidden", "0"]
    args += ["--epochs", "100", "--lr", "0.02", "-o", "price-model.safetensors"]
    out, _ = call(capsys, *args)
    assert "regression: 'price' holds fractional numbers" in out
    assert scores(out)["R2"][0] > 0.99
    assert scores(out)["RMSE"][0] < 0.1 * scores(out)["RMSE"][1]
    assert scores(out)["RMSE"][1] == pytest.approx(y.std(), rel=0.3)
    assert Path("price-learning-curve.png").exists()
    out, _ = call(capsys, "predict", "price-model.safetensors", "houses.csv", "-o", "out.csv")
    assert "RMSE" in out
    predicted = np.array([float(row["price"]) for row in read_csv("out.csv")])
    assert np.sqrt(np.mean((predicted - y) ** 2)) < 0.1 * y.std()


def test_npz_binary(rng, capsys):
    X = rng.normal(size=(200, 4)).astype(np.float32)
    np.savez("points.npz", X=X, y=X[:, 0] > 0, other=X[:, 1])
    out, _ = call(capsys, "train", "--data", "points.npz", *QUICK)
    assert "binary" in out
    assert scores(out)["accuracy"][0] > 0.85
    np.savez("new.npz", X=X)
    call(capsys, "predict", MODEL, "new.npz", "-o", "out.csv")
    row = read_csv("out.csv")[0]
    assert row["y"] == str(X[0, 0] > 0)
    assert float(row["probability_False"]) + float(row["probability_True"]) == pytest.approx(1)
    out, _ = call(capsys, "train", "--data", "points.npz", "--target", "other", *QUICK)
    assert "regression" in out


def test_npy_last_column_or_index(rng, capsys):
    X, y = line(rng)
    np.save("matrix.npy", np.column_stack([X, y]))
    out, _ = call(capsys, "train", "--data", "matrix.npy", *QUICK)
    assert "target 'column_3'" in out
    out, _ = call(capsys, "train", "--data", "matrix.npy", "--target", "1", *QUICK)
    assert "target 'column_1'" in out
    np.save("new.npy", np.column_stack([X[:, 0], X[:, 2], y]))  # without the target's column
    call(capsys, "predict", MODEL, "new.npy", "-o", "out.csv")
    call(capsys, "predict", MODEL, "matrix.npy", "-o", "out2.csv")
    assert read_csv("out.csv") == read_csv("out2.csv")


def test_parquet(rng, capsys):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(flowers(rng)).replace("", None)
    frame["size"] = frame["size"].astype(float)
    frame["wild"] = frame["wild"].map({"True": True, "False": False})
    frame["day"] = pandas.Timestamp("2024-01-01") + pandas.to_timedelta(range(len(frame)), "D")
    frame.to_parquet("flowers.parquet")
    out, _ = call(capsys, "train", "--data", "flowers.parquet", "--target", "kind", *QUICK)
    assert "2 numeric, 1 categorical, 1 boolean" in out
    assert scores(out)["accuracy"][0] > 0.8
    call(capsys, "predict", MODEL, "flowers.parquet", "-o", "out.csv")
    assert len(read_csv("out.csv")) == len(frame)


def test_info_and_config(rng, capsys):
    np.save("m.npy", np.column_stack(line(rng)))
    call(capsys, "train", "--data", "m.npy", "--optimizer", "adamw", "--dtype", "float64", *QUICK)
    out, _ = call(capsys, "info", MODEL)
    for word in ("Linear", "ReLU", "squared_error", "AdamW", "float64", "regression", "column_0"):
        assert word in out
    assert "81" in out  # 3 * 16 + 16 + 16 + 1 parameters
    Sequential([Linear(2, 3)]).save("plain.safetensors")
    assert "Linear" in call(capsys, "info", "plain.safetensors")[0]
    assert "fastmlp train" in refused(capsys, "predict", "plain.safetensors", "m.npy")
    out, _ = call(capsys, "config")
    assert "kernels" in out
    assert "threads" in out


def test_quiet_is_silent_and_runs_repeat(capsys):
    args = ("train", "--quiet", "--epochs", "2")
    assert call(capsys, *args, "-o", "a.safetensors") == ("", "")
    call(capsys, *args, "-o", "b.safetensors")
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    call(capsys, *args, "-o", "c.safetensors", "--seed", "1")
    assert Path("a.safetensors").read_bytes() != Path("c.safetensors").read_bytes()


def test_help_has_examples(capsys):
    for command in ("train", "predict"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert "examples:" in capsys.readouterr().out


# ---- what goes wrong -----------------------------------------------------------------------------


def test_wrong_files(rng, capsys):
    write_csv("flowers.csv", flowers(rng))
    Path("empty.csv").touch()
    Path("header.csv").write_text("a,b\n")
    Path("notes.txt").write_text("a,b\n1,2\n")
    Path("latin.csv").write_bytes("name,größe\nä,1\n".encode("latin-1"))
    Path("ragged.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    Path("broken.npz").write_bytes(b"PK\x03\x04 nothing")
    Path("broken.npy").write_bytes(b"nothing")
    np.save("objects.npy", np.array([[1, {}]], dtype=object), allow_pickle=True)
    Path("folder.csv").mkdir()
    Path("old.safetensors").write_bytes(b"keep me")
    for name, words in {
        "flower.csv": "did you mean flowers.csv",
        "empty.csv": "empty",
        "header.csv": "no rows",
        "notes.txt": ".csv, .npz, .npy, .parquet",
        "latin.csv": "UTF-8",
        "ragged.csv": "CSV",
        "broken.npz": "damaged",
        "broken.npy": "damaged",
        "objects.npy": "Python objects",
        "folder.csv": "folder",
    }.items():
        args = ["train", "--data", name, "-o", "old.safetensors"]
        args += ["--target", "a"] if name.endswith("csv") else []
        assert words in refused(capsys, *args), name


def test_broken_parquet(capsys):
    pytest.importorskip("pyarrow")
    Path("broken.parquet").write_bytes(b"nothing")
    message = refused(capsys, "train", "--data", "broken.parquet", "--target", "a")
    assert "damaged" in message


def coded(rng, codes, rows=120):
    return [{"code": codes[i], "x": i} for i in rng.integers(0, len(codes), rows)]


def test_codes_stay_text_whatever_a_file_looks_like(rng, capsys):
    kinds = {"01234": "01", "0777": "02", "A12": "a"}
    rows = [r | {"y": kinds[r["code"]]} for r in coded(rng, list(kinds))]
    write_csv("train.csv", rows)
    call(capsys, "train", "--data", "train.csv", "--target", "y", *QUICK, "--quiet")
    write_csv("new.csv", [r for r in rows if r["code"] != "A12"][:20])
    out, err = call(capsys, "predict", MODEL, "new.csv", "-o", "out.csv")
    assert "unknown" not in err
    assert float(re.search(r"accuracy (\S+)", out)[1]) > 0.9
    write_csv("none.csv", [{"code": "9", "x": 1}])
    _, err = call(capsys, "predict", MODEL, "none.csv")  # as beside rows with known codes
    assert "unknown values in code (1): count as no category, '9' for instance" in err


def test_a_truth_in_another_language_is_no_accuracy(rng, capsys):
    rows = [{"x": x, "y": x > 0} for x in rng.standard_normal(60)]
    write_csv("train.csv", rows)
    call(capsys, "train", "--data", "train.csv", "--target", "y", *QUICK, "--quiet")
    write_csv("new.csv", [{"x": r["x"], "y": int(r["y"])} for r in rows])
    out, _ = call(capsys, "predict", MODEL, "new.csv", "-o", "out.csv")
    assert "accuracy 0" not in out
    assert "none of the classes 'False', 'True'" in out


def test_wrong_columns_and_types(rng, capsys):
    rows = flowers(rng)
    write_csv("flowers.csv", rows)
    train = ("train", "--data", "flowers.csv", *QUICK)
    assert "did you mean 'colour'" in refused(capsys, *train, "--target", "color")
    assert "--target is missing" in refused(capsys, *train)
    assert "only one value" in refused(capsys, *train, "--target", "unit")
    text = refused(capsys, *train, "--target", "kind", "--task", "regression")
    assert "regression needs numbers" in text
    text = refused(capsys, *train, "--target", "kind", "--task", "binary")
    assert "--task multiclass" in text
    text = refused(capsys, *train, "--target", "kind", "--missing", "refuse")
    assert "size (" in text
    assert "--missing impute" in text
    assert "adamw" in refused(capsys, *train, "--target", "kind", "--weight-decay", "0.1")

    call(capsys, *train, "--target", "kind", "--missing", "drop", "--quiet")
    rows[4]["size"] = "large"
    write_csv("text.csv", rows)
    text = refused(capsys, "predict", MODEL, "text.csv", "-o", "out.csv")
    assert "'size'" in text
    assert "'large'" in text
    write_csv("less.csv", [{"colours": r["colour"], "size": r["size"]} for r in rows[:3]])
    assert "did you mean 'colours'" in refused(capsys, "predict", MODEL, "less.csv")


@pytest.mark.parametrize(
    "option",
    ["--epochs 0", "--lr x", "--lr -1", "--hidden 3,,4", "--dropout 1", "--test-size 1.5"],
)
def test_wrong_options(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", *option.split()])
    assert option.split()[0] in capsys.readouterr().err


def test_inputs_are_not_overwritten(rng, capsys):
    np.save("m.npy", np.column_stack(line(rng)))
    call(capsys, "train", "--data", "m.npy", *QUICK, "--quiet")
    for source in (MODEL, "m.npy"):
        for name in (source, f"./{source}"):
            text = refused(capsys, "predict", MODEL, "m.npy", "-o", name)
            assert f"would overwrite {source}" in text
    for command in (["train"], ["predict", MODEL, "m.npy"]):
        assert "is a folder" in refused(capsys, *command, "-o", "")


def _forged(change):
    net = Sequential.load(MODEL)
    change(net.metadata["preparation"])
    net.save("forged.safetensors")


def test_a_preparation_that_does_not_fit_is_a_line(rng, capsys):
    write_csv("flowers.csv", flowers(rng))
    call(capsys, "train", "--data", "flowers.csv", "--target", "kind", *QUICK, "--quiet")
    assert "categorical  colour" in call(capsys, "info", MODEL)[0]
    for change in (
        lambda p: p["columns"][0].pop("name"),
        lambda p: p["columns"][0].pop("std"),
        lambda p: p["columns"][0].__setitem__("std", 0),
        lambda p: p["columns"][0].__setitem__("kind", "evil"),
        lambda p: p["columns"][1].__setitem__("categories", [1, 2, 3]),
        lambda p: p["columns"][1]["categories"].append("violet"),
        lambda p: p["columns"].__setitem__(0, "text"),
        lambda p: p["target"].__setitem__("classes", ["a"]),
        lambda p: p["target"].__setitem__("task", "evil"),
        lambda p: p.__setitem__("columns", None),
    ):
        _forged(change)
        for command in (
            ["predict", "forged.safetensors", "flowers.csv"],
            ["info", "forged.safetensors"],
        ):
            assert "forged.safetensors" in refused(capsys, *command)


def test_places_that_cannot_be_written(capsys):
    Path("file").write_text("keep me")
    for place in ("missing/model.safetensors", "file/model.safetensors", "."):
        assert refused(capsys, "train", "-o", place)
    folder = Path("locked")
    folder.mkdir(mode=0o500)
    try:
        (folder / "probe").touch()
    except OSError:
        assert "-o" in refused(capsys, "train", "-o", "locked/model.safetensors")


def test_corrupt_models(capsys):
    Sequential([Linear(2, 3)]).save("good.safetensors")
    content = bytearray(Path("good.safetensors").read_bytes())
    content[-1] ^= 1
    Path("bad.safetensors").write_bytes(content)
    Path("short.safetensors").write_bytes(content[:20])
    Path("empty.safetensors").touch()
    for name in ("bad", "short", "empty", "missing"):
        for command in (["info"], ["predict", "digits"]):
            args = [command[0], f"{name}.safetensors", *command[1:]]
            assert f"{name}.safetensors" in refused(capsys, *args)
    _, err = run("info", "bad.safetensors", code=2)
    assert err.count("\n") == 1


def break_off_after_the_best(monkeypatch, how):
    """Training gets worse after epoch 3 and ends in epoch 6; returns all weights."""
    best = {}

    class Script(EarlyStopping):
        def on_epoch_end(self, run):
            super().on_epoch_end(run)
            best[run.epoch] = run.net.params.copy()
            if run.epoch == 3:
                run.net.params[:] = 0
                run.use_optimizer(SGD(lr=0.0))
            if run.epoch == 5 and how is KeyboardInterrupt:
                raise KeyboardInterrupt
            if run.epoch == 5:
                run.net.params[:] = 1e38

    monkeypatch.setattr(train_command, "EarlyStopping", Script)
    return best


@pytest.mark.parametrize(("how", "code"), [(KeyboardInterrupt, 130), (DivergenceError, 2)])
def test_training_that_breaks_off_saves_the_best_weights(how, code, monkeypatch, capsys):
    best = break_off_after_the_best(monkeypatch, how)
    out, err = call(capsys, "train", "--hidden", "8", "--dropout", "0", code=code)
    assert np.array_equal(Sequential.load(MODEL).params, best[3])
    assert f"the weights of epoch 3, the best, are in {MODEL}" in err
    assert ("interrupted in epoch" in err) == (how is KeyboardInterrupt)
    assert ("training diverged in epoch 6" in err) == (how is DivergenceError)
    assert "test," not in out
    assert Path(CURVE).exists()


def test_diverging_training_is_a_line(capsys):
    text = refused(capsys, "train", "--optimizer", "sgd", "--lr", "1e30", "--quiet")
    assert "lower the learning rate" in text


def test_a_missing_extra_is_named():
    Path("a.csv").write_text("a,b\n1,2\n")
    script = (
        "import sys; sys.modules['pandas'] = None\n"
        "from fastmlp.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "train", "--data", "a.csv", "--target", "b"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    wanted = 'fastmlp: error: reading CSV needs pandas; pip install "fastmlp[train]"\n'
    assert done.stderr == wanted


SMALL = ["--hidden", "4", "--epochs", "2"]


@pytest.mark.parametrize("lines", [0, 2])
@pytest.mark.parametrize("both", [False, True])
def test_the_model_is_saved_when_nobody_listens(lines, both):
    process = subprocess.Popen(
        [*COMMAND, "train", *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
        text=True,
    )
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    err = "" if both else process.stderr.read()
    assert process.wait(60) == 0, err
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert Sequential.load(MODEL).epoch == 2


def test_a_terminal_without_the_letters_does_not_cost_the_model(rng):
    write_csv("a.csv", [{"x": x, "größe": 2 * x} for x in rng.standard_normal(40)])
    done = subprocess.run(
        [*COMMAND, "train", "--data", "a.csv", "--target", "größe", *SMALL],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert r"gr\xf6\xdfe" in done.stdout
    assert Path(MODEL).exists()


def test_output_that_cannot_be_delivered_is_an_error():
    os.mkfifo("pipe")
    # a reader that opens the pipe and goes away without reading
    reader = subprocess.Popen([sys.executable, "-c", "open('pipe', 'rb').close()"])
    run("train", *SMALL, "-o", "m.safetensors")
    try:
        run("predict", "m.safetensors", "digits", "-o", "pipe", code=2)
        assert Path("pipe").is_fifo()
    finally:
        reader.kill()


def test_predictions_to_standard_output_by_its_name():
    run("train", *SMALL)
    want, _ = run("predict", MODEL, "digits")
    Path("log").write_text("earlier\n")
    with open("log", "a") as log:
        done = subprocess.run(
            [*COMMAND, "predict", MODEL, "digits", "-o", "/dev/stdout"],
            stdout=log,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert Path("log").read_text() == "earlier\n" + want
    assert "1,797 rows written" in done.stderr


def test_a_dash_is_standard_output_for_predictions():
    run("train", *SMALL)
    want, _ = run("predict", MODEL, "digits")
    assert run("predict", MODEL, "digits", "-o", "-")[0] == want
    assert not Path("-").exists()
    _, err = run("train", *SMALL, "-o", "-", code=2)
    assert "give -o a file for the model" in err


def test_ctrl_c_saves_the_model_so_far():
    args = ["train", "--epochs", "1000000", "--patience", "0"]
    with child_process([*COMMAND, *args]) as process:
        for shown in process.stdout:
            if shown.startswith("network"):
                break
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted in epoch" in err
    assert MODEL in err
    assert Path(CURVE).exists()
    out, _ = run("predict", MODEL, "digits")
    assert len(out.splitlines()) == 1798


def test_no_output_goes_over_an_input_in_train(rng, capsys):
    rows = [{"a": a, "y": i % 2} for i, a in enumerate(rng.standard_normal(40))]
    write_csv("d.csv", rows)
    os.symlink("d.csv", "link")
    os.link("d.csv", "twin")
    Path("folder").mkdir()
    os.symlink("../d.csv", "folder/d.csv")
    train = ("train", "--data", "d.csv", "--target", "y", *SMALL, "--quiet")
    for name in ("d.csv", "./d.csv", "link", "twin", "folder/d.csv", "folder/../d.csv"):
        assert "would overwrite d.csv" in refused(capsys, *train, "-o", name)
    call(capsys, *train)
    assert "would overwrite twin" in refused(capsys, "predict", MODEL, "twin", "-o", "link")
    os.link(MODEL, "model")
    assert "would overwrite" in refused(capsys, "predict", MODEL, "d.csv", "-o", "model")


@pytest.mark.parametrize("kind", ["symlink", "link"])
def test_the_picture_goes_over_no_input_and_not_over_the_model(kind, rng, capsys):
    rows = [{"a": a, "y": i % 2} for i, a in enumerate(rng.standard_normal(40))]
    write_csv("d.csv", rows)
    train = ("train", "--data", "d.csv", "--target", "y", *SMALL, "--quiet")
    getattr(os, kind)("d.csv", "m-learning-curve.png")
    assert "would overwrite d.csv" in refused(capsys, *train, "-o", "m.safetensors")
    os.unlink("m-learning-curve.png")
    if kind == "link":
        Path("m.safetensors").touch()
    getattr(os, kind)("m.safetensors", "m-learning-curve.png")
    assert "would overwrite m.safetensors" in refused(capsys, *train, "-o", "m.safetensors")
    os.unlink("m-learning-curve.png")
    Path("m-learning-curve.png").mkdir()
    assert "is a folder" in refused(capsys, *train, "-o", "m.safetensors")


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_probability_reads_as_0_or_1_that_is_not(task, dtype, rng, capsys):
    far = 40.0 * np.repeat(np.arange(2 if task == "binary" else 3), 30)
    rows = [{"a": a + rng.random(), "y": f"k{a:.0f}"} for a in far]
    write_csv("far.csv", rows)
    args = ["train", "--data", "far.csv", "--target", "y", "--hidden", "16", "--lr", "0.1"]
    call(capsys, *args, "--epochs", "100", "--patience", "0", "--dtype", dtype, "--dropout", "0")
    out, _ = call(capsys, "predict", MODEL, "far.csv")
    written = [[float(t) for t in line.split(",")[1:]] for line in out.splitlines()[1:]]
    proba = np.array(written)
    assert proba.min() < 1e-7  # float32 knows no smaller difference from 1
    assert (proba > 0).all()
    assert np.allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-8)
    net = Sequential.load(MODEL)
    z = net.predict(_prepared(net, "far.csv")).astype(np.float64)
    z = np.hstack([-z, z]) if z.shape[1] == 1 else z - z.max(axis=1, keepdims=True)
    exact = 1 / (1 + np.exp(-z)) if task == "binary" else np.exp(z) / np.exp(z).sum(1)[:, None]
    assert np.allclose(proba, exact, rtol=1e-8 if dtype == "float32" else 1e-15, atol=0)
    assert ((proba == 1) == (exact == 1)).all()


def _prepared(net, name):
    preparation = Preparation.from_dict(net.metadata["preparation"])
    return preparation.encode(read_table(name, text=preparation.text_columns))[0]


def test_what_is_no_file_is_refused_at_once():
    os.mkfifo("pipe")
    for name in ("pipe", "/dev/zero"):
        for args in (["info", name], ["predict", name, "digits"]):
            _, err = run(*args, code=2)
            assert "is read from a regular file" in err


def test_a_log_gets_few_lines_in_the_targets_units(rng, capsys):
    X, y = line(rng)
    rows = [{"a": a, "b": b, "c": c, "price": p} for (a, b, c), p in zip(X, y, strict=True)]
    write_csv("houses.csv", rows)
    args = ["train", "--data", "houses.csv", "--target", "price", "--hidden", "0"]
    out, err = call(capsys, *args, "--epochs", "300", "--lr", "0.02", "--batch-size", "8")
    lines = err.splitlines()
    assert len(lines) <= 4
    assert "\r" not in err
    assert lines[0].startswith("epoch   1 of at most 300  loss ")
    shown = float(re.search(r" val_rmse (\S+)", lines[0])[1])
    history = Sequential.load(MODEL).metadata["history"]
    std = Sequential.load(MODEL).metadata["preparation"]["target"]["std"]
    assert shown == pytest.approx(history["val_rmse"][0] * std, rel=1e-3)
    best = float(re.search(r"best (\S+) in epoch", out)[1])
    assert best == pytest.approx(min(history["val_loss"]) * std**2, rel=1e-4)


def test_info_shows_the_rate(capsys):
    run("train", *SMALL)
    assert "Adam(lr=0.001)" in call(capsys, "info", MODEL)[0]
    Sequential.load(MODEL).save("less", optimizer=False)
    assert "Adam(lr=0.001), without what it has kept" in call(capsys, "info", "less")[0]


def test_the_picture_shows_the_metric_in_the_unit_of_the_target(monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "learning_curves", lambda *given: drawn.append(given))
    history = History(loss=[1.0], rmse=[0.5], val_rmse=[0.25])
    target = Target.learn("y", "regression", np.array([0.0, 20.0]), np.arange(2))
    assert report.learning_curve(history, target, "title").startswith(b"\x89PNG")
    (losses, _), (metrics, _, name) = drawn
    assert (losses["loss"], name) == ([1.0], "rmse")
    assert (metrics["rmse"], metrics["val_rmse"]) == ([5.0], [2.5])
    assert history["rmse"] == [0.5]


def test_the_scores_are_those_of_metrics():
    y, predicted = np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 5.0])
    scores = report.value_scores(y, predicted)
    assert scores == pytest.approx({"RMSE": (5 / 3) ** 0.5, "MAE": 1.0, "R2": 1 - 5 / 14})
    assert np.isnan(report.value_scores(np.ones(3), predicted)["R2"])
    proba = np.array([[0.25, 0.75], [0.5, 0.5]])
    expected = {"accuracy": 0.5, "log loss": -np.log(0.75 * 0.5) / 2}
    assert report.class_scores(np.array([1, 1]), proba) == pytest.approx(expected)
