"""Normalization: of batches, of rows, and of the input, each with what it stores."""

from __future__ import annotations  # numpy.random is slow to load: on first use

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core import LACKS_SCALE, LACKS_SHIFT
from ..ground.arrays import Array
from ..ground.checks import check_flag, check_number
from ..ground.conversion import as_finite, as_numbers
from ..ground.errors import warn
from ..ground.frames import ColumnNames
from .base import LayerOfParts, make_record

_BLOCK = 4096  # adapt holds float64 copies of this many rows at a time
_TRACE = 4 * float(np.finfo(np.float64).eps)  # a constant column has at most this std / |mean|
_TINY = float(np.finfo(np.float32).smallest_subnormal)
_COARSE = 32  # a column gets a warning if its std is below this many steps of the network's type


class Normalization(LayerOfParts):
    """Base of the normalizations: their kind and what is added to a variance."""

    keeps_scale = True
    kind: str

    def __init__(self, *, eps: float = 1e-5) -> None:
        self.eps = check_number(eps, "eps", 1e-30, 1)

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record."""
        return make_record(self.kind, 0, n_in, n_in, attr=self.eps)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return {"eps": self.eps}


class _Scaled(Normalization):
    """Base of the layers with a scale, which may be left out.

    The scale stands with the biases, because it is not decayed.
    """

    def __init__(self, *, eps: float, scale: bool, shift: bool = False) -> None:
        super().__init__(eps=eps)
        self.has_scale, self.has_shift = check_flag(scale, "scale"), check_flag(shift, "shift")

    def record(self, n_in: int, index: int) -> NDArray[Any]:
        """See Layer.record."""
        op = super().record(n_in, index)
        op["variant"] = (not self.has_scale) * LACKS_SCALE + (not self.has_shift) * LACKS_SHIFT
        return op

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return super().config() | ({} if self.has_scale else {"scale": False})

    @property
    def parts(self) -> tuple[tuple[str, str, float], ...]:
        """See LayerOfParts.parts."""
        return (("scale", "b", 1.0),) * self.has_scale + (("shift", "b", 0.0),) * self.has_shift

    @property
    def scale(self) -> Array | None:
        """The factor (n,) of xhat, a view into the flat parameters; None without a scale."""
        return self._part("scale") if self.has_scale else None

    @scale.setter
    def scale(self, values: ArrayLike) -> None:
        self._assign("scale", self.scale, values)

    @property
    def scale_grad(self) -> Array | None:
        """The gradient of the loss by the scale, from the last backward pass."""
        return self._part("scale", grad=True) if self.has_scale else None

    @scale_grad.setter
    def scale_grad(self, values: ArrayLike) -> None:
        self._assign("scale_grad", self.scale_grad, values)


class _Shifted(_Scaled):
    """Base of the layers that also have a shift, which may be left out."""

    has_shift = True

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return super().config() | ({} if self.has_shift else {"shift": False})

    @property
    def shift(self) -> Array | None:
        """The shift (n,), a view into the flat parameters; None without a shift."""
        return self._part("shift") if self.has_shift else None

    @shift.setter
    def shift(self, values: ArrayLike) -> None:
        self._assign("shift", self.shift, values)

    @property
    def shift_grad(self) -> Array | None:
        """The gradient of the loss by the shift, from the last backward pass."""
        return self._part("shift", grad=True) if self.has_shift else None

    @shift_grad.setter
    def shift_grad(self, values: ArrayLike) -> None:
        self._assign("shift_grad", self.shift_grad, values)


class LayerNorm(_Shifted):
    """y = (x - mean) / sqrt(var + eps) scale + shift over the features of each row.

    Ba et al. 2016. Training learns the scale (n,), at first 1, and the shift (n,), at first 0.

    eps: the number added to the variance, in 1e-30 .. 1.
    scale: whether it has a scale; without one, xhat is multiplied by 1.
    shift: whether it has a shift; without one, 0 is added.

    Raises ValueError for another eps, TypeError if scale or shift is not True or False.
    """

    kind = "layer_norm"

    def __init__(self, *, eps: float = 1e-5, scale: bool = True, shift: bool = True) -> None:
        super().__init__(eps=eps, scale=scale, shift=shift)


class RMSNorm(_Scaled):
    """y = x / sqrt(mean of x^2 + eps) scale over the features of each row.

    Zhang, Sennrich 2019. Training learns the scale (n,), at first 1.

    eps: the number added to the mean of x^2, in 1e-30 .. 1.
    scale: whether it has a scale; without one, xhat is multiplied by 1.

    Raises ValueError for another eps, TypeError if scale is not True or False.
    """

    kind = "rms_norm"

    def __init__(self, *, eps: float = 1e-5, scale: bool = True) -> None:
        super().__init__(eps=eps, scale=scale)


class BatchNorm(_Shifted):
    """y = (x - mean) / sqrt(var + eps) scale + shift for each feature.

    Ioffe, Szegedy 2015; the lecture, "Batch normalization". The layer normalizes z between Linear
    and its activation. The Linear before it needs no bias.

    momentum: the share of a mini-batch in the running statistics, in 0 .. 1.
    eps: the number added to the variance, in 1e-30 .. 1.
    scale: whether it has a scale; without one, xhat is multiplied by 1.
    shift: whether it has a shift; without one, 0 is added.

    In training, mean and variance are those of the mini-batch. `running_mean` and `running_var`
    follow them: running = (1 - momentum) running + momentum batch. The variance that they follow
    has 1 / (rows - 1), as in PyTorch. Outside of training the running statistics are used.
    `Sequential.fold` removes the layer for inference.

    Raises ValueError for another momentum or eps, and for a training pass over a single row. Raises
    TypeError if scale or shift is not True or False.
    """

    kind = "batch_norm"

    def __init__(
        self, *, momentum: float = 0.1, eps: float = 1e-5, scale: bool = True, shift: bool = True
    ) -> None:
        super().__init__(eps=eps, scale=scale, shift=shift)
        self.momentum = check_number(momentum, "momentum", high=1)

    @property
    def parts(self) -> tuple[tuple[str, str, float], ...]:
        """See LayerOfParts.parts."""
        return (*super().parts, ("running_mean", "s", 0.0), ("running_var", "s", 1.0))

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record."""
        op = super().record(n_in, index)
        op["attr1"] = self.momentum
        return op

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return {"momentum": self.momentum} | super().config()

    @property
    def running_mean(self) -> Array:
        """The running mean (n,), a view into the flat statistics."""
        return self._part("running_mean")

    @running_mean.setter
    def running_mean(self, values: ArrayLike) -> None:
        self._assign("running_mean", self.running_mean, values)

    @property
    def running_var(self) -> Array:
        """The running variance (n,), a view into the flat statistics."""
        return self._part("running_var")

    @running_var.setter
    def running_var(self, values: ArrayLike) -> None:
        self._assign("running_var", self.running_var, _not_below(values, "running_var", 0.0))


class Standardize(Normalization):
    """y = (x - mean) / std: the first layer of a network whose input is not standardized.

    The lecture, "Input normalization". Mean and std (with 1 / rows) of each column come from
    `adapt(X)`, otherwise from the training rows of the first `fit`. They are stored with the
    network and not trained. A constant column has std 1 and so becomes 0.

    X is converted to the network's type first. float32 cannot resolve small differences far from
    zero (times in seconds, for example), nor values below 1e-45. Such a column gets a warning.

    Raises ValueError if it is used before mean and std are known.
    """

    kind = "standardize"

    def __init__(self) -> None:
        super().__init__()
        self._column_names = ColumnNames()

    @property
    def parts(self) -> tuple[tuple[str, str, float], ...]:
        """See LayerOfParts.parts."""
        return (("mean", "s", 0.0), ("std", "s", 0.0))  # std is 0 until adapt has run

    @property
    def column_names(self) -> ColumnNames:
        """The names of the columns that it has learned from; its network has the same."""
        return self._column_names

    def __getstate__(self) -> dict[str, Any]:
        """See Layer.__getstate__; a copy learns for itself."""
        return super().__getstate__() | {"_column_names": ColumnNames(self.column_names.known)}

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record; raises ValueError anywhere but in the first place."""
        if index != 0:
            raise ValueError("Standardize() is for the input: put it first; inside use LayerNorm()")
        return make_record(self.kind, 0, n_in, n_in)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return {}

    @property
    def mean(self) -> Array:
        """The mean of each column (n,), a view into the flat statistics."""
        return self._part("mean")

    @mean.setter
    def mean(self, values: ArrayLike) -> None:
        self._assign("mean", self.mean, values)

    @property
    def std(self) -> Array:
        """The standard deviation of each column (n,), a view into the flat statistics."""
        return self._part("std")

    @std.setter
    def std(self, values: ArrayLike) -> None:
        self._assign("std", self.std, _not_below(values, "std", _TINY))

    @property
    def is_adapted(self) -> bool:
        """Whether mean and std are known."""
        return self._home is not None and bool(self.std.all())

    def adapt(self, X: ArrayLike) -> Self:
        """Take mean and std of each column of X, computed in float64; return the layer.

        X: the inputs, (rows, n_in).

        Raises ValueError for another shape, for numbers too large for a standard deviation, and for
        a frame whose columns have other names than before. Raises TypeError for X without numbers.
        """
        self.column_names.check(X)
        numbers = as_numbers(X, "X")
        dtype = self._home.dtype if self._home else self._dtype_alone(numbers)
        matrix = as_finite(numbers, dtype, self.n_in)
        self.column_names.learn(X)
        return self.adapt_rows(matrix, np.arange(len(matrix)), numbers)

    def adapt_rows(self, matrix: Array, rows: NDArray[np.int64], given: ArrayLike) -> Self:
        """Adapt to some rows of a checked matrix; `given` is X as the user passed it."""
        mean, std = column_statistics(matrix, rows)
        if self._home is None:
            self._make_home(matrix.shape[1], matrix.dtype)
        constant = _is_constant(mean, std, matrix.dtype)
        coarse = ~constant & (std < _COARSE * np.finfo(matrix.dtype).eps * np.abs(mean))
        if given is not matrix and constant.any():  # perhaps only the conversion made it so
            values = as_numbers(given, "X")
            mean_given, std_given = column_statistics(values, rows, constant)
            coarse[constant] = ~_is_constant(mean_given, std_given, values.dtype)
        if coarse.any():
            warn(
                f"column {int(np.argmax(coarse))} of X holds values that {matrix.dtype} hardly "
                "tells apart, being far from zero or tiny; subtract its mean and rescale it first, "
                'or use dtype="float64"'
            )
        self.mean[:], self.std[:] = mean, np.where(constant, 1.0, std)
        return self

    def check_adapted(self) -> None:
        """Raise ValueError if mean and std are not known yet."""
        if not self.is_adapted:
            raise ValueError(
                "Standardize() does not know the data yet; call net.fit(...), or "
                "net.layers[0].adapt(X) with the training data"
            )

    def _executor_for(self, n_in: int, dtype: np.dtype[Any]) -> Any:
        self.check_adapted()
        return super()._executor_for(n_in, dtype)


def _not_below(values: ArrayLike, name: str, least: float) -> Array:
    """Return the values; ValueError if one is too small for a variance or a deviation."""
    numbers = as_numbers(values, name, "values")
    if (numbers < least).any():
        raise ValueError(f"{name} must be {'>= 0' if least == 0 else 'above 0'} everywhere")
    return numbers


def _is_constant(mean: Array, std: Array, dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Return which columns hold a single value, apart from rounding in float64."""
    tiny = np.finfo(dtype).tiny if dtype.kind == "f" else 0.0
    return np.asarray(std <= np.maximum(_TRACE * np.abs(mean), tiny))


def column_statistics(
    matrix: Array, rows: NDArray[np.int64], columns: slice | NDArray[np.bool_] = slice(None)
) -> tuple[Array, Array]:
    """Return mean and standard deviation (n,) of the rows in some columns, in float64.

    They are computed in two passes, and the first row is subtracted first. So a constant column has
    exactly its own value and 0.

    Raises ValueError if they are not finite.
    """
    first = matrix[rows[0], columns].astype(np.float64)
    blocks = [rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK)]
    mean, squares = np.zeros(len(first)), np.zeros(len(first))
    with np.errstate(over="ignore", invalid="ignore"):
        for block in blocks:
            mean += (matrix[block][:, columns].astype(np.float64) - first).sum(axis=0)
        mean = first + mean / len(rows)
        for block in blocks:
            squares += ((matrix[block][:, columns].astype(np.float64) - mean) ** 2).sum(axis=0)
        std = np.sqrt(squares / len(rows))
    bad = np.flatnonzero(~np.isfinite(mean + std))
    if len(bad):
        raise ValueError(f"column {bad[0]} of X is too large to standardize; rescale it")
    return mean, std
