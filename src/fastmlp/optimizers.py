"""Optimizers: settings only. The moments live with the network, so one object serves any number of
them.
"""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import _core, schedules
from .averages import AVERAGES, EMA, SWA
from .ground.arrays import Array
from .ground.checks import as_real
from .ground.frozen import Settings
from .schedules import Schedule

_BELOW_ONE = ("momentum", "beta1", "beta2")
_FLAGS = ("nesterov", "averaged", "centered")
_LEAST_EPS = 1e-30  # below, 0 / 0 where a gradient has always been 0
_LIMITS = ("clip_norm", "clip_value", "max_norm")  # None: no limit


@dataclass(frozen=True, repr=False)
class Optimizer(Settings):
    """Base of all optimizers. What follows `lr` here, every one of them takes by name.

    lr: the learning rate, a number or a schedule (`fastmlp.schedules`). g is the gradient of the
    mean loss over the batch. It goes through these, in this order:

    clip_norm: where the norm of the whole gradient is above it, g *= clip_norm / norm (Pascanu et
        al. 2013), or clip_value: every element is cut off at -clip_value and clip_value.
    l1, l2: the penalty sum(l1 |w| + l2 / 2 w^2) over all weights, not biases, joins the loss:
        g += l1 sign(w) + l2 w. Both together are the elastic net. The lecture's ridge
        |y - X w|^2 + delta^2 |w|^2, divided by n rows, is l2 = 2 delta^2 / n. The loss that
        `fit` and `evaluate` report stays that of the data.

    Weight decay, where an optimizer has it, is decoupled instead (Loshchilov, Hutter 2019):
    weights, not biases, shrink by lr weight_decay w beside the step, whatever the moments are.

    max_norm: after the step, the incoming weights of every output unit (a column of W) are scaled
        back to this norm where theirs is larger (Srivastava et al. 2014).
    weight_average: EMA(...) or SWA(...), kept beside the weights; see `Sequential.averaged`.

    Raises ValueError for a value outside its range.
    """

    _always_shown: ClassVar[tuple[str, ...]] = ("lr",)
    follows_lr: ClassVar[bool] = True  # in every step, so that it may change
    lr: float | Schedule = 0.01
    _: KW_ONLY
    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    max_norm: float | None = None
    weight_average: EMA | SWA | None = None

    def __post_init__(self) -> None:
        for field, value in self._unchecked():
            if field == "weight_average":
                if not isinstance(value, EMA | SWA | None):
                    raise TypeError(f"weight_average must be EMA(...) or SWA(...), not {value!r}")
            elif not (field == "lr" and isinstance(value, Schedule)):
                object.__setattr__(self, field, _checked(field, value))  # frozen for users
        if getattr(self.lr, "cycle_momentum", False):
            self._check_moves_momentum()
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("choose clip_norm or clip_value, not both")

    def _unchecked(self) -> list[tuple[str, Any]]:
        """The fields, without the defaults of our own classes: optimizers are made in loops too."""
        kind = type(self)
        if kind in OPTIMIZERS.values():
            return [(f, v) for f, v in vars(self).items() if v is not getattr(kind, f)]
        return list(self.__getstate__().items())

    @cached_property  # made once: a small step takes as long as making it
    def settings(self) -> _core.OptimizerSettings:
        """What C reads."""
        settings = {name: v for name, v in self.__getstate__().items() if v is not None}
        if isinstance(self.lr, Schedule):
            settings["lr"] = self.lr.lr  # C takes its rates from `rates`
        if self.weight_average is not None:
            settings |= settings.pop("weight_average").settings()
        return _core.OptimizerSettings(**settings)

    def config(self) -> dict[str, Any]:
        """Name and fields, for a model file; `from_config` reads them."""
        config = super().config()
        if isinstance(self.lr, Schedule):
            config["lr"] = self.lr.config()
        if (average := self.weight_average) is not None:
            config["weight_average"] = {"type": type(average).__name__, **vars(average)}
        return config

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, the first being 0."""
        return self.lr(step) if isinstance(self.lr, Schedule) else self.lr

    def rates(self, step: int, n: int) -> NDArray[np.float64] | None:
        """Learning rates and momenta (NaN: its own) of n steps from `step` on, (n, 2), for C; None
        where they are always its own.
        """
        lr = self.lr
        if not isinstance(lr, Schedule):
            return None
        rates = np.array([(lr(i), lr.momentum(i)) for i in range(step, step + n)], np.float64)
        good = np.isfinite(rates[:, 0]) & (rates[:, 0] >= 0)
        if not good.all():
            bad = int(np.argmin(good))
            raise ValueError(
                f"{lr!r} gives the learning rate {rates[bad, 0]} in step {step + bad}; it must be "
                "finite and >= 0"
            )
        momenta = rates[~np.isnan(rates[:, 1]), 1]
        if len(momenta):
            self._check_moves_momentum()
            if not np.all((momenta >= 0) & (momenta < 1)):
                raise ValueError(f"{lr!r} gives a momentum outside 0 .. 1, 1 not included")
        return rates

    def _check_moves_momentum(self) -> None:
        """ValueError unless a schedule may change `momentum` or `beta1` from step to step."""
        if not self.moves_momentum:
            raise ValueError(
                f"{type(self).__name__} has no momentum that a schedule could change; use one "
                "without, OneCycle(cycle_momentum=False) for instance"
            )

    @property
    def moves_momentum(self) -> bool:
        """Whether a schedule may change `momentum` or `beta1`."""
        return hasattr(self, "momentum") or hasattr(self, "beta1")

    def goes_on_from(self, before: "Optimizer") -> bool:
        """Whether the state of `before` means the same to this one."""
        return self.kernel == before.kernel

    @property
    def kernel(self) -> str:
        """Its step in C, one of the registry's."""
        return self.name

    @property
    def keeps_average(self) -> bool:
        """Whether training with it keeps averaged weights."""
        return self.weight_average is not None

    def average_of(self, params: Array, state: tuple[Array, ...]) -> Array:
        """Averaged weights that follow from the weights and its own state: none here."""
        raise NotImplementedError

    def weights_in(self, state: tuple[Array, ...]) -> tuple[Array, ...]:
        """Those of its state arrays that hold weights, not moments."""
        return ()


def _checked(field: str, value: Any) -> float | bool | None:
    """The value of a field as one of Python's own; ValueError for one out of range."""
    if field in _FLAGS:
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{field} must be True or False, not {value!r}")
        return bool(value)
    number = as_real(value)
    if field in _LIMITS:
        if value is not None and (number is None or number <= 0):
            raise ValueError(f"{field} must be a number above 0, or None, not {value!r}")
        return number
    if field == "eps" and (number is None or number < _LEAST_EPS):
        raise ValueError(f"eps must be a number >= {_LEAST_EPS:g}, not {value!r}")
    if number is None or number < 0:
        raise ValueError(f"{field} must be a finite number >= 0, not {value!r}")
    if field in _BELOW_ONE and number >= 1:
        raise ValueError(f"{field} must be below 1, not {value!r}")
    return number


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with v = 0 at the start and g the gradient of the mean loss.

    usual:     v = momentum v + g,                p -= lr v        (PyTorch's form)
    nesterov:  v = momentum v + g,                p -= lr (g + momentum v)
    averaged:  v = momentum v + (1 - momentum) g, p -= lr v        (the lecture's form)

    Weights, not biases, first shrink by lr * weight_decay * p.
    """

    name: ClassVar[str] = "sgd"
    lr: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    averaged: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.averaged:
            raise ValueError("choose nesterov or averaged, not both")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs momentum > 0, 0.9 for instance")


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adam (Kingma, Ba 2015): the lecture's "momentum + AdaGrad", with bias correction."""

    name: ClassVar[str] = "adam"
    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True, repr=False)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019) on weights, not on biases."""

    name: ClassVar[str] = "adamw"
    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01


@dataclass(frozen=True, repr=False)
class AMSGrad(Optimizer):
    """Adam whose steps never grow again (Reddi, Kale, Kumar 2018): divided by the root of the
    largest v so far, in PyTorch's form (amsgrad=True).
    """

    name: ClassVar[str] = "amsgrad"
    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class NAdam(Optimizer):
    """Adam with Nesterov's look ahead (Dozat 2016), in PyTorch's form.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), M_t = mu_1 ... mu_t and Adam's m and v:
    p -= lr ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v / (1 - beta2^t)) +
    eps)
    """

    name: ClassVar[str] = "nadam"
    lr: float | Schedule = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum_decay: float = 4e-3
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan, Singer 2011): v += g^2, p -= lr g / (sqrt(v) + eps).

    The lecture's slide divides by the sum of squares; as in the paper, it is its root.
    """

    name: ClassVar[str] = "adagrad"
    lr: float | Schedule = 0.01
    eps: float = 1e-10
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """RMSprop (Tieleman, Hinton 2012), in PyTorch's form.

    v = beta2 v + (1 - beta2) g^2, u = momentum u + g / (sqrt(v) + eps), p -= lr u

    centered: sqrt(v - m^2) in place of sqrt(v), with the running mean m = beta2 m + (1 - beta2) g
    (Graves 2013): steps grow where gradients agree. It keeps a third array.
    """

    name: ClassVar[str] = "rmsprop"
    lr: float | Schedule = 0.01
    beta2: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0
    centered: bool = False

    @property
    def kernel(self) -> str:
        """Its step in C."""
        return "centered_rmsprop" if self.centered else self.name


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Lion (Chen et al. 2023): p -= lr sign(beta1 m + (1 - beta1) g), m = beta2 m + (1 - beta2) g.

    Every weight moves by lr: it wants a 3 to 10 times smaller one than Adam, and a larger decay.
    """

    name: ClassVar[str] = "lion"
    lr: float | Schedule = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012), in PyTorch's form: the running mean of past steps sets their size.

    v = beta2 v + (1 - beta2) g^2, d = sqrt(u + eps) / sqrt(v + eps) g,
    u = beta2 u + (1 - beta2) d^2, p -= lr d. beta2 is called rho elsewhere.
    """

    name: ClassVar[str] = "adadelta"
    lr: float | Schedule = 1.0
    beta2: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class Adamax(Optimizer):
    """Adam over the largest gradient (Kingma, Ba 2015, section 7.1), in PyTorch's form.

    m = beta1 m + (1 - beta1) g, u = max(beta2 u, |g| + eps), p -= lr m / (1 - beta1^t) / u
    """

    name: ClassVar[str] = "adamax"
    lr: float | Schedule = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class Rprop(Optimizer):
    """Rprop (Riedmiller, Braun 1993), in PyTorch's form: for whole batches, whose gradients do not
    change their signs by chance.

    Every element moves against the sign of its gradient by a step of its own, lr at first. The step
    is multiplied by `grow` while the sign stays and by `shrink` where it has changed (the element
    rests then), within min_step and max_step; PyTorch's etas are (shrink, grow), its step_sizes
    (min_step, max_step). Another lr begins anew.

    Raises ValueError for a schedule: only the first step has the size lr.
    """

    name: ClassVar[str] = "rprop"
    follows_lr: ClassVar[bool] = False
    lr: float | Schedule = 0.01
    shrink: float = 0.5
    grow: float = 1.2
    min_step: float = 1e-6
    max_step: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.lr, Schedule):
            raise ValueError("Rprop sets its own step sizes; lr, the first one, must be a number")
        if not 0 < self.shrink < 1 < self.grow:
            raise ValueError(
                f"shrink must lie between 0 and 1 and grow above 1, not {self.shrink} and "
                f"{self.grow}"
            )
        if not 0 < self.min_step <= self.max_step:
            raise ValueError(
                f"min_step must be above 0 and at most max_step={self.max_step}, not "
                f"{self.min_step}"
            )

    def goes_on_from(self, before: Optimizer) -> bool:
        """With the same lr, that the steps began with."""
        return super().goes_on_from(before) and self.lr == before.lr


@dataclass(frozen=True, repr=False)
class ScheduleFreeAdamW(Optimizer):
    """AdamW that needs no schedule (Defazio et al. 2024), in the authors' form.

    With d = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y, the gradient being taken at y:
    z -= lr d, x = (1 - c) x + c z, y = (1 - beta1) z + beta1 x, where c = lr^2 / (sum of all lr^2
    so far), of the largest lr so far. A warm-up is usual: lr=LinearWarmup(0.0025, warmup=500).

    The network's weights are y; x are the averaged weights, with which one predicts:
    `with net.averaged(): net.predict(X)`.
    """

    name: ClassVar[str] = "schedule_free_adamw"
    lr: float | Schedule = 2.5e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta1 == 0:
            raise ValueError("beta1 must be above 0: the averaged weights follow from it")
        if self.weight_average is not None:
            raise ValueError("ScheduleFreeAdamW averages by itself; leave weight_average out")
        if self.max_norm is not None:  # of y alone it would part y from z and x
            raise ValueError("ScheduleFreeAdamW has no max_norm; use l2, or AdamW(max_norm=...)")

    @property
    def moves_momentum(self) -> bool:
        """Never: the averaged weights follow from one beta1."""
        return False

    def goes_on_from(self, before: Optimizer) -> bool:
        """With the same beta1: by it x follows from y and z."""
        return isinstance(before, ScheduleFreeAdamW) and self.beta1 == before.beta1

    @property
    def keeps_average(self) -> bool:
        """Always: x."""
        return True

    def average_of(self, params: Array, state: tuple[Array, ...]) -> Array:
        """x = y + (1 - 1 / beta1) (z - y)."""
        share = params.dtype.type(1 - 1 / self.beta1)
        return np.asarray(params + share * (state[0] - params))

    def weights_in(self, state: tuple[Array, ...]) -> tuple[Array, ...]:
        """Z alone."""
        return state[:1]


OPTIMIZERS: dict[str, type[Optimizer]] = {
    c.name: c
    for c in (
        SGD,
        Adam,
        AdamW,
        AMSGrad,
        NAdam,
        AdaGrad,
        RMSprop,
        Lion,
        ScheduleFreeAdamW,
        Adadelta,
        Adamax,
        Rprop,
    )
}


def from_config(config: dict[str, Any]) -> Optimizer:
    """The optimizer whose `config` it is; KeyError, TypeError or ValueError for anything else."""
    config = dict(config)
    kind = OPTIMIZERS[config.pop("name")]
    if isinstance(schedule := config.get("lr"), dict):
        config["lr"] = schedules.from_config(schedule)
    if isinstance(average := config.get("weight_average"), dict):
        average = dict(average)
        config["weight_average"] = AVERAGES[average.pop("type")](**average)
    return kind(**config)


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer for a name ("adam") or itself; TypeError and ValueError for anything else."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be Adam(...), SGD(...) or a name, not {optimizer!r}")
    if optimizer not in OPTIMIZERS:
        if optimizer.lower() in OPTIMIZERS:
            raise ValueError(f"optimizer={optimizer!r} is unknown; use {optimizer.lower()!r}")
        raise ValueError(f"optimizer={optimizer!r} is unknown; use one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer]()
