"""BFGS, L-BFGS and Levenberg-Marquardt: methods that see all rows in every step, for small and
convex problems.

    net.fit(X, y, optimizer=LBFGS(), epochs=100)

They are written here rather than taken from SciPy: the package needs NumPy alone; SciPy's L-BFGS-B
copies parameters and gradients in and out of its workspace at every evaluation and keeps its memory
to itself, so that an iteration cannot be an epoch with callbacks and Ctrl-C in between; and its dot
products go through a BLAS, whose bits depend on its threads. Here vectors are float64, each sum has
a fixed order, and losses, gradients, Jacobians, normal equations and their Cholesky factor come
from the C kernels: with the same build, the same bits for any number of threads.
"""

import math
from collections import deque
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _core
from .layers import Dropout
from .layout import leaves_of
from .line_search import strong_wolfe
from .losses import Loss, SquaredError
from .norms import BatchNorm
from .numeric import check_count, check_number
from .objective import MOST_SQUARED, Objective, Point, Vector, dot, row_blocks
from .settings import Settings

if TYPE_CHECKING:
    from .network import Sequential

Matrix = NDArray[np.float64]


class Stepper(Protocol):
    """A method at work on one objective."""

    def promise(self, start: Point) -> float:
        """By how much slope and curvature say that a step would lower the objective."""

    def step(self, start: Point) -> Point | None:
        """The next point, of a lower value; None where the method finds none."""


# ---- settings ------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class FullBatchMethod(Settings):
    """Base of the methods that see all rows in every step. An epoch of `fit` is one step.

    l2: the penalty l2 / 2 sum(w^2) over all weights, not biases, joins the loss, as in the
        first-order optimizers; the reported loss stays that of the data.
    tolerance: training ends where slope and curvature promise that a step would lower the loss by
        no more than tolerance^2 of it (of 1 a row at least, for log-likelihoods), so that units of
        X and y do not matter: parameters are then as near their best as tolerance times what they
        may move until the loss is twice as large. 0: only where no step is found.

    `fit` takes one by object or by name ("bfgs", "lbfgs", "levenberg_marquardt"). What is learnt of
    the curvature lasts for one call of fit. The moments of an optimizer used before are given up.
    Weights are accepted only with a finite loss, and one not above that before. Raises ValueError
    for a value outside its range.
    """

    needs_matrix: ClassVar[bool] = True
    l2: float = 0.0
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            check = check_count if field.name == "memory" else check_number
            object.__setattr__(self, field.name, check(value, field.name))  # frozen for users

    def check(self, net: "Sequential", loss: Loss, weighted: bool) -> None:
        """ValueError where it cannot train this network with this loss, or with weights of rows."""
        leaves = leaves_of(net.layers)
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
        if self.needs_matrix and net.n_params > MOST_SQUARED:
            raise ValueError(
                f"{type(self).__name__} works with a matrix of {net.n_params:,} x "
                f"{net.n_params:,} numbers; use LBFGS() above {MOST_SQUARED:,} parameters"
            )

    def begin(self, objective: Objective) -> Stepper:
        """A new run of the method."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class BFGS(FullBatchMethod):
    """Broyden, Fletcher, Goldfarb, Shanno (Nocedal, Wright 2006, algorithm 6.1) with a strong Wolfe
    line search. The lecture, "Newton/Hessian algorithm".

    Keeps an estimate of the inverse Hessian, (n_params, n_params) in float64: at most 10,000
    parameters.
    """

    name: ClassVar[str] = "bfgs"

    def begin(self, objective: Objective) -> Stepper:
        """A new run, with the identity for the inverse Hessian."""
        return QuasiNewton(objective, InverseHessian(objective.n_params))


@dataclass(frozen=True, repr=False)
class LBFGS(FullBatchMethod):
    """Limited-memory BFGS: the inverse Hessian from the last `memory` steps by the two-loop
    recursion (Liu, Nocedal 1989; Nocedal, Wright 2006, algorithm 7.5), with a strong Wolfe line
    search. The lecture, "Newton/Hessian algorithm".

    Needs 2 memory vectors of n_params float64. In float32 the loss is known to seven digits, where
    the line search ends: use dtype="float64" for more.
    """

    name: ClassVar[str] = "lbfgs"
    needs_matrix: ClassVar[bool] = False
    memory: int = 10

    def begin(self, objective: Objective) -> Stepper:
        """A new run, with an empty memory."""
        return QuasiNewton(objective, Memory(self.memory))


@dataclass(frozen=True, repr=False)
class LevenbergMarquardt(FullBatchMethod):
    """Levenberg-Marquardt for squared_error: damped Gauss-Newton steps from the Jacobian of every
    row (Levenberg 1944, Marquardt 1963).

    With J = dz / dparams (rows n_out, n_params), r = z - y, H = 2 / (rows n_out) J^T J + l2:
    (H + damping D) step = -gradient, rows of J and r times the roots of sample weights. The damping
    is multiplied by 3 until the loss falls; after a step that lowers it by more than 3/4 of what H
    and the gradient promise it is divided by 10, by less than 1/4 multiplied by 3: a trust region
    (Nocedal, Wright 2006, algorithm 4.1). D is diagonal, max(H_ii u_i^2) / u_j^2: the units u
    are 1, but in a last Linear, where it is larger, the spread of y for weights and its size for
    biases, so that large targets do as well as standardised ones. With a share of diag(H) for each
    parameter, as Marquardt has it, those of little influence run away.
    damping: the first one.

    J and its products come in blocks of rows and in the network's type; the blocks are summed and
    the equations solved in float64: 16 n_params^2 bytes, at most 10,000 parameters, and about
    rows n_out n_params^2 / 2 multiply-adds a step.
    """

    name: ClassVar[str] = "levenberg_marquardt"
    damping: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.damping == 0:
            raise ValueError("damping must be above 0, 1e-3 for instance")

    def check(self, net: "Sequential", loss: Loss, weighted: bool) -> None:
        """See FullBatchMethod.check."""
        if not isinstance(loss, SquaredError) or loss.reduction != "mean":
            raise ValueError(
                f"LevenbergMarquardt is for the mean squared error, not {loss!r}; use LBFGS()"
            )
        super().check(net, loss, weighted)

    def begin(self, objective: Objective) -> Stepper:
        """A new run."""
        return DampedGaussNewton(objective, self.damping)


METHODS: dict[str, type[FullBatchMethod]] = {c.name: c for c in (BFGS, LBFGS, LevenbergMarquardt)}


# ---- quasi-Newton --------------------------------------------------------------------------------


class Curvature(Protocol):
    """An estimate of the inverse Hessian."""

    def times(self, gradient: Vector) -> Vector:
        """The estimate times a vector."""

    def learn(self, s: Vector, y: Vector) -> None:
        """A step s changed the gradient by y, and s^T y > 0."""

    def forget(self) -> None:
        """Back to a multiple of the identity."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been learnt."""


class Memory:
    """The last steps, and the inverse Hessian that they imply (Nocedal, Wright 2006, algorithm
    7.4).
    """

    def __init__(self, size: int) -> None:
        self._pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=size)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been learnt."""
        return not self._pairs

    def forget(self) -> None:
        """Back to the identity."""
        self._pairs.clear()

    def learn(self, s: Vector, y: Vector) -> None:
        """Keep a step and the change of the gradient; the oldest goes."""
        self._pairs.append((s, y, 1 / dot(s, y)))

    def times(self, gradient: Vector) -> Vector:
        """The two-loop recursion, from s^T y / y^T y of the last step times the identity."""
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
        """Whether nothing has been learnt."""
        return self._matrix is None

    def forget(self) -> None:
        """Back to the identity."""
        self._matrix = None

    def learn(self, s: Vector, y: Vector) -> None:
        """H += s w^T + w s^T, w = (1 + y^T H y / s^T y) / (2 s^T y) s - H y / s^T y; H begins as
        s^T y / y^T y times the identity.
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
        """The matrix times a vector: einsum, since a BLAS sums in an order of its own."""
        if self._matrix is None:
            return gradient.copy()
        product = np.empty(self._n)
        for part in row_blocks(self._n):
            np.einsum("ij,j->i", self._matrix[part], gradient, out=product[part])
        return product


class Function(Protocol):
    """What quasi-Newton methods ask of an objective."""

    @property
    def eps(self) -> float:
        """The unit of rounding of its gradient."""

    def at(self, params: Vector) -> Point:
        """Value and gradient."""


class QuasiNewton:
    """Steps along minus the estimated inverse Hessian times the gradient."""

    def __init__(self, objective: Function, curvature: Curvature) -> None:
        self._objective, self._curvature = objective, curvature

    def promise(self, start: Point) -> float:
        """Half of gradient times direction; without a curvature yet, that along the gradient."""
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
        """One line search; a second one along the gradient where the first finds nothing."""
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
        if self._curvature.is_empty:  # of no known scale: a step of length 1 at most
            first = min(1.0, 1 / math.sqrt(dot(direction, direction)))
        return strong_wolfe(self._objective.at, start, direction, first)


# ---- Levenberg-Marquardt -------------------------------------------------------------------------

RAISED = 3.0  # the damping where a step disappoints
LOWERED = 0.1  # where it keeps what it promised
DISAPPOINTS, KEEPS = 0.25, 0.75  # shares of the promise
LEAST_DAMPING = 1e-20


class DampedGaussNewton:
    """Levenberg-Marquardt: what it keeps from step to step is the damping."""

    def __init__(self, objective: Objective, damping: float) -> None:
        self._objective, self._damping = objective, damping
        self._ready: tuple[Point, Equations] | None = None

    def promise(self, start: Point) -> float:
        """The largest that one parameter alone promises: MINPACK's cosine between r and a column
        of J, squared, times the loss.
        """
        return self._equations(start).promise()

    def step(self, start: Point) -> Point | None:
        """More damping until the loss falls; what the next step begins with follows from how much
        of the promised fall came true.
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
        """Those at `start`, made once."""
        if self._ready is None or self._ready[0] is not start:
            self._objective.put(start.params)
            self._ready = start, Equations(self._objective, start)
        return self._ready[1]


@dataclass(frozen=True, eq=False)
class Damped:
    """The parameters after a step, the objective there, and its fall as the equations promise."""

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
        """How far the best of steps along one parameter would lower the objective."""
        used = self._diagonal > 0
        return float(np.max(self._gradient[used] ** 2 / self._diagonal[used], initial=0.0)) / 2

    def solve(self, damping: float) -> Damped:
        """What a step leads to; infinity where there is none."""
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
