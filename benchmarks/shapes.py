"""The grid of networks, and the data and weights that every peer starts from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEARNING_RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
STEPS_BEFORE_LOSS = 20
_SEED = 20
_NUMBERS_IN_DATA_SET = 2**20  # 4 MB of float32, but 24 to 64 mini-batches


@dataclass(frozen=True)
class Shape:
    """A classifier, widths from input to classes, and its batch size."""

    name: str
    widths: tuple[int, ...]
    activation: str
    batch: int

    @property
    def n_batches(self) -> int:
        """Mini-batches in the data set."""
        return max(
            STEPS_BEFORE_LOSS + 4, min(64, _NUMBERS_IN_DATA_SET // (self.batch * self.widths[0]))
        )

    @property
    def n_params(self) -> int:
        """Weights and biases."""
        return sum((a + 1) * b for a, b in zip(self.widths, self.widths[1:], strict=False))

    @property
    def flop(self) -> int:
        """Of the matrix products in a step: forward, weight gradient, input gradient.

        2 B n_in n_out each; the first layer needs no input gradient.
        """
        products = [a * b for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return 2 * self.batch * (3 * sum(products) - products[0])

    @property
    def memory_bytes(self) -> int:
        """That a step of Adam must at least read and write where no cache holds the net: parameters
        and two moments once each way, and the mini-batch once. All in float32.
        """
        return 4 * (6 * self.n_params + self.batch * self.widths[0])


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("8-64-64-4", (8, 64, 64, 4), "relu", 64),
        Shape("10-45-45-10", (10, 45, 45, 10), "relu", 128),
        Shape("4-32-16-4", (4, 32, 16, 4), "tanh", 10_000),
        Shape("17-256-256-6", (17, 256, 256, 6), "tanh", 256),
        Shape("28-300x5-2", (28, 300, 300, 300, 300, 300, 2), "tanh", 100),
        Shape("784-128-10", (784, 128, 10), "relu", 32),
        Shape("784-100-100-10", (784, 100, 100, 10), "relu", 200),
        Shape("784-256-128-10", (784, 256, 128, 10), "relu", 128),
        Shape("784-512-512-10", (784, 512, 512, 10), "relu", 128),
        Shape("784-1024-1024-10", (784, 1024, 1024, 10), "relu", 256),
        Shape("1024-2048-2048-1000", (1024, 2048, 2048, 1000), "relu", 256),
    )
}


@dataclass
class Problem:
    """What a peer gets: X (rows, n_in), labels y (rows,), weights (n_in, n_out) and biases."""

    shape: Shape
    X: NDArray[np.floating]
    y: NDArray[np.int64]
    weights: list[NDArray[np.floating]]
    biases: list[NDArray[np.floating]]

    def batches(self) -> list[tuple[NDArray[np.floating], NDArray[np.int64]]]:
        """The mini-batches in order, as views."""
        size = self.shape.batch
        starts = range(0, len(self.X), size)
        return [(self.X[i : i + size], self.y[i : i + size]) for i in starts]

    def held_out(self) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """The last mini-batch, which the steps before the loss do not reach.

        On rows a net has learned by heart the loss is near 0, and rounding errors are all of it.
        """
        return self.batches()[-1]


def make_problem(shape: Shape) -> Problem:
    """Normal features; the label is the largest of the first n_classes, so there is much to learn.

    Biases begin away from zero: a peer that left them out would show in the loss.
    """
    rng = np.random.default_rng(_SEED)
    rows, n_in, n_classes = shape.batch * shape.n_batches, shape.widths[0], shape.widths[-1]
    X = rng.standard_normal((rows, n_in), dtype=np.float32)
    y = X[:, :n_classes].argmax(axis=1)
    gain = np.float32(2 if shape.activation == "relu" else 1)
    weights, biases = [], []
    for a, b in zip(shape.widths, shape.widths[1:], strict=False):
        weights.append(rng.standard_normal((a, b), dtype=np.float32) * np.sqrt(gain / a))
        biases.append(rng.standard_normal(b, dtype=np.float32) * np.float32(0.1))
    return Problem(shape, X, y, weights, biases)


def save_problem(problem: Problem, path: Path) -> None:
    """Write the problem where a worker will read it."""
    numbered = {f"weight{i}": w for i, w in enumerate(problem.weights)}
    numbered |= {f"bias{i}": b for i, b in enumerate(problem.biases)}
    np.savez(path, name=problem.shape.name, X=problem.X, y=problem.y, **numbered)


def load_problem(path: Path) -> Problem:
    """Read what save_problem wrote."""
    with np.load(path) as file:
        shape = SHAPES[str(file["name"])]
        n_layers = len(shape.widths) - 1
        weights = [file[f"weight{i}"] for i in range(n_layers)]
        biases = [file[f"bias{i}"] for i in range(n_layers)]
        return Problem(shape, file["X"], file["y"], weights, biases)
