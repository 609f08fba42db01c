"""Ctrl-C in long calls that train no network: a signal's handler is asked on the way, and what it
raises leaves everything as it was. The handlers raise at the first ask; no test looks at a clock.
"""

import signal
import threading

import numpy as np
import pytest
from helpers import ToldError

from fastmlp import BinaryCrossEntropy, Linear, Sequential, _core
from fastmlp.ground import conversion as data
from fastmlp.ground import lapack
from fastmlp.losses import LOSS_CLASSES, Pinball

LOSSES = {name: make() for name, make in LOSS_CLASSES.items()} | {"pinball": Pinball((0.2, 0.8))}


def test_ctrl_c_in_a_cholesky_factor(alarm: None) -> None:
    n = 2500  # 2.6e9 multiply-adds: nine asks
    rng = np.random.default_rng(0)
    a = rng.standard_normal((n, n))
    minus = -(a + a.T) / 2 - 2 * np.sqrt(n) * np.eye(n)
    x = rng.standard_normal(n)
    work, kept = minus.copy(), x.copy()
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)
    with pytest.raises(ToldError):
        _core.cholesky_solve(work, x)
    assert np.array_equal(x, kept)
    # Only the kernel itself can have raised: its matrix is half of the way.
    assert not np.array_equal(work, minus)
    assert work[-1, -1] < 0  # a finished factor has a positive diagonal
    assert _core.cholesky_solve(minus, x)


def test_handlers_that_return_change_no_bit_of_a_cholesky_factor() -> None:
    n, seen = 2500, []
    rng = np.random.default_rng(0)
    a = rng.standard_normal((n, n))
    minus = -(a + a.T) / 2 - 2 * np.sqrt(n) * np.eye(n)
    x = rng.standard_normal(n)
    factors = [minus.copy(), minus.copy()]
    results = [x.copy(), x.copy()]
    assert _core.cholesky_solve(factors[0], results[0])
    before = signal.signal(signal.SIGVTALRM, lambda *_: seen.append(1))
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.01, 0.01)
        assert _core.cholesky_solve(factors[1], results[1])
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert len(seen) > 1  # one alone could have come after the end
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(*factors)


def test_ctrl_c_in_sweeps_of_the_lasso(alarm: None) -> None:
    n, l1 = 600, 1e-9
    columns = 1 + 1e-3 * np.random.default_rng(0).standard_normal((n, n))  # all but one direction
    G, c = columns @ columns.T, columns @ np.arange(n) / n
    to_the_end, w, slope = np.zeros(n), np.zeros(n), c.copy()
    assert _core.lasso_sweeps(to_the_end, c.copy(), G, np.zeros(n), l1, 4000) == 4000
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)
    with pytest.raises(ToldError):
        _core.lasso_sweeps(w, slope, G, np.zeros(n), l1, 4000)
    assert w.any()
    assert not np.array_equal(w, to_the_end)
    size = np.abs(G) @ np.abs(w) + np.abs(c)
    assert (np.abs(slope - (c - G @ w)) <= 1e-9 * size).all()


def test_ctrl_c_in_the_loss_of_many_rows(alarm: None) -> None:
    rows = 5_000_000
    z = np.random.default_rng(0).standard_normal((rows, 1), dtype=np.float32)
    target, loss, each = (z > 1).astype(np.float32), BinaryCrossEntropy(), np.full(rows, -1.0)

    def value() -> float:
        return _core.loss_and_grad(loss.index, z, target, None, loss.settings, None, each)

    signal.setitimer(signal.ITIMER_VIRTUAL, 0.005)
    with pytest.raises(ToldError):
        value()
    assert each[-1] == -1  # only the kernel itself can have raised
    whole = value()
    parts = [loss.value(z[r : r + 9999], target[r : r + 9999]) for r in range(0, rows, 9999)]
    counts = [min(9999, rows - r) for r in range(0, rows, 9999)]
    assert whole == pytest.approx(np.average(parts, weights=counts), rel=1e-12)
    assert np.array_equal(loss.row_values(z[-7:], target[-7:]), each[-7:])


@pytest.mark.parametrize("rows", [1, 16385, 16386, 40000])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_blocks_of_rows_change_no_loss(rows: int, name: str) -> None:
    """To the bit, with the gradient: each row has what it has alone."""
    loss, rng = LOSSES[name], np.random.default_rng(1)
    z, weights = rng.standard_normal((rows, 4)), rng.uniform(0, 2, rows)
    columns = loss.target_columns(4)
    target = rng.integers(0, 4, rows) if loss.needs_labels else rng.random((rows, columns))
    dz, own = np.empty_like(z), np.empty((1, 4))
    values = loss.row_values(z, target, dz, weights)
    for row in {0, rows // 2, rows - 1, min(16385, rows - 1)}:
        one = slice(row, row + 1)
        assert np.array_equal(loss.row_values(z[one], target[one], own, weights[one]), values[one])
        np.testing.assert_allclose(dz[one], own, rtol=1e-14, atol=1e-15)


FORMS = {
    "float64": lambda x: x,
    "list": lambda x: x.tolist(),
    "objects": lambda x: x.astype(object),
    "Fortran order": np.asfortranarray,
    "big-endian": lambda x: x.astype(">f8"),
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at_once", [1, 7, 20, 202, 203])
def test_conversion_in_blocks(monkeypatch: pytest.MonkeyPatch, form: str, at_once: int) -> None:
    x = np.random.default_rng(0).standard_normal((29, 7))
    net = Sequential([Linear(7, 3)], seed=1)
    want = net.predict(x.astype(np.float32))
    monkeypatch.setattr(data, "_AT_ONCE", at_once)
    assert np.array_equal(net.predict(FORMS[form](x)), want)


def test_every_block_of_objects_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_AT_ONCE", 14)
    x = np.ones((29, 7), object)
    x[28, 6] = "1"
    with pytest.raises(TypeError, match="not numbers"):
        Sequential([Linear(7, 3)]).predict(x)


def test_a_call_of_lapack_is_left_at_once_and_ends_by_itself(monkeypatch, alarm):
    monkeypatch.setattr(lapack, "_LONG", 0)
    may_end, ended = threading.Event(), threading.Event()

    def slow(matrix):
        signal.raise_signal(signal.SIGVTALRM)
        may_end.wait(60)
        ended.set()

    with pytest.raises(ToldError):
        lapack.interruptible(slow, np.eye(2))
    assert not ended.is_set()
    may_end.set()
    assert ended.wait(60)


def test_a_call_of_lapack_in_a_thread_has_the_same_bits_and_errors(monkeypatch):
    X = np.random.default_rng(0).standard_normal((60, 140))
    expected = np.linalg.svd(X, full_matrices=False)
    monkeypatch.setattr(lapack, "_LONG", 0)
    for a, b in zip(
        lapack.interruptible(np.linalg.svd, X, full_matrices=False), expected, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(np.linalg.LinAlgError):
        lapack.interruptible(np.linalg.cholesky, -np.eye(3))
    inside = []
    thread = threading.Thread(
        target=lambda: inside.append(lapack.interruptible(np.linalg.inv, np.eye(2)))
    )
    thread.start()
    thread.join()
    np.testing.assert_array_equal(inside[0], np.eye(2))
