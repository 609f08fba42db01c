"""`fit` with a full-batch method: an epoch is one step over all rows."""

import math

import numpy as np

from ..ground.arrays import Array
from ..ground.errors import DivergenceError
from ..losses import Loss
from ..network.network import Network
from ..sample_weights import weights_at
from ..second_order.methods import FullBatchMethod
from ..second_order.objective import Objective, Point
from .data import TrainingData
from .progress import Progress
from .run import Run

_STUCK = (
    "stopped, not converged: no step was found that lowers the loss, though its slope promises "
    'one; standardize X and y, use dtype="float64", or begin with other weights'
)


class FullBatchLoop:
    """EpochLoop's counterpart for full-batch methods: an epoch is one step over all rows."""

    def __init__(
        self,
        net: Network,
        data: TrainingData,
        loss: Loss,
        method: FullBatchMethod,
        threads: int,
    ) -> None:
        self.net, self.data, self.method = net, data, method
        self.order, self.n = data.rows, len(data.rows)
        x, y, weights = data.X, data.y, data.weights
        if self.n < len(x):  # some rows are held out
            x, y, weights = x[data.rows], y[data.rows], weights_at(weights, data.rows)
        self._objective = Objective(net._engine, x, y, loss, threads, method.l2, weights)
        self._stepper = method.begin(self._objective)
        self._point: Point | None = None

    def run_epoch(self, run: Run, outputs: Array | None, progress: Progress) -> float:
        """Take one step; returns the loss after it.

        Even after an error the network is left with the last accepted weights.
        """
        objective = self._objective
        if self._point is None:  # all arguments have been checked by now
            self.net._drop_optimizer()
        start = self._start(run)
        found, least = None, self.method.tolerance**2
        with self.net._kept_for_files(self.net.params):  # while the step tries other weights
            try:
                promise = self._stepper.promise(start)
                is_over = promise <= least * objective.size(start.value)
                if not is_over:
                    found = self._stepper.step(start)
            finally:
                objective.put(start.params if found is None else found.params)
        if found is not None:
            self.net._engine.context.updates += 1
        elif is_over:
            run.stop(f"converged: a step would lower the loss by no more than {least:g} of it")
        elif promise <= objective.rounding(start.value):
            run.stop("converged: no step lowers the loss within the precision of the numbers")
        else:
            run.stop(_STUCK)
        self._point = found or start
        self.net._engine.context.epoch += 1
        if outputs is not None:
            outputs[self.order] = self.net._engine.predict(objective.x, objective.threads)
        progress.advance(self.n, self._point.loss)
        return self._point.loss

    def _start(self, run: Run) -> Point:
        """The point after the last step, or a new one if a callback has moved the weights."""
        params = self._objective.params()
        if self._point is not None and np.array_equal(params, self._point.params):
            return self._point
        point = self._objective.at(params)
        if not (math.isfinite(point.value) and np.isfinite(point.grad).all()):
            raise DivergenceError(
                "the loss or its gradient is not finite where training begins; scale the inputs or "
                "make a new network",
                run.epoch,
                self.net.step + 1,
                run.history,
            )
        return point
