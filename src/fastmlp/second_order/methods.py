"""BFGS, L-BFGS and Levenberg-Marquardt: full-batch methods for small and convex problems.

    net.fit(X, y, optimizer=LBFGS(), epochs=100)

Each step uses all rows. The methods are written here instead of taken from SciPy for these reasons:

- The package needs NumPy alone.
- SciPy's L-BFGS-B copies parameters and gradients in and out of its workspace at every evaluation.
- It hides its memory of steps. So one of its iterations cannot be an epoch with callbacks and
  Ctrl-C in between.
- Its dot products go through a BLAS, whose bits depend on its threads.

Here vectors are float64 and each sum has a fixed order. Losses, gradients, Jacobians, normal
equations and their Cholesky factor come from the C kernels. So one build gives the same bits for
any number of threads.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from .. import _core
from ..engine.plan import leaves_of
from ..ground.arrays import Matrix, Vector
from ..ground.checks import check_fields, count, number
from ..ground.frozen import Settings
from ..layers import Dropout, Layer
from ..layers.normalization import BatchNorm
from ..losses import Loss, SquaredError
from .line_search import strong_wolfe
from .objective import MOST_SQUARED, Objective, Point, dot, row_blocks


class Stepper(Protocol):
    """A full-batch method applied to one objective."""

    def promise(self, start: Point) -> float:
        """Return the decrease of the objective that slope and curvature predict for a step."""

    def step(self, start: Point) -> Point | None:
        """Return the next point, of a lower value, or None if the method finds none."""


# ---- settings ------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class FullBatchMethod(Settings):
    """Base of the full-batch methods, whose steps use all rows; an epoch of `fit` is one step.

    l2: the penalty l2 / 2 sum(w^2), at least 0, over all weights but not the biases. It is added to
        the loss, as in the first-order optimizers; the reported loss is that of the data alone.
    tolerance: training ends when slope and curvature promise that a step lowers the loss by at most
        tolerance^2 times the loss. So the units of X and y do not matter. For log-likelihoods the
        loss counts as at least 1 per row. The distance of the parameters from their best is then
        about tolerance times the distance that would double the loss. With 0, training ends only
        when no step is found.

    `fit` takes an object or a name ("bfgs", "lbfgs", "levenberg_marquardt"). The estimate of the
    curvature lasts for one call of `fit`. The moments of an earlier optimizer are dropped. New
    parameters are accepted only if the loss is finite and not above the one before.

    Raises ValueError for a value outside its range. `fit` raises it for networks with BatchNorm or
    Dropout, and for more parameters than the method takes.
    """

    needs_matrix: ClassVar[bool] = True
    l2: float = number(0.0)
    tolerance: float = number(1e-8)

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self, layers: Sequence[Layer], n_params: int, loss: Loss) -> None:
        """Raise ValueError if the method cannot train this network with this loss.

        layers: the layers of the network.
        n_params: the number of its parameters.
        loss: the loss.
        """
        leaves = leaves_of(layers)
        if any(isinstance(leaf, BatchNorm) for leaf in leaves):
            raise ValueError(
                f"{type(self).__name__} cannot train BatchNorm, whose statistics come from "
                "mini-batches; use LayerNorm, or Standardize() before the first layer"
            )
        if any(isinstance(leaf, Dropout) and leaf.p > 0 for leaf in leaves):
            raise ValueError(
                f"{type(self).__name__} needs a loss that is the same in every evaluation; "
                "leave Dropout out, or use l2"
            )
        if self.needs_matrix and n_params > MOST_SQUARED:
            raise ValueError(
                f"{type(self).__name__} works with a matrix of {n_params:,} x "
                f"{n_params:,} numbers; use LBFGS() above {MOST_SQUARED:,} parameters"
            )

    def begin(self, objective: Objective) -> Stepper:
        """Start a new run of the method on an objective."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class BFGS(FullBatchMethod):
    """BFGS (Broyden, Fletcher, Goldfarb, Shanno) with a strong Wolfe line search.

    Nocedal, Wright 2006, algorithm 6.1; the lecture, "Newton/Hessian algorithm". It stores an
    estimate of the inverse Hessian, (n_params, n_params) in float64, so it takes at most 10,000
    parameters.

    l2: the penalty l2 / 2 sum(w^2) over the weights, at least 0.
    tolerance: training ends when a step promises to lower the loss by at most tolerance^2 times the
        loss; details in `FullBatchMethod`.

    Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "bfgs"

    def begin(self, objective: Objective) -> Stepper:
        """Start a new run, with the identity as the inverse Hessian."""
        return QuasiNewton(objective, InverseHessian(objective.n_params))


@dataclass(frozen=True, repr=False)
class LBFGS(FullBatchMethod):
    """Limited-memory BFGS with a strong Wolfe line search.

    The inverse Hessian comes from the last steps by the two-loop recursion (Liu, Nocedal 1989;
    Nocedal, Wright 2006, algorithm 7.5; the lecture, "Newton/Hessian algorithm"). In float32 the
    loss has seven digits, so the line search can go no further; use dtype="float64" for more.

    l2: the penalty l2 / 2 sum(w^2) over the weights, at least 0.
    tolerance: training ends when a step promises to lower the loss by at most tolerance^2 times the
        loss; details in `FullBatchMethod`.
    memory: the number of steps kept, at least 1. They take 2 memory vectors of n_params float64.

    Raises ValueError for a value outside its range.
    """

    name: ClassVar[str] = "lbfgs"
    needs_matrix: ClassVar[bool] = False
    memory: int = count(10)

    def begin(self, objective: Objective) -> Stepper:
        """Start a new run, with an empty memory."""
        return QuasiNewton(objective, Memory(self.memory))


@dataclass(frozen=True, repr=False)
class LevenbergMarquardt(FullBatchMethod):
    """Levenberg-Marquardt for squared_error: damped Gauss-Newton steps.

        (H + damping D) step = -gradient,    H = 2 / (rows n_out) J^T J + l2

    with J = dz / dparams, (rows n_out, n_params), and r = z - y. Rows of J and r are multiplied by
    the square roots of the sample weights.

    The damping is multiplied by 3 until the loss falls. If a step lowers the loss by more than 3/4
    of the decrease that H and the gradient promise, the damping is divided by 10. If a step lowers
    it by less than 1/4 of that, the damping is multiplied by 3. This is a trust region (Nocedal,
    Wright 2006, algorithm 4.1). D is diagonal, max(H_ii u_i^2) / u_j^2. The units u are 1, except
    in a last Linear behind other layers if the targets are large: there u is the spread of y for
    weights and the size of y for biases, so that large targets are learned as well as standardized
    ones. If D were a share of each element of diag(H), as in Marquardt's paper, parameters of
    little influence would run away.

    J and its products are computed in blocks of rows, in the network's type. The blocks are summed
    and the equations solved in float64. This takes 16 n_params^2 bytes, so at most 10,000
    parameters, and about rows n_out n_params^2 / 2 multiply-adds per step.

    l2: the penalty l2 / 2 sum(w^2) over the weights, at least 0.
    tolerance: training ends when a step promises to lower the loss by at most tolerance^2 times the
        loss; details in `FullBatchMethod`.
    damping: the first damping, above 0.

    Raises ValueError for a value outside its range, and in `fit` for another loss than the mean
    squared error.
    """

    name: ClassVar[str] = "levenberg_marquardt"
    damping: float = number(1e-3, positive=True, advice=", 1e-3 for instance")

    def check(self, layers: Sequence[Layer], n_params: int, loss: Loss) -> None:
        """See FullBatchMethod.check."""
        if not isinstance(loss, SquaredError) or loss.reduction != "mean":
            raise ValueError(
                f"LevenbergMarquardt is for the mean squared error, not {loss!r}; use LBFGS()"
            )
        super().check(layers, n_params, loss)

    def begin(self, objective: Objective) -> Stepper:
        """Start a new run, with the first damping."""
        return DampedGaussNewton(objective, self.damping)


METHODS: dict[str, type[FullBatchMethod]] = {c.name: c for c in (BFGS, LBFGS, LevenbergMarquardt)}


# ---- quasi-Newton --------------------------------------------------------------------------------


class Curvature(Protocol):
    """An estimate of the inverse Hessian."""

    def times(self, gradient: Vector) -> Vector:
        """Return the estimate times a vector."""

    def learn(self, s: Vector, y: Vector) -> None:
        """Take in that a step s changed the gradient by y; s^T y > 0 is required."""

    def forget(self) -> None:
        """Return to a multiple of the identity."""

    @property
    def is_empty(self) -> bool:
        """Whether no step has been learned yet."""


class Memory:
    """The last steps of L-BFGS; they imply an inverse Hessian (Nocedal, Wright 2006, alg. 7.4)."""

    def __init__(self, size: int) -> None:
        self._pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=size)

    @property
    def is_empty(self) -> bool:
        """Whether no step has been learned yet."""
        return not self._pairs

    def forget(self) -> None:
        """Return to the identity."""
        self._pairs.clear()

    def learn(self, s: Vector, y: Vector) -> None:
        """Add a step and the change of the gradient, and drop the oldest if the memory is full."""
        self._pairs.append((s, y, 1 / dot(s, y)))

    def times(self, gradient: Vector) -> Vector:
        """Run the two-loop recursion.

        It begins with the identity times s^T y / y^T y of the last step.
        """
        q, shares = gradient.copy(), []
        for s, y, rho in reversed(self._pairs):
            share = rho * dot(s, q)
            shares.append(share)
            q -= share * y
        if self._pairs:
            _, y, rho = self._pairs[-1]
            q *= 1 / (rho * dot(y, y))
        for (s, y, rho), share in zip(self._pairs, reversed(shares), strict=True):
            q += (share - rho * dot(y, q)) * s
        return q


class InverseHessian:
    """The BFGS estimate as a matrix (Nocedal, Wright 2006, equation 6.17)."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._matrix: Matrix | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no step has been learned yet."""
        return self._matrix is None

    def forget(self) -> None:
        """Return to the identity."""
        self._matrix = None

    def learn(self, s: Vector, y: Vector) -> None:
        """Add s w^T + w s^T to H, w = (1 + y^T H y / s^T y) / (2 s^T y) s - H y / s^T y.

        H begins as s^T y / y^T y times the identity.
        """
        sy = dot(s, y)
        if self._matrix is None:
            self._matrix = np.empty((self._n, self._n))
            for part in row_blocks(self._n):
                self._matrix[part] = 0
            np.fill_diagonal(self._matrix, sy / dot(y, y))
        hy = self.times(y)
        w = (1 + dot(y, hy) / sy) / (2 * sy) * s - hy / sy
        for part in row_blocks(self._n):
            self._matrix[part] += np.multiply.outer(s[part], w)
            self._matrix[part] += np.multiply.outer(w[part], s)

    def times(self, gradient: Vector) -> Vector:
        """Return the matrix times a vector; einsum, unlike a BLAS, has a fixed order of sums."""
        if self._matrix is None:
            return gradient.copy()
        product = np.empty(self._n)
        for part in row_blocks(self._n):
            np.einsum("ij,j->i", self._matrix[part], gradient, out=product[part])
        return product


class Function(Protocol):
    """The part of an objective that quasi-Newton methods use."""

    @property
    def eps(self) -> float:
        """The unit of rounding of the gradient."""

    def at(self, params: Vector) -> Point:
        """Return value and gradient at `params`."""


class QuasiNewton:
    """Steps along minus the estimated inverse Hessian times the gradient."""

    def __init__(self, objective: Function, curvature: Curvature) -> None:
        self._objective, self._curvature = objective, curvature

    def promise(self, start: Point) -> float:
        """Return half of gradient times direction.

        If no step has been learned, a difference of two gradients gives the curvature.
        """
        if not self._curvature.is_empty:
            return dot(start.grad, self._curvature.times(start.grad)) / 2
        square = dot(start.grad, start.grad)
        if square == 0:
            return 0.0
        size = math.sqrt(dot(start.params, start.params))
        step = self._objective.eps ** (1 / 3) * max(1.0, size) / math.sqrt(square)
        near = self._objective.at(start.params - step * start.grad)
        bend = dot(start.grad - near.grad, start.grad) / step
        return square**2 / (2 * bend) if bend > 0 else math.inf

    def step(self, start: Point) -> Point | None:
        """Run one line search; if it finds no point, run another along the gradient."""
        found = self._search(start)
        if found is None and not self._curvature.is_empty:
            self._curvature.forget()
            found = self._search(start)
        if found is not None:
            s, y = found.params - start.params, found.grad - start.grad
            if dot(s, y) > np.finfo(np.float64).eps * dot(y, y):
                self._curvature.learn(s, y)
        return found

    def _search(self, start: Point) -> Point | None:
        direction = -self._curvature.times(start.grad)
        if not dot(start.grad, direction) < 0:
            return None
        first = 1.0
        if self._curvature.is_empty:  # the scale is unknown, so the first step has at most length 1
            first = min(1.0, 1 / math.sqrt(dot(direction, direction)))
        return strong_wolfe(self._objective.at, start, direction, first)


# ---- Levenberg-Marquardt -------------------------------------------------------------------------

RAISED = 3.0  # factor of the damping after a step below DISAPPOINTS
LOWERED = 0.1  # factor of the damping after a step above KEEPS
DISAPPOINTS, KEEPS = 0.25, 0.75  # shares of the promised decrease
LEAST_DAMPING = 1e-20


class DampedGaussNewton:
    """Levenberg-Marquardt on one objective; only the damping lasts from step to step."""

    def __init__(self, objective: Objective, damping: float) -> None:
        self._objective, self._damping = objective, damping
        self._ready: tuple[Point, Equations] | None = None

    def promise(self, start: Point) -> float:
        """Return the largest decrease that a step along one parameter promises.

        It is the square of MINPACK's cosine between r and a column of J, times the loss.
        """
        return self._equations(start).promise()

    def step(self, start: Point) -> Point | None:
        """Raise the damping until the loss falls, then choose the damping of the next step.

        The choice depends on the share of the promised decrease that was reached.
        """
        equations, damping = self._equations(start), self._damping
        self._ready = None
        while True:
            trial = equations.solve(damping)
            if trial.value < start.value:
                break
            damping *= RAISED
            if np.array_equal(trial.params, start.params) or not math.isfinite(damping):
                return None
        found = self._objective.at(trial.params)
        if not (math.isfinite(found.value) and found.value < start.value):
            return None
        kept = start.value - trial.value
        if kept > KEEPS * trial.promise:
            damping = max(LOWERED * damping, LEAST_DAMPING)
        elif kept < DISAPPOINTS * trial.promise:
            damping *= RAISED
        self._damping = damping
        return found

    def _equations(self, start: Point) -> "Equations":
        """Return the equations at `start`, computed once."""
        if self._ready is None or self._ready[0] is not start:
            self._objective.put(start.params)
            self._ready = start, Equations(self._objective, start)
        return self._ready[1]


@dataclass(frozen=True, eq=False)
class Damped:
    """The parameters after a damped step, the objective there, and the promised decrease."""

    params: Vector
    value: float
    promise: float


class Equations:
    """(H + damping D) step = -gradient, with H = 2 / (rows n_out) J^T J + l2 and D as in
    `LevenbergMarquardt`.
    """

    def __init__(self, objective: Objective, start: Point) -> None:
        self._objective, self._start = objective, start.params
        scale = 2 / objective.y.size
        self._minus, gradient = objective.normal_equations()
        for part in row_blocks(len(gradient)):
            self._minus[part] *= -scale  # _core.cholesky_solve takes minus the matrix
        gradient *= scale
        weights = slice(objective.n_weights)
        gradient[weights] += objective.l2 * start.params[weights]
        self._gradient = gradient
        self._diagonal = -self._minus.diagonal()
        self._diagonal[weights] += objective.l2
        self._damped = float(np.max(self._diagonal * objective.units**2)) / objective.units**2
        self._work = np.empty_like(self._minus)

    def promise(self) -> float:
        """Return the decrease that the best step along one parameter promises."""
        used = self._diagonal > 0
        return float(np.max(self._gradient[used] ** 2 / self._diagonal[used], initial=0.0)) / 2

    def solve(self, damping: float) -> Damped:
        """Return the result of a step; its value is infinite if the equations have no solution."""
        objective, step = self._objective, -self._gradient
        for part in row_blocks(len(step)):
            self._work[part] = self._minus[part]
        np.fill_diagonal(self._work, -(self._diagonal + damping * self._damped))
        if not _core.cholesky_solve(self._work, step):
            return Damped(np.full_like(step, np.inf), math.inf, math.inf)
        loss = objective.loss_at(self._start + step)
        params = objective.params()
        value = loss + objective.penalty(params)
        promise = (damping * dot(self._damped * step, step) - dot(self._gradient, step)) / 2
        return Damped(params, value if math.isfinite(value) else math.inf, promise)
