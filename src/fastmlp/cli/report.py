"""Reports of the command line: aligned tables, test metrics, the picture of the learning curve."""

import copy
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..analysis.summary import table
from ..ground.arrays import Array
from ..losses import probabilities
from ..metrics import accuracy, mae, r2, rmse
from ..plot import learning_curves
from ..tables.table import Note
from ..tables.targets import Target
from ..training.run import History

Scores = dict[str, float]

_MAX_CLASS_ROWS = 20
_TINY = 1e-15  # smallest probability in the log loss


def number(value: float) -> str:
    """Return a number with four significant digits, or with all digits before the point."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def plural(count: int, thing: str) -> str:
    """Return a count with its noun: 1 row, 2 rows, 3 classes."""
    ending = "es" if thing.endswith("s") else "s"
    return f"{count:,} {thing}{ending if count != 1 else ''}"


def listed(counts: Mapping[str, int], most: int = 6) -> str:
    """Return columns with their number of cells, as "a (3), b (5), ..."; 0 means all cells."""
    shown = [f"{name} ({n:,})" if n else name for name, n in list(counts.items())[:most]]
    more = f", ... ({len(counts)} columns)" if len(counts) > most else ""
    return ", ".join(shown) + more


def notes(told: Sequence[Note]) -> list[str]:
    """Return the decisions made while reading, one line per kind."""
    kinds: dict[str, dict[str, int]] = {}
    for note in told:
        kinds.setdefault(note.what, {})[note.column] = note.cells
    return [
        what if "" in columns else f"{what}: {listed(columns)}" for what, columns in kinds.items()
    ]


# ---- metrics -------------------------------------------------------------------------------------


def class_probabilities(loss: str, out: Array) -> Array:
    """Return the probabilities (rows, classes) of raw outputs; one output means two classes.

    They are float64, and none is computed as 1 minus another: a small one would become 0, and its
    log loss infinite.
    """
    z = out.astype(np.float64)
    return probabilities(loss, np.hstack([-z, z]) if z.shape[1] == 1 else z)


def probability(value: float, digits: int) -> str:
    """Return a probability with so many digits, or all digits if it would be rounded to 1."""
    text = f"{value:.{digits}g}"
    return repr(float(value)) if text == "1" else text


def class_scores(labels: Array, proba: Array) -> Scores:
    """Return accuracy and log loss of probabilities (rows, classes)."""
    of_label = np.clip(proba[np.arange(len(labels)), labels], _TINY, 1)
    return {"accuracy": accuracy(labels, proba), "log loss": float(-np.log(of_label).mean())}


def value_scores(y: Array, predicted: Array) -> Scores:
    """Return RMSE and MAE, in the unit of the target, and R2."""
    out = predicted[:, np.newaxis]
    return {"RMSE": rmse(y, out), "MAE": mae(y, out), "R2": r2(y, out)}


def baseline(target: Target, train: Array, test: Array) -> tuple[str, Scores]:
    """Return (name, scores) of a model that ignores the features, from the raw targets."""
    if target.task == "regression":
        return "baseline (mean)", value_scores(test, np.full(len(test), train.mean()))
    labels = target.encode(train)
    shares = np.bincount(labels, minlength=len(target.classes)) / len(labels)
    return "baseline (majority)", class_scores(target.encode(test), np.tile(shares, (len(test), 1)))


def comparison(scores: Scores, name: str, base: Scores, what: str) -> str:
    """Return the table of the model's scores next to those of the baseline."""
    rows = [[metric, number(scores[metric]), number(base[metric])] for metric in scores]
    return table(rows, [what, "network", name])


def per_class(target: Target, labels: Array, predicted: Array) -> str:
    """Return the table of precision and recall of every class; "-" means no such rows."""
    rows = []
    for label, name in enumerate(target.classes):
        hits = int(np.sum((labels == label) & (predicted == label)))
        found, there = int(np.sum(predicted == label)), int(np.sum(labels == label))
        precision = f"{hits / found:.3f}" if found else "-"
        recall = f"{hits / there:.3f}" if there else "-"
        rows.append([name, precision, recall, str(there)])
    return table(rows, ["class", "precision", "recall", "rows"])


def shows_classes(target: Target) -> bool:
    """Whether there are few enough classes for a table."""
    return 0 < len(target.classes) <= _MAX_CLASS_ROWS


# ---- the picture ---------------------------------------------------------------------------------


def require_plots() -> None:
    """Raise ImportError before the training if matplotlib is missing."""
    import matplotlib.figure  # noqa: F401


def learning_curve(history: History, target: Target, title: str) -> bytes:
    """Return a PNG with a panel of the losses and one of the metric, in the unit of the target."""
    from matplotlib.figure import Figure

    metric, loss, unit, shown = "accuracy", target.loss.replace("_", " "), 1.0, "accuracy"
    if target.task == "regression":
        metric, loss, unit = "rmse", "squared error, standardized target", target.std
        shown = f"RMSE of {target.name}"
    in_units = copy.copy(history)
    for key in (metric, f"val_{metric}"):
        if key in history:
            in_units[key] = [unit * value for value in history[key]]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    loss_axes, metric_axes = figure.subplots(1, 2)
    learning_curves(history, loss_axes)
    learning_curves(in_units, metric_axes, metric)
    loss_axes.set(ylabel=f"loss ({loss})", yscale="log")
    metric_axes.set(ylabel=shown)
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
