"""Layers, of which a network is a list. Each also runs alone, on the same C functions.

    lin = Linear(4, 3, seed=0)
    z = lin.forward(x)
    dx = lin.backward(dz)        # fills lin.weight_grad and lin.bias_grad

The activation classes (ReLU, Tanh, ...) are made from the list in `csrc/registry.h`.
"""

from .activation import ACTIVATION_CLASSES, GLU, Activation, PReLU
from .base import Home, Layer, check_dtype, check_width
from .dropout import Dropout
from .linear import Linear
from .lists import LAYERS, check_layers, initial_values
from .normalization import BatchNorm, LayerNorm, RMSNorm, Standardize
from .residual import Residual

LAYERS["Residual"] = Residual
globals().update(ACTIVATION_CLASSES)

__all__ = [
    *ACTIVATION_CLASSES,
    "ACTIVATION_CLASSES",
    "GLU",
    "LAYERS",
    "Activation",
    "BatchNorm",
    "Dropout",
    "Home",
    "Layer",
    "LayerNorm",
    "Linear",
    "PReLU",
    "RMSNorm",
    "Residual",
    "Standardize",
    "check_dtype",
    "check_layers",
    "check_width",
    "initial_values",
]
