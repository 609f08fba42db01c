"""Metrics by name go through the rows in blocks, so that Ctrl-C comes between: whatever the size of
a block, the value is that of all rows at once.
"""

import math

import numpy as np
import pytest

from fastmlp import metrics
from fastmlp.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    GaussianNLL,
    Loss,
    Pinball,
    Poisson,
    SoftCrossEntropy,
    SquaredError,
)
from fastmlp.metrics import METRICS, get_metrics

RNG = np.random.default_rng(0)
ROWS = 23
LABELS = RNG.integers(0, 3, ROWS)
SOME_IGNORED = np.where(np.arange(ROWS) % 3 == 0, -1, LABELS)
VALUES = RNG.standard_normal((ROWS, 2)).astype(np.float32)
COUNTS = RNG.poisson(2, (ROWS, 1)).astype(np.float32)


def outputs(width: int) -> np.ndarray:
    return RNG.standard_normal((ROWS, width)).astype(np.float32)


CASES = {
    "labels": ("accuracy", CrossEntropy(), LABELS, outputs(3)),
    "ignored labels": ("accuracy", CrossEntropy(ignore_index=-1), SOME_IGNORED, outputs(3)),
    "soft labels": ("accuracy", SoftCrossEntropy(), np.eye(3)[LABELS], outputs(3)),
    "several labels": ("accuracy", BinaryCrossEntropy(), VALUES > 0, outputs(2)),
    "mae": ("mae", SquaredError(), VALUES, outputs(2)),
    "rmse": ("rmse", SquaredError(), VALUES, outputs(2)),
    "r2": ("r2", SquaredError(), VALUES, outputs(2)),
    "r2 of one dimension": ("r2", SquaredError(), VALUES[:, 0], outputs(1)),
    "r2 of a constant": ("r2", SquaredError(), VALUES * [0, 1], outputs(2)),
    "rates": ("mae", Poisson(), COUNTS, outputs(1)),
    "quantiles": ("rmse", Pinball((0.1, 0.5)), VALUES, outputs(4)),
    "means": ("r2", GaussianNLL(), VALUES, outputs(4)),
}


def at_once(name: str, loss: Loss, y: np.ndarray, out: np.ndarray) -> float:
    """The metric by its formula."""
    if name == "accuracy":
        counting = loss.counting(y)
        if counting is not None:
            y, out = y[counting], out[counting]
        y = y.argmax(axis=1) if isinstance(loss, SoftCrossEntropy) else y
        return float(np.mean(out.argmax(axis=1) == y if y.ndim == 1 else (out > 0) == (y > 0.5)))
    y = y.reshape(len(y), -1).astype(np.float64)
    error = loss.point(out).astype(np.float64) - y
    if name != "r2":
        return float(np.mean(abs(error)) if name == "mae" else np.sqrt(np.mean(error**2)))
    spread = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.where(spread > 0, 1 - (error**2).sum(axis=0) / spread, np.nan)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("numbers", [1, 5, 12, 2**20])
def test_blocks_change_no_metric(monkeypatch: pytest.MonkeyPatch, case: str, numbers: int) -> None:
    name, loss, y, out = CASES[case]
    monkeypatch.setattr(metrics, "_AT_ONCE", numbers)
    found = get_metrics([name], loss)[name](y, out)
    want = at_once(name, loss, y, out)
    assert found == pytest.approx(want, rel=1e-13, nan_ok=True)
    assert math.isnan(want) == (case == "r2 of a constant")


def test_no_block_is_larger_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class WatchedSquaredError(SquaredError):
        def point(self, z: np.ndarray) -> np.ndarray:
            seen.append(z.size)
            return z

    monkeypatch.setattr(metrics, "_AT_ONCE", 8)
    for name in ("mae", "rmse", "r2"):
        get_metrics([name], WatchedSquaredError())[name](VALUES, outputs(2))
    assert max(seen) == 8
    assert sum(seen) == 4 * VALUES.size  # r2 reads y again for its spread


def test_rows_none_of_which_counts_have_no_accuracy() -> None:
    metric = get_metrics(["accuracy"], CrossEntropy(ignore_index=7))["accuracy"]
    assert math.isnan(metric(np.full(4, 7), np.zeros((4, 3))))


@pytest.mark.parametrize("name", ["mae", "rmse", "r2"])
def test_shapes_that_do_not_fit_are_told_whole(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(metrics, "_AT_ONCE", 4)
    with pytest.raises(ValueError, match=r"y has the shape \(23, 2\) and the outputs \(23, 3\)"):
        METRICS[name](VALUES, outputs(3))
    with pytest.raises(ValueError, match=r"y has the shape \(20, 2\) and the outputs \(23, 2\)"):
        METRICS[name](VALUES[:20], outputs(2))
