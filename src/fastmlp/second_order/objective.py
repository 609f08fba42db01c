"""The loss over all rows as a function of the parameters, for the full-batch methods.

Parameters and gradients are float64 vectors here, whatever the network's type. Sums over rows are
made in blocks of a fixed number of rows, in order. Dot products use NumPy's own summation, because
the bits of a BLAS depend on its threads.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..engine.executor import Executor
from ..engine.plan import aligned_empty
from ..ground.arrays import Array, Vector
from ..ground.conversion import Weights
from ..losses import Loss

BLOCK_ROWS = 4096  # rows per forward and backward: bounds the memory, and Ctrl-C comes between
MOST_SQUARED = 10_000  # parameters, if an (n_params, n_params) matrix is needed: 800 MB
ROUNDINGS = 16  # units of rounding that sums leave in a loss
_MATRIX_ROWS = 64  # of such a matrix that are handled together
_LINEAR, _IDENTITY = _core.OPS["linear"], list(_core.ACTIVATIONS).index("identity")
_CONSTANT = 1e-12  # a spread that is rounding, as a share of the size
_UNITS = 1e-100, 1e100  # their squares are numbers too
BLOCK_NUMBERS = 2**20  # of the Jacobian that are kept at a time: at most 8 MiB


def dot(a: Vector, b: Vector) -> float:
    """Return a^T b; its bits depend on a and b alone."""
    return float(np.sum(a * b))


def row_blocks(n: int) -> Iterator[slice]:
    """The rows of an (n_params, n_params) matrix, some at a time: these are in the cache, and
    Ctrl-C comes between, also where memory is touched for the first time.
    """
    for first in range(0, n, _MATRIX_ROWS):
        yield slice(first, first + _MATRIX_ROWS)


@dataclass(frozen=True, eq=False)
class Point:
    """Parameters, the loss of the data there, `value` = loss + penalty, and its gradient."""

    params: Vector
    loss: float
    value: float
    grad: Vector


class Objective:
    """The loss of x (rows, n_in) and y plus the l2 penalty, as a function of all parameters.

    The rows may have sample weights (rows,). The penalty is l2 / 2 times the sum of the squared
    weights, without the biases.

    The evaluation uses the network's own arrays, so the last parameters evaluated stay in it.
    """

    def __init__(
        self,
        executor: Executor,
        x: Array,
        y: Array,
        loss: Loss,
        threads: int,
        l2: float = 0.0,
        weights: Weights | None = None,
    ) -> None:
        self.executor, self.x, self.y, self.loss = executor, x, y, loss
        self.weights = weights
        self.threads, self.l2 = threads, l2
        self.n_params = executor.layout.n_params
        self.n_weights = executor.layout.n_decayed

    def params(self) -> Vector:
        """Return a float64 copy of the network's parameters."""
        return np.array(self.executor.context.params, np.float64)

    def put(self, params: Vector) -> None:
        """Write `params` into the network, rounded to its type."""
        with np.errstate(over="ignore"):  # an infinite weight gives a loss that is refused
            self.executor.context.params[:] = params

    def at(self, params: Vector) -> Point:
        """Evaluate the objective at `params`, rounded to the network's type."""
        self.put(params)
        context, rows = self.executor.context, len(self.x)
        self.executor.reserve(min(rows, BLOCK_ROWS))
        loss, grad, counted = 0.0, np.zeros(self.n_params), max(1, self.loss.counted(self.y))
        for first in range(0, rows, BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            x, y = self.x[block], self.y[block]
            weights = None if self.weights is None else self.weights[block]
            z = context.forward(x, False, self.threads)
            dz = np.empty_like(z)
            share = 1.0 if self.loss.reduction == "sum" else self.loss.counted(y) / counted
            with self.executor.turns.only_reading:  # a custom loss may only read the network
                loss += share * self.loss.value(z, y, dz, weights)
            context.backward(dz, None, self.threads)
            grad += np.multiply(context.grads, share, dtype=np.float64)
        rounded = self.params()
        grad[: self.n_weights] += self.l2 * rounded[: self.n_weights]
        return Point(rounded, loss, loss + self.penalty(rounded), grad)

    def loss_at(self, params: Vector) -> float:
        """Return the loss of the data at `params`, rounded to the network's type."""
        self.put(params)
        out = self.executor.predict(self.x, self.threads)
        return self.loss.value(out, self.y, None, self.weights)

    def penalty(self, params: Vector) -> float:
        """Return l2 / 2 times the sum of the squared weights."""
        weights = params[: self.n_weights]
        return self.l2 / 2 * dot(weights, weights) if self.l2 else 0.0

    @cached_property
    def eps(self) -> float:
        """The unit of rounding of the network's type."""
        return float(np.finfo(self.executor.dtype).eps)

    @cached_property
    def _unit(self) -> float:
        """A loss that scales with the unit of the targets as this loss does.

        It is the loss of outputs that are 0. Likelihoods have no unit and get 1 per row; custom
        losses get 0.
        """
        if self.loss.has_unit:
            zeros = np.zeros((len(self.x), self.executor.layout.n_out), self.executor.dtype)
            return self.loss.value(zeros, self.y, None, self.weights)
        likelihood = self.loss.predicts != ""
        return float(likelihood) * (len(self.x) if self.loss.reduction == "sum" else 1)

    @cached_property
    def units(self) -> Vector:
        """The unit of each parameter if all are damped together.

        It is 1, except in a last Linear behind other parameters: there it is the spread of the
        target for weights and the size of the target for biases, if these are larger. So the last
        layer meets large targets, and the hidden ones are not thrown far away.
        """
        units, last = np.ones(self.n_params), self.executor.layout.ops[-1]
        if int(last["kind"]) != _LINEAR or int(last["variant"]) != _IDENTITY:
            return units
        n_in, n_out, w, b = (int(last[name]) for name in ("n_in", "n_out", "w", "b"))
        if self.n_params == n_in * n_out + (b >= 0) * n_out:  # no hidden layer to protect
            return units
        y = np.asarray(self.y, np.float64).reshape(-1, n_out)
        largest = np.maximum(np.abs(y).max(axis=0), np.finfo(np.float64).tiny)
        mean, square = (
            np.average((y / largest) ** power, axis=0, weights=self.weights) for power in (1, 2)
        )
        spread = np.sqrt(np.average((y / largest - mean) ** 2, axis=0, weights=self.weights))
        size = np.sqrt(square)
        spread = np.where(spread > _CONSTANT * size, spread, size)
        for first, n, values in ((w, n_in, spread), (b, 1, size)):
            if first >= 0:
                shown = np.clip(np.maximum(values * largest, 1), *_UNITS)
                units[first : first + n * n_out] = np.tile(shown, n)
        return units

    def size(self, value: float) -> float:
        """Return the size with which a change of the objective is compared.

        It is the value, but at least the rest that rounding leaves if all targets are met. For
        likelihoods it is at least one unit.
        """
        least = (4 * ROUNDINGS * self.eps) ** 2 if self.loss.has_unit else 1.0
        return max(abs(value), least * self._unit)

    def rounding(self, value: float) -> float:
        """Return how much rounding of the outputs may change the objective.

        The outputs are taken to be as large as the targets.
        """
        size = abs(value)
        if not self.loss.has_unit:
            return ROUNDINGS * self.eps * max(size, self._unit)
        cross = 2 * math.sqrt(size) * math.sqrt(self._unit)
        return ROUNDINGS * self.eps * (size + cross + ROUNDINGS * self.eps * self._unit)

    def normal_equations(self) -> tuple[NDArray[np.float64], Vector]:
        """Return J^T J (n_params, n_params) and J^T r (n_params,) at the network's parameters.

        r = z - y are the residuals of all outputs and J = dz / dparams; rows of both are multiplied
        by the square roots of their weights. Only the upper triangle of J^T J is valid.

        The residual is the last column of a block of J, so one symmetric product gives both.
        Products are computed in the network's type; blocks of float32 are summed in float64.
        """
        width, n_out, dtype = self.n_params + 1, self.executor.layout.n_out, self.executor.dtype
        gram = np.zeros((width, width))
        part = gram if dtype == gram.dtype else np.zeros((width, width), dtype)
        rows = max(1, min(len(self.x), BLOCK_NUMBERS // (width * n_out)))
        block = np.empty(rows * n_out * width, dtype)
        scratch = jacobian_scratch(self.executor, self.threads)
        roots = None if self.weights is None else np.sqrt(self.weights).astype(dtype)
        for first in range(0, len(self.x), rows):
            x, y = self.x[first : first + rows], self.y[first : first + rows]
            numbers = block[: len(x) * n_out * width]
            own = None if roots is None else roots[first : first + rows]
            self.executor.context.jacobian(x, y, numbers, part, scratch, self.threads, own)
            if part is not gram:
                for some in row_blocks(width):
                    gram[some] += part[some]
                    part[some] = 0
        return gram[:-1, :-1], gram[:-1, -1].copy()


def jacobian_scratch(executor: Executor, threads: int) -> Array:
    """Return scratch memory for the Jacobian of one row on every thread."""
    program = executor.program
    return aligned_empty(threads * (program.acts_width + program.dacts_width), executor.dtype)
