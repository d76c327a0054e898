"""Memory in a snapshot: in chunks of 1 MiB, without the pages that are zero, compressed.

A chunk's section: u16 which region, u64 which chunk of it, u8 how it is compressed, a bit for each of its
pages, then these pages' contents.  In a whole snapshot a page that is not there is zero; in one that goes on
from another it is as it was there.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator

from emu.snapshot.errors import SnapshotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import Region
    from emu.snapshot.stream import Writer

PAGE = 4096
CHUNK = 1 << 20
PAGES = CHUNK // PAGE
HEAD = struct.Struct(f"<HQB{PAGES // 8}s")
PLAIN, ZLIB = 0, 1
# The fastest: memory is written once and read once.
LEVEL = 1
# How much of a chunk shows whether it is worth compressing.
PROBE = 1 << 15
# Chunks that are compressed at the same time, and those that wait to be written.
THREADS, AHEAD = 2, 6
ZERO = bytes(PAGE)


def used_chunks(region: Region) -> Iterator[int]:
    """The chunks of a region in which the host has memory; the others are zero."""
    if region.private:
        yield from range(-(-region.size // CHUNK))
        return
    at, last = 0, -1
    while at < region.size:
        try:
            start = os.lseek(region.fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        at = os.lseek(region.fd, start, os.SEEK_HOLE)
        for chunk in range(max(start // CHUNK, last + 1), -(-at // CHUNK)):
            yield chunk
            last = chunk


def dirty_chunks(written: bytes) -> Iterator[tuple[int, int]]:
    """Chunks with pages that were written, and which, from a bitmap of accel's dirty()."""
    step = PAGES // 8
    for chunk in range(-(-len(written) // step)):
        bits = int.from_bytes(written[chunk * step : (chunk + 1) * step], "little")
        if bits:
            yield chunk, bits


def encoded(number: int, region: Region, chunk: int, pages: int | None = None) -> tuple[bytes, bytes] | None:
    """A chunk's section in two parts; None if all is zero.  pages: a bit for each to take, zero or not."""
    base = chunk * CHUNK
    memory = region.buffer[base : base + CHUNK]
    data = bytes(memory)
    count = -(-len(data) // PAGE)
    if pages is None:
        pages = 0
        for page in range(count):
            if data[page * PAGE : (page + 1) * PAGE] != ZERO:
                pages |= 1 << page
        if not pages:
            return None
    if pages != (1 << count) - 1:
        data = b"".join(data[page * PAGE : (page + 1) * PAGE] for page in range(count) if pages >> page & 1)
    method, packed = PLAIN, data
    if len(zlib.compress(data[:PROBE], LEVEL)) < PROBE * 9 // 10 or len(data) <= PROBE:
        squeezed = zlib.compress(data, LEVEL)
        if len(squeezed) < len(data) * 9 // 10:
            method, packed = ZLIB, squeezed
    return HEAD.pack(number, chunk, method, pages.to_bytes(PAGES // 8, "little")), packed


def write(
    writer: Writer, wanted: Iterator[tuple[int, Region, int, int | None]], told: Callable[[int], None]
) -> None:
    """Writes chunks, compressed by several threads; `told` is called with the bytes of memory done so far."""
    from concurrent.futures import Future, ThreadPoolExecutor

    done = 0
    waiting: deque[Future[tuple[bytes, bytes] | None]] = deque()

    def put() -> None:
        nonlocal done
        parts = waiting.popleft().result()
        if parts is not None:
            writer.section("ram", 1, *parts)
        done += CHUNK
        told(done)

    with ThreadPoolExecutor(THREADS) as pool:
        for each in wanted:
            waiting.append(pool.submit(encoded, *each))
            if len(waiting) > AHEAD:
                put()
        while waiting:
            put()


class Chunk:
    """A chunk that was read: pages, a bit each, and their contents one after the other."""

    __slots__ = ("base", "data", "pages", "region")

    def __init__(self, region: Region, base: int, pages: int, data: bytes) -> None:
        self.region = region
        self.base = base
        self.pages = pages
        self.data = data

    def apply(self) -> None:
        """Puts it into memory."""
        memory, at, pages, page = self.region.buffer, 0, self.pages, 0
        while pages:
            skip = (pages & -pages).bit_length() - 1
            page, pages = page + skip, pages >> skip
            run = (~pages & pages + 1).bit_length() - 1
            size = run * PAGE
            place = self.base + page * PAGE
            memory[place : place + size] = self.data[at : at + size]
            page, pages, at = page + run, pages >> run, at + size


def decoded(data: bytes, regions: list[Region]) -> Chunk:
    """The chunk of a section.  Raises SnapshotError."""
    if len(data) < HEAD.size:
        raise SnapshotError("a chunk of the snapshot's memory is cut off; use another copy")
    number, chunk, method, bits = HEAD.unpack_from(data)
    pages, packed = int.from_bytes(bits, "little"), data[HEAD.size :]
    count = pages.bit_count()
    fits = number < len(regions) and chunk * CHUNK + pages.bit_length() * PAGE <= regions[number].size
    if method == ZLIB:
        unpacker = zlib.decompressobj()
        try:
            packed = unpacker.decompress(packed, count * PAGE + 1)
        except zlib.error:
            fits = False
        fits = fits and unpacker.eof and not unpacker.unused_data
    elif method != PLAIN:
        fits = False
    if not fits or not count or len(packed) != count * PAGE:
        raise SnapshotError("a chunk of the snapshot's memory makes no sense; it is damaged, or another's")
    return Chunk(regions[number], chunk * CHUNK, pages, packed)


def blank(region: Region) -> None:
    """Makes all of a region zero, and gives its memory back to the host."""
    if region.private:
        for base in range(0, region.size, CHUNK):
            memory = region.buffer[base : base + CHUNK]
            if any(memory):
                memory[:] = bytes(len(memory))
        return
    os.ftruncate(region.fd, 0)
    os.ftruncate(region.fd, region.size)
