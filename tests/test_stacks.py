"""A stack that is too small for matrix products is an error before any work."""

import os
import subprocess
import sys

import pytest

from fastmlp import _core

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")

# In children, since a wrong answer is a crash. A sleeping neighbor's stack lies below that of the
# thread that calls; it must stay as it was, and so must the network where the call is refused.
PROGRAM = """
import sys, threading, warnings
import numpy as np
import fastmlp
from fastmlp import LBFGS, Adam, BatchNorm, LevenbergMarquardt, Linear, ReLU, Sequential

size, where, dtype, names = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
rng = np.random.default_rng(0)
X = rng.standard_normal((300, 700)).astype(dtype)
Y = X[:, :3].copy()
few, values = X[:40, :9].copy(), X[:40, :1].copy()
net = Sequential([Linear(700, 300), ReLU(), Linear(300, 3)], seed=1, dtype=dtype)
small = Sequential([Linear(9, 4), BatchNorm(), ReLU(), Linear(4, 1)], seed=1, dtype=dtype)
plain = Sequential([Linear(9, 4), ReLU(), Linear(4, 1)], seed=1, dtype=dtype)
fresh = Sequential([Linear(4), ReLU(), Linear(1)], seed=1, dtype=dtype)
threading.stack_size(2**20)  # enough
ready, never = threading.Event(), threading.Event()
begin = lambda: (net.forward(X), ready.set(), never.wait())  # its stack shall not be used again
threading.Thread(target=begin, daemon=True).start()
ready.wait()
out = Y.copy()
net.loss = "squared_error"
custom = lambda z, y: (((z - y) ** 2)[:, 0], 2 * (z - y))
nets = [net, small, plain]
entries = {
    "fit": lambda: net.fit(X, Y, epochs=1, batch_size=100, optimizer=Adam(1e-4)),
    "fit a fresh one": lambda: fresh.fit(few, values, epochs=1),
    "lbfgs": lambda: plain.fit(few, values, epochs=2, optimizer=LBFGS()),
    "lm": lambda: plain.fit(few, values, epochs=2, optimizer=LevenbergMarquardt()),
    "custom": lambda: plain.train_step(few, values, loss=custom),
    "train_step": lambda: net.train_step(X, Y, optimizer=Adam(1e-4)),
    "forward": lambda: net.forward(X),
    "backward": lambda: net.backward(out),
    "predict": lambda: net.predict(X),
    "predict a row": lambda: net.predict(X[:1]),
    "predict_row": lambda: net.predict_row(X[0]),
    "evaluate": lambda: net.evaluate(X, Y),
    "gradient": lambda: net.gradient(X, Y),
    "jacobian": lambda: plain.jacobian(few),
    "hessian_vector": lambda: plain.hessian_vector(few, values, np.ones(plain.n_params)),
    "update_statistics": lambda: small.update_statistics(few),
    "layer": lambda: net.layers[0].forward(X),
    "cholesky": lambda: fastmlp._core.cholesky_solve(-np.eye(90), np.ones(90)),
}

def state():
    return [(n.params.tobytes(), n.grads.tobytes(), n.stats.tobytes(), n.step, n.epoch, n.loss,
             n.optimizer) for n in nets] + [fresh._executor is None]

found = {}

def run():
    for name in names or entries:
        before = state()
        try:
            entries[name]()
            found[name] = "done"
        except RuntimeError as error:
            assert "KiB of stack" in str(error) and "stack_size" in str(error), error
            assert state() == before, name
            found[name] = "refused"

warnings.simplefilter("ignore", fastmlp.LearningHint)
if where == "main":
    run()
else:
    threading.stack_size(size)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    threading.stack_size(2**20)
    again = threading.Thread(target=net.predict, args=(X,))
    again.start()
    again.join()
print(*sorted(set(found.values())), len(found) == len(names or entries))
"""

KIB = 1024


def run(size=0, where="thread", dtype="float64", names=(), shell=None, **environment):
    command = [sys.executable, "-c", PROGRAM, str(size), where, dtype, *names]
    if shell:
        command = ["bash", "-c", f'{shell} && exec "$@"', "-", *command]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, env=os.environ | environment
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kib", [64, 144, 320, 512])
def test_a_thread_with_a_small_stack_is_refused(kib, dtype):
    assert run(kib * KIB, dtype=dtype)[0] == ["refused", "True"]


@pytest.mark.parametrize("kib", range(528, 690, 32))
def test_near_the_limit_a_thread_is_refused_or_works(kib):
    assert run(kib * KIB, names=["fit", "predict", "jacobian"])[0][0] in ("done", "refused")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mebibyte_is_enough(dtype):
    assert run(1024 * KIB, dtype=dtype)[0] == ["done", "True"]


@pytest.mark.parametrize("kib", [128, 320, 512])
def test_a_main_thread_with_a_small_stack_is_refused(kib):
    assert run(where="main", shell=f"ulimit -s {kib}")[0] == ["refused", "True"]


@pytest.mark.parametrize("kib", ["1024", "unlimited"])
def test_a_main_thread_with_enough(kib):
    assert run(where="main", shell=f"ulimit -s {kib}")[0] == ["done", "True"]


HELPERS = """
import warnings
import numpy as np
from fastmlp import Linear, ReLU, Sequential, get_config
net = Sequential([Linear(700, 300), ReLU(), Linear(300, 50)], seed=1, dtype="float64")
X = np.random.default_rng(0).standard_normal((600, 700))
want = net.predict(X, threads=1).tobytes()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for threads in (2, 4, 2):
        assert net.predict(X, threads=threads).tobytes() == want
    net.fit(X, np.arange(600) % 50, epochs=3, threads=4)
print(sum("OMP_STACKSIZE" in str(w.message) for w in caught), get_config()["threads"] == 1)
"""


def helpers(shell="true", **environment):
    done = subprocess.run(
        ["bash", "-c", f'{shell} && exec "$@"', "-", sys.executable, "-c", HELPERS],
        capture_output=True,
        text=True,
        timeout=100,
        env={k: v for k, v in os.environ.items() if "STACKSIZE" not in k} | environment,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.split()[0]


@pytest.mark.parametrize("size", ["64K", "400", "512K", " 300 k "])
def test_small_stacks_of_openmp_are_told_once_and_one_thread_works(size):
    assert helpers(OMP_STACKSIZE=size) == "1"


def test_the_other_name_of_the_variable():
    assert helpers(GOMP_STACKSIZE="256") == "1"


@pytest.mark.parametrize("size", ["1M", "nonsense", "1"])
def test_stacks_that_suffice_or_that_openmp_refuses(size):
    assert helpers(OMP_STACKSIZE=size) == "0"


def test_helpers_may_have_more_than_the_limit_of_the_shell():
    assert helpers("ulimit -s 700", OMP_STACKSIZE="2M") == "0"


def test_the_limit_lies_above_what_the_kernels_need():
    assert 450 * KIB < _core.STACK_BYTES < 1024 * KIB
