"""train_step's quick way beside the long one: the same bits and state, and who takes it."""

import copy
import dataclasses
import itertools
import re
import weakref

import numpy as np
import pytest
from helpers import AROUND, DTYPES, LOSSES, OPTIMIZERS, inputs, targets
from quick_ways import (
    CONVERTED,
    LABELS,
    STACKS,
    VALUES,
    NoQuickWay,
    X,
    changed,
    make,
    read_only,
    slow,
    small,
    state_of,
)

import fastmlp
from fastmlp import (
    EMA,
    SGD,
    Adam,
    CosineDecay,
    CrossEntropy,
    DivergenceError,
    Huber,
    Linear,
    ReLU,
    Sequential,
    squared_error,
)


@pytest.fixture
def long_steps(monkeypatch):
    """The networks of the steps that took the long way."""
    taken, original = [], Sequential._train_step

    def counted(self, *args):
        taken.append(self)
        return original(self, *args)

    monkeypatch.setattr(Sequential, "_train_step", counted)
    return taken


def anew(settings):
    """An equal object, as a literal in a loop makes one."""
    return settings if isinstance(settings, str | None) else copy.deepcopy(settings)


# ---- every layer, loss and optimizer -------------------------------------------------------------


def table():
    """Every stack, loss and optimizer, each with several of the others."""
    optimizers = {**OPTIMIZERS, **AROUND}
    n = max(len(STACKS), len(LOSSES), len(optimizers))
    for shift in range(3):
        for i in range(n):
            yield (
                list(STACKS)[i % len(STACKS)],
                list(LOSSES)[(i + 5 * shift) % len(LOSSES)],
                list(optimizers)[(i + 11 * shift) % len(optimizers)],
            )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("stack", "loss", "optimizer"), list(table()))
def test_both_ways_do_the_same(stack, loss, optimizer, dtype, weighted, long_steps):
    settings = LOSSES[loss] if "-" in loss else loss, {**OPTIMIZERS, **AROUND}[optimizer]
    nets = make(stack, loss, dtype), slow(make(stack, loss, dtype))
    rows, steps = (33, 7, 32, 33), 3
    losses = [], []
    for net, values in zip(nets, losses, strict=True):
        for i, n in itertools.product(range(steps), rows):
            x = inputs(n, 6, dtype, seed=n + i)
            y = targets(loss, n, net.n_out, dtype, seed=i)
            weights = np.random.default_rng(i).integers(0, 3, n).astype("d") if weighted else None
            first, second = settings if i == 0 else map(anew, settings)
            how = {"loss": first, "optimizer": second, "sample_weight": weights}
            try:
                values.append(net.train_step(x, y, threads=1 + i % 2, **how))
            except DivergenceError as error:
                values.append(str(error))
    assert isinstance(losses[0][1], float)
    assert list(map(repr, losses[0])) == list(map(repr, losses[1]))  # of all digits
    assert state_of(nets[0]) == state_of(nets[1])
    assert long_steps.count(nets[1]) == len(losses[1])
    assert long_steps.count(nets[0]) == 1  # the first, from which the quick way knows the settings


# ---- that usual calls take it --------------------------------------------------------------------


def test_usual_loops_take_the_quick_way(long_steps):
    usual = [
        lambda net: net.train_step(X, LABELS),
        lambda net: net.train_step(X, LABELS, loss="cross_entropy", optimizer="adam"),
        lambda net: net.train_step(X, LABELS, loss="cross_entropy", optimizer=Adam(1e-3)),
        lambda net: net.train_step(X, LABELS, loss=CrossEntropy(), optimizer=Adam(lr=0.001)),
        lambda net: net.train_step(X, LABELS, optimizer=SGD(0.1, momentum=0.9), threads=2),
        lambda net: net.train_step(X, LABELS, sample_weight=np.ones(40)),
        lambda net: net.train_step(X, LABELS[:, np.newaxis]),
        lambda net: net.train_step(X[8:24], LABELS[8:24]),
        lambda net: net.train_step(read_only(X), read_only(LABELS)),
        lambda net: net.train_step(
            X, VALUES, loss=Huber(0.5), optimizer=Adam(weight_average=EMA())
        ),
        lambda net: net.train_step(X, abs(VALUES), loss="poisson", optimizer="rmsprop"),
        lambda net: net.train_step(X, np.abs(VALUES) % 1, loss="binary_cross_entropy"),
        lambda net: net.train_step(X, LABELS, optimizer=Adam(CosineDecay(1e-3, steps=9))),
    ]
    for call in usual:
        net = small()
        call(net)
        del long_steps[:]
        for _ in range(3):
            call(net)
        assert (long_steps, net.step) == ([], 4)
    one = Sequential([Linear(6, 1)])
    for _ in range(3):
        one.train_step(X, VALUES[:, 0].copy(), loss="squared_error")  # one value a row
    assert long_steps == [one]


def test_settings_given_once_may_be_left_out(long_steps):
    net, twin = small(), slow(small())
    for each in (net, twin):
        each.train_step(X, LABELS, loss=CrossEntropy(label_smoothing=0.1), optimizer=SGD(0.3))
        for _ in range(3):
            each.train_step(X, LABELS)
    assert long_steps.count(net) == 1
    assert state_of(net) == state_of(twin)


def test_the_last_object_is_the_one_that_the_network_has():
    net = small()
    for _ in range(3):
        loss, optimizer = CrossEntropy(), Adam(0.01)
        net.train_step(X, LABELS, loss=loss, optimizer=optimizer)
        assert net.loss is loss
        assert net.optimizer is optimizer


def test_moments_that_are_given_up_are_free():
    net = small()
    for _ in range(3):
        net.train_step(X, LABELS, optimizer=Adam())
    moments = weakref.ref(net._state[0])
    net.optimizer = None
    assert moments() is None


# ---- what is converted ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", CONVERTED)
@pytest.mark.parametrize(
    "weights", [None, "ones", "floats", "list", "strided", "read-only"], ids=str
)
def test_other_arrays_give_the_same(case, weights):
    x, y = CONVERTED[case]
    n = len(y)
    weights = {
        None: None,
        "ones": np.ones(n),
        "floats": np.linspace(0, 2, n, dtype="f"),
        "list": [1] * n,
        "strided": np.linspace(0, 2, 2 * n)[::2],
        "read-only": read_only(np.linspace(0, 1, n)),
    }[weights]
    nets = small(), slow(small())
    for net in nets:
        for _ in range(2):
            net.train_step(X, LABELS)
            net.train_step(x, y, sample_weight=weights)
    assert state_of(nets[0]) == state_of(nets[1])


@pytest.mark.parametrize("threads", [None, 1, 2, np.int64(2), 1024])
def test_any_way_to_name_threads(threads):
    nets = small(), slow(small())
    for net in nets:
        for _ in range(3):
            net.train_step(X, LABELS, threads=threads)
            net.predict(X[:1], threads=threads)
    assert state_of(nets[0]) == state_of(nets[1])


class Strange(Adam):
    """An optimizer of the user's own, whose equality cannot be asked."""

    def __eq__(self, other):
        raise RuntimeError("not to be compared")

    __hash__ = None


def test_optimizers_and_losses_of_own_classes_take_the_long_way(long_steps):
    """They may do more than to hold settings."""

    @dataclasses.dataclass(frozen=True, repr=False)
    class Halved(CrossEntropy):
        def reduce(self, total, rows):
            return super().reduce(total, rows) / 2

    nets = small(), small()
    for _ in range(3):
        for net, loss in zip(nets, (CrossEntropy(), Halved()), strict=True):
            net.train_step(X, LABELS, loss=CrossEntropy(), optimizer=Adam())
            net.train_step(X, LABELS, loss=CrossEntropy(), optimizer=Strange())
            net.value = net.train_step(X, LABELS, loss=loss, optimizer=Adam())
        assert nets[1].value == nets[0].value / 2
    assert state_of(nets[0])[:2] == state_of(nets[1])[:2]
    assert (long_steps.count(nets[0]), long_steps.count(nets[1])) == (7, 9)


def test_a_width_that_the_first_step_tells(long_steps):
    nets = [Sequential([Linear(9), ReLU(), Linear(4)], seed=1) for _ in range(2)]
    for net in nets:
        with pytest.raises(ValueError, match="infinity"):
            net.train_step(changed(X, (0, 0), np.inf), LABELS)
        net.train_step(X, LABELS)
    slow(nets[1])
    for net in nets:
        for _ in range(2):
            net.train_step(X, LABELS)
    assert state_of(nets[0]) == state_of(nets[1])
    assert long_steps.count(nets[0]) == 1


# ---- the scan ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 7, 16, 33, 100])
@pytest.mark.parametrize("bad", [-1e-30, np.nextafter(1, 2, dtype="d"), np.nan, np.inf, -np.inf])
def test_the_first_element_outside(n, bad, dtype):
    x = np.linspace(0, 1, n, dtype=dtype)
    assert fastmlp._core.first_outside(x, 0, 1) == -1
    assert fastmlp._core.first_outside(x, -np.inf, np.inf) == -1
    if dtype == "float32" and bad > 1 and np.isfinite(bad):
        bad = np.nextafter(np.float32(1), np.float32(2))
    for i in range(n):
        for later in {i, n - 1}:
            y = x.copy()
            y[[i, later]] = bad
            assert fastmlp._core.first_outside(y, 0, 1) == i
            expected = -1 if np.isfinite(bad) else i
            assert fastmlp._core.first_outside(y, -np.inf, np.inf) == expected


def test_words_of_the_switch_are_those_of_the_door():
    """So that `slow` above keeps covering what the quick way offers."""
    offered = {name for name in dir(fastmlp._core.QuickWay) if not re.match("_", name)}
    assert offered == {name for name in dir(NoQuickWay) if not re.match("_", name)}


def test_squared_error_by_hand_is_that_of_a_quick_step():
    """An oracle beside the twin: the loss that is returned is that before the update."""
    net = small()
    for _ in range(3):
        expected = squared_error(net.predict(X), VALUES)[0]
        got = net.train_step(X, VALUES, loss="squared_error")
        assert got == pytest.approx(expected, rel=1e-6)
