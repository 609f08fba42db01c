"""Schedules: learning rates that change from step to step.

    Adam(lr=CosineDecay(1e-3, steps=10_000, warmup=500))

A schedule is a function of the step alone. Steps count from 0 at its first use. It goes on from
call to call (`fit`, `train_step`, `update`) and after loading a model file. Another schedule, or
another kind of optimizer, begins at 0. Steps are mini-batches: ceil(rows / batch_size) an epoch.

Every `lr` is the highest rate, a finite number >= 0, and every `warmup` a number of steps >= 0. All
classes raise ValueError for a value outside its range.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from .ground.checks import (
    as_whole,
    check_count,
    check_fields,
    check_number,
    count,
    declared,
    flag,
    number,
)


def _check_factor(value: Any, name: str) -> float:
    return check_number(value, name, positive=True, high=1)


def _check_factors(value: Any, name: str) -> float | tuple[float, ...]:
    if isinstance(value, list | tuple):
        return tuple(_check_factor(one, name) for one in value)
    return _check_factor(value, name)


def _check_milestones(value: Any, name: str) -> tuple[int, ...]:
    """Return ascending steps as a tuple; ValueError for anything else."""
    given = value if isinstance(value, list | tuple | np.ndarray) else (None,)
    steps = [as_whole(step) for step in given]
    whole = [step for step in steps if step is not None]
    if len(whole) < len(steps) or any(b <= a for a, b in pairwise([0, *whole])):
        raise ValueError(f"{name} must be a list of ascending integers >= 1, not {value!r}")
    return tuple(whole)


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules: schedule(step) is the learning rate of a step.

    lr: the highest rate.

    In a schedule with a field `warmup`, the first `warmup` steps rise along a straight line to lr:
    lr (step + 1) / (warmup + 1). The other formulas count steps from the end of the warm-up.

    A schedule of your own is a frozen dataclass with a method `rate`. Only those of this module can
    be saved.
    """

    lr: float = number()

    def __post_init__(self) -> None:
        check_fields(self)
        if "warmup" in vars(self):  # also that of a schedule of the user's own
            warmup = check_count(vars(self)["warmup"], "warmup", 0)
            object.__setattr__(self, "warmup", warmup)  # frozen for users

    def __call__(self, step: int) -> float:
        """The learning rate of a step; the first step is 0."""
        warmup: int = getattr(self, "warmup", 0)
        if step < warmup:
            return self.lr * (step + 1) / (warmup + 1)
        return self.rate(step - warmup)

    def rate(self, step: int) -> float:
        """The learning rate of a step after the warm-up."""
        raise NotImplementedError

    def momentum(self, step: int) -> float:
        """The optimizer's momentum, or beta1, in a step; NaN means the optimizer's own value."""
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
    """A rise along a straight line, then lr (Goyal et al. 2017).

    lr: the highest rate, from the end of the warm-up on.
    warmup: steps of the rise.
    """

    warmup: int = count(least=0)

    def rate(self, step: int) -> float:
        """Always lr."""
        return self.lr


@dataclass(frozen=True)
class StepDecay(Schedule):
    """lr factor^floor(step / every): PyTorch's StepLR.

    lr: the highest rate.
    every: steps between two changes, >= 1.
    factor: the factor of every change, above 0 and at most 1.
    warmup: steps of the linear rise before.
    """

    every: int = count()
    factor: float = declared(_check_factor, 0.1)
    warmup: int = count(0, 0)

    def rate(self, step: int) -> float:
        """Lower by `factor` after every `every` steps."""
        return float(self.lr * self.factor ** (step // self.every))


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """lr factor^(step / every): with every=1 PyTorch's ExponentialLR.

    lr: the highest rate.
    factor: the factor over `every` steps, above 0 and at most 1.
    every: steps in which the rate falls by `factor`, >= 1.
    warmup: steps of the linear rise before.
    """

    factor: float = declared(_check_factor)
    every: int = count(1)
    warmup: int = count(0, 0)

    def rate(self, step: int) -> float:
        """Lower by `factor` over `every` steps, a little in each."""
        return float(self.lr * self.factor ** (step / self.every))


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine from lr down to `final` (Loshchilov, Hutter 2017), then `final`.

    final + (lr - final) (1 + cos(pi step / n)) / 2 for n = steps - warmup. PyTorch's
    CosineAnnealingLR, optax's warmup_cosine_decay_schedule.

    lr: the highest rate.
    steps: steps of the whole schedule, warm-up included.
    final: the last rate, >= 0.
    warmup: steps of the linear rise before, fewer than `steps`.
    """

    steps: int = count()
    final: float = number(0.0)
    warmup: int = count(0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_warmup(self.warmup, self.steps)

    def rate(self, step: int) -> float:
        """Along the cosine, then `final`."""
        share = min(step / (self.steps - self.warmup), 1.0)
        return self.final + (self.lr - self.final) * (1.0 + math.cos(math.pi * share)) / 2.0


@dataclass(frozen=True)
class PiecewiseDecay(Schedule):
    """A constant between milestones: lr times `factor` for each milestone reached.

    lr: the highest rate.
    milestones: the steps at which the rate changes, ascending integers >= 1. They are counted from
        the end of the warm-up.
    factor: a number, as in PyTorch's MultiStepLR, or one for each milestone, as in optax's
        piecewise_constant_schedule. Each is above 0 and at most 1.
    warmup: steps of the linear rise before.

    Raises ValueError for milestones that do not ascend, and for another number of factors.
    """

    milestones: tuple[int, ...] = declared(_check_milestones)
    factor: float | tuple[float, ...] = declared(_check_factors, 0.1)
    warmup: int = count(0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.factor, tuple) and len(self.factor) != len(self.milestones):
            raise ValueError(
                f"factor holds {len(self.factor)} numbers for {len(self.milestones)} milestones; "
                "give one for each, or one number for all"
            )

    def rate(self, step: int) -> float:
        """Lower from each milestone on."""
        reached = bisect_right(self.milestones, step)
        if isinstance(self.factor, tuple):
            return self.lr * math.prod(self.factor[:reached])
        return float(self.lr * self.factor**reached)


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """From lr down to `final` along (1 - step / n)^power, n = steps - warmup, then `final`.

    With final=0 it is PyTorch's PolynomialLR, otherwise optax's polynomial_schedule.

    lr: the highest rate.
    steps: steps of the whole schedule, warm-up included.
    power: the exponent, above 0; 1 is a straight line.
    final: the last rate, >= 0.
    warmup: steps of the linear rise before, fewer than `steps`.
    """

    steps: int = count()
    power: float = number(1.0, positive=True)
    final: float = number(0.0)
    warmup: int = count(0, 0)

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

    PyTorch's CosineAnnealingWarmRestarts(T_0=first, T_mult=growth, eta_min=final).

    lr: the highest rate.
    first: steps of the first cycle, >= 1.
    growth: an integer >= 1; each cycle is `growth` times as long as the one before.
    final: the rate that each cycle approaches, >= 0.
    warmup: steps of the linear rise before.
    """

    first: int = count()
    growth: int = count(1)
    final: float = number(0.0)
    warmup: int = count(0, 0)

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

    schedules: two schedules or more. `lr` is the highest of theirs.
    milestones: the steps at which the second, the third, ... begin, each at its own step 0. They
        are ascending integers >= 1, one fewer than there are schedules.

    Raises TypeError for an item that is not a schedule, ValueError for milestones that do not fit.
    """

    lr: float = field(init=False, repr=False)
    schedules: tuple[Schedule, ...]
    milestones: tuple[int, ...] = declared(_check_milestones)

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
        """The learning rate of a step, from the schedule that runs then; the first step is 0."""
        schedule, own = self._at(step)
        return schedule(own)

    def momentum(self, step: int) -> float:
        """The momentum given by the schedule that runs at a step."""
        schedule, own = self._at(step)
        return schedule.momentum(own)

    def config(self) -> dict[str, Any]:
        """See Schedule.config."""
        config = super().config()
        del config["lr"]
        return config | {"schedules": [schedule.config() for schedule in self.schedules]}

    @property
    def cycle_momentum(self) -> bool:
        """Whether one of the schedules moves the momentum."""
        return any(getattr(schedule, "cycle_momentum", False) for schedule in self.schedules)

    @property
    def steps(self) -> float:
        """The step at which the last schedule ends; infinity if it does not end."""
        last: float = getattr(self.schedules[-1], "steps", math.inf)
        return self.milestones[-1] + last

    def _at(self, step: int) -> tuple[Schedule, int]:
        """The schedule of a step, and the step counted from its beginning."""
        index = bisect_right(self.milestones, step)
        return self.schedules[index], step - (self.milestones[index - 1] if index else 0)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to lr and down again, each along half a cosine (Smith, Topin 2018): PyTorch's OneCycleLR.

    The rate goes from lr / div_factor to lr, then down to lr / div_factor / final_div_factor. After
    the last step it stays there.

    lr: the highest rate.
    steps: steps of the whole cycle.
    pct_start: the share of the steps in which the rate rises, between 0 and 1.
    div_factor: lr divided by the first rate, >= 1.
    final_div_factor: the first rate divided by the last, >= 1.
    cycle_momentum: whether the momentum (beta1 for the Adam family) moves opposite to the rate. It
        then goes from max_momentum down to base_momentum and up again, and overrides the
        optimizer's own value.
    base_momentum, max_momentum: the lowest and the highest momentum, in [0, 1).

    Raises ValueError if no step is left to rise or to fall, or base_momentum is above max_momentum.
    """

    steps: int = count()
    pct_start: float = number(0.3)
    div_factor: float = number(25.0, 1)
    final_div_factor: float = number(1e4, 1)
    cycle_momentum: bool = flag(False)
    base_momentum: float = number(0.85, below=1)
    max_momentum: float = number(0.95, below=1)

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
        """The momentum, which moves opposite to the rate; NaN without cycle_momentum."""
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
    """Return the schedule of a `config`; KeyError, TypeError or ValueError for anything else."""
    config = dict(config)
    kind = SCHEDULES[config.pop("type")]
    if "schedules" in config:
        config["schedules"] = [from_config(inner) for inner in config["schedules"]]
    return kind(**config)
