"""Layers: what the user writes a network with. Each also runs alone, on the same C functions.

    lin = Linear(4, 3, seed=0)
    z = lin.forward(x)
    dx = lin.backward(dz)        # fills lin.weight_grad and lin.bias_grad

The activation classes (ReLU, Tanh, ...) are made from the list in `csrc/registry.h`.
"""

from __future__ import annotations  # numpy.random is slow to load: on first use

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _core
from .data import as_matrix, as_numbers, assign
from .dialects import ARGUMENTS, Translated
from .executor import Executor
from .initializers import Initializer, get_initializer
from .layout import ABSENT, Layout, aligned_zeros, leaves_of, plan
from .numeric import as_real, as_whole, check_seed

Array = NDArray[Any]

# What stands before these starts with Glorot's weights; before all others, which let about half of
# the variance through as ReLU does, with He's.
_SYMMETRIC = ("", "identity", "sigmoid", "tanh")


_OWN_LAYER = (
    "{} is no layer that can run: layers run in C, so a class of your own cannot be one. Possible "
    "are combinations of those there are, Residual([...]) among them, a loss of your own, a "
    "function (pred, target) -> (values, gradient), and init=, a function that draws weights; "
    "how a layer is added to fastmlp stands in CONTRIBUTING.md"
)


@dataclass(frozen=True)
class Home:
    """Where a layer's numbers live: op `op` of `layout`, over flat arrays."""

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
        """The same arrays for another op."""
        return replace(self, op=op)


class Layer(Translated, dialect="layer"):
    """Base of all layers: z = layer.forward(x), dx = layer.backward(dz), for x of the shape (rows,
    n_in).
    """

    normalizes = False  # the activation behind it decides on the weights of the Linear before it
    _n_in: int | None = None
    _home: Home | None = None
    _executor: Executor | None = None

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """A TypeError: layers become a network in a list."""
        raise TypeError(
            f"a layer is not called: write layer.forward(x), or Sequential([{self!r}, ...])"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """A setting is given once: the program that C runs, and model files, are made of it."""
        if name in vars(self) and not name.startswith("_"):
            raise AttributeError(
                f"{name} of {self!r} is fixed; make a new layer, and a new network with it"
            )
        super().__setattr__(name, value)

    @property
    def n_in(self) -> int | None:
        """Features of the input; None while they are not known."""
        return self._n_in

    def record(self, n_in: int, index: int) -> NDArray[Any]:
        """This layer as one op for an input of n_in features, at place `index`, without offsets."""
        raise TypeError(_OWN_LAYER.format(self))

    def width_hint(self, n_in: int) -> str:
        """What to do where n_in features come in and this layer has another width."""
        return f"it has seen data with {self.n_in}; make a new one"

    def config(self) -> dict[str, Any]:
        """The arguments that make this layer again, as JSON types."""
        return {}

    def leaves(self) -> list[Layer]:
        """The layers that are ops of the program, in its order: this one."""
        return [self]

    def named_leaves(self, name: str) -> list[tuple[str, Layer]]:
        """Those that may hold arrays, each with its name in a model file."""
        return [(name, self)]

    def arrays(self) -> dict[str, Array]:
        """What it holds beside its settings, by name: views into the flat arrays."""
        return {}

    def initial_arrays(
        self, rng: np.random.Generator, n_in: int, follower: Layer | None
    ) -> dict[str, Any]:
        """What `arrays` begins with in a network: what it holds already, if anything."""
        if self._home is None:
            return {}
        return {name: array.copy() for name, array in self.arrays().items()}

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        return f"{type(self).__name__}({shown})"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: all but the buffers, which the next forward makes again. A copy
        of a network's layer is free, with arrays of its own.
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
        """Output (rows, n_out) for x (rows, n_in); remembers what backward needs, x itself among
        it: change x in place only after backward.

        Raises ValueError and TypeError where x is no numeric array of that shape.
        """
        x = as_numbers(x, "x")
        dtype = self._home.dtype if self._home else self._dtype_alone(x)
        matrix = as_matrix(x, dtype, self.n_in, "x")
        return self._executor_for(matrix.shape[1], dtype).forward(matrix, training, None)

    def backward(self, dz: ArrayLike) -> Array:
        """Gradient by the input of the last forward, for the gradient dz (rows, n_out) by its
        output.

        Parameter gradients are written, not added. Raises RuntimeError without a forward pass
        before.
        """
        if self._executor is None:
            raise RuntimeError("backward needs a forward pass first")
        return self._executor.backward(as_matrix(dz, self._executor.dtype, None, "dz"), None)

    def check_is_free(self) -> None:
        """ValueError where this layer is part of a network already."""
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
        assert self._home is not None  # for its place is known
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
        """A place for a layer alone, which has no parameters unless its class says so."""
        layout = plan([self], n_in, dtype, fuse=False, alone=True)
        params, grads = (aligned_zeros(layout.n_params, dtype) for _ in range(2))
        stats = aligned_zeros(layout.n_stats, dtype)
        return Home(layout, 0, params, grads, dtype, self._mask_seed(), False, stats, _core.Turns())

    def _mask_seed(self) -> int:
        return 0


class Linear(Layer):
    """z = x W + b, with W (n_in, n_out) and b (n_out). The lecture, "Linear layer".

    `Linear(n_out)` takes its input width from the layer before, or from the data. `init` is a name
    from `fastmlp.initializers.INITIALIZERS` or a function (rng, n_in, n_out) -> array; left out, it
    is xavier_normal before SELU, glorot_uniform before Sigmoid, Tanh or nothing, he_normal else.
    Biases start at zero. `seed` fixes the weights, in a network too; without it a network's own
    seed does. `dtype` is for a layer alone; in a network the network's counts.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int | None = None,
        *,
        init: str | Initializer | None = None,
        bias: bool = True,
        seed: int | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self.n_out = check_width(n_in if n_out is None else n_out, "n_out")
        self._n_in = None if n_out is None else check_width(n_in, "n_in")
        if init is not None:
            get_initializer(init)
        self.init, self.has_bias = init, bias
        self.seed = None if seed is None else check_seed(seed)
        self._own_dtype = check_dtype(dtype)

    def record(self, n_in: int, index: int) -> NDArray[Any]:
        """See Layer.record."""
        variant = _core.ACTIVATIONS["identity"]["index"]
        return make_record("linear", variant, n_in, self.n_out, b=0 if self.has_bias else ABSENT)

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
        """Draw W (n_in, n_out) in float64; `follower` is the layer behind, for the default rule."""
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
        init = self.init or _default_init(follower)
        weight = np.asarray(get_initializer(init)(rng, n_in, self.n_out))
        if weight.shape != (n_in, self.n_out) or not np.isfinite(weight).all():
            raise ValueError(
                f"init must return finite numbers of the shape {(n_in, self.n_out)}, "
                f"but {init!r} returned the shape {weight.shape}"
            )
        return weight

    @property
    def weight(self) -> Array:
        """W (n_in, n_out): a view into the flat parameters. Setting it copies into them, if the
        shape is the same and all is finite; so do the other arrays of layers and networks.
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
        """Gradient of the loss by W, as the last backward left it."""
        return self._view("w", grad=True)

    @weight_grad.setter
    def weight_grad(self, values: ArrayLike) -> None:
        self._assign("weight_grad", self.weight_grad, values)

    @property
    def bias_grad(self) -> Array | None:
        """Gradient of the loss by the bias, as the last backward left it."""
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


class Dropout(Layer):
    """Inverted dropout: in training each input is zeroed with probability p and the others divided
    by 1 - p.

    Nothing happens outside of training. The mask depends on the seed, the number of the training
    pass, the layer, the row and the column, never on the number of threads. `seed` is for a layer
    alone.
    """

    def __init__(self, p: float = 0.5, *, seed: int | None = None) -> None:
        number = as_real(p)
        if number is None or not 0 <= number < 1:
            raise ValueError(f"p must be a probability with 0 <= p < 1, not {p!r}")
        self.p, self.seed = number, None if seed is None else check_seed(seed)

    def record(self, n_in: int, index: int) -> NDArray[Any]:
        """See Layer.record."""
        return make_record("dropout", index, n_in, n_in, attr=self.p)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return {"p": self.p}

    def _mask_seed(self) -> int:
        # Two layers alone must not share their masks, so without a seed each draws one.
        return int(np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0])


class Activation(Layer):
    """Base of the activations: y = g(z) elementwise."""

    name: str

    def __init__(self, *args: float, **kwargs: float) -> None:
        spec = _core.ACTIVATIONS[self.name]
        named = [spec["attr"]] if spec["attr"] else []
        if len(args) + len(kwargs) > len(named) or any(key not in named for key in kwargs):
            takes = f"{named[0]} alone" if named else "no argument"
            notes = [ARGUMENTS[key][1] for key in kwargs if key in ARGUMENTS]
            raise TypeError(
                "; ".join([f"{type(self).__name__} takes {takes}", *filter(None, notes)])
            )
        value = (*args, *kwargs.values(), spec["default"])[0]
        number = as_real(value)
        if number is None or number < spec["least"]:
            least = f"{spec['least']:g}"
            raise ValueError(f"{spec['attr']} must be a finite number >= {least}, not {value!r}")
        self._attribute = number

    def record(self, n_in: int, index: int) -> NDArray[Any]:
        """See Layer.record."""
        variant = _core.ACTIVATIONS[self.name]["index"]
        return make_record("activation", variant, n_in, n_in, attr=self._attribute)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        attr = _core.ACTIVATIONS[self.name]["attr"]
        return {attr: self._attribute} if attr else {}


def _activation_class(name: str, spec: dict[str, Any]) -> type[Activation]:
    """The class for one line of the list: `LeakyReLU(slope=0.01)`, with its attribute as a
    property.
    """
    members: dict[str, Any] = {
        "name": name,
        "__doc__": f"y = {spec['formula']}, elementwise.",
        "__module__": __name__,
    }
    if spec["attr"]:
        members[spec["attr"]] = property(lambda self: self._attribute)
    return type(spec["class_name"], (Activation,), members)


ACTIVATION_CLASSES: dict[str, type[Activation]] = {
    spec["class_name"]: _activation_class(name, spec) for name, spec in _core.ACTIVATIONS.items()
}
globals().update(ACTIVATION_CLASSES)  # pickle looks for a class in its module
LAYERS: dict[str, type[Layer]] = {"Linear": Linear, "Dropout": Dropout, **ACTIVATION_CLASSES}


def check_layers(layers: Any, example: str) -> tuple[Layer, ...]:
    """Them as a tuple, each in one place; else TypeError or ValueError with an example of one."""
    try:
        if isinstance(layers, str | bytes):
            raise TypeError
        found = (layers,) if isinstance(layers, Layer) else tuple(layers)
    except TypeError:
        raise TypeError(f"layers must be a list of layers, {example}, not {layers!r}") from None
    if not found:
        raise ValueError(f"layers is empty; at least one is needed: {example}")
    for layer in found:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must be a list of layers, {example}, {_not_a_layer(layer)}")
    leaves = leaves_of(found)
    for layer in (*found, *leaves):
        kind = type(layer)
        own = kind.record is Layer.record and layer in leaves
        if own or kind.forward is not Layer.forward or kind.backward is not Layer.backward:
            raise TypeError(_OWN_LAYER.format(layer))
    if len({id(leaf) for leaf in leaves}) < len(leaves):
        raise ValueError("a layer appears twice; make a new one for each place")
    return found


def _not_a_layer(given: Any) -> str:
    """What stands in the place of a layer, and what it could be."""
    name = given if isinstance(given, str) else getattr(given, "__name__", "")
    known = next((own for own in LAYERS if own.lower() == name.lower().replace("_", "")), None)
    if known is not None:
        return f"not {given!r}; write {known}({'' if known in ACTIVATION_CLASSES else '...'})"
    return f"not {given!r}; {_OWN_LAYER.format('that')}"


def initial_values(leaves: Sequence[Layer], layout: Layout, seed: int) -> list[dict[str, Any]]:
    """What the arrays of each leaf of an unfused layout begin with; those without a seed of their
    own draw from (seed, place).
    """
    values = []
    for index, leaf in enumerate(leaves):
        rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
        # normalization and dropout stand before the activation without changing its inputs' size
        behind = (o for o in leaves[index + 1 :] if not (o.normalizes or isinstance(o, Dropout)))
        values.append(leaf.initial_arrays(rng, int(layout.ops[index]["n_in"]), next(behind, None)))
    return values


def make_record(
    kind: str, variant: int, n_in: int, n_out: int, *, b: int = ABSENT, attr: float = 0.0
) -> NDArray[Any]:
    """One record of the program, without its offsets."""
    op = np.zeros((), dtype=_core.OP_DTYPE)
    op["kind"], op["variant"] = _core.OPS[kind], variant
    op["n_in"], op["n_out"] = n_in, n_out
    op["b"], op["s"], op["attr0"] = b, ABSENT, attr
    return op


def check_width(n: int, name: str) -> int:
    """N if it is a number of features; else ValueError."""
    whole = as_whole(n)
    if whole is None or not 1 <= whole < 2**31:
        raise ValueError(f"{name} must be an integer in 1 .. 2**31 - 1, not {n!r}")
    return whole


def check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64; else ValueError."""
    try:
        checked = np.dtype(dtype)
    except TypeError:
        checked = np.dtype(object)
    if checked not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f'dtype must be "float32" or "float64", not {dtype!r}')
    return checked


def _default_init(follower: Layer | None) -> str:
    name = follower.name if isinstance(follower, Activation) else ""
    if name == "selu":
        return "xavier_normal"
    return "glorot_uniform" if name in _SYMMETRIC else "he_normal"
