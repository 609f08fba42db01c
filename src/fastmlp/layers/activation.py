"""Activations: a class for each line of the list in `csrc/registry.h`; PReLU, GLU."""

from __future__ import annotations  # so that numpy.random, slow to load, loads on first use

import math
from typing import Any

from numpy.typing import ArrayLike

from .. import _core
from ..ground.arrays import Array
from ..ground.checks import check_number
from ..ground.dialects import ARGUMENTS
from .base import Layer, LayerOfParts, make_record


class Activation(Layer):
    """Base of the activations: y = g(z) elementwise.

    Some have one setting, such as LeakyReLU(slope=0.01). Raises TypeError for other arguments,
    ValueError for a setting outside its range.
    """

    bends = True
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
        self._attribute = check_number(value, spec["attr"], spec["least"])

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record."""
        variant = _core.ACTIVATIONS[self.name]["index"]
        return make_record("activation", variant, n_in, n_in, attr=self._attribute)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        attr = _core.ACTIVATIONS[self.name]["attr"]
        return {attr: self._attribute} if attr else {}


class PReLU(LayerOfParts):
    """y = x if x > 0, else slope x, with a trained slope (n,) for each unit (He et al. 2015).

    init: the first value of every slope, a finite number.

    The slopes are not decayed or penalized, like biases: that would draw them to ReLU. PyTorch's
    `PReLU(num_parameters=n)`. Raises ValueError for an init that is not finite.
    """

    bends = True
    init_before = _core.ACTIVATIONS["leaky_relu"]["init"]

    def __init__(self, init: float = 0.25) -> None:
        self.init = check_number(init, "init", -math.inf)

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record."""
        return make_record("prelu", 0, n_in, n_in)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return {"init": self.init}

    @property
    def parts(self) -> tuple[tuple[str, str, float], ...]:
        """See LayerOfParts.parts."""
        return (("slope", "b", self.init),)

    @property
    def slope(self) -> Array:
        """The slopes (n,): a view into the flat parameters."""
        return self._part("slope")

    @slope.setter
    def slope(self, values: ArrayLike) -> None:
        self._assign("slope", self.slope, values)

    @property
    def slope_grad(self) -> Array:
        """Gradient of the loss by the slopes, as the last backward left it."""
        return self._part("slope", grad=True)

    @slope_grad.setter
    def slope_grad(self, values: ArrayLike) -> None:
        self._assign("slope_grad", self.slope_grad, values)


class GLU(Layer):
    """y = a g(b), with a the first half of the features and b the second (Dauphin et al. 2017).

        Sequential([Linear(8, 2 * 32), GLU("swish"), Linear(32, 3)])

    gate: the name of g: "sigmoid" is GLU as in PyTorch, "swish" (or "silu") SwiGLU, "gelu" GEGLU
        (Shazeer 2020). Any other activation without a setting and without a kink will do.

    The layer halves the width. Raises ValueError for another gate, and for an odd number of
    features.
    """

    bends = True
    init_before = _core.ACTIVATIONS["silu"]["init"]  # keeps the size of what goes through

    def __init__(self, gate: str = "sigmoid") -> None:
        self.gate = "silu" if gate == "swish" else gate
        facts = _core.ACTIVATIONS.get(self.gate) if isinstance(gate, str) else None
        if facts is None or not _is_gate(facts):
            known = [name for name, facts in _core.ACTIVATIONS.items() if _is_gate(facts)]
            raise ValueError(f"gate={gate!r} is unknown; use one of swish, {', '.join(known)}")

    def width_out(self, n_in: int | None) -> int | None:
        """See Layer.width_out; raises ValueError for an odd number of features."""
        if n_in is None:
            return None
        if n_in % 2:
            raise ValueError(
                f"{self!r} halves the number of features, but {n_in} come in; give it an even "
                f"number, with Linear({n_in + 1}) before it for instance"
            )
        return n_in // 2

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record."""
        n_out = self.width_out(n_in)
        assert n_out is not None  # because n_in is known
        return make_record("glu", _core.ACTIVATIONS[self.gate]["index"], n_in, n_out)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        return {"gate": self.gate}


def _is_gate(facts: dict[str, Any]) -> bool:
    """Whether an activation has neither a setting nor a kink."""
    return not facts["attr"] and math.isnan(facts["kink"])


def _activation_class(name: str, spec: dict[str, Any]) -> type[Activation]:
    """Return the class for one line of the list, with its setting as a property."""
    members: dict[str, Any] = {
        "name": name,
        "__doc__": f"y = {spec['formula']}, elementwise.",
        "__module__": __name__,
        "init_before": spec["init"],
    }
    if spec["attr"]:
        members[spec["attr"]] = property(lambda self: self._attribute)
    return type(spec["class_name"], (Activation,), members)


ACTIVATION_CLASSES: dict[str, type[Activation]] = {
    spec["class_name"]: _activation_class(name, spec) for name, spec in _core.ACTIVATIONS.items()
}
globals().update(ACTIVATION_CLASSES)  # pickle looks for a class in its module
