"""The linear layer."""

from __future__ import annotations  # so that numpy.random, slow to load, loads on first use

from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from ..engine.plan import ABSENT
from ..ground.arrays import Array
from ..ground.checks import check_seed
from ..initializers import Initializer, get_initializer
from .base import Home, Layer, check_dtype, check_width, make_record


class Linear(Layer):
    """z = x W + b, with W (n_in, n_out) and b (n_out). The lecture, "Linear layer".

    Linear(n_in, n_out) has n_in input and n_out output features. Linear(n_out) takes its input
    width from the layer before, or from the data. Both widths may be given by name.

    n_in, n_out: the numbers of input and output features.
    init: a name from `fastmlp.initializers.INITIALIZERS` or a function (rng, n_in, n_out) -> array.
        If left out, it is xavier_normal before SELU, glorot_uniform before Sigmoid, Tanh or no
        activation, and he_normal before the others.
    bias: whether there is a bias. It starts at zero.
    seed: fixes the weights, in a network too. Without it a network's own seed does.
    dtype: "float32" or "float64", for a layer alone; in a network the network's counts.

    Raises ValueError for a value outside its range, TypeError without n_out.
    """

    @overload
    def __init__(
        self,
        n_out: int,
        /,
        *,
        init: str | Initializer | None = None,
        bias: bool = True,
        seed: int | None = None,
        dtype: DTypeLike = "float32",
    ) -> None: ...
    @overload
    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        init: str | Initializer | None = None,
        bias: bool = True,
        seed: int | None = None,
        dtype: DTypeLike = "float32",
    ) -> None: ...
    @overload
    def __init__(
        self,
        *,
        n_out: int,
        init: str | Initializer | None = None,
        bias: bool = True,
        seed: int | None = None,
        dtype: DTypeLike = "float32",
    ) -> None: ...
    def __init__(
        self,
        *widths: int,
        n_in: int | None = None,
        n_out: int | None = None,
        init: str | Initializer | None = None,
        bias: bool = True,
        seed: int | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        n_in, n_out = _named(widths, n_in, n_out)
        self.n_out = check_width(n_out, "n_out")
        self._n_in = None if n_in is None else check_width(n_in, "n_in")
        if init is not None:
            get_initializer(init)
        self.init, self.has_bias = init, bias
        self.seed = None if seed is None else check_seed(seed)
        self._own_dtype = check_dtype(dtype)

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record."""
        variant = _core.ACTIVATIONS["identity"]["index"]
        return make_record("linear", variant, n_in, self.n_out, b=0 if self.has_bias else ABSENT)

    def width_out(self, n_in: int | None) -> int | None:
        """See Layer.width_out."""
        return self.n_out

    def width_hint(self, n_in: int) -> str:
        """See Layer.width_hint."""
        return f"use Linear({n_in}, {self.n_out}) or Linear({self.n_out})"

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        config: dict[str, Any] = {"n_in": self.n_in} if self.n_in else {}
        config["n_out"] = self.n_out
        if isinstance(self.init, str):
            config["init"] = self.init
        if not self.has_bias:
            config["bias"] = False
        return config

    def __repr__(self) -> str:
        config = self.config()
        widths = [str(config.pop(name)) for name in ("n_in", "n_out") if name in config]
        return f"Linear({', '.join(widths + [f'{k}={v!r}' for k, v in config.items()])})"

    def arrays(self) -> dict[str, Array]:
        """See Layer.arrays."""
        bias = {} if self.bias is None else {"bias": self.bias}
        return {"weight": self.weight, **bias}

    def initial_arrays(
        self, rng: np.random.Generator, n_in: int, follower: Layer | None
    ) -> dict[str, Any]:
        """See Layer.initial_arrays."""
        if self.is_initialized:
            return super().initial_arrays(rng, n_in, follower)
        return {"weight": self.initial_weight(rng, n_in, follower), "bias": 0.0}

    def initial_weight(self, rng: np.random.Generator, n_in: int, follower: Layer | None) -> Array:
        """Draw W (n_in, n_out) in float64; `follower` is the next layer, for the default rule."""
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
        init = self.init or (follower or self).init_before
        weight = np.asarray(get_initializer(init)(rng, n_in, self.n_out))
        if weight.shape != (n_in, self.n_out) or not np.isfinite(weight).all():
            raise ValueError(
                f"init must return finite numbers of the shape {(n_in, self.n_out)}, "
                f"but {init!r} returned the shape {weight.shape}"
            )
        return weight

    @property
    def weight(self) -> Array:
        """W (n_in, n_out): a view into the flat parameters.

        Setting it copies into them, if the shape is the same and all numbers are finite. So does
        setting the other arrays of layers and networks.
        """
        return self._view("w", grad=False)

    @weight.setter
    def weight(self, values: ArrayLike) -> None:
        self._assign("weight", self.weight, values)

    @property
    def bias(self) -> Array | None:
        """The bias (n_out,): a view into the flat parameters; None without one."""
        return self._view("b", grad=False) if self.has_bias else None

    @bias.setter
    def bias(self, values: ArrayLike) -> None:
        self._assign("bias", self.bias, values)

    @property
    def weight_grad(self) -> Array:
        """Gradient of the loss by W, written by the last backward."""
        return self._view("w", grad=True)

    @weight_grad.setter
    def weight_grad(self, values: ArrayLike) -> None:
        self._assign("weight_grad", self.weight_grad, values)

    @property
    def bias_grad(self) -> Array | None:
        """Gradient of the loss by the bias, written by the last backward; None without a bias."""
        return self._view("b", grad=True) if self.has_bias else None

    @bias_grad.setter
    def bias_grad(self, values: ArrayLike) -> None:
        self._assign("bias_grad", self.bias_grad, values)

    @property
    def is_initialized(self) -> bool:
        """Whether this layer has weights already."""
        return self._home is not None

    def _view(self, place: str, grad: bool) -> Array:
        if self._home is None:
            if self.n_in is None:
                raise ValueError(
                    "the input width is not known yet; use Linear(n_in, n_out), or pass data first"
                )
            self._make_home(self.n_in, self._own_dtype)
        home = self._home
        assert home is not None
        n_in = int(home.layout.ops[home.op]["n_in"])
        flat, first = home.grads if grad else home.params, int(home.layout.ops[home.op][place])
        if place == "b":
            return flat[first : first + self.n_out]
        return flat[first : first + n_in * self.n_out].reshape(-1, self.n_out)

    def _dtype_alone(self, x: ArrayLike) -> np.dtype[Any]:
        return self._own_dtype

    def _make_home(self, n_in: int, dtype: np.dtype[Any]) -> Home:
        home = super()._make_home(n_in, dtype)
        weight = self.initial_weight(np.random.default_rng(self.seed), n_in, None)
        home.params[: weight.size] = weight.ravel()
        self._home, self._n_in = home, n_in
        return home


def _named(widths: tuple[int, ...], n_in: int | None, n_out: int | None) -> tuple[int | None, int]:
    """Return n_in and n_out of widths given by place or by name; TypeError if they do not fit."""
    if len(widths) > 2:
        raise TypeError("Linear takes n_in and n_out by place; name the others: init=..., bias=...")
    if len(widths) == 2 and n_in is None and n_out is None:
        return widths
    if len(widths) == 1 and n_in is None:
        return (None, widths[0]) if n_out is None else (widths[0], n_out)
    if not widths and n_out is not None:
        return n_in, n_out
    if len(widths) == 1 and n_out is None:  # Linear(8, n_in=4)
        return n_in, widths[0]
    if not widths:
        raise TypeError("Linear needs n_out; write Linear(n_out) or Linear(n_in, n_out)")
    raise TypeError("Linear got a width twice, by place and by name; give each once")
