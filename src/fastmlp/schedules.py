"""Schedules: learning rates that change from step to step.

    Adam(lr=CosineDecay(1e-3, steps=10_000, warmup=500))

A schedule is a function of the step alone, counted from 0 where it was first used. It goes on from
call to call (`fit`, `train_step`, `update`) and after loading a model file; another schedule, or
another kind of optimizer, begins at 0. Steps are mini-batches: ceil(rows / batch_size) an epoch.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .numeric import as_real, as_whole


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules: `lr` is the highest rate; schedule(step) is the rate of a step.

    The first `warmup` steps of a schedule that has this field rise along a straight line to lr:
    lr (step + 1) / (warmup + 1). What follows counts from their end. Own schedules are frozen
    dataclasses with a method `rate`; only those of this module can be saved.
    """

    lr: float

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            object.__setattr__(self, field, _checked(field, value))  # frozen for users

    def __call__(self, step: int) -> float:
        """The learning rate of a step, the first being 0."""
        warmup: int = getattr(self, "warmup", 0)
        if step < warmup:
            return self.lr * (step + 1) / (warmup + 1)
        return self.rate(step - warmup)

    def rate(self, step: int) -> float:
        """The learning rate of a step after the warm-up."""
        raise NotImplementedError

    def momentum(self, step: int) -> float:
        """The optimizer's momentum, or beta1, in a step; NaN: as it was given."""
        return math.nan

    def config(self) -> dict[str, Any]:
        """The fields and the name, for a model file; TypeError for a class of the user's own."""
        name = type(self).__name__
        if SCHEDULES.get(name) is not type(self):
            raise TypeError(
                f"{name} cannot be saved in a model file, only the schedules of fastmlp can; "
                "before you save, call net.use_optimizer(dataclasses.replace(net.optimizer, "
                "lr=0.001)), which keeps the moments; pickle and copy.deepcopy keep the schedule"
            )
        return {"type": name, **vars(self)}


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """A rise along a straight line in `warmup` steps, then lr (Goyal et al. 2017)."""

    warmup: int

    def rate(self, step: int) -> float:
        """Always lr."""
        return self.lr


@dataclass(frozen=True)
class StepDecay(Schedule):
    """lr factor^floor(step / every): PyTorch's StepLR."""

    every: int
    factor: float = 0.1
    warmup: int = 0

    def rate(self, step: int) -> float:
        """Lower by `factor` after every `every` steps."""
        return float(self.lr * self.factor ** (step // self.every))


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """lr factor^(step / every): with every=1 PyTorch's ExponentialLR."""

    factor: float
    every: int = 1
    warmup: int = 0

    def rate(self, step: int) -> float:
        """Lower by `factor` over `every` steps, a little in each."""
        return float(self.lr * self.factor ** (step / self.every))


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine from lr down to `final` (Loshchilov, Hutter 2017), then `final`.

    final + (lr - final) (1 + cos(pi step / n)) / 2 for n = steps - warmup: `steps` counts the
    warm-up in. PyTorch's CosineAnnealingLR, optax's warmup_cosine_decay_schedule.
    """

    steps: int
    final: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup >= self.steps:
            raise ValueError(
                f"warmup={self.warmup} leaves nothing of steps={self.steps}; make it shorter"
            )

    def rate(self, step: int) -> float:
        """Along the cosine, then `final`."""
        share = min(step / (self.steps - self.warmup), 1.0)
        return self.final + (self.lr - self.final) * (1.0 + math.cos(math.pi * share)) / 2.0


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to lr and down again, each along half a cosine (Smith, Topin 2018), in `steps` steps.

    From lr / div_factor to lr in the first `pct_start` of the steps, then down to
    lr / div_factor / final_div_factor: PyTorch's OneCycleLR. Behind the last step the rate stays
    where it is. With cycle_momentum the momentum, or beta1 of the kin of Adam, whatever it was set
    to, goes the other way: from max_momentum down to base_momentum and up again.
    """

    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    cycle_momentum: bool = False
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 < self.pct_start * self.steps < self.steps:
            raise ValueError(
                f"pct_start={self.pct_start} of steps={self.steps} leaves no step to rise or to "
                "fall; 0.3 of 10 steps or more is usual"
            )
        if not self.base_momentum <= self.max_momentum:
            raise ValueError(
                f"base_momentum={self.base_momentum} is above max_momentum={self.max_momentum}"
            )

    def rate(self, step: int) -> float:
        """Along the first cosine, then along the second."""
        start = self.lr / self.div_factor
        return self._at(step, start, self.lr, start / self.final_div_factor)

    def momentum(self, step: int) -> float:
        """The same, upside down."""
        if not self.cycle_momentum:
            return math.nan
        return self._at(step, self.max_momentum, self.base_momentum, self.max_momentum)

    def _at(self, step: int, first: float, middle: float, end: float) -> float:
        top, last = self.pct_start * self.steps - 1, self.steps - 1
        if step <= top:
            return _cosine(first, middle, step / top)
        return _cosine(middle, end, min((step - top) / (last - top), 1.0))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1.0)


_COUNTS = {"every": 1, "steps": 1, "warmup": 0}  # their least values
_DIVISORS = ("div_factor", "final_div_factor")
_MOMENTA = ("base_momentum", "max_momentum")
_NUMBERS = ("lr", "final", "factor", "pct_start", *_DIVISORS, *_MOMENTA)


def _checked(field: str, value: Any) -> Any:
    """The value of a field as one of Python's own; ValueError for one out of range."""
    if field in _COUNTS:
        least, count = _COUNTS[field], as_whole(value)
        if count is None or count < least:
            raise ValueError(f"{field} must be an integer >= {least}, not {value!r}")
        return count
    if field == "cycle_momentum":
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"cycle_momentum must be True or False, not {value!r}")
        return bool(value)
    if field not in _NUMBERS:
        return value
    number = as_real(value)
    if number is None or number < 0:
        raise ValueError(f"{field} must be a finite number >= 0, not {value!r}")
    if field == "factor" and not 0 < number <= 1:
        raise ValueError(f"factor must lie above 0 and be at most 1, not {value!r}")
    if field in _MOMENTA and number >= 1:
        raise ValueError(f"{field} must be below 1, not {value!r}")
    if field in _DIVISORS and number < 1:
        raise ValueError(f"{field} must be at least 1, not {value!r}")
    return number


SCHEDULES: dict[str, type[Schedule]] = {
    c.__name__: c for c in (LinearWarmup, StepDecay, ExponentialDecay, CosineDecay, OneCycle)
}
