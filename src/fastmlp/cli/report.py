"""Reports of the command line: aligned tables, test metrics, the picture of the learning curve."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..analysis.summary import table
from ..ground.arrays import Array
from ..losses import probabilities
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
    accuracy = float(np.mean(proba.argmax(axis=1) == labels))
    return {"accuracy": accuracy, "log loss": float(-np.log(of_label).mean())}


def value_scores(y: Array, predicted: Array) -> Scores:
    """Return RMSE and MAE, in the unit of the target, and R2."""
    error = predicted - y
    spread = float(np.square(y - y.mean()).sum())
    return {
        "RMSE": float(np.sqrt(np.square(error).mean())),
        "MAE": float(np.abs(error).mean()),
        "R2": 1 - float(np.square(error).sum()) / spread if spread > 0 else math.nan,
    }


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
    """Return a PNG with a panel of the losses and one of the metric, and the best epoch marked."""
    from matplotlib.figure import Figure

    metric = "rmse" if target.task == "regression" else "accuracy"
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    loss_axes, metric_axes = figure.subplots(1, 2)
    is_value = target.task == "regression"
    _panel(loss_axes, history, "loss", 1.0)
    _panel(metric_axes, history, metric, target.std if is_value else 1.0)
    loss_name = "squared error, standardised target" if is_value else target.loss.replace("_", " ")
    loss_axes.set(ylabel=f"loss ({loss_name})", yscale="log")
    metric_axes.set(ylabel=f"RMSE of {target.name}" if is_value else "accuracy")
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _panel(axes: Any, history: History, name: str, scale: float) -> None:
    for key, label, color in (
        (name, "training", "tab:blue"),
        (f"val_{name}", "validation", "tab:orange"),
    ):
        values = np.array(history.get(key, [])) * scale
        marker = "o" if len(values) < 2 else None
        axes.plot(np.arange(1, len(values) + 1), values, label=label, color=color, marker=marker)
    best = best_epoch(history)
    if best:
        value = history[f"val_{name}"][best - 1] * scale
        axes.axvline(best, color="0.6", linestyle="--", linewidth=1, zorder=0)
        axes.plot(
            [best], [value], "o", color="tab:orange", label=f"best epoch {best}: {number(value)}"
        )
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def best_epoch(history: History) -> int:
    """Return the epoch, counted from 1, of the lowest validation loss, or 0 without one."""
    values = history.get("val_loss", [])
    return int(np.nanargmin(values)) + 1 if np.isfinite(values).any() else 0
