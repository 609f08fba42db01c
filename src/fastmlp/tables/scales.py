"""Scaling and clipping of the numbers of a column for a network.

A column becomes the input (x - mean) / std. Training rows more than 10 standard deviations from the
mean would dominate the rest. If there are any, the column becomes two inputs:

- the same with a larger std, so that its farthest value is 10; values that differ in float64 still
  differ;
- asinh((x - center) / scale), with center and scale of the bulk of the values.
"""

import math
from typing import Any

import numpy as np

from ..ground.arrays import Array
from .table import TableError
from .targets import check_scale

Scale = dict[str, Any]

BOUND = 10.0  # standard deviations


def learn(name: str, values: Array) -> Scale | None:
    """Return the scale of training rows without missing values, or None for a constant column."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(values.mean()), float(values.std())
        reach = float(np.abs(values - mean).max())
    if not (math.isfinite(mean) and math.isfinite(std) and math.isfinite(reach)):
        raise TableError(f"column {name!r} holds values too large to standardize; rescale it")
    if std <= 1e-12 * abs(mean):  # the column is constant; rounding of the mean leaves some std
        return None
    is_far = reach > BOUND * std
    std = max(std, reach / BOUND)
    reach = BOUND * std
    scale: Scale = {"mean": mean, "std": std}
    scale["low"] = min(mean - reach, float(values.min()))
    scale["high"] = max(mean + reach, float(values.max()))
    if is_far and (tail := _learn_tail(values)) is not None:
        scale["tail"] = tail
    return scale


def _learn_tail(values: Array) -> Scale | None:
    """Return center and scale of the bulk, or None if there are at most two values."""
    center = float(np.median(values))
    apart = np.abs(values[values != center] - center)
    if len(apart) == 0 or len(np.unique(values)) <= 2:
        return None
    scale = float(np.median(apart))
    logs = np.arcsinh((values - center) / scale)
    std = float(logs.std())
    if not (0 < scale < math.inf and 0 < std < math.inf):
        return None
    return {"center": center, "scale": scale, "mean": float(logs.mean()), "std": std}


def width(scale: Scale) -> int:
    """Return the number of inputs of the column."""
    return 2 if "tail" in scale else 1


def apply(scale: Scale, values: Array, out: Array) -> int:
    """Fill `out` (rows, width) and return how many values were clipped."""
    if "low" not in scale:  # files of old versions
        scaled = (values - scale["mean"]) / scale["std"]
        out[:, 0] = np.clip(scaled, -BOUND, BOUND)
        return int(np.count_nonzero(np.abs(scaled) > BOUND))
    inside = np.clip(values, scale["low"], scale["high"])
    out[:, 0] = (inside - scale["mean"]) / scale["std"]
    if "tail" in scale:
        tail = scale["tail"]
        logs = np.arcsinh((inside - tail["center"]) / tail["scale"])
        out[:, 1] = (logs - tail["mean"]) / tail["std"]
    return int(np.count_nonzero(inside != values))


def check(scale: Scale) -> None:
    """Raise KeyError, TypeError or ValueError unless `apply` can use the scale."""
    check_scale(scale["mean"], scale["std"], scale["fill"])
    if "low" in scale:
        check_scale(scale["low"], 1.0, scale["high"])
    if "tail" in scale:
        tail = scale["tail"]
        check_scale(tail["mean"], tail["std"], tail["center"])
        check_scale(0.0, tail["scale"])
