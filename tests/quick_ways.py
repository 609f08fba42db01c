"""What the tests of the quick way share: networks, arrays, and the switch to the long way."""

import warnings

import numpy as np
import pytest
from helpers import ACTIVATIONS, activation, fitting, inputs

from fastmlp import (
    BatchNorm,
    Dropout,
    LayerNorm,
    Linear,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Standardize,
)

COUNTERS = ("t", "updates", "epoch", "position", "passes", "schedule_start", "n_averaged")
COUNTERS += ("running", "capacity", "rows")


class NoQuickWay:
    """In place of `executor.quick`: every call takes the long way."""

    def remember(self, *_):
        pass

    def step(self, *_):
        return None

    predict = predict_row = step


def slow(net):
    net._engine.quick = NoQuickWay()
    return net


def state_of(net):
    """All that a step may change, and what the network knows of it."""
    context = net._engine.context
    arrays = [net.params, net.grads, net.stats, *(net._state or ())]
    arrays += [] if net._average is None else [net._average]
    return (
        [array.tobytes() for array in arrays],
        [getattr(context, name) for name in COUNTERS],
        (net.loss, type(net.loss), net.optimizer, net.metrics, net._shows_average),
    )


def refusal(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which: the long way says
            call()
    return type(caught.value), str(caught.value)


# ---- networks ------------------------------------------------------------------------------------

STACKS = {
    **{name: lambda n, name=name: [Linear(9), activation(name), Linear(n)] for name in ACTIVATIONS},
    "one layer": lambda n: [Linear(n)],
    "dropout": lambda n: [Linear(40), ReLU(), Dropout(0.3), Linear(n)],
    "batch norm": lambda n: [Linear(9), BatchNorm(), ReLU(), Linear(n)],
    "bare batch norm": lambda n: [BatchNorm(scale=False, shift=False), Linear(n)],
    "layer norm": lambda n: [Linear(9), LayerNorm(), ReLU(), Linear(n)],
    "bare layer norm": lambda n: [Linear(9), LayerNorm(scale=False, shift=False), Linear(n)],
    "rms norm": lambda n: [Linear(9), RMSNorm(), ReLU(), Linear(n)],
    "residual": lambda n: [Linear(9), Residual([Linear(9), Dropout(0.2)]), Linear(n)],
    "standardize": lambda n: [Standardize(), Linear(20), ReLU(), Linear(n)],
    "no bias": lambda n: [Linear(200, bias=False), ReLU(), Linear(n, bias=False)],
}


def make(stack, loss, dtype="float32", n_in=6):
    net = Sequential(STACKS[stack](fitting(loss, 4)), n_in=n_in, seed=3, dtype=dtype)
    if net._standardize is not None:
        net._standardize.adapt(3 * inputs(50, n_in) + 1)
    return net


def small(**settings):
    return Sequential([Linear(6, 9), ReLU(), Linear(9, 4)], seed=1, **settings)


# ---- arrays --------------------------------------------------------------------------------------

X, LABELS = inputs(40, 6, "float32"), np.random.default_rng(1).integers(0, 4, 40)
VALUES = inputs(40, 4, "float32", seed=7)


def read_only(array):
    twin = array.copy()
    twin.flags.writeable = False
    return twin


def changed(array, place, value):
    twin = array.copy()
    twin[place] = value
    return twin


CONVERTED = {
    "lists": (X.tolist(), LABELS.tolist()),
    "float64": (X.astype("d"), LABELS),
    "float16": (X.astype(np.float16), LABELS),
    "big-endian": (X.astype(">f4"), LABELS.astype(">i8")),
    "Fortran order": (np.asfortranarray(X), LABELS),
    "every other row": (np.repeat(X, 2, 0)[::2], np.repeat(LABELS, 2)[::2]),
    "backwards": (X[::-1], LABELS[::-1]),
    "integers": ((10 * X).astype(int), LABELS.astype(np.int8)),
    "unsigned labels": (X, LABELS.astype(np.uint64)),
    "labels as floats": (X, LABELS.astype("f")),
    "long long": (X, LABELS.astype(np.longlong)),
    "unaligned": (np.frombuffer(b"x" + X.tobytes(), "f", offset=1).reshape(X.shape), LABELS),
    "subclass": (X.view(np.matrix), LABELS),
    "masked": (np.ma.masked_array(X), LABELS),
    "more rows": (np.tile(X, (9, 1)), np.tile(LABELS, 9)),
    "one row": (X[:1], LABELS[:1]),
}
BAD_INPUTS = {
    "NaN": changed(X, (3, 2), np.nan),
    "infinity in the last element": changed(X, (39, 5), -np.inf),
    "one row as a vector": X[0],
    "a column less": X[:, :5].copy(),
    "x is None": None,
    "text": np.full((40, 6), "a"),
    "three dimensions": X[np.newaxis],
}
BAD_THREADS = {
    "no threads": 0,
    "threads below 0": -1,
    "too many threads": 1025,
    "half a thread": 1.5,
    "a true thread": True,
    "threads in text": "2",
    "a huge number of threads": 10**30,
}
