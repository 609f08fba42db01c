"""Every benchmark, one after another in fresh processes, and the report page.

python benchmarks/all.py               # 45 minutes; results/CHIP/*.json, docs/performance.md
python benchmarks/all.py --kernels v3  # held to AVX2, peers as well; results/CHIP_avx2/*.json
python benchmarks/all.py --quick       # smoke run: everything into build/benchmarks instead
python benchmarks/all.py --only step,scaling
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from chips import held_to, hold_to, slug
from machine import HERE, QUICK_RESULTS, RESULTS, cpu_name, without_steering
from page import PAGE, SECTIONS, write_pages
from script import add_kernels


def run(name: str, results: Path, args: argparse.Namespace) -> bool:
    """One script; whether it went well."""
    start = time.perf_counter()
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(results / f"{name}.json")]
    command += ["--quick"] if args.quick else []
    command += ["--kernels", args.kernels] if args.kernels else []
    print(f"-- {name}", flush=True)
    done = subprocess.run(command, env=without_steering(os.environ))
    print(f"-- {name}: {time.perf_counter() - start:.0f} s", flush=True)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: the numbers say nothing")
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="NAME,...")
    text = "folder of all chips, a folder each; default benchmarks/results"
    parser.add_argument("--results", type=Path, help=text)
    parser.add_argument("--page", type=Path, help="default docs/performance.md")
    add_kernels(parser)
    args = parser.parse_args()
    hold_to(args.kernels)
    names = args.only.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"--only: {', '.join(unknown)} unknown; known: {', '.join(SECTIONS)}")
    root = args.results or (QUICK_RESULTS if args.quick else RESULTS)
    page = args.page or (QUICK_RESULTS / PAGE.name if args.quick else PAGE)
    results = root / slug(cpu_name(), held_to())
    results.mkdir(parents=True, exist_ok=True)
    failed = [name for name in names if not run(name, results, args)]
    write_pages(root, page)
    print(page)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the page shows their last results, if any")


if __name__ == "__main__":
    main()
