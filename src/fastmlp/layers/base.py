"""Base of the layers: settings, the place in the flat arrays, and running alone."""

from __future__ import annotations  # so that numpy.random, slow to load, loads on first use

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from ..engine.executor import Executor
from ..engine.plan import ABSENT, Layout, aligned_zeros, plan
from ..ground.arrays import Array
from ..ground.checks import check_count
from ..ground.conversion import as_matrix, as_numbers, assign
from ..ground.dialects import Translated

OWN_LAYER = (
    "{} is no layer that can run: layers run in C, so a class of your own cannot be one. Possible "
    "are combinations of those there are, Residual([...]) among them, a loss of your own, a "
    "function (pred, target) -> (values, gradient), and init=, a function that draws weights; "
    "how a layer is added to fastmlp stands in CONTRIBUTING.md"
)


@dataclass(frozen=True)
class Home:
    """The place of a layer's numbers: op `op` of `layout`, over flat arrays."""

    layout: Layout
    op: int
    params: Array
    grads: Array
    dtype: np.dtype[Any]
    seed: int
    in_network: bool
    stats: Array
    turns: _core.Turns

    def at(self, op: int) -> Home:
        """Return the same arrays for another op."""
        return replace(self, op=op)


class Layer(Translated, dialect="layer"):
    """Base of all layers: z = layer.forward(x), dx = layer.backward(dz), for x (rows, n_in).

    Layers run in C, so a class of your own cannot be one. Settings are fixed once given: setting
    one raises AttributeError.
    """

    bends = False  # whether a network of such layers is more than a linear model
    keeps_scale = False  # if True, the next layer decides on the first weights of the Linear before
    init_before: str = _core.ACTIVATIONS["identity"]["init"]  # initializer of a Linear before it
    _n_in: int | None = None
    _home: Home | None = None
    _executor: Executor | None = None

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Raises TypeError, because layers become a network in a list."""
        raise TypeError(
            f"a layer is not called: write layer.forward(x), or Sequential([{self!r}, ...])"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Settings are fixed once given, because the program and model files are made of them."""
        if name in vars(self) and not name.startswith("_"):
            raise AttributeError(
                f"{name} of {self!r} is fixed; make a new layer, and a new network with it"
            )
        super().__setattr__(name, value)

    @property
    def n_in(self) -> int | None:
        """The number of input features; None while it is not known."""
        return self._n_in

    def record(self, n_in: int, index: int) -> Array:
        """Return this layer as one op for n_in features, at place `index`, without offsets."""
        raise TypeError(OWN_LAYER.format(self))

    def width_out(self, n_in: int | None) -> int | None:
        """Return the number of outputs for n_in features; None if it depends on an unknown n_in."""
        return n_in

    def width_hint(self, n_in: int) -> str:
        """Return the advice if n_in features come in and this layer has another width."""
        return f"it has seen data with {self.n_in}; make a new one"

    def config(self) -> dict[str, Any]:
        """Return the arguments that make this layer again, as JSON types."""
        return {}

    def leaves(self) -> list[Layer]:
        """Return the layers that are ops of the program, in its order: this one."""
        return [self]

    def named_leaves(self, name: str) -> list[tuple[str, Layer]]:
        """Return the layers that may hold arrays, each with its name in a model file."""
        return [(name, self)]

    def arrays(self) -> dict[str, Array]:
        """Return the arrays of this layer by name: views into the flat arrays."""
        return {}

    def initial_arrays(
        self, rng: np.random.Generator, n_in: int, follower: Layer | None
    ) -> dict[str, Any]:
        """Return the first values of `arrays` in a network: the present ones, if there are any."""
        if self._home is None:
            return {}
        return {name: array.copy() for name, array in self.arrays().items()}

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        return f"{type(self).__name__}({shown})"

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the buffers, for copies and pickles.

        The next forward makes the buffers again. A copy of a network's layer is free, with arrays
        of its own.
        """
        state = {name: value for name, value in vars(self).items() if name != "_executor"}
        if self._home is not None and self._home.in_network:
            state["_home"] = self._home_of_copy(self._home)
        return state

    def _home_of_copy(self, home: Home) -> Home | None:
        own = Layer._make_home(self, int(home.layout.ops[home.op]["n_in"]), home.dtype)
        twin = object.__new__(type(self))
        vars(twin).update(vars(self), _home=own)
        for (_, place), (_, values) in zip(
            twin.arrays().items(), self.arrays().items(), strict=True
        ):
            place[...] = values
        return own

    def forward(self, x: ArrayLike, training: bool = False) -> Array:
        """Compute the output (rows, n_out), and keep what backward needs.

        x: inputs (rows, n_in). Because backward reads x itself, change x in place only after
            backward.
        training: whether dropout and batch statistics act as in training.

        Raises ValueError and TypeError if x is not a numeric array of that shape.
        """
        x = as_numbers(x, "x")
        dtype = self._home.dtype if self._home else self._dtype_alone(x)
        matrix = as_matrix(x, dtype, self.n_in, "x")
        return self._executor_for(matrix.shape[1], dtype).forward(matrix, training, None)

    def backward(self, dz: ArrayLike) -> Array:
        """Compute the gradient by the input of the last forward, and write the parameter gradients.

        dz: the gradient (rows, n_out) by the output.

        Parameter gradients are written, not added. Raises RuntimeError without a forward pass
        before.
        """
        if self._executor is None:
            raise RuntimeError("backward needs a forward pass first")
        return self._executor.backward(as_matrix(dz, self._executor.dtype, None, "dz"), None)

    def check_is_free(self) -> None:
        """Raise ValueError if this layer is part of a network already."""
        if self._home is not None and self._home.in_network:
            raise ValueError(
                f"{self!r} already belongs to a network; make a new layer for this one"
            )

    def attach(self, home: Home) -> None:
        """Become part of a network, over its flat arrays."""
        self._home, self._executor = home, None
        self._n_in = int(home.layout.ops[home.op]["n_in"])

    def _assign(self, name: str, place: Array | None, values: ArrayLike) -> None:
        """Copy values into one of the arrays, for a line such as `layer.weight -= step`."""
        if place is None:
            argument = name.removesuffix("_grad")
            raise ValueError(f"{self!r} has no {name}; make it with {argument}=True")
        assert self._home is not None  # because its place is known
        with self._home.turns.changing:
            assign(place, values, name)

    def _executor_for(self, n_in: int, dtype: np.dtype[Any]) -> Executor:
        executor = self._executor
        if executor is None or executor.layout.n_in != n_in or executor.dtype != dtype:
            home = self._home or self._make_home(n_in, dtype)
            alone = home.layout.part(home.op, len(self.leaves()))
            executor = Executor(
                alone, home.params, home.grads, home.dtype, home.seed, home.stats, home.turns
            )
            self._executor = executor
        return executor

    def _dtype_alone(self, x: ArrayLike) -> np.dtype[Any]:
        return np.dtype(np.float64 if np.asarray(x).dtype == np.float64 else np.float32)

    def _make_home(self, n_in: int, dtype: np.dtype[Any]) -> Home:
        """Return a place for a layer alone, which has no parameters unless its class draws some."""
        layout = plan([self], n_in, dtype, fuse=False, alone=True)
        params, grads = (aligned_zeros(layout.n_params, dtype) for _ in range(2))
        stats = aligned_zeros(layout.n_stats, dtype)
        return Home(layout, 0, params, grads, dtype, self._mask_seed(), False, stats, _core.Turns())

    def _mask_seed(self) -> int:
        return 0


class LayerOfParts(Layer):
    """Base of layers whose arrays have an element for each feature.

    Those at one place of the op stand one behind the other.
    """

    @property
    def parts(self) -> tuple[tuple[str, str, float], ...]:
        """Of each array its name, its place ("b": parameters, "s": statistics), its first value."""
        raise NotImplementedError

    def arrays(self) -> dict[str, Array]:
        """See Layer.arrays."""
        return {name: self._part(name) for name, _, _ in self.parts}

    def initial_arrays(
        self, rng: np.random.Generator, n_in: int, follower: Layer | None
    ) -> dict[str, Any]:
        """See Layer.initial_arrays."""
        own = super().initial_arrays(rng, n_in, follower)
        return own or {name: value for name, _, value in self.parts}

    def _part(self, name: str, grad: bool = False) -> Array:
        home = self._home
        if home is None:
            raise ValueError(
                f"the input width of {self!r} is not known yet; put it into a network, or pass "
                "data first"
            )
        place = next(place for part, place, _ in self.parts if part == name)
        before = [part for part, where, _ in self.parts if where == place].index(name)
        op = home.layout.ops[home.op]
        n, flat = int(op["n_in"]), home.grads if grad else home.params
        first = int(op[place]) + before * n
        return (flat if place == "b" else home.stats)[first : first + n]

    def _make_home(self, n_in: int, dtype: np.dtype[Any]) -> Home:
        home = super()._make_home(n_in, dtype)
        self._home, self._n_in = home, n_in
        for name, _, value in self.parts:
            self._part(name)[:] = value
        return home


def make_record(
    kind: str, variant: int, n_in: int, n_out: int, *, b: int = ABSENT, attr: float = 0.0
) -> Array:
    """Return one record of the program, without its offsets."""
    op = np.zeros((), dtype=_core.OP_DTYPE)
    op["kind"], op["variant"] = _core.OPS[kind], variant
    op["n_in"], op["n_out"] = n_in, n_out
    op["b"], op["s"], op["attr0"] = b, ABSENT, attr
    return op


def check_width(n: int, name: str) -> int:
    """Return n as an int if it is a number of features; ValueError for anything else."""
    return check_count(n, name, 1, 2**31 - 1)


def check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return float32 or float64 as a dtype; ValueError for anything else."""
    try:
        checked = np.dtype(dtype)
    except TypeError:
        checked = np.dtype(object)
    if checked not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f'dtype must be "float32" or "float64", not {dtype!r}')
    return checked
