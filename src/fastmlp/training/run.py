"""Run, one call of `fit` as callbacks see it, and History, what it logged."""

from __future__ import annotations  # signatures that can be read

import math
from typing import Any

from ..ground.dialects import Translated
from ..optimizers import Optimizer
from ..second_order.methods import FullBatchMethod


class History(Translated, dict[str, list[float]], dialect="history"):
    """The log of `fit`: name -> one number an epoch.

    Attributes:
    stop_reason: why training stopped before the last epoch; None if it did not.
    includes_dropout: whether the numbers of the training pass include dropout.
    """

    stop_reason: str | None = None
    includes_dropout = False

    def add(self, logs: dict[str, float]) -> None:
        """Append the logs of one epoch; NaN fills the epochs in which a callback logged nothing."""
        epochs = len(next(iter(self.values()), []))
        for name in {**self, **logs}:
            self.setdefault(name, [math.nan] * epochs).append(logs.get(name, math.nan))

    def plot(self, ax: Any = None) -> Any:
        """Draw the learning curves of the losses; the training curve includes dropout.

        ax: the matplotlib axes to draw on; None makes new ones.

        Returns the axes.
        """
        from ..plot import learning_curves

        return learning_curves(self, ax)


class Run:
    """One call of fit, as callbacks see it."""

    def __init__(self, net: Any, optimizer: Optimizer | FullBatchMethod, epochs: int) -> None:
        self.net, self.optimizer, self.epochs = net, optimizer, epochs
        self.epoch = 0  # the number of the epoch in this fit, from 1
        self.logs: dict[str, float] = {}
        self.history = History()
        self.has_validation = False
        self.may_stop = False  # whether a callback may stop before the last epoch
        self.units: dict[str, float] = {}  # name: factor of the logged number when it is shown
        self.logged: tuple[str, ...] = ()  # the names that fit itself will log

    def use_optimizer(self, optimizer: Optimizer) -> None:
        """Use another optimizer from the next epoch on; ValueError in a full-batch method."""
        if isinstance(self.optimizer, FullBatchMethod):
            raise ValueError(f"{self.optimizer!r} cannot be exchanged during a fit; call fit again")
        self.net.use_optimizer(optimizer)
        self.optimizer = self.net.optimizer or optimizer

    def unit_of(self, name: str) -> float:
        """Return the factor of a logged number when it is shown, on validation data too."""
        return self.units.get(name.removeprefix("val_"), 1.0)

    def shown(self, logs: dict[str, float]) -> dict[str, float]:
        """Return the logs in the units in which they are shown."""
        units = {name: self.unit_of(name) for name in logs}
        return {name: v if units[name] == 1 else v * units[name] for name, v in logs.items()}

    def stop(self, reason: str) -> None:
        """End training after this epoch."""
        self.history.stop_reason = reason
