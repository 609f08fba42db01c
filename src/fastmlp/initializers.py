"""Initial weights: functions (rng, n_in, n_out) -> float64 array (n_in, n_out).

Biases start at zero.

The names stand for the variances of the lecture's section "Weight initialization". Its last slide
prints 2 / (n_in n_out) for the Bengio form. The paper (Glorot, Bengio 2010) and `glorot_*` have 2 /
(n_in + n_out).

All functions take the same parameters:

rng: a numpy.random.Generator.
n_in, n_out: the shape of the weights, inputs by outputs.
"""

from __future__ import annotations  # so that numpy.random, slow to load, loads on first use

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .ground.lapack import interruptible

Weights = NDArray[np.float64]
Initializer = Callable[["np.random.Generator", int, int], Weights]


def zeros(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """All zeros: every hidden unit stays equal to its neighbors (the lecture's warning)."""
    return np.zeros((n_in, n_out))


def small_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """0.01 randn, the lecture's first random initialization."""
    return 0.01 * rng.standard_normal((n_in, n_out))


def xavier_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Normal with variance 1 / n_in, which the lecture calls Xavier, and others LeCun."""
    return float(np.sqrt(1 / n_in)) * rng.standard_normal((n_in, n_out))


def xavier_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Uniform with variance 1 / n_in."""
    return _uniform(rng, n_in, n_out, 1 / n_in)


def he_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Normal with variance 2 / n_in, for ReLU (He et al. 2015)."""
    return float(np.sqrt(2 / n_in)) * rng.standard_normal((n_in, n_out))


def he_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Uniform with variance 2 / n_in."""
    return _uniform(rng, n_in, n_out, 2 / n_in)


def glorot_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Normal with variance 2 / (n_in + n_out) (Glorot, Bengio 2010), for tanh."""
    return float(np.sqrt(2 / (n_in + n_out))) * rng.standard_normal((n_in, n_out))


def glorot_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Uniform with variance 2 / (n_in + n_out)."""
    return _uniform(rng, n_in, n_out, 2 / (n_in + n_out))


def orthogonal(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Orthonormal rows or columns, whichever are fewer (Saxe et al. 2014)."""
    tall = rng.standard_normal((max(n_in, n_out), min(n_in, n_out)))
    q, r = interruptible(np.linalg.qr, tall)
    q *= np.sign(np.diagonal(r))  # makes the distribution uniform over orthogonal matrices
    weights: Weights = q if n_in >= n_out else q.T
    return weights


def _uniform(rng: np.random.Generator, n_in: int, n_out: int, variance: float) -> Weights:
    limit = np.sqrt(3 * variance)
    return rng.uniform(-limit, limit, (n_in, n_out))


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f
    for f in (
        zeros, small_normal, xavier_normal, xavier_uniform, he_normal, he_uniform,
        glorot_normal, glorot_uniform, orthogonal,
    )
}  # fmt: skip


def get_initializer(init: str | Initializer) -> Initializer:
    """Return the function for a name, or the given function; ValueError for an unknown name."""
    if callable(init):
        return init
    if init not in INITIALIZERS:
        raise ValueError(
            f"init={init!r} is unknown; use a function or one of {', '.join(INITIALIZERS)}"
        )
    return INITIALIZERS[init]
