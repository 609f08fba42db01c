"""A lasso path of 100 penalties against scikit-learn's, on the same penalties.

python benchmarks/lasso_path.py [--quick] [--json FILE]

scikit-learn runs with its default tolerance, and with one that gives about as many digits as
fastmlp's default does. "Gap" is how far the worst cost of the path may be above the smallest one
(duality gap), as a share of |y|^2 / 2, computed alike for both.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from children import Answer, Child, calibrated, serve
from report import markdown
from script import Result, run_script
from worker import use_processors

PEERS = {  # name -> child, tolerance
    "fastmlp": ("fastmlp", 1e-10),
    "scikit-learn": ("sklearn", 1e-4),
    "scikit-learn, tol 1e-10": ("sklearn", 1e-10),
}
CASES = ("diabetes", "2000 x 200", "500 x 2000")


@cache
def data_set(name: str) -> tuple[Any, Any, Any]:
    """X and y less their means, and 100 values of l1 as fastmlp chooses them."""
    from fastmlp import lasso_path

    if name == "diabetes":
        from sklearn.datasets import load_diabetes

        X, y = load_diabetes(return_X_y=True)
    else:
        rng = np.random.default_rng(0)
        X = rng.standard_normal(tuple(int(n) for n in name.split(" x ")))
        y = X[:, :20] @ rng.standard_normal(20) + rng.standard_normal(len(X))
    X, y = np.ascontiguousarray(X - X.mean(axis=0)), y - y.mean()
    return X, y, lasso_path(X, y, l1s=None, max_sweeps=1_000_000)[0]


# ---- the child -----------------------------------------------------------------------------------


def path(library: str, case: str, tol: float) -> Callable[[], Any]:
    """A function that returns the coefficients (n_in, 100)."""
    X, y, l1s = data_set(case)
    if library == "fastmlp":
        import fastmlp

        return lambda: fastmlp.lasso_path(X, y, l1s=l1s, fit_intercept=False, tol=tol)[1]
    from sklearn.linear_model import lasso_path

    alphas = l1s / len(X)
    return lambda: lasso_path(X, y, alphas=alphas, tol=tol, max_iter=1_000_000)[1]


def worst_gap(case: str, coefs: Any) -> float:
    """The largest duality gap of the path over |y|^2 / 2."""
    X, y, l1s = data_set(case)
    gaps = []
    for l1, w in zip(l1s, coefs.T, strict=True):
        r = y - X @ w
        s = min(1.0, l1 / max(np.max(np.abs(X.T @ r)), 1e-300))
        gaps.append(r @ r / 2 + l1 * np.sum(np.abs(w)) - s * (r @ y) + s * s * (r @ r) / 2)
    return float(max(0.0, *gaps) / (y @ y / 2))


def start(library: str, threads: int) -> tuple[Answer, Callable[[Answer], Answer]]:
    """The child's side."""
    use_processors(threads)

    def answer(request: Answer) -> Answer:
        run = path(library, request["case"], request["tol"])
        times = calibrated(lambda n: [run() for _ in range(n)], request["seconds"])
        begin = time.perf_counter()
        for _ in range(times):
            coefs = run()
        seconds = (time.perf_counter() - begin) / times
        return {"seconds": seconds, "gap": worst_gap(request["case"], coefs)}

    return {}, answer


# ---- the parent ----------------------------------------------------------------------------------


def case_row(case: str, runs: dict[str, list[Answer]]) -> dict[str, Any]:
    """Times of a case and how exact they were."""
    found: dict[str, Any] = {"data": case}
    for name, answers in runs.items():
        seconds = [a["seconds"] for a in answers]
        found[name] = {
            "seconds": [round(s, 6) for s in seconds],
            "seconds_best": round(min(seconds), 6),
            "seconds_median": round(statistics.median(seconds), 6),
            "gap": answers[0]["gap"],
        }
    return found


def measure(args: argparse.Namespace) -> Result:
    """In every round each peer takes its turn, in an order that changes."""
    rows = []
    words = [str(args.threads)]
    with (
        Child("fastmlp", "lasso_path.py", ["--child", "fastmlp", *words], args.threads) as own,
        Child("sklearn", "lasso_path.py", ["--child", "sklearn", *words], args.threads) as other,
    ):
        children = {child.name: child.wait() for child in (own, other)}
        for child in children.values():
            if "unavailable" in child.ready:
                raise SystemExit(f"{child.name}: {child.ready['unavailable']}")
        for case in CASES[:2] if args.quick else CASES:
            runs: dict[str, list[Answer]] = {name: [] for name in PEERS}
            for seed in range(args.rounds):
                for name in random.Random(seed).sample(list(PEERS), len(PEERS)):
                    child, tol = PEERS[name]
                    runs[name].append(children[child].ask(case=case, tol=tol, seconds=args.seconds))
            rows.append(case_row(case, runs))
    return {"rows": rows}


def table(result: Result) -> str:
    columns = ["data", *(f"{name}, ms" for name in PEERS), *(f"gap, {name}" for name in PEERS)]
    lines = []
    for r in result["rows"]:
        best = {name: r[name]["seconds_best"] for name in PEERS}
        cells = [f"{1e3 * s:.1f} ({s / best['fastmlp']:.1f})" for s in best.values()]
        lines.append([r["data"], *cells, *(f"{r[name]['gap']:.0e}" for name in PEERS)])
    text = f"Best of {result['header']['rounds']} rounds; in brackets how many times fastmlp's."
    return markdown(columns, lines) + "\n\n" + text


if __name__ == "__main__":
    if "--child" in sys.argv:
        serve(lambda: start(sys.argv[2], int(sys.argv[3])))
    else:
        run_script("lasso_path", __doc__, measure, table, seconds=0.2)
