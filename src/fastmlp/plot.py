"""Pictures of training and of models, on matplotlib axes.

    from fastmlp import plot
    ax = plot.decision_boundary(net, X, y)
    ax.figure.savefig("boundary.png")

Every function takes the axes to draw on (`ax=None` makes a figure with one) and returns them, so
labels, limits and titles can be changed afterwards. A second model on the same axes gets other
colors. New axes use COLOURS by Okabe and Ito (2008), which readers with any color vision can tell
apart. Classes have different markers as well. matplotlib is imported with the first picture and
comes with `pip install "fastmlp[train]"`.
"""

from __future__ import annotations  # signatures that can be read

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .ground.arrays import Array
from .ground.checks import check_count
from .ground.conversion import as_numbers, check_finite
from .layers import Layer, Linear
from .losses.targets import check_missing

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#F0E442", "#000000")
_MARKERS = "os^Dv<>PX*p"  # 11 markers and 8 colors, so that a pair comes again after 88 classes


def learning_curves(
    history: Mapping[str, Sequence[float]],
    ax: Any = None,
    name: str = "loss",
    *,
    label: str | None = None,
) -> Any:
    """Draw a quantity of a History against the epoch, for training and validation.

    The epoch of the lowest validation loss is marked. If the network has dropout, the training
    curve includes it, as the legend then says, and so may lie above that of validation.

    history: a History, or a mapping name -> one number an epoch.
    ax: the axes to draw on; None makes new ones.
    name: the logged quantity; that of the validation data is "val_" + name.
    label: the name of the model, written before each entry of the legend.

    Returns the axes. Raises ValueError if neither curve was logged.
    """
    training = "training" + ", dropout included" * getattr(history, "includes_dropout", False)
    series = [(name, training, BLUE), (f"val_{name}", "validation", ORANGE)]
    if name.startswith("val_"):
        series = [(name, name, ORANGE)]
    if not any(key in history for key, _, _ in series):
        raise ValueError(
            f"the history holds no {name!r}; it holds {', '.join(history) or 'nothing'}"
        )
    ax, before = _axes(ax), f"{label}, " if label else ""
    color = ORANGE
    for key, curve, usual in series:
        if key in history:
            values = np.asarray(history[key], np.float64)
            look = {"color": (color := _unused(ax, usual)), "label": before + curve}
            marker = "o" if len(values) == 1 else None
            ax.plot(np.arange(1, len(values) + 1), values, marker=marker, **look)
    held_out = np.asarray(history.get("val_loss", ()), np.float64)
    if f"val_{name}" in history and np.isfinite(held_out).any():
        best = int(np.nanargmin(held_out))
        lowest = f"{before}{'lowest' if name == 'loss' else 'lowest loss'}, epoch {best + 1}"
        ax.scatter(best + 1, values[best], color=color, label=lowest, zorder=3)
    ax.set(xlabel="epoch", ylabel=name)
    ax.legend(frameon=False)
    return ax


def decision_boundary(
    model: Any, X: ArrayLike, y: ArrayLike, ax: Any = None, resolution: int = 200
) -> Any:
    """Draw the region of each class of a classifier on two features, and the examples.

    With two classes the shade is the probability and the line is at 1/2. With more, each class has
    its region.

    model: an object with predict_proba, or a function X -> probabilities. One column is the
        probability of the second class.
    X: examples (rows, 2).
    y: labels (rows,).
    ax: the axes to draw on; None makes new ones.
    resolution: points along an axis, >= 2.

    Returns the axes. Raises ValueError for other shapes, and for classes of y that the
    probabilities do not cover. Raises TypeError for a model without probabilities.
    """
    check_missing(y, "y")
    points, labels = _numbers(X, "X", 2), np.asarray(y)
    resolution = check_count(resolution, "resolution", 2)
    if points.shape[1] != 2:
        raise ValueError(f"X has {points.shape[1]} features; a boundary is drawn for two")
    if labels.shape not in ((len(points),), (len(points), 1)):
        raise ValueError(f"y has the shape {labels.shape}, expected ({len(points)},)")
    labels = labels.reshape(-1)
    predict = getattr(model, "predict_proba", model)
    if not callable(predict):
        raise TypeError(f"model must have predict_proba or be a function, not {model!r}")
    x1, x2 = (np.linspace(*_with_margin(x), resolution) for x in points.T)
    grid = np.stack(np.meshgrid(x1, x2), axis=-1)
    proba = _probabilities(predict, grid.reshape(-1, 2))
    classes = _classes_of(model, labels, proba.shape[1])
    ax = _axes(ax)
    if proba.shape[1] == 2:
        _shade_probability(ax, x1, x2, proba[:, 1].reshape(resolution, resolution))
    else:
        _shade_regions(ax, x1, x2, proba.argmax(axis=1).reshape(resolution, resolution))
    for place, name in enumerate(classes):
        if (labels == name).any():
            _scatter(ax, points[labels == name], place, name)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    return ax


def residuals(y: ArrayLike, pred: ArrayLike, ax: Any = None) -> Any:
    """Draw the residuals y - pred against pred; no pattern should remain about the line at zero.

    Every output has the next color of the axes' cycle.

    y: targets (rows,) or (rows, n_out).
    pred: predictions of the same shape.
    ax: the axes to draw on; None makes new ones.

    Returns the axes. Raises ValueError for other shapes.
    """
    target, predicted = (_columns(a, name) for a, name in ((y, "y"), (pred, "pred")))
    if target.shape != predicted.shape:
        raise ValueError(f"y has the shape {target.shape}, pred {predicted.shape}")
    ax = _axes(ax)
    ax.axhline(0, color="0.4", linewidth=1)
    many = target.shape[1] > 1
    for k in range(target.shape[1]):
        ax.scatter(
            predicted[:, k],
            (target - predicted)[:, k],
            s=16,
            marker=_MARKERS[k % len(_MARKERS)],
            alpha=0.7,
            linewidths=0,
            label=f"output {k + 1}" if many else None,
        )
    ax.set(xlabel="prediction", ylabel="residual, y - prediction")
    if many:
        ax.legend(frameon=False)
    return ax


def calibration(y: ArrayLike, proba: ArrayLike, ax: Any = None, bins: int = 10, **line: Any) -> Any:
    """Draw how often y is 1 among rows of similar predicted probability.

    The probabilities are grouped into `bins` equal intervals. Points on the diagonal are
    calibrated. A point's area is the share of rows in its interval; empty intervals have no point
    (DeGroot, Fienberg 1983).

    y: 0 and 1, (rows,).
    proba: the probability of 1, (rows,) or (rows, 1).
    ax: the axes to draw on; None makes new ones.
    bins: the number of intervals, >= 1.
    line: keywords of matplotlib's plot (label, color). If color is left out, it is the next of the
        axes' cycle.

    Returns the axes. Raises ValueError for other values and shapes.
    """
    target, predicted = (_columns(a, name) for a, name in ((y, "y"), (proba, "proba")))
    if target.shape != predicted.shape or target.shape[1] != 1:
        raise ValueError(
            f"y has the shape {np.shape(y)}, proba {np.shape(proba)}; both must be (rows,): of "
            "several classes, take one column at a time"
        )
    if not np.isin(target, (0, 1)).all():
        raise ValueError("y must hold 0 and 1 only")
    if (predicted < 0).any() or (predicted > 1).any():
        raise ValueError("proba must lie in [0, 1]; give probabilities, not logits")
    bins = check_count(bins, "bins")
    place = np.minimum((predicted[:, 0] * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = counts > 0
    mean, share = (
        np.bincount(place, weights=a[:, 0], minlength=bins)[used] / counts[used]
        for a in (predicted, target)
    )
    ax = _axes(ax)
    if "calibrated" not in (drawn.get_label() for drawn in ax.get_lines()):
        ax.plot([0, 1], [0, 1], "--", color="0.4", linewidth=1, label="calibrated")
    label = line.pop("label", "model")
    (drawn,) = ax.plot(mean, share, **{"linewidth": 1} | line)
    size = 20 + 300 * counts[used] / counts.sum()
    color = drawn.get_color()
    ax.scatter(mean, share, s=size, color=color, label=label, clip_on=False, zorder=3)
    ax.set(xlabel="predicted probability", ylabel="share of y = 1", xlim=(0, 1), ylim=(0, 1))
    ax.legend(frameon=False)
    return ax


def gradient_norms(norms: Any, ax: Any = None, **line: Any) -> Any:
    """Draw norms of the gradient layer by layer, on a logarithmic scale.

    norms: (n_layers,), drawn as one line over the layers, in the next color of the axes' cycle; or
        (epochs, n_layers), or the callback `GradientNorms`, drawn as a line over the epochs for
        each layer, from the first (dark) to the last (light).
    ax: the axes to draw on; None makes new ones.
    line: keywords of matplotlib's plot (label, color; linestyle tells networks apart if each has
        many lines).

    Returns the axes. Raises ValueError for other shapes and negative norms.
    """
    values = _numbers(getattr(norms, "norms", norms), "norms")
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"norms has the shape {values.shape}, expected (epochs, layers)")
    if (values < 0).any():
        raise ValueError("norms holds negative numbers; a norm is never below 0")
    ax = _axes(ax)
    if values.ndim == 1:
        ax.plot(np.arange(1, len(values) + 1), values, **{"marker": "o"} | line)
        ax.set_xlabel("layer")
        ax.xaxis.get_major_locator().set_params(integer=True)
    else:
        shades = _color_map("viridis")(np.linspace(0, 0.85, values.shape[1]))
        for k, (column, shade) in enumerate(zip(values.T, shades, strict=True)):
            ends = k in (0, len(shades) - 1)
            label = f"layer {k + 1}" if ends or len(shades) <= 6 else None
            epochs = np.arange(1, len(column) + 1)
            marker = "o" if len(column) == 1 else None
            ax.plot(epochs, column, **{"color": shade, "label": label, "marker": marker} | line)
        ax.set_xlabel("epoch")
        ax.legend(frameon=False)
    ax.set(ylabel="norm of the gradient by W", yscale="log")
    return ax


def weights(layer: Layer | ArrayLike, ax: Any = None) -> Any:
    """Draw a weight matrix as an image: a row per input, a column per unit.

    White is zero, red positive, blue negative.

    layer: a Linear, or an array (n_in, n_out).
    ax: the axes to draw on; None makes new ones.

    Returns the axes. Raises ValueError for an array that is not a matrix, TypeError for another
    layer.
    """
    if isinstance(layer, Layer) and not isinstance(layer, Linear):
        raise TypeError(f"{layer!r} has no weights; give a Linear or an array")
    matrix = _numbers(layer.weight if isinstance(layer, Linear) else layer, "weights", 2)
    ax = _axes(ax)
    limit = float(np.abs(matrix).max()) or 1.0
    image = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="weight")
    ax.set(xlabel="unit", ylabel="input")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return ax


# ---- below the pictures --------------------------------------------------------------------------


def _axes(ax: Any) -> Any:
    """Return `ax`, or the axes of a new figure."""
    if ax is not None:
        if not hasattr(ax, "plot"):
            raise TypeError(f"ax must be matplotlib axes, one of plt.subplots()[1], not {type(ax)}")
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError('plots need matplotlib: pip install "fastmlp[train]"') from None
    ax = plt.subplots(layout="constrained")[1]
    ax.set_prop_cycle(color=COLOURS)
    return ax


def _unused(ax: Any, usual: str) -> str:
    """Return the usual color, or another if a line of the axes has it already."""
    used = {line.get_color() for line in ax.get_lines()}
    return next((color for color in (usual, *COLOURS) if color not in used), usual)


def _numbers(values: Any, name: str, ndim: int | None = None) -> Array:
    """Return a float64 array of finite numbers; ValueError for anything else."""
    try:
        array = np.ascontiguousarray(as_numbers(values, name, "values"), np.float64)
    except TypeError as error:
        kind = type(values).__name__
        raise TypeError(f"{name} must be an array of numbers, not {kind}: {error}") from None
    if ndim is not None and (array.ndim != ndim or not array.size):
        raise ValueError(f"{name} has the shape {array.shape}, expected {ndim} dimensions")
    check_finite(array, name, "drop such rows or fill them in")
    return array


def _classes_of(model: Any, labels: Array, n: int) -> Array:
    """Return the label of each of the n columns of probabilities; ValueError if y holds others.

    The labels are those of the model, if it has any. Otherwise they are 0 .. n - 1 if that covers
    y, and those of y if not.
    """
    known = np.unique(labels)
    if (classes := getattr(model, "classes_", None)) is None:
        counts = known.dtype.kind in "biuf" and np.isin(known, np.arange(n)).all()
        classes = np.arange(n) if counts else known
    classes = np.asarray(classes)
    strange = known[~np.isin(known, classes)]
    if len(strange) or len(classes) > n:
        names = (strange if len(strange) else known)[:5].tolist()
        raise ValueError(
            f"y holds {names}, but the model tells {n} classes: {classes[:n].tolist()}"
        )
    return classes


def _columns(values: ArrayLike, name: str) -> Array:
    """Return (rows, n_out) for (rows,) or (rows, n_out)."""
    array = _numbers(values, name)
    if array.ndim == 1:
        array = array[:, np.newaxis]
    return _numbers(array, name, 2)


def _probabilities(predict: Callable[[Array], ArrayLike], X: Array) -> Array:
    """Return (rows, classes), also if the model gives one column or none."""
    proba = np.asarray(predict(X), np.float64)
    if proba.size == len(X):
        proba = proba.reshape(-1, 1)
    if proba.ndim != 2 or len(proba) != len(X):
        raise ValueError(
            f"the model returns the shape {proba.shape} for {len(X)} rows, expected (rows, classes)"
        )
    return np.hstack([1 - proba, proba]) if proba.shape[1] == 1 else proba


def _with_margin(x: Array) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    margin = 0.12 * (high - low) or 1.0
    return low - margin, high + margin


def _color_map(name: str) -> Any:
    import matplotlib

    return matplotlib.colormaps[name]


def _shade_probability(ax: Any, x1: Array, x2: Array, proba: Array) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("classes", [BLUE, "white", ORANGE])
    ax.contourf(x1, x2, proba, levels=np.linspace(0, 1, 11), cmap=shades, alpha=0.55)
    if proba.min() < 0.5 < proba.max():
        ax.contour(x1, x2, proba, levels=[0.5], colors="black", linewidths=1.5)


def _shade_regions(ax: Any, x1: Array, x2: Array, place: Array) -> None:
    from matplotlib.colors import ListedColormap

    n = int(place.max()) + 1
    colors = ListedColormap([COLOURS[k % len(COLOURS)] for k in range(n)])
    ax.pcolormesh(x1, x2, place, cmap=colors, vmin=-0.5, vmax=n - 0.5, alpha=0.3, shading="nearest")
    for k in range(n):
        if 0 < np.mean(place == k) < 1:
            ax.contour(x1, x2, place == k, levels=[0.5], colors="black", linewidths=1)


def _scatter(ax: Any, points: Array, place: int, name: Any) -> None:
    ax.scatter(
        *points.T,
        s=24,
        color=COLOURS[place % len(COLOURS)],
        marker=_MARKERS[place % len(_MARKERS)],
        edgecolors="white",
        linewidths=0.6,
        label=f"class {name}",
    )
