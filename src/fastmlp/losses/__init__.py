"""Losses: their settings, their targets, and the meaning of the raw outputs under them.

`fit(loss=...)` takes a name ("huber"), one of these objects (`Huber(delta=0.5)`) or a Python
function (see `CustomLoss`). In the formulas z are the raw outputs (rows, n_out) of the last layer
and y the targets. A loss is the mean of its formula over all rows and, for values, over all columns
of y.
"""

from typing import Any

from .. import _core
from ..ground.arrays import Array
from ..ground.dialects import Translated, way
from .base import Loss, LossFunction, sigmoid, softmax
from .custom import CustomLoss, LostFunction
from .named import (
    LOSS_CLASSES,
    AbsoluteError,
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Focal,
    GaussianNLL,
    Huber,
    Pinball,
    Poisson,
    SoftCrossEntropy,
    SquaredError,
    Tweedie,
)

LOSSES: tuple[str, ...] = tuple(_core.LOSSES)


_DEFAULTS = {name: c() for name, c in LOSS_CLASSES.items()}


def get_loss(loss: str | Loss | LossFunction) -> Loss:
    """Return the loss object for a name, an object or a function of (pred, target).

    Raises ValueError for an unknown name, TypeError for anything else.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        if loss not in _DEFAULTS:
            known = way("loss", loss.replace("-", "_"))
            advice = f"fastmlp calls it {known!r}," if known else "use"
            raise ValueError(f"loss={loss!r} is unknown; {advice} one of {', '.join(LOSSES)}")
        return _DEFAULTS[loss]
    if isinstance(loss, type | Translated) or not callable(loss):
        raise TypeError(
            f"loss must be a name, an object such as Huber(delta=0.5) or a function of "
            f"(pred, target), not {loss!r}"
        )
    return CustomLoss(loss)


def from_config(config: Any) -> str | Loss | None:
    """Return the loss that a model file holds as a name or as the fields of an object.

    Raises KeyError, TypeError and ValueError for anything else.
    """
    if config is None:
        return None
    if isinstance(config, str):
        return get_loss(config) and config
    values = dict(config)
    name = values.pop("name")
    if name == CustomLoss.name:
        return CustomLoss(LostFunction(values.pop("function")), **values)
    return LOSS_CLASSES[name](**values)


def probabilities(loss: str | Loss, z: Array) -> Array:
    """Return the softmax of the rows of z, or the sigmoid of its elements, as the loss implies.

    Raises ValueError for a loss on values.
    """
    return get_loss(loss).probabilities(z)


__all__ = [
    "LOSSES",
    "LOSS_CLASSES",
    "AbsoluteError",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "CrossEntropy",
    "CustomLoss",
    "Focal",
    "GaussianNLL",
    "Huber",
    "Loss",
    "LossFunction",
    "Pinball",
    "Poisson",
    "SoftCrossEntropy",
    "SquaredError",
    "Tweedie",
    "from_config",
    "get_loss",
    "probabilities",
    "sigmoid",
    "softmax",
]
