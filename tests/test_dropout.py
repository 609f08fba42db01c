"""Dropout: the right share, independent everywhere, scaled, remembered, and gone at test time."""

import numpy as np
import pytest
import reference
from helpers import DTYPES, assert_within, inputs
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import Dropout, Sequential

sizes = st.integers(1, 70)


def kept(p, rows=200, n=300, net=None, dtype="float32"):
    """Where ones survive dropout."""
    return (net or Dropout(p, seed=1)).forward(np.ones((rows, n), dtype), training=True) != 0


def sigmas(share, p, count):
    """Distance of an observed share from p in standard deviations of a binomial distribution."""
    return abs(share - p) / np.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_dropout_drops_the_right_share(p):
    mask = kept(p)
    rows, n = mask.shape
    assert sigmas(mask.mean(), 1 - p, mask.size) < 5
    assert max(sigmas(share, 1 - p, rows) for share in mask.mean(axis=0)) < 6
    assert max(sigmas(share, 1 - p, n) for share in mask.mean(axis=1)) < 6


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_is_independent_between_places_and_passes(p):
    """Two places are both kept with probability (1 - p)^2, whichever way they are neighbors."""
    layer = Dropout(p, seed=1)
    first, second = kept(p, net=layer), kept(p, net=layer)
    both = (1 - p) ** 2
    for a, b in [
        (first[1:], first[:-1]),
        (first[:, 1:], first[:, :-1]),
        (first[:, 16:], first[:, :-16]),
        (first, second),
    ]:
        assert sigmas((a & b).mean(), both, a.size) < 5


def test_two_dropout_layers_draw_different_masks():
    net = Sequential([Dropout(0.5), Dropout(0.5)], n_in=300)
    assert sigmas(kept(0.5, net=net).mean(), 0.25, 200 * 300) < 5


def test_dropout_follows_the_seed():
    a, b, c = (kept(0.5, net=Sequential([Dropout(0.5)], n_in=300, seed=s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert sigmas((a & c).mean(), 0.25, a.size) < 5
    same = kept(0.5, net=Dropout(0.5, seed=9)) & kept(0.5, net=Dropout(0.5, seed=9))
    assert sigmas(same.mean(), 0.5, same.size) < 5


def test_dropout_layers_alone_do_not_share_masks():
    """Without a seed each layer draws one of its own; 8 sigmas, since chance is not fixed here."""
    both = kept(0.5, net=Dropout(0.5)) & kept(0.5, net=Dropout(0.5))
    assert sigmas(both.mean(), 0.25, both.size) < 8


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    rows=sizes, n=sizes, p=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75]), seed=st.integers(0, 1000)
)
def test_dropout_scales_and_remembers(dtype, rows, n, p, seed):
    """The twin with the mask that is seen, forward and backward: kept values grow by 1 / (1 -
    p)."""
    x, dy = inputs(rows, n, dtype, seed), inputs(rows, n, dtype, seed + 1)
    layer = Dropout(p, seed=seed)
    y, dx = layer.forward(x, training=True), layer.backward(dy)
    mask = (y != 0).astype(float)
    assert_within(y, reference.dropout(x.astype(float), mask, p), np.abs(y), c=1)
    assert_within(dx, reference.dropout(dy.astype(float), mask, p), np.abs(dx), c=1)
    if p == 0:
        np.testing.assert_array_equal(y, x)


def test_dropout_does_nothing_at_test_time():
    x, dy = inputs(50, 30, "float32"), inputs(50, 30, "float32", seed=1)
    layer = Dropout(0.5)
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(dy), dy)
    net = Sequential([Dropout(0.9)], n_in=30)
    np.testing.assert_array_equal(net.predict(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, np.nan, "half"])
def test_dropout_probability_is_checked(p):
    with pytest.raises((ValueError, TypeError)):
        Dropout(p)
