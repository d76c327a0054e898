"""The memory map: AddressSpace and its Regions.

Terms are QEMU's memory API's: RAM, ROM, I/O, priority; `base` is an address, `offset` lies within a region,
`size` is in bytes, `width` is one access's size in bytes.

The C core holds the truth (regions, flat view, registers); this module gives it names, tells listeners, and
turns its answers into errors that a person can act on.

Lock order: AddressSpace._lock is taken for changes only, and released before listeners' own locks matter:
listeners are called with it held and must not change the map.  No lock is held while a device's hook runs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import contextmanager

from accel.errors import MapError, Overlap
from accel.native import called_from_c, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, Protocol
else:
    Protocol = object  # typing costs every start 5 ms

RAM, ROM, IO = 1, 2, 3
KIND_NAMES = {RAM: "ram", ROM: "rom", IO: "io"}
WIDTHS = (1, 2, 4, 8)

ReadHook = Callable[[int, int], int]
WriteHook = Callable[[int, int, int], None]


class Register:
    """One register of an I/O region.

    offset: within the region, a multiple of width; width: 1, 2, 4 or 8 bytes; reset: value at reset;
    write_mask: bits that a guest's write changes; w1c: bits that writing 1 clears; read_hook, write_hook:
    whether the region's hooks are called (else C answers); clear_on_read: a read leaves 0.
    """

    __slots__ = ("clear_on_read", "offset", "read_hook", "reset", "w1c", "width", "write_hook", "write_mask")

    def __init__(
        self,
        offset: int,
        width: int = 4,
        *,
        reset: int = 0,
        write_mask: int = 0,
        w1c: int = 0,
        read_hook: bool = False,
        write_hook: bool = False,
        clear_on_read: bool = False,
    ) -> None:
        self.offset = offset
        self.width = width
        self.reset = reset
        self.write_mask = write_mask
        self.w1c = w1c
        self.read_hook = read_hook
        self.write_hook = write_hook
        self.clear_on_read = clear_on_read


class Range:
    """A piece of the flat view: [base, base+size) is `region` from `offset` on."""

    __slots__ = ("base", "offset", "region", "size")

    def __init__(self, base: int, size: int, offset: int, region: Region) -> None:
        self.base = base
        self.size = size
        self.offset = offset
        self.region = region

    def key(self) -> tuple[int, int, int, int]:
        """Identity for comparing two views."""
        return (self.base, self.size, self.offset, id(self.region))

    def __repr__(self) -> str:
        return f"{span(self.base, self.size)} {self.region.name}+{self.offset:#x}"


class Listener(Protocol):
    """An engine that follows the map (KVM's slots, Unicorn's mappings)."""

    def range_removed(self, piece: Range) -> None:
        """The piece is gone; told before additions."""

    def range_added(self, piece: Range) -> None:
        """The piece is new."""


def span(base: int, size: int) -> str:
    """A range as people read it: first and last address in hex."""
    return f"{base:#x}-{base + size - 1:#x}"


class Region:
    """A named piece of the map: RAM, ROM or I/O.  Made by AddressSpace.add_*; see there for the arguments."""

    def __init__(
        self, space: AddressSpace, name: str, base: int, size: int, kind: int, priority: int
    ) -> None:
        self.space = space
        self.name = name
        self.base = base
        self.size = size
        self.kind = kind
        self.priority = priority
        self.mapped = False
        self.tracked = False
        # Once it was copied, or is a copy: what is written is its own, and no longer in the memfd.
        self.private = False
        self._sharers: set[int] = set()  # identities of all that stand on the same memfd, if private
        self.fd = -1
        self.host: Any = ffi.NULL
        self.pointer: Any = ffi.NULL
        self._read: ReadHook | None = None
        self._write: WriteHook | None = None
        self._handle = ffi.new_handle(self)
        if not 0 < size < 1 << 64:
            raise MapError(f"{name}: a region has 1 to 2^64-1 bytes, not {size:#x}")
        if kind != IO:
            fd = ffi.new("int *")
            # The kernel takes at most 249 bytes of name; it shows in /proc/self/maps only.
            label = name.encode(errors="replace").replace(b"\0", b" ")[:64]
            self.host = lib.emu_memory_new(label, size, fd)
            if self.host == ffi.NULL:
                reason = os.strerror(ffi.errno)
                raise MapError(f"{name}: cannot reserve {size:#x} bytes of memory ({reason}); ask for less")
            self.fd = fd[0]
        self.pointer = lib.emu_region_new(kind, size, self.host)
        if self.pointer == ffi.NULL:
            self._free()
            raise MemoryError(name)

    def __repr__(self) -> str:
        return f"<{KIND_NAMES[self.kind]} {self.name} {span(self.base, self.size)}>"

    def _free(self) -> None:
        if self.pointer != ffi.NULL:
            lib.emu_region_free(self.pointer)
            self.pointer = ffi.NULL
        if self.fd >= 0:
            lib.emu_memory_free(self.host, self.size, self.fd)
            self.fd = -1
            self.host = ffi.NULL
            self._sharers.discard(id(self))

    def _live(self) -> Any:
        if self.pointer == ffi.NULL:
            raise MapError(f"{self.name}: the memory map it belongs to is closed")
        return self.pointer

    def become(self, other: Region) -> None:
        """Has the content of another of the same size from now on; each keeps what it writes to itself.

        Costs what was written to the other since it was copied last, if that copy lives, else since it was
        copied first.  While nobody writes to either; both stay where they are.  Raises MapError.
        """
        self._live()
        other._live()
        if self.size != other.size or IO in (self.kind, other.kind):
            raise MapError(f"{self.name}: only memory of the same size can be a copy of {other.name}")
        if not other.private:
            self._done(lib.emu_memory_private(other.host, other.size, other.fd))
            other.private = True
            other._sharers = {id(other)}
        elif len(other._sharers) == 1:
            self._done(lib.emu_memory_fold(other.host, other.size, other.fd))
        fd = os.dup(other.fd)
        try:
            self._done(lib.emu_memory_private(self.host, self.size, fd))
        except MapError:
            os.close(fd)
            raise
        os.close(self.fd)
        self._sharers.discard(id(self))
        self.fd, self.private, self._sharers = fd, True, other._sharers
        self._sharers.add(id(self))
        self._done(lib.emu_memory_copy_own(other.host, other.size, self.host))

    def _done(self, status: int) -> None:
        if status != 0:
            reason = os.strerror(-status)
            raise MapError(f"{self.name}: no copy on write ({reason}); is /proc there, and memory enough?")

    def track(self, on: bool) -> None:
        """Notes from now on, or no more, which pages are written; for engines: see Accelerator.track()."""
        if lib.emu_region_track(self._live(), on) != 0:
            raise MapError(f"{self.name}: no pages to note as written; it is no RAM, or memory is short")
        self.tracked = on

    def take_dirty(self) -> bytes:
        """The pages noted as written, a bit each, lowest of the first byte first; begins anew."""
        words = ffi.new("uint64_t[]", lib.emu_region_dirty_words(self._live()))
        lib.emu_region_take_dirty(self.pointer, words)
        return bytes(ffi.buffer(words))[: -(-self.size // (8 * lib.EMU_PAGE))]

    @property
    def buffer(self) -> memoryview:
        """RAM or ROM as the host's own memory, writable; no copy."""
        if self.kind == IO:
            raise MapError(f"{self.name} is I/O and has no host memory; use RAM or read its registers")
        self._live()
        return memoryview(ffi.buffer(self.host, self.size))

    def ops(self, read: ReadHook | None, write: WriteHook | None) -> None:
        """Python functions that serve the region: read(offset, width) -> value, write(offset, width, value).

        They answer registers declared with hooks, and every offset that no register claims; without
        them such offsets read 0 and ignore writes.  For a ROM, `write` is told of guest writes.
        An exception stops the vCPU and is raised from Vcpu.run().
        """
        pointer = self._live()
        self._read = read
        self._write = write
        lib.emu_region_hooks(
            pointer,
            lib.emu_py_read if read is not None else ffi.NULL,
            lib.emu_py_write if write is not None else ffi.NULL,
            self._handle,
        )

    def native_ops(self, read: Any, write: Any, opaque: Any) -> None:
        """C functions that serve the region (emu_read_fn, emu_write_fn of core.h); no Python."""
        lib.emu_region_hooks(self._live(), read, write, opaque)

    def registers(self, declared: Sequence[Register]) -> list[Any]:
        """Declares the registers, once, and returns their live C structures (emu_reg) in the same order.

        Raises MapError when one is misaligned, outside the region, or overlaps another.
        """
        pointer = self._live()
        if not declared:
            return []
        table = ffi.new("emu_reg[]", len(declared))
        for entry, register in zip(table, declared, strict=True):
            if register.width not in WIDTHS:
                raise MapError(
                    f"{self.name}: register at {register.offset:#x} has width {register.width};"
                    " use 1, 2, 4 or 8 bytes"
                )
            try:
                entry.offset = register.offset
                entry.width = register.width
                entry.value = entry.reset = register.reset
                entry.write_mask = register.write_mask
                entry.w1c_mask = register.w1c
            except OverflowError:
                raise MapError(
                    f"{self.name}: register at {register.offset:#x}: an offset has 32 bits, a value or mask"
                    " 64, and none is negative"
                ) from None
            entry.flags = (
                lib.EMU_REG_READ_HOOK * register.read_hook
                | lib.EMU_REG_WRITE_HOOK * register.write_hook
                | lib.EMU_REG_CLEAR_ON_READ * register.clear_on_read
            )
        status = lib.emu_region_registers(pointer, table, len(declared))
        if status == -1:
            raise MapError(
                f"{self.name}: a register is not aligned to its width, lies outside the"
                f" {self.size:#x} bytes of the region, or registers were declared before"
            )
        if status == -2:
            raise MapError(f"{self.name}: two registers overlap; move one of them")
        if status != 0:
            raise MemoryError(f"{self.name}: registers")
        return [lib.emu_region_register(pointer, i) for i in range(len(declared))]

    def doorbell(self, offset: int, eventfd: int, *, width: int = 0, match: int | None = None) -> None:
        """Makes a guest write at `offset` add 1 to an eventfd instead of running a hook.

        width 0 takes any width; with `match` only that value counts.  Declare doorbells before the
        region is mapped where an engine turns them into ioeventfds.  Raises MapError.
        """
        bell = ffi.new("emu_doorbell *", {"fd": eventfd, "has_match": match is not None})
        try:
            bell.offset = offset
            bell.width = width
            bell.match = match or 0
            status = lib.emu_region_doorbell(self._live(), bell)
        except OverflowError:
            status = -1
        if status != 0:
            raise MapError(
                f"{self.name}: no doorbell of width {width} at offset {offset:#x} of {self.size:#x};"
                " it must lie inside an I/O region and be 0 (any), 1, 2, 4 or 8 bytes wide"
            )

    def doorbells(self) -> list[Any]:
        """The doorbells as C structures (emu_doorbell), for engines."""
        count = lib.emu_region_doorbells(self._live(), ffi.NULL, 0)
        table = ffi.new("emu_doorbell[]", max(count, 1))
        lib.emu_region_doorbells(self.pointer, table, count)
        return [table[i] for i in range(count)]

    def trap(
        self, offset: int, width: int, *, read: ReadHook | None = None, write: WriteHook | None = None
    ) -> None:
        """One hooked register in an otherwise empty region; what a tracer or a test needs most often."""
        self.registers(
            [
                Register(
                    offset,
                    width,
                    read_hook=read is not None,
                    write_hook=write is not None,
                    write_mask=(1 << (8 * width)) - 1,
                )
            ]
        )
        self.ops(read, write)


class AddressSpace:
    """A memory map (or x86's port space): regions by address, seen alike by every engine.

    size: addresses 0 to size-1 exist; at most 2**64; an access never wraps to 0.  Use as a context manager,
    or call close(); a closed map refuses everything.
    """

    def __init__(self, name: str = "memory", size: int = 1 << 64) -> None:
        if not 0 < size <= 1 << 64:
            raise MapError(f"{name}: a memory map has 1 to 2^64 bytes, not {size:#x}")
        self.name = name
        self.size = size
        self.regions: list[Region] = []
        self.raised: BaseException | None = None
        self._frozen = False
        self._lock = threading.RLock()
        self._listeners: list[Listener] = []
        self._flat: list[Range] = []
        # Every region of this map, mapped or not: their memory lives until close().
        self._made: list[Region] = []
        self.pointer = lib.emu_space_new(size & (2**64 - 1))
        if self.pointer == ffi.NULL:
            raise MemoryError(name)

    # -- building ----------------------------------------------------------

    def add_ram(
        self, name: str, base: int, size: int, *, readonly: bool = False, priority: int = 0
    ) -> Region:
        """RAM of `size` bytes at `base`, in a memfd of its own; readonly makes a ROM that the host fills.

        Raises Overlap, or MapError when it does not fit.
        """
        return self._add_new(name, base, size, ROM if readonly else RAM, priority)

    def add_io(self, name: str, base: int, size: int, *, priority: int = 0) -> Region:
        """An I/O region; give it registers(), ops() or doorbell()s.  Raises as add_ram does."""
        return self._add_new(name, base, size, IO, priority)

    def new_io(self, name: str, size: int, *, priority: int = 0) -> Region:
        """An I/O region that is not mapped yet: declare registers and doorbells, then place() it."""
        with self._lock:
            return self._make(name, 0, size, IO, priority)

    def place(self, region: Region, base: int) -> Region:
        """Maps a region of new_io() or one that was removed.  Raises as add_ram does."""
        with self._lock:
            return self._map(region, base)

    def move(self, region: Region, base: int) -> None:
        """Maps the region elsewhere; the one change allowed after freeze() besides place and remove of it."""
        with self._lock:
            pointer = self._own(region)
            fits = 0 <= base < self.size
            status = lib.emu_space_move(self.pointer, pointer, base) if fits else -1
            self._check(status, region, base)
            region.base = base
            self._tell()

    def remove(self, region: Region) -> None:
        """Unmaps the region.  Its memory lives until close(): a vCPU may be inside it."""
        with self._lock:
            self._check(lib.emu_space_remove(self.pointer, self._own(region)), region, region.base)
            region.mapped = False
            self.regions.remove(region)
            self._tell()

    def freeze(self) -> None:
        """Ends the building phase: from now on new regions are refused, known ones move, leave and return."""
        self._frozen = True

    @contextmanager
    def thawed(self) -> Iterator[None]:
        """Within it new regions may be made again: those of a device that is plugged in later."""
        with self._lock:
            frozen, self._frozen = self._frozen, False
            try:
                yield
            finally:
                self._frozen = frozen

    def _make(self, name: str, base: int, size: int, kind: int, priority: int) -> Region:
        self._live()
        if self._frozen:
            raise MapError(
                f"{self.name}: {name} comes after the machine started; declare it in the board, then move()"
                " or place() it"
            )
        if not -(1 << 31) <= priority < 1 << 31:
            raise MapError(f"{name}: a priority has 32 bits, not {priority}")
        region = Region(self, name, base, size, kind, priority)
        self._made.append(region)
        return region

    def _add_new(self, name: str, base: int, size: int, kind: int, priority: int) -> Region:
        with self._lock:
            region = self._make(name, base, size, kind, priority)
            try:
                return self._map(region, base)
            except BaseException:
                if not region.mapped:  # else a listener raised, and the region stands
                    self._made.remove(region)
                    region._free()
                raise

    def _map(self, region: Region, base: int) -> Region:
        pointer = self._own(region)
        fits = 0 <= base < self.size
        self._check(
            lib.emu_space_add(self.pointer, pointer, base, region.priority) if fits else -1, region, base
        )
        region.base = base
        region.mapped = True
        self.regions.append(region)
        self._tell()
        return region

    def _live(self) -> Any:
        if self.pointer == ffi.NULL:
            raise MapError(f"{self.name}: the memory map is closed")
        return self.pointer

    def _own(self, region: Region) -> Any:
        self._live()
        if region.space is not self:
            raise MapError(
                f"{self.name}: {region.name} belongs to {region.space.name}; make a region of its own here"
            )
        return region._live()

    def _check(self, status: int, region: Region, base: int) -> None:
        if status == 0:
            return
        where = span(base, region.size)
        if status == -1:
            raise MapError(
                f"{self.name}: {region.name} at {where} does not fit below {self.size:#x};"
                " choose a lower base or a smaller size"
            )
        if status == -2:
            pointer = lib.emu_space_conflict(self.pointer)
            other = next(r for r in self.regions if r.pointer == pointer)
            raise Overlap(
                f"{self.name}: {region.name} at {where} overlaps {other.name} at"
                f" {span(other.base, other.size)}; move one, or give one a higher priority"
            )
        if status == -4:
            raise MapError(
                f"{self.name}: {region.name} is mapped already at"
                f" {span(region.base, region.size)}; use move()"
            )
        if status == -5:
            raise MapError(f"{self.name}: {region.name} is not mapped here; add it first")
        raise MemoryError(self.name)

    # -- engines -------------------------------------------------------------

    def subscribe(self, listener: Listener) -> None:
        """Tells the listener the present ranges, and from now on every change."""
        with self._lock:
            self._listeners.append(listener)
            for piece in self._flat:
                listener.range_added(piece)

    def unsubscribe(self, listener: Listener) -> None:
        """Ends the subscription; nothing more is told."""
        with self._lock:
            self._listeners.remove(listener)

    def flat(self) -> list[Range]:
        """The map as engines see it: sorted by address, without overlaps."""
        return list(self._flat)

    def _tell(self) -> None:
        count = lib.emu_space_flat(self.pointer, ffi.NULL, 0)
        table = ffi.new("emu_range[]", max(count, 1))
        lib.emu_space_flat(self.pointer, table, count)
        by_pointer = {region.pointer: region for region in self.regions}
        new = [Range(r.base, r.size, r.offset, by_pointer[r.region]) for r in table[0:count]]
        old, self._flat = self._flat, new
        if not self._listeners:
            return
        kept = {piece.key() for piece in old} & {piece.key() for piece in new}
        removed: Iterable[Range] = [piece for piece in old if piece.key() not in kept]
        added: Iterable[Range] = [piece for piece in new if piece.key() not in kept]
        for listener in self._listeners:
            for piece in removed:
                listener.range_removed(piece)
            for piece in added:
                listener.range_added(piece)

    # -- access ------------------------------------------------------------------

    def find(self, address: int) -> Range | None:
        """The range that holds an address, or None."""
        out = ffi.new("emu_range *")
        if not lib.emu_space_find(self._live(), _address(address), out):
            return None
        # Not `regions`: another thread may have removed it by now.
        region = next(r for r in self._made if r.pointer == out.region)
        return Range(out.base, out.size, out.offset, region)

    def read(self, address: int, width: int) -> int:
        """One access as a vCPU makes it, with a device's side effects.  Unmapped bytes read all ones."""
        value = ffi.new("uint64_t *")
        if lib.emu_space_read(self._live(), _address(address), _width(width), value) == lib.EMU_RAISED:
            self.reraise()
        return int(value[0])

    def write(self, address: int, width: int, value: int) -> None:
        """One write as a vCPU makes it, of the value's low bytes.  Writes to nothing are dropped."""
        value &= 0xFFFF_FFFF_FFFF_FFFF
        if lib.emu_space_write(self._live(), _address(address), _width(width), value) == lib.EMU_RAISED:
            self.reraise()

    def peek(self, address: int, size: int) -> bytes:
        """Looks without touching: RAM, ROM, and registers' shadows; no hook runs.  Short at a hole."""
        out = ffi.new("uint8_t[]", max(size, 1))
        done = lib.emu_space_peek(self._live(), _address(address), out, size)
        return bytes(ffi.buffer(out, done))

    def load(self, address: int, data: bytes | memoryview) -> None:
        """Fills RAM or ROM from the host's side.  Raises MapError when part of it lies outside."""
        source = ffi.from_buffer(data)
        done = lib.emu_space_load(self._live(), _address(address), source, len(source))
        if done != len(source):
            raise MapError(
                f"{self.name}: {len(source):#x} bytes at {address:#x} do not fit: no RAM or ROM at"
                f" {address + done:#x}; load elsewhere or give the machine more memory"
            )

    def store(self, address: int, data: bytes | memoryview) -> None:
        """Writes RAM as a device's DMA does.  Raises MapError, and writes nothing, when part is no RAM."""
        at, end = address, address + len(data)
        while at < end:
            found = self.find(at)
            if found is None or found.region.kind != RAM:
                raise MapError(
                    f"{self.name}: a device writes {len(data):#x} bytes at {address:#x}: no RAM at {at:#x}"
                )
            at = found.base + found.size
        self.load(address, data)

    def written(self, address: int, size: int) -> None:
        """Says that RAM was changed through its buffer, as a device's DMA does; load() says so itself.

        Without it an engine that keeps translations may go on running code that is no longer there.
        """
        lib.emu_space_written(self._live(), _address(address), size)

    def reraise(self) -> None:
        """Raises the exception a hook left behind, if any; engines call it when C answers EMU_RAISED."""
        raised, self.raised = self.raised, None
        if raised is not None:
            raise raised

    # -- end -------------------------------------------------------------------------

    def close(self) -> None:
        """Frees everything.  No engine may be running, and buffers of its RAM must not be used any more."""
        if self.pointer == ffi.NULL:
            return
        lib.emu_space_free(self.pointer)
        self.pointer = ffi.NULL
        for region in self._made:
            region.mapped = False
            region._free()
        self._made.clear()
        self.regions.clear()
        self._flat.clear()

    def __enter__(self) -> AddressSpace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _address(address: int) -> int:
    if not 0 <= address < 1 << 64:
        raise MapError(f"{address:#x} is no address; use 0 to 2^64-1")
    return address


def _width(width: int) -> int:
    if width not in WIDTHS:
        raise MapError(f"an access of {width} bytes; use 1, 2, 4 or 8")
    return width


# The two doors from C into Python.  An exception is kept in the space and stops the vCPU (EMU_RAISED).


def _keep(region: Region, error: BaseException) -> None:
    region.space.raised = error


@called_from_c(_keep, 2)
def emu_py_read(handle: Any, offset: int, width: int, value: Any) -> int:
    region: Region = ffi.from_handle(handle)
    assert region._read is not None
    value[0] = region._read(offset, width) & 0xFFFF_FFFF_FFFF_FFFF
    return 0


@called_from_c(_keep, 2)
def emu_py_write(handle: Any, offset: int, width: int, value: int) -> int:
    region: Region = ffi.from_handle(handle)
    assert region._write is not None
    region._write(offset, width, value)
    return 0
