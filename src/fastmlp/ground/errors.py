"""Exceptions of our own; bad arguments raise ValueError and TypeError."""

import sys
import warnings
from typing import Any


class DivergenceError(FloatingPointError):
    """Training stopped because the loss, or an update, was not finite.

    The weights are finite. Where the loss, or the norm that `clip_norm` needs, was not finite, the
    step has changed nothing. Where the update was not, it is written in part: elements that stay
    finite have their new weights and moments, the others their old ones, and averaged weights have
    moved towards them. The step does not count in either case: step, epoch, schedule, running
    statistics of BatchNorm and dropout masks stay those before it. To go on from the very state
    before, keep a copy of it (`copy.deepcopy(net)`, `net.save`), or the best weights by
    `EarlyStopping`; after `net.optimizer = None` moments and averages begin anew.

    Attributes: `epoch` and `step` (both counted from 1) at which it happened, and the `history` so
    far.
    """

    def __init__(self, message: str, epoch: int, step: int, history: Any = None) -> None:
        super().__init__(message)
        self.epoch, self.step, self.history = epoch, step, history

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.epoch, self.step, self.history)


class CheckpointError(ValueError):
    """A model file is damaged, not one of fastmlp's, or too large for the memory."""


class LearningHint(UserWarning):
    """A `fit` can hardly learn as it was called: inputs are too large, the loss has grown, or the
    defaults are too few steps for so few rows. To be silent:
    warnings.simplefilter("ignore", LearningHint).
    """


class ConvergenceWarning(UserWarning):
    """An iteration ended before its result was as exact as asked for."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line outside of this package that called into it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(names: dict[str, Any]) -> bool:
    return str(names.get("__name__")).partition(".")[0] == __name__.partition(".")[0]
