"""Sequential: a network of layers, one after another, and everything a user does with it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, checkpoint, folding, training
from .callbacks import Callback
from .config import resolve_threads
from .data import Array, as_matrix, as_row, as_target, check_finite
from .executor import SLICE_SECONDS, Executor
from .layers import Home, Layer, Linear, check_dtype, check_seed, check_width, initial_values
from .layout import aligned_zeros, plan
from .losses import check_loss, probabilities
from .metrics import Metric, default_metrics, get_metrics
from .norms import Standardize
from .optimizers import Adam, Optimizer, get_optimizer
from .training import History, TrainingData


class Sequential:
    """A multi-layer perceptron: `layers` one after another.

    seed fixes the weights, the order of the rows and the dropout masks. dtype: "float32" or
    "float64". The input width comes from the first Linear, from `n_in`, or from the first data.

    Attributes: `layers`; `params` and `grads`, flat arrays of all weights, then all biases, scales
    and shifts; `stats`, statistics of BatchNorm and Standardize, which are not trained;
    `averaged_params`, where the optimizer keeps averages; `history` of the last fit; `epoch` (whole
    passes so far); `step` (updates so far); `metadata` of a loaded file.
    """

    _fuse = True  # tests compare with the same network unfused

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        seed: int = 0,
        dtype: DTypeLike = "float32",
        n_in: int | None = None,
    ) -> None:
        if isinstance(layers, Layer) or not all(isinstance(layer, Layer) for layer in layers):
            raise TypeError("layers must be a list of layers: [Linear(4, 8), ReLU(), Linear(8, 3)]")
        leaves = [leaf for layer in layers for leaf in layer.leaves()]
        if len({id(leaf) for leaf in leaves}) < len(leaves):
            raise ValueError("a layer appears twice; make a new one for each place")
        self.layers = list(layers)
        self.seed, self.dtype = check_seed(seed), check_dtype(dtype)
        self.history: History | None = None
        self.metadata: dict[str, Any] = {}
        self.loss: str | None = None
        self.optimizer: Optimizer | None = None
        self.metrics: Sequence[str | Metric] | None = None
        self.interrupted_batches: tuple[int, int] | None = None
        self.state: tuple[Array, ...] | None = None
        self.average: Array | None = None
        self._shows_average = False
        self._executor: Executor | None = None
        first = leaves[0] if leaves else None
        self.standardize = first if isinstance(first, Standardize) else None
        width = layers[0].n_in if n_in is None else check_width(n_in, "n_in")
        if width is None and not any(isinstance(leaf, Linear) for leaf in leaves):
            raise ValueError("the input width is not known; pass n_in=")
        if width is not None:
            self._executor = self._build(width)

    # ---- what it is ------------------------------------------------------------------------------

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return f"Sequential([{inside}], seed={self.seed}, dtype={self.dtype.name!r})"

    @property
    def executor(self) -> Executor:
        """What runs this network; ValueError while the input width is not known."""
        if self._executor is None:
            raise ValueError(
                "the input width is not known yet; use Linear(n_in, n_out) for the first layer, "
                "Sequential(..., n_in=...), or fit or forward first"
            )
        return self._executor

    @property
    def n_in(self) -> int:
        """Features of the input."""
        return self.executor.layout.n_in

    @property
    def n_out(self) -> int:
        """Outputs of the last layer."""
        return self.executor.layout.n_out

    @property
    def n_params(self) -> int:
        """Number of weights, biases, scales and shifts."""
        return self.executor.layout.n_params

    @property
    def params(self) -> Array:
        """All weights, then all biases, scales and shifts, flat; writing changes the network."""
        return self.executor.context.params

    @property
    def grads(self) -> Array:
        """Gradients in the layout of params, as the last `backward` left them."""
        return self.executor.context.grads

    @property
    def stats(self) -> Array:
        """Statistics that are not trained, flat: running ones of BatchNorm, those of
        Standardize.
        """
        return self.executor.context.stats

    @property
    def epoch(self) -> int:
        """Whole passes over the data so far."""
        return self.executor.context.epoch

    @property
    def step(self) -> int:
        """Optimizer updates so far."""
        return self.executor.context.updates

    def _build(self, n_in: int) -> Executor:
        """Plan, allocate, draw the weights, and let the layers look into the flat arrays."""
        layout = plan(self.layers, n_in, self.dtype, self._fuse)
        params, grads = (_zeros(layout.n_params, self.dtype) for _ in range(2))
        stats = _zeros(layout.n_stats, self.dtype)
        executor = Executor(layout, params, grads, self.dtype, self.seed, stats)
        unfused = plan(self.layers, n_in, self.dtype, fuse=False)  # for layers run one by one
        leaves = [leaf for layer in self.layers for leaf in layer.leaves()]
        values = initial_values(leaves, unfused, self.seed)
        home = Home(unfused, 0, params, grads, self.dtype, self.seed, True, stats)
        for layer in self.layers:
            layer.attach(home)
            home = home.at(home.op + len(layer.leaves()))
        for leaf, initial in zip(leaves, values, strict=True):
            for name, array in leaf.arrays().items():
                array[...] = initial[name]
        return executor

    # ---- train -----------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | None = None,
        optimizer: str | Optimizer | None = None,
        batch_size: int = 128,
        epochs: int = 20,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        validation_split: float = 0.0,
        metrics: Sequence[str | Metric] = (),
        callbacks: Sequence[Callback] = (),
        shuffle: bool = True,
        drop_last: bool = False,
        threads: int | None = None,
        verbose: int = 0,
    ) -> History:
        """Train on X (rows, n_in) and y for `epochs` passes in mini-batches; goes on from where it
        stands.

        loss: "cross_entropy" (y: integer labels), "binary_cross_entropy" (y in [0, 1]: (rows,
        n_out)) or "squared_error". Left out: that of the last call, else cross_entropy for integer
        labels, squared_error for floats. optimizer: Adam(...), SGD(...), a name; left out: that of
        the last call, else Adam(). Its moments carry over from call to call while its kind stays
        the same. metrics ("accuracy", "mae", "rmse", "r2" or functions f(y, out)) are taken on the
        training pass as it runs, dropout included, and on the validation data, which are
        `validation_data` or a random share `validation_split` of the rows, and which the averaged
        weights are scored on where the optimizer keeps such. verbose: 0 silent, 1 a bar, 2 a line
        an epoch.

        X of the network's dtype and C-contiguous is used in place, also as np.memmap; all else is
        converted once. Returns a History. Raises ValueError and TypeError for bad input before any
        work, DivergenceError when the loss is no longer finite; Ctrl-C leaves whole steps, and the
        next fit with the same batches goes on in the middle of the pass.
        """
        self._see(X, learns=True)
        with self.executor.turns.changing:
            chosen, chosen_optimizer = self._choose_loss(loss, y), self._choose_optimizer(optimizer)
            data = TrainingData(self, X, y, chosen, validation_data, validation_split)
            training.check_weights(self.params)
            self.loss = chosen
            history = training.fit(
                self,
                data,
                chosen,
                chosen_optimizer,
                batch_size=batch_size,
                epochs=epochs,
                metrics=metrics,
                callbacks=callbacks,
                shuffle=shuffle,
                drop_last=drop_last,
                threads=threads,
                verbose=verbose,
            )
        self.metrics = tuple(metrics) or None
        return history

    def train_step(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | None = None,
        optimizer: str | Optimizer | None = None,
        threads: int | None = None,
    ) -> float:
        """One mini-batch: forward, loss, backward, update. Returns the loss before the update.

        loss and optimizer as in `fit`. Raises DivergenceError, with the weights as they were, where
        the loss is not finite.
        """
        self._see(x)
        chosen, chosen_optimizer = self._choose_loss(loss, y), self._choose_optimizer(optimizer)
        matrix = as_matrix(x, self.dtype, self.n_in, "x")
        check_finite(matrix, "x")
        target = as_target(y, chosen, len(matrix), self.n_out, self.dtype)
        with self.executor.turns.changing:
            return self._train_step(
                matrix, target, chosen, chosen_optimizer, resolve_threads(threads)
            )

    def _train_step(
        self, matrix: Array, target: Array, chosen: str, optimizer: Optimizer, threads: int
    ) -> float:
        executor, self.loss = self.executor, chosen
        executor.reserve(len(matrix))
        self.use_optimizer(optimizer)
        loss_sum, _, finite = executor.context.train(
            matrix,
            target,
            None,
            len(matrix),
            _core.LOSSES[chosen]["index"],
            _core.OPTIMIZERS[optimizer.name]["index"],
            optimizer.settings(),
            None,
            threads,
            SLICE_SECONDS,
            apart=True,
            rates=executor.rates(optimizer, 1),
        )
        if not finite:
            raise training.divergence(self.epoch + 1, self.step + 1, self._lr(optimizer))
        return float(loss_sum / len(matrix))

    def forward(self, x: ArrayLike, training: bool = False, threads: int | None = None) -> Array:
        """Raw output (rows, n_out) for x (rows, n_in); remembers what `backward` needs."""
        self._see(x)
        return self.executor.forward(as_matrix(x, self.dtype, self.n_in, "x"), training, threads)

    def backward(self, dz: ArrayLike, threads: int | None = None) -> Array:
        """Fill `grads` for the gradient dz (rows, n_out) by the last forward's output; returns dx.

        Raises RuntimeError without a forward pass before, ValueError for another shape.
        """
        return self.executor.backward(as_matrix(dz, self.dtype, None, "dz"), threads)

    def update(self, optimizer: str | Optimizer, threads: int | None = None) -> None:
        """One step of the optimizer along `grads`; raises DivergenceError where a weight would not
        be finite.
        """
        chosen = self._choose_optimizer(optimizer)
        self.use_optimizer(chosen)
        if not self.executor.update(chosen, threads):
            raise training.divergence(self.epoch + 1, self.step, self._lr(chosen))

    def _lr(self, optimizer: Optimizer) -> float:
        context = self.executor.context
        return optimizer.lr_at(context.t - context.schedule_start)

    def use_optimizer(self, optimizer: Optimizer) -> None:
        """Make sure of state for this optimizer: what there is, or zeros after a change of kind.

        Another `lr` begins its schedule at step 0, another `weight_average` begins anew. Raises
        RuntimeError inside `averaged`.
        """
        if self._shows_average:
            raise RuntimeError(
                "training inside `with net.averaged()` would be lost at its end; train after it"
            )
        before, context = self.optimizer, self.executor.context
        if optimizer is before and self.state is not None:
            return
        same_kind = before is not None and before.name == optimizer.name
        if self.state is None or before is None or not same_kind:
            n = _core.OPTIMIZERS[optimizer.name]["n_states"]
            state = tuple(_zeros(self.n_params, self.dtype) for _ in range(n))
            average = self._new_average(optimizer)
        else:
            state, average = self.state, self.average
            if before.weight_average != optimizer.weight_average:
                average = self._new_average(optimizer)
        context.set_state(state, average)
        if state is not self.state:
            context.t, context.running = 0, (0.0, 0.0)
        if average is not self.average:
            context.n_averaged = 0
        if before is None or not same_kind or before.lr != optimizer.lr:
            context.schedule_start = context.t
        self.state, self.average, self.optimizer = state, average, optimizer

    def _new_average(self, optimizer: Optimizer) -> Array | None:
        if optimizer.weight_average is None:
            return None
        average = _zeros(self.n_params, self.dtype)
        average[:] = self.params
        return average

    # ---- averaged weights ------------------------------------------------------------------------

    @property
    def keeps_average(self) -> bool:
        """Whether there are averaged weights: the optimizer has a weight_average or averages by
        itself.
        """
        return self.optimizer is not None and self.optimizer.keeps_average

    @property
    def averaged_params(self) -> Array:
        """A copy of the averaged weights, in the layout of params; ValueError where none are
        kept.
        """
        if self.optimizer is None or self.state is None or not self.optimizer.keeps_average:
            raise ValueError(
                "no averaged weights are kept; train with Adam(weight_average=EMA(0.999)), for "
                "instance"
            )
        if self.average is not None:
            return self.average.copy()
        if self.executor.context.t == 0:
            return self.params.copy()
        return self.optimizer.average_of(self.params, self.state)

    @contextmanager
    def averaged(self) -> Iterator["Sequential"]:
        """Inside, the network has its averaged weights: to predict, evaluate, save or copy.

            with net.averaged():
                net.evaluate(X_test, y_test)

        At the end the weights that training goes on with come back, so training inside raises
        RuntimeError. To keep the averaged weights: net.set_params(net.averaged_params). Raises
        ValueError where none are kept.
        """
        with self.executor.turns.changing:
            if self._shows_average:
                raise RuntimeError("the network has its averaged weights already")
            averaged, places = self.averaged_params, self._weights()
            kept = [place.copy() for place in places]
            try:
                self._shows_average = True
                self.set_params(averaged)
                yield self
            finally:
                for place, values in zip(places, kept, strict=True):
                    place[:] = values
                self._shows_average = False

    def set_params(self, params: ArrayLike) -> None:
        """Replace all weights and biases by a flat array in the layout of `params`, and their
        average as well where one is kept.

        Raises ValueError for another size.
        """
        values = np.asarray(params, self.dtype)
        if values.shape != self.params.shape:
            raise ValueError(
                f"params has the shape {values.shape}, but this network has {self.n_params} "
                f"parameters; give an array of the shape ({self.n_params},)"
            )
        for place in self._weights():
            place[:] = values

    def _weights(self) -> list[Array]:
        """The flat arrays that hold weights, rather than gradients or moments."""
        average = () if self.average is None else (self.average,)
        own: tuple[Array, ...] = ()
        if self.optimizer is not None and self.state is not None:
            own = self.optimizer.weights_in(self.state)
        return [self.params, *average, *own]

    # ---- use -------------------------------------------------------------------------------------

    def predict(self, X: ArrayLike, threads: int | None = None) -> Array:
        """Raw output of the last layer (rows, n_out) for X (rows, n_in): logits or predictions."""
        self._see(X)
        matrix = as_matrix(X, self.dtype, self.n_in)
        check_finite(matrix, "X")
        return self.executor.predict(matrix, threads)

    def predict_row(self, x: ArrayLike, out: Array | None = None) -> Array:
        """Raw output (n_out,) for one row x (n_in,), for control loops: microseconds a call.

        On one thread, with the bits that `predict` gives that row (not through a BLAS). out: an
        array (n_out,) of the network's dtype to write to; left out, a new one. Returns it. Raises
        ValueError and TypeError for other shapes and types, ValueError for NaN and infinity.
        """
        executor = self.executor
        if self.standardize is not None:
            self.standardize.check_adapted()
        row = as_row(x, self.dtype, executor.program.n_in)
        if out is None:
            out = np.empty(executor.program.n_out, self.dtype)
        elif not isinstance(out, np.ndarray):
            raise TypeError(f"out must be an array of {self.n_out} {self.dtype} numbers")
        if not executor.predict_row(row, out):
            check_finite(row, "x")
        return out

    def predict_proba(self, X: ArrayLike, threads: int | None = None) -> Array:
        """Probabilities (rows, n_out): softmax or sigmoid of `predict`, by the loss of the last
        training.
        """
        if self.loss is None:
            raise ValueError(
                "predict_proba goes by the loss, and this network has not been trained yet"
            )
        probabilities(self.loss, np.zeros((1, 1)))  # refuses losses on values before the work
        return probabilities(self.loss, self.predict(X, threads))

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | None = None,
        metrics: Sequence[str | Metric] | None = None,
        threads: int | None = None,
    ) -> dict[str, float]:
        """{"loss": ..., metric: ...} on X and y, without training.

        loss and metrics: those of the last fit where left out; else as in `fit`, and accuracy for
        classes.
        """
        self._see(X)
        chosen = self._choose_loss(loss, y)
        if metrics is None:
            same = chosen == self.loss and self.metrics is not None
            metrics = self.metrics if same and self.metrics else default_metrics(chosen)
        functions = get_metrics(metrics, chosen)
        x, target = training.checked_pair(self, X, y, chosen, "X", "y")
        return training.score(self, x, target, chosen, functions, threads)

    # ---- keep ------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], metadata: dict[str, Any] | None = None) -> None:
        """Write everything to one safetensors file, so that a loaded network goes on with the same
        bits.

        metadata: anything JSON can hold. The write is crash-safe: `path` holds the old file or the
        new one. Raises OSError where it cannot be written, TypeError for metadata that is not JSON.
        """
        checkpoint.save(self, path, self.metadata if metadata is None else metadata)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Sequential":
        """The network in a file that `save` wrote; raises CheckpointError for a damaged or foreign
        one.
        """
        return checkpoint.load(cls, path)

    def __reduce__(self) -> tuple[Any, ...]:
        return checkpoint.from_bytes, (type(self), checkpoint.to_bytes(self, self.metadata))

    def fold(self) -> "Sequential":
        """A network for inference: every BatchNorm is folded into the Linear next to it.

        Its outputs are those of `predict` up to rounding; it shares nothing with this one, and has
        no optimizer state. Raises ValueError where a BatchNorm has no Linear right before or behind
        it.
        """
        return folding.fold(self)

    # ---- choices that a call leaves open ---------------------------------------------------------

    def _see(self, x: ArrayLike, learns: bool = False) -> None:
        """Learn the input width from the first data; ValueError where the input's mean and std are
        missing and this call does not learn them.
        """
        if self._executor is None:
            self._executor = self._build(as_matrix(x, self.dtype, None).shape[1])
        if self.standardize is not None and not learns:
            self.standardize.check_adapted()

    def _choose_loss(self, loss: str | None, y: ArrayLike) -> str:
        if loss is not None:
            return check_loss(loss)
        if self.loss is not None:
            return self.loss
        array = np.asarray(y)
        if array.dtype.kind in "iu" and array.ndim == 1 and self.n_out > 1:
            return "cross_entropy"
        if array.dtype.kind == "f":
            return "squared_error"
        raise ValueError(
            f"the loss cannot be told from y ({array.dtype}, shape {array.shape}) and "
            f'{self.n_out} outputs; pass loss="binary_cross_entropy", for instance'
        )

    def _choose_optimizer(self, optimizer: str | Optimizer | None) -> Optimizer:
        if optimizer is None:
            return self.optimizer or Adam()
        return get_optimizer(optimizer)


def _zeros(size: int, dtype: np.dtype[Any]) -> Array:
    try:
        return aligned_zeros(size, dtype)
    except (MemoryError, ValueError):
        raise MemoryError(f"no memory for {size:,} parameters; use narrower layers") from None
