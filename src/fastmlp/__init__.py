"""Multi-layer perceptrons, trained on CPUs at the speed of the chip."""

import sys
from typing import TYPE_CHECKING

from . import plot
from .analysis.derivatives import check_gradients
from .averages import EMA, SWA
from .ground.dialects import explain_construction, explained, way
from .ground.errors import CheckpointError, ConvergenceWarning, DivergenceError, LearningHint
from .ground.runtime import default_threads, get_config, show_config
from .layers import (
    ACTIVATION_CLASSES,
    GLU,
    BatchNorm,
    Dropout,
    Layer,
    LayerNorm,
    Linear,
    PReLU,
    Residual,
    RMSNorm,
    Standardize,
)
from .linear.basis import PolynomialBasis, RBFBasis
from .linear.lasso import ElasticNet, Lasso, lasso_path
from .linear.logistic import LogisticRegression, SoftmaxRegression
from .linear.regression import LinearRegression, Ridge
from .loader import DataLoader
from .loss_functions import (
    absolute_error,
    binary_cross_entropy,
    binary_focal,
    cross_entropy,
    focal,
    gaussian_nll,
    huber,
    pinball,
    poisson,
    soft_cross_entropy,
    squared_error,
    tweedie,
)
from .losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Focal,
    GaussianNLL,
    Huber,
    Loss,
    Pinball,
    Poisson,
    SoftCrossEntropy,
    SquaredError,
    Tweedie,
)
from .losses.custom import CustomLoss
from .optimizers import (
    SGD,
    Adadelta,
    AdaGrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    Lion,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
    ScheduleFreeAdamW,
)
from .schedules import (
    Chained,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    PiecewiseDecay,
    PolynomialDecay,
    Schedule,
    StepDecay,
)
from .second_order.methods import BFGS, LBFGS, LevenbergMarquardt
from .sequential import Sequential
from .training.callbacks import Callback, EarlyStopping, GradientNorms, ReduceOnPlateau
from .training.run import History

globals().update(ACTIVATION_CLASSES)

if TYPE_CHECKING:
    from .layers import Activation

    __version__: str

    def __getattr__(name: str) -> type[Activation]: ...  # the classes in ACTIVATION_CLASSES

else:

    def __getattr__(name):
        """The version, on first use because finding it takes as long as loading NumPy.

        Any other name is an error with advice.
        """
        if name == "__version__":
            return get_config()["version"]
        told = f"module 'fastmlp' has no attribute {name!r}"
        same = [own for own in __all__ if own.lower() == name.lower()]
        advice = f"use {same[0]}" if same else way("module", name)
        if advice is None:
            raise AttributeError(told, name=name, obj=sys.modules[__name__])
        # `from fastmlp import ...` would replace the message of an AttributeError by its own.
        imported = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        raise (ImportError if imported else AttributeError)(f"{told}; {advice}")


__all__ = [
    *ACTIVATION_CLASSES,
    "BFGS",
    "EMA",
    "GLU",
    "LBFGS",
    "SGD",
    "SWA",
    "AMSGrad",
    "AbsoluteError",
    "AdaGrad",
    "Adadelta",
    "Adam",
    "Adamax",
    "AdamW",
    "BatchNorm",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "Callback",
    "Chained",
    "CheckpointError",
    "ConvergenceWarning",
    "CosineDecay",
    "CosineRestarts",
    "CrossEntropy",
    "CustomLoss",
    "DataLoader",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "ElasticNet",
    "ExponentialDecay",
    "Focal",
    "GaussianNLL",
    "GradientNorms",
    "History",
    "Huber",
    "Lasso",
    "Layer",
    "LayerNorm",
    "LevenbergMarquardt",
    "LearningHint",
    "Linear",
    "LinearRegression",
    "LinearWarmup",
    "Lion",
    "LogisticRegression",
    "Loss",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "PReLU",
    "RAdam",
    "Pinball",
    "PiecewiseDecay",
    "Poisson",
    "PolynomialBasis",
    "PolynomialDecay",
    "RBFBasis",
    "RMSNorm",
    "RMSprop",
    "Rprop",
    "ReduceOnPlateau",
    "Residual",
    "Ridge",
    "Schedule",
    "ScheduleFreeAdamW",
    "Sequential",
    "SoftmaxRegression",
    "SquaredError",
    "Standardize",
    "StepDecay",
    "Tweedie",
    "absolute_error",
    "binary_cross_entropy",
    "binary_focal",
    "check_gradients",
    "cross_entropy",
    "SoftCrossEntropy",
    "soft_cross_entropy",
    "default_threads",
    "focal",
    "gaussian_nll",
    "get_config",
    "huber",
    "lasso_path",
    "pinball",
    "plot",
    "poisson",
    "show_config",
    "squared_error",
    "tweedie",
]

explain_construction(*(own for own in map(globals().get, __all__) if isinstance(own, type)))
setattr(Sequential, "fit", explained(Sequential.fit))  # noqa: B010
