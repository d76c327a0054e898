"""The stream of a snapshot: a head, sections, an end.  It is written and read in one pass, as through a pipe.

    head      16 bytes of MAGIC, u32 version of the format, u32 CRC of both
    section   name (16 bytes), u32 version, u64 length, u32 CRC of what follows, u32 CRC of these;
              then `length` bytes
    end       a section "end": how many sections there were, and one CRC over the heads of all

All little-endian.  The CRCs are zlib's; since each head has that of its content, the end's covers everything.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from emu.snapshot.errors import SnapshotError

MAGIC = b"emu snapshot\r\n\x1a\0"
VERSION = 1
HEAD = struct.Struct("<16sI")
SECTION = struct.Struct("<16sIQI")
END = struct.Struct("<QI")
CRC = struct.Struct("<I")
# The longest section there may be: a chunk of RAM has 1 MiB, a state much less; a flash's may have 64 MiB.
LONGEST = 128 << 20
PIECE = 1 << 20


class Writer:
    """Writes sections by `write`, which takes bytes until they are out."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self.written = 0
        self.sections = 0
        self._crc = 0
        self._put(_checked(HEAD.pack(MAGIC, VERSION)))

    def _put(self, data: bytes) -> None:
        self._write(data)
        self.written += len(data)

    def section(self, name: str, version: int, *parts: bytes) -> None:
        """Writes one section, of its parts one after the other."""
        crc, length = 0, 0
        for part in parts:
            crc, length = zlib.crc32(part, crc), length + len(part)
        assert length <= LONGEST, (name, length)
        head = SECTION.pack(name.encode(), version, length, crc)
        self._crc = zlib.crc32(head, self._crc)
        self.sections += 1
        self._put(_checked(head))
        for part in parts:
            self._put(part)

    def end(self) -> None:
        """Writes the end; nothing may follow."""
        self.section("end", 1, END.pack(self.sections, self._crc))


def _checked(head: bytes) -> bytes:
    return head + CRC.pack(zlib.crc32(head))


class Section:
    """One that was read, and found undamaged."""

    __slots__ = ("data", "name", "version")

    def __init__(self, name: str, version: int, data: bytes) -> None:
        self.name = name
        self.version = version
        self.data = data


def sections(read: Callable[[int], bytes]) -> Iterator[Section]:
    """The sections up to the end, by `read`, which gives at most so many bytes and none at the end.

    Raises SnapshotError for what is cut off, damaged, or of another format.
    """
    head = _take(read, HEAD.size + CRC.size, "the head")
    if head[: len(MAGIC)] != MAGIC:
        raise SnapshotError("this is no snapshot of emu; give one that save wrote")
    _, version = HEAD.unpack_from(head)
    if _checked(head[: HEAD.size]) != head:
        raise SnapshotError("the snapshot is damaged in its head; use another copy")
    if version != VERSION:
        raise SnapshotError(
            f"the snapshot has format {version}, and this release of emu reads {VERSION};"
            " restore it with the release that saved it"
        )
    number, crc = 0, 0
    while True:
        head = _take(read, SECTION.size + CRC.size, f"section {number}")
        if _checked(head[: SECTION.size]) != head:
            raise SnapshotError(f"the snapshot is damaged in the head of section {number}; use another copy")
        label, version, length, wanted = SECTION.unpack_from(head)
        name = label.rstrip(b"\0").decode("ascii", "replace")
        if length > LONGEST:
            raise SnapshotError(
                f"section {number} ({name}) of the snapshot claims {length} bytes; it is damaged"
            )
        data = _take(read, length, f"section {number} ({name})")
        if zlib.crc32(data) != wanted:
            raise SnapshotError(f"the snapshot is damaged in section {number} ({name}); use another copy")
        if name == "end":
            if data != END.pack(number, crc):
                raise SnapshotError("sections of the snapshot are missing or exchanged; use another copy")
            return
        crc = zlib.crc32(head[: SECTION.size], crc)
        number += 1
        yield Section(name, version, data)


def _take(read: Callable[[int], bytes], size: int, what: str) -> bytes:
    """Exactly so many bytes; reserves no more than what has come."""
    parts = []
    while size:
        part = read(min(size, PIECE))
        if not part:
            raise SnapshotError(f"the snapshot is cut off in {what}; use another copy")
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
