"""Exceptions of our own; bad arguments raise ValueError and TypeError."""

from typing import Any


class DivergenceError(FloatingPointError):
    """Training stopped because the loss, or an update, was not finite; the last finite weights are
    kept.

    Attributes: `epoch` and `step` (both counted from 1) at which it happened, and the `history` so
    far.
    """

    def __init__(self, message: str, epoch: int, step: int, history: Any = None) -> None:
        super().__init__(message)
        self.epoch, self.step, self.history = epoch, step, history


class CheckpointError(ValueError):
    """A model file is damaged, or not one of fastmlp's."""


class ConvergenceWarning(UserWarning):
    """An iteration ended before its result was as exact as asked for."""
