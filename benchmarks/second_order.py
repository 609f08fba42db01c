"""Levenberg-Marquardt against Adam: learn the matrix exponential of 2 x 2 matrices.

python benchmarks/second_order.py [--quick] [--json FILE]

The problem and the network (4-32-16-4, tanh, squared error) are those of the example of
SimpleChains.jl: 10,000 matrices with standard normal elements; there the exponential is what the
network has to give back. Both methods start from the same weights and see all rows in every step:
Adam takes 10,000 of them, Levenberg-Marquardt at most 30. The rounds of the two take turns.
"""

import argparse
import statistics
import time

import numpy as np
from report import markdown
from script import Result, run_script

from fastmlp import Adam, LevenbergMarquardt, Linear, Sequential, Tanh

ROWS = 10_000
ADAM_LR = 1e-2  # the best of 1e-3, 3e-3, 1e-2 and 3e-2
EPOCHS = {"levenberg_marquardt": 30, "adam": 10_000}
_TITLES = {"levenberg_marquardt": "LevenbergMarquardt()", "adam": f"Adam(lr={ADAM_LR})"}
_QUICK_SHARE = 10  # of the epochs


def exponential(A: np.ndarray) -> np.ndarray:
    """exp of 2 x 2 matrices (rows, 2, 2): with s = trace / 2, B = A - s I and B^2 = q I,
    exp(A) = exp(s) (cosh(sqrt q) I + sinh(sqrt q) / sqrt q B), where q may be negative.
    """
    identity = np.eye(2)
    s = np.trace(A, axis1=1, axis2=2)[:, None, None] / 2
    B = A - s * identity
    root = np.sqrt((-np.linalg.det(B)).astype(complex))[:, None, None]
    sinhc = np.where(abs(root) < 1e-6, 1 + root**2 / 6, np.sinh(root) / np.where(root, root, 1))
    return (np.exp(s) * (np.cosh(root) * identity + sinhc * B)).real


def network() -> Sequential:
    """The same weights in every call."""
    layers = [Linear(4, 32), Tanh(), Linear(32, 16), Tanh(), Linear(16, 4)]
    return Sequential(layers, seed=0)


def measure(args: argparse.Namespace) -> Result:
    """Seconds of each round and the loss at the end, which is the same in all rounds."""
    A = np.random.default_rng(0).standard_normal((ROWS, 2, 2))
    X = A.reshape(ROWS, 4).astype(np.float32)
    y = exponential(A).reshape(ROWS, 4).astype(np.float32)
    optimizers = {"levenberg_marquardt": LevenbergMarquardt(), "adam": Adam(lr=ADAM_LR)}
    found: dict[str, list[float]] = {name: [] for name in optimizers}
    ends: dict[str, tuple[float, int]] = {}
    for _ in range(args.rounds):
        for name, optimizer in optimizers.items():
            epochs = EPOCHS[name] // (_QUICK_SHARE if args.quick else 1)
            net = network()
            start = time.perf_counter()
            history = net.fit(
                X, y, optimizer=optimizer, epochs=epochs, batch_size=ROWS, threads=args.threads
            )
            found[name].append(time.perf_counter() - start)
            ends[name] = net.evaluate(X, y)["loss"], len(history["loss"])
    rows = [
        {
            "method": name,
            "loss": ends[name][0],
            "epochs": ends[name][1],
            "s_best": round(min(seconds), 3),
            "s_median": round(statistics.median(seconds), 3),
        }
        for name, seconds in found.items()
    ]
    return {"rows": rows, "variance_of_y": float(y.var())}


def table(result: Result) -> str:
    """One line a method."""
    columns = ["4-32-16-4 tanh, 10,000 rows at once", "epochs", "loss", "best, s", "median, s"]
    lines = [
        [
            _TITLES[row["method"]],
            f"{row['epochs']:,}",
            f"{row['loss']:.2e}",
            f"{row['s_best']:.2f}",
            f"{row['s_median']:.2f}",
        ]
        for row in result["rows"]
    ]
    note = f"The variance of the targets is {result['variance_of_y']:.3g}."
    return f"{markdown(columns, lines)}\n\n{note}"


if __name__ == "__main__":
    run_script("second_order", __doc__, measure, table, rounds=3)
