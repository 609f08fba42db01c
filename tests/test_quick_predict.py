"""predict and predict_row: the quick way beside the long one."""

import contextlib

import numpy as np
import pytest
from helpers import DTYPES, inputs, native_only
from quick_ways import (
    BAD_INPUTS,
    BAD_THREADS,
    CONVERTED,
    LABELS,
    STACKS,
    X,
    changed,
    make,
    read_only,
    refusal,
    slow,
    small,
    state_of,
)

from fastmlp import DivergenceError, Linear, ReLU, Sequential, Standardize
from fastmlp.network import network


@pytest.fixture
def long_predictions(monkeypatch):
    """The inputs of predict and predict_row that took the long way."""
    taken = []

    def count(original):
        def counted(x, *args):
            taken.append(x)
            return original(x, *args)

        return counted

    for name in ("as_finite", "as_row"):
        monkeypatch.setattr(network, name, count(getattr(network, name)))
    return taken


@native_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("rows", [1, 2, 5, 16, 17])
def test_both_ways_predict_the_same(rows, stack, dtype, long_predictions):
    net = make(stack, "cross_entropy", dtype)
    net.fit(inputs(64, 6, dtype), np.arange(64) % 4, epochs=1)
    x = inputs(rows, 6, dtype, seed=5)
    threads = (None, 1, 2)
    quick = [net.predict(x, threads=n) for n in threads]
    quick += [net.predict_row(x[0]), net.predict_row(x[0], np.empty(4, dtype))]
    assert long_predictions == []
    slow(net)
    long = [net.predict(x, threads=n) for n in threads]
    long += [net.predict_row(x[0]), net.predict_row(x[0], np.empty(4, dtype))]
    assert len(long_predictions) == len(long)
    for a, b in zip(quick, long, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        assert a.flags.owndata
        assert a.flags.writeable


@native_only
def test_many_rows_and_wide_layers_are_shared_among_threads(long_predictions):
    wide = Sequential([Linear(700, 700), ReLU(), Linear(700, 4)])
    assert wide.predict(inputs(1, 700, "float32")).shape == (1, 4)
    assert small().predict(np.tile(X, (200, 1))).shape == (8000, 4)
    assert len(long_predictions) == 2


@pytest.mark.parametrize("case", CONVERTED)
def test_other_rows_are_predicted_the_same(case):
    x = CONVERTED[case][0]
    net = small()
    quick = net.predict(x), net.predict_row(np.asarray(x)[0])
    slow(net)
    long = net.predict(x), net.predict_row(np.asarray(x)[0])
    assert [a.tobytes() for a in quick] == [a.tobytes() for a in long]


REFUSED_PREDICTIONS = {
    **{name: lambda net, x=x: net.predict(x) for name, x in BAD_INPUTS.items()},
    **{name: lambda net, n=n: net.predict(X[:1], threads=n) for name, n in BAD_THREADS.items()},
    "no rows": lambda net: net.predict(X[:0]),
    "NaN in a row": lambda net: net.predict_row(changed(X, (0, 5), np.nan)[0]),
    "a matrix": lambda net: net.predict_row(X[:1]),
    "a short row": lambda net: net.predict_row(X[0, :5]),
    "out in float64": lambda net: net.predict_row(X[0], np.empty(4)),
    "out too long": lambda net: net.predict_row(X[0], np.empty(5, "f")),
    "out is a list": lambda net: net.predict_row(X[0], [0.0] * 4),
    "out is read-only": lambda net: net.predict_row(X[0], read_only(np.empty(4, "f"))),
    "out with gaps": lambda net: net.predict_row(X[0], np.empty(8, "f")[::2]),
}


@pytest.mark.parametrize("case", REFUSED_PREDICTIONS)
def test_predictions_are_refused_in_the_same_words(case):
    net = small()
    words = refusal(lambda: REFUSED_PREDICTIONS[case](net))
    assert words == refusal(lambda: REFUSED_PREDICTIONS[case](slow(net)))


def test_out_of_another_shape_is_written_as_ever():
    net, out = small(), np.empty((2, 2), "f")
    assert net.predict_row(X[0], out) is out
    assert out.tobytes() == net.predict_row(X[0]).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_standardize_that_does_not_know_the_data_refuses(dtype):
    net = Sequential([Standardize(), Linear(6, 9), ReLU(), Linear(9, 4)], dtype=dtype)
    x = X.astype(dtype)
    calls = [
        lambda: net.train_step(x, LABELS),
        lambda: net.predict(x[:1]),
        lambda: net.predict_row(x[0]),
    ]
    for call in calls:
        assert "does not know the data" in refusal(call)[1]
    net.fit(x, LABELS, epochs=1)
    for call in calls * 2:
        call()
    tiny = np.full(6, np.finfo(dtype).smallest_subnormal)
    net._standardize.std[:] = tiny  # the least that is known
    with contextlib.suppress(DivergenceError):
        calls[0]()
    for call in calls[1:]:
        call()
    net._standardize.std[-1] = 0
    before = state_of(net)
    for call in calls:
        assert "does not know the data" in refusal(call)[1]
    assert state_of(net) == before
