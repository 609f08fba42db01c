"""Multi-layer perceptrons, trained on CPUs at the speed of the chip."""

from typing import TYPE_CHECKING

from .averages import EMA, SWA
from .callbacks import Callback, EarlyStopping, ReduceOnPlateau
from .config import default_threads, get_config, show_config
from .data import DataLoader
from .errors import CheckpointError, DivergenceError
from .layers import ACTIVATION_CLASSES, Dropout, Layer, Linear
from .losses import binary_cross_entropy, cross_entropy, squared_error
from .network import Sequential
from .norms import BatchNorm, LayerNorm, RMSNorm, Standardize
from .optimizers import (
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    AMSGrad,
    Lion,
    NAdam,
    Optimizer,
    RMSprop,
    ScheduleFreeAdamW,
)
from .residual import Residual
from .schedules import (
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    Schedule,
    StepDecay,
)
from .training import History

globals().update(ACTIVATION_CLASSES)

if TYPE_CHECKING:
    from .layers import Activation

    def __getattr__(name: str) -> type[Activation]: ...  # the classes in ACTIVATION_CLASSES


__all__ = [
    *ACTIVATION_CLASSES,
    "EMA",
    "SGD",
    "SWA",
    "AMSGrad",
    "AdaGrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "Callback",
    "CheckpointError",
    "CosineDecay",
    "DataLoader",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "ExponentialDecay",
    "History",
    "Layer",
    "LayerNorm",
    "Linear",
    "LinearWarmup",
    "Lion",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "RMSNorm",
    "RMSprop",
    "ReduceOnPlateau",
    "Residual",
    "Schedule",
    "ScheduleFreeAdamW",
    "Sequential",
    "Standardize",
    "StepDecay",
    "binary_cross_entropy",
    "cross_entropy",
    "default_threads",
    "get_config",
    "show_config",
    "squared_error",
]
