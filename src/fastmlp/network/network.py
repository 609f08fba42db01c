"""Network: layers and their numbers, forward, backward and predict.

Training and analysis import this module, never the other way round.
"""

from __future__ import annotations  # signatures that can be read

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from ..engine.executor import Executor
from ..engine.plan import leaves_of, plan, width_behind
from ..ground.arrays import Array
from ..ground.checks import check_seed
from ..ground.conversion import as_finite, as_matrix, as_numbers, as_row, check_finite
from ..ground.errors import LearningHint, warn
from ..ground.runtime import resolve_threads
from ..layers import (
    Home,
    Layer,
    check_dtype,
    check_layers,
    check_width,
    initial_values,
)
from ..layers.normalization import Standardize
from ..losses import Loss, LossFunction, get_loss
from ..losses.custom import CustomLoss
from ..losses.targets import check_missing
from ..metrics import Metric
from .state import NetworkState, zeros


class Network(NetworkState):
    """The core of a network: layers, flat arrays and the program over them."""

    _fuse = True  # set to False by tests that compare with the unfused network
    _gives_hints = True
    _draws = True  # False if the initial weights are read from a file

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        seed: int = 0,
        dtype: DTypeLike = "float32",
        n_in: int | None = None,
    ) -> None:
        layers = check_layers(layers, "[Linear(4, 8), ReLU(), Linear(8, 3)]")
        leaves = leaves_of(layers)
        self._layers = layers
        super().__init__(check_seed(seed), check_dtype(dtype))
        self.history: dict[str, list[float]] | None = None
        self.metadata: dict[str, Any] = {}
        self._loss: str | Loss | None = None
        self._seen_loss: str | Loss | None = None  # the loss at the last predict
        self._told_of_raw = False
        self.metrics: Sequence[str | Metric] | None = None
        # The layers before the first that changes the width keep it.
        changing = (leaf for leaf in leaves if type(leaf).width_out is not Layer.width_out)
        first = next(changing, layers[0])
        self._standardize = leaves[0] if leaves and isinstance(leaves[0], Standardize) else None
        if self._standardize is not None:  # `adapt` may have learned the names of the columns
            self._column_names = self._standardize.column_names
        width = first.n_in if n_in is None else check_width(n_in, "n_in")
        if width is None and width_behind(layers, None) is None:
            raise ValueError(
                "without a Linear the layers do not tell the input width; pass "
                "Sequential([...], n_in=...)"
            )
        if width is not None:
            self._executor = self._build(width)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, a tuple.

        They and their settings are fixed, because the program that C runs is made of them.
        """
        return self._layers

    @property
    def loss(self) -> str | Loss | None:
        """The loss of the last training, with which the next goes on. May be set as in `fit`."""
        return self._loss

    @loss.setter
    def loss(self, loss: str | Loss | LossFunction | None) -> None:
        if loss is not None:
            chosen = get_loss(loss)
            loss = loss if isinstance(loss, str) else chosen
        self._loss = loss

    @property
    def n_in(self) -> int:
        """The number of input features."""
        return int(self._engine.program.n_in)

    @property
    def n_out(self) -> int:
        """The number of outputs of the last layer."""
        if self._executor is None:
            width = width_behind(self.layers, None)
            assert width is not None  # because the constructor refuses layers that do not tell it
            return width
        return int(self._executor.program.n_out)

    def _build(self, n_in: int) -> Executor:
        """Plan, allocate, draw the weights, and give the layers views into the flat arrays."""
        layout = plan(self.layers, n_in, self.dtype, self._fuse)
        params, grads = (zeros(layout.n_params, self.dtype) for _ in range(2))
        stats = zeros(layout.n_stats, self.dtype)
        executor = Executor(layout, params, grads, self.dtype, self.seed, stats, self._turns)
        unfused = plan(self.layers, n_in, self.dtype, fuse=False)  # the program of layers run alone
        leaves = leaves_of(self.layers)
        values = initial_values(leaves, unfused, self.seed) if self._draws else []
        # Checks that may fail come first, so that a refused network leaves its layers unchanged.
        for leaf in leaves:
            leaf.check_is_free()
        home = Home(unfused, 0, params, grads, self.dtype, self.seed, True, stats, self._turns)
        for layer in self.layers:
            layer.attach(home)
            home = home.at(home.op + len(layer.leaves()))
        for leaf, initial in zip(leaves, values, strict=self._draws):
            for name, array in leaf.arrays().items():
                array[...] = initial[name]
        return executor

    def forward(self, x: ArrayLike, training: bool = False, *, threads: int | None = None) -> Array:
        """Compute the raw output (rows, n_out), and keep what `backward` needs.

        x: inputs (rows, n_in).
        training: whether dropout and batch statistics act as in training.
        threads: the number of threads. If left out: `default_threads()`.

        Raises ValueError and TypeError for bad input, NaN and infinity included.
        """
        self._see(x)
        return self._engine.forward(as_finite(x, self.dtype, self.n_in, "x"), training, threads)

    def backward(self, dz: ArrayLike, *, threads: int | None = None) -> Array:
        """Fill `grads`; returns dx (rows, n_in), the gradient by the input of the last forward.

        dz: the gradient (rows, n_out) by the output of the last forward.
        threads: the number of threads. If left out: `default_threads()`.

        Raises RuntimeError without a forward pass before, ValueError for another shape.
        """
        return self._engine.backward(as_matrix(dz, self.dtype, None, "dz"), threads)

    def predict(self, X: ArrayLike, *, threads: int | None = None) -> Array:
        """Compute the raw output (rows, n_out) of the last layer: logits or predictions.

        `predict_response` and `predict_proba` compute what it means under the loss.

        X: inputs (rows, n_in).
        threads: the number of threads. If left out: `default_threads()`.

        Raises ValueError and TypeError for bad input, NaN and infinity included. A LearningHint
        warns once if the last loss was poisson, gaussian_nll or pinball with several quantiles,
        because the raw output can be mistaken for what it means. `predict_raw` never warns.
        """
        if self._loss is not self._seen_loss:
            self._warn_of_raw()
        return self.predict_raw(X, threads=threads)

    def predict_raw(self, X: ArrayLike, *, threads: int | None = None) -> Array:
        """Compute the raw output (rows, n_out) as `predict` does, for code that wants just that.

        X: inputs (rows, n_in).
        threads: the number of threads. If left out: `default_threads()`.

        Raises ValueError and TypeError for bad input, NaN and infinity included.
        """
        if self._executor is not None:
            out = self._executor.quick.predict(X, threads)
            if out is not None:
                return out
        self._check_ready()
        self._column_names.check(X)
        return self._engine.predict(as_finite(X, self.dtype, self.n_in), threads)

    def predict_row(self, x: ArrayLike, out: Array | None = None) -> Array:
        """Compute the raw output (n_out,) for one row, for control loops: microseconds a call.

        It runs on one thread, with the bits that `predict` gives that row (not through a BLAS).

        x: one row (n_in,).
        out: an array (n_out,) of the network's dtype to write to; None makes a new one.

        Returns the array. Raises ValueError and TypeError for other shapes and types, ValueError
        for NaN and infinity.
        """
        executor = self._engine
        quick = executor.quick.predict_row(x, out)
        if quick is not None:
            return quick
        self._check_ready()
        row = as_row(x, self.dtype, executor.program.n_in)
        if row is not x:
            self._column_names.check_row(x)
        if out is None:
            out = np.empty(executor.program.n_out, self.dtype)
        elif not isinstance(out, np.ndarray):
            raise TypeError(f"out must be an array of {self.n_out} {self.dtype} numbers")
        if not executor.predict_row(row, out):
            check_finite(row, "x", unit="column")
        return out

    def predict_proba(
        self,
        X: ArrayLike,
        *,
        threads: int | None = None,
        loss: str | Loss | None = None,
    ) -> Array:
        """Compute probabilities (rows, n_out): the softmax or sigmoid of `predict`, by the loss.

        X: inputs (rows, n_in).
        threads: the number of threads. If left out: `default_threads()`.
        loss: a name or an object. If left out: that of the last fit or train_step.

        Raises ValueError for a loss that predicts values, or if no loss is known.
        """
        chosen = self._trained_loss("predict_proba") if loss is None else get_loss(loss)
        chosen.probabilities(np.zeros((1, self.n_out)))  # refuses losses on values early
        return chosen.probabilities(self.predict_raw(X, threads=threads))

    def predict_response(
        self,
        X: ArrayLike,
        *,
        threads: int | None = None,
        loss: str | Loss | None = None,
    ) -> Array:
        """Compute what `predict` means under the loss, (rows, n_out).

        That is probabilities, values, rates (poisson), quantiles (pinball), or means and then
        standard deviations (gaussian_nll): the `response` of the loss.

        X: inputs (rows, n_in).
        threads: the number of threads. If left out: `default_threads()`.
        loss: a name or an object. If left out: that of the last fit or train_step.

        Raises ValueError for a custom loss, or if no loss is known.
        """
        chosen = self._trained_loss("predict_response") if loss is None else get_loss(loss)
        chosen.response(np.zeros((1, self.n_out)))
        return chosen.response(self.predict_raw(X, threads=threads))

    def _warn_of_raw(self) -> None:
        """Warn once if the raw output can be mistaken for what it means under the loss."""
        self._seen_loss = self._loss
        if self._loss is None or self._told_of_raw:
            return
        loss = get_loss(self._loss)
        if raw := loss.raw_outputs():
            self._told_of_raw = True
            warn(
                f"predict returns raw outputs, under {loss.name} {raw}; "
                "net.predict_response(X) computes what they mean, and net.predict_raw(X) does "
                "without this hint",
                LearningHint,
            )

    def _trained_loss(self, caller: str) -> Loss:
        if self.loss is None:
            raise ValueError(
                f"{caller} goes by the loss, and this network has not been trained with one yet"
                '; pass loss="cross_entropy", for instance'
            )
        return get_loss(self.loss)

    def update_statistics(self, X: ArrayLike, *, threads: int | None = None) -> None:
        """Set the running statistics of every BatchNorm to mean and variance of its input for X.

        Dropout is off. Use it after weights were set by hand, for example. PyTorch's update_bn.

        X: inputs (rows, n_in).
        threads: the number of threads. If left out: `default_threads()`.

        Raises ValueError and TypeError for bad input and fewer than 2 rows.
        """
        self._see(X)
        with self._engine.turns.changing:
            stats = self._stats_from(X, self.params, resolve_threads(threads))
            self._set_stats(stats, are_of_average=self._shows_average)

    @classmethod
    def _make(
        cls,
        layers: list[Layer],
        seed: int,
        dtype: DTypeLike,
        n_in: int | None = None,
        draws: bool = True,
    ) -> Self:
        """Make a network for copies and files, as the __init__ of a subclass may differ."""
        net = cls.__new__(cls)
        if not draws:
            net._draws = False
        Network.__init__(net, layers, seed=seed, dtype=dtype, n_in=n_in)
        vars(net).pop("_draws", None)
        return net

    def _see(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        loss: str | Loss | LossFunction | None = None,
        learns: bool = False,
    ) -> None:
        """Learn the input width from the first data, and check the names of the columns.

        Raises ValueError for names other than before, and if Standardize has no mean and std and
        this call does not learn them.
        """
        _core.check_stack()
        if type(x) is not np.ndarray:
            self._column_names.check(x)
        if self._executor is None:
            self._learn_width(x, y, loss)
        if not learns:
            self._check_ready()

    def _learn_width(
        self, x: ArrayLike, y: ArrayLike | None, loss: str | Loss | LossFunction | None
    ) -> None:
        """Learn the input width from data that are checked first: refused data must not fix it."""
        with self._turns.changing:
            matrix = as_matrix(x, self.dtype, None)
            if y is not None:
                check_finite(matrix, "X")
                chosen = get_loss(self._choose_loss(loss, y))
                chosen.as_target(y, len(matrix), self.n_out, self.dtype)
            if self._executor is None:  # unless another thread was quicker
                self._executor = self._build(matrix.shape[1])

    def _check_ready(self) -> None:
        if self._standardize is not None:
            self._standardize.check_adapted()

    def _choose_loss(self, loss: str | Loss | LossFunction | None, y: ArrayLike) -> str | Loss:
        given = self.loss if loss is None else loss
        if given is not None:
            if loss is None and isinstance(self.loss, CustomLoss):
                self.loss.check_usable()
            own = get_loss(given)
            chosen = own.suited(y)
            return given if chosen is own and isinstance(given, str) else chosen
        try:
            array = as_numbers(y, "y", "target")
        except TypeError:
            check_missing(y, "y")  # text stands for classes, and codes would hide missing labels
            raise
        one_a_row = array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)
        if array.dtype.kind in "iu" and one_a_row and self.n_out > 1:
            return "cross_entropy"
        if array.dtype.kind == "f":
            if one_a_row and self.n_out > 1:  # these may be labels of which some are missing
                check_missing(y, "y")
            return "squared_error"
        if array.ndim == 2 and np.all((array == 0) | (array == 1)) and np.all(array.sum(1) == 1):
            raise ValueError(
                "y looks one-hot; for one class a row pass labels, y.argmax(axis=1), for several "
                'loss="binary_cross_entropy"'
            )
        raise ValueError(
            f"the loss cannot be told from y ({array.dtype}, shape {array.shape}) and "
            f'{self.n_out} outputs; pass loss="binary_cross_entropy" for 0 and 1, "poisson" for '
            'counts, "squared_error" for amounts'
        )
