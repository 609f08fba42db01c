"""Which steps are taken on one thread and which on all, by how long they take: simulated, since a
test has no business with the clock."""

import numpy as np
import pytest

from fastmlp import _core

US, MS, SECOND = 1e3, 1e6, 1e9


def total(alone, together):
    """Nanoseconds that the steps take as they are chosen, and the choices."""
    ways = _core.taken_alone(alone, together)
    return np.where(ways, alone, together).sum(), ways


def steps_of(duration, seconds=20):
    return np.full(int(seconds * SECOND / duration), float(duration))


@pytest.mark.parametrize("duration", [20 * US, 700 * US, 60 * MS])
def test_the_faster_way_is_kept(duration):
    steps = steps_of(duration)
    for alone, together in [(2, 1), (1, 1.6), (1.1, 1), (1, 1.1)]:
        took, _ = total(alone * steps, together * steps)
        assert took < 1.05 * min(alone, together) * steps.sum()


def test_what_is_equal_is_shared():
    _, ways = total(*2 * [steps_of(MS)])
    assert ways.mean() < 0.05


@pytest.mark.parametrize("duration", [20 * US, 700 * US])
def test_a_change_of_the_machine_is_noticed(duration):
    steps = steps_of(duration)
    far = np.arange(len(steps)) // (len(steps) // 4) % 2  # by turns
    together = steps * np.where(far, 1.6, 0.6)
    took, ways = total(steps, together)
    assert took < 1.1 * np.minimum(steps, together).sum()
    assert ways[far == 1].mean() > 0.8


def stalls_of(every, length, steps):
    """The steps, of which one has a stall after every so many nanoseconds."""
    stalled = steps.copy()
    stalled[:: int(every / steps[0])] += length
    return stalled


def test_stalls_now_and_then_are_put_up_with():
    steps = steps_of(700 * US)
    _, ways = total(1.8 * steps, stalls_of(300 * MS, 3 * MS, steps))
    assert ways.mean() < 0.05


def test_where_stalls_go_on_one_thread_works_alone():
    steps = steps_of(700 * US)
    alone = 1.3 * steps
    took, ways = total(alone, stalls_of(6 * MS, 4 * MS, steps))
    assert took < 1.05 * alone.sum()
    assert ways.mean() > 0.9


def test_a_short_training_tries_nothing():
    _, ways = total(*2 * [steps_of(100 * US, seconds=0.015)])
    assert not ways.any()
