"""Levenberg-Marquardt against Adam: learn the matrix exponential of 2 x 2 matrices.

    python benchmarks/matrix_exponential.py [--epochs 10000] [--steps 30] [--scale 1.0]

The problem and the network (4-32-16-4, tanh, squared error) are those of the example of
SimpleChains.jl: 10,000 matrices with standard normal elements; there the exponential is what the
network has to give back. An exponential of such a matrix can have elements of a hundred, which most
of the loss is then due to; --scale multiplies the matrices.

Both methods start from the same weights and see all rows in every step: Adam takes --epochs steps,
Levenberg-Marquardt at most --steps. Prints losses and times.
"""

import argparse
import time

import numpy as np

from fastmlp import Adam, LevenbergMarquardt, Linear, Sequential, Tanh, get_config

ROWS = 10_000


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


def network(dtype: str) -> Sequential:
    """The same weights in every call."""
    layers = [Linear(4, 32), Tanh(), Linear(32, 16), Tanh(), Linear(16, 4)]
    return Sequential(layers, seed=0, dtype=dtype)


def main() -> None:
    """Train twice and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10_000, help="of Adam, full batch")
    parser.add_argument("--steps", type=int, default=30, help="of Levenberg-Marquardt at most")
    parser.add_argument("--lr", type=float, default=3e-3, help="of Adam")
    parser.add_argument("--scale", type=float, default=1.0, help="of the matrices")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    A = options.scale * rng.standard_normal((ROWS, 2, 2))
    X, y = A.reshape(ROWS, 4), exponential(A).reshape(ROWS, 4)
    X, y = X.astype(options.dtype), y.astype(options.dtype)
    print(f"{ROWS:,} matrices, exponentials with variance {y.var():.3g}, {options.dtype}, ", end="")
    print(f"{get_config()['threads']} threads")
    for optimizer, epochs in (
        (LevenbergMarquardt(), options.steps),
        (Adam(lr=options.lr), options.epochs),
    ):
        net = network(options.dtype)
        start = time.perf_counter()
        history = net.fit(X, y, optimizer=optimizer, epochs=epochs, batch_size=ROWS)
        seconds = time.perf_counter() - start
        loss = net.evaluate(X, y)["loss"]
        print(
            f"{optimizer}: loss {loss:.3g} after {len(history['loss']):,} epochs, {seconds:.1f} s"
        )


if __name__ == "__main__":
    main()
