"""The build of this installation, and the number of threads it uses."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from .. import _core
from .errors import warn

_MAX_THREADS = _core.MOST_THREADS
_told_of_helpers = False


def get_config() -> dict[str, Any]:
    """Return version, compiler, kernel build and BLAS in use, and the default number of threads."""
    # Loaded here, because it takes as long as NumPy's core.
    from importlib.metadata import PackageNotFoundError, version

    try:
        own_version = version("fastmlp")
    except PackageNotFoundError:
        own_version = "unknown"
    return {"version": own_version, **_core.build_info(), "threads": default_threads()}


def show_config() -> None:
    """Print `get_config()` as a table."""
    for name, value in get_config().items():
        shown = ", ".join(value) if isinstance(value, list) else value
        print(f"{name:18}{shown if shown != '' else '-'}")


def default_threads() -> int:
    """Return the number of threads that a call without `threads=` uses.

    It is the smallest of the processors in the CPU affinity, the cgroup's CPU quota and
    `OMP_NUM_THREADS`. It is 1 in a forked child, in which OpenMP cannot start its threads again. It
    is also 1 if the stacks of OpenMP's threads are too small for matrix products.
    """
    return _core.threads_within(most_threads())


@cache
def most_threads() -> int:
    """Return the lasting part of the limit: the CPU quota.

    If the system has no affinity, the number of processors limits it too.
    """
    return min(_cgroup_quota(), _MAX_THREADS if _core.affinity() else os.cpu_count() or 1)


def resolve_threads(threads: int | None) -> int:
    """Return the number of threads for a call that may multiply matrices.

    Raises ValueError if the user's number is not a positive integer, RuntimeError if the stack of
    the calling thread is too small.
    """
    _core.check_stack()
    if _core.has_small_helpers():
        _tell_of_helpers(threads)
    if threads is None:
        return default_threads()
    is_integer = hasattr(threads, "__index__") and not isinstance(threads, bool)
    if not is_integer or not 1 <= threads <= _MAX_THREADS:
        raise ValueError(f"threads must be an integer in 1 .. {_MAX_THREADS}, not {threads!r}")
    return int(threads)


def _tell_of_helpers(threads: int | None) -> None:
    """Warn once that stacks are too small for several threads, unless one thread is asked for."""
    global _told_of_helpers
    if threads is None:
        threads = min(_core.affinity() or os.cpu_count() or 1, most_threads())
    if _told_of_helpers or threads == 1:
        return
    _told_of_helpers = True
    warn(
        f"fastmlp works with one thread, since those of OpenMP have less than the "
        f"{_core.STACK_BYTES // 1024} KiB of stack that matrix products take; set OMP_STACKSIZE=1M "
        "before Python starts (left out, stacks are as large as `ulimit -s` says)",
        RuntimeWarning,
    )


@cache
def _cgroup_quota() -> int:
    """Return the whole processors in the CPU quota of this container (cgroup v2, then v1)."""
    try:
        fields = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except OSError:
        folder = Path("/sys/fs/cgroup/cpu")
        try:
            fields = [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
        except OSError:
            return _MAX_THREADS
    if len(fields) != 2 or not fields[0].strip().isdigit():  # "max" and -1: no quota
        return _MAX_THREADS
    return max(1, int(fields[0]) // int(fields[1]))
