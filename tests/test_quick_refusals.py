"""What train_step's quick way refuses, and what comes between two steps: as with the long way."""

import contextlib
import copy
import math
import os
import pickle
import threading

import numpy as np
import pytest
from helpers import interrupted
from quick_ways import (
    BAD_INPUTS,
    BAD_THREADS,
    LABELS,
    VALUES,
    X,
    changed,
    make,
    refusal,
    slow,
    small,
    state_of,
)

import fastmlp
from fastmlp import (
    EMA,
    SGD,
    Adam,
    Callback,
    CosineDecay,
    CrossEntropy,
    DivergenceError,
    Dropout,
    Linear,
    Pinball,
    ReLU,
    RMSprop,
    Sequential,
)

# ---- what is refused -----------------------------------------------------------------------------


W = np.ones(40)
REFUSED_STEPS = {
    **{name: {"x": x} for name, x in BAD_INPUTS.items()},
    **{name: {"threads": n} for name, n in BAD_THREADS.items()},
    "no rows": {"x": X[:0], "y": LABELS[:0]},
    "other rows": {"y": LABELS[:39].copy()},
    "y is None": {"y": None},
    "label -1": {"y": changed(LABELS, 39, -1)},
    "label 4": {"y": changed(LABELS, 0, 4)},
    "one-hot integers": {"y": np.eye(4, dtype=int)[LABELS]},
    "boolean": {"y": LABELS > 1},
    "halves": {"y": LABELS + 0.5},
    "a number": {"y": np.int64(3)},
    "a scalar array": {"y": np.array(3)},
    "columns of labels": {"y": np.stack([LABELS, LABELS], 1)},
    "values": {"y": VALUES[:, :3].copy(), "loss": "squared_error"},
    "values in a row": {"y": VALUES[:, 0].copy(), "loss": "squared_error"},
    "NaN in y": {"y": changed(VALUES, (1, 1), np.nan), "loss": "squared_error"},
    "infinity in y": {"y": changed(VALUES, (39, 3), np.inf), "loss": "poisson"},
    "below 0": {"y": VALUES, "loss": "poisson"},
    "above 1": {"y": abs(VALUES), "loss": "binary_cross_entropy"},
    "barely above 1": {
        "y": changed(abs(VALUES) % 1, (39, 3), np.nextafter(np.float32(1), np.float32(2))),
        "loss": "binary_cross_entropy",
    },
    "an unknown loss": {"loss": "no such"},
    "a loss's class": {"loss": CrossEntropy},
    "loss 3": {"loss": 3},
    "outputs that do not suit": {"loss": Pinball((0.1, 0.5, 0.9)), "y": VALUES},
    "an unknown optimizer": {"optimizer": "no such"},
    "an optimizer's class": {"optimizer": Adam},
    "a full-batch method": {"optimizer": "lbfgs"},
    "optimizer 3": {"optimizer": 3},
    "weights of other rows": {"sample_weight": W[:39].copy()},
    "weights in a column": {"sample_weight": W[:, np.newaxis]},
    "negative weights": {"sample_weight": changed(W, 39, -1e-300)},
    "NaN among the weights": {"sample_weight": changed(W, 0, np.nan)},
    "infinite weights": {"sample_weight": changed(W, 20, np.inf)},
    "weights in text": {"sample_weight": ["a"] * 40},
    "a weight": {"sample_weight": 1.0},
}


def target_of(loss):
    """What suits 40 rows and 4 outputs."""
    if loss is None:
        return LABELS
    return abs(VALUES) % 1 if loss in ("poisson", "binary_cross_entropy") else VALUES


@pytest.mark.parametrize("case", REFUSED_STEPS)
def test_refusals_are_those_of_the_long_way_and_change_nothing(case):
    bad = dict(REFUSED_STEPS[case])
    loss = bad.get("loss")
    known = loss if loss in ("squared_error", "poisson", "binary_cross_entropy") else None
    words = []
    nets = small(), slow(small())
    for net in nets:
        for _ in range(2):
            net.train_step(X, target_of(known), loss=known, optimizer=SGD(0.1))
        before = state_of(net)
        x, y = bad.get("x", X), bad.get("y", LABELS)
        rest = {name: value for name, value in bad.items() if name not in ("x", "y")}
        words.append(refusal(lambda: net.train_step(x, y, **rest)))  # noqa: B023
        assert state_of(net) == before
        net.train_step(X, target_of(known))
    assert words[0] == words[1]
    assert issubclass(words[0][0], (ValueError, TypeError))
    assert state_of(nets[0]) == state_of(nets[1])


@pytest.mark.parametrize("weights", [None, np.linspace(0, 1e30, 40)], ids=["plain", "weighted"])
@pytest.mark.parametrize("part", ["loss", "update", "weights"])
def test_divergence_is_that_of_the_long_way(part, weights):
    words, nets = [], (small(), slow(small()))
    for net in nets:
        how = {"loss": "squared_error", "optimizer": SGD(1e38), "sample_weight": weights}
        for _ in range(2):
            net.train_step(0 * X, 0 * VALUES, **how)
        if part == "weights":
            net.params[5] = np.nan
        y = np.full((40, 4), 3e38 if part == "loss" else 1e8, "f")
        words.append(refusal(lambda: net.train_step(X, y, **how)))  # noqa: B023
    assert words[0] == words[1]
    assert words[0][0] is (ValueError if part == "weights" else DivergenceError)
    assert state_of(nets[0]) == state_of(nets[1])


def test_a_batch_norm_still_wants_two_rows():
    nets = make("batch norm", "cross_entropy"), slow(make("batch norm", "cross_entropy"))
    for net in nets:
        net.train_step(X, LABELS)
        before = state_of(net)
        kind, words = refusal(lambda: net.train_step(X[:1], LABELS[:1]))  # noqa: B023
        assert (kind, "needs at least 2 rows" in words) == (ValueError, True)
        assert state_of(net) == before
        net.train_step(X[:2], LABELS[:2])
    assert state_of(nets[0]) == state_of(nets[1])


# ---- what comes between --------------------------------------------------------------------------


def through_pickle(net):
    return pickle.loads(pickle.dumps(net))


def by_function(pred, target):
    error = pred - np.eye(4, dtype=pred.dtype)[target]
    return (error**2).sum(1), 2 * error


def in_average(net):
    net.train_step(X, LABELS, optimizer=Adam(0.01, weight_average=EMA(0.5)))
    net.train_step(X, LABELS)
    with net.averaged():
        assert "inside `with net.averaged()`" in refusal(lambda: net.train_step(X, LABELS))[1]
        net.predict(X[:1])


def in_callback(net):
    class Step(Callback):
        def on_epoch_end(self, run):
            run.net.train_step(X, LABELS)
            run.net.train_step(X, LABELS, optimizer=SGD(0.01))

    net.fit(X, LABELS, epochs=3, batch_size=16, callbacks=[Step()])


def in_loss(net):
    def meddling(pred, target):
        words.append(refusal(lambda: net.train_step(X, LABELS, loss="cross_entropy"))[1])
        return by_function(pred, target)

    words = []
    net.train_step(X, LABELS, loss=meddling)
    assert "a loss may not run, train" in words[0]


def by_hand(net):
    z = net.forward(X, training=True)
    net.backward(z / 10)
    net.update(Adam(0.002))


def worthless_state(net):
    net.optimizer = None
    net.train_step(X, LABELS)


BETWEEN = {
    "fit": lambda net: net.fit(X, LABELS, epochs=2, batch_size=7),
    "fit with another optimizer": lambda net: net.fit(X, LABELS, optimizer=RMSprop(), epochs=1),
    "fit with another loss": lambda net: net.fit(X, VALUES, loss="squared_error", epochs=1),
    "a full-batch method": lambda net: net.fit(X, LABELS, optimizer="lbfgs", epochs=2),
    "a refused fit": lambda net: refusal(lambda: net.fit(X, LABELS, optimizer="lbfgs")),
    "another kind": lambda net: net.use_optimizer("rmsprop"),
    "another kind and back": lambda net: [net.use_optimizer(o) for o in ("sgd", Adam(0.002))],
    "another rate": lambda net: net.use_optimizer(Adam(0.5)),
    "a schedule": lambda net: net.use_optimizer(Adam(CosineDecay(0.1, steps=5))),
    "an average": lambda net: net.use_optimizer(Adam(0.002, weight_average=EMA())),
    "a limit": lambda net: net.use_optimizer(Adam(0.002, max_norm=0.1)),
    "none": worthless_state,
    "update": by_hand,
    "averaged": in_average,
    "callbacks": in_callback,
    "within a loss": in_loss,
    "loss": lambda net: setattr(net, "loss", CrossEntropy(label_smoothing=0.2)),
    "no loss": lambda net: setattr(net, "loss", None),
    "a step with a function": lambda net: net.train_step(X, LABELS, loss=by_function),
    "a step with values": lambda net: net.train_step(X, VALUES, loss="squared_error"),
    "a step with a sum": lambda net: net.train_step(X, LABELS, loss=CrossEntropy(reduction="sum")),
    "a step with a name": lambda net: net.train_step(X, LABELS, optimizer="nadam"),
    "a larger step": lambda net: net.train_step(np.tile(X, (30, 1)), np.tile(LABELS, 30)),
    "weights by hand": lambda net: net.set_params(np.linspace(-1, 1, net.n_params)),
    "evaluate": lambda net: net.evaluate(X, LABELS),
    "gradient": lambda net: net.gradient(X, LABELS),
    "pickle": through_pickle,
    "deepcopy": copy.deepcopy,
    "save and load": lambda net: [net.save("a.safetensors"), Sequential.load("a.safetensors")][1],
}


@pytest.mark.parametrize("case", BETWEEN)
def test_whatever_comes_between_steps(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nets = []
    for way in (lambda net: net, slow):
        drops = [] if case == "a full-batch method" else [Dropout(0.2)]
        net = way(Sequential([Linear(6, 9), ReLU(), *drops, Linear(9, 4)], seed=1))
        for _ in range(2):
            net.train_step(X, LABELS, optimizer=Adam(0.002))
        other = BETWEEN[case](net)
        net = way(other) if isinstance(other, Sequential) else net
        for _ in range(3):
            with contextlib.suppress(ValueError):  # labels, and a loss on values since then
                net.train_step(X, LABELS)
        for _ in range(3):
            net.train_step(X, LABELS, loss="cross_entropy", optimizer=Adam(0.002))
        nets.append(net)
    assert state_of(nets[0]) == state_of(nets[1])
    assert nets[0].predict(X[:1]).tobytes() == nets[1].predict(X[:1]).tobytes()


def test_a_function_is_not_the_loss_before():
    nets = small(), slow(small())
    for net in nets:
        net.train_step(X, LABELS)
        net.train_step(X, LABELS, loss=by_function)
        net.train_step(X, LABELS)  # goes on with the function
        assert net.loss.function is by_function
    assert state_of(nets[0]) == state_of(nets[1])


class Broken(fastmlp.schedules.Schedule):
    """Fails in its third step."""

    def rate(self, step):
        return 0.1 if step < 2 else math.nan


def test_a_schedule_that_fails_is_refused_in_the_same_words():
    words, nets = [], (small(), slow(small()))
    for net in nets:
        for _ in range(2):
            net.train_step(X, LABELS, optimizer=SGD(Broken(0.1)))
        words.append(refusal(lambda: net.train_step(X, LABELS)))  # noqa: B023
        net.train_step(X, LABELS, optimizer=SGD(0.1))  # still usable
    assert words[0] == words[1]
    assert "learning rate nan in step 2" in words[0][1]
    assert state_of(nets[0]) == state_of(nets[1])


# ---- threads, forks, Ctrl-C ----------------------------------------------------------------------


def in_another_thread(call):
    results = []

    def run():
        try:
            results.append(call())
        except RuntimeError as error:
            results.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("holds", ["changing", "reading"])
def test_a_network_in_use_by_another_thread_is_left_alone(holds):
    net = small()
    for _ in range(2):
        net.train_step(X, LABELS)
    before = state_of(net)
    with getattr(net._engine.turns, holds):
        busy = in_another_thread(lambda: net.train_step(X, LABELS))
        assert "already running in another thread" in busy
        for call in (lambda: net.predict(X[:1]), lambda: net.predict_row(X[0])):
            answer = in_another_thread(call)
            assert isinstance(answer, str) == (holds == "changing")
    assert state_of(net) == before
    assert in_another_thread(lambda: net.train_step(X, LABELS)) > 0


def test_many_threads_with_a_network_each_and_one_together():
    def train(net):
        for i in range(300):
            net.train_step(X, LABELS, optimizer=Adam(0.001 * (1 + i % 2)))
            net.predict(X[:2])

    alone, nets, shared = small(), [small() for _ in range(4)], small()
    train(alone)
    shared.train_step(X, LABELS, optimizer=SGD(0.01))
    done = []

    def meddle(optimizer):
        for _ in range(200):
            with contextlib.suppress(RuntimeError):  # the other one's turn
                done.append(shared.train_step(X, LABELS, optimizer=optimizer()))

    work = [threading.Thread(target=train, args=[net]) for net in nets]
    work += [threading.Thread(target=meddle, args=[o]) for o in (lambda: SGD(0.01), RMSprop)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert all(state_of(net) == state_of(alone) for net in nets)
    assert shared.step == len(done) + 1
    assert np.isfinite(shared.params).all()


def test_settings_that_change_while_they_are_compared():
    """As another thread may change them: comparing runs Python."""

    class Meddling(EMA):
        meddle = staticmethod(lambda: None)

        def __eq__(self, other):
            act, Meddling.meddle = Meddling.meddle, lambda: None
            act()
            return isinstance(other, Meddling)

        __hash__ = None

    def other_step(net):
        net.train_step(X, LABELS, loss=CrossEntropy(reduction="sum"), optimizer=RMSprop())

    def step(net):
        how = {"loss": "cross_entropy", "optimizer": Adam(0.01, weight_average=Meddling())}
        return net.train_step(X, LABELS, **how)

    net, one_by_one = small(), small()
    for each in (net, one_by_one):
        for _ in range(2):
            step(each)
    Meddling.meddle = lambda: other_step(net)
    losses = [step(net)]
    other_step(one_by_one)
    losses.append(step(one_by_one))
    assert losses[0] == losses[1]
    assert state_of(net)[:2] == state_of(one_by_one)[:2]
    assert net.loss == "cross_entropy"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_goes_on():
    net = small()
    for _ in range(2):
        net.train_step(X, LABELS)
    child = os.fork()
    if child == 0:
        try:
            twin = slow(small())
            for _ in range(4):
                twin.train_step(X, LABELS)
            for threads in (None, 2):
                net.train_step(X, LABELS, threads=threads)
            os._exit(0 if state_of(net) == state_of(twin) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


INTERRUPTED = """
import numpy as np
from fastmlp import *

def net():
    return Sequential([Linear(32, 64), ReLU(), Dropout(0.2), Linear(64, 10)], seed=1)

X = np.random.default_rng(0).standard_normal((50, 32)).astype("f")
y = np.arange(50) % 10
a, b = net(), net()
a.train_step(X, y)
try:
    print("ready", flush=True)
    while True:
        a.train_step(X, y, optimizer=Adam())
except KeyboardInterrupt:
    pass
for _ in range(a.step):
    b.train_step(X, y)
same = a.params.tobytes() == b.params.tobytes()
same &= all(p.tobytes() == q.tobytes() for p, q in zip(a._state, b._state))
a.train_step(X, y)
print("the same" if same and a.step == b.step + 1 > 100 else (a.step, b.step, same))
"""


@pytest.mark.parametrize("delay", [0.05, 0.13, 0.31])
def test_ctrl_c_leaves_whole_steps(tmp_path, delay):
    out, err = interrupted(INTERRUPTED, tmp_path, delay)
    assert out.strip() == "the same", out + err
