"""`fastmlp train`: from a table to a tested model. main.py parses the options."""

import os
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import atomic as files
from ..ground.arrays import Array
from ..ground.errors import DivergenceError
from ..layers import ACTIVATION_CLASSES, Dropout, Layer, Linear
from ..optimizers import SGD, Adam, AdamW, Optimizer
from ..sequential import Sequential
from ..tables.leaks import copies, row_numbers
from ..tables.preparation import Counts, Preparation, check_missing
from ..tables.reading import DIGITS, read_table
from ..tables.table import Reading, Table, TableError, near_misses
from ..tables.targets import Target, infer_task
from ..training.callbacks import Callback, EarlyStopping
from ..training.run import History, Run
from . import report as reports
from .console import Voice
from .splits import split_rows

ACTIVATIONS = {kind.name: kind for kind in ACTIVATION_CLASSES.values()}
INTERRUPTED = 130  # exit code: 128 + SIGINT, as in shells


@dataclass
class Split:
    """The prepared rows of one part: training, validation or test."""

    X: Array
    y: Array
    raw: Array  # the target as in the file
    counts: Counts


class _Units(Callback):
    """Makes the progress line use the unit of the target, as the table of test scores does."""

    def __init__(self, target: Target) -> None:
        self._std = target.std

    def on_fit_begin(self, run: Run) -> None:
        """See Callback."""
        run.units = {"loss": self._std**2, "rmse": self._std}


def train(options: Namespace) -> int:
    """Run `fastmlp train` and return the exit code."""
    voice = Voice(options.quiet)
    if options.output == "-":
        raise TableError("standard output has the report; give -o a file for the model")
    model = Path(options.output)
    check_writable(model)
    picture = model.with_name(model.stem.removesuffix("-model") + "-learning-curve.png")
    check_writable(picture)
    check_overwrites_none([model, picture], [options.data])
    reports.require_plots()
    optimizer = make_optimizer(options)
    reading = reading_of(options)
    table, target_name = _load(options, reading)
    preparation, parts = _prepare(options, voice, table, target_name, reading)
    weights = class_weights_of(options, preparation.target)
    net = build_network(options, preparation)
    hidden = [layer for layer in net.layers if isinstance(layer, Linear)]
    widths = " - ".join(str(n) for n in (net.n_in, *(layer.weight.shape[1] for layer in hidden)))
    voice.say("network", f"{widths}, {options.activation}, {net.n_params:,} parameters")
    started = time.perf_counter()
    end, best = _fit(options, net, optimizer, preparation.target, parts, weights)
    if isinstance(end, DivergenceError) and not best:
        raise end  # the remaining weights are useless, so no file is written
    if end and net.step == 0:
        warn = Voice(on_stderr=True)
        warn.say("fastmlp: interrupted before the first step; nothing was saved")
        return INTERRUPTED
    history = net.history or History()
    _tell_end(voice, history, net, end, time.perf_counter() - started)
    results, report = ({}, []) if end else _test(net, preparation.target, parts)
    written = _save(net, model, picture, table, preparation, results)
    for paragraph in report:
        voice.say("")
        voice.say(paragraph)
    voice.say("")
    voice.say("written", ", ".join(written))
    if end is None:
        _suggest(voice, options, model)
        return 0
    saved = f"the weights of epoch {best}, the best, are" if best else "the model so far is"
    if isinstance(end, DivergenceError):
        text = f"error: training diverged in epoch {end.epoch} (step {end.step}); lower --lr"
    else:
        text = f"interrupted in epoch {net.epoch + 1}"
    Voice(on_stderr=True).say(f"fastmlp: {text}; {saved} in {model}")
    return 2 if isinstance(end, DivergenceError) else INTERRUPTED


def _save(
    net: Sequential,
    model: Path,
    picture: Path,
    table: Table,
    preparation: Preparation,
    results: dict[str, float],
) -> list[str]:
    """Write the model and, if an epoch was finished, its learning curve; return their names."""
    history, target = net.history or History(), preparation.target
    metadata = {
        "preparation": preparation.to_dict(),
        "data": {"source": table.source, "rows": table.rows},
        "results": results,
        "history": dict(history),
    }
    net.save(model, metadata=metadata)
    if not history:
        return [str(model)]
    title = f"{table.source}: {target.name} ({target.task})"
    files.write_safely(picture, reports.learning_curve(history, target, title))
    return [str(model), str(picture)]


def reading_of(options: Namespace) -> Reading:
    """Return the reading of cells that the options ask for.

    `predict` has no options about columns. Raises TableError if two marks are the same.
    """
    columns = {
        name: tuple(getattr(options, name, None) or ())
        for name in ("drop", "categorical", "numeric")
    }
    if options.decimal and options.decimal == options.thousands:
        raise TableError(f"--decimal and --thousands cannot both be {options.decimal!r}")
    na = tuple(options.na or ())
    return Reading(options.decimal, options.thousands, na, options.dates, **columns)


def _load(options: Namespace, reading: Reading) -> tuple[Table, str]:
    """Return the table and the name of its target column."""
    suffix = Path(options.data).suffix.lower()
    by_place = suffix in (".npz", ".npy")
    if options.target is not None and options.target in reading.drop:
        raise TableError(f"--drop would leave the target {options.target!r} out")
    table = read_table(options.data, options.target if by_place else None, reading=reading)
    target = table.target if by_place else options.target or table.target
    if target is None:
        raise TableError(
            f"--target is missing; {table.source} has the columns "
            f"{', '.join(list(table.columns)[:20])}{', ...' if len(table.columns) > 20 else ''}"
        )
    if len(table.columns) == 1 and target not in table.columns and suffix == ".csv":
        raise TableError(
            f"{table.source} has one column, {next(iter(table.columns))!r}; fields end in a comma, "
            "a semicolon, a tab or |"
        )
    table.column(target, "array" if suffix == ".npz" else "column")
    return table, target


def _prepare(
    options: Namespace, voice: Voice, table: Table, name: str, reading: Reading
) -> tuple[Preparation, dict[str, Split]]:
    """Report on the data and convert them to matrices."""
    voice.say(
        "data",
        f"{table.source}: {reports.plural(table.rows, 'row')}, "
        f"{reports.plural(len(table.columns) - 1, 'feature column')}, target {name!r}",
    )
    left_out = row_numbers(table, name, reading.numeric + reading.categorical)
    kept, missing = check_missing(table, name, options.missing)
    for number, line in enumerate(reports.notes(table.notes)):
        voice.say("" if number else "read", line)
    _tell_missing(voice, table, kept, missing, name, options.missing)
    values = kept.columns[name]
    task, reason = infer_task(name, values, options.task)
    is_values = task == "regression"
    for line in reports.notes(copies(kept, name, not is_values)):
        voice.say("target", line)
    labels = None if is_values else Target.learn(name, task, values, values).encode(values)
    rows = split_rows(labels, kept.rows, options.validation_size, options.test_size, options.seed)
    if len(rows[0]) < 2:
        raise TableError("no training rows are left; lower --test-size or --validation-size")
    target = Target.learn(name, task, values, rows[0])
    target.dates = table.orders.get(name)
    preparation = Preparation.learn(kept.take(rows[0]), target, options.missing, reading, left_out)
    _tell_columns(voice, preparation)
    classes = f", {len(target.classes)} classes" if task == "multiclass" else ""
    voice.say("task", f"{task}{classes}: {reason}" + ("" if options.task else "; --task overrides"))
    parts = _split(kept, preparation, rows, options.dtype)
    sizes = ", ".join(f"{len(part.y):,} {part_name}" for part_name, part in parts.items())
    voice.say("split", f"{sizes} rows" + ("" if is_values else ", stratified by class"))
    _tell_strangers(voice, parts)
    return preparation, parts


def _split(
    table: Table, preparation: Preparation, rows: tuple[Array, Array, Array], dtype: str
) -> dict[str, Split]:
    parts = {}
    for name, part in zip(("train", "validation", "test"), rows, strict=True):
        raw = table.columns[preparation.target.name][part]
        X, counts = preparation.encode(table.take(part))
        parts[name] = Split(X.astype(dtype), preparation.target.encode(raw), raw, counts)
    return parts


def _tell_strangers(voice: Voice, parts: dict[str, Split]) -> None:
    """Report values of validation and test rows that no training row has."""
    for name in ("validation", "test"):
        for what, effect in (
            ("unknown", "text that no training row has: no category"),
            ("clipped", "numbers far beyond those of training rows: clipped"),
        ):
            columns = parts[name].counts[what]
            if columns:
                voice.say("", f"{name} rows, {effect}: {reports.listed(columns)}")


def _tell_missing(
    voice: Voice, table: Table, kept: Table, missing: dict[str, int], target: str, choice: str
) -> None:
    if not missing:
        return
    counts = ", ".join(f"{name} {count:,}" for name, count in missing.items())
    voice.say("missing", f"values by column: {counts}")
    dropped = table.rows - kept.rows
    if dropped:
        why = "a missing target" if choice == "impute" else "missing values"
        voice.say("", f"{reports.plural(dropped, 'row')} with {why} dropped")
    if choice == "impute" and set(missing) - {target}:
        voice.say("", "numbers filled with the median, text with the most frequent")


def _tell_columns(voice: Voice, preparation: Preparation) -> None:
    kinds = [spec["kind"] for spec in preparation.specs]
    counted = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds) if kind != "ignored"]
    voice.say("columns", f"{', '.join(counted)} -> {reports.plural(preparation.n_in, 'input')}")
    left_out: dict[str, list[str]] = {}
    for spec in preparation.specs:
        if spec["kind"] == "ignored":
            left_out.setdefault(spec["reason"], []).append(spec["name"])
        elif spec.get("distinct", 0) > len(spec.get("categories", [])):
            text = f"{spec['name']}: the {len(spec['categories'])} most frequent of "
            voice.say("", f"{text}{spec['distinct']} categories are used")
    far = [spec["name"] for spec in preparation.used if "tail" in spec]
    if far:
        text = "some values are far from the others; goes in twice, the second time as a logarithm"
        voice.say("", f"{text}: {', '.join(far[:6])}" + f", ... ({len(far)})" * (len(far) > 6))
    for reason, names in left_out.items():
        shown = ", ".join(names[:6]) + (f", ... ({len(names)})" if len(names) > 6 else "")
        voice.say("", f"left out ({reason}): {shown}")


def make_optimizer(options: Namespace) -> Optimizer:
    """Return the optimizer of the options; raises TableError for weight decay with adam."""
    decay = options.weight_decay
    if options.optimizer == "adam":
        if decay:
            raise TableError("adam has no weight decay; use --optimizer adamw or sgd")
        return Adam(lr=options.lr or 1e-3)
    if options.optimizer == "adamw":
        return AdamW(lr=options.lr or 1e-3, weight_decay=0.01 if decay is None else decay)
    return SGD(lr=options.lr or 0.05, momentum=0.9, weight_decay=decay or 0.0)


def class_weights_of(options: Namespace, target: Target) -> str | dict[int, float] | None:
    """Return `fit`'s class_weight from --class-weight; raises TableError for unknown classes."""
    asked = options.class_weight
    if asked is None:
        return None
    if target.task == "regression":
        raise TableError("--class-weight needs classes; this task is regression")
    if isinstance(asked, str):
        return asked
    known = {name: label for label, name in enumerate(target.classes)}
    for name in asked:
        if name not in known:
            raise TableError(
                f"--class-weight: target {target.name!r} has no class {name!r}; "
                f"{near_misses(name, target.classes)}"
            )
    return {known[name]: weight for name, weight in asked.items()}


def build_network(options: Namespace, preparation: Preparation) -> Sequential:
    """Return a network: Linear, activation and dropout per hidden width, then the outputs."""
    dropout = options.dropout
    if dropout is None:  # in regression, its noise costs more precision than it gains
        dropout = 0.0 if preparation.target.task == "regression" else 0.4
    layers: list[Layer] = []
    width = preparation.n_in
    for n_out in options.hidden:
        layers += [Linear(width, n_out), ACTIVATIONS[options.activation]()]
        if dropout:
            layers.append(Dropout(dropout))
        width = n_out
    layers.append(Linear(width, preparation.target.n_out))
    return Sequential(layers, seed=options.seed, dtype=options.dtype)


def _fit(
    options: Namespace,
    net: Sequential,
    optimizer: Optimizer,
    target: Target,
    parts: dict[str, Split],
    weights: str | dict[int, float] | None,
) -> tuple[KeyboardInterrupt | DivergenceError | None, int]:
    """Train the network.

    Returns the exception that stopped training, or None, and the epoch of the restored best
    weights, or 0.
    """
    part, held = parts["train"], parts["validation"]
    has_validation = len(held.y) > 0
    callbacks: list[Callback] = []
    stopper = EarlyStopping(patience=options.patience)
    if has_validation and options.patience:
        callbacks.append(stopper)
    is_values = target.task == "regression"
    if is_values:
        callbacks.append(_Units(target))
    end: KeyboardInterrupt | DivergenceError | None = None
    try:
        net.fit(
            part.X,
            part.y,
            loss=target.loss,
            optimizer=optimizer,
            batch_size=options.batch_size,
            epochs=options.epochs,
            validation_data=(held.X, held.y) if has_validation else None,
            metrics=["rmse" if is_values else "accuracy"],
            callbacks=callbacks,
            class_weight=weights,
            threads=options.threads,
            verbose=0 if options.quiet else 1,
        )
    except DivergenceError as error:
        end = error
    except KeyboardInterrupt as error:
        end = error
        stopper.restore(net)
    return end, stopper.best_epoch


def _tell_end(
    voice: Voice, history: History, net: Sequential, end: BaseException | None, seconds: float
) -> None:
    epochs = f"{reports.plural(net.epoch, 'epoch')} in {seconds:.1f} s"
    if end:
        what = "diverged" if isinstance(end, DivergenceError) else "interrupted"
        voice.say("trained", f"{epochs}, then {what}")
    elif history.stop_reason:
        voice.say("trained", f"{epochs}; {history.stop_reason}")
    else:
        voice.say("trained", epochs)


def _test(
    net: Sequential, target: Target, parts: dict[str, Split]
) -> tuple[dict[str, float], list[str]]:
    """Return the scores on the test rows, and paragraphs that compare them with a baseline."""
    test = parts["test"]
    if len(test.y) == 0:
        return {}, [f"{'test':<11}no rows were set aside (--test-size 0)"]
    name, base = reports.baseline(target, parts["train"].raw, test.raw)
    out = net.predict_raw(test.X)
    if target.task == "regression":
        predicted = out[:, 0].astype(np.float64) * target.std + target.mean
        scores = reports.value_scores(test.raw, predicted)
    else:
        proba = reports.class_probabilities(target.loss, out)
        scores = reports.class_scores(test.y, proba)
    what = f"test, {reports.plural(len(test.y), 'row')}"
    report = [reports.comparison(scores, name, base, what)]
    if reports.shows_classes(target):
        report.append(reports.per_class(target, test.y, proba.argmax(axis=1)))
    return scores, report


def _suggest(voice: Voice, options: Namespace, model: Path) -> None:
    data = DIGITS if options.data == DIGITS else "NEW_ROWS.csv"
    voice.say("next", f"fastmlp predict {model} {data} -o predictions.csv")
    voice.say("", f"fastmlp info {model}")


def check_overwrites_none(outputs: Sequence[str | Path], inputs: Sequence[str]) -> None:
    """Raise TableError if an output would overwrite an input or another output.

    Other names of a file, and links to it, are detected.
    """
    for i, output in enumerate(outputs):
        for other in (*inputs, *outputs[:i]):
            if other != DIGITS and files.is_same_file(output, other):
                raise TableError(f"{output} would overwrite {other}; write elsewhere with -o")


def check_writable(path: Path) -> None:
    """Raise TableError if a file cannot be written, before hours are spent on its contents."""
    if path.is_dir():
        raise TableError(f"{path} is a folder; name a file in it")
    if files.is_stream(path):
        if path.exists() and not os.access(path, os.W_OK):
            raise TableError(f"{path} cannot be written; choose another place with -o")
        return
    if not path.parent.is_dir():
        raise TableError(f"there is no folder {path.parent}; create it, or write elsewhere with -o")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise TableError(f"{path} cannot be written; choose another place with -o")
