"""Steps with a loss written in Python: forward and backward in C around the user's function."""

from __future__ import annotations  # signatures that can be read

import numpy as np

from .. import _core
from ..engine.executor import Executor
from ..ground.arrays import Array
from ..losses.custom import CustomLoss
from ..optimizers import Optimizer


def take_step(
    executor: Executor,
    loss: CustomLoss,
    x: Array,
    target: Array,
    weights: Array | None,
    optimizer: Optimizer,
    threads: int,
    rates: Array | None,
    rows: int = 0,
    n: int = 1,
) -> tuple[float, Array, bool]:
    """Train on one mini-batch with a loss written in Python.

    Returns the sum of its losses, the outputs, and whether all stayed finite.

    One call of C moves the weights, the running statistics and the progress of the network (`rows`
    more rows of a pass of n rows). So Ctrl-C and a signal handler see whole steps.
    """
    context, index = executor.context, _core.OPTIMIZERS[optimizer.kernel]["index"]
    z = context.forward(x, True, threads, is_step=True).copy()
    with executor.turns.only_reading:
        total, dz = loss.weighed(z, target, weights)
    if not np.isfinite(total):
        return total, z, False
    context.backward(dz, None, threads)
    finite = context.update(index, optimizer.settings, threads, rates, is_step=True, rows=rows, n=n)
    return total, z, finite
