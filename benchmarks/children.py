"""A child process that answers requests: lines of JSON on the pipes that were stdin and stdout.

Children work one at a time: `ask` returns when the child has answered and its threads sleep.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from machine import HERE, clean_environment

# OpenBLAS's threads spin for a tenth of a second before they sleep, and would slow the next peer.
_PAUSE, _LONGEST_PAUSE, _IDLE_SHARE = 0.025, 2.0, 0.04
_FIXED_PAUSE = 0.25
Answer = dict[str, Any]


class Child:
    """A Python process running a script of this folder, for `threads` threads."""

    def __init__(
        self,
        name: str,
        script: str,
        arguments: list[str],
        threads: int,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            env=clean_environment(threads) | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready: Answer = {}

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()

    def wait(self) -> "Child":
        """Read the answer to the start: what the child is, or why it cannot take part."""
        self.ready = self._answer()
        return self

    def ask(self, rest: bool = True, **request: Any) -> Any:
        """Let the child do something, and wait until it has and, with `rest`, its threads sleep."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if rest:
            self._rest()
        return answer

    def _rest(self) -> None:
        """Wait until the child's threads have stopped spinning."""
        used = self._cpu_seconds()
        if not used:  # a kernel that does not count
            time.sleep(_FIXED_PAUSE)
        for _ in range(round(_LONGEST_PAUSE / _PAUSE)):
            time.sleep(_PAUSE)
            before, used = used, self._cpu_seconds()
            if used - before < _PAUSE * _IDLE_SHARE:
                return

    def _cpu_seconds(self) -> float:
        """Of all threads of the child so far."""
        total = 0
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # the thread has just ended
                total += int((thread / "schedstat").read_text().split()[0])
        return total * 1e-9

    def _answer(self) -> Answer:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.name} ended; its message stands above")
        return json.loads(line)


def serve(start: Callable[[], tuple[Answer, Callable[[Answer], Answer]]]) -> None:
    """The child's side: `start` gives the first answer and the function that answers requests.

    What cannot start is not an error of the benchmark: a row of the table says why.
    """
    requests, replies = _pipes()

    def reply(message: Answer) -> None:
        replies.write(json.dumps(message) + "\n")

    try:
        about, answer = start()
    except Exception as error:  # not installed, not able
        reply({"unavailable": f"{error}" or type(error).__name__})
        return
    reply(about)
    for line in requests:
        reply(answer(json.loads(line)))


def _pipes() -> tuple[TextIO, TextIO]:
    """The protocol's pipes; what a library prints goes to stderr from here on."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return sys.stdin, replies


def timed(work: Callable[[int], Any], times: int) -> float:
    """Seconds that `work(times)` takes."""
    start = time.perf_counter()
    work(times)
    return time.perf_counter() - start


def calibrated(work: Callable[[int], Any], seconds: float) -> int:
    """How many times take about `seconds`."""
    times = 1
    timed(work, times)  # compiles, allocates, starts threads
    # The best of three: one stall, taken for the usual time, would make every round too short.
    while (elapsed := min(timed(work, times) for _ in range(3))) < seconds / 5:
        times *= 2
    return max(1, round(times * seconds / elapsed))
