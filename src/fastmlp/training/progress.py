"""The progress that `fit` shows: nothing, a bar in a terminal, or lines."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Real
from typing import Any, TextIO

from .run import Run

_SELDOM = 10.0  # least seconds between the lines of a log
_SHARE = 0.1  # the same as a share of the time so far, so that days do not make thousands of lines


class Progress:
    """Progress for verbose=0: nothing is shown."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def advance(self, rows: int, loss: float) -> None:
        """Called after `rows` more rows were trained; `loss` is that of this epoch so far."""

    def end_epoch(self, run: Run) -> None:
        """Called after each epoch."""


class LineProgress(Progress):
    """Progress for verbose=2: one line an epoch."""

    def __init__(self, n: int) -> None:
        self._n, self._since = n, time.perf_counter()

    def end_epoch(self, run: Run) -> None:
        """Print the logs of the epoch."""
        now = time.perf_counter()
        rate = self._n / max(now - self._since, 1e-9)
        self._since = now
        line = f"{_place(run)}  {format_logs(run.shown(run.logs))}  {rate:,.0f} rows/s"
        with suppress(OSError):  # a closed pipe (`| head`) is no reason to stop training
            print(line, flush=True)


class LogProgress(Progress):
    """Progress for verbose=1 if standard error is not a terminal.

    A line is printed after the first epoch and the last, and now and then between them, in a long
    epoch too.
    """

    def __init__(self, run: Run, n: int) -> None:
        self._run, self._n = run, n
        self._start = time.perf_counter()
        self._due, self._since, self._rows, self._of_epoch = 0.0, 0.0, 0, 0
        self._unsaid = ""

    def __exit__(self, *exception: object) -> None:
        if self._unsaid:
            self._say(self._unsaid)

    def advance(self, rows: int, loss: float) -> None:
        """Print the loss so far if an epoch takes long."""
        self._rows += rows
        self._of_epoch += rows
        if self._due and self._now() >= self._due and self._of_epoch < self._n:
            share = f"  {self._of_epoch / self._n:.0%} of it"
            logs = format_logs(self._run.shown({"loss": loss}))
            self._say(f"{_place(self._run)}{share}  {logs}{self._rate()}")
        self._due = self._due or _SELDOM

    def end_epoch(self, run: Run) -> None:
        """Print the logs of the epoch, or keep them in case it is the last."""
        self._of_epoch = 0
        line = f"{_place(run)}  {format_logs(run.shown(run.logs))}"
        if run.epoch == 1 or self._now() >= self._due:
            self._say(line + self._rate())
        else:
            self._unsaid = line

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _rate(self) -> str:
        now = self._now()
        rate = self._rows / max(now - self._since, 1e-9)
        self._since, self._rows, self._due = now, 0, now + max(_SELDOM, _SHARE * now)
        return f"  {rate:,.0f} rows/s"

    def _say(self, line: str) -> None:
        self._unsaid = ""
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


class BarProgress(Progress):
    """Progress for verbose=1 in a terminal: a tqdm bar with rows per second and the time left.

    If training may stop early, the share done and the time left are not known, and are not shown.
    """

    def __init__(self, tqdm: Any, run: Run, n: int) -> None:
        total = None if run.may_stop else n * run.epochs
        self._bar = tqdm(
            total=total, unit="row", unit_scale=True, file=sys.stderr, dynamic_ncols=True
        )
        self._run = run

    def __exit__(self, *exception: object) -> None:
        with self._unread():
            self._bar.close()

    def advance(self, rows: int, loss: float) -> None:
        """Move the bar."""
        with self._unread():
            self._bar.update(rows)
            if not self._run.logs or self._run.epoch == 1:
                self._show({"loss": loss})

    def end_epoch(self, run: Run) -> None:
        """Show the logs of the epoch."""
        with self._unread():
            self._show(run.logs)

    @contextmanager
    def _unread(self) -> Iterator[None]:
        """If the terminal has gone, go on training without a bar."""
        try:
            yield
        except OSError:
            self._bar.disable = True

    def _show(self, logs: dict[str, float]) -> None:
        self._bar.set_description_str(_place(self._run), refresh=False)
        self._bar.set_postfix_str(format_logs(self._run.shown(logs)), refresh=False)


def _place(run: Run) -> str:
    most = f" of at most {run.epochs}" if run.may_stop else f"/{run.epochs}"
    return f"epoch {run.epoch:{len(str(run.epochs))}}{most}"


def format_logs(logs: dict[str, float]) -> str:
    """Return the logs of an epoch as one line."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, Real) else f"{name} {value}"
        for name, value in logs.items()
    )


def check_verbose(verbose: int) -> None:
    """Raise ValueError unless verbose is 0, 1 or 2."""
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0 (silent), 1 (bar) or 2 (lines), not {verbose!r}")


def make_progress(verbose: int, run: Run, n: int) -> Progress:
    """Return the Progress for verbose=0, 1 or 2.

    A bar needs a terminal and tqdm. Without them, 1 prints lines on standard error now and then.
    """
    if verbose == 1 and sys.stderr is not None:
        if not _shows_bars(sys.stderr):
            return LogProgress(run, n)
        try:
            from tqdm import tqdm
        except ImportError:
            return LogProgress(run, n)
        with suppress(OSError):  # standard error is closed
            return BarProgress(tqdm, run, n)
        return Progress()
    return LineProgress(n) if verbose == 2 else Progress()


def _shows_bars(stream: TextIO) -> bool:
    """Whether a line can be rewritten, as in a terminal and in a notebook."""
    try:
        return stream.isatty() or type(stream).__module__.startswith("ipykernel")
    except ValueError:  # the stream is closed
        return False
