"""Threads: the step of every net on 1, 2, 4, ... of them, alone and beside a busy process.

python benchmarks/scaling.py [--quick] [--json FILE]

One process a net runs all numbers of threads in turns. A round on each number while the machine is
ours, then one each beside a child that counts without end on no processor of its own. Then layers
of 2048 with few rows, which only cut by columns give a second thread something to do.
"""

import argparse
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from children import Answer, Child, calibrated, serve, timed
from handover import Handover, span
from peak import Peak
from report import markdown, number
from script import Result, run_script
from shapes import SHAPES, Shape, make_problem

WIDE = (2048, 2048, 2048, 10)
WIDE_BATCHES = (1, 2, 4, 8, 16)
_QUICK_SHAPES = ("8-64-64-4", "784-128-10")
_WARM_UP_SHARE = 10
_SMALL_LR = 1e-7  # the same rows over and over: what is learned by heart ends in denormals
# seconds: the scheduler has to place the busy process; and when it has gone, a net that it stalled
# works alone for one second more at most
_SETTLING = {"alone": 1.1, "busy": 0.05}


def thread_counts(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    powers = itertools.takewhile(lambda n: n <= most, (2**i for i in itertools.count()))
    return sorted({*powers, most})


# ---- the child -----------------------------------------------------------------------------------


def fit_work(name: str) -> Callable[[int], Callable[[int], Any]]:
    """threads -> what makes that many steps inside `fit`, from the initial weights."""
    from peers.fastmlp_peer import Peer

    problem = make_problem(SHAPES[name])
    return lambda threads: Peer(problem, threads).run


def wide_work(kind: str, batch: int) -> Callable[[int], Callable[[int], Any]]:
    """threads -> what makes so many calls of `predict` or `train_step` on `batch` rows."""
    import numpy as np

    import fastmlp

    layers = [fastmlp.Linear(n, m) for n, m in itertools.pairwise(WIDE)]
    with_relu = [layer for linear in layers for layer in (linear, fastmlp.ReLU())][:-1]
    net = fastmlp.Sequential(with_relu, seed=0)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, WIDE[0]), dtype=np.float32)
    y = rng.integers(WIDE[-1], size=batch)
    optimizer = fastmlp.Adam(lr=_SMALL_LR)

    def work(threads: int) -> Callable[[int], Any]:
        def run(calls: int) -> None:
            for _ in range(calls):
                if kind == "predict":
                    net.predict(x, threads=threads)
                else:
                    net.train_step(x, y, loss="cross_entropy", optimizer=optimizer, threads=threads)

        return run

    return work


def start(words: list[str]) -> tuple[Answer, Callable[[Answer], Answer]]:
    """The child's side."""
    work = fit_work(words[1]) if words[0] == "fit" else wide_work(words[0], int(words[1]))

    def answer(request: Answer) -> Answer:
        run, threads = work(request["threads"]), request["threads"]
        if request["do"] == "calibrate":
            return {"times": calibrated(run, request["seconds"])}
        run(max(1, request["times"] // _WARM_UP_SHARE))
        return {"seconds": timed(run, request["times"]), "threads": threads}

    return {}, answer


# ---- the parent ----------------------------------------------------------------------------------


@contextmanager
def busy_process() -> Iterator[Callable[[bool], None]]:
    """A child that keeps one processor busy, wherever the system puts it; asleep until told."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    os.kill(child.pid, signal.SIGSTOP)
    try:
        yield lambda on: os.kill(child.pid, signal.SIGCONT if on else signal.SIGSTOP)
    finally:
        child.kill()
        child.wait()


def measure_one(words: list[str], args: argparse.Namespace, handover: Handover) -> dict[str, Any]:
    """{"alone": {threads: times}, "busy": ...} of one net, seconds a step."""
    trips = []
    counts = thread_counts(args.threads)
    found: dict[str, dict[int, list[float]]] = {
        k: {n: [] for n in counts} for k in ("alone", "busy")
    }
    with (
        busy_process() as busy,
        Child(" ".join(words), "scaling.py", ["--child", *words], args.threads) as child,
    ):
        if "unavailable" in child.wait().ready:
            raise SystemExit(f"{words}: {child.ready['unavailable']}")
        times = {
            n: child.ask(do="calibrate", threads=n, seconds=args.seconds)["times"] for n in counts
        }
        for turn in range(args.rounds):
            for where, seconds in found.items():
                busy(where == "busy")
                time.sleep(_SETTLING[where])
                if where == "alone":
                    trips.append(handover.nanoseconds())
                for n in random.Random(turn).sample(counts, len(counts)):
                    took = child.ask(do="round", threads=n, times=times[n])["seconds"]
                    seconds[n].append(took / times[n])
            busy(False)
    times_of = {where: summary(seconds) for where, seconds in found.items()}
    return times_of | {"round_trip_ns": trips}


def summary(seconds: dict[int, list[float]]) -> dict[str, Any]:
    """Best and median by number of threads, and how many times faster than one thread.

    `ratio` is of the best rounds, `ratio_of_medians` of the medians: what a second process takes
    away comes and goes, and the best round may be the one in which it was not there.
    """
    best = {n: min(s) for n, s in seconds.items()}
    median = {n: statistics.median(s) for n, s in seconds.items()}
    return {
        str(n): {
            "us_best": round(best[n] * 1e6, 3),
            "us_median": round(median[n] * 1e6, 3),
            "ratio": round(best[1] / best[n], 4),
            "ratio_of_medians": round(median[1] / median[n], 4),
        }
        for n in seconds
    }


def measure(args: argparse.Namespace) -> Result:
    """All nets, then the wide layers."""
    names = _QUICK_SHAPES if args.quick else tuple(SHAPES)
    handover, peak = Handover(), Peak(args.threads)
    rows = []
    for name in names:
        shape = SHAPES[name]
        about = {"shape": name, "batch": shape.batch, "flop": shape.flop, "what": "fit"}
        peak.measure(rounds=3)  # on a shared machine it comes and goes
        rows.append(about | measure_one(["fit", name], args, handover))
    wide_name = "-".join(map(str, WIDE))
    wide = Shape(wide_name, WIDE, "relu", 1)
    for what in ("predict", "train_step"):
        for batch in WIDE_BATCHES[: 1 if args.quick else None]:
            about = {"shape": wide.name, "batch": batch, "what": what}
            rows.append(about | measure_one([what, str(batch)], args, handover))
    return {"peak": peak.as_dict(), "rows": rows}


def table(result: Result) -> str:
    """Times and ratios to one thread."""
    counts = [n for n in result["rows"][0]["alone"] if n != "1"]
    columns = ["net", "batch", "what", "round trip, ns", "1 thread, us", "beside a busy process"]
    for n in counts:
        columns += [f"{n} threads, us", "times one", "busy, us", "times one, busy"]
    lines = []
    for row in result["rows"]:
        alone, busy = row["alone"], row["busy"]
        cells = [row["shape"], f"{row['batch']:,}", row["what"]]
        cells.append(span(row.get("round_trip_ns", [])))
        cells += [number(alone["1"]["us_best"]), number(busy["1"]["us_median"])]
        for n in counts:
            cells += [number(alone[n]["us_best"]), f"{alone[n]['ratio']:.2f}"]
            cells += [number(busy[n]["us_median"]), f"{busy[n]['ratio_of_medians']:.2f}"]
        lines.append(cells)
    text = (
        "Microseconds a step or a call: alone the best of the rounds, beside a busy process the "
        "median, and likewise for the ratios. Round trip: how long the two processors take to hand "
        "a cache line to each other and back, before each round."
    )
    return text + "\n\n" + markdown(columns, lines)


if __name__ == "__main__":
    if "--child" in sys.argv:
        serve(lambda: start(sys.argv[2:]))
    else:
        run_script("scaling", __doc__, measure, table)
