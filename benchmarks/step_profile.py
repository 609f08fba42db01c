"""Where the time of a step goes: 784-256-128-10 at batch 128 on one thread, kernel by kernel.

python benchmarks/step_profile.py [--quick] [--json FILE]

The package is built once more into a temporary folder, with the option FASTMLP_PROFILE: its timers
print their sums when a process ends. The steps are those of `step.py`. The peak is measured between
the rounds; the round with the fastest step counts.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from typing import Any

from machine import ROOT, clean_environment
from peak import Peak
from report import markdown, percent
from script import Result, run_script
from shapes import SHAPES, make_problem

_SHAPE = SHAPES["784-256-128-10"]
_KINDS = {
    "forward": "forward",
    "backward": "input gradient",
    "param_grad": "weight gradient",
    "update": "Adam",
}
_OTHERS = {"loss": "loss and its gradient", "gather": "gathering the mini-batch"}
_STEP_SECONDS = 6e-4  # about; only sets how many make a round


def build(folder: str) -> None:
    """The package with timers. Where what builds it is installed, that is taken."""
    isolated = importlib.util.find_spec("scikit_build_core") is None
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    command += [] if isolated else ["--no-build-isolation"]
    command += ["-Ccmake.define.FASTMLP_PROFILE=ON", str(ROOT)]
    subprocess.run(command, check=True)


def train(steps: int) -> None:
    """The child's side: prints the seconds; the timers follow on standard error."""
    # An editable install would be found before the build with timers, wherever PYTHONPATH points.
    sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
    from peers.fastmlp_peer import Peer

    peer = Peer(make_problem(_SHAPE), 1)
    start = time.perf_counter()
    peer.run(steps)
    print(time.perf_counter() - start)


def run_child(folder: str, steps: int) -> dict[str, Any]:
    """Microseconds a step: all of it, and by op and kind of kernel."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(steps)],
        env=clean_environment(1) | {"PYTHONPATH": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    parts = []
    for line in done.stderr.splitlines():
        if line.startswith("fastmlp-profile "):
            _, op, kind, ns = line.split()
            parts.append({"op": int(op), "kind": kind, "us": round(int(ns) / steps / 1e3, 3)})
    if not parts:
        raise SystemExit("the build has no timers")
    return {"us": round(float(done.stdout) / steps * 1e6, 3), "parts": parts}


def measure(args: argparse.Namespace) -> Result:
    """The fastest of the rounds, with floating-point operations and shares of the peak."""
    steps = max(_SHAPE.n_batches, int(args.seconds / _STEP_SECONDS))
    peak, rounds = Peak(1), []
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        for _ in range(args.rounds):
            peak.measure(rounds=1)
            rounds.append(run_child(folder, steps))
    found, limit = min(rounds, key=lambda r: r["us"]), peak.limit()
    if limit is None:
        raise SystemExit(f"the peak is not known: {peak.problem}")
    for part in found["parts"]:
        if part["kind"] in ("forward", "backward", "param_grad"):
            flop = 2 * _SHAPE.batch * _SHAPE.widths[part["op"]] * _SHAPE.widths[part["op"] + 1]
            is_product = part["kind"] != "backward" or part["op"] > 0
            part["flop"] = flop if is_product else 0
            part["share_of_peak"] = round(part["flop"] / part["us"] / 1e3 / limit, 4)
    return {"shape": _SHAPE.name, "steps": steps, "peak": peak.as_dict(), **found}


def table(result: Result) -> str:
    """A line for each layer, one for each thing beside them."""
    parts = {(part["op"], part["kind"]): part for part in result["parts"]}
    total = result["us"]
    columns = ["layer", *(f"{title}, us" for title in _KINDS.values()), "of the step"]
    lines = []
    for op, widths in enumerate(pairwise(_SHAPE.widths)):
        own = {kind: parts.get((op, kind), {"us": 0.0}) for kind in _KINDS}
        cells = [
            f"{part['us']:.1f}"
            + (f" ({percent(part['share_of_peak'])})" if part.get("flop") else "")
            for part in own.values()
        ]
        share = sum(part["us"] for part in own.values()) / total
        lines.append(["{:,} x {:,}".format(*widths), *cells, percent(share)])
    known = sum(part["us"] for part in parts.values())
    others = {title: parts.get((0, kind), {"us": 0.0})["us"] for kind, title in _OTHERS.items()}
    others["the rest: handing out, timers"] = total - known
    for title, us in others.items():
        lines.append([title, f"{us:.1f}", "", "", "", percent(us / total)])
    flop = sum(part.get("flop", 0) for part in parts.values())
    limit = result["peak"]["sets"]
    ideal = flop / next(iter(limit.values()))["float32"]["one_thread"] / 1e3
    note = (
        f"{result['shape']} at batch {_SHAPE.batch}, one thread, {total:.0f} us a step with the "
        f"timers; in brackets the share of the peak. At the peak its products alone would take "
        f"{ideal:.0f} us."
    )
    return f"{markdown(columns, lines)}\n\n{note}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        train(int(sys.argv[2]))
    else:
        run_script("step_profile", __doc__, measure, table, seconds=1.0, threads=1)
