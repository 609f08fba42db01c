"""Another floating-point mode of the calling thread changes no bit, and is there again after it."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="the mode is set through glibc's fenv_t of x86-64",
)

# In a child, so that no other test runs in a strange mode. The threads of libgomp begin with the
# mode of the thread that first asks for them.
PROGRAM = '''
import ctypes, sys
import numpy as np
from fastmlp import *
from fastmlp import _core, losses

libm = ctypes.CDLL("libm.so.6")
fenv = (ctypes.c_uint32 * 8)()  # the control word of SSE stands last

def mode():
    libm.fegetenv(fenv)
    return fenv[7]

def set_mode(bits):
    libm.fegetenv(fenv)
    fenv[7] = bits
    libm.fesetenv(fenv)

FLUSH, UP, DEFAULT = 0x1F80 | 0x8040, 0x1F80 | 0x4000, 0x1F80
strange = {"flush": FLUSH, "up": UP, "both": FLUSH | UP}[sys.argv[1]]
rng = np.random.default_rng(0)
X = rng.standard_normal((256, 33)).astype("f")
X[:, :8] *= np.float32(1e-39)  # subnormal numbers
Y, labels = rng.standard_normal((256, 6)).astype("f"), rng.integers(0, 6, 256)
z32 = rng.standard_normal((64, 6)).astype("f") * np.float32(1e-39)

def network():
    layers = [BatchNorm(), Linear(33, 300), GELU(), LayerNorm(), Dropout(0.1), Linear(300, 6)]
    net = Sequential(layers, seed=3, n_in=33)
    net.params[:] += np.float32(1e-3) * np.random.default_rng(1).standard_normal(net.n_params)
    return net

rows = rng.standard_normal((40, 50))
A, B = -(np.tri(40).T + 40 * np.eye(40)), np.arange(40.0) / 7

def results(bits, threads):
    """Name and bits of what each call gives; the mode, flags and all, must be there after it."""
    found = []
    def call(name, f, *args, **how):
        before = mode()
        value = f(*args, **how)
        assert mode() == before, (name, hex(before), hex(mode()))
        found.append((name, value.tobytes() if isinstance(value, np.ndarray) else repr(value)))
        return value
    set_mode(DEFAULT)
    net, sgd = network(), SGD(lr=0.01, momentum=0.5)
    a, x = A.copy(), B.copy()
    w, slope, G = np.zeros(40), B * 1e-310, np.cov(rows) * 1e-150  # slopes: subnormal numbers
    set_mode(bits)
    context = net._engine.context
    net.use_optimizer(sgd)
    net._engine.reserve(256)
    index = _core.LOSSES["squared_error"]["index"], _core.OPTIMIZERS["sgd"]["index"]
    settings, order = sgd.settings, np.arange(256)[::-1].copy()
    call("train", context.train, X, Y, order, 64, *index, settings, None, threads, 60.0)
    call("forward", lambda: context.forward(X, True, threads).copy())
    call("backward", context.backward, Y, None, threads)
    call("grads", net.grads.copy)
    call("update", context.update, index[1], settings, threads)
    out, one = np.empty((256, 6), "f"), np.empty(6, "f")
    acts, pace = np.empty(threads * 64 * context.program.acts_width, "f"), _core.Pace()
    call("predict", lambda: context.predict(X, out, acts, 64, 0, threads, 60.0, pace) and out)
    call("predict_row", lambda: context.predict_row(X[0].copy(), one, net._engine.turns) and one)
    block = np.empty((2 * 6, net.n_params), "f")
    scratch = np.empty(threads * (context.program.acts_width + context.program.dacts_width), "f")
    call("jacobian", lambda: context.jacobian(X[:2].copy(), None, block, None, scratch, threads))
    call("block", block.copy)
    for name in ("cross_entropy", "squared_error"):
        dz = np.empty_like(z32)
        target = labels[:64] if name == "cross_entropy" else Y[:64].copy()
        call(name, _core.loss_and_grad, _core.LOSSES[name]["index"], z32, target, dz)
        call("its gradient", dz.copy)
    y32 = np.empty_like(z32)
    call("sigmoid", lambda: _core.elementwise(_core.FUNCTIONS["sigmoid"]["index"], z32, y32) or y32)
    call("cholesky", lambda: _core.cholesky_solve(a, x) and x)
    call("lasso", _core.lasso_sweeps, w, slope, G, np.zeros(40), 0.0, 3)
    call("its weights", w.copy)
    call("its slopes", slope.copy)
    call("first_nonfinite", _core.first_nonfinite, X)
    call("params", net.params.copy)
    call("stats", net.stats.copy)
    return found

want = results(DEFAULT, 1)
for threads in (1, 2):
    for (name, got), (_, expected) in zip(results(strange, threads), want, strict=True):
        assert got == expected, (name, threads)
print("same")
'''


@pytest.mark.parametrize("mode", ["flush", "up", "both"])
def test_a_mode_of_the_caller_changes_nothing_and_stays(mode):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert done.stdout.strip() == "same", done.stderr
