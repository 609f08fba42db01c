"""Schedules: learning rates that change from step to step.

    Adam(lr=CosineDecay(1e-3, steps=10_000, warmup=500))

A schedule is a function of the step alone, counted from 0 where it was first used. It goes on from
call to call (`fit`, `train_step`, `update`) and after loading a model file; another schedule, or
another kind of optimizer, begins at 0. Steps are mini-batches: ceil(rows / batch_size) an epoch.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np

from .ground.checks import as_real, as_whole


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules: `lr` is the highest rate; schedule(step) is the rate of a step.

    The first `warmup` steps of a schedule that has this field rise along a straight line to lr:
    lr (step + 1) / (warmup + 1). What follows counts from their end. Own schedules are frozen
    dataclasses with a method `rate`; only those of this module can be saved.
    """

    lr: float

    def __post_init__(self) -> None:
        ours = next(kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        known = {"warmup", *(one.name for one in fields(ours))}  # others are the user's own
        for name, value in vars(self).items():
            if name in known:
                object.__setattr__(self, name, _checked(name, value))  # frozen for users

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
        _check_warmup(self.warmup, self.steps)

    def rate(self, step: int) -> float:
        """Along the cosine, then `final`."""
        share = min(step / (self.steps - self.warmup), 1.0)
        return self.final + (self.lr - self.final) * (1.0 + math.cos(math.pi * share)) / 2.0


@dataclass(frozen=True)
class PiecewiseDecay(Schedule):
    """Constant between milestones: lr times `factor` for each of them that is reached.

    milestones: the steps, counted from the end of the warm-up, at which the rate changes: ascending
        integers >= 1.
    factor: a number, PyTorch's MultiStepLR; or one for each milestone, as optax's
        piecewise_constant_schedule has them.

    Raises ValueError for milestones that do not ascend, and for another number of factors.
    """

    milestones: tuple[int, ...]
    factor: float | tuple[float, ...] = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.factor, tuple) and len(self.factor) != len(self.milestones):
            raise ValueError(
                f"factor holds {len(self.factor)} numbers for {len(self.milestones)} milestones; "
                "give one for each, or one number for all"
            )

    def rate(self, step: int) -> float:
        """Lower from every milestone on."""
        reached = bisect_right(self.milestones, step)
        if isinstance(self.factor, tuple):
            return self.lr * math.prod(self.factor[:reached])
        return float(self.lr * self.factor**reached)


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """From lr down to `final` along (1 - step / n)^power, n = steps - warmup, then `final`.

    `steps` counts the warm-up in. power=1 is a straight line. With final=0 PyTorch's PolynomialLR,
    else optax's polynomial_schedule.
    """

    steps: int
    power: float = 1.0
    final: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_warmup(self.warmup, self.steps)

    def rate(self, step: int) -> float:
        """Along the curve, then `final`."""
        n = self.steps - self.warmup
        share = (n - min(step, n)) / n
        return float(self.final + (self.lr - self.final) * share**self.power)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half a cosine from lr down to `final`, again and again (Loshchilov, Hutter 2017: SGDR).

    first: steps of the first cycle; every other one is `growth` (an integer) times as long as that
        before. PyTorch's CosineAnnealingWarmRestarts(T_0=first, T_mult=growth, eta_min=final).
    """

    first: int
    growth: int = 1
    final: float = 0.0
    warmup: int = 0

    def rate(self, step: int) -> float:
        """Along the cosine of its cycle."""
        length = self.first
        if self.growth == 1:
            step %= length
        while step >= length:
            step -= length
            length *= self.growth
        return self.final + (self.lr - self.final) * (1.0 + math.cos(math.pi * step / length)) / 2.0


@dataclass(frozen=True)
class Chained(Schedule):
    """Schedules one after another: PyTorch's SequentialLR.

        Chained([LinearWarmup(0.1, warmup=99), StepDecay(0.1, every=500)], milestones=[100])

    milestones: the steps at which the second, the third, ... begin, each at its own step 0:
        ascending integers >= 1, one less than there are schedules.

    `lr` is the highest of theirs. Raises TypeError for what is no schedule, ValueError for
    milestones that do not fit.
    """

    lr: float = field(init=False, repr=False)
    schedules: tuple[Schedule, ...]
    milestones: tuple[int, ...]

    def __post_init__(self) -> None:
        given = self.schedules
        if not isinstance(given, list | tuple) or not all(isinstance(s, Schedule) for s in given):
            raise TypeError(f"schedules must be a list of schedules, not {given!r}")
        if len(given) < 2:
            raise ValueError("schedules must be two or more; use a single one as it is")
        object.__setattr__(self, "schedules", tuple(given))  # frozen for users
        object.__setattr__(self, "lr", max(schedule.lr for schedule in given))
        super().__post_init__()
        if len(self.milestones) != len(given) - 1:
            raise ValueError(
                f"{len(given)} schedules need {len(given) - 1} milestones, at which the later ones "
                f"begin, not {len(self.milestones)}"
            )

    def __call__(self, step: int) -> float:
        """The learning rate of a step, the first being 0: that of the schedule whose turn it is."""
        schedule, own = self._at(step)
        return schedule(own)

    def momentum(self, step: int) -> float:
        """That of the schedule whose turn it is."""
        schedule, own = self._at(step)
        return schedule.momentum(own)

    def config(self) -> dict[str, Any]:
        """See Schedule.config."""
        config = super().config()
        del config["lr"]
        return config | {"schedules": [schedule.config() for schedule in self.schedules]}

    @property
    def cycle_momentum(self) -> bool:
        """Whether one of them moves the momentum."""
        return any(getattr(schedule, "cycle_momentum", False) for schedule in self.schedules)

    @property
    def steps(self) -> float:
        """Where the last one ends; infinity where it does not."""
        last: float = getattr(self.schedules[-1], "steps", math.inf)
        return self.milestones[-1] + last

    def _at(self, step: int) -> tuple[Schedule, int]:
        """The schedule of a step, and the step of its own."""
        index = bisect_right(self.milestones, step)
        return self.schedules[index], step - (self.milestones[index - 1] if index else 0)


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


def _check_warmup(warmup: int, steps: int) -> None:
    if warmup >= steps:
        raise ValueError(f"warmup={warmup} leaves nothing of steps={steps}; make it shorter")


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1.0)


_COUNTS = {"every": 1, "steps": 1, "warmup": 0, "first": 1, "growth": 1}  # their least values
_DIVISORS = ("div_factor", "final_div_factor")
_MOMENTA = ("base_momentum", "max_momentum")
_NUMBERS = ("lr", "final", "factor", "power", "pct_start", *_DIVISORS, *_MOMENTA)


def _checked(name: str, value: Any) -> Any:
    """The value of a field as one of Python's own; ValueError for one out of range."""
    if name in _COUNTS:
        least, count = _COUNTS[name], as_whole(value)
        if count is None or count < least:
            raise ValueError(f"{name} must be an integer >= {least}, not {value!r}")
        return count
    if name == "cycle_momentum":
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"cycle_momentum must be True or False, not {value!r}")
        return bool(value)
    if name == "milestones":
        return _milestones(value)
    if name not in _NUMBERS:
        return value
    if name == "factor" and isinstance(value, list | tuple):
        return tuple(_checked(name, one) for one in value)
    number = as_real(value)
    if number is None or number < 0:
        raise ValueError(f"{name} must be a finite number >= 0, not {value!r}")
    if name == "factor" and not 0 < number <= 1:
        raise ValueError(f"factor must lie above 0 and be at most 1, not {value!r}")
    if name == "power" and number == 0:
        raise ValueError("power must be above 0; LinearWarmup(lr, warmup=0) is constant")
    if name in _MOMENTA and number >= 1:
        raise ValueError(f"{name} must be below 1, not {value!r}")
    if name in _DIVISORS and number < 1:
        raise ValueError(f"{name} must be at least 1, not {value!r}")
    return number


def _milestones(value: Any) -> tuple[int, ...]:
    """Steps that ascend; ValueError for anything else."""
    given = value if isinstance(value, list | tuple | np.ndarray) else (None,)
    steps = [as_whole(step) for step in given]
    whole = [step for step in steps if step is not None]
    if len(whole) < len(steps) or any(b <= a for a, b in pairwise([0, *whole])):
        raise ValueError(f"milestones must be a list of ascending integers >= 1, not {value!r}")
    return tuple(whole)


SCHEDULES: dict[str, type[Schedule]] = {
    c.__name__: c
    for c in (
        LinearWarmup,
        StepDecay,
        ExponentialDecay,
        PiecewiseDecay,
        PolynomialDecay,
        CosineDecay,
        CosineRestarts,
        OneCycle,
        Chained,
    )
}


def from_config(config: dict[str, Any]) -> Schedule:
    """The schedule whose `config` it is; KeyError, TypeError or ValueError for anything else."""
    config = dict(config)
    kind = SCHEDULES[config.pop("type")]
    if "schedules" in config:
        config["schedules"] = [from_config(inner) for inner in config["schedules"]]
    return kind(**config)
