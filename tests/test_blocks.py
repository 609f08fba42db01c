"""Large mini-batches go in blocks; a long run may be broken off in the middle of a step."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import NORMS, ToldError, native_only

import fastmlp
from fastmlp import (
    GELU,
    GLU,
    Adam,
    BatchNorm,
    DivergenceError,
    Dropout,
    Layer,
    LayerNorm,
    Linear,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Tanh,
)
from fastmlp.training.run import Run

ROWS = 2500  # two blocks and a part


def nets() -> dict[str, list]:
    return {
        "linear": [Linear(7, 33), ReLU(), Linear(33, 5)],
        "narrow": [Linear(7, 3), Tanh(), Linear(3, 2)],
        "dropout": [Linear(7, 20), ReLU(), Dropout(0.4), Linear(20, 5)],
        "layer norm": [Linear(7, 21), LayerNorm(), GELU(), Linear(21, 5)],
        "rms norm": [RMSNorm(), Linear(7, 18), RMSNorm(), Linear(18, 5)],
        "residual": [
            Linear(7, 16),
            Residual([Linear(16, 16), Tanh(), Dropout(0.2)]),
            Linear(16, 5),
        ],
        "glu": [Linear(7, 38), GLU("swish"), Linear(19, 5)],
        "prelu": [Linear(7, 19), PReLU(), Linear(19, 5)],
        "batch norm": [Linear(7, 19), BatchNorm(), ReLU(), Linear(19, 5)],
        **{name: [norm(), Linear(7, 19), norm(), Linear(19, 5)] for name, norm in NORMS.items()},
    }


def data(rows: int = ROWS, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, 7)).astype(dtype), rng.integers(0, 2, rows)


@native_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", nets())
def test_a_step_in_blocks_has_the_bits_of_all_rows_at_once(name: str, dtype: str) -> None:
    x, y = data(dtype=dtype)
    whole, blocks = (Sequential(nets()[name], seed=2, dtype=dtype) for _ in range(2))
    loss = fastmlp.losses.get_loss("cross_entropy")
    for _ in range(2):
        out = whole.forward(x, training=True)
        dz = np.empty_like(out)
        value = loss.value(out, y, dz)
        whole.backward(dz)
        whole.update(Adam(0.01))
        assert blocks.train_step(x, y, loss="cross_entropy", optimizer=Adam(0.01)) == value
        assert np.array_equal(blocks.grads, whole.grads)
        assert np.array_equal(blocks.params, whole.params)
        assert np.array_equal(blocks.stats, whole.stats)


@pytest.mark.parametrize("name", nets())
def test_blocks_of_any_size_give_the_same_bits(name: str) -> None:
    x, y = data()
    found = []
    for threads in (1, 2, 9, 20):  # blocks of 1,024, 1,024, 2,048 and 3,072 rows
        net = Sequential(nets()[name], seed=2)
        net.fit(
            np.concatenate([x, x]),
            np.concatenate([y, y]),
            batch_size=ROWS,
            epochs=2,
            threads=threads,
            optimizer=Adam(0.01, clip_norm=0.5),
            sample_weight=np.linspace(0, 2, 2 * ROWS),
            loss="cross_entropy",
        )
        found.append(net.params.copy())
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_activations_have_room_for_a_block_only() -> None:
    x, y = data(20_000)
    net = Sequential(nets()["linear"])
    net.fit(x, y, batch_size=20_000, epochs=1, threads=2, loss="cross_entropy")
    assert net._engine.context.capacity == 1024
    net = Sequential(nets()["batch norm"])  # needs all rows of a column
    net.fit(x, y, batch_size=20_000, epochs=1, threads=2, loss="cross_entropy")
    assert net._engine.context.capacity == 20_000


@pytest.mark.parametrize("rows", [64, ROWS])
def test_a_refused_step_leaves_no_gradient(rows: int) -> None:
    x, y = data(rows)
    net = Sequential(nets()["linear"])
    net.train_step(x, y, loss="cross_entropy", optimizer=Adam(0.01))
    before = net.params.copy()
    with pytest.raises(DivergenceError):
        net.train_step(x, 1e30 * np.ones((rows, 5)), loss="squared_error", optimizer=Adam(0.01))
    assert not net.grads.any()
    assert np.array_equal(net.params, before)
    assert net.step == 1


# ---- breaking off --------------------------------------------------------------------------------


WIDE = 512


def slow_net(*between: Layer) -> tuple[Sequential, np.ndarray, np.ndarray]:
    """A network and rows of which one step takes a second or more."""
    layers = [Linear(WIDE, WIDE), *between, ReLU(), Linear(WIDE, WIDE), ReLU(), Linear(WIDE, 3)]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100_000, WIDE), dtype=np.float32)
    return Sequential(layers, seed=1), x, rng.integers(0, 3, len(x))


def state_of(net: Sequential) -> list:
    context = net._engine.context
    counters = [context.t, context.updates, context.epoch, context.position, context.passes]
    return [net.params.tobytes(), net.stats.tobytes(), *counters]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", [ReLU, Dropout, BatchNorm])
def test_ctrl_c_in_the_middle_of_a_step(alarm: None, kind: type, threads: int) -> None:
    net, x, y = slow_net(kind())
    before = state_of(net)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.15)
    with pytest.raises(ToldError):
        net.train_step(x, y, loss="cross_entropy", optimizer=Adam(1e-3), threads=threads)
    assert state_of(net) == before
    assert not net.grads.any()
    other, _, _ = slow_net(kind())
    for each in (net, other):
        each.train_step(x[:99], y[:99], loss="cross_entropy", optimizer=Adam(1e-3))
    assert np.array_equal(net.params, other.params)


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_in_forward_and_backward(alarm: None, threads: int) -> None:
    net, x, _ = slow_net()
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.15)
    with pytest.raises(ToldError):
        net.forward(x, threads=threads)
    with pytest.raises(RuntimeError, match="forward"):
        net.backward(np.zeros((len(x), 3)))
    out = net.forward(x, threads=threads)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.15)
    with pytest.raises(ToldError):
        net.backward(np.ones_like(out), threads=threads)
    assert not net.grads.any()


def test_a_handler_may_look_at_the_network_in_the_middle_of_a_step(tmp_path) -> None:
    net, x, y = slow_net()
    other, _, _ = slow_net()
    seen = []

    def handler(*_: object) -> None:
        net.save(tmp_path / f"{len(seen)}")
        seen.append(net.predict(x[:1]).copy())

    before = signal.signal(signal.SIGVTALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.15, 0.3)
        net.train_step(x, y, loss="cross_entropy", optimizer=Adam(1e-3))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    first = other.predict(x[:1])
    other.train_step(x, y, loss="cross_entropy", optimizer=Adam(1e-3))
    assert len(seen) >= 2
    assert np.array_equal(seen[0], first)
    assert np.array_equal(net.params, other.params)
    assert np.array_equal(Sequential.load(tmp_path / "0").predict(x[:1]), first)


def test_counters_move_with_the_weights_before_a_handler_looks() -> None:
    """A call of C takes several steps; the handler comes between two of them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6000, WIDE), dtype=np.float32)
    y, seen = rng.integers(0, 3, len(x)), []
    layers = [Linear(WIDE, WIDE), ReLU(), Linear(WIDE, WIDE), ReLU(), Linear(WIDE, 3)]
    net = Sequential(layers, seed=1)

    def handler(*_: object) -> None:
        context = net._engine.context
        seen.append((context.t, context.position, net.params.tobytes()))

    before = signal.signal(signal.SIGVTALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.05, 0.05)
        net.fit(x, y, batch_size=750, shuffle=False, epochs=8, loss="cross_entropy", threads=1)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    other = Sequential(
        [Linear(WIDE, WIDE), ReLU(), Linear(WIDE, WIDE), ReLU(), Linear(WIDE, 3)], seed=1
    )
    weights = {0: other.params.tobytes()}
    for step in range(64):
        rows = slice(step % 8 * 750, step % 8 * 750 + 750)
        other.train_step(x[rows], y[rows], loss="cross_entropy", optimizer=Adam(1e-3))
        weights[step + 1] = other.params.tobytes()
    assert len(seen) > 3
    for t, position, params in seen:
        assert params == weights[t]
        assert position == t % 8 * 750


def test_a_handler_may_not_train_in_the_middle_of_a_step() -> None:
    net, x, y = slow_net()
    refused = []

    def handler(*_: object) -> None:
        try:
            net.train_step(x[:9], np.ones((9, 3)), loss="squared_error")
        except RuntimeError as error:
            refused.append(str(error))

    before = signal.signal(signal.SIGVTALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.15)
        net.train_step(x, y, loss="cross_entropy", optimizer=Adam(1e-3))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert "in the middle of a step" in refused[0]
    assert net.loss == "cross_entropy"
    assert net.step == 1


def test_other_calls_between_large_batches_leave_their_buffers() -> None:
    x, y = data(4000)

    class Looks(fastmlp.Callback):
        def on_epoch_end(self, run: Run) -> None:
            run.net.forward(x[:1500])
            run.net.train_step(x[:1200], y[:1200], threads=16)

    net = Sequential(nets()["linear"])
    net.fit(x, y, batch_size=4000, epochs=3, loss="cross_entropy", callbacks=[Looks()])
    assert net.step == 6


def test_a_broken_off_forward_draws_the_same_masks_again(alarm: None) -> None:
    net, x, _ = slow_net(Dropout(0.5))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.15)
    with pytest.raises(ToldError):
        net.forward(x, training=True)
    assert net._engine.context.passes == 0


FORKS = """
import os, signal, sys
import numpy as np
from fastmlp import Linear, Sequential

def handler(*_):
    if os.fork() == 0:
        return
    print("parent goes on", flush=True)

signal.signal(signal.SIGVTALRM, handler)
x = np.ones((60_000, 512), "f")
net = Sequential([Linear(512, 512), Linear(512, 512), Linear(512, 2)])
signal.setitimer(signal.ITIMER_VIRTUAL, 0.15)
net.train_step(x, np.zeros(len(x), int), loss="cross_entropy", threads=int(sys.argv[1]))
print("trained", net.step, flush=True)
os.wait()
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_child_forked_in_the_middle_of_a_step_ends_there(threads: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(threads)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["parent goes on", "trained 1"]
    assert "forked by a signal's handler" in done.stderr
