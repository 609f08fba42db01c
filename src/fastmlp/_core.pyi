from contextlib import AbstractContextManager
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from .losses import Loss
from .network.network import Network
from .optimizers import Optimizer

OPS: Final[dict[str, int]]
OP_FACTS: Final[list[dict[str, Any]]]
ACTIVATIONS: Final[dict[str, dict[str, Any]]]
LOSSES: Final[dict[str, dict[str, Any]]]
FUNCTIONS: Final[dict[str, dict[str, Any]]]
OPTIMIZERS: Final[dict[str, dict[str, Any]]]
LACKS_SCALE: Final[int]
LACKS_SHIFT: Final[int]
MOST_THREADS: Final[int]
OP_DTYPE: Final[np.dtype[np.void]]
STACK_BYTES: Final[int]

def build_info() -> dict[str, Any]: ...
def fixed_block() -> int: ...
def check_stack() -> int: ...
def has_small_helpers() -> bool: ...
def affinity() -> int: ...
def threads_within(most: int) -> int: ...
def op_sizes(dtype: np.dtype[Any], op: Any) -> tuple[int, int, int, int]: ...

@disjoint_base
class Pace: ...

@disjoint_base
class OptimizerSettings:
    def __new__(cls, *, lr: float, **settings: Any) -> Self: ...

@disjoint_base
class LossSettings:
    def __new__(
        cls,
        *,
        quantiles: Any = (),
        positives: Any = (),
        negatives: Any = (),
        ignore_index: int | None = None,
        **numbers: float,
    ) -> Self: ...

def target_columns(loss: int, settings: LossSettings, n_out: int) -> int: ...
def loss_and_grad(
    loss: int,
    z: NDArray[Any],
    target: NDArray[Any],
    dz: NDArray[Any] | None,
    settings: LossSettings = ...,
    weights: NDArray[np.float64] | None = None,
    row_loss: NDArray[np.float64] | None = None,
) -> float: ...
def elementwise(function: int, x: NDArray[Any], y: NDArray[Any]) -> None: ...
def cholesky_solve(minus_a: NDArray[np.float64], x: NDArray[np.float64]) -> bool: ...
def lasso_sweeps(
    w: NDArray[np.float64],
    slope: NDArray[np.float64],
    G: NDArray[np.float64],
    allowed: NDArray[np.float64],
    l1: float,
    most: int,
) -> int: ...
def taken_alone(alone: NDArray[np.float64], together: NDArray[np.float64]) -> NDArray[np.int32]: ...
def first_nonfinite(x: NDArray[Any]) -> int: ...
def first_outside(x: NDArray[Any], low: float, high: float) -> int: ...
def first_bad_label(
    labels: NDArray[np.int64], n_classes: int, ignored: int | None = None
) -> int: ...
def shuffle(order: NDArray[np.int64], seed: int, epoch: int) -> None: ...

@disjoint_base
class Program:
    dtype: np.dtype[Any]
    n_in: int
    n_out: int
    min_rows: int
    def __new__(
        cls,
        ops: NDArray[Any],
        n_params: int,
        n_decayed: int,
        acts_width: int,
        dacts_width: int,
        dtype: np.dtype[Any] | str = "float32",
        n_stats: int = 0,
    ) -> Self: ...
    @property
    def n_params(self) -> int: ...
    @property
    def n_stats(self) -> int: ...
    @property
    def acts_width(self) -> int: ...
    @property
    def dacts_width(self) -> int: ...
    def block_rows(self, rows: int, threads: int) -> int: ...

@disjoint_base
class Turns:
    reading: AbstractContextManager[None]
    changing: AbstractContextManager[None]
    only_reading: AbstractContextManager[None]
    def keep_own(self) -> None: ...
    def enter_reading(self) -> None: ...
    def leave_reading(self) -> None: ...
    def enter_changing(self) -> None: ...
    def leave_changing(self) -> None: ...

@disjoint_base
class QuickWay:
    def __new__(cls, context: Context, turns: Turns) -> Self: ...
    def remember(
        self,
        kept: str | Loss,
        loss: Loss,
        name: str | None,
        optimizer: Optimizer,
        most_threads: int,
        seconds: float,
    ) -> None: ...
    def step(
        self,
        net: Network,
        x: object,
        y: object,
        loss: object,
        optimizer: object,
        weights: object,
        threads: object,
    ) -> float | None: ...
    def predict(self, x: object, threads: object) -> NDArray[Any] | None: ...
    def predict_row(self, x: object, out: object) -> NDArray[Any] | None: ...

@disjoint_base
class Context:
    program: Program
    params: NDArray[Any]
    grads: NDArray[Any]
    stats: NDArray[Any]
    t: int
    updates: int
    epoch: int
    position: int
    passes: int
    schedule_start: int
    n_averaged: int
    panels: bool | None
    running: tuple[float, float]
    def __new__(
        cls,
        program: Program,
        params: NDArray[Any],
        grads: NDArray[Any],
        seed: int,
        stats: NDArray[Any] | None = None,
    ) -> Self: ...
    def check_idle(self) -> None: ...
    def check_rows(self, rows: int, batch_size: int) -> None: ...
    def release(self) -> None: ...
    most_rows: Final[int]
    @property
    def capacity(self) -> int: ...
    @property
    def rows(self) -> int: ...
    def in_panels(self, rows: int) -> bool: ...
    def reserve(
        self,
        capacity: int,
        acts: NDArray[Any],
        dacts: NDArray[Any],
        batch: NDArray[Any],
        row_loss: NDArray[np.float64],
    ) -> None: ...
    def set_state(self, state: tuple[NDArray[Any], ...], average: NDArray[Any] | None) -> None: ...
    def forward(
        self, x: NDArray[Any], training: bool, threads: int, is_step: bool = False
    ) -> NDArray[Any]: ...
    def backward(self, dz: NDArray[Any], dx: NDArray[Any] | None, threads: int) -> None: ...
    def jacobian(
        self,
        x: NDArray[Any],
        target: NDArray[Any] | None,
        block: NDArray[Any],
        gram: NDArray[Any] | None,
        scratch: NDArray[Any],
        threads: int,
        roots: NDArray[Any] | None = None,
    ) -> None: ...
    def update(
        self,
        optimizer: int,
        settings: OptimizerSettings,
        threads: int,
        rates: NDArray[np.float64] | None = None,
        is_step: bool = False,
        rows: int = 0,
        n: int = 1,
    ) -> bool: ...
    def predict(
        self,
        x: NDArray[Any],
        out: NDArray[Any],
        acts: NDArray[Any],
        block: int,
        first: int,
        threads: int,
        seconds: float,
        pace: Pace,
    ) -> int: ...
    def predict_row(self, x: NDArray[Any], out: NDArray[Any], turns: Turns) -> bool: ...
    def train(
        self,
        x: NDArray[Any],
        target: NDArray[Any],
        order: NDArray[np.int64] | None,
        batch_size: int,
        loss: int,
        optimizer: int,
        settings: OptimizerSettings,
        outputs: NDArray[Any] | None,
        threads: int,
        seconds: float,
        apart: bool = False,
        rates: NDArray[np.float64] | None = None,
        loss_settings: LossSettings = ...,
        weights: NDArray[np.float64] | None = None,
        loss_sum: float = 0.0,
        again: bool = False,
    ) -> tuple[float, int, bool]: ...
