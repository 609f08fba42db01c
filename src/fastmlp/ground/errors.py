"""The exceptions and warnings of fastmlp; bad arguments raise ValueError and TypeError."""

import sys
import warnings
from typing import Any


class DivergenceError(FloatingPointError):
    """Training stopped because the loss, or an update, was not finite.

    The weights are finite. If the loss was not finite, or the norm that `clip_norm` needs, the step
    has changed nothing. If the update was not finite, it is written in part. Elements that stay
    finite have their new weights and moments, the others their old ones, and averaged weights have
    moved toward them.

    The step counts in neither case. The step, the epoch, the schedule, the running statistics of
    BatchNorm and the dropout masks stay those before it. To go on from the very state before, keep
    a copy of it (`copy.deepcopy(net)`, `net.save`), or the best weights by `EarlyStopping`. After
    `net.optimizer = None` moments and averages begin anew.

    Attributes:
    epoch, step: when it happened, both counted from 1.
    history: the History so far.
    """

    def __init__(self, message: str, epoch: int, step: int, history: Any = None) -> None:
        super().__init__(message)
        self.epoch, self.step, self.history = epoch, step, history

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.epoch, self.step, self.history)


class CheckpointError(ValueError):
    """A model file is damaged, is not one of fastmlp's, or is too large for the memory."""


class LearningHint(UserWarning):
    """A warning that a call is legal but hardly meant.

    A `fit` can hardly learn: the inputs are too large, the loss has grown, or the defaults are too
    few steps for so few rows. Or `predict` returns logarithms of rates that look like rates.
    To silence it: warnings.simplefilter("ignore", LearningHint).
    """


class ConvergenceWarning(UserWarning):
    """A warning that an iteration ended before its result was as exact as asked for."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the place of the line outside of this package that called into it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(names: dict[str, Any]) -> bool:
    return str(names.get("__name__")).partition(".")[0] == __name__.partition(".")[0]
