"""The door alone: arguments that C would believe, labels that change behind its back."""

import numpy as np
import pytest

from fastmlp import Adam, Linear, ReLU, Sequential, _core
from fastmlp.engine.plan import plan

rng = np.random.default_rng(0)
X = rng.standard_normal((70, 5)).astype(np.float32)
LABELS = rng.integers(0, 3, 70)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [name for name in _core.LOSSES if _core.LOSSES[name]["labels"]])
@pytest.mark.parametrize("n_out", [3, 40])
@pytest.mark.parametrize("label", [-1, "n_out", 2**40, 2**63 - 1, -(2**63)])
def test_labels_that_change_after_the_look_through_end_the_step(label, n_out, loss, dtype):
    """Another thread may overwrite the user's array at any moment: `again` skips the look."""
    net = Sequential([Linear(5, 16), ReLU(), Linear(16, n_out)], dtype=dtype)
    net.use_optimizer(Adam())
    net._engine.reserve(70)
    before, x, y = net.params.copy(), X.astype(dtype), LABELS.copy()
    y[37] = n_out if label == "n_out" else label
    index, order = _core.LOSSES[loss]["index"], np.arange(70)[::-1].copy()
    settings_ = Adam().settings
    for rows in (None, order):
        _, done, finite = net._engine.context.train(
            x, y, rows, 70, index, 1, settings_, None, 2, 1.0, again=True
        )
        assert (done, finite, net.step) == (0, False, 0)
        assert np.array_equal(net.params, before)


def test_none_is_refused_by_every_door():
    """Where Cython looked into it unasked, the interpreter died."""
    net = Sequential([Linear(5, 16), ReLU(), Linear(16, 3)])
    net.use_optimizer(Adam())
    net._engine.reserve(8)
    context, program, x = net._engine.context, net._engine.program, X[:8].copy()
    out, settings_ = np.empty((8, 3), np.float32), Adam().settings
    arrays = np.empty(8, np.float32)
    doors = [
        (_core.Program, [net._engine.layout.ops, 0, 0, 8, 8], [0]),
        (_core.Context, [program, net.params, net.grads, 0], [0, 1, 2]),
        (context.reserve, [8, arrays, arrays, arrays, arrays], [1, 2, 3, 4]),
        (context.set_state, [(), None], [0]),
        (context.forward, [x, False, 1], [0]),
        (context.backward, [out, None, 1], [0]),
        (context.jacobian, [x, None, arrays, None, arrays, 1], [0, 2, 4]),
        (context.update, [1, settings_, 1], [1]),
        (context.predict, [x, out, arrays, 8, 0, 1, 1.0, _core.Pace()], [0, 1, 2, 7]),
        (context.predict_row, [x[0].copy(), out[0].copy(), net._engine.turns], [0, 1, 2]),
        (context.train, [x, LABELS[:8].copy(), None, 8, 0, 1, settings_, None, 1, 1.0], [0, 1, 6]),
        (_core.loss_and_grad, [0, out, LABELS[:8].copy(), None], [1, 2]),
        (_core.target_columns, [0, _core.LossSettings(), 3], [1]),
        (_core.elementwise, [0, arrays, arrays], [1, 2]),
        (_core.cholesky_solve, [np.eye(8), np.ones(8)], [0, 1]),
        (_core.QuickWay, [context, net._engine.turns], [0, 1]),
        (_core.first_nonfinite, [arrays], [0]),
        (_core.first_outside, [arrays, 0.0, 1.0], [0]),
        (_core.first_bad_label, [LABELS, 3], [0]),
        (_core.shuffle, [np.arange(8), 0, 0], [0]),
    ]
    for door, args, places in doors:
        for place in places:
            bad = [None if i == place else arg for i, arg in enumerate(args)]
            with pytest.raises(TypeError, match="None"):
                door(*bad)
    with pytest.raises(TypeError, match="None"):
        context.running = None
    with pytest.raises(ValueError, match="unpack"):
        context.running = (1.0,)
    with pytest.raises(TypeError):  # it would hold nothing
        _core.Context.__new__(_core.Context)
    context.__init__()  # does nothing
    assert context.program is program


def test_sizes_that_wrap_around_are_refused():
    layout = plan([ReLU()], 4)  # activations that lie far apart: 2^20 rows of them are 2^64 numbers
    ops = layout.ops.copy()
    widths = (2**44, layout.dacts_width)
    params, nothing = np.empty(0, np.float32), np.empty(0, np.float32)
    context = _core.Context(_core.Program(ops, 0, 0, *widths), params, params.copy(), 0)
    rows = 2**20
    batch = np.empty(4 * rows, np.float32)
    with pytest.raises(ValueError, match="no size"):
        context.reserve(rows, nothing, batch, batch.copy(), np.empty(rows))
    with pytest.raises(ValueError, match=r"size|elements"):
        context.reserve(-1, nothing, nothing, nothing, np.empty(0))
    x, out = np.ones((2, 4), np.float32), np.empty((2, 4), np.float32)
    with pytest.raises(ValueError, match="no size"):
        context.predict(x, out, nothing, rows, 0, 1, 1.0, _core.Pace())
    with pytest.raises(ValueError, match="no size"):
        context.jacobian(x, None, nothing, None, nothing, 2**20)
