"""Callbacks of `fit`, early stopping among them."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.plan import leaves_of
from ..ground.arrays import Array
from ..ground.checks import check_count, check_number
from ..layers import Linear
from ..network.network import Network
from ..optimizers import Optimizer
from ..schedules import Schedule
from .run import Run


class Callback:
    """Base of the callbacks of `fit`: override the methods that you need.

    Each method takes `run`, with these attributes and methods:

    net: the network.
    epoch: the number of the epoch, from 1.
    logs: the loss and the metrics of the epoch, a dict.
    history: the History so far.
    optimizer: the optimizer of this fit.
    stop(reason): ends training after this epoch.
    use_optimizer(optimizer): goes on with another learning rate, for example.
    """

    def on_fit_begin(self, run: Run) -> None:
        """Called before the first epoch."""

    def on_epoch_end(self, run: Run) -> None:
        """Called after each epoch.

        run.logs holds its loss and metrics. Entries added there join the history.
        """

    def on_fit_end(self, run: Run) -> None:
        """Called after the last epoch, also after an early stop; not after an error or Ctrl-C."""

    def on_divergence(self, run: Run) -> None:
        """Called before fit raises DivergenceError."""


_MODES = {"loss": "min", "mae": "min", "rmse": "min", "accuracy": "max", "r2": "max"}


class _Monitor(Callback):
    """Base of the callbacks that watch one logged quantity for a better value."""

    def __init__(
        self, monitor: str, patience: int, min_delta: float, mode: str, rtol: float = 0.0
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'mode must be "auto", "min" or "max", not {mode!r}')
        if not isinstance(monitor, str):
            raise TypeError(f'monitor must be a name, "val_loss" for instance, not {monitor!r}')
        if mode == "auto":
            quantity = monitor.removeprefix("val_")
            if quantity not in _MODES:
                raise ValueError(
                    f"whether less or more of {monitor!r} is better is not known; pass "
                    'mode="min" or mode="max"'
                )
            mode = _MODES[quantity]
        self.monitor, self.mode = monitor, mode
        self.patience = check_count(patience, "patience", 0)
        self.min_delta = check_number(min_delta, "min_delta")
        self.rtol = check_number(rtol, "rtol", below=1)
        self.best = math.nan

    def on_fit_begin(self, run: Run) -> None:
        """Start afresh."""
        self.best = math.nan

    def check_monitor(self, run: Run, logged: Iterable[str]) -> None:
        """Raise ValueError if the monitored quantity is not among the logged ones."""
        if self.monitor in logged:
            return
        if self.monitor.startswith("val_") and not run.has_validation:
            raise ValueError(
                f"{type(self).__name__} monitors {self.monitor!r}, but fit has no validation data; "
                "pass validation_data=(Xv, yv) or validation_split=0.1"
            )
        raise ValueError(
            f"{type(self).__name__} monitors {self.monitor!r}, which is not logged; logged are "
            f"{', '.join(logged)}; metrics=[...] adds others"
        )

    def _improves(self, run: Run) -> bool:
        """Whether this epoch's value is better than the best so far; it then becomes the best."""
        self.check_monitor(run, run.logs)
        value = run.logs[self.monitor]
        gain = self.best - value if self.mode == "min" else value - self.best
        better = not math.isnan(value) if math.isnan(self.best) else gain > self._least_gain()
        if better:
            self.best = value
        return better

    def _least_gain(self) -> float:
        return self.min_delta + self.rtol * abs(self.best)


class EarlyStopping(_Monitor):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    The lecture's slide. If the optimizer averages weights, the averaged ones are scored and
    restored.

    monitor: any logged name ("val_loss", "val_accuracy", "loss", ...).
    patience: epochs without improvement, an integer >= 0; 0 means 1.
    min_delta: the least improvement that counts, >= 0.
    mode: "min", "max" or "auto". "auto" maximizes accuracy and r2 and minimizes loss, mae and rmse;
        for any other quantity it is a ValueError.
    restore_best: whether the weights of the best epoch come back at the end of fit.

    Attributes after fit:
    best: the best value.
    best_epoch: its epoch, from 1.
    stopped_epoch: the epoch after which it stopped training, or None if it did not.

    Raises ValueError and TypeError for settings outside their range. fit raises ValueError if the
    quantity is not logged.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, patience, min_delta, mode)
        self.restore_best = restore_best
        self.best_epoch = 0
        self.stopped_epoch: int | None = None
        self._best_params: Any = None
        self._best_stats: Any = None

    def on_fit_begin(self, run: Run) -> None:
        """Start afresh."""
        super().on_fit_begin(run)
        self.best_epoch, self.stopped_epoch, self._best_params = 0, None, None

    def on_epoch_end(self, run: Run) -> None:
        """Keep the best weights; stop when patience is used up."""
        if self._improves(run):
            self.best_epoch = run.epoch
            if self.restore_best:
                self._best_params, self._best_stats = run.net._scored_weights()
        elif run.epoch - self.best_epoch >= self.patience:
            self.stopped_epoch = run.epoch
            run.stop(
                f"{self.monitor} has not improved for {self.patience} epochs; "
                f"best {self.best * run.unit_of(self.monitor):.6g} in epoch {self.best_epoch}"
            )

    def on_fit_end(self, run: Run) -> None:
        """Bring back the best weights."""
        self.restore(run.net)

    def on_divergence(self, run: Run) -> None:
        """Bring back the best weights."""
        self.restore(run.net)

    def restore(self, net: Network) -> bool:
        """Give the network the best weights; False if there are none.

        This happens by itself at the end of fit and when fit diverges. After Ctrl-C, which keeps
        the latest weights to go on from, it is up to you.
        """
        best, stats = self._best_params, self._best_stats
        self._best_params = self._best_stats = None
        if best is not None:
            net.load_params(best, stats)
        return best is not None


class ReduceOnPlateau(_Monitor):
    """Multiply the learning rate by `factor` when `monitor` has stopped improving.

    optax's reduce_on_plateau; PyTorch's ReduceLROnPlateau with a patience that is smaller by 1.

    monitor: any logged name.
    factor: the factor of the rate, between 0 and 1.
    patience: epochs without an improvement by more than rtol |best| + min_delta, an integer >= 0. 0
        means 1, which is PyTorch's 0.
    min_delta: the absolute part of the least improvement, >= 0.
    mode: as in `EarlyStopping`.
    cooldown: epochs after a change before waiting begins again, >= 0.
    min_lr: the least rate, >= 0.
    rtol: the relative part of the least improvement, in [0, 1).

    The rate of every epoch is logged as "lr". The network's optimizer is replaced by one with the
    new rate. The next fit without `optimizer=` goes on with it, and so does a loaded network. The
    watched values are not part of the network: every fit starts to wait afresh.

    Raises ValueError and TypeError for settings outside their range. fit raises ValueError if the
    optimizer follows no lr, or its lr is a schedule.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        cooldown: int = 0,
        min_lr: float = 0.0,
        rtol: float = 1e-4,
    ) -> None:
        super().__init__(monitor, patience, min_delta, mode, rtol)
        self.factor = check_number(factor, "factor", positive=True, below=1)
        self.cooldown = check_count(cooldown, "cooldown", 0)
        self.min_lr = check_number(min_lr, "min_lr")
        self._waited = self._cooling = 0

    def on_fit_begin(self, run: Run) -> None:
        """Start afresh; ValueError if the learning rate follows a schedule."""
        super().on_fit_begin(run)
        if not (isinstance(run.optimizer, Optimizer) and run.optimizer.follows_lr):
            raise ValueError(
                f"ReduceOnPlateau lowers a learning rate, and {run.optimizer!r} follows none; "
                "leave one of the two out"
            )
        if isinstance(run.optimizer.lr, Schedule):
            raise ValueError(
                f"ReduceOnPlateau needs a number for lr, not {run.optimizer.lr!r}; leave one of "
                "the two out"
            )
        self._waited = self._cooling = 0

    def on_epoch_end(self, run: Run) -> None:
        """Log the rate, and lower it when patience is used up."""
        assert isinstance(run.optimizer, Optimizer)
        better, lr = self._improves(run), run.optimizer.lr_at(0)
        run.logs["lr"] = lr
        self._waited = 0 if better or self._cooling else self._waited + 1
        self._cooling = max(self._cooling - 1, 0)
        if self._waited >= max(self.patience, 1):
            self._waited, self._cooling = 0, self.cooldown
            lowered = max(lr * self.factor, self.min_lr)
            if lowered < lr:
                run.use_optimizer(dataclasses.replace(run.optimizer, lr=lowered))


class GradientNorms(Callback):
    """Record, after each epoch, the norm of the gradient by the weight of every Linear.

    If it shrinks from the last layer to the first, the gradient vanishes (the lecture, "Vanishing
    gradient"). The gradient is that of the last mini-batch of the epoch, as `net.grads` holds it.
    With batch_size=len(X) an epoch is one step, and the norms are those of the whole cost.

    Attribute after fit:
    norms: (epochs, n_linear), from the first layer to the last. `fastmlp.plot.gradient_norms` draws
        it.

    A further fit begins afresh.
    """

    def __init__(self) -> None:
        self._norms: list[list[float]] = []

    @property
    def norms(self) -> NDArray[np.float64]:
        """(epochs, n_linear): |dJ/dW| of each Linear; (0, 0) before the first epoch."""
        return np.array(self._norms, np.float64).reshape(len(self._norms), -1 if self._norms else 0)

    def on_fit_begin(self, run: Run) -> None:
        """Start afresh."""
        self._norms = []

    def on_epoch_end(self, run: Run) -> None:
        """Add a row of norms."""
        linear = [leaf for leaf in leaves_of(run.net.layers) if isinstance(leaf, Linear)]
        self._norms.append([_norm(layer.weight_grad) for layer in linear])


def check_monitors(callbacks: Sequence[Callback], run: Run) -> None:
    """Raise ValueError if a callback monitors a quantity that is not logged before it.

    What a callback of the user's own logs is known only after the first epoch.
    """
    logged = list(run.logged)
    for callback in callbacks:
        if type(callback).on_epoch_end.__module__ != __name__:
            return
        if isinstance(callback, _Monitor):
            callback.check_monitor(run, logged)
        if isinstance(callback, ReduceOnPlateau):
            logged.append("lr")


def _norm(x: Array) -> float:
    """Return the norm in float64, because squares of small float32 gradients underflow."""
    return float(np.linalg.norm(x.astype(np.float64)))


def check_callbacks(callbacks: Sequence[Callback]) -> list[Callback]:
    """Return the callbacks as a list; TypeError unless every one is a Callback."""
    listed = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    if not (isinstance(callbacks, Iterable) and all(isinstance(c, Callback) for c in listed)):
        raise TypeError(
            "callbacks must be a list of Callback objects, [EarlyStopping()] for instance"
        )
    return listed
