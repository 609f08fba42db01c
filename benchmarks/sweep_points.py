"""The points of `sweep.py`: its axes, the work a step is worth, and what counts as a cliff."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

CLIFF = 1.25  # times the better neighbor's time a unit of padded work
Row = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A net and its batch; `at` is its place on the axis, `column` what the net is made of."""

    axis: str
    at: int
    widths: tuple[int, ...]
    batch: int = 128
    column: str = "Adam"

    @property
    def key(self) -> str:
        return f"{self.axis}, {self.column}: {self.at}"


# Column -> optimizer's class, its arguments, layer behind each hidden Linear, type.
COLUMNS: dict[str, tuple[str, dict[str, Any], str | None, str]] = {
    "Adam": ("Adam", {}, None, "float32"),
    "float64": ("Adam", {}, None, "float64"),
    "SGD": ("SGD", {}, None, "float32"),
    "momentum": ("SGD", {"momentum": 0.9}, None, "float32"),
    "AdamW": ("AdamW", {}, None, "float32"),
    "AMSGrad": ("AMSGrad", {}, None, "float32"),
    "NAdam": ("NAdam", {}, None, "float32"),
    "AdaGrad": ("AdaGrad", {}, None, "float32"),
    "RMSprop": ("RMSprop", {}, None, "float32"),
    "Lion": ("Lion", {}, None, "float32"),
    "schedule-free": ("ScheduleFreeAdamW", {}, None, "float32"),
    "BatchNorm": ("Adam", {}, "BatchNorm", "float32"),
    "LayerNorm": ("Adam", {}, "LayerNorm", "float32"),
    "RMSNorm": ("Adam", {}, "RMSNorm", "float32"),
    "Dropout": ("Adam", {}, "Dropout", "float32"),
}
_QUICK_COLUMNS = ("float64", "SGD", "LayerNorm")

# Each power of two and what stands beside it; each multiple of a vector and one beyond it.
_BATCHES = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128),
    *(129, 192, 255, 256, 257, 384, 511, 512, 513, 768, 1000, 1023, 1024, 1025, 1536, 2047, 2048),
    *(2049, 3000, 4096, 4097, 6000, 8192, 10_000, 16_384, 32_768, 65_536),
)
_WIDTHS = (
    *(8, 9, 12, 15, 16, 17, 20, 23, 24, 25, 28, 31, 32, 33, 36, 39, 40, 41, 44, 47, 48, 49, 55),
    *(56, 57, 63, 64, 65, 72, 73, 79, 80, 81, 88, 89, 95, 96, 97, 111, 112, 113, 120, 127, 128),
    *(129, 143, 144, 145, 159, 160, 161, 191, 192, 193, 223, 224, 225, 255, 256, 257, 288, 320),
    *(321, 383, 384, 385, 448, 449, 511, 512, 513, 576, 640, 641, 767, 768, 769, 896, 1000, 1023),
    *(1024, 1025, 1152, 1280, 1281, 1535, 1536, 1537, 1792, 2032, 2047, 2048, 2049, 2064, 2560),
    *(3072, 3073, 4064, 4095, 4096),
)
_DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 25, 32, 40, 50)
_ENDS = (
    *(2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129),
    *(200, 255, 256, 257, 384, 511, 512, 513, 784, 1000, 1023, 1024, 1025, 1500, 2048),
)
_COLUMN_BATCHES = (1, 8, 32, 64, 128, 256, 1024, 1025, 4096, 8192, 16_384)
_COLUMN_WIDTHS = (15, 16, 17, 31, 32, 33, 64, 65, 128, 129, 255, 256, 257, 512, 1024)
_QUICK = (
    *(1, 2, 8, 9, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 256, 257, 512, 513),
    *(1000, 1024, 1025, 4096, 16_384),
)
_QUICK_WIDEST = 1025


AXES: dict[str, tuple[str, tuple[int, ...], Callable[[int], tuple[tuple[int, ...], int]]]] = {
    # axis -> what its places are, the places, and the widths and batch of each
    "batch of 8-64-64-4": ("rows", _BATCHES, lambda n: ((8, 64, 64, 4), n)),
    "batch of 784-128-10": ("rows", _BATCHES, lambda n: ((784, 128, 10), n)),
    "width w-w-w, 128 rows": ("units", _WIDTHS, lambda n: ((n, n, n), 128)),
    "width w-w-w, 32 rows": ("units", _WIDTHS, lambda n: ((n, n, n), 32)),
    "depth, 64 wide": ("hidden layers", _DEPTHS, lambda n: ((16, *(64,) * n, 10), 128)),
    "depth, 256 wide": ("hidden layers", _DEPTHS, lambda n: ((16, *(256,) * n, 10), 128)),
    "inputs of n-256-10": ("inputs", (1, *_ENDS, 4096), lambda n: ((n, 256, 10), 128)),
    "outputs of 64-256-n": ("outputs", _ENDS, lambda n: ((64, 256, n), 128)),
}
_COLUMN_AXES = {
    "batch of 8-64-64-4": _COLUMN_BATCHES,
    "width w-w-w, 128 rows": _COLUMN_WIDTHS,
}


def points(quick: bool) -> list[Point]:
    """All of the sweep; quick: every axis and some columns, at fewer places."""
    found = []
    for axis, (_, places, net) in AXES.items():
        chosen = [at for at in places if not quick or _is_quick(axis, at)]
        found += [Point(axis, at, *net(at)) for at in chosen]
    for axis, places in _COLUMN_AXES.items():
        base = [Point(axis, at, *AXES[axis][2](at)) for at in places]
        for column in _QUICK_COLUMNS if quick else tuple(COLUMNS)[1:]:
            chosen = [p for p in base if not quick or _is_quick(axis, p.at)]
            found += [replace(p, column=column) for p in chosen if _makes_sense(column, p)]
    return found


def _makes_sense(column: str, p: Point) -> bool:
    """BatchNorm refuses to train on one row, which has no variance."""
    return column != "BatchNorm" or p.batch > 1


def _is_quick(axis: str, at: int) -> bool:
    if axis.startswith("depth"):
        return at in (1, 2, 3, 4, 8, 16)
    return at in _QUICK and (axis.startswith("batch") or at <= _QUICK_WIDEST)


def padded_work(widths: tuple[int, ...], batch: int, lanes: int, update: float) -> float:
    """Multiply-adds that a step is worth: those of its products, and its update.

    batch x (n_in pad(n_out) + n_in pad(n_out) + n_out pad(n_in)) for each layer: forward, weight
    gradient, and input gradient, which the first layer does not need; pad(n) is n rounded up to a
    multiple of `lanes`, the elements of a vector, along which the columns of a result lie. Plus
    `update` for each parameter: what the optimizer takes for one, in multiply-adds at the peak.
    """
    products = 0
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        products += 2 * n_in * pad(n_out, lanes) + (n_out * pad(n_in, lanes) if i else 0)
    return batch * products + update * n_params(widths)


def pad(n: int, lanes: int) -> int:
    return -(-n // lanes) * lanes


def n_params(widths: tuple[int, ...]) -> int:
    return sum((a + 1) * b for a, b in pairwise(widths))


def lines(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each axis and column, in order of their places."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["axis"], row["column"]), []).append(row)
    return {key: sorted(line, key=lambda r: r["at"]) for key, line in found.items()}


def cliffs(rows: list[Row], fixed_us: float = 0.0) -> list[Row]:
    """Rows that take more than CLIFF times the better neighbor's time a unit of padded work.

    Each with that `neighbor`, the ratio `times`, and the `reason`, None where none is named;
    `fixed_us`: what a step of next to nothing takes.
    """
    found = []
    for line in lines(rows).values():
        for i, row in enumerate(line):
            beside = line[max(0, i - 1) : i] + line[i + 1 : i + 2]
            if not beside:
                continue
            better = min(beside, key=lambda r: r["us"] / r["work"])
            if (times := _times(row, better, 0)) > CLIFF:
                named = reason(row, better, fixed_us)
                found.append(row | {"neighbor": better, "times": times, "reason": named})
    return found


def cliffs_of(result: dict[str, Any]) -> list[Row]:
    """Of a result of `sweep.py`."""
    return cliffs(result["rows"], result.get("fixed_us", 0.0))


def _times(row: Row, better: Row, fixed_us: float) -> float:
    """How many times longer a unit of work takes, the fixed cost of a step left aside."""
    own, other = (max(r["us"] - fixed_us, 1e-9) / r["work"] for r in (row, better))
    return own / other


_MOST_OF_ENDS = 1.4  # times that the first and last layer explain: 1.32 and 1.35 were measured


# Text -> whether it explains the row, given its better neighbor and the fixed cost of a step. A
# reason is named only after it was looked into.
REASONS: dict[str, Callable[[Row, Row, float], bool]] = {
    "the fixed cost of a step, as a step of 1-1-2 at batch 1 has it: without it no cliff": (
        lambda row, better, fixed_us: _times(row, better, fixed_us) <= CLIFF
    ),
    # There 9 columns take as long as 12: sums of so few terms are not what the time goes into.
    "16 wide or less, and no slower than the wider neighbor: longer sums would cost nothing": (
        lambda row, better, fixed_us: (
            row["axis"].startswith("width")
            and row["at"] < better["at"] <= 16
            and row["us"] <= 1.05 * better["us"]
        )
    ),
    "one hidden layer: short sums of 16 inputs and a part of a vector for 10 outputs are all": (
        lambda row, better, fixed_us: (
            row["axis"].startswith("depth")
            and row["at"] == 1
            and _times(row, better, fixed_us) <= _MOST_OF_ENDS
        )
    ),
}


def reason(row: Row, better: Row, fixed_us: float) -> str | None:
    """The first reason that covers the row."""
    return next((text for text, covers in REASONS.items() if covers(row, better, fixed_us)), None)
