"""The numbers of a network beside its layers: flat arrays, and the state of training."""

from __future__ import annotations  # signatures that can be read

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..engine.executor import Executor
from ..engine.plan import aligned_zeros
from ..ground.arrays import Array
from ..ground.conversion import as_finite, as_numbers, assign
from ..ground.dialects import Translated
from ..ground.errors import DivergenceError, warn
from ..ground.frames import ColumnNames
from ..ground.runtime import resolve_threads
from ..optimizers import Optimizer, get_optimizer
from .batch_norm_statistics import has_batch_norm, statistics_of

# Attributes that training changes beside weights and statistics: of the network (_KEPT), and of
# its context (_COUNTERS).
_KEPT = (
    *("_loss", "metrics", "history", "_optimizer", "_state", "_average", "_average_stats"),
    *("_interrupted_batches", "_lacks_state", "_known_names"),
)
_COUNTERS = (
    *("t", "updates", "epoch", "position", "passes", "schedule_start", "n_averaged", "running"),
)


class PassUnderWay(Protocol):
    """A loop over epochs while it is inside of one."""

    def batches(self) -> tuple[int, int, bool, int]:
        """Return what identifies the mini-batches of this pass."""


class NetworkState(Translated, dialect="network"):
    """Base of Sequential: flat arrays, the optimizer with its moments, and averaged weights."""

    def __init__(self, seed: int, dtype: np.dtype[Any]) -> None:
        self._seed, self._dtype = seed, dtype
        self._turns = _core.Turns()
        self._executor: Executor | None = None
        self._optimizer: Optimizer | None = None
        self._state: tuple[Array, ...] | None = None
        self._average: Array | None = None
        self._average_stats: tuple[int, Array] | None = None  # (step, statistics after that step)
        self._shows_average = False
        self._lacks_state = False
        self._kept: tuple[tuple[Array, Array], ...] = ()  # (array, its values in a file)
        self._pass_under_way: PassUnderWay | None = None
        self._interrupted_batches: tuple[int, int, bool, int] | None = None
        self._column_names = ColumnNames()

    @property
    def seed(self) -> int:
        """The seed of the weights, of the order of the rows and of the masks of dropout."""
        return self._seed

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of all numbers, float32 or float64."""
        return self._dtype

    @property
    def _engine(self) -> Executor:
        """The executor of this network; ValueError while the input width is not known."""
        if self._executor is None:
            raise ValueError(
                "the input width is not known yet; use Linear(n_in, n_out) for the first layer, "
                "Sequential(..., n_in=...), or fit or forward first"
            )
        return self._executor

    @property
    def _known_names(self) -> list[str] | None:
        """Names of the columns that the network has learned from; None while no X had any."""
        return self._column_names.known

    @_known_names.setter
    def _known_names(self, names: list[str] | None) -> None:
        self._column_names.known = names

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the columns that the network was trained on.

        AttributeError while there are none, as in scikit-learn.
        """
        if self._known_names is None:
            raise AttributeError("feature_names_in_: no X with names of columns was trained on")
        return np.array(self._known_names, object)

    @property
    def n_params(self) -> int:
        """The number of weights, biases, scales and shifts."""
        return self._engine.layout.n_params

    @property
    def params(self) -> Array:
        """All weights, then all biases, scales and shifts, flat.

        Writing changes the network, but neither averages of the weights nor the moments.
        `load_params` changes the averages too.
        """
        return self._engine.context.params

    @params.setter
    def params(self, values: ArrayLike) -> None:
        self._write(self.params, values, "params")

    @property
    def grads(self) -> Array:
        """Gradients in the layout of params, written by the last `backward`."""
        return self._engine.context.grads

    @grads.setter
    def grads(self, values: ArrayLike) -> None:
        self._write(self.grads, values, "grads")

    @property
    def stats(self) -> Array:
        """Statistics that are not trained, flat: those of BatchNorm and Standardize."""
        return self._engine.context.stats

    @stats.setter
    def stats(self, values: ArrayLike) -> None:
        self._write(self.stats, values, "stats")

    def _write(self, place: Array, values: ArrayLike, name: str) -> None:
        """Copy values into a flat array, for a line such as `net.params -= step`."""
        with self._engine.turns.changing:
            assign(place, values, name)

    @property
    def n_epochs(self) -> int:
        """Whole passes over the data so far."""
        return self._engine.context.epoch

    epoch = n_epochs  # the older name

    @property
    def n_steps(self) -> int:
        """Optimizer updates so far."""
        return self._engine.context.updates

    step = n_steps  # the older name

    @property
    def _unfinished_batches(self) -> tuple[int, int, bool, int] | None:
        """What identifies the mini-batches of an interrupted pass; None if there is none."""
        running = self._pass_under_way
        return self._interrupted_batches if running is None else running.batches()

    @_unfinished_batches.setter
    def _unfinished_batches(self, batches: tuple[int, int, bool, int] | None) -> None:
        self._pass_under_way, self._interrupted_batches = None, batches

    # ---- contents of a file while the arrays hold something else ---------------------------------

    def _as_saved(self, array: Array) -> Array:
        """Return the values of an array for a model file.

        Inside `kept_for_files` these are the values from before it.
        """
        for place, values in self._kept:
            first = (array.ctypes.data - place.ctypes.data) // place.itemsize
            if 0 <= first < place.size:
                return values[first : first + array.size].reshape(array.shape)
        return array

    @contextmanager
    def _kept_for_files(self, *places: Array) -> Iterator[None]:
        """Inside, flat arrays hold other values for a moment, and files get the values from before.

        A signal handler may save the network during that moment.
        """
        before = self._kept
        self._kept = (*before, *((place, place.copy()) for place in places))
        try:
            yield
        finally:
            self._kept = before

    # ---- the optimizer ---------------------------------------------------------------------------

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer of the last training, with which the next goes on.

        Setting it is `use_optimizer`; None gives it up with all its state.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: str | Optimizer | None) -> None:
        if optimizer is None:
            self._drop_optimizer()
        else:
            self.use_optimizer(optimizer)

    def use_optimizer(self, optimizer: str | Optimizer) -> None:
        """Prepare the state for this optimizer: the present one, or zeros after a change of kind.

        optimizer: an Optimizer or a name.

        Another `lr` begins its schedule at step 0, another `weight_average` begins anew. Raises
        RuntimeError inside `averaged`, TypeError and ValueError for anything but an optimizer of
        mini-batches.
        """
        self._check_trainable()
        optimizer = get_optimizer(optimizer)
        if optimizer is self.optimizer and self._state is not None:
            return
        if self._lacks_state:
            self._tell_lack(optimizer)
        with self._engine.turns.changing:
            self._change_optimizer(optimizer)

    def _remember_optimizer(self, optimizer: Optimizer) -> None:
        """Keep an optimizer from a file that holds its settings without its state.

        Training goes on with these settings, and warns that the state begins anew.
        """
        self._optimizer, self._lacks_state = optimizer, True

    def _tell_lack(self, optimizer: Optimizer) -> None:
        self._lacks_state = False
        if self.optimizer is not None and optimizer.goes_on_from(self.optimizer):
            averages = ", averaged weights" if optimizer.keeps_average else ""
            warn(
                f"this network comes from a file that was saved with optimizer=False: the moments "
                f"of {optimizer!r}{averages} and its schedule begin anew, so that training does "
                "not go on with the same bits"
            )

    def _change_optimizer(self, optimizer: Optimizer) -> None:
        before, context = self.optimizer, self._engine.context
        same_kind = before is not None and optimizer.goes_on_from(before)
        if self._state is None or before is None or not same_kind:
            n = _core.OPTIMIZERS[optimizer.kernel]["n_states"]
            state = tuple(zeros(self.n_params, self.dtype) for _ in range(n))
            average = self._new_average(optimizer)
        else:
            state, average = self._state, self._average
            if before.weight_average != optimizer.weight_average:
                average = self._new_average(optimizer)
        context.set_state(state, average)
        if state is not self._state:
            context.t, context.running = 0, (0.0, 0.0)
        if average is not self._average:
            context.n_averaged = 0
        if state is not self._state or average is not self._average:
            self._average_stats = None
        if before is None or not same_kind or before.lr != optimizer.lr:
            context.schedule_start = context.t
        self._state, self._average, self._optimizer = state, average, optimizer

    def _drop_optimizer(self) -> None:
        """Give up the optimizer, its moments and averages.

        They would not follow the weights that a full-batch method finds. Raises RuntimeError inside
        `averaged`.
        """
        self._check_trainable()
        context = self._engine.context
        with self._engine.turns.changing:
            context.set_state((), None)
            context.t = context.position = context.n_averaged = 0
            context.running = (0.0, 0.0)
            self._state = self._average = self._average_stats = None
            self._optimizer = self._unfinished_batches = None
            self._lacks_state = False

    def _check_trainable(self) -> None:
        if self._shows_average:
            raise RuntimeError(
                "training inside `with net.averaged()` would be lost at its end; train after it"
            )

    def _new_average(self, optimizer: Optimizer) -> Array | None:
        if optimizer.weight_average is None:
            return None
        average = zeros(self.n_params, self.dtype)
        average[:] = self.params
        return average

    @contextmanager
    def _unchanged_before_a_step(self) -> Iterator[None]:
        """If an error comes before the first step, restore everything that a network keeps.

        A custom loss may refuse its first mini-batch, for example. A divergence restores nothing:
        training has begun by then, and its history says how it went.
        """
        context = self._engine.context
        kept = {name: getattr(self, name) for name in _KEPT}
        counters = {name: getattr(context, name) for name in _COUNTERS}
        stats = self.stats.copy()
        try:
            yield
        except DivergenceError:
            raise
        except Exception:
            if context.updates == counters["updates"]:
                context.set_state(kept["_state"] or (), kept["_average"])
                for place, values in ((self, kept), (context, counters)):
                    for name, value in values.items():
                        setattr(place, name, value)
                self.stats[:] = stats
            raise

    # ---- averaged weights ------------------------------------------------------------------------

    @property
    def keeps_average(self) -> bool:
        """Whether there are averaged weights: by a weight_average, or by the optimizer itself."""
        return self.optimizer is not None and self.optimizer.keeps_average

    @property
    def averaged_params(self) -> Array:
        """A copy of the averaged weights, in the layout of params; ValueError if none are kept."""
        if self.optimizer is None or self._state is None or not self.optimizer.keeps_average:
            raise ValueError(
                "no averaged weights are kept; train with Adam(weight_average=EMA(0.999)), for "
                "instance"
            )
        if self._average is not None:
            return self._average.copy()
        if self._engine.context.t == 0:
            return self.params.copy()
        return self.optimizer.average_of(self.params, self._state)

    @property
    def averaged_stats(self) -> Array:
        """A copy of the `stats` that belong to the averaged weights.

        Raises ValueError if BatchNorm needs them and `fit` has not computed them since the last
        step.
        """
        if not has_batch_norm(self._engine):
            return self.stats.copy()
        if self._average_stats is None or self._average_stats[0] != self.step:
            raise ValueError(
                "BatchNorm needs statistics of the averaged weights, which only whole epochs of "
                "fit compute; pass the training inputs: with net.averaged(X): ..."
            )
        return self._average_stats[1].copy()

    def _scored_weights(self) -> tuple[Array, Array]:
        """Return copies of the weights and statistics that `fit` scores, averaged ones if kept."""
        if self.keeps_average:
            return self.averaged_params, self.averaged_stats
        return self.params.copy(), self.stats.copy()

    @contextmanager
    def _averaged_unless_saved(self) -> Iterator[None]:
        """As `averaged`, for `fit`: a file that a signal handler saves gets the weights in
        training.
        """
        with self._kept_for_files(*self._weights(), self.stats), self.averaged():
            yield

    def _update_average_statistics(
        self, matrix: Array, rows: NDArray[np.int64], threads: int
    ) -> None:
        """Compute `averaged_stats` from rows of a checked matrix, if there is a BatchNorm."""
        if has_batch_norm(self._engine):
            params = self.averaged_params
            stats = statistics_of(self._engine, params, matrix, rows, threads)
            self._average_stats = self.step, stats

    def _stats_from(self, X: ArrayLike, params: Array, threads: int) -> Array:
        """Return the `stats` of these weights, with BatchNorm's computed from X (rows, n_in).

        Raises ValueError and TypeError for bad input.
        """
        self._column_names.check(X)
        matrix = as_finite(X, self.dtype, self._engine.layout.n_in)
        if not has_batch_norm(self._engine):
            return self.stats.copy()
        return statistics_of(self._engine, params, matrix, np.arange(len(matrix)), threads)

    def _set_stats(self, stats: Array, are_of_average: bool) -> None:
        self.stats[:] = stats
        if are_of_average and self.keeps_average and has_batch_norm(self._engine):
            self._average_stats = self.step, stats.copy()

    @contextmanager
    def averaged(self, X: ArrayLike | None = None) -> Iterator[Self]:
        """Inside, the network has its averaged weights: to predict, evaluate, save or copy.

            with net.averaged():
                net.evaluate(X_test, y_test)

        X: training inputs (rows, n_in), from which the statistics of BatchNorm are computed. They
            may be left out after `fit`, which computes these statistics from the training rows
            after every epoch. After steps of another kind a BatchNorm needs them.

        At the end the weights in training come back, so training inside raises RuntimeError. To
        keep the averaged weights: net.load_params(net.averaged_params, net.averaged_stats). Raises
        ValueError if none are kept, or X is missing.
        """
        with self._engine.turns.changing:
            if self._shows_average:
                raise RuntimeError("the network has its averaged weights already")
            averaged, places = self.averaged_params, [*self._weights(), self.stats]
            if X is not None:
                found = self._stats_from(X, averaged, resolve_threads(None))
                if has_batch_norm(self._engine):
                    self._average_stats = self.step, found
            stats = self.averaged_stats
            kept = [place.copy() for place in places]
            interrupt: KeyboardInterrupt | None = None
            try:
                self._shows_average = True
                self.load_params(averaged, stats)
                yield self
            finally:
                while self._shows_average:
                    try:
                        for place, values in zip(places, kept, strict=True):
                            place[:] = values
                        self._shows_average = False
                    except KeyboardInterrupt as error:  # raised again when the weights are back
                        interrupt = error
            if interrupt is not None:
                raise interrupt

    def load_params(self, params: ArrayLike, stats: ArrayLike | None = None) -> None:
        """Replace all weights and biases, and their average as well if one is kept.

        params: a flat array (n_params,) in the layout of `params`.
        stats: the statistics (n_stats,) that belong to them; None leaves those of the network.

        Raises ValueError for another size, NaN and infinity, TypeError for anything that is not
        numeric.
        """
        values = self._flat(params, self.params, "params")
        statistics = None if stats is None else self._flat(stats, self.stats, "stats")
        with self._engine.turns.changing:
            for place in self._weights():
                place[:] = values
            self._average_stats = None
            if statistics is not None:
                self._set_stats(statistics, are_of_average=True)

    set_params = load_params  # the older name, which means settings in scikit-learn

    def _flat(self, values: ArrayLike, place: Array, name: str) -> Array:
        array = as_numbers(values, name)
        if array.shape != place.shape:
            raise ValueError(
                f"{name} has the shape {array.shape}, but this network has {place.size} of them; "
                f"give an array of the shape {place.shape}"
            )
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, self.dtype)
        if (bad := _core.first_nonfinite(array)) >= 0:
            raise ValueError(
                f"{name} holds NaN, infinity or numbers too large for {self.dtype}, at {bad}"
            )
        return array

    def _weights(self) -> list[Array]:
        """Return the flat arrays that hold weights, rather than gradients or moments."""
        average = () if self._average is None else (self._average,)
        own: tuple[Array, ...] = ()
        if self.optimizer is not None and self._state is not None:
            own = self.optimizer.weights_in(self._state)
        return [self.params, *average, *own]


def zeros(size: int, dtype: np.dtype[Any]) -> Array:
    """Return a flat array of zeros; MemoryError with advice if there is no room."""
    try:
        return aligned_zeros(size, dtype)
    except (MemoryError, ValueError):
        raise MemoryError(f"no memory for {size:,} parameters; use narrower layers") from None
