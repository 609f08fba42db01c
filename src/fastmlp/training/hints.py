"""Warnings of `fit` about arguments that can be meant, but hardly ever are."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..engine.plan import leaves_of
from ..ground.arrays import Array
from ..ground.errors import LearningHint, warn
from ..layers import Activation, Dropout, Layer, Linear
from ..losses import Loss
from ..optimizers import Adam, Optimizer
from ..schedules import Schedule
from ..second_order.methods import FullBatchMethod, LevenbergMarquardt
from .data import TrainingData
from .run import Run

_SPENT = 1e-3  # share of a schedule's highest rate that counts as next to nothing
_LARGE = 1000.0  # root mean square of an input; the first step then moves outputs by as much
_LOOK = 1_000_000  # numbers of X that are read for the hint
_ROUNDING = 1e-6  # a spread that may be that of float32, as a share of the size
_FEW_STEPS, _DEFAULT_EPOCHS, _DEFAULT_BATCH = 100, 20, 128
_LEARNED, _GREW = 0.5, 1.5  # the last loss as a share of the first epoch's


def warn_of_activation(layers: Sequence[Layer], loss: Loss) -> None:
    """Warn if the network ends with an activation before a loss that applies one itself."""
    last = next((leaf for leaf in leaves_of(layers)[::-1] if not isinstance(leaf, Dropout)), None)
    if isinstance(last, Activation) and loss.is_narrowed_by(last.name):
        warn(f"{loss.name} {loss.link}: leave out the last {last!r}")


def warn_of_schedule(context: _core.Context, optimizer: Optimizer, steps: int) -> None:
    """Warn if a schedule that was used before is spent for all of the next `steps` steps."""
    schedule = optimizer.lr
    done = context.t - context.schedule_start
    if not isinstance(schedule, Schedule) or done == 0:
        return
    is_over = done >= getattr(schedule, "steps", math.inf)
    most = _SPENT * schedule.lr if is_over else 0.0
    if all(schedule(step) <= most for step in range(done, done + steps)):
        warn(
            f"{schedule!r} has ended: this fit goes on with the learning rate "
            f"{schedule(done):.3g}; to begin schedule and moments anew set net.optimizer = None "
            "before it, or give another schedule or a number"
        )


def _some(array: Array, data: TrainingData) -> NDArray[np.float64]:
    """Rows of X or y that training uses, evenly taken."""
    rows = max(1, _LOOK // array.shape[1])
    return array[data.rows[:: -(-len(data.rows) // rows)]].astype(np.float64)


class Hints:
    """At most one warning about a new network that can hardly learn with the arguments of `fit`."""

    def __init__(self, run: Run, data: TrainingData, loss: Loss, batch_size: int) -> None:
        net, self._sees_all = run.net, isinstance(run.optimizer, FullBatchMethod)
        self._is_new = net.step == 0 and net._gives_hints
        self._batch_size, self._steps = batch_size, -(-len(data.rows) // batch_size)
        leaves = leaves_of(net.layers)
        if self._is_new and not self._sees_all and isinstance(leaves[0], Linear):
            self._look_at_inputs(data)
        is_bent = any(leaf.bends for leaf in leaves)
        if self._is_new and loss.has_unit and is_bent and isinstance(leaves[-1], Linear):
            self._look_at_targets(data, isinstance(run.optimizer, LevenbergMarquardt))

    def _look_at_inputs(self, data: TrainingData) -> None:
        sizes = np.sqrt(np.mean(np.square(_some(data.X, data)), axis=0))
        column = int(np.argmax(sizes))
        if sizes[column] >= _LARGE:
            self._is_new = False  # one warning is enough
            warn(
                f"column {column} of X holds values of about {sizes[column]:.2g}, with which a "
                "network hardly learns; put Standardize() before the first layer",
                LearningHint,
            )

    def _look_at_targets(self, data: TrainingData, finds_size: bool) -> None:
        """Warn of targets far from the outputs of a new network, about 1, that a step moves alike.

        Levenberg-Marquardt finds the way to larger and to smaller ones by itself, but not to a
        large level that hardly varies.
        """
        some = _some(data.y, data)
        sizes, spreads = np.sqrt(np.mean(np.square(some), axis=0)), np.std(some, axis=0)
        large, small = float(sizes.max()), float(spreads.min())
        is_small = _ROUNDING * large < small <= 1 / _LARGE
        is_level = is_small and small <= large / _LARGE  # little variation on a large level
        if is_level or (not finds_size and (is_small or large >= _LARGE)):
            self._is_new = False
            what = f"varies by {small:.2g}" if is_small else f"holds values of about {large:.2g}"
            warn(
                f"y {what}, far from the outputs of a new network, about 1, so that it hardly "
                "learns; train on (y - y.mean(axis=0)) / y.std(axis=0), and turn predictions back",
                LearningHint,
            )

    def at_end(self, run: Run) -> None:
        """What the losses of all epochs tell."""
        losses = run.history.get("loss", [])
        if (
            not self._is_new
            or self._sees_all
            or len(losses) < 2
            or run.history.stop_reason is not None
        ):
            return
        first, last = losses[0], losses[-1]
        steps = self._steps * run.epoch
        if last - first > (_GREW - 1) * abs(first):
            warn(
                f"the loss has grown from {first:.4g} to {last:.4g}; lower lr, or put "
                "Standardize() before the first layer",
                LearningHint,
            )
        elif last > 0 and last > _LEARNED * first and steps <= _FEW_STEPS and self._is_default(run):
            warn(
                f"the loss has only gone from {first:.4g} to {last:.4g} in {steps} steps: so few "
                f"rows need more than the default of {_DEFAULT_EPOCHS} epochs; pass epochs=1000, "
                "or a smaller batch_size, or optimizer=Adam(0.01)",
                LearningHint,
            )

    def _is_default(self, run: Run) -> bool:
        of_call = (run.epochs, self._batch_size) == (_DEFAULT_EPOCHS, _DEFAULT_BATCH)
        return of_call and run.optimizer == Adam()
