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

BACKINGS = {
    "any": lib.EMU_BLOCK_BACKING_ANY,
    "beside": lib.EMU_BLOCK_BACKING_BESIDE,
    "none": lib.EMU_BLOCK_BACKING_NONE,
}
PREALLOCATIONS = {
    "off": lib.EMU_BLOCK_OFF,
    "metadata": lib.EMU_BLOCK_METADATA,
    "falloc": lib.EMU_BLOCK_FALLOC,
}

# What a user can do about an error of the host's.
REMEDIES = {
    errno.ENOSPC: "free some space on the host's disk",
    errno.EROFS: "open the image for writing",
    errno.EINVAL: "stay inside the image",
    errno.EBUSY: "it is being copied, or copied to; end that first (block-job-cancel)",
    errno.EPERM: "give the image's format, format=raw",
    errno.EFBIG: "choose a smaller disk, or an image with larger clusters",
    errno.EOPNOTSUPP: "a device keeps its size, and an image with snapshots does not shrink: copy it first",
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
    version: int  # qcow2's; 0 for raw, and so on
    refcount_bits: int
    snapshots: int
    dirty: bool  # it was not closed
    corrupt: bool
    backing: str | None  # the file that it stands on, as it was opened


@dataclass(frozen=True, slots=True)
class Report:
    """What a check of an image's tables found, in clusters."""

    allocated: int  # of the guest's data
    errors: int  # tables that contradict each other: data may be lost
    leaks: int  # of the file, and nothing refers to them
    repaired: int  # of both


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
            version=found.version,
            refcount_bits=found.refcount_bits,
            snapshots=found.snapshots,
            dirty=bool(found.dirty),
            corrupt=bool(found.corrupt),
            backing=None if found.backing == ffi.NULL else os.fsdecode(ffi.string(found.backing)),
        )

    def check(self, *, repair: bool = False) -> Report:
        """Compares the image's tables with each other; with `repair`, counts of clusters are set right."""
        found = ffi.new("emu_block_report *")
        self._check(lib.emu_block_check(self.native, repair, found), "check", 0, self.size)
        return Report(found.allocated, found.errors, found.leaks, found.repaired)

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
    backing: str = "any",
    lock: bool = True,
) -> Image:
    """Opens the image at `path`.

    format: "raw" or "qcow2"; None looks at its first bytes.
    cache: "writeback" (the host's page cache until a flush), "none" (O_DIRECT), "writethrough" (every write
        is flushed), "unsafe" (a flush does nothing).
    discard: a guest's discards free space on the host.
    backing: which files an image may name to stand on, that the guest then sees: "any", "beside" (in the
        image's folder, or below), "none".
    """
    options = ffi.new("emu_block_options *")
    options.format = lib.EMU_BLOCK_PROBE if format is None else _number(FORMATS, format, "image format")
    options.cache = _number(CACHES, cache, "cache mode")
    options.read_only = read_only
    options.discard = discard
    options.backing = _number(BACKINGS, backing, "rule for backing files")
    options.no_lock = not lock
    name = os.fspath(path)
    error = ffi.new("char[]", 1024)
    native = lib.emu_block_open(os.fsencode(name), options, error, len(error))
    if native == ffi.NULL:
        raise BlockError(ffi.string(error).decode(errors="replace"))
    return Image(name, native)


def create(
    path: str | os.PathLike[str],
    size: int | None = None,
    *,
    format: str = "qcow2",
    preallocation: str = "off",
    cluster_size: int = 65536,
    version: int = 3,
    refcount_bits: int = 16,
    lazy_refcounts: bool = False,
    backing: str | os.PathLike[str] | None = None,
    backing_format: str | None = None,
) -> None:
    """Makes the image `path`, which must not exist yet, of `size` bytes.

    preallocation: "off", "metadata" (qcow2: its tables), "falloc" (all of its space).
    backing: what the image shows where nothing was written; relative names are so to the image's folder.  Its
        format must be said.  Without a `size` the image has its backing file's.
    """
    name = os.fspath(path)
    new = ffi.new("emu_block_new *")
    new.format = _number(FORMATS, format, "image format")
    new.preallocation = _number(PREALLOCATIONS, preallocation, "preallocation")
    if format == "raw" and (backing is not None or preallocation == "metadata"):
        raise BlockError(f"{name}: a raw image has neither tables nor a backing file: choose format=qcow2")
    if not 512 <= cluster_size <= 1 << 21 or cluster_size & (cluster_size - 1):
        raise BlockError(f"{name}: clusters of {cluster_size} bytes: choose a power of 2 from 512 to 2097152")
    if version not in (2, 3):
        raise BlockError(f"{name}: version {version} of qcow2: choose 2 or 3")
    if refcount_bits not in (1, 2, 4, 8, 16, 32, 64) or (version == 2 and refcount_bits != 16):
        raise BlockError(f"{name}: refcounts of {refcount_bits} bits: choose 16, or in version 3 1 to 64")
    if version == 2 and lazy_refcounts:
        raise BlockError(f"{name}: version 2 of qcow2 has no lazy refcounts: choose version 3")
    keep = []
    if backing is not None:
        if backing_format is None:
            raise BlockError(f"{name}: say the backing file's format (raw or qcow2)")
        if preallocation != "off":
            raise BlockError(f"{name}: an image with a backing file cannot be preallocated: choose off")
        _number(FORMATS, backing_format, "image format")
        below = os.fspath(backing)
        where = os.path.join(os.path.dirname(name), below)  # noqa: PTH118, PTH120 (as C joins them)
        # Only its size is read, and a machine that runs may be writing to it.
        with open(where, format=backing_format, read_only=True, lock=False) as image:
            size = image.size if size is None else size
        keep = [ffi.new("char[]", os.fsencode(below)), ffi.new("char[]", backing_format.encode())]
        new.backing, new.backing_format = keep
    if size is None or size < 0 or size % 512 or size >= 1 << 62:
        raise BlockError(f"{name}: an image cannot have {size} bytes: give a multiple of 512")
    new.size, new.cluster_size, new.version = size, cluster_size, version
    new.refcount_bits, new.lazy_refcounts = refcount_bits, lazy_refcounts
    error = ffi.new("char[]", 1024)
    if lib.emu_block_create(os.fsencode(name), new, error, len(error)):
        raise BlockError(ffi.string(error).decode(errors="replace"))


def resize(path: str | os.PathLike[str], size: int, *, format: str | None = None) -> None:
    """Gives the image at `path` a new size, in bytes; what is added reads as zeroes."""
    with open(path, format=format) as image:
        image.resize(size)


def info(path: str | os.PathLike[str], *, format: str | None = None) -> Info:
    """What there is to know of the image at `path`, which somebody may be using."""
    with open(path, format=format, read_only=True, lock=False) as image:
        return image.info()


def check(path: str | os.PathLike[str], *, format: str | None = None, repair: bool = False) -> Report:
    """Compares the tables of the image at `path` with each other; with `repair`, counts are set right."""
    with open(path, format=format, read_only=not repair) as image:
        return image.check(repair=repair)
