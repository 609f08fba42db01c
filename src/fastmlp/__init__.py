"""Multi-layer perceptrons, trained on CPUs at the speed of the chip."""

from typing import TYPE_CHECKING

from .averages import EMA, SWA
from .basis import PolynomialBasis, RBFBasis
from .callbacks import Callback, EarlyStopping, GradientNorms, ReduceOnPlateau
from .config import default_threads, get_config, show_config
from .data import DataLoader
from .errors import CheckpointError, ConvergenceWarning, DivergenceError
from .lasso import ElasticNet, Lasso, lasso_path
from .layers import ACTIVATION_CLASSES, Dropout, Layer, Linear
from .linear_models import LinearRegression, Ridge
from .logistic import LogisticRegression, SoftmaxRegression
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
    "Callback",
    "CheckpointError",
    "ConvergenceWarning",
    "CosineDecay",
    "DataLoader",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "ElasticNet",
    "ExponentialDecay",
    "GradientNorms",
    "History",
    "Lasso",
    "Layer",
    "Linear",
    "LinearRegression",
    "LinearWarmup",
    "Lion",
    "LogisticRegression",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "PolynomialBasis",
    "RBFBasis",
    "RMSprop",
    "ReduceOnPlateau",
    "Ridge",
    "Schedule",
    "ScheduleFreeAdamW",
    "Sequential",
    "SoftmaxRegression",
    "StepDecay",
    "binary_cross_entropy",
    "cross_entropy",
    "default_threads",
    "get_config",
    "lasso_path",
    "show_config",
    "squared_error",
]
