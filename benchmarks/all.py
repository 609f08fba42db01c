"""Every benchmark, one after another in fresh processes, and the report page.

python benchmarks/all.py           # a quarter of an hour; results/*.json, docs/performance.md
python benchmarks/all.py --quick   # smoke run: everything into build/benchmarks instead
python benchmarks/all.py --only step,scaling
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from machine import HERE, RESULTS, ROOT, without_steering
from page import PAGE, SECTIONS, write_page

_QUICK_FOLDER = ROOT / "build" / "benchmarks"


def run(name: str, results: Path, quick: bool) -> bool:
    """One script; whether it went well."""
    start = time.perf_counter()
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(results / f"{name}.json")]
    command += ["--quick"] if quick else []
    print(f"-- {name}", flush=True)
    done = subprocess.run(command, env=without_steering(os.environ))
    print(f"-- {name}: {time.perf_counter() - start:.0f} s", flush=True)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: the numbers say nothing")
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="NAME,...")
    parser.add_argument("--results", type=Path, help="folder; default benchmarks/results")
    parser.add_argument("--page", type=Path, help="default docs/performance.md")
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"--only: {', '.join(unknown)} unknown; known: {', '.join(SECTIONS)}")
    results = args.results or (_QUICK_FOLDER if args.quick else RESULTS)
    page = args.page or (_QUICK_FOLDER / PAGE.name if args.quick else PAGE)
    results.mkdir(parents=True, exist_ok=True)
    failed = [name for name in names if not run(name, results, args.quick)]
    write_page(results, page)
    print(page)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the page shows their last results, if any")


if __name__ == "__main__":
    main()
