"""The header of a model file, checked before any object is made from it.

The raw bytes are compared with the checksum, then scanned for the memory that they would take.
`load` begins with `read_header`. `save` calls `check_header` before it writes, so that both have
the same limits.
"""

import hashlib
import json
import os
import re
import struct
from typing import Any, BinaryIO

from ..ground.errors import CheckpointError

FORMAT, VERSION = "fastmlp", "1"
NO_CHECKSUM = "0" * 64
_CHUNK = 2**20  # bytes read and hashed at a time
_MAX_HEADER = 16 * 2**20  # bytes
_MAX_ENTRIES = 20_000  # tensors and `__metadata__`
_MAX_DEPTH = 200  # levels of nested lists and dictionaries
_ALLOWANCE = 12 * 2**20  # bytes of memory allowed beyond twice the size of the file

# A header begins with the checksum and finishes with the end of the last tensor, if there is one.
_START = re.compile(rb'\s*\{\s*"__metadata__"\s*:\s*\{\s*"checksum"\s*:\s*"([0-9a-f]{64})"')
_END = re.compile(rb'"data_offsets"\s*:\s*\[\s*\d+\s*,\s*(\d+)\s*\]\s*\}\s*\}\s*\Z')
_LONGEST_END = 200  # bytes

# A string, with its colon if it is a key; a bracket or brace; or a number or literal.
_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)(\s*+:)?|[\[\]{}]|[^"\[\]{},:\s]++',
    re.DOTALL,
)
# An escape of a character beyond Latin-1, after an even number of backslashes, and one of a
# character outside the BMP. A string with one of them takes two or four bytes per character.
_WIDE = re.compile(r"(?<!\\)(?:\\\\)*+\\u")
_WIDEST = re.compile(r"(?<!\\)(?:\\\\)*+\\u[dD][89abAB]")
# Upper bounds of the bytes that an object of Python takes, its place in a list included. In this
# order: a list, a dictionary with a few keys, a number, an object that always exists, a string,
# and a new key in two dictionaries of any size.
_OF_LIST, _OF_DICT, _OF_NUMBER, _OF_KNOWN, _OF_TEXT, _OF_KEY = 110, 200, 41, 9, 73, 300
_OF_KNOWN_KEY = 25  # bytes of a key that occurred before
_KNOWN = {"true", "false", "null", *"0123456789"}
_LONG = 64  # characters; Python writes no number that is longer
_LARGE = 1000  # characters; while a longer string grows, its spare room and a copy count too


class Memory:
    """The memory left for objects made from JSON; loading takes at most 2 x file + 16 MB."""

    def __init__(self, size: int) -> None:
        self.left = 2.0 * size + _ALLOWANCE

    def parse(self, text: str, copies: int = 0) -> Any:
        """Return the value of a JSON text.

        copies: how often an error message may repeat the text.

        Raises CheckpointError before parsing if the value would take too much memory.
        """
        self._charge(text, copies)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise CheckpointError("the model file is damaged: its header is no JSON") from None

    def _charge(self, text: str, copies: int) -> None:
        self.left -= copies * len(text)
        keys: set[int] = set()
        depth = 0
        for match in _TOKEN.finditer(text):
            begin, end = match.span()
            first = text[begin]
            if first == '"':
                self.left -= _cost_of_text(text, match, keys)
            elif first in "[{":
                depth += 1
                self.left -= _OF_LIST if first == "[" else _OF_DICT
            elif first in "]}":
                depth -= 1
            elif end - begin > _LONG:
                self.left -= _OF_NUMBER + 3 * (end - begin)
            else:
                self.left -= _OF_KNOWN if text[begin:end] in _KNOWN else _OF_NUMBER
            if depth > _MAX_DEPTH:
                raise CheckpointError(
                    f"its metadata are nested more than {_MAX_DEPTH} deep; flatten them"
                )
            if self.left < 0:
                raise CheckpointError(
                    "its metadata hold so many values that reading them would take several times "
                    "the memory of the file; keep them in a file of their own"
                )


def _cost_of_text(text: str, match: re.Match[str], keys: set[int]) -> float:
    begin, end = match.span()
    is_large = end - begin > _LARGE
    if match.start(1) >= 0 and not is_large:
        key = hash(text[begin : match.start(1)])
        if key in keys:
            return _OF_KNOWN_KEY
        keys.add(key)
    cost = _OF_TEXT if match.start(1) < 0 else _OF_TEXT + _OF_KEY
    letters, of_letter = end - begin, 1.25 if is_large else 1.0
    if text.find("\\u", begin, end) >= 0 and _WIDE.search(text, begin, end):
        if text.find("\\\\", begin, end) < 0:  # no escaped backslash, so every \u is an escape
            letters -= 5 * text.count("\\u", begin, end)
        of_letter = 3.5 if is_large else 2.0
        if _WIDEST.search(text, begin, end):
            of_letter = 6.0 if is_large else 4.0
    return cost + of_letter * letters


def read_header(file: BinaryIO, size: int) -> tuple[dict[str, Any], Memory, "hashlib._Hash"]:
    """Return the checked header of a file of `size` bytes, the memory left, and a hash.

    The hash is that of all bytes before the data. Afterwards the position of the file is the
    beginning of the data. Nothing is parsed before the checksum is verified.

    Raises CheckpointError for a file that is damaged, foreign or too large.
    """
    start = file.read(8)
    if len(start) < 8:
        raise CheckpointError("this is no model file: it is shorter than its header")
    (length,) = struct.unpack("<Q", start)
    if length > min(_MAX_HEADER, size - 8):
        raise CheckpointError("this is no model file, or it was cut short: its header does not fit")
    raw = file.read(length)
    found = _START.match(raw)
    if found is None:
        raise CheckpointError("this is no fastmlp model file")
    last = _END.search(raw, max(0, len(raw) - _LONGEST_END))
    if len(raw) < length or 8 + length + int(last[1] if last else 0) != size:
        raise CheckpointError("the model file is damaged: its size is not what its header says")
    digest = hashlib.sha256(start + raw[: found.start(1)] + NO_CHECKSUM.encode())
    with memoryview(raw) as view, view[found.end(1) :] as rest:
        digest.update(rest)
    whole = digest.copy()
    while chunk := file.read(_CHUNK):
        whole.update(chunk)
    if whole.hexdigest().encode() != found[1]:
        raise CheckpointError("the model file is damaged: its checksum does not match")
    file.seek(8 + length)
    if not raw.isascii():
        raise CheckpointError("the model file is damaged: its header is malformed")
    text = raw.decode()
    del raw, found, last, rest, view
    memory = Memory(size)
    return _parse(text, memory), memory, digest


def check_header(text: bytes, size: int) -> tuple[dict[str, Any], Memory]:
    """Return header and memory as `read_header` would, for a header about to be written.

    text: the header.
    size: the size of the file, in bytes.

    Raises CheckpointError if `read_header` would refuse it.
    """
    if len(text) > _MAX_HEADER:
        raise CheckpointError(
            f"its layers and metadata take {len(text):,} bytes as text, and at most "
            f"{_MAX_HEADER:,} are read back; keep large metadata in a file of their own"
        )
    memory = Memory(size)
    return _parse(text.decode(), memory), memory


def _parse(text: str, memory: Memory) -> dict[str, Any]:
    memory.left -= len(text)
    header: dict[str, Any] = memory.parse(text)
    memory.left += len(text)  # the caller drops the text now
    meta = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        raise CheckpointError("the model file is damaged: its header is malformed")
    if meta.get("format") != FORMAT:
        raise CheckpointError("this is no fastmlp model file")
    if (version := meta.get("version")) != VERSION:
        shown = repr(version)[:20]
        raise CheckpointError(f"the file has version {shown}; this fastmlp reads {VERSION}")
    if len(header) > _MAX_ENTRIES:
        raise CheckpointError(f"it holds more than {_MAX_ENTRIES:,} arrays")
    return header


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file in bytes, and go to its beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
