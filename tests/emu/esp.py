"""A disk as firmware boots from it: a GPT with one partition, the system partition, in FAT16.

UEFI 2.10, chapters 5 and 13.3; Microsoft's FAT specification of 2000.  Names are short ones.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from pathlib import Path

SECTOR, FIRST, CLUSTER = 512, 2048, 4096
SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT_ENTRIES, FOLDER = 512, 0x10
LAST = 0xFFFF


class Fat:
    """A file system of some size, filled from its start."""

    def __init__(self, size: int) -> None:
        self.sectors = size // SECTOR
        self.table_sectors = (self.sectors * SECTOR // CLUSTER * 2 + SECTOR - 1) // SECTOR + 1
        self.table = [0xFFF8, LAST]
        self.data = bytearray()

    def chain(self, content: bytes) -> int:
        """Stores content and returns its first cluster."""
        count = max(1, (len(content) + CLUSTER - 1) // CLUSTER)
        first = len(self.table)
        self.table += [*range(first + 1, first + count), LAST]
        self.data += content.ljust(count * CLUSTER, b"\0")
        return first

    def folder(self, entries: dict[str, object]) -> bytes:
        """A folder's entries."""
        out = b""
        for name, content in entries.items():
            if isinstance(content, dict):
                out += self.entry(name, FOLDER, self.chain_of_folder(content), 0)
            else:
                assert isinstance(content, bytes)
                out += self.entry(name, 0, self.chain(content), len(content))
        return out

    def chain_of_folder(self, entries: dict[str, object]) -> int:
        # What is in it comes first; its own cluster behind it, and nobody looks at "..".
        inside = self.folder(entries)
        here = len(self.table)
        dots = self.entry(".", FOLDER, here, 0) + self.entry("..", FOLDER, 0, 0)
        return self.chain(dots + inside)

    @staticmethod
    def entry(name: str, kind: int, cluster: int, size: int) -> bytes:
        stem, _, end = (name, "", "") if name.strip(".") == "" else name.upper().partition(".")
        assert len(stem) <= 8, name
        assert len(end) <= 3, name
        short = (stem.ljust(8) + end.ljust(3)).encode()
        return struct.pack("<11sB14xHI", short, kind, cluster, size)

    def image(self, files: dict[str, object]) -> bytes:
        root = self.folder(files).ljust(ROOT_ENTRIES * 32, b"\0")
        boot = struct.pack(
            "<3s8sHBHBHHBHHHIIBBBI11s8s",
            *(b"\xeb\x3c\x90", b"EMUTESTS", SECTOR, CLUSTER // SECTOR, 1, 2, ROOT_ENTRIES, 0, 0xF8),
            *(self.table_sectors, 32, 2, FIRST, self.sectors, 0x80, 0, 0x29, 1, b"ESP        ", b"FAT16   "),
        )
        table = struct.pack(f"<{len(self.table)}H", *self.table).ljust(self.table_sectors * SECTOR, b"\0")
        image = boot.ljust(510, b"\0") + b"\x55\xaa" + 2 * table + root + self.data
        assert len(image) <= self.sectors * SECTOR, "the files do not fit"
        return image


def make_disk(path: Path, files: dict[str, object], size: int = 128 << 20) -> Path:
    """A raw disk of that size whose system partition has the files: folders are dicts."""
    sectors = size // SECTOR
    behind = sectors - 34
    entry = SYSTEM.bytes_le + uuid.uuid4().bytes_le + struct.pack("<QQQ72s", FIRST, behind, 0, b"")
    entries = entry.ljust(128 * 128, b"\0")
    identity = uuid.uuid4().bytes_le

    def header(here: int, other: int, table: int) -> bytes:
        def packed(checksum: int) -> bytes:
            fields = (checksum, 0, here, other, 34, behind, identity, table, 128, 128, zlib.crc32(entries))
            return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, *fields)

        return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")

    protective = struct.pack("<446xB3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, sectors - 1)
    with open(path, "wb") as file:
        file.truncate(size)
        file.write(protective.ljust(510, b"\0") + b"\x55\xaa" + header(1, sectors - 1, 2) + entries)
        file.seek(FIRST * SECTOR)
        file.write(Fat((behind + 1 - FIRST) * SECTOR).image(files))
        file.seek((sectors - 33) * SECTOR)
        file.write(entries + header(sectors - 1, 1, sectors - 33))
    return path
