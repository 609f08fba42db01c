"""`fit`: arrays checked once, then epochs of mini-batches in C, with metrics and callbacks between
them.
"""

from __future__ import annotations  # signatures that can be read

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from .callbacks import Callback, EarlyStopping, check_monitors
from .config import resolve_threads
from .custom_loss import CustomLoss, take_step
from .data import as_finite
from .dialects import Translated
from .errors import DivergenceError, warn
from .executor import SLICE_SECONDS
from .full_batch import FullBatchLoop
from .hints import Hints, warn_of_activation, warn_of_schedule
from .layers import Dropout
from .layout import leaves_of
from .losses import Loss, get_loss
from .metrics import Array, Metric, check_targets, get_metrics
from .numeric import as_real, check_count, check_flag
from .optimizers import Optimizer
from .progress import Progress, check_verbose, make_progress
from .second_order import FullBatchMethod
from .targets import as_target
from .weights import ClassWeight, Weights, as_weights, class_weights, combined, weights_at

if TYPE_CHECKING:
    from .network import Sequential


class History(Translated, dict[str, list[float]], dialect="history"):
    """What `fit` logged: name -> one number an epoch."""

    stop_reason: str | None = None
    includes_dropout = False  # in what was logged of the training pass

    def add(self, logs: dict[str, float]) -> None:
        """Append the logs of one epoch; NaN where a callback logs now and then."""
        epochs = len(next(iter(self.values()), []))
        for name in {**self, **logs}:
            self.setdefault(name, [math.nan] * epochs).append(logs.get(name, math.nan))

    def plot(self, ax: Any = None) -> Any:
        """Draw the learning curves of the losses on a matplotlib axes (a new one by default);
        returns it. The training curve includes dropout.
        """
        from .plot import learning_curves

        return learning_curves(self, ax)


class Run:
    """One call of fit, as callbacks see it."""

    def __init__(
        self, net: Sequential, optimizer: Optimizer | FullBatchMethod, epochs: int
    ) -> None:
        self.net, self.optimizer, self.epochs = net, optimizer, epochs
        self.epoch = 0  # of this run, from 1
        self.logs: dict[str, float] = {}
        self.history = History()
        self.has_validation = False
        self.may_stop = False  # before the last epoch
        self.units: dict[str, float] = {}  # what a logged number is multiplied by to be shown
        self.logged: tuple[str, ...] = ()  # the names that fit itself will log

    def use_optimizer(self, optimizer: Optimizer) -> None:
        """Go on with other settings from the next epoch on; ValueError in a full-batch method."""
        if isinstance(self.optimizer, FullBatchMethod):
            raise ValueError(f"{self.optimizer!r} cannot be exchanged during a fit; call fit again")
        self.net.use_optimizer(optimizer)
        self.optimizer = self.net.optimizer or optimizer

    def unit_of(self, name: str) -> float:
        """What a logged number is multiplied by to be shown, on validation data too."""
        return self.units.get(name.removeprefix("val_"), 1.0)

    def shown(self, logs: dict[str, float]) -> dict[str, float]:
        """The logs in the units in which they are shown."""
        units = {name: self.unit_of(name) for name in logs}
        return {name: v if units[name] == 1 else v * units[name] for name, v in logs.items()}

    def stop(self, reason: str) -> None:
        """End training after this epoch."""
        self.history.stop_reason = reason


class TrainingData:
    """Checked arrays of one fit: all rows, which of them to train on, and what to validate with."""

    def __init__(
        self,
        net: Sequential,
        X: ArrayLike,
        y: ArrayLike,
        loss: Loss,
        validation_data: tuple[ArrayLike, ...] | None,
        validation_split: float,
        sample_weight: ArrayLike | None,
        class_weight: ClassWeight | None,
    ) -> None:
        self.given = X
        self.X, self.y = checked_pair(net, X, y, loss, "X", "y")
        net.column_names.learn(X)
        self.weights = as_weights(sample_weight, len(self.X))
        self.rows: NDArray[np.int64] = np.arange(len(self.X))
        self.validation: tuple[Array, Array, Weights | None] | None = None
        if validation_data is not None:
            if validation_split:
                raise ValueError("give validation_data or validation_split, not both")
            if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
                raise ValueError("validation_data must be (X, y) or (X, y, sample_weight)")
            Xv, yv, *rest = validation_data
            Xv, yv = checked_pair(net, Xv, yv, loss, "validation X", "validation y")
            weights = as_weights(rest[0] if rest else None, len(Xv), "validation sample_weight")
            self.validation = Xv, yv, weights
        elif validation_split:
            self._split(validation_split, net.seed)
            self._tell_lost_classes(loss)
        self._check_counting(loss)
        by_class = class_weights(class_weight, loss, self.y, self.rows, net.n_out, self.weights)
        self.weights = combined(self.weights, by_class)
        if self.weights is not None and not self._weighed(loss).any():
            raise ValueError("no row has a weight above 0, so there is nothing to learn from")

    def _weighed(self, loss: Loss) -> Array:
        """The weights of the training rows that count."""
        assert self.weights is not None
        counting = loss.counting(self.y)
        weights = self.weights if counting is None else self.weights * counting
        return weights[self.rows]

    def _check_counting(self, loss: Loss) -> None:
        """ValueError where all rows of one side have the label that is ignored."""
        if not loss.counted(self.y, self.rows):
            raise ValueError(
                f"all training rows have the label that {loss!r} ignores, so there is nothing to "
                "learn from; check the labels"
            )
        if self.validation is not None and not loss.counted(self.validation[1]):
            raise ValueError(
                f"all validation rows have the label that {loss!r} ignores; give some that count"
            )

    def _split(self, share: float, seed: int) -> None:
        """Set a random share of the rows aside; only those are copied."""
        n, number = len(self.rows), as_real(share)
        if number is None or not 0 < number < 1:
            raise ValueError(f"validation_split must lie between 0 and 1, not {share!r}")
        held_out = round(n * number)
        if not 0 < held_out < n:
            raise ValueError(
                f"validation_split={share!r} of {n} rows leaves one side empty; 0.1 is usual"
            )
        shuffled = self.rows.copy()
        _core.shuffle(shuffled, seed, 2**64 - 1)  # no epoch has this number
        held, self.rows = np.sort(shuffled[:held_out]), np.sort(shuffled[held_out:])
        self.validation = self.X[held], self.y[held], weights_at(self.weights, held)

    def _tell_lost_classes(self, loss: Loss) -> None:
        """Where chance has left no row of a class to train on."""
        if self.validation is None or not loss.needs_labels:
            return
        held = self.validation[1]
        counting = loss.counting(held)
        lost = np.setdiff1d(held if counting is None else held[counting], self.y[self.rows])
        if len(lost):
            warn(
                f"validation_split has taken all rows of class {lost[0]:.0f}, for it is not "
                "stratified; pass what scikit-learn's train_test_split(X, y, stratify=y) returns "
                "as validation_data"
            )


def checked_pair(
    net: Sequential, X: ArrayLike, y: ArrayLike, loss: Loss, x_name: str, y_name: str
) -> tuple[Array, Array]:
    """X and y in the form that C takes; ValueError or TypeError before any work."""
    net.column_names.check(X, x_name)
    x = as_finite(X, net.dtype, net.n_in, x_name)
    return x, as_target(y, loss, len(x), net.n_out, net.dtype, y_name)


def fit(
    net: Sequential,
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
    # All checks first, those of the callbacks too: what is refused has changed nothing.
    loss = get_loss(chosen)
    if isinstance(metrics, Iterable) and not isinstance(metrics, str):  # else get_metrics refuses
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
    if net.standardize is not None and not net.standardize.is_adapted:
        net.standardize.adapt_rows(data.X, data.rows, data.given)
    # those of the pass, while the weights change; room for them where metrics need them
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
                net.update_average_statistics(data.X, data.rows, n_threads)
            if data.validation is not None:
                Xv, yv, weights = data.validation
                with net.averaged_unless_saved() if net.keeps_average else nullcontext():
                    held_out = score(net, Xv, yv, loss, functions, threads, weights)
                run.logs |= {f"val_{name}": value for name, value in held_out.items()}
            _each(callbacks, "on_epoch_end", run)
            run.history.add(run.logs)
            progress.end_epoch(run)
    _each(callbacks, "on_fit_end", run)
    hints.at_end(run)
    return run.history


def score(
    net: Sequential,
    x: Array,
    y: Array,
    loss: Loss,
    metrics: dict[str, Metric],
    threads: int | None,
    weights: Weights | None,
    by_row: bool = False,
) -> dict[str, Any]:
    """Loss (of each row: `by_row`) and metrics of the network's predictions, nothing being
    trained.
    """
    out = net.executor.predict(x, threads)
    value = (loss.row_values if by_row else loss.value)(out, y, weights=weights)
    return {"loss": value} | {name: f(y, out) for name, f in metrics.items()}


class EpochLoop:
    """One pass after another over the training rows, each in the order of its number."""

    def __init__(
        self,
        net: Sequential,
        data: TrainingData,
        loss: Loss,
        optimizer: Optimizer,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        threads: int,
        epochs: int,
    ) -> None:
        self.net, self.data, self.shuffle = net, data, shuffle
        self.loss, self.threads = loss, threads
        self.batch_size = min(batch_size, len(data.rows))
        self.n = len(data.rows) - (len(data.rows) % self.batch_size if drop_last else 0)
        self.order = data.rows
        self.visited = 0  # rows of the present pass
        net.executor.context.check_rows(self.n, self.batch_size)
        net.executor.reserve_batches(self.batch_size, threads)
        net.use_optimizer(optimizer)
        if epochs > 0:
            warn_of_schedule(net, optimizer, -(-self.n // self.batch_size))
        # A pass that was interrupted goes on where it stopped, if this one has the same batches.
        if net.executor.context.position and net.interrupted_batches != self.batches():
            net.executor.context.position = 0

    def leave(self, error: BaseException | None) -> None:
        """At the end, or after an error: whatever broke a pass off, it can go on later, unless it
        has diverged.
        """
        context = self.net.executor.context
        if isinstance(error, DivergenceError):
            context.position = 0
        self.net.interrupted_batches = self.batches() if context.position else None

    def batches(self) -> tuple[int, int, bool, int]:
        """What tells the batches of a pass from others: how they are cut, and a checksum of a
        thousand rows.
        """
        rows = self.data.rows[:: max(1, len(self.data.rows) // 1000)]
        checksum = zlib.crc32(self.data.y[rows].tobytes(), zlib.crc32(self.data.X[rows].tobytes()))
        return self.n, self.batch_size, bool(self.shuffle), checksum

    def run_epoch(self, run: Run, outputs: Array | None, progress: Progress) -> float:
        """All mini-batches of the next epoch; returns the loss of its rows."""
        context, optimizer = self.net.executor.context, run.optimizer
        assert isinstance(optimizer, Optimizer)
        self.net.pass_under_way = self  # what is saved from now on says in which pass
        self.net.use_optimizer(optimizer)  # a callback may have taken steps with another
        self.order = self.data.rows
        if self.shuffle:
            self.order = self.data.rows.copy()
            _core.shuffle(self.order, self.net.seed, context.epoch)
        self.order = self.order[: self.n]
        first, loss_sum, counted = context.position, 0.0, 0
        self.visited = 0
        before = context.t
        rates = self.net.executor.rates(optimizer, -(-(self.n - first) // self.batch_size))
        train = self._train_in_python if isinstance(self.loss, CustomLoss) else self._train
        while first + self.visited < self.n:
            rest = None if rates is None else rates[context.t - before :]
            loss_sum, rows, finite = train(optimizer, rest, outputs, loss_sum)
            at = first + self.visited
            counted += self.loss.counted(self.data.y, self.order[at : at + rows])
            self.visited += rows
            if not finite:
                lr = optimizer.lr_at(context.t - context.schedule_start)
                raise divergence(run.epoch, context.updates + 1, lr, run.history)
            progress.advance(rows, self.loss.reduce(loss_sum, counted))
        self.order = self.order[first:]
        return self.loss.reduce(loss_sum, counted)

    def _train(
        self, optimizer: Optimizer, rates: Array | None, outputs: Array | None, loss_sum: float
    ) -> tuple[float, int, bool]:
        """In C: loss_sum and the losses of some mini-batches, their rows, whether all is finite."""
        return self.net.executor.context.train(
            self.data.X,
            self.data.y,
            self.order,
            self.batch_size,
            self.loss.index,
            _core.OPTIMIZERS[optimizer.kernel]["index"],
            optimizer.settings,
            outputs,
            self.threads,
            SLICE_SECONDS,
            rates=rates,
            loss_settings=self.loss.settings,
            weights=self.data.weights,
            loss_sum=loss_sum,
            again=self.visited > 0,
        )

    def _train_in_python(
        self, optimizer: Optimizer, rates: Array | None, outputs: Array | None, loss_sum: float
    ) -> tuple[float, int, bool]:
        """One mini-batch with a loss that is a Python function; returns the same."""
        assert isinstance(self.loss, CustomLoss)
        executor, data = self.net.executor, self.data
        first = executor.context.position
        rows = self.order[first : first + self.batch_size]
        total, out, finite = take_step(
            executor,
            self.loss,
            data.X[rows],
            data.y[rows],
            weights_at(data.weights, rows),
            optimizer,
            self.threads,
            None if rates is None else rates[:1],
            len(rows),
            self.n,
        )
        if outputs is not None:
            outputs[rows] = out
        return loss_sum + total, len(rows), finite


def divergence(epoch: int, step: int, lr: float, history: History | None = None) -> DivergenceError:
    """The error for a loss or an update that is not finite."""
    return DivergenceError(
        f"the loss or the update is no longer finite in epoch {epoch} (step {step}); lower the "
        f"learning rate (lr={lr:g} now) or scale the inputs; the network keeps finite weights",
        epoch,
        step,
        history,
    )


def check_weights(params: Array) -> None:
    """ValueError where training would begin with weights that are not finite."""
    if _core.first_nonfinite(params) >= 0:
        raise ValueError("the weights of this network hold NaN or infinity; make a new network")


def check_callbacks(callbacks: Sequence[Callback]) -> list[Callback]:
    """Them as a list; TypeError unless every one is a Callback."""
    listed = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    if not (isinstance(callbacks, Iterable) and all(isinstance(c, Callback) for c in listed)):
        raise TypeError(
            "callbacks must be a list of Callback objects, [EarlyStopping()] for instance"
        )
    return listed


@contextmanager
def _told(
    callbacks: list[Callback], run: Run, epoch_loop: EpochLoop | FullBatchLoop
) -> Iterator[None]:
    """Tell the loop where an error ends it, and the callbacks where that is a divergence."""
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
