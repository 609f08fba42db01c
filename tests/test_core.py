"""The door and the machinery behind it: the checker, locks, forks, Ctrl-C, bad input."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import interrupted, targets
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import (
    EMA,
    GLU,
    SGD,
    Adam,
    BatchNorm,
    Dropout,
    EarlyStopping,
    LayerNorm,
    Linear,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Standardize,
    Tanh,
    _core,
)
from fastmlp.engine.plan import aligned_empty, aligned_zeros, plan

rng = np.random.default_rng(0)
X = rng.standard_normal((200, 5)).astype(np.float32)
LABELS = rng.integers(0, 3, 200)


def small(seed=0, dtype="float32", p=0.1):
    return Sequential([Linear(5, 16), Tanh(), Dropout(p), Linear(16, 3)], seed=seed, dtype=dtype)


# ---- the checker: any op program is refused or stays inside its buffers --------------------------


def make_program(ops, sizes, dtype="float32"):
    return _core.Program(ops, *sizes[:4], dtype, sizes[4])


def planned():
    layout = plan([Linear(5, 8), ReLU(), Dropout(0.3), Linear(8, 3)], 5)
    return layout.ops.copy(), sizes_of(layout)


def planned_with_every_op(has=(True,) * 5):
    """`has`: which scales and shifts the normalizations have."""
    batch, layer = ({"scale": a, "shift": b} for a, b in (has[:2], has[2:4]))
    deep = Residual([BatchNorm(**batch), ReLU()])
    inner = [RMSNorm(scale=has[4]), Linear(8), deep, Dropout(0.3), PReLU()]
    layers = [Standardize(), Linear(5, 8), LayerNorm(**layer), Residual(inner), Linear(8, 6), GLU()]
    layout = plan(layers, 5)
    assert set(layout.ops["kind"]) == set(_core.OPS.values())
    return layout.ops.copy(), sizes_of(layout)


def sizes_of(layout):
    widths = layout.acts_width, layout.dacts_width
    return (layout.n_params, layout.n_decayed, *widths, layout.n_stats)


FIELDS = [name for name in _core.OP_DTYPE.names if not name.startswith("attr")]
NASTY = st.one_of(
    st.integers(-3, 60), st.sampled_from([2**31 - 1, 2**31, 2**62, -(2**62), 2**63 - 1, -(2**63)])
)


ATTRIBUTES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, np.nan, np.inf])


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(FIELDS), NASTY), max_size=4),
    st.lists(st.tuples(st.integers(0, 4), NASTY), max_size=2),
    st.lists(ATTRIBUTES, min_size=3, max_size=3),
)
def test_any_program_is_refused_or_runs_inside_its_buffers(changes, size_changes, attributes):
    check_changed(*planned(), changes, size_changes, enumerate(attributes))


@settings(max_examples=600)
@given(
    st.lists(st.tuples(st.integers(0, 14), st.sampled_from(FIELDS), NASTY), max_size=3),
    st.lists(st.tuples(st.integers(0, 4), NASTY), max_size=1),
    st.lists(st.tuples(st.integers(0, 14), ATTRIBUTES), max_size=3),
    st.permutations(range(11)),
    st.booleans(),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_any_program_of_all_ops_is_refused_or_runs_inside_its_buffers(
    changes, size_changes, attributes, order, shuffles, has
):
    """Other kinds, offsets and partners; or the ops of equal width in another order, with places
    in the buffers that fit, so that branches and adds meet in every way."""
    ops, sizes = planned_with_every_op(has)
    if shuffles:
        ops[2:13] = ops[[2 + i for i in order]]
        place_again(ops)
    check_changed(ops, sizes, changes, size_changes, attributes)


def place_again(ops):
    """Offsets and partners in the order of the ops: the first branch with the first add, also where
    they cross or the add stands first, which must be refused."""
    ends = [np.flatnonzero(ops["kind"] == _core.OPS[kind]) for kind in ("branch", "add")]
    for branch, add in zip(*ends, strict=True):
        ops["variant"][branch], ops["variant"][add] = 1, -1  # for op_sizes
    kept = np.array([_core.op_sizes(np.dtype(np.float32), op)[3] for op in ops])
    for y, x, widths in (("y", "x", ops["n_out"] + kept), ("dy", "dx", ops["n_out"])):
        ops[y] = np.cumsum(widths) - widths
        ops[x][0], ops[x][1:] = -1, ops[y][:-1]
    offset = 0
    for place, part in (("w", 0), ("b", 1), ("s", 2)):
        offset *= place == "b"  # biases stand behind the weights
        for op in ops:
            size = _core.op_sizes(np.dtype(np.float32), op)[part]
            op[place] = offset if size else -1
            offset += size
    for branch, add in zip(*ends, strict=True):
        ops["variant"][branch], ops["variant"][add] = add - branch, branch - add


def check_changed(ops, sizes, changes, size_changes, attributes):
    sizes = list(sizes)
    for i, field, value in changes:
        bits = 32 if ops.dtype[field].itemsize == 4 else 64
        ops[i][field] = (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    for i, value in size_changes:
        sizes[i] = value
    for i, value in attributes:
        ops[i]["attr0"] = value
    try:
        program = make_program(ops, sizes)
    except (ValueError, OverflowError):
        return
    if max(sizes) > 10**6:
        return  # accepted, but not to be allocated here
    run_guarded(program, sizes)


def run_guarded(program, sizes):
    """Train a few steps between canaries; every element outside must keep its value."""
    rows, canary = 16, np.float32(12345.0)
    guard = 64

    def guarded(n):
        whole = aligned_empty(n + 2 * guard, np.float32)
        whole[:] = canary
        whole[guard : guard + n] = 0.1
        return whole, whole[guard : guard + n]

    names = ("params", "grads", "state0", "state1", "average")
    wholes, arrays = zip(*(guarded(sizes[0]) for _ in names), strict=True)
    acts, dacts = guarded(rows * sizes[2]), guarded(rows * sizes[3])
    stats = guarded(sizes[4])
    batch = guarded(rows * program.n_in)
    context = _core.Context(program, arrays[0], arrays[1], 0, stats[1])
    context.set_state((arrays[2], arrays[3]), arrays[4])
    context.reserve(rows, acts[1], dacts[1], batch[1], np.empty(rows))
    x = np.ones((rows, program.n_in), np.float32)
    y = np.zeros((rows, program.n_out), np.float32)
    order = np.arange(rows)[::-1].copy()
    settings_ = Adam(clip_norm=0.1, max_norm=0.2, weight_average=EMA(0.9)).settings
    context.train(
        x, y, order, 7, _core.LOSSES["squared_error"]["index"], 1, settings_, None, 2, 1.0
    )
    dx = np.empty_like(x)
    context.backward(np.ones_like(context.forward(x, True, 2)), dx, 2)
    for whole in (*wholes, acts[0], dacts[0], batch[0], stats[0]):
        assert np.all(whole[:guard] == canary)
        assert np.all(whole[-guard:] == canary)


def test_a_normalization_lacks_what_its_variant_says_and_nothing_else():
    for kind, known in (("layer_norm", 4), ("batch_norm", 4), ("rms_norm", 2)):
        ops, sizes = planned_with_every_op()
        i = int(np.flatnonzero(ops["kind"] == _core.OPS[kind])[0])
        accepted = []
        for variant in (*range(-4, 9), 2**31 - 1, -(2**31)):
            ops[i]["variant"] = variant
            try:
                n = _core.op_sizes(np.dtype(np.float32), ops[i])[1]
            except ValueError:
                with pytest.raises(ValueError, match=rf"op {i}: no such op, or .* variant"):
                    make_program(ops, sizes)
                continue
            accepted.append(n)
            if n == 0:
                with pytest.raises(ValueError, match=rf"op {i}: .*parameters"):
                    make_program(ops, sizes)  # it names a place for arrays that it lacks
        assert sorted(accepted) == {4: [0, 8, 8, 16], 2: [0, 8]}[known]


@pytest.mark.parametrize("has", itertools.product((True, False), repeat=5))
def test_programs_without_scale_or_shift_stay_inside_their_buffers(has):
    ops, sizes = planned_with_every_op(has)
    run_guarded(make_program(ops, sizes), sizes)
    sizes = (sizes[0] - 1, *sizes[1:])
    with pytest.raises(ValueError, match=r"op|program"):
        make_program(ops, sizes)


def test_the_planned_program_is_accepted_and_a_short_buffer_is_not():
    ops, sizes = planned()
    assert make_program(ops, sizes).n_out == 3
    ops, sizes = planned_with_every_op()
    assert make_program(ops, sizes).n_out == 3
    for i in range(5):
        shorter = list(sizes)
        shorter[i] -= 1
        with pytest.raises(ValueError, match=r"op|program"):
            make_program(ops, shorter)


def test_overlapping_ops_are_refused():
    ops, sizes = planned()
    ops[2]["w"] = ops[0]["w"]
    with pytest.raises(ValueError, match=r"op 2: .*parameters"):
        make_program(ops, sizes)
    ops, sizes = planned()
    ops[2]["y"] = ops[1]["y"]
    with pytest.raises(ValueError, match=r"op 2: .*activations"):
        make_program(ops, sizes)


def test_partners_that_do_not_name_each_other_are_refused():
    kinds = _core.OPS
    for kind, change in (("branch", 1), ("add", -1), ("branch", -20), ("add", 2**30)):
        ops, sizes = planned_with_every_op()
        i = int(np.flatnonzero(ops["kind"] == kinds[kind])[0])
        ops[i]["variant"] += change
        with pytest.raises(ValueError, match="branch and an add"):
            make_program(ops, sizes)


def test_statistics_that_overlap_are_refused():
    ops, sizes = planned_with_every_op()
    i = int(np.flatnonzero(ops["kind"] == _core.OPS["batch_norm"])[0])
    ops[i]["s"] -= 1
    with pytest.raises(ValueError, match=rf"op {i}: .*statistics"):
        make_program(ops, sizes)


def test_exact_arrays_at_the_door():
    ops, sizes = planned()
    program = make_program(ops, sizes)
    params = aligned_zeros(sizes[0], np.float32)
    with pytest.raises(TypeError, match="grads"):
        _core.Context(program, params, params.astype(np.float64), 0)
    with pytest.raises(ValueError, match="grads has"):
        _core.Context(program, params, params[:-1].copy(), 0)
    frozen = params.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        _core.Context(program, frozen, params, 0)


def test_settings_are_set_by_name_and_others_refused():
    """Each number lands in its own field: a loss that reads it changes, one that does not stays."""
    z, y, dz = np.array([[-3.0], [0.5]]), np.array([[2.0], [1.0]]), np.empty((2, 1))

    def value(name, **settings):
        given = _core.LossSettings(**settings)
        return _core.loss_and_grad(_core.LOSSES[name]["index"], z, y, dz, given)

    assert value("huber") == value("huber", delta=1) != value("huber", delta=2)
    assert value("huber", sum=True) == 2 * value("huber")
    assert value("huber", gamma=3.0, positive=5.0, min_variance=1.0) == value("huber")
    for changed in ({"gamma": 2.0}, {"positive": 5.0}):
        assert value("binary_focal", **changed) != value("binary_focal")
    with pytest.raises(TypeError, match="deltas"):
        _core.LossSettings(deltas=1.0)
    with pytest.raises(OverflowError, match="too large"):
        _core.OptimizerSettings(lr=0.1, average_start=2**62)


def test_a_label_or_row_outside_is_refused_by_the_door():
    net = small()
    net.use_optimizer(Adam())
    net._engine.reserve(8)
    loss = _core.LOSSES["cross_entropy"]["index"]
    train = net._engine.context.train
    for labels, order in (([0, 1, 3], [0, 1, 2]), ([0, -1, 2], [0, 1, 2]), ([0, 1, 2], [0, 3, 2])):
        args = np.array(labels), np.array(order)
        with pytest.raises(IndexError):
            train(X[:3].copy(), *args, 3, loss, 1, Adam().settings, None, 1, 1.0)


# ---- one run at a time ---------------------------------------------------------------------------


def test_a_network_in_use_refuses_a_second_thread_and_stays_usable():
    wide = Sequential([Linear(64, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, 10)])
    data = rng.standard_normal((4000, 64)).astype(np.float32)
    labels = rng.integers(0, 10, 4000)
    started = threading.Event()

    class Started(fastmlp.Callback):
        def on_fit_begin(self, run):
            started.set()

        def on_epoch_end(self, run):
            run.net.predict(data[:4])  # the thread that trains may use it

    done = []

    def run():
        settings_ = {"epochs": 8, "batch_size": 64, "threads": 1, "callbacks": [Started()]}
        done.append(wide.fit(data, labels, **settings_))

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    refused = []
    while not done:
        try:
            wide.predict(data[:4])
        except RuntimeError as error:
            refused.append(str(error))
        time.sleep(0.001)
    thread.join()
    assert len(done[0]["loss"]) == 8  # what was refused did not disturb it
    assert len(refused) > 10
    assert all("another thread" in message for message in refused)
    assert np.isfinite(wide.predict(data)).all()


def test_a_reading_that_ctrl_c_never_let_leave_does_not_lock_the_network():
    """The interrupt may come behind the entry and before the block that leaves."""
    net = small(1)
    net._engine.turns.enter_reading()
    net.fit(X, LABELS, epochs=1)
    net.predict(X)
    other = threading.Thread(target=net._engine.turns.enter_reading)
    other.start()
    other.join()
    with pytest.raises(RuntimeError, match="another thread"):  # that one may still be reading
        net.fit(X, LABELS, epochs=1)


def test_a_turn_left_twice_is_still_one_thread_s():
    turns = small(1)._engine.turns
    with turns.changing:
        turns.leave_changing()
    turns.only_reading.__enter__()  # a loss that Ctrl-C never let leave
    turns.enter_changing()
    refused = []
    other = threading.Thread(target=lambda: refused.append(refuses(turns.enter_changing)))
    other.start()
    other.join()
    assert refused == [True]


def refuses(enter):
    try:
        enter()
    except RuntimeError:
        return True
    return False


def test_networks_in_two_threads_give_the_bits_they_give_alone():
    def train(seed):
        net = small(seed)
        net.fit(X, LABELS, epochs=30, batch_size=16, threads=2)
        return net.params.tobytes()

    alone = [train(seed) for seed in range(4)]
    together = [None] * 4
    threads = [
        threading.Thread(target=lambda i=i: together.__setitem__(i, train(i))) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_threads_may_predict_on_one_network_together():
    net = Sequential([Linear(5, 300), ReLU(), Linear(300, 3)])
    many = rng.standard_normal((5000, 5)).astype(np.float32)
    want = net.predict(many).tobytes()
    results = []

    def run():
        for _ in range(20):
            results.append(net.predict(many, threads=2).tobytes())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert set(results) == {want}


FORKED = """
import os, numpy as np, fastmlp
from fastmlp import *
net = Sequential([Linear(64, 256), ReLU(), Linear(256, 10)])
X = np.random.default_rng(0).standard_normal((512, 64)).astype("f")
y = np.arange(512) % 10
net.fit(X, y, epochs=2, threads=2)             # the parent has threads
want = net.predict(X, threads=2).tobytes()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        assert fastmlp.default_threads() == 1
        ok = net.predict(X, threads=2).tobytes() == want
        net.fit(X, y, epochs=1, threads=2)
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
net.fit(X, y, epochs=1, threads=2)             # and keeps them

import threading
thread = threading.Thread(target=lambda: net.fit(X, y, epochs=20000, batch_size=32, threads=2))
thread.start()                                 # forks while another thread trains
while net.step < 1000:
    pass
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        ok = np.isfinite(net.predict(X)).all()
        net.fit(X, y, epochs=1, batch_size=32)
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
print("alive", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("gemm", ["native", "blas"])
def test_a_forked_child_works(gemm):
    """A lock that the BLAS holds at the fork must not stay locked in the child."""
    if gemm == "blas" and fastmlp.get_config()["blas"] == "none":
        pytest.skip("built without a BLAS")
    command, environment = [sys.executable, "-c", FORKED], os.environ | {"FASTMLP_GEMM": gemm}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.strip() == "alive", done.stderr


FORKED_IN_A_FIT = """
import os, threading, numpy as np
from fastmlp import *
net = Sequential([Linear(5, 8), ReLU(), Linear(8, 3)])
X = np.random.default_rng(0).standard_normal((64, 5)).astype("f")
y = np.arange(64) % 3

def in_another_thread(f, *args):
    result = []
    def run():
        try:
            result.append(f(*args))
        except RuntimeError as error:
            result.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]

class Fork(Callback):
    child = None
    def on_epoch_end(self, run):
        if run.epoch == 2:
            self.child = os.fork()
        if self.child is not None:  # both go on with the fit, and nobody else may
            assert "another thread" in str(in_another_thread(net.predict, X))

fork = Fork()
net.fit(X, y, epochs=4, batch_size=16, callbacks=[fork])
assert in_another_thread(net.predict, X).tobytes() == net.predict(X).tobytes()
assert in_another_thread(net.train_step, X, y) > 0
assert net.fit(X, y, epochs=1)["loss"]
if fork.child == 0:
    os._exit(0)
assert os.waitpid(fork.child, 0)[1] == 0
print("alive")
"""


def test_a_child_forked_inside_a_fit_goes_on_with_it():
    command = [sys.executable, "-c", FORKED_IN_A_FIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "alive", done.stderr


INTERRUPTED = """
import sys, numpy as np
from fastmlp import *
def net():
    return Sequential([Linear(32, 256), ReLU(), Dropout(0.2), Linear(256, 10)], seed=1)
X = np.random.default_rng(0).standard_normal((3000, 32)).astype("f")
y = np.arange(3000) % 10
a = net()
a.fit(X, y, epochs=1, batch_size=50)          # however slow the machine, there are steps
try:
    print("ready", flush=True)
    a.fit(X, y, epochs=100000, batch_size=50)
except KeyboardInterrupt:
    print("stopped", flush=True)
steps, epochs = a.step, a.epoch
assert steps >= 60
a.save("interrupted.safetensors")
a = Sequential.load("interrupted.safetensors")
a.fit(X, y, epochs=2, batch_size=50)          # the rest of this pass, and one more
b = net()
b.fit(X, y, epochs=epochs + 2, batch_size=50)
assert (a.step, a.epoch) == (b.step, b.epoch), (a.step, b.step)
assert a.params.tobytes() == b.params.tobytes()
print("resumed")
"""


@pytest.mark.parametrize("delay", [0.05, 0.13, 0.31])
def test_ctrl_c_leaves_whole_steps_and_resumes_exactly(tmp_path, delay):
    out, err = interrupted(INTERRUPTED, tmp_path, delay)
    assert out.split() == ["stopped", "resumed"], err


# ---- divergence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", _core.LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_is_reported_and_keeps_finite_weights(loss, dtype):
    net = Sequential([Linear(5, 16), ReLU(), Linear(16, 16), ReLU(), Linear(16, 4)], dtype=dtype)
    y = targets(loss, 200, 4)
    with pytest.raises(fastmlp.DivergenceError, match=r"epoch .*learning rate") as caught:
        net.fit(
            1e4 * X,
            y,
            loss=loss,
            optimizer=SGD(lr=1e30 if dtype == "float32" else 1e200),
            epochs=50,
        )
    assert caught.value.epoch >= 1
    assert np.isfinite(net.params).all()
    assert np.isfinite(net.predict(X)).all() or net.params.max() > 1e10  # usable, if not useful
    net.params[:] = 0.01
    net.fit(X, y, loss=loss, optimizer=Adam(), epochs=2)


def test_a_train_step_that_cannot_be_taken_changes_nothing():
    net = small()
    net.train_step(X, LABELS)
    before = net.params.copy()
    with pytest.raises(ValueError, match="infinity at row 3, column 2"):
        net.train_step(with_value(np.inf), LABELS)
    with pytest.raises(fastmlp.DivergenceError):
        net.train_step(X, np.full((200, 3), 1e30), loss="squared_error")
    assert np.array_equal(net.params, before)
    assert np.isfinite(net.train_step(X, LABELS, loss="cross_entropy"))


# ---- bad input: a clear error before any work ----------------------------------------------------


def with_value(value, row=3, column=2):
    x = X.copy()
    x[row, column] = value
    return x


BAD_X = {
    "nan": (with_value(np.nan), ValueError, "NaN at row 3, column 2"),
    "infinite": (with_value(-np.inf), ValueError, "infinity at row 3"),
    "one row": (X[0], ValueError, r"reshape\(1, -1\)"),
    "cube": (X.reshape(10, 20, 5), ValueError, "3 dimensions"),
    "no rows": (X[:0], ValueError, "empty"),
    "no columns": (X[:, :0], ValueError, "empty"),
    "narrow": (X[:, :4], ValueError, "4 columns"),
    "text": (X.astype(str).tolist(), TypeError, "encode"),
    "objects": (np.array([[object()] * 5] * 200), TypeError, "not numbers"),
    "complex": (X.astype(complex), TypeError, "complex"),
    "too large": (with_value(1) * np.float64(1e300), ValueError, "too large for float32"),
    "masked": (np.ma.masked_greater(X, 1.0), ValueError, "masked"),
    "ragged": ([[1.0], [1.0, 2.0]], ValueError, "rectangular"),
}
BAD_Y = {
    "too high": (np.where(LABELS == 2, 3, LABELS), ValueError, r"class 3 .* Linear\(\.\.\., 4\)"),
    "negative": (LABELS - 1, ValueError, "label -1"),
    "fractional": (LABELS + 0.5, ValueError, "whole numbers"),
    "nan": (np.where(LABELS == 1, np.nan, LABELS), ValueError, "y has missing labels, row 3"),
    "infinite": (np.where(LABELS == 1, np.inf, LABELS), ValueError, "y holds infinity at row 3"),
    "short": (LABELS[:-1], ValueError, "199 rows but X has 200"),
    "one-hot": (np.eye(3, dtype=int)[LABELS], ValueError, "argmax"),
    "boolean": (LABELS > 0, TypeError, "boolean"),
    "text": (np.array(list("abc"))[LABELS], TypeError, "encode"),
}


@pytest.mark.parametrize("case", BAD_X)
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_bad_x(case, method):
    x, error, message = BAD_X[case]
    net = small()
    before, kept = (
        net.params.copy(),
        np.array(x, copy=True, dtype=object) if case == "ragged" else None,
    )
    args = (x,) if method == "predict" else (x, LABELS)
    with pytest.raises(error, match=message):
        getattr(net, method)(*args)
    assert kept is None or len(x) == 2
    assert np.array_equal(net.params, before)
    net.fit(X, LABELS, epochs=1)


@pytest.mark.parametrize("case", BAD_Y)
def test_bad_labels(case):
    y, error, message = BAD_Y[case]
    net = small()
    with pytest.raises(error, match=message):
        net.fit(X, y, loss="cross_entropy")
    assert net.step == 0


def test_bad_values():
    net = small()
    targets = np.eye(3, dtype=np.float32)[LABELS]
    for bad, message in (
        (targets[:, :2], "2 columns but the last layer has 3 outputs"),
        (np.where(targets == 1, np.nan, 0), "NaN at row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            net.fit(X, bad, loss="squared_error")
    with pytest.raises(ValueError, match=r"outside 0 \.\. 1"):
        net.fit(X, targets * 2, loss="binary_cross_entropy")


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"loss": "mse"}, "one of cross_entropy"),
        ({"optimizer": "adagrads"}, "one of sgd"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"epochs": -1}, "epochs"),
        ({"threads": 0}, "threads"),
        ({"verbose": 3}, "verbose"),
        ({"metrics": ["auc"]}, "unknown"),
        ({"metrics": ["mae"]}, "values"),
        ({"validation_split": 1.5}, "validation_split"),
        ({"validation_data": (X, LABELS[:-1])}, "validation y has 199 rows"),
        ({"validation_data": (X, LABELS), "validation_split": 0.1}, "not both"),
        ({"callbacks": [EarlyStopping()]}, "no validation data"),
    ],
)
def test_bad_settings_are_refused_before_any_work(settings_, message):
    net = small()
    before = net.params.copy()
    with pytest.raises(ValueError, match=message):
        net.fit(X, LABELS, **settings_)
    assert np.array_equal(net.params, before)


def test_callbacks_must_be_callbacks():
    for bad in (EarlyStopping("loss"), [3]):
        with pytest.raises(TypeError, match=r"\[EarlyStopping\(\)\]"):
            small().fit(X, LABELS, callbacks=bad)


def test_weights_that_are_not_finite_are_named():
    net = small()
    net.params[3] = np.nan
    with pytest.raises(ValueError, match="weights of this network"):
        net.fit(X, LABELS)


def test_any_layout_of_the_same_numbers_gives_the_same_bits(tmp_path):
    want = small().fit(X, LABELS, epochs=2)["loss"]
    on_disk = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    on_disk[:] = X
    unaligned = np.frombuffer(b"0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)
    wide = np.zeros((200, 10), np.float32)
    wide[:, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    for x in (
        np.asfortranarray(X),
        X.astype(">f4"),
        X.astype(np.float64),
        X[::-1][::-1],
        wide[:, ::2],
        unaligned,
        on_disk,
        read_only,
        X.tolist(),
        np.ma.masked_array(X),
    ):
        before = np.array(x, copy=True)
        assert small().fit(x, LABELS, epochs=2)["loss"] == want
        assert np.array_equal(np.asarray(x), before)
    for y in (LABELS.astype(np.uint8), LABELS.astype(">i2"), LABELS.tolist(), LABELS[:, None]):
        assert small().fit(X, y, loss="cross_entropy", epochs=2)["loss"] == want


def test_x_of_the_right_type_is_not_copied():
    import tracemalloc

    big = np.zeros((20000, 100), np.float32)
    y = np.zeros(20000, np.int64)
    net = Sequential([Linear(100, 4), ReLU(), Linear(4, 2)])
    net.fit(big, y, epochs=1)
    tracemalloc.start()
    net.fit(big, y, epochs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < big.nbytes / 4


def test_sparse_is_named():
    class Sparse:
        nnz = 3

        def toarray(self):
            return X

    with pytest.raises(TypeError, match="toarray"):
        small().fit(Sparse(), LABELS)


def test_sizes_that_cannot_be():
    with pytest.raises(ValueError, match="n_out"):
        Linear(4, 2**31)
    with pytest.raises(MemoryError, match="narrower"):
        Sequential([Linear(2**31 - 1, 2**31 - 1)])
    with pytest.raises(ValueError, match=r"Linear\(8, 3\)"):
        Sequential([Linear(5, 8), ReLU(), Linear(9, 3)])


# ---- the machine ---------------------------------------------------------------------------------


def run_python(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        cwd=Path(__file__).parent,  # where `helpers` is
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_threads_follow_affinity_and_environment():
    ask = "import os, fastmlp; print(fastmlp.default_threads(), len(os.sched_getaffinity(0)))"
    threads, allowed = map(int, run_python(ask, OMP_NUM_THREADS="").split())
    assert 1 <= threads <= allowed
    assert run_python(ask, OMP_NUM_THREADS="1").split()[0] == "1"
    assert run_python(ask, OMP_NUM_THREADS=" 1 ,4").split()[0] == "1"
    for no_number in ("1e3", "1.5", "1abc", "0", "-1", "99999999999999999999"):
        assert int(run_python(ask, OMP_NUM_THREADS=no_number).split()[-2]) == threads
    pinned = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " + ask
    assert run_python(pinned, OMP_NUM_THREADS="").split() == ["1", "1"]


def test_kernels_can_be_chosen_and_a_wrong_choice_is_named():
    ask = "import fastmlp; print(fastmlp.get_config()['kernels'])"
    for name in fastmlp.get_config()["available_kernels"]:
        assert run_python(ask, FASTMLP_KERNELS=name) == name
    assert "use one of base" in run_python(ask, FASTMLP_KERNELS="v9")
    assert "use native or blas" in run_python(ask, FASTMLP_GEMM="v9")


@pytest.mark.skipif(
    not {"v3", "v4"} <= set(fastmlp.get_config()["available_kernels"]), reason="needs AVX-512"
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_build_with_fma_gives_the_same_bits(dtype):
    code = f"""
import hashlib, numpy as np, fastmlp
from fastmlp import *
from fastmlp import layers
from helpers import LOSSES, targets
rng = np.random.default_rng(0)
weights = rng.random(300)
X = rng.standard_normal((300, 33)).astype("{dtype}")
hashes = hashlib.sha256()
for name, activation in layers.ACTIVATION_CLASSES.items():
    for loss in LOSSES:
        for optimizer in (SGD(lr=1e-4, momentum=0.9, nesterov=True), AdamW()):
            layers_ = [Linear(33, 70), activation(), Dropout(0.1), Linear(70, 6)]
            net = Sequential(layers_, dtype="{dtype}")
            y, chosen = targets(loss, 300, 6), LOSSES[loss]
            how = {{"optimizer": optimizer, "epochs": 3, "batch_size": 64}}
            history = net.fit(X, y, loss=chosen, sample_weight=weights, **how)
            hashes.update(net.params.tobytes())
            hashes.update(repr(history["loss"]).encode())
layers_ = [Standardize(), Linear(33, 70), BatchNorm(), ReLU(), Dropout(0.1)]
layers_ += [Residual([LayerNorm(), Linear(70), GELU(), RMSNorm(), Linear(70)]), Linear(70, 5)]
net = Sequential(layers_, dtype="{dtype}")
net.fit(X, np.arange(300) % 5, epochs=3, batch_size=64)
hashes.update(net.params.tobytes() + net.stats.tobytes() + net.predict(X).tobytes())
print(hashes.hexdigest())
"""
    v3, v4 = (run_python(code, FASTMLP_KERNELS=k, FASTMLP_GEMM="native") for k in ("v3", "v4"))
    assert len(v3) == 64
    assert v3 == v4


def test_floating_point_state_is_left_alone():
    tiny = np.float32(1e-40)
    small().fit(X, LABELS, epochs=1)
    assert tiny * np.float32(0.5) > 0  # no flush to zero
    with np.errstate(over="ignore"):
        assert np.isinf(np.float32(1e38) * np.float32(1e5))


def test_imports_need_numpy_alone():
    extras = {"sklearn", "pandas", "tqdm", "matplotlib", "scipy", "safetensors"}
    assert run_python(f"import sys, fastmlp; print({extras} & set(sys.modules))") == "set()"
