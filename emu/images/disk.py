"""A disk with a system's two partitions: the firmware's (FAT, by mtools) and the root (ext4, by mke2fs).

The table is a GPT, as UEFI 2.10 has it in chapter 5; the tools are Debian's own for the guest, run by emu, so
the host needs none.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from pathlib import Path

import emu.block

SECTOR = 512
MIB = 1 << 20
ENTRIES, ENTRY_SIZE = 128, 128
TABLE_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR
# What partitions are for: UEFI's system partition; a root of an arm64 Linux (the Discoverable Partitions).
EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX_ROOT_ARM64 = uuid.UUID("b921b045-1df0-41c3-af44-4c6f280d3fae")


def write_table(disk: Path, partitions: list[tuple[uuid.UUID, str, int, int]]) -> None:
    """Writes a GPT to a raw disk: of each partition what it is for, its name, offset and size in bytes."""
    sectors = disk.stat().st_size // SECTOR
    entries = b""
    for kind, name, offset, size in partitions:
        first = offset // SECTOR
        entries += kind.bytes_le + uuid.uuid4().bytes_le
        entries += struct.pack("<QQQ", first, first + size // SECTOR - 1, 0)
        entries += name.encode("utf-16-le").ljust(72, b"\0")
    entries = entries.ljust(ENTRIES * ENTRY_SIZE, b"\0")
    identity = uuid.uuid4().bytes_le
    last = sectors - 1

    def header(here: int, other: int, table: int) -> bytes:
        def packed(checksum: int) -> bytes:
            return struct.pack(
                "<8s4I4Q16sQ3I", b"EFI PART", 0x10000, 92, checksum, 0, here, other,
                2 + TABLE_SECTORS, last - 1 - TABLE_SECTORS, identity, table,
                ENTRIES, ENTRY_SIZE, zlib.crc32(entries),
            )  # fmt: skip

        return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")

    # For programs that know no GPT: one partition of an unknown kind over all of the disk.
    protective = bytes(446) + struct.pack(
        "<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFF_FFFF)
    )
    with open(disk, "r+b") as file:
        file.write(protective.ljust(510, b"\0") + b"\x55\xaa")
        file.write(header(1, last, 2) + entries)
        file.seek((last - TABLE_SECTORS) * SECTOR)
        file.write(entries + header(last, 1, last - TABLE_SECTORS))


def to_qcow2(raw: Path, path: Path) -> None:
    """A new image with what the raw disk holds; holes and zeroes take no space."""
    size = raw.stat().st_size
    emu.block.create(path, size)
    with open(raw, "rb") as source, emu.block.open(path, format="qcow2") as image:
        for start, end in _extents(source.fileno(), size):
            source.seek(start)
            at = start
            while at < end:
                data = source.read(min(MIB, end - at))
                if data.count(0) != len(data):
                    image.write(at, data)
                at += len(data)


def _extents(fd: int, size: int) -> list[tuple[int, int]]:
    """Where a file has data, in whole clusters."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # none any more
            break
        end = os.lseek(fd, start, os.SEEK_HOLE)
        at = min(-(-end // MIB) * MIB, size)
        found.append((max(start // MIB * MIB, found[-1][1] if found else 0), at))
    return found
