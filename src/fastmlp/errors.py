"""Exceptions of our own; bad arguments raise ValueError and TypeError."""

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
    """A model file is damaged, or not one of fastmlp's."""


class ConvergenceWarning(UserWarning):
    """An iteration ended before its result was as exact as asked for."""
