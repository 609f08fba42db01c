"""Time of one training step over a grid of networks, fastmlp beside other libraries.

python benchmarks/step.py --threads 2 --json step.json     # measure; see README.md for the columns
python benchmarks/step.py --table step.json                # print the table of an earlier run

Every peer has a process of its own, with the same environment, data and initial weights. They take
turns, round by round, and only one works at a time.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from children import Child
from chips import INSTRUCTIONS, held_to, hold_to
from handover import Handover
from machine import before_run, header, installed_is_older
from peak import Peak
from report import table
from script import add_kernels, write
from shapes import SHAPES, STEPS_BEFORE_LOSS, Shape, make_problem, save_problem
from worker import PEERS

_OWN = ("fastmlp", "fastmlp-train_step", "fastmlp-v3")
_OTHERS = ("torch", "jax", "sklearn", "numpy")


class Worker(Child):
    """A process with one peer; see worker.py."""

    def __init__(self, name: str, problem: Path, threads: int) -> None:
        arguments = [name, str(problem), str(threads)]
        super().__init__(name, "worker.py", arguments, threads, PEERS[name][2])
        self.steps = 0
        self.seconds: list[float] = []


def run_shape(
    shape: Shape, names: list[str], args: argparse.Namespace, handover: Handover
) -> list[dict[str, Any]]:
    """All peers on one network: check their losses, then time them in turns."""
    trips = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        problem = Path(folder, "problem.npz")
        save_problem(make_problem(shape), problem)
        expected = reference_loss(problem, args.threads)
        workers = [stack.enter_context(Worker(n, problem, args.threads)) for n in names]
        able = [w for w in workers if "unavailable" not in w.wait().ready]
        losses = {w.name: w.ask(do="check")["loss"] for w in able}
        for w in able:
            w.steps = w.ask(do="calibrate", seconds=args.seconds)["steps"]
            w.steps = whole_passes(w.steps, shape.n_batches)
        for turn in range(args.rounds):
            trips.append(handover.nanoseconds())
            for w in random.Random(turn).sample(able, len(able)):  # nobody always after the same
                w.seconds.append(w.ask(do="round", steps=w.steps)["seconds"] / w.steps)
        rows = [row(shape, w, args.threads, losses.get(w.name), expected) for w in workers]
        return [line | {"round_trip_ns": trips} for line in rows]


def loss_tolerance(shape: Shape) -> float:
    """How far, relatively, a float32 loss may be from the float64 one after the first steps.

    Adam magnifies the rounding of gradients near 0, and scikit-learn adds epsilon in another place:
    both show more, the more weights there are. Measured: 3e-6 on the smallest net, 8e-4 on
    784-1024-1024-10. On a small net 20 steps without training the biases come to 1e-3 or more.
    """
    return min(2e-3, 2e-5 + 2e-9 * shape.n_params)


def reference_loss(problem: Path, threads: int) -> float:
    """The loss after the first steps, in float64."""
    with Worker("reference", problem, threads) as worker:
        return worker.wait().ask(do="check")["loss"]


def whole_passes(steps: int, n_batches: int) -> int:
    """About as many steps, but whole passes if it is one at least."""
    return round(steps / n_batches) * n_batches if steps >= n_batches else steps


def row(
    shape: Shape, worker: Worker, threads: int, loss: float | None, expected: float
) -> dict[str, Any]:
    """One line of the result; share_of_peak comes when the whole run is over."""
    known = {
        "shape": shape.name,
        "batch": shape.batch,
        "activation": shape.activation,
        "optimizer": "adam",
        "peer": worker.name,
        "threads": threads,
    }
    if loss is None:
        return known | {"unavailable": worker.ready["unavailable"]}
    best, median = min(worker.seconds), statistics.median(worker.seconds)
    return known | {
        "version": worker.ready["version"],
        **worker.ready["info"],
        "steps": worker.steps,
        "rounds": len(worker.seconds),
        "us_median": round(median * 1e6, 3),
        "us_best": round(best * 1e6, 3),
        "spread": round((max(worker.seconds) - best) / median, 3),
        "gflops": round(shape.flop / best * 1e-9, 2),
        "share_of_peak": None,
        "loss_after": loss,
        "loss_reference": expected,
        "loss_tolerance": loss_tolerance(shape),
        "loss_agrees": abs(loss - expected) <= loss_tolerance(shape) * abs(expected),
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    if installed_is_older():
        print("the installed fastmlp is older than its sources: pip install . ?", file=sys.stderr)
    before, peak, handover = before_run(), Peak(args.threads), Handover()
    peak.measure()
    peak.measure_memory()
    rows: list[dict[str, Any]] = []
    # A run that is held to fewer instructions has no use for the AVX2 build beside it.
    own = [name for name in _OWN if name != "fastmlp-v3" or held_to() is None]
    for name in args.shapes:
        start = time.perf_counter()
        rows += run_shape(SHAPES[name], [*own, *args.peers], args, handover)
        # On a shared machine the peak comes and goes, as the best of the rounds does.
        peak.measure(rounds=3)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    for line in rows:
        limit = peak.limit(INSTRUCTIONS["v3"] if line["peer"] == "fastmlp-v3" else None)
        if "gflops" in line and limit:
            line["share_of_peak"] = round(line["gflops"] / limit, 4)
    if peak.problem:
        print(f"no share of the peak: {peak.problem}", file=sys.stderr)
    about = header(
        "one training step: forward, cross entropy, backward, Adam; float32",
        args.threads,
        before,
        rounds=args.rounds,
        seconds_per_round=args.seconds,
        quick=args.quick,
        steps_before_loss=STEPS_BEFORE_LOSS,
        peak=peak.as_dict(),
    )
    return {"header": about, "rows": rows}


def _names(known: tuple[str, ...]) -> Any:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)} unknown; known: {', '.join(known)}"
            )
        return names

    return parse


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=_names(_OTHERS), default=",".join(_OTHERS))
    parser.add_argument("--shapes", type=_names(tuple(SHAPES)), default=",".join(SHAPES))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5, help="of which best and median count")
    parser.add_argument("--seconds", type=float, default=0.3, help="that a round takes")
    parser.add_argument("--quick", action="store_true", help="a smoke run: the numbers say nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument(
        "--table", "--markdown", type=Path, metavar="FILE", help="print the table of a result"
    )
    add_kernels(parser)
    args = parser.parse_args()
    hold_to(args.kernels)
    if args.quick:
        args.shapes, args.rounds, args.seconds = args.shapes[:2], 2, 0.005
    if not 1 <= args.threads <= len(os.sched_getaffinity(0)):
        parser.error(f"--threads: 1 .. {len(os.sched_getaffinity(0))} on this machine")
    if args.rounds < 1 or args.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    return args


def main() -> None:
    args = parse_arguments()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    result = run(args)
    if args.json:
        write(result, args.json)
    print(table(result))


if __name__ == "__main__":
    main()
