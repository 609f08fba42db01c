"""The commands that use a model file: `fastmlp predict` and `fastmlp info`."""

import csv
import io
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..files import atomic as files
from ..ground.arrays import Array
from ..ground.errors import CheckpointError
from ..sequential import Sequential
from ..tables.preparation import Counts, Preparation
from ..tables.reading import read_table
from ..tables.table import Reading, Table, TableError
from ..tables.targets import Target
from . import report as reports
from .console import Voice
from .train import check_overwrites_none, check_writable, reading_of


def predict(options: Namespace) -> int:
    """Run `fastmlp predict`: write a CSV with one row per row of the data."""
    if options.output == "-":
        options.output = None
    if options.output is not None:
        check_writable(Path(options.output))
        check_overwrites_none([options.output], [options.model, options.data])
    net, preparation = load_model(options.model)
    preparation = preparation.with_reading(reading_of(options))
    is_old = preparation.reading is None
    table = read_table(
        options.data,
        text=preparation.text_columns,
        reading=preparation.reading,
        settled=not is_old,
    )
    table = _name_columns(table, preparation)
    matrix, counts = preparation.encode(table)
    _tell_counts(table, preparation, counts)
    out = net.predict_raw(matrix.astype(net.dtype), threads=options.threads)
    target = preparation.target
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if target.task == "regression":
        predicted = out[:, 0].astype(np.float64) * target.std + target.mean
        writer.writerow([target.name])
        writer.writerows([f"{value:.9g}"] for value in predicted)
    else:
        proba = reports.class_probabilities(target.loss, out)
        digits = 9 if net.dtype == np.float32 else 17  # enough for an exact round trip
        predicted = proba.argmax(axis=1)
        writer.writerow([target.name, *(f"probability_{name}" for name in target.classes)])
        for label, row in zip(predicted, proba, strict=True):
            writer.writerow([target.classes[label], *(reports.probability(p, digits) for p in row)])
    if options.output is not None:
        path = Path(options.output)
        voice = Voice(on_stderr=files.is_stream(path))  # the CSV may go to standard output
        files.write_safely(path, text.getvalue().encode())
        voice.say(f"{reports.plural(len(out), 'row')} written to {options.output}")
        _tell_truth(voice, preparation.truth(table), target, predicted)
    else:
        sys.stdout.write(text.getvalue())
    return 0


def _tell_counts(table: Table, preparation: Preparation, counts: Counts) -> None:
    for line in reports.notes(table.notes):
        print(f"fastmlp: {line}", file=sys.stderr)
    effects = {
        "missing": "filled as in training",
        "unknown": "count as no category",
        "clipped": "far beyond those of training, and clipped",
    }
    for what, columns in counts.items():
        if columns:
            shown, effect = reports.listed(columns, 10), effects[what]
            if what == "unknown":
                name = next(iter(columns))
                effect += f", {preparation.unknown_value(table, name)!r} for instance"
            print(f"fastmlp: {what} values in {shown}: {effect}", file=sys.stderr)


def _name_columns(table: Table, preparation: Preparation) -> Table:
    """Name the columns of a matrix without its target column by the order of the features."""
    names = [spec["name"] for spec in preparation.specs]
    if table.source.endswith(".npy") and len(table.columns) == len(names):
        return replace(table, columns=dict(zip(names, table.columns.values(), strict=True)))
    return table


def _tell_truth(voice: Voice, values: Array | None, target: Target, predicted: Array) -> None:
    """Report how good the predictions are, if the table has the target too."""
    if values is None:
        return
    if target.task == "regression":
        if values.dtype.kind == "f":
            rmse = reports.number(reports.value_scores(values, predicted)["RMSE"])
            voice.say(f"RMSE {rmse} by the column {target.name!r} of these rows")
        return
    labels = target.encode(values)
    if (labels < 0).all():
        shown = ", ".join(map(repr, target.classes[:10]))
        voice.say(f"no accuracy: the column {target.name!r} holds none of the classes {shown}")
        return
    share = float(np.mean(labels == predicted))
    voice.say(f"accuracy {share:.4f} by the column {target.name!r} of these rows")


def load_model(path: str) -> tuple[Sequential, Preparation]:
    """Load a model that `fastmlp train` wrote; raises TableError for any other file."""
    net = _load_network(path)
    try:
        preparation = Preparation.from_dict(net.metadata["preparation"])
        if (net.n_in, net.n_out) != (preparation.n_in, preparation.target.n_out):
            raise ValueError("network and table differ in width")
        return net, preparation
    except (KeyError, TypeError, ValueError, AttributeError):
        raise TableError(
            f"{path} was not written by `fastmlp train`, so how to prepare a table is unknown; "
            "use fastmlp.Sequential.load in Python"
        ) from None


def _load_network(path: str) -> Sequential:
    if Path(path).is_dir():
        raise TableError(f"{path} is a folder; give the model file in it")
    try:
        return Sequential.load(path)
    except FileNotFoundError:
        raise TableError(f"there is no model {path}; `fastmlp train` writes one") from None
    except CheckpointError as error:
        raise TableError(str(error)) from None


# ---- info ----------------------------------------------------------------------------------------


def info(options: Namespace) -> int:
    """Run `fastmlp info`: print the contents of a model file."""
    net = _load_network(options.model)
    print(net.summary())
    print()
    lines = [
        ["dtype", net.dtype.name],
        ["seed", str(net.seed)],
        ["loss", str(net.loss or "-")],
        ["optimizer", _optimizer(net)],
        ["trained", f"{reports.plural(net.epoch, 'epoch')}, {net.step:,} steps"],
    ]
    if "preparation" in net.metadata:
        lines += _of_table(net, load_model(options.model)[1])
    elif net.metadata:
        lines.append(["metadata", ", ".join(map(str, net.metadata))])
    for name, shown in lines:
        print(f"  {name:<13}{shown}")
    return 0


def _optimizer(net: Sequential) -> str:
    if net.optimizer is None:
        return "-"
    return repr(net.optimizer) + ("" if net._state is not None else ", without what it has kept")


def _of_reading(reading: Reading) -> str:
    """Return how cells are read, as command-line options."""
    chosen = {"--decimal": reading.decimal, "--thousands": reading.thousands}
    chosen |= {"--na": ",".join(reading.na), "--dates": reading.dates}
    return " ".join(f"{option} {value}" for option, value in chosen.items() if value)


def _of_table(net: Sequential, preparation: Preparation) -> list[list[str]]:
    target, data = preparation.target, net.metadata.get("data", {})
    lines = [
        ["data", f"{data.get('source', '-')}, {data.get('rows', 0):,} rows"],
        ["task", f"{target.task}, target {target.name!r}"],
    ]
    if target.classes:
        classes = ", ".join(target.classes[:20]) + (", ..." if len(target.classes) > 20 else "")
        lines.append(["classes", f"{len(target.classes)}: {classes}"])
    if preparation.reading is not None and (read := _of_reading(preparation.reading)):
        lines.append(["cells", read])
    scores = net.metadata.get("results", {})
    shown = ", ".join(f"{name} {reports.number(value)}" for name, value in scores.items())
    lines.append(["test", shown or "-"])
    by_kind: dict[str, list[str]] = {}
    for spec in preparation.specs:
        by_kind.setdefault(spec["kind"], []).append(spec["name"])
    for kind, names in by_kind.items():
        listed = ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")
        lines.append([kind, listed])
    return lines
