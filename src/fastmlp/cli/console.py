"""Output of the command line: to a terminal, to a pipe, or dropped if the reader has gone."""

import os
import sys
from contextlib import suppress
from typing import TextIO


class Voice:
    """A printer of lines to standard output or standard error, or to nothing if `quiet`.

    A line that cannot be written raises no error, so the work goes on.
    """

    def __init__(self, quiet: bool = False, on_stderr: bool = False) -> None:
        self.quiet, self._on_stderr = quiet, on_stderr

    def say(self, title: str, text: str = "") -> None:
        """Print a line "title  text", or a paragraph."""
        if self.quiet:
            return
        line = f"{title:<11}{text}".rstrip() if text else title
        stream = sys.stderr if self._on_stderr else sys.stdout
        try:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            line = line.encode(encoding, "backslashreplace").decode(encoding)
            print(line, file=stream, flush=True)
        except OSError:  # the reader has gone: `| head`, or a closed terminal
            self.quiet = True
            silence(stream)


def flush() -> None:
    """Flush standard output and standard error; drop the rest if that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            silence(stream)


def silence(stream: TextIO) -> None:
    """Redirect a stream to the null device, so that no error follows at the exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
