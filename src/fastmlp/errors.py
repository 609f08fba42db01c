"""Exceptions of our own; bad arguments raise ValueError and TypeError."""

from typing import Any


class DivergenceError(FloatingPointError):
    """Training stopped because the loss, or an update, was not finite.

    The weights are finite: those before the step where the loss was not; where the update was not,
    it is written for those elements alone that stay finite.

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
