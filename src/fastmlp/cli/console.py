"""What the command line says: to a terminal, to a pipe, or to nobody when the reader has gone."""

import os
import sys
from contextlib import suppress
from typing import TextIO


class Voice:
    """Prints lines on standard output, or says nothing. What it says is never worth an error: the
    work goes on when it cannot be delivered.
    """

    def __init__(self, quiet: bool = False, on_stderr: bool = False) -> None:
        self.quiet, self._on_stderr = quiet, on_stderr

    def say(self, title: str, text: str = "") -> None:
        """A line "title  text", or a paragraph."""
        if self.quiet:
            return
        line = f"{title:<11}{text}".rstrip() if text else title
        stream = sys.stderr if self._on_stderr else sys.stdout
        try:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            line = line.encode(encoding, "backslashreplace").decode(encoding)
            print(line, file=stream, flush=True)
        except OSError:  # `| head`, or a terminal that was closed
            self.quiet = True
            silence(stream)


def flush() -> None:
    """Deliver what is left to say, or drop it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            silence(stream)


def silence(stream: TextIO) -> None:
    """Lead what was and will be written to nowhere, so that no error follows at the end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
