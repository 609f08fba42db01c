"""The step lengths of derivatives by differences.

A difference has two errors: a power of the step, and rounding divided by the step. Both depend on
how far the step moves the inputs of the nonlinear parts of a network, which are called bends here:
activations, normalizations and the loss. So the step is chosen by that movement, whatever the size
of the inputs and weights.

The input of a smooth bend may move by eps^(1/5) of its own scale; both errors of a fourth-order
difference are then near 1e-12. Every value that crosses a kink (ReLU) adds a wrong term. So the
input of a bend with a kink moves by only a millionth of its usual size.
"""

import math
from typing import Any

import numpy as np

from .. import _core
from ..ground.arrays import Array, Vector
from ..ground.errors import warn
from ..second_order.objective import BLOCK_ROWS, Objective

START = 1e-6  # the first step tried, and the result if no bend moves
_EPS = float(np.finfo(np.float64).eps)
_SMOOTH, _KINK = math.pow(_EPS, 0.2), 1e-6  # allowed movements, as shares of the scale
_TRIES, _LONGEST = 8, 1e6
_REACH = 3 * _KINK  # the farthest movement: a step of 2 h, at 1.5 times the allowed movement
_LAYER_NORM, _RMS_NORM, _ACTIVATION = (
    _core.OPS[name] for name in ("layer_norm", "rms_norm", "activation")
)
_ACTIVATIONS = list(_core.ACTIVATIONS.values())


def _facts(op: Array) -> dict[str, Any]:
    """Return form and kink of an op as the registry has them."""
    kind = int(op["kind"])
    return _ACTIVATIONS[int(op["variant"])] if kind == _ACTIVATION else _core.OP_FACTS[kind]


def step_along(objective: Objective, params: Vector, v: Vector) -> float:
    """Return the step h of a fourth-order difference, at params +- h v and params +- 2 h v.

    The objective must be in float64, with each activation as its own op.
    """
    h = START
    for _ in range(_TRIES):
        moved = _movement(objective, params, h * v)
        if moved == 0 or 0.3 <= moved <= 1.5:
            break
        h = min(h / moved, _LONGEST) if math.isfinite(moved) else 1e-3 * h
    return h


def warn_of_kinks(objective: Objective, params: Vector) -> None:
    """Warn if the input of an activation is so near to its kink that a step may cross it.

    In a new network, for instance, a unit is on the kink if all of its inputs and its bias are 0.
    """
    rows = _rows_at_kinks(objective, params)
    if not rows:
        return
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    where = f"rows {shown} of X each bring" if len(rows) > 1 else f"row {shown} of X brings"
    warn(
        f"{where} an activation to its kink, where differences tell no derivative; leave out what "
        "does, or give the biases of the layers before it other values than 0"
    )


def _rows_at_kinks(objective: Objective, params: Vector) -> list[int]:
    executor, found = objective.executor, []
    objective.put(params)
    for first in range(0, len(objective.x), BLOCK_ROWS):
        x = objective.x[first : first + BLOCK_ROWS]
        executor.reserve(len(x))
        executor.context.forward(x, False, objective.threads)
        near = np.zeros(len(x), bool)
        for i, op in enumerate(executor.layout.ops):
            kink = _facts(op)["kink"]
            if not math.isnan(kink):
                values = executor.input_of(i, x)
                size = float(np.sqrt(np.mean(np.square(values))))
                near |= (np.abs(np.abs(values) - kink) <= _REACH * size).any(axis=1)
        if objective.weights is not None:
            near &= objective.weights[first : first + BLOCK_ROWS] > 0
        counting = objective.loss.counting(objective.y[first : first + BLOCK_ROWS])
        if counting is not None:
            near &= counting
        found += (first + np.flatnonzero(near)).tolist()
    return found


def _movement(objective: Objective, params: Vector, shift: Vector) -> float:
    """Return the largest movement of the inputs of all bends, as a share of the allowed one."""
    moved = 0.0
    for first in range(0, len(objective.x), BLOCK_ROWS):
        x = objective.x[first : first + BLOCK_ROWS]
        objective.put(params)
        before = _inputs_of_bends(objective, x)
        objective.put(params + shift)
        with np.errstate(over="ignore", invalid="ignore"):
            for (old, room), (new, _) in zip(before, _inputs_of_bends(objective, x), strict=True):
                share = float(np.max(np.abs(new - old) / room))
                moved = max(moved, share) if math.isfinite(share) else math.inf
    return moved


def _inputs_of_bends(objective: Objective, x: Array) -> list[tuple[Array, Array | float]]:
    """Return the inputs of every bend for x, with their allowed movement."""
    executor, found = objective.executor, []
    executor.reserve(len(x))
    out = executor.context.forward(x, False, objective.threads).copy()
    for i, op in enumerate(executor.layout.ops):
        values, kind = executor.input_of(i, x), int(op["kind"])
        if kind in (_LAYER_NORM, _RMS_NORM):
            center = values.mean(axis=1, keepdims=True) if kind == _LAYER_NORM else 0.0
            square = np.square(values - center).mean(axis=1, keepdims=True)
            found.append((values.copy(), _SMOOTH * np.sqrt(square + op["attr0"])))
            continue
        facts = _facts(op)
        is_kinked = not math.isnan(facts["kink"])
        if kind == _ACTIVATION or is_kinked or facts["form"] != "straight":
            found.append((values.copy(), _room(values, facts["form"], is_kinked)))
    # Nothing is known about a user's own loss, so it may have kinks.
    facts = _core.LOSSES.get(objective.loss.name, {"form": "curved", "kinked": True})
    return [*found, (out, _room(out, facts["form"], facts["kinked"]))]


def _room(x: Array, form: str, kinked: bool) -> float:
    """Return the allowed movement of the input x of an activation or a loss."""
    size, largest = float(np.sqrt(np.mean(np.square(x)))) or 1.0, float(np.abs(x).max())
    room = _KINK * size if kinked else math.inf
    if form == "parabola":
        return _SMOOTH * size  # a parabola has no scale of its own
    if form == "curved":  # the scale is 1; the rounding grows with x
        room = min(room, math.pow(_EPS * max(1.0, largest), 0.2))
    return room
