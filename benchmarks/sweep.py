"""No cliffs: the time of a training step over batch, width, depth, inputs and outputs.

python benchmarks/sweep.py                       # the record; below 20 minutes
python benchmarks/sweep.py --quick               # fewer points, below 2 minutes
python benchmarks/sweep.py --kernels v3 --axes depth inputs

A step inside `fit` on data in memory: relu, cross entropy, Adam, float32; other optimizers, layers
and float64 are columns of their own. A point is a cliff if it takes more than 1.25 times its better
neighbor's time a unit of padded work (`sweep_points.padded_work`). All points are visited one after
another in several passes, the best visit counts; cliffs and their neighbors are visited again.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from children import Answer, Child, calibrated, serve, timed
from peak import Peak, instruction_sets
from script import Result, add_kernels, run_script
from sweep_points import COLUMNS, Point, Row, cliffs, lines, n_params, padded_work, points
from sweep_report import table
from worker import use_processors

_SMALL_LR = 1e-7  # the same rows over and over: what is learned by heart ends in denormals
# A pass over the data has so many batches, or as many as hold so many numbers or are so much work.
_MOST_BATCHES, _MOST_NUMBERS, _MOST_WORK = 256, 2**20, 2**28
_PEAK_EVERY = 16  # points
_UPDATED = (256, 128)  # the layer on which an optimizer's update is timed
_NOTHING = Point("", 0, (1, 1, 2), 1)
_LOOKS_AGAIN = 6  # times that cliffs and their neighbors are visited again, at most


# ---- the child -----------------------------------------------------------------------------------


@cache
def last_data(rows: int, n_in: int, n_out: int, dtype: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, n_in), dtype=np.dtype(dtype)), rng.integers(n_out, size=rows)


def make_net(widths: tuple[int, ...], between: str | None, dtype: str) -> Any:
    import fastmlp

    layers: list[Any] = []
    for n_in, n_out in pairwise(widths):
        layers.append(fastmlp.Linear(n_in, n_out))
        layers += [getattr(fastmlp, between)()] if between else []
        layers.append(fastmlp.ReLU())
    behind_output = 2 if between else 1
    return fastmlp.Sequential(layers[:-behind_output], seed=0, dtype=dtype)


def step_work(request: Answer, threads: int) -> tuple[Callable[[int], Any], int]:
    """What makes so many passes over the mini-batches, and how many of these there are."""
    import fastmlp

    widths, batch = tuple(request["widths"]), request["batch"]
    optimizer, settings, between, dtype = COLUMNS[request["column"]]
    n_batches = batches_in_pass(widths, batch)
    if last_data.cache_info().currsize > 1:
        last_data.cache_clear()
    X, y = last_data(n_batches * batch, widths[0], widths[-1], dtype)
    net = make_net(widths, between, dtype)
    fixed = {
        "loss": "cross_entropy",
        "optimizer": getattr(fastmlp, optimizer)(lr=_SMALL_LR, **settings),
        "batch_size": batch,
        "shuffle": False,
        "threads": threads,
    }
    return lambda passes: net.fit(X, y, epochs=passes, **fixed), n_batches


def batches_in_pass(widths: tuple[int, ...], batch: int) -> int:
    work = padded_work(widths, batch, 1, 0)
    return max(1, min(_MOST_BATCHES, _MOST_NUMBERS // (batch * widths[0]), int(_MOST_WORK / work)))


def visit(request: Answer, threads: int) -> float:
    """Seconds a step: the better of two rounds, after one pass that nobody times."""
    run, n_batches = step_work(request, threads)
    run(1)
    once = timed(run, 1)
    if once >= request["seconds"]:
        return min(once, timed(run, 1)) / n_batches
    passes = max(1, round(request["seconds"] / once))
    return min(timed(run, passes) for _ in range(2)) / passes / n_batches


def update_seconds(column: str) -> float:
    """Of one parameter, from gradients and moments that stay in the second cache."""
    import fastmlp

    optimizer, settings, _, dtype = COLUMNS[column]
    net = make_net(_UPDATED, None, dtype)
    net.grads[:] = np.random.default_rng(1).standard_normal(net.n_params) * 1e-3
    chosen = getattr(fastmlp, optimizer)(lr=_SMALL_LR, **settings)

    def run(times: int) -> None:
        for _ in range(times):
            net.update(chosen, threads=1)

    times = calibrated(run, 0.02)
    return min(timed(run, times) for _ in range(5)) / times / net.n_params


def start(threads: int) -> tuple[Answer, Callable[[Answer], Any]]:
    use_processors(threads)

    def answer(request: Answer) -> Any:
        if request["do"] == "update":
            return update_seconds(request["column"])
        return visit(request, threads)

    return {}, answer


# ---- the parent ----------------------------------------------------------------------------------


class Sweep:
    """The points with the best time of each so far."""

    def __init__(self, child: Child, args: argparse.Namespace) -> None:
        self._child, self._seconds = child, args.seconds
        self.peak = Peak(args.threads)
        known, words = points(args.quick), args.axes or [""]
        self.points = [p for p in known if any(word in p.key for word in words)]
        if not self.points:
            raise SystemExit(f"--axes {words}: no point has that in its name")
        self._best: dict[str, float] = {}
        self.update_seconds: dict[str, float] = {}
        self.fixed_us = float("inf")

    def visit(self, chosen: list[Point]) -> None:
        """Each point once, the update of each optimizer, and a step of next to nothing; the best
        so far is kept.
        """
        self.fixed_us = min(self.fixed_us, 1e6 * self._step(_NOTHING))
        for name in dict.fromkeys(p.column for p in chosen):
            took = self._child.ask(rest=False, do="update", column=name)
            self.update_seconds[name] = min(took, self.update_seconds.get(name, took))
        for i, p in enumerate(chosen):
            if i % _PEAK_EVERY == 0:
                self.peak.measure(rounds=1)
            took = self._step(p)
            self._best[p.key] = min(took, self._best.get(p.key, took))

    def _step(self, p: Point) -> float:
        return self._child.ask(rest=False, do="visit", seconds=self._seconds, **asdict(p))

    def rows(self) -> list[Row]:
        return [self._row(p) for p in self.points]

    def suspects(self) -> list[Point]:
        """The cliffs that no reason explains yet, and what stands beside them."""
        rows = self.rows()
        low = [r for r in cliffs(rows, self.fixed_us) if r["reason"] is None]
        places = {(r["axis"], r["column"], r["at"]) for r in low}
        found = set()
        for key, line in lines(rows).items():
            for i, row in enumerate(line):
                if (*key, row["at"]) in places:
                    found |= {(*key, r["at"]) for r in line[max(0, i - 1) : i + 2]}
        return [p for p in self.points if (p.axis, p.column, p.at) in found]

    def _row(self, p: Point) -> Row:
        dtype = COLUMNS[p.column][3]
        limit = self.peak.limit(dtype=dtype)
        if limit is None:
            raise SystemExit(f"the peak is not known: {self.peak.problem}")
        a_second = limit / 2 * 1e9  # multiply-adds
        one_thread = a_second / self.peak.threads
        update = self.update_seconds[p.column] * one_thread
        lanes = instruction_sets()[0].vector_bytes // np.dtype(dtype).itemsize
        work, seconds = padded_work(p.widths, p.batch, lanes, update), self._best[p.key]
        return {
            **{"axis": p.axis, "column": p.column, "at": p.at, "batch": p.batch},
            "widths": "-".join(map(str, p.widths if len(p.widths) < 6 else p.widths[:2])),
            "n_params": n_params(p.widths),
            "us": round(seconds * 1e6, 3),
            "work": round(work),
            "share": round(work / seconds / a_second, 4),
        }


def measure(args: argparse.Namespace) -> Result:
    with Child("sweep", "sweep.py", ["--child", str(args.threads)], args.threads) as child:
        if "unavailable" in child.wait().ready:
            raise SystemExit(child.ready["unavailable"])
        sweep = Sweep(child, args)
        for turn in range(args.rounds + _LOOKS_AGAIN):
            begin = time.perf_counter()
            chosen = sweep.points if turn < args.rounds else sweep.suspects()
            if not chosen:
                break
            sweep.visit(chosen)
            took = time.perf_counter() - begin
            print(f"{len(chosen)} points visited: {took:.0f} s", file=sys.stderr, flush=True)
        ns = {name: round(s * 1e9, 4) for name, s in sweep.update_seconds.items()}
        about = {"update_ns": ns, "fixed_us": round(sweep.fixed_us, 3)}
        return about | {"peak": sweep.peak.as_dict(), "rows": sweep.rows()}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_kernels(parser)
    text = "only points with one of these in their name, such as 'width w-w-w, 128 rows, Adam'"
    parser.add_argument("--axes", nargs="+", metavar="TEXT", help=text)


if __name__ == "__main__":
    if "--child" in sys.argv:
        serve(lambda: start(int(sys.argv[2])))
    else:
        run_script(
            *("sweep", __doc__, measure, table),
            rounds=3,
            seconds=0.03,
            threads=1,
            options=add_options,
            quick="fewer points and shorter visits; says where to look",
        )
