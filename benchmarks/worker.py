"""A process with one peer and one problem; `step.py` starts it and tells it when to run.

Requests and answers are lines of JSON on the pipes that were stdin and stdout:

    {"do": "check"}                      -> {"loss": mean cross entropy after the first steps}
    {"do": "calibrate", "seconds": s}    -> {"steps": steps that take about s seconds}
    {"do": "round", "steps": n}          -> {"seconds": time of n steps}

Each of them begins with the initial weights, so that all rounds are the same computation. Going on
from round to round would lead to nets that have learned all by heart, full of denormal numbers.
"""

import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from children import calibrated, serve, timed

PEERS = {  # name -> module and class in `peers`, and environment of its own
    "fastmlp": ("fastmlp_peer", "Peer", {}),
    "fastmlp-train_step": ("fastmlp_peer", "TrainStepPeer", {}),
    "fastmlp-v3": ("fastmlp_peer", "Peer", {"FASTMLP_KERNELS": "v3"}),
    "torch": ("torch_peer", "Peer", {}),
    "jax": ("jax_peer", "Peer", {"JAX_PLATFORMS": "cpu"}),
    "sklearn": ("sklearn_peer", "Peer", {}),
    "numpy": ("numpy_peer", "Peer", {}),
    "reference": ("numpy_peer", "ReferencePeer", {}),
}
_WARM_UP_SHARE = 10


def use_processors(count: int) -> None:
    """Keep to `count` processors, of different cores as far as there are so many.

    All peers then have the same processors, also those that start a thread for each they see.
    """
    available = sorted(os.sched_getaffinity(0), key=lambda cpu: (_place_in_core(cpu), cpu))
    os.sched_setaffinity(0, available[:count])


def _place_in_core(cpu: int) -> int:
    """0 for a core's first hardware thread, 1 for its second."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = path.read_text()
    except OSError:
        return 0
    siblings: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        siblings += range(int(first), int(last or first) + 1)
    return siblings.index(cpu)


def builder(name: str, problem_file: Path, threads: int) -> Callable[[], Any]:
    """What makes the adapter of that name, with a fresh network."""
    from shapes import load_problem

    module, adapter, _ = PEERS[name]
    peer_class = getattr(importlib.import_module(f"peers.{module}"), adapter)
    return partial(peer_class, load_problem(problem_file), threads)


def answer(peer: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Do what the parent asks."""
    from shapes import STEPS_BEFORE_LOSS

    if request["do"] == "check":
        peer.run(STEPS_BEFORE_LOSS)
        return {"loss": peer.loss()}
    if request["do"] == "calibrate":
        return {"steps": calibrated(peer.run, request["seconds"])}
    peer.run(max(1, request["steps"] // _WARM_UP_SHARE))  # wakes threads and caches, not timed
    return {"seconds": timed(peer.run, request["steps"])}


def main() -> None:
    name, problem, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

    def start() -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
        use_processors(threads)
        build = builder(name, problem, threads)
        peer = build()
        about = {"version": peer.version, "info": getattr(peer, "info", {})}
        return about, lambda request: answer(build(), request)

    serve(start)


if __name__ == "__main__":
    main()
