"""Plain values as bytes that say what they are: None, bool, int, str, bytes, lists, and dicts of these.

Written little-endian, each behind a letter; nothing is ever executed or looked up by name on the way back.
"""

from __future__ import annotations

import struct
from typing import Any

from emu.snapshot.errors import SnapshotError

LENGTH = struct.Struct("<I")
DEEPEST = 16
# No register, and no other integer of a machine's state, has more bytes.
LONGEST_INTEGER = 4096


def pack(value: Any) -> bytes:
    """The bytes of a value.  Raises TypeError for one that is not plain."""
    out: list[bytes] = []
    _pack(value, out)
    return b"".join(out)


def _pack(value: Any, out: list[bytes]) -> None:
    if value is None:
        out.append(b"N")
    elif isinstance(value, bool):
        out.append(b"T" if value else b"F")
    elif isinstance(value, int):
        number = int(value)
        _sized(b"I", number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True), out)
    elif isinstance(value, str):
        _sized(b"S", value.encode(), out)
    elif isinstance(value, bytes | bytearray):
        _sized(b"B", bytes(value), out)
    elif isinstance(value, list | tuple):
        out += (b"L", LENGTH.pack(len(value)))
        for item in value:
            _pack(item, out)
    elif isinstance(value, dict):
        out += (b"D", LENGTH.pack(len(value)))
        for key, item in value.items():
            _pack(key, out)
            _pack(item, out)
    else:
        raise TypeError(f"{type(value).__name__} is no plain value")


def _sized(letter: bytes, data: bytes, out: list[bytes]) -> None:
    out += (letter, LENGTH.pack(len(data)), data)


def unpack(data: bytes) -> Any:
    """The value that pack() wrote.  Raises SnapshotError."""
    value, end = _unpack(data, 0, 0)
    if end != len(data):
        raise SnapshotError("bytes follow the end of a value")
    return value


def _unpack(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    letter, at = data[at : at + 1], at + 1
    if letter in (b"N", b"T", b"F"):
        return {b"N": None, b"T": True, b"F": False}[letter], at
    if letter not in (b"I", b"S", b"B", b"L", b"D"):
        raise SnapshotError(f"no kind of value is written as {letter!r}")
    if at + LENGTH.size > len(data) or depth > DEEPEST:
        raise SnapshotError("a value is cut off, or nested too deeply")
    (length,) = LENGTH.unpack_from(data, at)
    at += LENGTH.size
    # Every item takes a byte at least: no length makes us reserve what is not there.
    if length > len(data) - at:
        raise SnapshotError("a value is cut off")
    if letter == b"L":
        items = []
        for _ in range(length):
            item, at = _unpack(data, at, depth + 1)
            items.append(item)
        return items, at
    if letter == b"D":
        entries = {}
        for _ in range(length):
            key, at = _unpack(data, at, depth + 1)
            if not isinstance(key, str | int):
                raise SnapshotError("a key is neither text nor a number")
            entries[key], at = _unpack(data, at, depth + 1)
        return entries, at
    taken = data[at : at + length]
    if letter == b"B":
        return taken, at + length
    if letter == b"I":
        if length > LONGEST_INTEGER:
            raise SnapshotError(f"a number has {length} bytes")
        return int.from_bytes(taken, "little", signed=True), at + length
    try:
        return taken.decode(), at + length
    except UnicodeDecodeError:
        raise SnapshotError("text is not UTF-8") from None
