"""Multi-layer perceptrons, trained on CPUs at the speed of the chip."""

from typing import TYPE_CHECKING

from .averages import EMA, SWA
from .callbacks import Callback, EarlyStopping, ReduceOnPlateau
from .config import default_threads, get_config, show_config
from .data import DataLoader
from .derivatives import check_gradients
from .errors import CheckpointError, DivergenceError
from .layers import ACTIVATION_CLASSES, Dropout, Layer, Linear
from .losses import binary_cross_entropy, cross_entropy, squared_error
from .network import Sequential
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
from .schedules import (
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    Schedule,
    StepDecay,
)
from .second_order import BFGS, LBFGS, LevenbergMarquardt
from .training import History

globals().update(ACTIVATION_CLASSES)

if TYPE_CHECKING:
    from .layers import Activation

    def __getattr__(name: str) -> type[Activation]: ...  # the classes in ACTIVATION_CLASSES


__all__ = [
    *ACTIVATION_CLASSES,
    "BFGS",
    "EMA",
    "LBFGS",
    "SGD",
    "SWA",
    "AMSGrad",
    "AdaGrad",
    "Adam",
    "AdamW",
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
    "LevenbergMarquardt",
    "Linear",
    "LinearWarmup",
    "Lion",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "RMSprop",
    "ReduceOnPlateau",
    "Schedule",
    "ScheduleFreeAdamW",
    "Sequential",
    "StepDecay",
    "binary_cross_entropy",
    "check_gradients",
    "cross_entropy",
    "default_threads",
    "get_config",
    "show_config",
    "squared_error",
]
