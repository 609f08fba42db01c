"""The command line and the JSON file that the benchmarks have in common."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import RESULTS, before_run, header

Result = dict[str, Any]
Measure = Callable[[argparse.Namespace], Result]


def run_script(
    name: str,
    doc: str,
    measure: Measure,
    table: Callable[[Result], str],
    rounds: int = 5,
    seconds: float = 0.3,
    threads: int | None = None,
) -> None:
    """Measure, write `results/name.json` or --json FILE, print the table.

    What `measure` returns becomes the file, with a header. The arguments it gets: rounds, seconds,
    threads, quick. `quick` runs show that a script works; their numbers say nothing.
    """
    available = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: the numbers say nothing")
    parser.add_argument("--rounds", type=int, help=f"default {rounds}; 2 with --quick")
    parser.add_argument("--seconds", type=float, help=f"that a round takes; default {seconds}")
    parser.add_argument("--threads", type=int, default=threads or available)
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"default results/{name}.json")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of a result")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    args.rounds = args.rounds or (2 if args.quick else rounds)
    args.seconds = args.seconds or (0.005 if args.quick else seconds)
    if args.rounds < 1 or args.seconds <= 0 or not 1 <= args.threads <= available:
        parser.error(f"--rounds and --seconds must be positive, --threads in 1 .. {available}")
    before = before_run()
    found = measure(args)
    settings = {"rounds": args.rounds, "seconds_per_round": args.seconds, "quick": args.quick}
    about = header(doc.splitlines()[0], args.threads, before, **settings)
    result = {"header": about, **found}
    write(result, args.json or RESULTS / f"{name}.json")
    print(table(result))


def write(result: Result, path: Path) -> None:
    """To a JSON file, readable in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
