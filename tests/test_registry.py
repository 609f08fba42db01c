"""Facts of registry.h: each holds for the function itself, and none stands in Python again."""

import ast
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import _core, layers

ACTIVATIONS = _core.ACTIVATIONS
# What shows, maps or documents names, and decides nothing by them
ALLOWED = {"__init__.py", "dialects.py"}


def apply(name, z):
    """It, of numbers in float64."""
    net = fastmlp.Sequential(
        [layers.ACTIVATION_CLASSES[ACTIVATIONS[name]["class_name"]]()], n_in=1, dtype="float64"
    )
    return net.predict(np.reshape(z, (-1, 1)))[:, 0]


def slopes(name, at, h=1e-6):
    """To the left and to the right of a place."""
    left, here, right = apply(name, np.array([at - h, at, at + h]))
    return (here - left) / h, (right - here) / h


def bends(name, at, h=1e-3):
    """The second derivative to the left and to the right of a place."""
    z = apply(name, at + h * np.arange(-2, 3))
    return (z[2] - 2 * z[1] + z[0]) / h**2, (z[4] - 2 * z[3] + z[2]) / h**2


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_its_range_is_that_of_the_function(name):
    low, lower, high, higher = apply(name, np.array([-1e4, -1e3, 1e3, 1e4]))
    up, down = higher > high + 1, low < lower - 1
    flat = slopes(name, -5.0) == (0, 0)
    found = (
        "unbounded"
        if up and down
        else "bounded"
        if not up
        else "half_flat"
        if flat
        else "half_open"
    )
    assert ACTIVATIONS[name]["range"] == found


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_its_slope_or_its_bend_jumps_at_its_kinks_alone(name):
    def jumps(at):
        by_slope, by_bend = np.subtract(*slopes(name, at)), np.subtract(*bends(name, at))
        return abs(by_slope) > 1e-4 or abs(by_bend) > 0.1

    kink = ACTIVATIONS[name]["kink"]
    where = [] if np.isnan(kink) else sorted({-kink, kink})
    assert [at for at in np.arange(-40, 41) / 4 if jumps(at)] == where


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_its_form_is_that_of_the_function(name):
    z = np.linspace(0.25, 2.5, 10)
    bent = np.abs(np.diff(apply(name, z), 2)).max() + np.abs(np.diff(apply(name, -z), 2)).max()
    assert ACTIVATIONS[name]["form"] == ("curved" if bent > 1e-9 else "straight")


def test_no_list_of_names_stands_in_python():
    names, found = {*ACTIVATIONS, *_core.LOSSES}, []
    for path in sorted(Path(fastmlp.__file__).parent.glob("**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = (
                node.elts
                if isinstance(node, ast.Tuple | ast.List | ast.Set)
                else node.keys
                if isinstance(node, ast.Dict)
                else []
            )
            texts = {part.value for part in parts if isinstance(part, ast.Constant)}
            if len(texts & names) >= 2 and path.name not in ALLOWED:
                found.append(f"{path.name}:{node.lineno}")
    assert not found, f"facts belong into csrc/registry.h: {found}"
