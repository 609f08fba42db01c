"""The command line and the JSON file that the benchmarks have in common."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chips import held_to, hold_to, known_kernels, slug
from machine import QUICK_RESULTS, RESULTS, before_run, cpu_name, header

_PARTS = ("shapes", "against", "axes")  # options that leave out a part of a benchmark
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
    options: Callable[[argparse.ArgumentParser], None] | None = None,
    quick: str = "a smoke run: the numbers say nothing",
    quick_rounds: int = 2,
) -> None:
    """Measure, write `results/CHIP/name.json` or --json FILE, print the table.

    A part of a benchmark, or a quick run, is written to `build/benchmarks/CHIP` instead.

    What `measure` returns becomes the file, with a header. The arguments it gets: rounds, seconds,
    threads, quick, and what `options` adds, by default --kernels. `quick` runs show that a script
    works; their numbers say nothing unless `quick`, the option's help, says otherwise.
    """
    available = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=quick)
    help_rounds = f"default {rounds}; {quick_rounds} with --quick"
    parser.add_argument("--rounds", "--repeats", type=int, help=help_rounds)
    parser.add_argument("--seconds", type=float, help=f"that a round takes; default {seconds}")
    parser.add_argument("--threads", type=int, default=threads or available)
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"or results/CHIP/{name}.json")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of a result")
    (options or add_kernels)(parser)
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    args.rounds = args.rounds or (quick_rounds if args.quick else rounds)
    args.seconds = args.seconds or (0.005 if args.quick else seconds)
    if args.rounds < 1 or args.seconds <= 0 or not 1 <= args.threads <= available:
        parser.error(f"--rounds and --seconds must be positive, --threads in 1 .. {available}")
    kernels = [args.kernels] if isinstance(args.kernels, str) else args.kernels
    if kernels and len(kernels) == 1:
        hold_to(kernels[0])
    before = before_run()
    found = measure(args)
    settings = {"rounds": args.rounds, "seconds_per_round": args.seconds, "quick": args.quick}
    about = header(doc.splitlines()[0], args.threads, before, **settings)
    result = {"header": about, **found}
    partial = args.quick or any(getattr(args, option, None) for option in _PARTS)
    folder = QUICK_RESULTS if partial else RESULTS
    path = args.json or folder / slug(cpu_name(), held_to()) / f"{name}.json"
    write(result, path)
    print(table(result))
    print(f"\n{path}", file=sys.stderr)


def add_kernels(parser: argparse.ArgumentParser) -> None:
    """--kernels: fastmlp held to an instruction set, and every peer that can be."""
    text = "hold fastmlp to these kernels and peers to the same instructions"
    parser.add_argument("--kernels", choices=known_kernels(), help=text)


def write(result: Result, path: Path) -> None:
    """To a JSON file, readable in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
