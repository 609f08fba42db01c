"""Sequential: a network of layers, one after another, and everything a user does with it."""

from __future__ import annotations  # signatures that can be read

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from os import PathLike
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .analysis import derivatives, folding
from .analysis.summary import summary_of
from .engine.executor import SLICE_SECONDS
from .files import model_file
from .ground.arrays import Array
from .ground.checks import check_flag
from .ground.conversion import as_finite
from .ground.runtime import most_threads, resolve_threads
from .layers import Linear
from .losses import LOSS_CLASSES, Loss, LossFunction, get_loss
from .losses.custom import CustomLoss
from .losses.targets import as_target
from .metrics import Metric, default_metrics, get_metrics
from .network.network import Network
from .optimizers import OPTIMIZERS, Adam, Optimizer, get_optimizer
from .sample_weights import ClassWeight, Weights, as_weights
from .second_order.methods import METHODS, FullBatchMethod
from .training.callbacks import Callback
from .training.data import TrainingData, checked_pair
from .training.epochs import check_weights, divergence
from .training.fit import fit, score
from .training.run import History
from .training.step import take_step


class Sequential(Network):
    """A multi-layer perceptron: `layers` one after another.

    seed fixes the weights, the order of the rows and the dropout masks. dtype: "float32" or
    "float64". The input width comes from the first Linear, from `n_in`, or from the first data.

    Attributes: `layers`; `params` and `grads`, flat arrays of all weights, then all biases, scales
    and shifts; `stats`, statistics of BatchNorm and Standardize, which are not trained;
    `averaged_params`, where the optimizer keeps averages; `history` of the last fit; `epoch` (whole
    passes so far); `step` (updates so far); `metadata` of a loaded file.
    """

    history: History | None  # of the last fit

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """A TypeError, since it could mean two things."""
        raise TypeError(
            "a network is not called: net.predict(X) predicts, net.forward(x, training=True) is "
            "the pass that net.backward(dz) needs"
        )

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return f"Sequential([{inside}], seed={self.seed}, dtype={self.dtype.name!r})"

    def summary(self) -> str:
        """A table: one line a layer, those of a block indented, with shapes and parameters. What
        `fastmlp info` shows. Raises ValueError while the input width is not known.
        """
        return summary_of(self)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss | LossFunction | None = None,
        optimizer: str | Optimizer | FullBatchMethod | None = None,
        batch_size: int = 128,
        epochs: int = 20,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        validation_data: tuple[ArrayLike, ...] | None = None,
        validation_split: float = 0.0,
        metrics: Sequence[str | Metric] | None = None,
        callbacks: Sequence[Callback] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        threads: int | None = None,
        verbose: int = 0,
    ) -> History:
        """Train on X (rows, n_in) and y for `epochs` passes in mini-batches; goes on from where it
        stands.

        loss: "cross_entropy" (y: integer labels, or probabilities (rows, classes)),
        "binary_cross_entropy" (y in [0, 1]: (rows, n_out)), "squared_error" or another name in
        `fastmlp.losses`; an object such as Huber(delta=0.5) or Pinball((0.1, 0.5, 0.9)); or a
        function of (pred, target) that returns (values, gradient), see `CustomLoss`. Left out: that
        of the last call, else cross_entropy for integer labels, squared_error for floats.
        optimizer: Adam(...), SGD(...), a name; left
        out: that of the last call, else Adam(). Its moments carry over from call to call while its
        kind stays the same, and an equal schedule goes on where it stood (a warning tells where it
        has ended); `net.optimizer = None` before begins both anew. metrics ("accuracy", "mae",
        "rmse", "r2" or functions f(y, out)) are taken on the training pass as it runs, dropout
        included, and on the validation data, which are `validation_data` or a random share
        `validation_split` of the rows, not stratified by class (for that pass what scikit-learn's
        train_test_split(X, y, stratify=y) returns as validation_data), and which the averaged
        weights are scored on where the optimizer keeps such. verbose: 0 silent, 1 a bar in a
        terminal and a line now and then elsewhere, on standard error, 2 a line an epoch.

        sample_weight (rows,) multiplies each row's loss and gradient; the mean still divides by the
        number of rows. class_weight does so by the row's class, in training alone: "balanced",
        which makes all classes count alike and has the mean 1 over the rows, {class: weight} or an
        array (classes,). validation_data is (X, y) or (X, y, sample_weight). Metrics stay
        unweighted.

        With BFGS(), LBFGS() or LevenbergMarquardt() an epoch is one step over all rows: batch_size,
        shuffle and drop_last do not matter, "loss" and metrics are those after the step, training
        ends by itself where no step lowers the loss any more (history.stop_reason says whether that
        is a minimum, "converged", or not, "stopped"), and Ctrl-C leaves the last accepted weights.
        Such a method has to be named in every call; what another optimizer has kept (moments,
        averages) is given up.

        X of the network's dtype and C-contiguous is used in place, also as np.memmap; all else is
        converted once. The names of a frame's columns are kept, in `feature_names_in_` and in
        model files: from then on a frame with other names or another order is refused, validation
        data too, while an array is taken as it stands.

        Returns a History. Raises ValueError and TypeError for bad input before any work,
        DivergenceError when the loss or an update is no longer finite; Ctrl-C, and any other
        exception, leaves whole steps, and the next fit with the same batches goes on in the middle
        of the pass. LearningHint warns of a new network that can hardly learn as it was called.
        """
        self._see(X, y, loss, learns=True)
        self.executor.context.check_idle()
        self._check_trainable()
        with self.executor.turns.changing, self.unchanged_before_a_step():
            chosen = self._choose_loss(loss, y)
            chosen_optimizer = self._choose_method(optimizer)
            if isinstance(chosen_optimizer, FullBatchMethod):
                chosen_optimizer.check(self.layers, self.n_params, get_loss(chosen))
            data = TrainingData(
                self,
                X,
                y,
                get_loss(chosen),
                validation_data,
                validation_split,
                sample_weight,
                class_weight,
            )
            check_weights(self.params)
            return fit(
                self,
                data,
                chosen,
                chosen_optimizer,
                batch_size=batch_size,
                epochs=epochs,
                metrics=() if metrics is None else metrics,
                callbacks=() if callbacks is None else callbacks,
                shuffle=shuffle,
                drop_last=drop_last,
                threads=threads,
                verbose=verbose,
            )

    def train_step(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss | LossFunction | None = None,
        optimizer: str | Optimizer | None = None,
        sample_weight: ArrayLike | None = None,
        threads: int | None = None,
    ) -> float:
        """One mini-batch: forward, loss, backward, update. Returns the loss before the update.

        loss, optimizer and sample_weight as in `fit`. Raises DivergenceError if the loss is not
        finite: then all is as it was, and `grads` are 0 (with a loss of your own those of the step
        before). So it is after a Ctrl-C, for which a long step does not have to end. It also raises
        if the update is not finite: then it is written for those elements that stay finite, and
        does not count (see DivergenceError).
        """
        executor = self._executor
        if executor is not None:
            value = executor.quick.step(self, x, y, loss, optimizer, sample_weight, threads)
            if value is not None:
                if value != value:
                    raise self._divergence()
                return value
        return self._long_way(x, y, loss, optimizer, sample_weight, threads)

    def _long_way(
        self,
        x: ArrayLike,
        y: ArrayLike,
        loss: str | Loss | LossFunction | None,
        optimizer: str | Optimizer | None,
        sample_weight: ArrayLike | None,
        threads: int | None,
    ) -> float:
        """A step with anything that train_step takes, or the error for what it does not."""
        self._see(x, y, loss)
        self.executor.context.check_idle()
        self._check_trainable()
        chosen, chosen_optimizer = self._choose_loss(loss, y), self._choose_optimizer(optimizer)
        matrix = as_finite(x, self.dtype, self.n_in, "x")
        target = as_target(y, chosen, len(matrix), self.n_out, self.dtype)
        weights = as_weights(sample_weight, len(matrix))
        self.executor.context.check_rows(len(matrix), len(matrix))
        # C's own losses refuse nothing more, and a step of theirs takes microseconds
        careful = isinstance(chosen, CustomLoss)
        with (
            self.executor.turns.changing,
            self.unchanged_before_a_step() if careful else nullcontext(),
        ):
            self.loss = chosen
            if type(x) is not np.ndarray:
                self.column_names.learn(x)
            value = self._train_step(
                matrix,
                target,
                get_loss(chosen),
                chosen_optimizer,
                resolve_threads(threads),
                weights,
            )
            self._remember_step(chosen, chosen_optimizer, optimizer)
            return value

    def _train_step(
        self,
        matrix: Array,
        target: Array,
        loss: Loss,
        optimizer: Optimizer,
        threads: int,
        weights: Weights | None,
    ) -> float:
        executor = self.executor
        executor.reserve_batches(len(matrix), threads)
        self.use_optimizer(optimizer)
        rates = executor.rates(optimizer, 1)
        if isinstance(loss, CustomLoss):
            loss_sum, _, finite = take_step(
                executor, loss, matrix, target, weights, optimizer, threads, rates
            )
        else:
            loss_sum, _, finite = executor.context.train(
                matrix,
                target,
                None,
                len(matrix),
                loss.index,
                _core.OPTIMIZERS[optimizer.kernel]["index"],
                optimizer.settings,
                None,
                threads,
                SLICE_SECONDS,
                apart=True,
                rates=rates,
                loss_settings=loss.settings,
                weights=weights,
            )
        if not finite:
            raise self._divergence()
        return loss.reduce(loss_sum, loss.counted(target))

    def _remember_step(self, chosen: str | Loss, optimizer: Optimizer, given: Any) -> None:
        """The next step may take the quick way, unless loss or optimizer are of a class that is not
        ours: it may do more than to hold settings.
        """
        loss = get_loss(chosen)
        known = LOSS_CLASSES.get(loss.name), OPTIMIZERS.get(optimizer.name)
        if (type(loss), type(optimizer)) == known:
            name = given if isinstance(given, str) else None
            self.executor.quick.remember(
                chosen, loss, name, optimizer, most_threads(), SLICE_SECONDS
            )

    def _divergence(self) -> Exception:
        """The error for a step of the present optimizer that is not finite; that of its weights
        where they were not before.
        """
        check_weights(self.params)
        assert self.optimizer is not None
        return divergence(self.epoch + 1, self.step + 1, self._lr(self.optimizer))

    def update(self, optimizer: str | Optimizer, threads: int | None = None) -> None:
        """One step of the optimizer along `grads`; raises DivergenceError where a weight would not
        be finite.
        """
        chosen, n_threads = self._choose_optimizer(optimizer), resolve_threads(threads)
        with self.executor.turns.changing:
            self.use_optimizer(chosen)
            if not self.executor.update(chosen, n_threads):
                raise self._divergence()

    def _lr(self, optimizer: Optimizer) -> float:
        context = self.executor.context
        return optimizer.lr_at(context.t - context.schedule_start)

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss | LossFunction | None = None,
        metrics: Sequence[str | Metric] | None = None,
        sample_weight: ArrayLike | None = None,
        reduction: str | None = None,
        threads: int | None = None,
    ) -> dict[str, Any]:
        """{"loss": ..., metric: ...} on X and y, without training.

        loss and metrics: those of the last fit where left out; else as in `fit`, and accuracy for
        classes. sample_weight (rows,) enters the loss, not the metrics. reduction: that of the
        loss; "none" gives the loss of each row, an array (rows,).
        """
        if reduction not in (None, "none"):
            raise ValueError(
                f'reduction must be "none" or left out, not {reduction!r}; a sum is that of '
                'loss=CrossEntropy(reduction="sum"), for instance'
            )
        self._check_ready()
        chosen = get_loss(self._choose_loss(loss, y))
        if metrics is None:
            same = self.loss is not None and chosen == get_loss(self.loss)
            metrics = self.metrics if same and self.metrics else default_metrics(chosen)
        functions = get_metrics(metrics, chosen)
        x, target = checked_pair(self, X, y, chosen, "X", "y")
        weights = as_weights(sample_weight, len(x))
        return score(
            self, x, target, chosen, functions, threads, weights, by_row=reduction == "none"
        )

    def gradient(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss | LossFunction | None = None,
        sample_weight: ArrayLike | None = None,
        threads: int | None = None,
    ) -> tuple[float, Array]:
        """(loss, gradient): the mean loss of X (rows, n_in) and y, and its gradient (n_params,) in
        the layout of `params`, of the network at inference: without dropout, and with BatchNorm's
        running statistics, which is not the gradient that `fit` steps along there.

        loss and sample_weight as in `fit`. Summed in float64 over blocks of 4096 rows; the same
        bits for any number of threads. Overwrites `grads`. Raises ValueError and TypeError for bad
        input.
        """
        return derivatives.gradient(self, X, y, loss, sample_weight, threads)

    def jacobian(self, X: ArrayLike, *, threads: int | None = None) -> Array:
        """Derivatives (rows, n_out, n_params) of the raw outputs for X (rows, n_in) by all
        parameters, in the layout of `params`, without dropout. The lecture, "Optimisation".

        In the network's type; raises ValueError and TypeError for bad input.
        """
        return derivatives.jacobian(self, X, threads)

    def hessian_vector(
        self,
        X: ArrayLike,
        y: ArrayLike,
        v: ArrayLike,
        *,
        loss: str | Loss | LossFunction | None = None,
        sample_weight: ArrayLike | None = None,
        step: float | None = None,
        threads: int | None = None,
    ) -> Array:
        """H v (n_params,) in float64, H being the Hessian of the mean loss by the parameters,
        without dropout. loss and sample_weight as in `fit`.

        A fourth-order central difference of the gradient in float64, whatever the network's type:
        (8 (g(h) - g(-h)) - (g(2h) - g(-2h))) / (12 h), g(t) at params + t v, h = step / max |v|.
        Its error is h^4 / 30 times the fifth derivative of g along v, plus about 2e-16 |g| / h from
        rounding. step: left out, so that what comes into activations, normalizations and the loss
        moves by 7e-4 where these are smooth, and by a millionth of its size where they have a kink.
        The error is then about 1e-11 of the largest element for smooth networks and 1e-9 with
        kinks; inputs of 1e6, whose products are rounded at 1e-10, leave about 1e-7. Where a step
        crosses a kink (ReLU), H does not exist in between; rows that bring an activation so near
        to one are named by a warning. Raises ValueError and TypeError for bad input.
        """
        return derivatives.hessian_vector(self, X, y, v, loss, sample_weight, step, threads)

    def hessian(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss | LossFunction | None = None,
        sample_weight: ArrayLike | None = None,
        step: float | None = None,
        threads: int | None = None,
    ) -> Array:
        """The Hessian (n_params, n_params) of the mean loss in float64, for small networks: column
        by column as in `hessian_vector`, then made symmetric. The lecture, "Optimisation".

        Raises ValueError above 10,000 parameters, else as `hessian_vector`.
        """
        return derivatives.hessian(self, X, y, loss, sample_weight, step, threads)

    def save(
        self,
        path: str | PathLike[str],
        metadata: dict[str, Any] | None = None,
        *,
        optimizer: bool = True,
    ) -> None:
        """Write everything to one safetensors file, so that a loaded network goes on with the same
        bits: also from a signal handler or a callback in the middle of a pass, which a further
        `fit` on the same batches then finishes first.

        metadata: anything JSON can hold, up to 16 MB of text. optimizer: False leaves out what the
        optimizer keeps (moments, averaged weights, the place in its schedule), which makes the file
        of an Adam a third of the size; `fit` on the loaded network begins them anew and says so. To
        keep averaged weights alone, save inside of `with net.averaged()`.

        The write is crash-safe: `path` holds the old file or the new one. Raises OSError where it
        cannot be written, TypeError for metadata that is not JSON, ValueError, before anything is
        written, for what `load` would refuse.
        """
        optimizer = check_flag(optimizer, "optimizer")
        model_file.save(self, path, self.metadata if metadata is None else metadata, optimizer)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Sequential:
        """The network in a file that `save` wrote.

        Raises CheckpointError for a file that is damaged, foreign, no regular file, or too large
        for the memory, OSError for one that cannot be read.
        """
        return model_file.load(cls, path)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: as in a model file, with the history, the optimizer and what a subclass
        added. Metrics and losses that are functions are left out, for many cannot be pickled;
        copy.deepcopy keeps them.
        """
        extra = {"history": self.history, "metadata": self.metadata, "_optimizer": self.optimizer}
        if type(self) is not Sequential:
            own = vars(Sequential([Linear(1, 1)]))
            extra |= {name: value for name, value in vars(self).items() if name not in own}
        if self._executor is None:
            return type(self)._make, (self.layers, self.seed, self.dtype.name), extra
        content = model_file.to_bytes(self, {}, holds_schedule=False)
        return model_file.from_bytes, (type(self), content), extra

    def __deepcopy__(self, memo: dict[int, Any]) -> Sequential:
        make, arguments, extra = self.__reduce__()
        twin: Sequential = make(*copy.deepcopy(arguments, memo))
        vars(twin).update(copy.deepcopy(extra, memo))
        twin.metrics, twin.loss = self.metrics, self.loss
        return twin

    def fold(self) -> Sequential:
        """A network for inference: every BatchNorm is folded into the Linear next to it.

        Its outputs are those of `predict` up to rounding; it shares nothing with this one, and has
        no optimizer state. Raises ValueError where a BatchNorm has no Linear right before or behind
        it.
        """
        return folding.fold(self)

    def _choose_method(
        self, optimizer: str | Optimizer | FullBatchMethod | None
    ) -> Optimizer | FullBatchMethod:
        if isinstance(optimizer, FullBatchMethod):
            return optimizer
        if isinstance(optimizer, str) and optimizer in METHODS:
            return METHODS[optimizer]()
        return self._choose_optimizer(optimizer)

    def _choose_optimizer(self, optimizer: str | Optimizer | None) -> Optimizer:
        if optimizer is None:
            return self.optimizer or Adam()
        if isinstance(optimizer, type):
            name = optimizer.__name__
            raise TypeError(f"optimizer={name} is a class; pass an object, {name}()")
        if isinstance(optimizer, FullBatchMethod) or (
            isinstance(optimizer, str) and optimizer in METHODS
        ):
            raise ValueError(f"{optimizer!r} sees all rows in every step; pass it to fit")
        return get_optimizer(optimizer)
