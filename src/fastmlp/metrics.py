"""Metrics: functions of (y, out) that return a number.

y: the targets, labels (rows,) or values (rows, columns).
out: the raw outputs (rows, n_out) of the last layer.

By name, mae, rmse and r2 compare y with what the outputs mean under the loss: `Loss.point`. Sample
weights do not enter. Rows that the loss ignores are left out.
"""

from __future__ import annotations  # signatures that can be read

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from .ground.arrays import Array
from .ground.dialects import way
from .losses import Loss, SoftCrossEntropy

Metric = Callable[[Array, Array], float]


def accuracy(y: Array, out: Array) -> float:
    """Share of right answers: of rows for class labels, of elements for 0/1 targets (out > 0)."""
    if y.ndim == 1:
        return float(np.mean(out.argmax(axis=1) == y))
    return float(np.mean((out > 0) == (y > 0.5)))


def mae(y: Array, out: Array) -> float:
    """Mean absolute error over all elements."""
    return float(np.mean(np.abs(_error(y, out))))


def rmse(y: Array, out: Array) -> float:
    """Square root of the mean squared error over all elements."""
    return float(np.sqrt(np.mean(np.square(_error(y, out)))))


def r2(y: Array, out: Array) -> float:
    """1 - squared error / variance, averaged over the outputs; NaN if a target is constant."""
    y = _columns(y, out)
    error = np.square(_error(y, out)).sum(axis=0)
    spread = np.square(y - y.mean(axis=0, dtype=np.float64)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.where(np.ptp(y, axis=0) > 0, 1 - error / spread, np.nan)))


def _error(y: Array, out: Array) -> Array:
    """The error in float64: a sum of many float32 loses the small errors beside large values."""
    return np.subtract(out, _columns(y, out), dtype=np.float64)


def _columns(y: Array, out: Array) -> Array:
    """Return y in the shape of out: (rows,) minus (rows, 1) would give (rows, rows)."""
    columns = y[:, np.newaxis] if y.ndim == 1 else y
    if columns.shape != out.shape:
        raise ValueError(
            f"mae, rmse and r2 compare y with the outputs, but y has the shape {y.shape} and the "
            f"outputs {out.shape}; pass a function f(y, out)"
        )
    return columns


METRICS: dict[str, Metric] = {f.__name__: f for f in (accuracy, mae, rmse, r2)}


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
            found[name] = _of_function(name, metric)
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
            found[metric] = _of_classes(loss) if kind == "classes" else _of_values(metric, loss)
    if loss.counting(np.empty(0)) is not None:
        return {name: _of_counted(metric, loss) for name, metric in found.items()}
    return found


def _of_counted(metric: Metric, loss: Loss) -> Metric:
    """The metric over the rows that count for the loss; NaN if none do."""

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


def _of_values(metric: str, loss: Loss) -> Metric:
    """The metric over what the outputs mean under the loss: a rate, a mean, a quantile."""
    return lambda y, out: METRICS[metric](y, loss.point(out))


def _of_classes(loss: Loss) -> Metric:
    """Accuracy. Under a custom loss only unambiguous targets are compared."""
    if isinstance(loss, SoftCrossEntropy):  # compares the likeliest classes of y and out
        return lambda y, out: accuracy(y.argmax(axis=1), out)
    if loss.predicts:
        return accuracy

    def compare(y: Array, out: Array) -> float:
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

    return compare


def default_metrics(loss: Loss) -> list[str | Metric]:
    """The metrics that `evaluate` reports beside the loss if none are given."""
    return ["accuracy"] if loss.predicts == "classes" else []
