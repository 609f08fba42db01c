"""Step lengths along a direction: the strong Wolfe conditions."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..ground.arrays import Vector
from .objective import Point, dot

SUFFICIENT = 1e-4  # c1: share of the decrease promised by the slope that a step must reach
CURVATURE = 0.9  # c2: share of the first slope that may be left at the end
GROWTH = 4.0  # factor of the step while the minimum lies ahead
ROUNDING = 1e-6  # share of the value that rounding may change: some eps of float32
MARGIN = 0.1  # share of the interval by which the next trial stays away from its ends


@dataclass(frozen=True)
class Trial:
    """A step length, with the objective and its slope along the direction after that step."""

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
    """Return a point start + t direction that satisfies the strong Wolfe conditions.

    The start has the value f0 and the slope f0' < 0. The conditions are a value of at most
    f0 + c1 t f0' and |slope| <= c2 |f0'| (Nocedal, Wright 2006, algorithms 3.5 and 3.6, as one loop
    over an interval).

    If `max_evaluations` find no such point, returns the best one that satisfies the first
    condition, or None if there is none. A point that is not finite counts as too far.
    """
    slope0 = dot(start.grad, direction)
    low, high = Trial(0.0, start.value, slope0, start), None
    step = first_step
    for _ in range(max_evaluations):
        point = at(start.params + step * direction)
        trial = Trial(step, point.value, dot(point.grad, direction), point)
        if high is None and trial.slope <= CURVATURE * slope0 and is_hidden(trial, low):
            step *= GROWTH  # still as steep as at the start: the minimum lies far ahead
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
        if step == low.step:  # the interval is too small for another number between its ends
            break
    return low.point if low.step > 0 else None


def is_acceptable(trial: Trial, value0: float, slope0: float) -> bool:
    """Whether value and slope are finite and the value descends enough."""
    finite = math.isfinite(trial.value) and math.isfinite(trial.slope)
    return finite and trial.value <= value0 + SUFFICIENT * trial.step * slope0


def is_hidden(trial: Trial, low: Trial) -> bool:
    """Whether rounding may hide the descent; the outputs may be float32."""
    return abs(trial.value - low.value) <= ROUNDING * abs(low.value)


def between(low: Trial, high: Trial) -> float:
    """Return the minimum of the cubic through the values and slopes at both ends.

    The formula is Nocedal, Wright 2006, equation 3.59. The result is kept away from the ends; if
    there is no such cubic, it is the middle.
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
