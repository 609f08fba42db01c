"""Multi-layer perceptrons, trained on CPUs at the speed of the chip."""

from typing import TYPE_CHECKING

from .callbacks import Callback, EarlyStopping
from .config import default_threads, get_config, show_config
from .data import DataLoader
from .errors import CheckpointError, DivergenceError
from .layers import ACTIVATION_CLASSES, Dropout, Layer, Linear
from .losses import binary_cross_entropy, cross_entropy, squared_error
from .network import Sequential
from .optimizers import SGD, Adam, AdamW, Optimizer
from .training import History

globals().update(ACTIVATION_CLASSES)

if TYPE_CHECKING:
    from .layers import Activation

    def __getattr__(name: str) -> type[Activation]: ...  # the classes in ACTIVATION_CLASSES


__all__ = [
    *ACTIVATION_CLASSES,
    "SGD",
    "Adam",
    "AdamW",
    "Callback",
    "CheckpointError",
    "DataLoader",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "History",
    "Layer",
    "Linear",
    "Optimizer",
    "Sequential",
    "binary_cross_entropy",
    "cross_entropy",
    "default_threads",
    "get_config",
    "show_config",
    "squared_error",
]
