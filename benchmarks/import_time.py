"""Seconds of `import fastmlp` over those of `import numpy`, and what is installed.

python benchmarks/import_time.py [--quick] [--json FILE]

Each import happens in a fresh process that measures itself; the modules take turns.
"""

import argparse
import importlib.util
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import clean_environment
from report import markdown
from script import Result, run_script

_PROGRAM = """
import json, sys, time
start = time.perf_counter()
import {module}
print(json.dumps([time.perf_counter() - start, len(sys.modules)]))
"""
MODULES = ("numpy", "fastmlp", "sklearn.neural_network", "jax", "torch")


def import_once(module: str) -> tuple[float, int] | None:
    """Seconds, and modules that are loaded then; None where it is not installed."""
    command = [sys.executable, "-c", _PROGRAM.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(1))
    if done.returncode:
        return None
    seconds, modules = json.loads(done.stdout)
    return seconds, modules


def installed_bytes() -> dict[str, int]:
    """Of the package's files and of the libraries beside it, bytecode left aside."""
    spec = importlib.util.find_spec("fastmlp")
    if spec is None or spec.origin is None:
        raise SystemExit("fastmlp is not installed")
    folder = Path(spec.origin).parent
    libraries = folder.with_name("fastmlp.libs")
    found = {}
    for name, place in (("package", folder), ("libraries", libraries)):
        files = [f for f in place.rglob("*") if f.is_file() and f.suffix != ".pyc"]
        found[name] = sum(f.stat().st_size for f in files)
    found["compiled"] = sum(f.stat().st_size for f in folder.glob("_core*.so"))
    found["blas"] = sum(f.stat().st_size for f in folder.rglob("*openblas*.so*"))
    return found


def measure(args: argparse.Namespace) -> Result:
    """The first import of each is not counted: it writes bytecode and fills the disk cache."""
    able = [m for m in MODULES if import_once(m) is not None]
    found: dict[str, list[tuple[float, int]]] = {m: [] for m in able}
    for turn in range(args.rounds):
        for m in random.Random(turn).sample(able, len(able)):
            once = import_once(m)
            assert once is not None
            found[m].append(once)
    return {"rows": [row(m, found[m]) for m in able], "installed_bytes": installed_bytes()}


def row(module: str, runs: list[tuple[float, int]]) -> dict[str, Any]:
    seconds = [s for s, _ in runs]
    return {
        "module": module,
        "ms_median": round(statistics.median(seconds) * 1e3, 2),
        "ms_best": round(min(seconds) * 1e3, 2),
        "modules": runs[0][1],
    }


def over_numpy_ms(result: Result) -> float:
    """Median of fastmlp's import, which imports NumPy, less that of NumPy's own."""
    median = {r["module"]: r["ms_median"] for r in result["rows"]}
    return median["fastmlp"] - median["numpy"]


def table(result: Result) -> str:
    columns = ["import", "median, ms", "best, ms", "modules loaded"]
    lines = [
        [r["module"], f"{r['ms_median']:.0f}", f"{r['ms_best']:.0f}", f"{r['modules']:,}"]
        for r in result["rows"]
    ]
    size = {name: n / 2**20 for name, n in result["installed_bytes"].items()}
    text = (
        f"`import fastmlp` takes {over_numpy_ms(result):.0f} ms more than `import numpy`. "
        f"Installed: {size['package']:.1f} MB, of which the kernels are {size['compiled']:.1f} MB "
        f"and the BLAS that stands by {size['blas']:.1f} MB"
        + (f", and {size['libraries']:.1f} MB of libraries." if size["libraries"] else ".")
    )
    return markdown(columns, lines) + "\n\n" + text


if __name__ == "__main__":
    run_script("import_time", __doc__, measure, table, rounds=11, threads=1)
