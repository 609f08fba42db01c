"""Gradient, Jacobian and Hessian of a network, and the check of its gradient against differences.

Differences are computed in a float64 copy of the network. So they are as exact for a float32
network, and the network itself does not change.
"""

from __future__ import annotations  # signatures that can be read

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..engine.executor import Executor
from ..engine.plan import aligned_zeros, plan
from ..ground.arrays import Array, Vector
from ..ground.checks import check_number
from ..ground.conversion import as_finite, as_numbers, as_weights
from ..ground.runtime import resolve_threads
from ..losses import Loss, LossFunction, get_loss
from ..network.network import Network
from ..second_order.objective import BLOCK_NUMBERS, MOST_SQUARED, Objective, jacobian_scratch
from .difference_steps import step_along, warn_of_kinks

_ROUNDINGS = 8  # units of rounding of the loss that a difference may contain


class Data(NamedTuple):
    """What a derivative is taken of; see the methods of Sequential."""

    X: ArrayLike
    y: ArrayLike
    loss: str | Loss | LossFunction | None
    sample_weight: ArrayLike | None
    threads: int | None


def _executor(net: Network, X: ArrayLike) -> Executor:
    """Return the executor of the network; X fixes an input width that is still open."""
    net._see(X)
    return net._engine


def gradient(net: Network, data: Data) -> tuple[float, Array]:
    """See Sequential.gradient."""
    with _executor(net, data.X).turns.changing:
        objective = _objective(net, data, net._engine)
        point = objective.at(objective.params())
    return point.loss, point.grad.astype(net.dtype)


def jacobian(net: Network, X: ArrayLike, threads: int | None) -> Array:
    """See Sequential.jacobian."""
    executor, n_threads = _executor(net, X), resolve_threads(threads)
    x = as_finite(X, net.dtype, net.n_in)
    out = np.empty((len(x), net.n_out, net.n_params), net.dtype)
    size = net.n_out * net.n_params
    rows = max(1, min(len(x), BLOCK_NUMBERS // max(1, size)))
    with executor.turns.changing:
        scratch = jacobian_scratch(executor, n_threads)
        for first in range(0, len(x), rows):  # Ctrl-C comes between
            part = slice(first, first + rows)
            executor.context.jacobian(x[part], None, out[part], None, scratch, n_threads)
    return out


def hessian_vector(net: Network, data: Data, v: ArrayLike, step: float | None) -> Vector:
    """See Sequential.hessian_vector."""
    objective = _exact_objective(net, data)
    direction = np.asarray(as_numbers(v, "v", "values"), np.float64)
    if direction.shape != (net.n_params,) or not np.isfinite(direction).all():
        raise ValueError(
            f"v must hold {net.n_params} finite numbers, one for each parameter; its shape is "
            f"{direction.shape}"
        )
    step = None if step is None else check_number(step, "step", positive=True)
    params = objective.params()
    warn_of_kinks(objective, params)
    return _along(objective, params, direction, step)


def hessian(net: Network, data: Data, step: float | None) -> NDArray[np.float64]:
    """See Sequential.hessian."""
    objective = _exact_objective(net, data)
    n = net.n_params
    if n > MOST_SQUARED:
        raise ValueError(
            f"the Hessian of {n:,} parameters has {n:,} x {n:,} numbers; use hessian_vector"
        )
    step = None if step is None else check_number(step, "step", positive=True)
    params = objective.params()
    warn_of_kinks(objective, params)
    columns = np.empty((n, n))
    unit = np.zeros(n)
    for i in range(n):
        unit[i] = 1
        columns[i] = _along(objective, params, unit, step)
        unit[i] = 0
    return np.asarray((columns + columns.T) / 2)


def _along(objective: Objective, params: Vector, v: Vector, step: float | None) -> Vector:
    """Return the fourth-order central difference of the gradient along v."""
    size = float(np.abs(v).max(initial=0.0))
    if size == 0:
        return np.zeros_like(v)
    v = v / size  # not step / size, which may overflow
    if step is None:
        step = step_along(objective, params, v)
    h = step * v
    near, far = (
        objective.at(params + t * h).grad - objective.at(params - t * h).grad for t in (1, 2)
    )
    return np.asarray((8 * near - far) / (12 * step) * size)


def _objective(net: Network, data: Data, executor: Executor) -> Objective:
    """Return the objective of the checked arrays, in the executor's type."""
    chosen = get_loss(net._choose_loss(data.loss, data.y))
    n_threads = resolve_threads(data.threads)
    x = as_finite(data.X, executor.dtype, net.n_in)
    target = chosen.as_target(data.y, len(x), net.n_out, executor.dtype)
    weights = as_weights(data.sample_weight, len(x))
    return Objective(executor, x, target, chosen, n_threads, weights=weights)


def _exact_objective(net: Network, data: Data) -> Objective:
    """Return the objective in a float64 copy of the network; each activation is its own op."""
    dtype = np.dtype(np.float64)
    with _executor(net, data.X).turns.reading:
        layout = plan(net.layers, net.n_in, dtype, fuse=False)  # for step_along
        params, grads = (aligned_zeros(net.n_params, dtype) for _ in range(2))
        stats = aligned_zeros(layout.n_stats, dtype)
        params[:], stats[:] = net.params, net.stats
    executor = Executor(layout, params, grads, dtype, net.seed, stats)
    return _objective(net, data, executor)


# ---- check ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientCheck:
    """The check of one parameter array: its gradient a against central differences b of the loss.

    name: the path of the array, for instance "layers.0.weight".
    shape: the shape of the array.
    difference: max |a - b|.
    relative: ||a - b|| / (||a|| + ||b||); 0 if both are 0.
    tolerance: the largest `relative` that is accepted.
    noise: the largest `difference` that rounding alone may explain.
    """

    name: str
    shape: tuple[int, ...]
    difference: float
    relative: float
    tolerance: float
    noise: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether relative <= tolerance or difference <= noise."""
        return self.relative <= self.tolerance or self.difference <= self.noise


def check_gradients(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | Loss | LossFunction | None = None,
    sample_weight: ArrayLike | None = None,
    threads: int | None = None,
    verbose: bool = True,
) -> list[GradientCheck]:
    """Compare the gradient of the mean loss with central differences of the loss.

        for line in check_gradients(net, X[:8], y[:8]): assert line.ok

    The gradient is in the network's type; the differences are computed in a float64 copy. The
    network runs as at inference: without dropout, with BatchNorm's running statistics.

    net: the network. It costs about ten passes per parameter, so use a small one.
    X: the inputs, (rows, n_in); a few rows are enough.
    y: the targets, as in `fit`.
    loss: the loss, as in `fit`.
    sample_weight: (rows,), as in `fit`.
    threads: the number of threads, as in `fit`.
    verbose: whether to print a table.

    Returns one `GradientCheck` per parameter array, the lines of the table.

    The differences are of fourth order, with the steps of `hessian_vector`. The tolerance on the
    relative difference is the square root of the network's eps: 1.5e-8 in float64, 3.5e-4 in
    float32. Differences up to 8 |loss| (eps64 / step + eps) count as rounding.

    The check may fail for a row that brings an activation to its kink (ReLU); a warning then names
    the row. It may also fail for a float32 network on inputs of 1e4 and more, because its outputs
    have errors of that scale; then scale the inputs.

    Raises ValueError and TypeError for invalid input.
    """
    data = Data(X, y, loss, sample_weight, threads)
    value, gradients = gradient(net, data)
    analytic = gradients.astype(np.float64)
    objective = _exact_objective(net, data)
    params = objective.params()
    numeric, steps = _differences(objective, params)
    eps, exact = (float(np.finfo(dtype).eps) for dtype in (net.dtype, np.float64))
    tolerance, lines = math.sqrt(eps), []
    for name, shape, place in parameter_places(net):
        a, b = analytic[place], numeric[place]
        size = float(np.linalg.norm(a) + np.linalg.norm(b))
        relative = float(np.linalg.norm(a - b)) / size if size else 0.0
        difference = float(np.abs(a - b).max(initial=0.0))
        noise = _ROUNDINGS * abs(value) * (exact / float(steps[place].min(initial=1.0)) + eps)
        lines.append(GradientCheck(name, shape, difference, relative, tolerance, noise))
    if verbose:
        print(format_checks(lines))
    if not all(line.ok for line in lines):
        warn_of_kinks(objective, params)
    return lines


def _differences(objective: Objective, params: Vector) -> tuple[Vector, Vector]:
    """Return fourth-order central differences of the loss by each parameter, and their steps."""
    slopes, steps, unit = np.empty_like(params), np.empty_like(params), np.zeros_like(params)
    for i in range(len(params)):
        unit[i] = 1
        h = steps[i] = step_along(objective, params, unit)
        near, far = (
            objective.loss_at(params + t * h * unit) - objective.loss_at(params - t * h * unit)
            for t in (1, 2)
        )
        width = (params[i] + h) - (params[i] - h)
        slopes[i] = (8 * near - far) / (6 * width)
        unit[i] = 0
    return slopes, steps


def parameter_places(net: Network) -> Iterator[tuple[str, tuple[int, ...], slice]]:
    """Yield name, shape and slice of the flat parameters for every trained array."""
    for index, layer in enumerate(net.layers):
        for path, leaf in layer.named_leaves(f"layers.{index}"):
            for name, array in leaf.arrays().items():
                if np.may_share_memory(array, net.params):  # statistics are elsewhere
                    bytes_before = array.ctypes.data - net.params.ctypes.data
                    first = bytes_before // net.dtype.itemsize
                    yield f"{path}.{name}", array.shape, slice(first, first + array.size)


def format_checks(lines: list[GradientCheck]) -> str:
    """Return the table that `check_gradients` prints."""
    width = max(20, *(len(line.name) for line in lines))
    head = f"{'parameters':{width}} {'shape':>12} {'max |a - b|':>12} {'relative':>10}  verdict"
    shown = [
        f"{line.name:{width}} {' x '.join(map(str, line.shape)):>12} {line.difference:12.2e} "
        f"{line.relative:10.1e}  {'ok' if line.ok else f'differs (above {line.tolerance:.1e})'}"
        for line in lines
    ]
    return "\n".join([head, *shown])
