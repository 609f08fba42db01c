"""`fit`: checks arrays once, then runs epochs of mini-batches, with metrics and callbacks."""

from __future__ import annotations  # signatures that can be read

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from ..engine.plan import leaves_of
from ..ground.arrays import Array
from ..ground.checks import check_count, check_flag
from ..ground.conversion import Weights
from ..ground.errors import DivergenceError
from ..ground.runtime import resolve_threads
from ..layers import Dropout
from ..losses import Loss, get_loss
from ..metrics import Metric, check_targets, get_metrics
from ..network.network import Network
from ..optimizers import Optimizer
from ..second_order.methods import FullBatchMethod
from .callbacks import Callback, EarlyStopping, check_callbacks, check_monitors
from .data import TrainingData
from .epochs import EpochLoop
from .full_batch_epochs import FullBatchLoop
from .hints import Hints, warn_of_activation
from .progress import check_verbose, make_progress
from .run import History, Run


def fit(
    net: Network,
    data: TrainingData,
    chosen: str | Loss,
    optimizer: Optimizer | FullBatchMethod,
    *,
    batch_size: int,
    epochs: int,
    metrics: Sequence[str | Metric],
    callbacks: Sequence[Callback],
    shuffle: bool,
    drop_last: bool,
    threads: int | None,
    verbose: int,
) -> History:
    """Train for `epochs` passes; see Sequential.fit."""
    # All checks come first, those of the callbacks too, so that a refused call changes nothing.
    loss = get_loss(chosen)
    if isinstance(metrics, Iterable) and not isinstance(metrics, str):  # get_metrics raises if not
        metrics = tuple(metrics)
    shuffle, drop_last = check_flag(shuffle, "shuffle"), check_flag(drop_last, "drop_last")
    functions = get_metrics(metrics, loss)
    for y in (data.y, *(() if data.validation is None else data.validation[1:2])):
        check_targets(functions, loss, y, net.n_out)
    callbacks = check_callbacks(callbacks)
    check_verbose(verbose)
    run = Run(net, optimizer, check_count(epochs, "epochs", 0))
    run.has_validation = data.validation is not None
    run.history.includes_dropout = not isinstance(optimizer, FullBatchMethod) and any(
        isinstance(leaf, Dropout) and leaf.p > 0 for leaf in leaves_of(net.layers)
    )
    run.may_stop = any(isinstance(callback, EarlyStopping) for callback in callbacks)
    names = ("loss", *functions)
    run.logged = names + tuple(f"val_{name}" for name in names if run.has_validation)
    batch_size, n_threads = check_count(batch_size, "batch_size"), resolve_threads(threads)
    check_monitors(callbacks, run)
    _each(callbacks, "on_fit_begin", run)
    warn_of_activation(net.layers, loss)
    epoch_loop: EpochLoop | FullBatchLoop
    if isinstance(optimizer, FullBatchMethod):
        epoch_loop = FullBatchLoop(net, data, loss, optimizer, n_threads)
    else:
        epoch_loop = EpochLoop(
            net, data, loss, optimizer, batch_size, shuffle, drop_last, n_threads, run.epochs
        )
    hints = Hints(run, data, loss, batch_size)
    if net._standardize is not None and not net._standardize.is_adapted:
        net._standardize.adapt_rows(data.X, data.rows, data.given)
    # Outputs of this pass, for the metrics. They are taken while the weights change.
    outputs = np.zeros((len(data.X), net.n_out), net.dtype) if functions else None
    net.loss, net.metrics, net.history = chosen, metrics or None, run.history
    with make_progress(verbose, run, epoch_loop.n) as progress, _told(callbacks, run, epoch_loop):
        while run.epoch < run.epochs and run.history.stop_reason is None:
            run.epoch += 1
            run.logs = {"loss": epoch_loop.run_epoch(run, outputs, progress)}
            if outputs is not None:
                z, y = outputs, data.y
                if len(epoch_loop.order) < len(y):  # only the rows of this pass
                    z, y = outputs[epoch_loop.order], y[epoch_loop.order]
                run.logs |= {name: f(y, z) for name, f in functions.items()}
            if net.keeps_average:
                net._update_average_statistics(data.X, data.rows, n_threads)
            if data.validation is not None:
                Xv, yv, weights = data.validation
                with net._averaged_unless_saved() if net.keeps_average else nullcontext():
                    held_out = score(net, Xv, yv, loss, functions, threads, weights)
                run.logs |= {f"val_{name}": value for name, value in held_out.items()}
            _each(callbacks, "on_epoch_end", run)
            run.history.add(run.logs)
            progress.end_epoch(run)
    _each(callbacks, "on_fit_end", run)
    hints.at_end(run)
    return run.history


def score(
    net: Network,
    x: Array,
    y: Array,
    loss: Loss,
    metrics: dict[str, Metric],
    threads: int | None,
    weights: Weights | None,
    by_row: bool = False,
) -> dict[str, Any]:
    """Return the loss (of each row: `by_row`) and the metrics of the network's predictions."""
    out = net._engine.predict(x, threads)
    value = (loss.row_values if by_row else loss.value)(out, y, weights=weights)
    return {"loss": value} | {name: f(y, out) for name, f in metrics.items()}


@contextmanager
def _told(
    callbacks: list[Callback], run: Run, epoch_loop: EpochLoop | FullBatchLoop
) -> Iterator[None]:
    """End the loop after its work or an error; call on_divergence after a divergence."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        if isinstance(epoch_loop, EpochLoop):
            epoch_loop.leave(error)
        if isinstance(error, DivergenceError):
            _each(callbacks, "on_divergence", run)


def _each(callbacks: Sequence[Callback], method: str, run: Run) -> None:
    for callback in callbacks:
        getattr(callback, method)(run)
