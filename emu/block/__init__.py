"""Disk images: what a guest's disk is kept in on the host, raw or qcow2.

    with emu.block.open("disk.qcow2") as image:
        image.write(0, b"boot sector")
        image.flush()

The formats are in C (native/block.h), and a device gives them iovecs that point into the guest's RAM; here is
what opens, makes and looks at images.  An image is locked against every other emu and against QEMU's
programs: one writes, or many read.

The format of a raw image is better given than found: a guest owns the first bytes of its disk.  Where it is
found, a guest cannot write there what would make the image another format's.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from accel.errors import EmuError
from emu.devices.native import ffi, lib

FORMATS = {"raw": lib.EMU_BLOCK_RAW, "qcow2": lib.EMU_BLOCK_QCOW2}
CACHES = {
    "writeback": lib.EMU_BLOCK_WRITEBACK,
    "none": lib.EMU_BLOCK_NONE,
    "writethrough": lib.EMU_BLOCK_WRITETHROUGH,
    "unsafe": lib.EMU_BLOCK_UNSAFE,
}

# What a user can do about an error of the host's.
REMEDIES = {
    errno.ENOSPC: "free some space on the host's disk",
    errno.EROFS: "open the image for writing",
    errno.EINVAL: "stay inside the image",
    errno.EPERM: "give the image's format, format=raw",
}


class BlockError(EmuError):
    """An image that cannot be opened, or a request that failed."""


@dataclass(frozen=True, slots=True)
class Info:
    """What there is to know of an open image; sizes are in bytes."""

    path: str
    format: str
    size: int
    allocated: int  # what the file takes on the host
    cluster_size: int  # unit of allocation; 0 for raw
    block_size: int  # smaller or unaligned requests cost a copy
    cache: str
    read_only: bool
    can_discard: bool


class Image:
    """An open image; made by open().  Any thread may call; `native` is the emu_block of block.h."""

    def __init__(self, path: str, native: Any) -> None:
        self.path = path
        self._native = native

    @property
    def native(self) -> Any:
        """For devices in C; the image must stay open while they use it."""
        if self._native is None:
            raise BlockError(f"{self.path}: the image is closed: open it again")
        return self._native

    @property
    def size(self) -> int:
        """What the guest sees, in bytes."""
        return int(lib.emu_block_size(self.native))

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on."""
        data = bytearray(self._within(offset, length))
        iov = ffi.new("struct iovec *")
        buffer = ffi.from_buffer(data)
        iov.iov_base, iov.iov_len = buffer, length
        self._check(lib.emu_block_readv(self.native, iov, 1, offset), "read", offset, length)
        return bytes(data)

    def write(self, offset: int, data: bytes) -> None:
        """All of `data`, at `offset`; it is on the disk after a flush()."""
        self._within(offset, len(data))
        iov = ffi.new("struct iovec *")
        buffer = ffi.from_buffer(data)
        iov.iov_base, iov.iov_len = ffi.cast("void *", buffer), len(data)
        self._check(lib.emu_block_writev(self.native, iov, 1, offset), "write", offset, len(data))

    def flush(self) -> None:
        """Returns when everything written before is on the disk, as far as the cache mode promises."""
        self._check(lib.emu_block_flush(self.native), "flush", 0, self.size)

    def discard(self, offset: int, length: int) -> None:
        """The range's contents are no longer needed; frees space where open() was told to."""
        self._within(offset, length)
        self._check(lib.emu_block_discard(self.native, offset, length), "discard", offset, length)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = False) -> None:
        """The range reads as zeroes; with may_unmap its space may go as well."""
        self._within(offset, length)
        self._check(
            lib.emu_block_write_zeroes(self.native, offset, length, may_unmap), "zeroes", offset, length
        )

    def resize(self, size: int) -> None:
        """A new size; what is added reads as zeroes."""
        if size < 0 or size % 512 or size >= 1 << 63:
            raise BlockError(f"{self.path}: an image cannot have {size} bytes: give a multiple of 512")
        self._check(lib.emu_block_resize(self.native, size), "resize", 0, size)

    def info(self) -> Info:
        """The image as it is now."""
        found = ffi.new("emu_block_info *")
        lib.emu_block_describe(self.native, found)
        return Info(
            path=self.path,
            format=_name(FORMATS, found.format),
            size=found.size,
            allocated=found.allocated,
            cluster_size=found.cluster_size,
            block_size=found.block_size,
            cache=_name(CACHES, found.cache),
            read_only=bool(found.read_only),
            can_discard=bool(found.can_discard),
        )

    def close(self) -> None:
        """Writes what is held back, and ends; a second time it does nothing."""
        if self._native is not None:
            native, self._native = self._native, None
            self._check(lib.emu_block_close(native), "close", 0, 0)

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _within(self, offset: int, length: int) -> int:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise BlockError(
                f"{self.path}: {length} bytes at {offset:#x} are not in the image: it has {self.size:#x}"
            )
        return length

    def _check(self, failed: int, what: str, offset: int, length: int) -> None:
        if failed:
            remedy = REMEDIES.get(-failed, "check the image with `qemu-img check` and the host's disk")
            raise BlockError(
                f"{self.path}: {what}, {length} bytes at {offset:#x}: {os.strerror(-failed)}: {remedy}"
            )


def _name(table: dict[str, int], value: int) -> str:
    return next(name for name, number in table.items() if number == value)


def _number(table: dict[str, int], name: str, what: str) -> int:
    if name not in table:
        raise BlockError(f"there is no {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]


def open(  # as everywhere where things are opened
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    cache: str = "writeback",
    read_only: bool = False,
    discard: bool = False,
    backing: bool = True,
    lock: bool = True,
) -> Image:
    """Opens the image at `path`.

    format: "raw" or "qcow2"; None looks at its first bytes.
    cache: "writeback" (the host's page cache until a flush), "none" (O_DIRECT), "writethrough" (every write
        is flushed), "unsafe" (a flush does nothing).
    discard: a guest's discards free space on the host.
    backing: False refuses an image that names a backing file.
    """
    options = ffi.new("emu_block_options *")
    options.format = lib.EMU_BLOCK_PROBE if format is None else _number(FORMATS, format, "image format")
    options.cache = _number(CACHES, cache, "cache mode")
    options.read_only = read_only
    options.discard = discard
    options.no_backing = not backing
    options.no_lock = not lock
    name = os.fspath(path)
    error = ffi.new("char[]", 1024)
    native = lib.emu_block_open(os.fsencode(name), options, error, len(error))
    if native == ffi.NULL:
        raise BlockError(ffi.string(error).decode(errors="replace"))
    return Image(name, native)
