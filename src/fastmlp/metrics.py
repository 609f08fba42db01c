"""Metrics: functions of (y, out) that return a number.

y: the targets, labels (rows,) or values (rows, columns).
out: the raw outputs (rows, n_out) of the last layer.

By name, mae, rmse and r2 compare y with what the outputs mean under the loss: `Loss.point`. Sample
weights do not enter. Rows that the loss ignores are left out.
"""

from __future__ import annotations  # signatures that can be read

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from .ground.arrays import Array
from .ground.dialects import way
from .losses import Loss, SoftCrossEntropy

Metric = Callable[[Array, Array], float]

_AT_ONCE = 2**20  # outputs that are looked at together


def accuracy(y: Array, out: Array, loss: Loss | None = None) -> float:
    """Share of right answers: of rows for class labels, of elements for 0/1 targets (out > 0).

    loss, here and below: what the network was trained with; it says what out means and which rows
    count.
    """
    if len(y) != len(out):
        raise ValueError(f"y has {len(y)} rows, but the outputs have {len(out)}")
    right, n = 0, 0
    for labels, some in _blocks(y, out, loss):
        if isinstance(loss, SoftCrossEntropy):  # the likeliest class against the likeliest
            labels = labels.argmax(axis=1)
        by_row = labels.ndim == 1
        hits = some.argmax(axis=1) == labels if by_row else (some > 0) == (labels > 0.5)
        right, n = right + int(np.count_nonzero(hits)), n + hits.size
    return right / n if n else math.nan


def mae(y: Array, out: Array, loss: Loss | None = None) -> float:
    """Mean absolute error over all elements."""
    return _mean_of(np.abs, y, out, loss)


def rmse(y: Array, out: Array, loss: Loss | None = None) -> float:
    """Square root of the mean squared error over all elements."""
    return math.sqrt(_mean_of(np.square, y, out, loss))


def r2(y: Array, out: Array, loss: Loss | None = None) -> float:
    """1 - squared error / variance, averaged over the outputs; NaN where a target is constant."""
    error = total = spread = np.zeros(1)
    low, high, n = np.inf, -np.inf, 0
    for columns, values in _columns(y, out, loss):
        error = error + np.square(_error(columns, values)).sum(axis=0)
        total, n = total + columns.sum(axis=0, dtype=np.float64), n + len(columns)
        low, high = np.minimum(low, columns.min(axis=0)), np.maximum(high, columns.max(axis=0))
    for columns, _ in _columns(y, out, loss):
        spread = spread + np.square(columns - total / n).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.where(high > low, 1 - error / spread, np.nan)))


def _mean_of(function: Callable[[Array], Array], y: Array, out: Array, loss: Loss | None) -> float:
    """The mean of a function of the errors."""
    total, n = 0.0, 0
    for columns, values in _columns(y, out, loss):
        total += float(np.sum(function(_error(columns, values))))
        n += values.size
    return total / n if n else math.nan


def _error(y: Array, values: Array) -> Array:
    """In float64: sums of many float32 lose what small errors beside large values need."""
    return np.subtract(values, y, dtype=np.float64)


def _blocks(y: Array, out: Array, loss: Loss | None) -> Iterator[tuple[Array, Array]]:
    """The rows that count, some at a time, so that Ctrl-C comes between."""
    step = max(1, _AT_ONCE // max(1, out[:1].size))
    for first in range(0, len(out), step):
        some, own = y[first : first + step], out[first : first + step]
        counting = None if loss is None else loss.counting(some)
        yield (some, own) if counting is None else (some[counting], own[counting])


def _columns(y: Array, out: Array, loss: Loss | None) -> Iterator[tuple[Array, Array]]:
    """The same as y and what is compared with it, both of the same shape: (rows,) against (rows, 1)
    would be every row against every other.
    """
    columns = y[:, np.newaxis] if y.ndim == 1 else y
    for some, own in _blocks(columns, out, loss):
        values = own if loss is None else loss.point(own)
        if len(y) != len(out) or some.shape != values.shape:
            shape = (len(out), *values.shape[1:])
            raise ValueError(
                f"mae, rmse and r2 compare y with the outputs, but y has the shape {y.shape} and "
                f"the outputs {shape}; pass a function f(y, out)"
            )
        yield some, values


METRICS: dict[str, Callable[..., float]] = {f.__name__: f for f in (accuracy, mae, rmse, r2)}


def get_metrics(metrics: Sequence[str | Metric], loss: Loss) -> dict[str, Metric]:
    """Return {name: function}; ValueError for a name that is unknown or does not suit the loss."""
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        shown = "function" if callable(metrics) else repr(metrics)
        raise TypeError(f"metrics must be a list, [{shown}] for instance")
    found: dict[str, Metric] = {}
    functions: set[str] = set()
    for metric in metrics:
        if callable(metric):
            name = _name_of(metric)
            if name in found or name in ("loss", "lr") or name.startswith("val_"):
                raise ValueError(
                    f"a metric cannot be called {name!r}: that name is taken; give each function "
                    "another __name__"
                )
            found[name] = _of_counted(_of_function(name, metric), loss)
            functions.add(name)
        elif metric not in METRICS:
            advice = way("metric", str(metric))
            advice = advice or f"use a function or one of {', '.join(METRICS)}"
            raise ValueError(f"metric {metric!r} is unknown; {advice}")
        else:
            kind = "classes" if metric == "accuracy" else "values"
            if loss.predicts not in (kind, ""):
                raise ValueError(
                    f"metric {metric!r} is about {kind}, which loss={loss.name!r} does not predict"
                )
            if metric in found and metric in functions:
                raise ValueError(f"two metrics are called {metric!r}; rename your function")
            is_unclear = kind == "classes" and not loss.predicts
            found[metric] = _compared if is_unclear else partial(METRICS[metric], loss=loss)
    return found


def _of_counted(metric: Metric, loss: Loss) -> Metric:
    """A function of the rows that count for the loss; NaN where none do."""
    if loss.counting(np.empty(0)) is None:
        return metric

    def of_counted(y: Array, out: Array) -> float:
        counting = loss.counting(y)
        assert counting is not None
        return metric(y[counting], out[counting]) if counting.any() else math.nan

    return of_counted


def check_targets(metrics: dict[str, Metric], loss: Loss, y: Array, n_out: int) -> None:
    """Raise ValueError if a custom loss has targets that a metric of ours would misread."""
    if not loss.predicts:
        out = np.zeros((len(y), n_out), np.float32)
        for name in metrics.keys() & METRICS.keys():
            metrics[name](y, out)


def _name_of(metric: Metric) -> str:
    """The name of the function, of the one inside a functools.partial, or of an object's class."""
    function = metric.func if isinstance(metric, partial) else metric
    return str(getattr(function, "__name__", type(function).__name__))


def _of_function(name: str, function: Metric) -> Metric:
    """The user's function, with a check that it returns a number."""

    def metric(y: Array, out: Array) -> float:
        value = function(y, out)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"metric {name!r} must return a number, not {value!r}") from None

    return metric


def _compared(y: Array, out: Array) -> float:
    """Accuracy under a custom loss: only of targets that say what they mean."""
    columns = y[:, np.newaxis] if y.ndim == 1 and out.shape[1] == 1 else y
    labels = columns.ndim == 1 and columns.dtype.kind == "i"
    if labels and columns.min() >= 0 and columns.max() < out.shape[1]:
        return accuracy(columns, out)
    if columns.shape == out.shape and np.all((columns == 0) | (columns == 1)):
        return accuracy(columns, out)
    raise ValueError(
        "metric 'accuracy' knows labels 0 .. n_out - 1, or 0 and 1 for each output; for this y "
        f"with {out.shape[1]} outputs pass a function f(y, out)"
    )


def default_metrics(loss: Loss) -> list[str | Metric]:
    """The metrics that `evaluate` reports beside the loss if none are given."""
    return ["accuracy"] if loss.predicts == "classes" else []
