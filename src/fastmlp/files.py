"""Files written so that a crash leaves the old one or the new one, and what is no file left in
place.
"""

import glob
import os
import re
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from .errors import CheckpointError

_LONGEST = 200  # bytes of the name that a temporary file carries; most systems allow 255 in all
_ABANDONED = 3600.0  # seconds: a process id says nothing about one on another machine
_OPEN_FILE = re.compile(r"/dev/(?:std(out|err)|fd/(\d+))|/proc/(\d+)/(?:task/\d+/)?fd/(\d+)")


def write_safely(path: Path, content: bytes) -> None:
    """Replace `path` by a file of this content: temporary file, fsync, rename, fsync the folder.

    A device, a pipe, or an open file by its name (/dev/stdout) is written to, never replaced.
    """
    if is_stream(path):
        with _open_stream(path) as stream:
            stream.write(content)
        return
    path = Path(os.path.realpath(path))
    _sweep(path)
    handle, temporary = _new_file(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), _mode(path))
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


def _new_file(path: Path) -> tuple[int, Path]:
    """A file of a new name beside `path`. Not by tempfile, whose import a signal handler that saves
    could interrupt and find unfinished.
    """
    while True:
        temporary = path.with_name(f"{_prefix(path)}{os.getpid()}.{os.urandom(4).hex()}.tmp")
        with suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(temporary, flags, 0o600), temporary


def _prefix(path: Path) -> str:
    return f".{os.fsdecode(os.fsencode(path.name)[:_LONGEST])}."


def _mode(path: Path) -> int:
    """That of the file to be replaced; else what open() would give (mkstemp's is 0600)."""
    with suppress(OSError):
        return path.stat().st_mode & 0o777
    return 0o666 & ~_umask()


def _umask() -> int:
    with suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    umask = os.umask(0)  # the only way elsewhere, though other threads see it for a moment
    os.umask(umask)
    return umask


def _sweep(path: Path) -> None:
    """Remove what saves of the same file left behind when their processes were killed."""
    prefix = _prefix(path)
    for stale in path.parent.glob(f"{glob.escape(prefix)}*.tmp"):
        pid = stale.name.removeprefix(prefix).split(".")[0]
        if pid.isdigit() and int(pid) != os.getpid() and not _is_alive(int(pid)):
            with suppress(OSError):
                if time.time() - stale.stat().st_mtime > _ABANDONED:
                    stale.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


# ---- what is read -------------------------------------------------------------------------------

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read from; CheckpointError at once for what may never end or never begin: a
    pipe, a device, a socket or a folder. OSError for what cannot be opened.
    """
    _check_is_regular(os.stat(path).st_mode)  # opening a device may already do something
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
    """Whether writing to one would change the other: one file by two names or links, or one name
    that is not there yet. Devices are no files.
    """
    if os.path.exists(a) and os.path.exists(b):
        return os.path.isfile(a) and os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


# ---- what is no regular file ---------------------------------------------------------------------


def is_stream(path: Path) -> bool:
    """Whether `path` names a device, a pipe or an open file, such as /dev/stdout, although that may
    lead to a regular file.
    """
    name = _target(path)
    return bool(_OPEN_FILE.fullmatch(name)) or (os.path.exists(name) and not os.path.isfile(name))


def _target(path: Path) -> str:
    """Where links lead, but for those of open files: `path` itself if they go round in circles."""
    name = os.fspath(path)
    for _ in range(40):
        folder, last = os.path.split(os.path.abspath(name))
        name = os.path.join(os.path.realpath(folder), last)
        if _OPEN_FILE.fullmatch(name) or not os.path.islink(name):
            return name
        name = os.path.join(os.path.dirname(name), os.readlink(name))
    return os.fspath(path)


def _open_stream(path: Path) -> BinaryIO:
    """For a file of this process its own position: opening it anew would begin at the start."""
    if sys.stdout is not None:
        sys.stdout.flush()
    match = _OPEN_FILE.fullmatch(_target(path))
    if match is None:
        return open(path, "wb")
    standard, number, pid, number_of_pid = match.groups()
    if pid is not None and int(pid) != os.getpid():
        return open(path, "ab")
    known = {"out": 1, "err": 2}
    return os.fdopen(os.dup(known[standard] if standard else int(number or number_of_pid)), "wb")
