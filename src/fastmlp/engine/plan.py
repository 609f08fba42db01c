"""The planner: from layers to a program, which is records of ops and the sizes of their buffers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from .. import _core
from ..ground.arrays import Array

ABSENT = -1
_ALIGNMENT = 64  # bytes of a cache line, and of the widest vector


@dataclass(frozen=True)
class Layout:
    """A planned network.

    Offsets of parameters are elements of the flat arrays, weights before biases.
    """

    ops: Array
    n_params: int
    n_decayed: int
    acts_width: int
    dacts_width: int
    n_stats: int = 0

    @property
    def n_in(self) -> int:
        """The number of input features."""
        return int(self.ops[0]["n_in"])

    @property
    def n_out(self) -> int:
        """The number of outputs of the last op."""
        return int(self.ops[-1]["n_out"])

    def part(self, first: int, n: int = 1) -> "Layout":
        """Return the program of n ops alone, over the same flat parameters and statistics."""
        ops = self.ops[first : first + n].copy()
        widths = _place_activations(ops)
        return Layout(ops, self.n_params, self.n_decayed, *widths, self.n_stats)


class Planned(Protocol):
    """The part of a layer that the planner uses."""

    @property
    def n_in(self) -> int | None:
        """The number of input features; None while it is not known."""

    def record(self, n_in: int, index: int) -> Array:
        """Return the layer as one op for an input of n_in features, without offsets."""

    def width_out(self, n_in: int | None) -> int | None:
        """Return the number of outputs for n_in features; None if it depends on an unknown n_in."""

    def width_hint(self, n_in: int) -> str:
        """Return the advice if n_in features come in and the layer has another width."""

    def config(self) -> dict[str, Any]:
        """The arguments that make this layer again."""

    def leaves(self) -> list[Any]:
        """Return the layers that are ops of the program, in its order."""

    def named_leaves(self, name: str) -> list[tuple[str, Any]]:
        """Those that may hold arrays, each with its name in a model file."""


P = TypeVar("P", bound=Planned)


def leaves_of(layers: Sequence[P]) -> list[P]:
    """Return the layers that are ops of the program, in its order, with those inside blocks."""
    return [leaf for layer in layers for leaf in layer.leaves()]


def width_behind(layers: Sequence[Planned], n_in: int | None) -> int | None:
    """Return the number of outputs of layers one after another; None if n_in decides and is None.

    The layers of a block count one by one, so it tells its width if one of them does.
    """
    for leaf in leaves_of(layers):
        n_in = leaf.width_out(n_in)
    return n_in


def plan(
    layers: Sequence[Planned],
    n_in: int,
    dtype: DTypeLike = "float32",
    fuse: bool = True,
    alone: bool = False,
) -> Layout:
    """Lay out layers one after another.

    An activation whose slope is a function of its output is fused into the Linear before it, unless
    `fuse` is False. `alone` means a single layer outside of a network. Raises ValueError if the
    widths do not follow on each other, or a setting is too large for dtype.
    """
    if not layers:
        raise ValueError(
            "layers is empty; a network needs at least one, [Linear(4, 3)] for instance"
        )
    ops: list[Array] = []
    names = _names(layers, alone)
    for index, layer in enumerate(leaves_of(layers)):
        if layer.n_in not in (None, n_in):
            raise ValueError(
                f"{names[id(layer)]} is {layer!r}, but what comes in has {n_in} features; "
                f"{layer.width_hint(n_in)}"
            )
        record = layer.record(n_in, index)
        if id(layer) in names:  # the two ends of a block have neither name nor settings
            _check_range(layer, names[id(layer)], np.dtype(dtype))
        if fuse and ops and _fuses(ops[-1], record):
            ops[-1]["variant"], ops[-1]["attr0"] = record["variant"], record["attr0"]
        else:
            ops.append(record)
        n_in = int(record["n_out"])
    program = np.array(ops, dtype=_core.OP_DTYPE)
    _link_branches(program)
    widths = _place_activations(program)
    n_decayed, n_params, n_stats = _place_parameters(program, np.dtype(dtype))
    return Layout(program, n_params, n_decayed, *widths, n_stats)


def _names(layers: Sequence[Planned], alone: bool) -> dict[int, str]:
    """Return the user's name of each layer that may hold arrays, by the identity of the layer."""
    return {
        id(leaf): name
        for i, layer in enumerate(layers)
        for name, leaf in layer.named_leaves(type(layer).__name__ if alone else f"layer {i}")
    }


def _check_range(layer: Planned, name: str, dtype: np.dtype[Any]) -> None:
    """Raise ValueError for a setting that would be infinite in the kernels."""
    largest = float(np.finfo(dtype).max)
    for setting, value in layer.config().items():
        if isinstance(value, float) and value > largest:
            raise ValueError(
                f"{name} is {layer!r}, but {setting} may be at most {largest:.3g} in {dtype}; "
                'use a smaller one, or dtype="float64"'
            )


def _fuses(before: Array, op: Array) -> bool:
    """Whether `op` is an activation that `before`, a linear op without one, can take over."""
    activations = list(_core.ACTIVATIONS.values())
    return bool(
        before["kind"] == _core.OPS["linear"]
        and before["variant"] == _core.ACTIVATIONS["identity"]["index"]
        and op["kind"] == _core.OPS["activation"]
        and activations[int(op["variant"])]["from_y"]
    )


def _link_branches(ops: Array) -> None:
    """Write into each branch and its add the distance between them; ValueError for other widths."""
    open_branches: list[int] = []
    for i, op in enumerate(ops):
        if op["kind"] == _core.OPS["branch"]:
            open_branches.append(i)
        if op["kind"] == _core.OPS["add"]:
            branch = open_branches.pop()
            n_in, n_out = int(ops[branch]["n_in"]), int(op["n_out"])
            if n_in != n_out:
                raise ValueError(
                    f"a Residual takes {n_in} features in, but its layers end with {n_out}; end "
                    f"them with Linear({n_in})"
                )
            ops[branch]["variant"], op["variant"] = i - branch, branch - i


def _place_activations(ops: Array) -> tuple[int, int]:
    """Place the outputs one after another, each followed by the numbers that its op keeps.

    The gradients by the outputs have a buffer of their own. Returns the widths of both buffers.
    """
    kept = np.array([_core.op_sizes(np.dtype(np.float32), op)[3] for op in ops])
    for y, x, widths in (("y", "x", ops["n_out"] + kept), ("dy", "dx", ops["n_out"])):
        ops[y] = np.cumsum(widths) - widths
        ops[x][0], ops[x][1:] = ABSENT, ops[y][:-1]
    return int((ops["n_out"] + kept).sum()), int(ops["n_out"].sum())


def _place_parameters(ops: Array, dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """Place the weights of all ops, then the biases; statistics are in an array of their own.

    There is no padding, so that the flat arrays hold the parameters and nothing else.
    """
    sizes = [_core.op_sizes(dtype, op) for op in ops]
    offset = 0
    for place, part in (("w", 0), ("b", 1)):
        for op, size in zip(ops, sizes, strict=True):
            op[place] = offset if size[part] else ABSENT
            offset += size[part]
    statistics = 0
    for op, size in zip(ops, sizes, strict=True):
        op["s"] = statistics if size[2] else ABSENT
        statistics += size[2]
    return sum(size[0] for size in sizes), offset, statistics


def aligned_empty(size: int, dtype: DTypeLike) -> Array:
    """Return an uninitialized flat array that begins at a cache line."""
    dtype = np.dtype(dtype)
    raw = np.empty(size * dtype.itemsize + _ALIGNMENT, dtype=np.uint8)
    first = -raw.ctypes.data % _ALIGNMENT
    return raw[first : first + size * dtype.itemsize].view(dtype)


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """Return a flat array of zeros that begins at a cache line."""
    array = aligned_empty(size, dtype)
    array.fill(0)
    return array
