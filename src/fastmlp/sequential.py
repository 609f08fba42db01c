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
from .ground.conversion import Weights, as_finite, as_weights
from .ground.runtime import most_threads, resolve_threads
from .layers import Linear
from .losses import LOSS_CLASSES, Loss, LossFunction, get_loss
from .losses.custom import CustomLoss
from .metrics import Metric, default_metrics, get_metrics
from .network.network import Network
from .optimizers import OPTIMIZERS, Adam, Optimizer, get_optimizer
from .sample_weights import ClassWeight
from .second_order.methods import METHODS, FullBatchMethod
from .training.callbacks import Callback
from .training.data import TrainingData, checked_pair
from .training.epochs import check_weights, divergence
from .training.fit import fit, score
from .training.run import History
from .training.step import take_step


class Sequential(Network):
    """A multi-layer perceptron: `layers` one after another.

    layers: a list of layers, [Linear(4, 8), ReLU(), Linear(8, 3)] for example.
    seed: an integer in 0 .. 2**64 - 1. It fixes the weights, the order of the rows and the dropout
        masks.
    dtype: "float32" or "float64", the type of the network's arrays.
    n_in: the number of input features. If it is left out, the first Linear gives it, or else the
        first data.

    Attributes:
    layers: the layers, a tuple.
    params, grads: flat arrays of all weights, then all biases, scales and shifts.
    stats: a flat array of statistics that are not trained, those of BatchNorm and Standardize.
    averaged_params: averaged weights, if the optimizer keeps averages.
    history: the History of the last fit.
    epoch: whole passes so far.
    step: updates so far.
    metadata: the metadata of a loaded file.

    Raises TypeError for anything in `layers` that is not a layer, ValueError for layers that do not
    fit together or belong to a network already.
    """

    history: History | None

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Raises TypeError, because a call could mean two things."""
        raise TypeError(
            "a network is not called: net.predict(X) predicts, net.forward(x, training=True) is "
            "the pass that net.backward(dz) needs"
        )

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return f"Sequential([{inside}], seed={self.seed}, dtype={self.dtype.name!r})"

    def summary(self) -> str:
        """Return a table: one line a layer, with shapes and parameters.

        The layers of a block are indented. `fastmlp info` shows the same table. Raises ValueError
        while the input width is not known.
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
        """Train on X and y for `epochs` passes in mini-batches, starting from the present state.

        X: inputs (rows, n_in). An array of the network's dtype that is C-contiguous is used in
            place, also as np.memmap; anything else is converted once. The column names of a data
            frame are kept, in `feature_names_in_` and in model files. From then on a frame with
            other names or another order is refused, also as validation data; an array is taken as
            it is.
        y: targets. cross_entropy takes integer labels (rows,) or probabilities (rows, classes),
            binary_cross_entropy takes (rows, n_out) in [0, 1], losses on values take (rows,
            columns). A single column may be (rows,).
        loss: "cross_entropy", "binary_cross_entropy", "squared_error" or another name in
            `fastmlp.losses`; an object such as Huber(delta=0.5) or Pinball((0.1, 0.5, 0.9)); or a
            function of (pred, target) that returns (values, gradient), see `CustomLoss`. If left
            out: the loss of the last call. The first call then takes cross_entropy for integer
            labels and squared_error for floats.
        optimizer: Adam(...), SGD(...), another optimizer, or a name. If left out: that of the last
            call, or Adam() in the first. Its moments carry over from call to call while its kind
            stays the same, and an equal schedule goes on from its last step. A warning says when
            the schedule has ended. `net.optimizer = None` before the call begins both anew.
        batch_size: rows of a mini-batch, an integer >= 1.
        epochs: passes over the rows, an integer >= 0.
        sample_weight: (rows,), a factor >= 0 of each row's loss and gradient. The mean still
            divides by the number of rows. Metrics stay unweighted.
        class_weight: a factor by the row's class, in training alone: {class: weight}, an array
            (classes,), or "balanced". "balanced" makes all classes count alike, and has the mean 1
            over the rows.
        validation_data: (X, y) or (X, y, sample_weight), on which the loss and the metrics are
            computed after every epoch. If the optimizer keeps averaged weights, these are the ones
            that are scored.
        validation_split: the random share of the rows, between 0 and 1, to validate on instead. It
            is not stratified by class. For a stratified share, pass the held-out part of
            scikit-learn's train_test_split(X, y, stratify=y) as validation_data.
        metrics: a list of "accuracy", "mae", "rmse", "r2" and functions f(y, out). They are
            computed on the outputs of the training pass as it runs, dropout included, and on the
            validation data. If left out: none.
        callbacks: a list of `Callback` objects, [EarlyStopping()] for example.
        shuffle: whether every pass takes the rows in a new order, drawn from the seed and the
            number of the pass.
        drop_last: whether to leave out the last mini-batch of a pass if it is short.
        threads: the number of threads. If left out: `default_threads()`.
        verbose: 0 is silent; 1 shows a bar in a terminal, and elsewhere a line now and then, on
            standard error; 2 prints a line an epoch.

        Full-batch methods: with BFGS(), LBFGS() or LevenbergMarquardt() as optimizer, an epoch is
        one step over all rows. batch_size, shuffle and drop_last do not matter. "loss" and the
        metrics are those after the step. Training ends by itself when no step lowers the loss any
        more. history.stop_reason says whether that is a minimum ("converged") or not ("stopped").
        Ctrl-C leaves the last accepted weights. Such a method has to be named in every call. The
        state of another optimizer (moments, averages) is given up.

        Returns a History. Raises ValueError and TypeError for bad input before any work,
        DivergenceError when the loss or an update is no longer finite. Ctrl-C, and any other
        exception, leaves whole steps. The next fit with the same batches then goes on in the middle
        of the pass. A LearningHint warns if a new network can hardly learn with these arguments.
        """
        self._see(X, y, loss, learns=True)
        self._engine.context.check_idle()
        self._check_trainable()
        with self._engine.turns.changing, self._unchanged_before_a_step():
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
        """Take one step on a mini-batch: forward, loss, backward, update.

        x: inputs (rows, n_in).
        y: targets, as in `fit`.
        loss, optimizer, sample_weight: as in `fit`, but without full-batch methods.
        threads: the number of threads. If left out: `default_threads()`.

        Returns the loss before the update.

        Raises DivergenceError if the loss is not finite. Then everything is as it was and `grads`
        are 0; with a loss of your own they are those of the step before. The same holds after
        Ctrl-C, which also breaks off a long step.

        Raises DivergenceError also if the update is not finite. Then the elements that stay finite
        are written, and the step does not count (see DivergenceError).
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
        """Take a step with any arguments of train_step, and raise the errors for bad ones."""
        self._see(x, y, loss)
        self._engine.context.check_idle()
        self._check_trainable()
        chosen, chosen_optimizer = self._choose_loss(loss, y), self._choose_optimizer(optimizer)
        matrix = as_finite(x, self.dtype, self.n_in, "x")
        target = get_loss(chosen).as_target(y, len(matrix), self.n_out, self.dtype)
        weights = as_weights(sample_weight, len(matrix))
        self._engine.context.check_rows(len(matrix), len(matrix))
        # Only a Python loss can fail after this point. The others skip the snapshot, which would
        # cost more than their step of a few microseconds.
        careful = isinstance(chosen, CustomLoss)
        with (
            self._engine.turns.changing,
            self._unchanged_before_a_step() if careful else nullcontext(),
        ):
            self.loss = chosen
            if type(x) is not np.ndarray:
                self._column_names.learn(x)
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
        executor = self._engine
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
        """Let the next step take the quick way, unless loss or optimizer are of a user's class.

        Such a class may do more than hold settings.
        """
        loss = get_loss(chosen)
        known = LOSS_CLASSES.get(loss.name), OPTIMIZERS.get(optimizer.name)
        if (type(loss), type(optimizer)) == known:
            name = given if isinstance(given, str) else None
            self._engine.quick.remember(
                chosen, loss, name, optimizer, most_threads(), SLICE_SECONDS
            )

    def _divergence(self) -> Exception:
        """Return the error for a step that is not finite.

        Raises ValueError if the weights were not finite before it.
        """
        check_weights(self.params)
        assert self.optimizer is not None
        return divergence(self.epoch + 1, self.step + 1, self._lr(self.optimizer))

    def update(self, optimizer: str | Optimizer, *, threads: int | None = None) -> None:
        """Take one step of the optimizer along `grads`.

        optimizer: an Optimizer or a name.
        threads: the number of threads. If left out: `default_threads()`.

        Raises DivergenceError if a weight would not be finite.
        """
        chosen, n_threads = self._choose_optimizer(optimizer), resolve_threads(threads)
        with self._engine.turns.changing:
            self.use_optimizer(chosen)
            if not self._engine.update(chosen, n_threads):
                raise self._divergence()

    def _lr(self, optimizer: Optimizer) -> float:
        context = self._engine.context
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
        """Compute {"loss": ..., metric: ...} on X and y, without training.

        X: inputs (rows, n_in).
        y: targets, as in `fit`.
        loss: as in `fit`. If left out: that of the last training.
        metrics: as in `fit`. If left out: those of the last fit if the loss is the same, or else
            accuracy for losses on classes.
        sample_weight: (rows,), which enters the loss but not the metrics.
        reduction: if left out, that of the loss; "none" gives the loss of each row, an array
            (rows,).
        threads: the number of threads. If left out: `default_threads()`.

        Raises ValueError and TypeError for bad input.
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
        """Compute (loss, gradient): the mean loss of X and y, and its gradient by all parameters.

        The network is taken as at inference: without dropout, and with BatchNorm's running
        statistics. With these layers it is not the gradient that `fit` steps along.

        X: inputs (rows, n_in).
        y: targets, as in `fit`.
        loss, sample_weight: as in `fit`.
        threads: the number of threads, which does not change the bits.

        The gradient (n_params,) has the layout of `params`. It is summed in float64 over blocks of
        4096 rows. The call overwrites `grads`. Raises ValueError and TypeError for bad input.
        """
        return derivatives.gradient(self, derivatives.Data(X, y, loss, sample_weight, threads))

    def jacobian(self, X: ArrayLike, *, threads: int | None = None) -> Array:
        """Compute the derivatives (rows, n_out, n_params) of the raw outputs by all parameters.

        X: inputs (rows, n_in).
        threads: the number of threads. If left out: `default_threads()`.

        The last axis has the layout of `params`, the numbers have the network's type, and dropout
        is off. Raises ValueError and TypeError for bad input. The lecture, "Optimization".
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
        """Compute H v (n_params,) in float64, with H the Hessian of the mean loss.

        The network is taken without dropout.

        X: inputs (rows, n_in).
        y: targets, as in `fit`.
        v: the vector (n_params,) to multiply by.
        loss, sample_weight: as in `fit`.
        step: h max |v|, how far the parameter that moves most goes at t = h. See below for the
            default.
        threads: the number of threads. If left out: `default_threads()`.

        The result is a fourth-order central difference of the gradient in float64, whatever the
        network's type: (8 (g(h) - g(-h)) - (g(2h) - g(-2h))) / (12 h), with g(t) the gradient at
        params + t v and h = step / max |v|. Its error is h^4 / 30 times the fifth derivative of g
        along v, plus about 2e-16 |g| / h from rounding.

        If `step` is left out, it is chosen by what comes into activations, normalizations and the
        loss. These inputs move by 7e-4 if the function is smooth there, and by a millionth of their
        size if it has a kink. The error is then about 1e-11 of the largest element for smooth
        networks and 1e-9 with kinks. Inputs of 1e6, whose products are rounded at 1e-10, leave
        about 1e-7.

        If a step crosses a kink (ReLU), H does not exist in between. A warning names the rows that
        bring an activation so near to one. Raises ValueError and TypeError for bad input.
        """
        return derivatives.hessian_vector(
            self, derivatives.Data(X, y, loss, sample_weight, threads), v, step
        )

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
        """Compute the Hessian (n_params, n_params) of the mean loss in float64, for small networks.

        The columns are computed one by one as in `hessian_vector`, then the matrix is made
        symmetric. The lecture, "Optimization".

        X: inputs (rows, n_in).
        y: targets, as in `fit`.
        loss, sample_weight: as in `fit`.
        step, threads: as in `hessian_vector`.

        Raises ValueError above 10,000 parameters, and what `hessian_vector` raises.
        """
        return derivatives.hessian(self, derivatives.Data(X, y, loss, sample_weight, threads), step)

    def save(
        self,
        path: str | PathLike[str],
        metadata: dict[str, Any] | None = None,
        *,
        optimizer: bool = True,
    ) -> None:
        """Write everything to one safetensors file.

        A loaded network goes on with the same bits. This works from a signal handler and from a
        callback in the middle of a pass too. A further `fit` on the same batches then finishes that
        pass first.

        path: the file to write.
        metadata: anything that JSON can hold, up to 16 MB of text. If left out: that of the
            network.
        optimizer: False leaves out the optimizer's state (moments, averaged weights, the place in
            its schedule), which makes the file of an Adam a third of the size. `fit` on the loaded
            network begins them anew, with a warning. To keep averaged weights alone, save inside of
            `with net.averaged()`.

        The write is crash-safe: `path` holds the old file or the new one. Raises OSError if the
        file cannot be written, TypeError for metadata that is not JSON. Raises ValueError, before
        anything is written, for a file that `load` would refuse.
        """
        optimizer = check_flag(optimizer, "optimizer")
        model_file.save(self, path, self.metadata if metadata is None else metadata, optimizer)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Sequential:
        """Return the network in a file that `save` wrote.

        path: the file to read.

        Raises CheckpointError for a file that is damaged, foreign, not a regular file, or too large
        for the memory. Raises OSError for one that cannot be read.
        """
        return model_file.load(cls, path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as in a model file, with history, optimizer and a subclass's attributes.

        Metrics and losses that are functions are left out, because many cannot be pickled.
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
        """Return a network for inference: every BatchNorm is folded into the Linear next to it.

        Its outputs are those of `predict` up to rounding. It shares nothing with this network, and
        has no optimizer state. Raises ValueError if a BatchNorm has no Linear right before or
        behind it.
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
