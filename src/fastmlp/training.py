"""`fit`: arrays checked once, then epochs of mini-batches in C, with metrics and callbacks between
them.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from .callbacks import Callback
from .config import resolve_threads
from .data import as_matrix, as_target, check_batch_size, check_finite
from .errors import DivergenceError
from .executor import SLICE_SECONDS
from .losses import loss_of
from .metrics import Array, Metric, get_metrics
from .optimizers import Optimizer

if TYPE_CHECKING:
    from .network import Sequential


class History(dict[str, list[float]]):
    """What `fit` logged: name -> one number an epoch."""

    stop_reason: str | None = None

    def add(self, logs: dict[str, float]) -> None:
        """Append the logs of one epoch."""
        for name, value in logs.items():
            self.setdefault(name, []).append(value)

    def plot(self, ax: Any = None) -> Any:
        """Draw the learning curves of the losses on a matplotlib axes (a new one by default);
        returns it.
        """
        from .plot import learning_curves

        return learning_curves(self, ax)


class Run:
    """One call of fit, as callbacks see it."""

    def __init__(self, net: "Sequential", optimizer: Optimizer, epochs: int) -> None:
        self.net, self.optimizer, self.epochs = net, optimizer, epochs
        self.epoch = 0  # of this run, from 1
        self.logs: dict[str, float] = {}
        self.history = History()
        self.has_validation = False

    def use_optimizer(self, optimizer: Optimizer) -> None:
        """Go on with other settings from the next epoch on."""
        self.net.use_optimizer(optimizer)
        self.optimizer = optimizer

    def stop(self, reason: str) -> None:
        """End training after this epoch."""
        self.history.stop_reason = reason


class TrainingData:
    """Checked arrays of one fit: all rows, which of them to train on, and what to validate with."""

    def __init__(
        self,
        net: "Sequential",
        X: ArrayLike,
        y: ArrayLike,
        loss: str,
        validation_data: tuple[ArrayLike, ArrayLike] | None,
        validation_split: float,
    ) -> None:
        self.X, self.y = checked_pair(net, X, y, loss, "X", "y")
        self.rows: NDArray[np.int64] = np.arange(len(self.X))
        self.validation: tuple[Array, Array] | None = None
        if validation_data is not None:
            if validation_split:
                raise ValueError("give validation_data or validation_split, not both")
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise ValueError("validation_data must be a pair (X, y)")
            Xv, yv = validation_data
            self.validation = checked_pair(net, Xv, yv, loss, "validation X", "validation y")
        elif validation_split:
            self._split(validation_split, net.seed)

    def _split(self, share: float, seed: int) -> None:
        """Set a random share of the rows aside; only those are copied."""
        n = len(self.rows)
        held_out = round(n * share)
        if not 0 < share < 1 or not 0 < held_out < n:
            raise ValueError(
                f"validation_split={share!r} of {n} rows leaves one side empty; 0.1 is usual"
            )
        shuffled = self.rows.copy()
        _core.shuffle(shuffled, seed, 2**64 - 1)  # no epoch has this number
        held, self.rows = np.sort(shuffled[:held_out]), np.sort(shuffled[held_out:])
        self.validation = self.X[held], self.y[held]


def checked_pair(
    net: "Sequential", X: ArrayLike, y: ArrayLike, loss: str, x_name: str, y_name: str
) -> tuple[Array, Array]:
    """X and y in the form that C takes; ValueError or TypeError before any work."""
    x = as_matrix(X, net.dtype, net.n_in, x_name)
    check_finite(x, x_name)
    return x, as_target(y, loss, len(x), net.n_out, net.dtype, y_name)


def fit(
    net: "Sequential",
    data: TrainingData,
    loss: str,
    optimizer: Optimizer,
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
    epoch_loop = EpochLoop(net, data, loss, optimizer, batch_size, shuffle, drop_last, threads)
    functions = get_metrics(metrics, loss)
    check_callbacks(callbacks)
    run = Run(net, optimizer, _check_epochs(epochs))
    run.has_validation = data.validation is not None
    net.history = run.history
    _each(callbacks, "on_fit_begin", run)
    with make_progress(verbose, run, epoch_loop.n) as progress:
        while run.epoch < run.epochs and run.history.stop_reason is None:
            run.epoch += 1
            outputs = epoch_loop.outputs_for(functions)
            run.logs = {"loss": epoch_loop.run_epoch(run, outputs, progress)}
            if outputs is not None:
                trained = outputs[epoch_loop.order], data.y[epoch_loop.order]
                run.logs |= {name: f(trained[1], trained[0]) for name, f in functions.items()}
            if data.validation is not None:
                with net.averaged() if net.keeps_average else nullcontext():
                    held_out = score(net, *data.validation, loss, functions, threads)
                run.logs |= {f"val_{name}": value for name, value in held_out.items()}
            _each(callbacks, "on_epoch_end", run)
            run.history.add(run.logs)
            progress.end_epoch(run)
    _each(callbacks, "on_fit_end", run)
    return run.history


def score(
    net: "Sequential",
    x: Array,
    y: Array,
    loss: str,
    metrics: dict[str, Metric],
    threads: int | None,
) -> dict[str, float]:
    """Loss and metrics of the network's predictions, nothing being trained."""
    out = net.executor.predict(x, threads)
    return {"loss": loss_of(loss, out, y)} | {name: f(y, out) for name, f in metrics.items()}


class EpochLoop:
    """One pass after another over the training rows, each in the order of its number."""

    def __init__(
        self,
        net: "Sequential",
        data: TrainingData,
        loss: str,
        optimizer: Optimizer,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        threads: int | None,
    ) -> None:
        self.net, self.data, self.shuffle = net, data, shuffle
        self.loss = loss
        self.threads = resolve_threads(threads)
        self.batch_size = min(check_batch_size(batch_size), len(data.rows))
        self.n = len(data.rows) - (len(data.rows) % self.batch_size if drop_last else 0)
        self.order = data.rows
        net.executor.reserve(self.batch_size)
        net.use_optimizer(optimizer)
        # A pass that was interrupted goes on where it stopped, if this one has the same batches.
        batches = (self.n, self.batch_size)
        if net.executor.context.position and net.interrupted_batches != batches:
            net.executor.context.position = 0
        net.interrupted_batches = batches

    def outputs_for(self, metrics: dict[str, Metric]) -> Array | None:
        """Room for the outputs of the training pass, where metrics need them."""
        shape = len(self.data.X), self.net.n_out
        return np.zeros(shape, self.net.dtype) if metrics else None

    def run_epoch(self, run: Run, outputs: Array | None, progress: "Progress") -> float:
        """All mini-batches of the next epoch; returns the mean loss of its rows."""
        context, optimizer = self.net.executor.context, run.optimizer
        self.order = self.data.rows
        if self.shuffle:
            self.order = self.data.rows.copy()
            _core.shuffle(self.order, self.net.seed, context.epoch)
        self.order = self.order[: self.n]
        first, visited, loss_sum = context.position, 0, 0.0
        before = context.t
        rates = self.net.executor.rates(optimizer, -(-(self.n - first) // self.batch_size))
        while first + visited < self.n:
            slice_sum, rows, finite = context.train(
                self.data.X,
                self.data.y,
                self.order,
                self.batch_size,
                _core.LOSSES[self.loss]["index"],
                _core.OPTIMIZERS[optimizer.name]["index"],
                optimizer.settings(),
                outputs,
                self.threads,
                SLICE_SECONDS,
                rates=None if rates is None else rates[context.t - before :],
            )
            loss_sum, visited = loss_sum + slice_sum, visited + rows
            if not finite:
                lr = optimizer.lr_at(context.t - context.schedule_start)
                raise divergence(run.epoch, context.updates + 1, lr, run.history)
            progress.advance(rows, loss_sum / visited)
        self.order = self.order[first:]
        return loss_sum / visited


def divergence(epoch: int, step: int, lr: float, history: History | None = None) -> DivergenceError:
    """The error for a loss or an update that is not finite."""
    return DivergenceError(
        f"the loss is no longer finite in epoch {epoch} (step {step}); lower the learning rate "
        f"(lr={lr:g} now) or scale the inputs; the network keeps its last finite weights",
        epoch,
        step,
        history,
    )


def check_weights(params: Array) -> None:
    """ValueError where training would begin with weights that are not finite."""
    if _core.first_nonfinite(params) >= 0:
        raise ValueError("the weights of this network hold NaN or infinity; make a new network")


def check_callbacks(callbacks: Sequence[Callback]) -> Sequence[Callback]:
    """TypeError unless every one is a Callback."""
    if isinstance(callbacks, Callback) or not all(isinstance(c, Callback) for c in callbacks):
        raise TypeError(
            "callbacks must be a list of Callback objects, [EarlyStopping()] for instance"
        )
    return callbacks


def _each(callbacks: Sequence[Callback], method: str, run: Run) -> None:
    for callback in callbacks:
        getattr(callback, method)(run)


def _check_epochs(epochs: int) -> int:
    if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer) or epochs < 0:
        raise ValueError(f"epochs must be an integer >= 0, not {epochs!r}")
    return int(epochs)


# ---- progress ------------------------------------------------------------------------------------


class Progress:
    """verbose=0: nothing is shown."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def advance(self, rows: int, loss: float) -> None:
        """`rows` more rows were trained; `loss` is the mean of this epoch so far."""

    def end_epoch(self, run: Run) -> None:
        """An epoch is over."""


class LineProgress(Progress):
    """verbose=2: one line an epoch."""

    def __init__(self, n: int) -> None:
        self._n, self._since = n, time.perf_counter()

    def end_epoch(self, run: Run) -> None:
        """Print the logs of the epoch."""
        now = time.perf_counter()
        rate = self._n / max(now - self._since, 1e-9)
        self._since = now
        width = len(str(run.epochs))
        print(
            f"epoch {run.epoch:{width}}/{run.epochs}  {format_logs(run.logs)}  {rate:,.0f} rows/s"
        )


class BarProgress(Progress):
    """verbose=1: a tqdm bar over all epochs, with rows per second and the time left."""

    def __init__(self, tqdm: Any, run: Run, n: int) -> None:
        self._bar = tqdm(
            total=n * run.epochs, unit="row", unit_scale=True, file=sys.stderr, dynamic_ncols=True
        )
        self._run, self._width = run, len(str(run.epochs))

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def advance(self, rows: int, loss: float) -> None:
        """Move the bar."""
        self._bar.update(rows)
        if not self._run.logs or self._run.epoch == 1:
            self._show({"loss": loss})

    def end_epoch(self, run: Run) -> None:
        """Show the logs of the epoch."""
        self._show(run.logs)

    def _show(self, logs: dict[str, float]) -> None:
        epoch = f"epoch {self._run.epoch:{self._width}}/{self._run.epochs}"
        self._bar.set_description_str(epoch, refresh=False)
        self._bar.set_postfix_str(format_logs(logs), refresh=False)


def format_logs(logs: dict[str, float]) -> str:
    """The logs of an epoch in one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


def make_progress(verbose: int, run: Run, n: int) -> Progress:
    """Progress for verbose=0, 1 or 2; without tqdm, 1 prints lines too."""
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0 (silent), 1 (bar) or 2 (lines), not {verbose!r}")
    if verbose == 1:
        try:
            from tqdm import tqdm
        except ImportError:
            return LineProgress(n)
        return BarProgress(tqdm, run, n)
    return LineProgress(n) if verbose == 2 else Progress()
