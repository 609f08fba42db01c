"""A file that is saved at any moment goes on with the bits of the training that was not disturbed:
between any two lines of Python, from a signal handler, and after any exception.
"""

import subprocess
import sys

import numpy as np
import pytest
from helpers import digest, everything

from fastmlp import (
    EMA,
    LBFGS,
    SGD,
    Adam,
    BatchNorm,
    Callback,
    DivergenceError,
    Dropout,
    EarlyStopping,
    Linear,
    ReLU,
    RMSprop,
    Sequential,
    Standardize,
)
from fastmlp.files import model_file as checkpoint
from fastmlp.optimizers import ScheduleFreeAdamW
from fastmlp.schedules import OneCycle

RNG = np.random.default_rng(0)
X = (3 + 2 * RNG.standard_normal((70, 5))).astype(np.float32)
Y = RNG.integers(0, 3, 70)
TARGET = X[:, :3] * 2 - 1


def squared(pred, target):
    return ((pred - target) ** 2).sum(axis=1), 2 * (pred - target)


def plain(**settings):
    return Sequential([Linear(5, 6), ReLU(), Dropout(0.2), Linear(6, 3)], seed=2, **settings)


def normed():
    layers = [Standardize(), Linear(5, 6), BatchNorm(), ReLU(), Dropout(0.2), Linear(6, 3)]
    return Sequential(layers, seed=2)


def begun_otherwise():
    """Trained before, by another optimizer and in other batches."""
    net = plain()
    net.fit(X, Y, epochs=2, batch_size=13, optimizer=Adam(weight_average=EMA(0.9)))
    return net


CASES = {
    "adam": (plain, Y, {"optimizer": Adam(1e-2)}),
    "in float64": (lambda: plain(dtype="float64"), Y, {"optimizer": Adam(1e-2)}),
    "as the rows stand": (plain, Y, {"optimizer": SGD(0.1, momentum=0.9), "shuffle": False}),
    "without the last rows": (plain, Y, {"optimizer": "lion", "drop_last": True}),
    "normed": (normed, Y, {"optimizer": RMSprop(), "metrics": ["accuracy"]}),
    "a schedule": (normed, Y, {"optimizer": Adam(OneCycle(0.01, steps=12, cycle_momentum=True))}),
    "a function": (normed, TARGET, {"loss": squared, "optimizer": Adam(weight_average=EMA(0.5))}),
    "averages": (
        normed,
        Y,
        {
            "optimizer": SGD(0.1, momentum=0.9, weight_average=EMA(0.9)),
            "validation_split": 0.2,
            "callbacks": [EarlyStopping(restore_best=False, patience=99)],
        },
    ),
    "own averages": (
        normed,
        Y,
        {"optimizer": ScheduleFreeAdamW(1e-2), "validation_data": (X[::2], Y[::2])},
    ),
    "begun otherwise": (begun_otherwise, Y, {"optimizer": SGD(0.1, momentum=0.5)}),
    "gone on with": (begun_otherwise, Y, {"optimizer": Adam(1e-3, weight_average=EMA(0.5))}),
}
EPOCHS, BATCH = 3, 20


def files_between_lines(act):
    """Each different file that can be saved between two lines of the package while `act` runs."""
    found, net = {}, None
    own = {
        checkpoint.__name__,
        "fastmlp.files.model_header",
        "fastmlp.files.atomic",
    }

    def save(frame, event, argument):
        name = str(frame.f_globals.get("__name__"))
        if not name.startswith("fastmlp.") or name in own:
            return None
        content = checkpoint.to_bytes(net, {})
        found.setdefault(content, f"{name}:{frame.f_lineno}")
        return save

    def start(made):
        nonlocal net
        net = made
        sys.settrace(save)

    before = sys.gettrace()
    try:
        act(start)
    finally:
        sys.settrace(before)
    return found


@pytest.mark.filterwarnings("ignore:.*has ended")
@pytest.mark.parametrize("name", CASES)
def test_a_file_saved_between_any_two_lines_goes_on_with_the_same_bits(name, monkeypatch):
    make, y, how = CASES[name]
    how = {"loss": "cross_entropy", "batch_size": BATCH, **how}
    undisturbed = make()
    first = undisturbed.epoch
    undisturbed.fit(X, y, epochs=EPOCHS, **how)
    monkeypatch.setattr("fastmlp.training.epochs.SLICE_SECONDS", 0.0)  # Python sees every step

    def act(start):
        net = make()
        start(net)
        net.fit(X, y, epochs=EPOCHS, **how)

    files = files_between_lines(act)
    positions = set()
    for content, place in files.items():
        net = checkpoint.from_bytes(Sequential, content)
        positions.add(net._engine.context.position)
        net.fit(X, y, epochs=first + EPOCHS - net.epoch, **how)
        assert digest(*everything(net), net.stats) == digest(
            *everything(undisturbed), undisturbed.stats
        ), place
        assert (net.step, net.epoch) == (undisturbed.step, undisturbed.epoch), place
    assert len(positions) >= 3  # files from the middle of a pass were among them
    assert len(files) >= EPOCHS * len(positions)


def test_a_file_saved_in_a_step_of_a_full_batch_method_holds_accepted_weights():
    accepted = set()

    class Watch(Callback):
        def on_fit_begin(self, run):
            accepted.add(run.net.params.tobytes())

        def on_epoch_end(self, run):
            accepted.add(run.net.params.tobytes())

    def act(start):
        net = Sequential([Linear(5, 6), ReLU(), Linear(6, 3)], seed=2)
        start(net)
        net.fit(X, TARGET, loss="squared_error", optimizer=LBFGS(), epochs=6, callbacks=[Watch()])

    files = files_between_lines(act)
    saved = {checkpoint.from_bytes(Sequential, content).params.tobytes() for content in files}
    assert saved == accepted


class PreemptedError(Exception):
    pass


@pytest.mark.parametrize("error", [PreemptedError, SystemExit, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("saved", [False, True])
def test_a_pass_goes_on_after_any_exception(error, saved):
    """A handler that raises, or a loss that fails: what is left is the middle of a pass."""
    calls = []

    def failing(pred, target):
        calls.append(1)
        if len(calls) == 7:  # the third step of the second pass
            raise error
        return squared(pred, target)

    net, undisturbed = normed(), normed()
    with pytest.raises(error):
        net.fit(X, TARGET, loss=failing, optimizer=Adam(), batch_size=BATCH, epochs=EPOCHS)
    assert (net.epoch, net.step, net._engine.context.position) == (1, 6, 40)
    if saved:
        net = checkpoint.from_bytes(Sequential, checkpoint.to_bytes(net, {}))
    for one, epochs in ((net, 2), (undisturbed, 3)):
        one.fit(X, TARGET, loss=squared, optimizer=Adam(), batch_size=BATCH, epochs=epochs)
    assert digest(*everything(net), net.stats) == digest(
        *everything(undisturbed), undisturbed.stats
    )


def test_a_pass_that_diverged_is_over():
    net = plain()
    bad = X.copy()
    bad[60:] = 3e38
    with pytest.raises(DivergenceError):
        net.fit(bad, Y, batch_size=BATCH, shuffle=False, loss="cross_entropy")
    assert net._engine.context.position == 0
    assert (
        checkpoint.from_bytes(Sequential, checkpoint.to_bytes(net, {}))._unfinished_batches is None
    )


SIGNALED = """
import os, random, signal, sys, threading, time
import numpy as np
from fastmlp import *
from fastmlp.training import epochs as loop
loop.SLICE_SECONDS = 0.0  # Python sees every step
R = np.random.default_rng(0)
X, y = R.standard_normal((4000, 16)).astype("f"), R.integers(0, 5, 4000)
average = EMA(0.99) if sys.argv[1] == "averages" else None
def squared(pred, target):
    error = pred - target
    return (error**2).sum(axis=1), 2 * error
how = dict(batch_size=50, optimizer=Adam(weight_average=average), validation_split=0.1)
if sys.argv[1] == "function":
    y, how["loss"] = X[:, :5] * 2, squared
def make():
    layers = [Linear(16, 32), BatchNorm(), ReLU(), Dropout(0.2), Linear(32, 5)]
    return Sequential(layers, seed=1)
net, epochs, files, over = make(), 15, [], threading.Event()
saving = False
def save(*ignored):
    global saving
    if not saving:
        saving = True
        net.save(f"file{len(files)}")
        files.append(f"file{len(files)}")
        saving = False
signal.signal(signal.SIGUSR1, save)
def disturb():
    seconds = random.Random(int(sys.argv[2]))
    while len(files) < 40 and not over.wait(seconds.uniform(0, 0.005)):
        os.kill(os.getpid(), signal.SIGUSR1)
thread = threading.Thread(target=disturb)
thread.start()
net.fit(X, y, epochs=epochs, **how)
over.set()
thread.join()
undisturbed = make()
undisturbed.fit(X, y, epochs=epochs, **how)
assert net.params.tobytes() == undisturbed.params.tobytes()
middle = 0
for file in files:
    saved = Sequential.load(file)
    middle += saved._engine.context.position > 0
    saved.fit(X, y, epochs=epochs - saved.epoch, **how)
    assert saved.params.tobytes() == net.params.tobytes(), file
    assert saved.step == net.step
    assert [a.tobytes() for a in saved._state] == [a.tobytes() for a in net._state]
print("equal", middle)
"""


@pytest.mark.parametrize("case", ["plain", "averages", "function"])
def test_files_saved_by_a_signal_handler_go_on_with_the_same_bits(case, tmp_path):
    middle = 0
    for seed in range(2):
        command = [sys.executable, "-c", SIGNALED, case, str(seed)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        middle += int(done.stdout.split()[1])
    assert middle > 0
