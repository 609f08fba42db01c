"""Writing files so that a crash leaves the old or the new file, never a part of one.

Devices and pipes are written to, never replaced.
"""

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from ..ground.errors import CheckpointError

_LONGEST = 200  # bytes of a file name inside a temporary name; most systems allow 255 in all


def write_safely(path: Path, content: bytes) -> None:
    """Replace `path` by a file of this content: temporary file, fsync, rename, fsync the folder.

    A device, a pipe, or standard output by a name such as /dev/stdout is written to, never
    replaced. If the process is killed meanwhile, a hidden file `.NAME.*.tmp` remains.
    """
    if is_stream(path):
        _write_stream(path, content)
        return
    path = Path(os.path.realpath(path))
    old = path.stat().st_mode & 0o777 if path.exists() else None
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST])
    # Not tempfile: a signal handler that saves could run while its import is unfinished.
    temporary = path.with_name(f".{name}.{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o666 if old is None else old)
    try:
        with os.fdopen(handle, "wb") as file:
            if old is not None:  # os.open applied the umask
                os.fchmod(handle, old)
            file.write(content)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe, or the target of standard output or error.

    The target of standard output may be a regular file.
    """
    return (os.path.exists(path) and not os.path.isfile(path)) or _standard(path) is not None


def _standard(path: Path) -> int | None:
    """Return 1 or 2 if `path` is the target of standard output or standard error."""
    for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
        if stream is None:  # closed: a file may have got its number
            continue
        with suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(number)):
                return number
    return None


def _write_stream(path: Path, content: bytes) -> None:
    number = _standard(path)
    if number is not None and sys.stdout is not None:
        sys.stdout.flush()
    # Duplicate standard output to keep its position; a new open would begin at the start.
    with open(path, "wb") if number is None else os.fdopen(os.dup(number), "wb") as stream:
        stream.write(content)


# ---- reading ------------------------------------------------------------------------------------

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    Raises CheckpointError at once for a pipe, a device, a socket or a folder, because reading them
    may never begin or never end. Raises OSError if the file cannot be opened.
    """
    _check_is_regular(os.stat(path).st_mode)  # before the open, which may act on a device
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    file = cast(BinaryIO, os.fdopen(handle, "rb", buffering=0))
    try:
        _check_is_regular(os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def _check_is_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no file")
        raise CheckpointError(f"this is {kind}; a model is read from a regular file")


def is_same_file(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Whether writing to one path would change the other.

    This is true for one file with two names or links, and for the same path of a file that does not
    exist yet. Devices do not count as files.
    """
    if os.path.exists(a) and os.path.exists(b):
        return os.path.isfile(a) and os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)
