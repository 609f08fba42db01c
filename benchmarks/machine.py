"""What every result says of itself: commit, machine, compiler, versions, load."""

import contextlib
import datetime
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from chips import chip, held_to, holding, instructions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"  # of each chip in a folder of its own
QUICK_RESULTS = ROOT / "build" / "benchmarks"
_PACKAGES = (
    *("fastmlp", "numpy", "torch", "jax", "jaxlib", "scikit-learn", "scipy"),
    *("onnxruntime", "onnx", "mlxtend"),
)
_REMOVED = (
    *("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "XLA_", "JAX_", "TORCH_", "FASTMLP_"),
    *("ATEN_", "ONEDNN_", "DNNL_", "NPY_", "NVPL_"),
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What a run itself writes does not make the tree dirty.
_SOURCES = (".", ":(exclude)benchmarks/results", ":(exclude)docs")


def before_run() -> dict[str, Any]:
    """What of the header has to be taken before a run, in which it may change."""
    return {
        "commit": commit(),
        "tree_is_dirty": tree_is_dirty(),
        "load_average_before": load_average(),
    }


def header(what: str, threads: int, before: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a reader needs to know about a run; `before`: before_run()."""
    build, cpu = own_build(), cpu_name()
    return {
        "what": what,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **before,
        "installed_is_older": installed_is_older(),
        "installed_differs": installed_differs(),
        **build,
        "flags": kernel_flags(),
        "cpu": cpu,
        "chip": chip(cpu),
        "instructions": instructions({"cpu": cpu, **build}),
        "held_to": held_to(),
        "processors": len(os.sched_getaffinity(0)),
        "threads": threads,
        **more,
        "load_average_after": load_average(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions(),
    }


def clean_environment(threads: int) -> dict[str, str]:
    """This environment, without what steers a numerical library, with the number of threads.

    Where the run is held to an instruction set, what holds the libraries to it is in there.
    """
    steering = dict.fromkeys(_THREAD_VARIABLES, str(threads)) | holding()
    return without_steering(os.environ) | steering


def without_steering(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what steers a numerical library, such as OPENBLAS_CORETYPE."""
    return {k: v for k, v in environment.items() if not k.startswith(_REMOVED)}


def git(*words: str) -> str | None:
    """What git prints, or None where it fails or is not there."""
    command = ["git", *words]
    try:
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def tree_is_dirty() -> bool | None:
    """Whether files differ from the commit, results and documentation left aside."""
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *_SOURCES)
    return None if changed is None else bool(changed)


def commit() -> str | None:
    """Of this repository, with -dirty where its sources differ from it."""
    name = git("rev-parse", "--short", "HEAD")
    return f"{name}-dirty" if name and tree_is_dirty() else name


def sources_changed_since(name: str) -> bool | None:
    """Whether the package's sources at HEAD are others than in that commit; None: not known."""
    changed = git("diff", "--name-only", name, "HEAD", "--", "csrc", "src", "CMakeLists.txt")
    return None if changed is None else bool(changed)


def _installed() -> Path | None:
    """The folder of the installed package."""
    spec = importlib.util.find_spec("fastmlp")
    return Path(spec.origin).parent if spec and spec.origin else None


def installed_is_older() -> bool | None:
    """Whether C or Cython sources here have changed since the fastmlp that is timed was built."""
    folder = _installed()
    built = [f.stat().st_mtime for f in folder.glob("_core*.so")] if folder else []
    sources = [f for f in (ROOT / "csrc").rglob("*") if f.suffix in (".c", ".h")]
    sources += (ROOT / "src").rglob("*.pyx")
    if not built or not sources:
        return None
    return max(f.stat().st_mtime for f in sources) > max(built)


def installed_differs() -> list[str]:
    """Python files of the installed package that are not those of this folder."""
    folder, here = _installed(), ROOT / "src" / "fastmlp"
    if folder is None:
        return []
    names = sorted({f.name for f in (*folder.glob("*.py"), *here.glob("*.py"))})
    return [name for name in names if _text(folder / name) != _text(here / name)]


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def own_build() -> dict[str, Any]:
    """Compiler and kernels of the installed package, asked of it in a process of its own."""
    program = "import fastmlp, json; print(json.dumps(fastmlp.get_config()))"
    command = [sys.executable, "-c", program]
    environment = clean_environment(1)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    config = json.loads(done.stdout)
    return {k: config[k] for k in ("compiler", "kernels", "gemm", "blas", "blas_core")}


def kernel_flags() -> str | None:
    """The compiler's flags for the kernels, in this commit."""
    with contextlib.suppress(OSError):
        text = (ROOT / "CMakeLists.txt").read_text()
        if found := re.search(r"set\(kernel_flags ([^)]*)\)", text):
            return found[1]
    return None


def cpu_name() -> str:
    """The model, with its numbers, since names of virtual processors say little."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.machine()
    return f"{fields['model name']}, family {fields['cpu family']}, model {fields['model']}"


def load_average() -> str:
    """Of the last 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def versions() -> dict[str, str]:
    """Of the packages in the tables."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
