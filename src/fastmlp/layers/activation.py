"""Activations: one class for each line of the list in `csrc/registry.h`."""

from __future__ import annotations  # so that numpy.random, slow to load, loads on first use

from typing import Any

from .. import _core
from ..ground.arrays import Array
from ..ground.checks import as_real
from ..ground.dialects import ARGUMENTS
from .base import Layer, make_record


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
        number = as_real(value)
        if number is None or number < spec["least"]:
            least = f"{spec['least']:g}"
            raise ValueError(f"{spec['attr']} must be a finite number >= {least}, not {value!r}")
        self._attribute = number

    def record(self, n_in: int, index: int) -> Array:
        """See Layer.record."""
        variant = _core.ACTIVATIONS[self.name]["index"]
        return make_record("activation", variant, n_in, n_in, attr=self._attribute)

    def config(self) -> dict[str, Any]:
        """See Layer.config."""
        attr = _core.ACTIVATIONS[self.name]["attr"]
        return {attr: self._attribute} if attr else {}


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
