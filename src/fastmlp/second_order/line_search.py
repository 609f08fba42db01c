"""Step lengths along a direction: the strong Wolfe conditions."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..ground.arrays import Vector
from .objective import Point, dot

SUFFICIENT = 1e-4  # of the decrease that the slope promises
CURVATURE = 0.9  # of the slope may be left
GROWTH = 4.0  # of the step while the minimum lies ahead
ROUNDING = 1e-6  # of the value: float32 and a few
MARGIN = 0.1  # of an interval: the next trial stays that far from its ends


@dataclass(frozen=True)
class Trial:
    """A step length, and the objective and its slope along the direction there."""

    step: float
    value: float
    slope: float
    point: Point


def strong_wolfe(
    at: Callable[[Vector], Point],
    start: Point,
    direction: Vector,
    first_step: float,
    max_evaluations: int = 25,
) -> Point | None:
    """A point start + t direction with a value of at most f0 + c1 t f0' and |slope| <= c2 |f0'|,
    where f0 and f0' < 0 are value and slope at the start (Nocedal, Wright 2006, algorithms 3.5 and
    3.6, as one loop over an interval).

    Where `max_evaluations` do not find one, the best point that satisfies the first condition; None
    where there is none. What is not finite counts as too far.
    """
    slope0 = dot(start.grad, direction)
    low, high = Trial(0.0, start.value, slope0, start), None
    step = first_step
    for _ in range(max_evaluations):
        point = at(start.params + step * direction)
        trial = Trial(step, point.value, dot(point.grad, direction), point)
        if high is None and trial.slope <= CURVATURE * slope0 and is_hidden(trial, low):
            step *= GROWTH  # as steep as at the start: the minimum lies far ahead
            continue
        if not is_acceptable(trial, start.value, slope0) or trial.value >= low.value:
            high = trial
        else:
            if abs(trial.slope) <= -CURVATURE * slope0:
                return point
            ahead = 1.0 if high is None else high.step - low.step
            if trial.slope * ahead >= 0:
                high = low
            low = trial
        step = GROWTH * low.step if high is None else between(low, high)
        if step == low.step:  # the interval is as small as numbers allow
            break
    return low.point if low.step > 0 else None


def is_acceptable(trial: Trial, value0: float, slope0: float) -> bool:
    """Whether all of it is finite and it descends enough."""
    finite = math.isfinite(trial.value) and math.isfinite(trial.slope)
    return finite and trial.value <= value0 + SUFFICIENT * trial.step * slope0


def is_hidden(trial: Trial, low: Trial) -> bool:
    """Whether rounding, of outputs in float32 perhaps, may hide that it descends."""
    return abs(trial.value - low.value) <= ROUNDING * abs(low.value)


def between(low: Trial, high: Trial) -> float:
    """The minimum of the cubic through values and slopes at both ends (Nocedal, Wright 2006,
    equation 3.59), kept away from the ends; the middle where there is no such cubic.
    """
    width = high.step - low.step
    share = 0.5
    if math.isfinite(high.value) and math.isfinite(high.slope):
        d1 = low.slope + high.slope - 3 * (high.value - low.value) / width
        square = d1 * d1 - low.slope * high.slope
        if square >= 0:
            d2 = math.copysign(math.sqrt(square), width)
            bottom = high.slope - low.slope + 2 * d2
            if bottom != 0:
                share = 1 - (high.slope + d2 - d1) / bottom
    if not math.isfinite(share):
        share = 0.5
    return low.step + min(max(share, MARGIN), 1 - MARGIN) * width
