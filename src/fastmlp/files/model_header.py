"""The header of a model file: looked through as raw bytes, against its checksum and for the memory
that it would take, before anything is made of it.

`read_header` is what `load` begins with; `check_header` is the same for a header that `save` is
about to write, so that there is one set of limits.
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
_CHUNK = 2**20  # bytes that are read and hashed at a time
_MAX_HEADER = 16 * 2**20
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 200  # lists in lists
_ALLOWANCE = 12 * 2**20  # bytes of memory beside twice the size of the file

# The checksum is the first thing in a header; the end of the last tensor, if any, is the last.
_START = re.compile(rb'\s*\{\s*"__metadata__"\s*:\s*\{\s*"checksum"\s*:\s*"([0-9a-f]{64})"')
_END = re.compile(rb'"data_offsets"\s*:\s*\[\s*\d+\s*,\s*(\d+)\s*\]\s*\}\s*\}\s*\Z')
_LONGEST_END = 200

# A string with the colon behind a key, what opens or ends a list, or a number or literal.
_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)(\s*+:)?|[\[\]{}]|[^"\[\]{},:\s]++',
    re.DOTALL,
)
# An escape of a letter beyond Latin-1, behind an even number of backslashes, and of one outside
# the BMP: a string with one takes two or four bytes for each of its letters.
_WIDE = re.compile(r"(?<!\\)(?:\\\\)*+\\u")
_WIDEST = re.compile(r"(?<!\\)(?:\\\\)*+\\u[dD][89abAB]")
# Bytes that Python takes at most, with the place in a list: for a list, a dictionary with a few
# keys, a number, one of the objects that are always there, a string, and a key that was not there
# before, in two dictionaries of any size.
_OF_LIST, _OF_DICT, _OF_NUMBER, _OF_KNOWN, _OF_TEXT, _OF_KEY = 110, 200, 41, 9, 73, 300
_OF_KNOWN_KEY = 25
_KNOWN = {"true", "false", "null", *"0123456789"}
_LONG = 64  # characters of a number that Python would not have written
_LARGE = 1000  # of a string whose way to its size counts, with room to grow and a copy


class Memory:
    """What may still be taken for the objects that JSON makes: 2 x file + 16 MB in all."""

    def __init__(self, size: int) -> None:
        self.left = 2.0 * size + _ALLOWANCE

    def parse(self, text: str, copies: int = 0) -> Any:
        """The value of a JSON text; CheckpointError before that where it would take too much.

        `copies`: how often an error may repeat the text.
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
        if text.find("\\\\", begin, end) < 0:  # else an escaped backslash may stand before a u
            letters -= 5 * text.count("\\u", begin, end)
        of_letter = 3.5 if is_large else 2.0
        if _WIDEST.search(text, begin, end):
            of_letter = 6.0 if is_large else 4.0
    return cost + of_letter * letters


def read_header(file: BinaryIO, size: int) -> tuple[dict[str, Any], Memory, "hashlib._Hash"]:
    """The checked header of a file of `size` bytes, which then stands where the data begin.

    Also the memory that is left, and the hash of what stands before the data. CheckpointError for
    a file that is damaged, foreign or too large. Nothing is parsed before the checksum is right.
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
    """What read_header makes of a header that is about to be written to a file of `size` bytes;
    CheckpointError where it would refuse it.
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
    memory.left += len(text)  # which the caller gives up now
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
    """Bytes of an open file; it stands at the beginning afterwards."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
