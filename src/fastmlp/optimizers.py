"""Optimizers: settings only.

The network holds the moments, so one optimizer serves any number of networks.
"""

from dataclasses import KW_ONLY, dataclass
from dataclasses import field as setting
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import _core, schedules
from .averages import AVERAGES, EMA, SWA
from .ground.arrays import Array
from .ground.checks import check_fields, check_number, declared, flag, number
from .ground.frozen import Settings, also_called
from .schedules import Schedule

_LEAST_EPS = 1e-30  # a smaller one gives 0 / 0 if a gradient has always been 0


def _check_rate(value: Any, name: str) -> float | Schedule:
    return value if isinstance(value, Schedule) else check_number(value, name)


def _check_average(value: Any, name: str) -> EMA | SWA | None:
    if not isinstance(value, EMA | SWA | None):
        raise TypeError(f"{name} must be EMA(...) or SWA(...), not {value!r}")
    return value


@dataclass(frozen=True, repr=False)
class Optimizer(Settings):
    """Base of all optimizers, with the settings that every one of them takes.

    All but `lr` are given by name. Below, g is the gradient of the mean loss over the mini-batch.
    Clipping changes g first; the penalties are added after it.

    lr: the learning rate, a number >= 0 or a schedule (`fastmlp.schedules`).
    clip_norm: the largest norm of the whole gradient. If the norm is above it,
        g *= clip_norm / norm (Pascanu et al. 2013).
    clip_value: every element of g is cut off at -clip_value and clip_value. Give clip_norm or
        clip_value, not both.
    l1, l2: factors of the penalty sum(l1 |w| + l2 / 2 w^2) over all weights, not biases, which
        joins the loss: g += l1 sign(w) + l2 w. Both together are the elastic net. The lecture's
        ridge |y - X w|^2 + delta^2 |w|^2, divided by n rows, is l2 = 2 delta^2 / n. The loss that
        `fit` and `evaluate` report stays that of the data.
    max_norm: the largest norm of the incoming weights of an output unit (a column of W). After the
        step larger ones are scaled back to it (Srivastava et al. 2014).
    weight_average: EMA(...) or SWA(...), an average kept beside the weights; see
        `Sequential.averaged`.

    Weight decay, if an optimizer has it, is decoupled, unlike l2 (Loshchilov, Hutter 2019).
    Weights, not biases, shrink by lr weight_decay w beside the step, whatever the moments are.

    Raises ValueError for a value outside its range, TypeError for a weight_average of another type.
    """

    _always_shown: ClassVar[tuple[str, ...]] = ("lr",)
    follows_lr: ClassVar[bool] = True  # every step reads lr, so lr may change
    lr: float | Schedule = declared(_check_rate, 0.01)
    _: KW_ONLY
    l1: float = number(0.0)
    l2: float = number(0.0)
    clip_norm: float | None = number(None, positive=True, optional=True)
    clip_value: float | None = number(None, positive=True, optional=True)
    max_norm: float | None = number(None, positive=True, optional=True)
    weight_average: EMA | SWA | None = declared(_check_average, None)

    def __post_init__(self) -> None:
        check_fields(self)
        if getattr(self.lr, "cycle_momentum", False):
            self._check_moves_momentum()
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("choose clip_norm or clip_value, not both")

    @cached_property  # made once, because making it takes as long as a small step
    def settings(self) -> _core.OptimizerSettings:
        """The settings in the form that C reads."""
        settings = {name: v for name, v in self.__getstate__().items() if v is not None}
        if isinstance(self.lr, Schedule):
            settings["lr"] = self.lr.lr  # C reads the rates of a schedule from `rates`
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
        """The learning rate of a step; the first step is 0."""
        return self.lr(step) if isinstance(self.lr, Schedule) else self.lr

    def rates(self, step: int, n: int) -> NDArray[np.float64] | None:
        """Learning rates and momenta (n, 2) of n steps from `step` on, for C.

        A momentum of NaN means that of the optimizer. None means that neither changes. Raises
        ValueError if the schedule gives a rate or a momentum outside its range.
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
        """Whether the state of `before` has the same meaning for this optimizer."""
        return self.kernel == before.kernel

    @property
    def kernel(self) -> str:
        """The name of its step in the registry of C."""
        return self.name

    @property
    def keeps_average(self) -> bool:
        """Whether training with it keeps averaged weights."""
        return self.weight_average is not None

    def average_of(self, params: Array, state: tuple[Array, ...]) -> Array:
        """Return averaged weights computed from weights and state; this optimizer has none."""
        raise NotImplementedError

    def weights_in(self, state: tuple[Array, ...]) -> tuple[Array, ...]:
        """The state arrays that hold weights, not moments."""
        return ()


@also_called("averaged", "dampened")
@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with v = 0 at the start and g the gradient of the mean loss.

    usual:     v = momentum v + g,                p -= lr v        (PyTorch's form)
    nesterov:  v = momentum v + g,                p -= lr (g + momentum v)
    averaged:  v = momentum v + (1 - momentum) g, p -= lr v        (the lecture's form)

    Weights, not biases, first shrink by lr * weight_decay * p.

    lr: the learning rate, or a schedule.
    momentum: the share of v that is kept, in [0, 1).
    nesterov: whether to use the second form, which needs momentum > 0.
    averaged, dampened: whether to use the third form, under two names. PyTorch writes it as
        dampening=momentum.
    weight_decay: the decoupled weight decay, >= 0.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range,
    and for nesterov and averaged together.
    """

    name: ClassVar[str] = "sgd"
    lr: float | Schedule = 0.01
    momentum: float = number(0.0, below=1)
    nesterov: bool = flag(False)
    averaged: bool = flag(False)
    weight_decay: float = number(0.0)

    if TYPE_CHECKING:
        dampened: bool = setting(default=False, kw_only=True)
    else:

        @property
        def dampened(self):
            """Another name of `averaged`."""
            return self.averaged

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.averaged:
            raise ValueError("choose nesterov or averaged, not both")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs momentum > 0, 0.9 for instance")


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adam (Kingma, Ba 2015): the lecture's "momentum + AdaGrad", with bias correction.

    m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
    p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    lr: the learning rate, or a schedule.
    beta1, beta2: the shares of m and v that are kept, in [0, 1).
    eps: keeps the divisor above 0; >= 1e-30.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "adam"
    lr: float | Schedule = 1e-3
    beta1: float = number(0.9, below=1)
    beta2: float = number(0.999, below=1)
    eps: float = number(1e-8, _LEAST_EPS)


@dataclass(frozen=True, repr=False)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019) on weights, not on biases.

    lr, beta1, beta2, eps: as in `Adam`.
    weight_decay: weights also shrink by lr * weight_decay * p in every step; >= 0.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "adamw"
    lr: float | Schedule = 1e-3
    beta1: float = number(0.9, below=1)
    beta2: float = number(0.999, below=1)
    eps: float = number(1e-8, _LEAST_EPS)
    weight_decay: float = number(0.01)


@dataclass(frozen=True, repr=False)
class AMSGrad(Optimizer):
    """Adam whose steps never grow again (Reddi, Kale, Kumar 2018).

    This is PyTorch's form (amsgrad=True). The step is divided by the root of the largest v so far.

    lr, beta1, beta2, eps: as in `Adam`.
    weight_decay: as in `AdamW`.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "amsgrad"
    lr: float | Schedule = 1e-3
    beta1: float = number(0.9, below=1)
    beta2: float = number(0.999, below=1)
    eps: float = number(1e-8, _LEAST_EPS)
    weight_decay: float = number(0.0)


@dataclass(frozen=True, repr=False)
class NAdam(Optimizer):
    """Adam with Nesterov's look ahead (Dozat 2016), in PyTorch's form.

    With mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), M_t = mu_1 ... mu_t and Adam's m and v:

    p -= lr ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m)
         / (sqrt(v / (1 - beta2^t)) + eps)

    lr, beta1, beta2, eps: as in `Adam`.
    momentum_decay: how fast mu_t approaches beta1, >= 0.
    weight_decay: as in `AdamW`.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "nadam"
    lr: float | Schedule = 2e-3
    beta1: float = number(0.9, below=1)
    beta2: float = number(0.999, below=1)
    eps: float = number(1e-8, _LEAST_EPS)
    momentum_decay: float = number(4e-3)
    weight_decay: float = number(0.0)


@dataclass(frozen=True, repr=False)
class RAdam(Optimizer):
    """Adam that rectifies the variance of its first steps (Liu et al. 2020), in PyTorch's form.

    r = sqrt((rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t)), rho = 2 / (1 - beta2) - 1,
    rho_t = rho - 2 t beta2^t / (1 - beta2^t),
    p -= lr m / (1 - beta1^t) r sqrt(1 - beta2^t) / (sqrt(v) + eps)

    While rho_t <= 5, the first 5 steps by default, p -= lr m / (1 - beta1^t).

    lr, beta1, beta2: as in `Adam`.
    eps: keeps the divisor above 0, >= 1e-30.
    weight_decay: as in `AdamW`.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "radam"
    lr: float | Schedule = 1e-3
    beta1: float = number(0.9, below=1)
    beta2: float = number(0.999, below=1)
    eps: float = number(1e-8, _LEAST_EPS)
    weight_decay: float = number(0.0)


@dataclass(frozen=True, repr=False)
class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan, Singer 2011): v += g^2, p -= lr g / (sqrt(v) + eps).

    The lecture's slide divides by the sum of squares. This class divides by its root, as the paper
    does.

    lr: the learning rate, or a schedule.
    eps: keeps the divisor above 0; >= 1e-30.
    weight_decay: as in `AdamW`.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "adagrad"
    lr: float | Schedule = 0.01
    eps: float = number(1e-10, _LEAST_EPS)
    weight_decay: float = number(0.0)


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """RMSprop (Tieleman, Hinton 2012), in PyTorch's form.

    v = beta2 v + (1 - beta2) g^2, u = momentum u + g / (sqrt(v) + eps), p -= lr u

    lr: the learning rate, or a schedule.
    beta2: the share of v that is kept, in [0, 1).
    eps: keeps the divisor above 0; >= 1e-30.
    momentum: the share of u that is kept, in [0, 1).
    weight_decay: as in `AdamW`.
    centered: whether to take sqrt(v - m^2) in place of sqrt(v), with the running mean m = beta2 m +
        (1 - beta2) g (Graves 2013). Steps then grow if gradients agree. This form keeps a third
        array.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "rmsprop"
    lr: float | Schedule = 0.01
    beta2: float = number(0.99, below=1)
    eps: float = number(1e-8, _LEAST_EPS)
    momentum: float = number(0.0, below=1)
    weight_decay: float = number(0.0)
    centered: bool = flag(False)

    @property
    def kernel(self) -> str:
        """The name of its step in the registry of C."""
        return "centered_rmsprop" if self.centered else self.name


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Lion (Chen et al. 2023): p -= lr sign(beta1 m + (1 - beta1) g), m = beta2 m + (1 - beta2) g.

    Every weight moves by lr. So Lion needs a 3 to 10 times smaller lr than Adam, and a larger
    decay.

    lr: the learning rate, or a schedule.
    beta1, beta2: the shares of m in the step and in the new m, in [0, 1).
    weight_decay: as in `AdamW`.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "lion"
    lr: float | Schedule = 1e-4
    beta1: float = number(0.9, below=1)
    beta2: float = number(0.99, below=1)
    weight_decay: float = number(0.0)


@dataclass(frozen=True, repr=False)
class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012), in PyTorch's form: the running mean of past steps sets their size.

    v = beta2 v + (1 - beta2) g^2, d = sqrt(u + eps) / sqrt(v + eps) g, u = beta2 u + (1 - beta2)
    d^2, p -= lr d

    lr: the learning rate, or a schedule.
    beta2: the shares of u and v that are kept, in [0, 1); other libraries call it rho.
    eps: keeps the divisor above 0, and the first steps; >= 1e-30.
    weight_decay: as in `AdamW`.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "adadelta"
    lr: float | Schedule = 1.0
    beta2: float = number(0.9, below=1)
    eps: float = number(1e-6, _LEAST_EPS)
    weight_decay: float = number(0.0)


@dataclass(frozen=True, repr=False)
class Adamax(Optimizer):
    """Adam over the largest gradient (Kingma, Ba 2015, section 7.1), in PyTorch's form.

    m = beta1 m + (1 - beta1) g, u = max(beta2 u, |g| + eps), p -= lr m / (1 - beta1^t) / u

    lr, beta1, eps: as in `Adam`.
    beta2: the share of u that is kept, in [0, 1).
    weight_decay: as in `AdamW`.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "adamax"
    lr: float | Schedule = 2e-3
    beta1: float = number(0.9, below=1)
    beta2: float = number(0.999, below=1)
    eps: float = number(1e-8, _LEAST_EPS)
    weight_decay: float = number(0.0)


@dataclass(frozen=True, repr=False)
class Rprop(Optimizer):
    """Rprop (Riedmiller, Braun 1993), in PyTorch's form.

    It is for whole batches, whose gradients do not change their signs by chance. Every element
    moves against the sign of its gradient by a step size of its own. The size is multiplied by
    `grow` while the sign stays. It is multiplied by `shrink` when the sign has changed, and the
    element then rests.

    lr: the first step size, a number. Another lr begins anew.
    shrink, grow: the factors of the step size, with 0 < shrink < 1 < grow; PyTorch's etas.
    min_step, max_step: the limits of the step size; PyTorch's step_sizes.

    The other settings are those of `Optimizer`. Raises ValueError for a value outside its range,
    and for a schedule, because only the first step has the size lr.
    """

    name: ClassVar[str] = "rprop"
    follows_lr: ClassVar[bool] = False
    lr: float | Schedule = 0.01
    shrink: float = number(0.5)
    grow: float = number(1.2)
    min_step: float = number(1e-6)
    max_step: float = number(50.0)

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
        """Whether the state has the same meaning: the step sizes began with the same lr."""
        return super().goes_on_from(before) and self.lr == before.lr


@dataclass(frozen=True, repr=False)
class ScheduleFreeAdamW(Optimizer):
    """AdamW that needs no schedule (Defazio et al. 2024), in the authors' form.

    The gradient is taken at y:

    d = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y,
    z -= lr d, x = (1 - c) x + c z, y = (1 - beta1) z + beta1 x

    Here c = lr^2 / (sum of all lr^2 so far), in which each lr is the largest up to its step.

    The network's weights are y. The averaged weights are x, with which one predicts:
    `with net.averaged(): net.predict(X)`.

    lr: the learning rate, or a schedule. A warm-up is usual: lr=LinearWarmup(0.0025, warmup=500).
    beta1: the share of x in y, in (0, 1).
    beta2, eps: as in `Adam`.
    weight_decay: the factor of y in d, >= 0.

    The other settings are those of `Optimizer`, without weight_average and max_norm. Raises
    ValueError for a value outside its range.
    """

    name: ClassVar[str] = "schedule_free_adamw"
    lr: float | Schedule = 2.5e-3
    beta1: float = number(0.9, below=1)
    beta2: float = number(0.999, below=1)
    eps: float = number(1e-8, _LEAST_EPS)
    weight_decay: float = number(0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta1 == 0:
            raise ValueError("beta1 must be above 0: the averaged weights follow from it")
        if self.weight_average is not None:
            raise ValueError("ScheduleFreeAdamW averages by itself; leave weight_average out")
        if self.max_norm is not None:  # scaling y alone would change x
            raise ValueError("ScheduleFreeAdamW has no max_norm; use l2, or AdamW(max_norm=...)")

    @property
    def moves_momentum(self) -> bool:
        """Always False: the averaged weights follow from one beta1."""
        return False

    def goes_on_from(self, before: Optimizer) -> bool:
        """Whether beta1 is the same: x follows from y, z and beta1."""
        return isinstance(before, ScheduleFreeAdamW) and self.beta1 == before.beta1

    @property
    def keeps_average(self) -> bool:
        """Always True: the averaged weights are x."""
        return True

    def average_of(self, params: Array, state: tuple[Array, ...]) -> Array:
        """Return x = y + (1 - 1 / beta1) (z - y)."""
        share = params.dtype.type(1 - 1 / self.beta1)
        return np.asarray(params + share * (state[0] - params))

    def weights_in(self, state: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return z alone."""
        return state[:1]


OPTIMIZERS: dict[str, type[Optimizer]] = {
    c.name: c
    for c in (
        SGD,
        Adam,
        AdamW,
        AMSGrad,
        NAdam,
        RAdam,
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
    """Return the optimizer of a `config`; KeyError, TypeError or ValueError for anything else."""
    config = dict(config)
    kind = OPTIMIZERS[config.pop("name")]
    if isinstance(schedule := config.get("lr"), dict):
        config["lr"] = schedules.from_config(schedule)
    if isinstance(average := config.get("weight_average"), dict):
        average = dict(average)
        config["weight_average"] = AVERAGES[average.pop("type")](**average)
    return kind(**config)


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return the optimizer for a name ("adam") or itself; TypeError and ValueError if unknown."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be Adam(...), SGD(...) or a name, not {optimizer!r}")
    if optimizer not in OPTIMIZERS:
        if optimizer.lower() in OPTIMIZERS:
            raise ValueError(f"optimizer={optimizer!r} is unknown; use {optimizer.lower()!r}")
        raise ValueError(f"optimizer={optimizer!r} is unknown; use one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer]()
