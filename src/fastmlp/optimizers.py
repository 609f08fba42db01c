"""Optimizers: settings only. The moments live with the network, so one object serves any number of
them.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Optimizer:
    """Base of all optimizers; `lr` is the learning rate."""

    name: ClassVar[str]
    lr: float = 0.01

    def __post_init__(self) -> None:
        for field, value in self.settings().items():
            if isinstance(value, bool):
                continue
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{field} must be a finite number >= 0, not {value!r}")
            if field in ("momentum", "beta1", "beta2") and value >= 1:
                raise ValueError(f"{field} must be below 1, not {value!r}")

    def settings(self) -> dict[str, Any]:
        """The fields as a dict, for C and for a model file."""
        return dict(vars(self))  # asdict copies deeply, at a quarter of the cost of a small step


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with v = 0 at the start and g the gradient of the mean loss.

    usual:     v = momentum v + g,                p -= lr v        (PyTorch's form)
    nesterov:  v = momentum v + g,                p -= lr (g + momentum v)
    averaged:  v = momentum v + (1 - momentum) g, p -= lr v        (the lecture's form)

    Weights, not biases, first shrink by lr * weight_decay * p.
    """

    name: ClassVar[str] = "sgd"
    lr: float = 0.01
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


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma, Ba 2015): the lecture's "momentum + AdaGrad", with bias correction."""

    name: ClassVar[str] = "adam"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019) on weights, not on biases."""

    name: ClassVar[str] = "adamw"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01


OPTIMIZERS: dict[str, type[Optimizer]] = {c.name: c for c in (SGD, Adam, AdamW)}


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer for a name ("adam") or itself; TypeError and ValueError for anything else."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be Adam(...), SGD(...) or a name, not {optimizer!r}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} is unknown; use one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer]()
