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

from .ground.checks import as_real, as_whole


@dataclass(frozen=True)
class EMA:
    """Exponential moving average: a = p after the first step, then a = decay a + (1 - decay) p.

    PyTorch's get_ema_multi_avg_fn; the idea is of Polyak, Juditsky 1992.

    decay: the share of a that is kept in a step, between 0 and 1.

    Raises ValueError for a decay outside its range.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        decay = as_real(self.decay)
        if decay is None or not 0 < decay < 1:
            raise ValueError(
                f"decay must lie between 0 and 1, 0.999 for instance, not {self.decay!r}"
            )
        object.__setattr__(self, "decay", decay)  # frozen for users

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

    start: int
    every: int = 1

    def __post_init__(self) -> None:
        for field, least in (("start", 0), ("every", 1)):
            value = getattr(self, field)
            whole = as_whole(value)
            if whole is None or not least <= whole < 2**62:
                raise ValueError(f"{field} must be a number of steps >= {least}, not {value!r}")
            object.__setattr__(self, field, whole)

    def settings(self) -> dict[str, Any]:
        """The fields by the names that C gives them."""
        return {"average_start": self.start, "average_every": self.every}


AVERAGES: dict[str, type[EMA] | type[SWA]] = {c.__name__: c for c in (EMA, SWA)}
