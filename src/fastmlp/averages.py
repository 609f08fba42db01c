"""Averages of the weights over training steps; they predict more steadily than the last step.

    net.fit(X, y, optimizer=Adam(weight_average=EMA(0.999)))
    with net.averaged():
        net.evaluate(X_test, y_test)

C averages after every step, in the pass that updates. The average is part of the network: a model
file holds it, and a loaded network goes on with it. Training itself never reads it. Steps are
mini-batches: ceil(rows / batch_size) an epoch.
"""

from dataclasses import dataclass
from typing import Any

from .ground.checks import check_fields, count, number


@dataclass(frozen=True)
class EMA:
    """Exponential moving average: a = p after the first step, then a = decay a + (1 - decay) p.

    PyTorch's get_ema_multi_avg_fn; the idea is of Polyak, Juditsky 1992.

    decay: the share of a that is kept in a step, between 0 and 1.

    Raises ValueError for a decay outside its range.
    """

    decay: float = number(0.999, positive=True, below=1, advice=", 0.999 for instance")

    def __post_init__(self) -> None:
        check_fields(self)

    def settings(self) -> dict[str, Any]:
        """The fields by the names that C gives them."""
        return {"average_decay": self.decay}


@dataclass(frozen=True)
class SWA:
    """Stochastic weight averaging (Izmailov et al. 2018): the plain mean of the weights.

    The mean is over the weights after the steps start, start + every, start + 2 every, ... of the
    optimizer. Until the first of these steps the average is the weights themselves.

    start: the first step that counts, >= 0.
    every: steps between two that count, >= 1.

    Raises ValueError for a value outside its range.
    """

    start: int = count(least=0, most=2**62 - 1)
    every: int = count(1, most=2**62 - 1)

    def __post_init__(self) -> None:
        check_fields(self)

    def settings(self) -> dict[str, Any]:
        """The fields by the names that C gives them."""
        return {"average_start": self.start, "average_every": self.every}


AVERAGES: dict[str, type[EMA] | type[SWA]] = {c.__name__: c for c in (EMA, SWA)}
