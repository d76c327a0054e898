"""Memory slots and ioeventfds that follow an AddressSpace.

RAM becomes a slot, ROM a read-only slot whose writes exit as MMIO, I/O none.  Only whole pages can be a
slot; what is left at a piece's edges exits as MMIO and is served from the same map.  A doorbell becomes an
ioeventfd; where the kernel has no room for it, the core's own rings (map.c).
"""

from __future__ import annotations

from accel.errors import MapError
from accel.kvm.device import checked, errno_text
from accel.memory import IO, ROM, Range, span
from accel.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from accel.memory import Region

PAGE = 4096
SLOT_LOG, SLOT_READONLY = 1, 2

IOEVENT_MATCH = 1
IOEVENT_PORT = 2
IOEVENT_REMOVE = 4


class Doorbells:
    """Listens to a map and keeps an ioeventfd per visible doorbell.  `ports`: the map is the port space.

    refused: why the kernel took none for a doorbell, which then rings in the run loop.
    """

    def __init__(self, vm: int, ports: bool, any_width: bool) -> None:
        self._vm = vm
        self._flags = IOEVENT_PORT if ports else 0
        self._any_width = any_width
        self._events: dict[tuple[int, int, int, int], list[Any]] = {}
        self.refused: list[str] = []

    def range_added(self, piece: Range) -> None:
        if piece.region.kind != IO:
            return
        events = []
        for bell in piece.region.doorbells():
            if not piece.offset <= bell.offset < piece.offset + piece.size:
                continue
            for width in self._widths(bell):
                if bell.offset + width > piece.offset + piece.size:
                    continue
                event = ffi.new("emu_kvm_ioevent *")
                event.base = piece.base + bell.offset - piece.offset
                event.width = width
                event.fd = bell.fd
                event.flags = self._flags | (IOEVENT_MATCH if bell.has_match else 0)
                event.match = bell.match & ((1 << 8 * width) - 1) if bell.has_match else 0
                status = lib.emu_kvm_ioctl(self._vm, lib.EMU_KVM_IOEVENTFD, event)
                if status == 0:
                    events.append(event)
                else:
                    self.refused.append(f"{event.base:#x}: {errno_text(status)}")
        if events:
            self._events[piece.key()] = events

    def range_removed(self, piece: Range) -> None:
        for event in self._events.pop(piece.key(), ()):
            event.flags |= IOEVENT_REMOVE
            lib.emu_kvm_ioctl(self._vm, lib.EMU_KVM_IOEVENTFD, event)

    def _widths(self, bell: Any) -> tuple[int, ...]:
        if bell.width:
            return (bell.width,)
        if self._any_width and not bell.has_match:
            return (0,)
        return (1, 2, 4) if self._flags & IOEVENT_PORT else (1, 2, 4, 8)


class Slots:
    """Listens to the memory map and keeps a slot for every run of whole pages of RAM or ROM."""

    def __init__(self, vm: int, limit: int) -> None:
        self._vm = vm
        self._limit = limit
        self._free: list[int] = []
        self._next = 0
        self._by_piece: dict[tuple[int, int, int, int], tuple[Any, Region]] = {}
        self._tracked: set[Region] = set()

    def range_added(self, piece: Range) -> None:
        if piece.region.kind == IO or (piece.base - piece.offset) % PAGE:
            return
        first = -(-piece.base // PAGE) * PAGE
        end = (piece.base + piece.size) // PAGE * PAGE
        if first >= end:
            return
        if not self._free and self._next >= self._limit:
            raise MapError(
                f"KVM has only {self._limit} memory slots, none is left for {piece!r}; use fewer RAM regions"
            )
        slot = ffi.new("emu_kvm_slot *")
        slot.slot = self._free.pop() if self._free else self._take_next()
        slot.flags = SLOT_READONLY if piece.region.kind == ROM else 0
        if piece.region in self._tracked:
            slot.flags |= SLOT_LOG
        slot.base = first
        slot.size = end - first
        host = int(ffi.cast("uintptr_t", piece.region.host))
        slot.host = host + piece.offset + (first - piece.base)
        status = lib.emu_kvm_ioctl(self._vm, lib.EMU_KVM_SET_USER_MEMORY_REGION, slot)
        if status < 0:
            self._free.append(slot.slot)
            raise MapError(
                f"KVM refuses {piece.region.name} at {span(piece.base, piece.size)} ({errno_text(status)});"
                " keep it below the host CPU's physical address limit and away from other memory"
            )
        self._by_piece[piece.key()] = slot, piece.region

    def range_removed(self, piece: Range) -> None:
        slot, region = self._by_piece.pop(piece.key(), (None, None))
        if slot is None or region is None:
            return
        if slot.flags & SLOT_LOG:
            self._note(slot, region)
        slot.size = 0
        slot.flags = 0
        lib.emu_kvm_ioctl(self._vm, lib.EMU_KVM_SET_USER_MEMORY_REGION, slot)
        self._free.append(slot.slot)

    def tracks(self, region: Region) -> bool:
        """Whether the kernel logs writes to a region's slots."""
        return region in self._tracked

    def track(self, region: Region, on: bool) -> None:
        """Has the kernel log writes to a region's slots, or no more."""
        (self._tracked.add if on else self._tracked.discard)(region)
        for slot, owner in self._by_piece.values():
            if owner is region:
                slot.flags = slot.flags & ~SLOT_LOG | SLOT_LOG * on
                checked(
                    lib.emu_kvm_ioctl(self._vm, lib.EMU_KVM_SET_USER_MEMORY_REGION, slot),
                    f"log writes to {region.name}",
                    "free memory on the host",
                )

    def note(self, region: Region) -> None:
        """Marks the region's pages that the kernel saw written; its log begins anew."""
        for slot, owner in self._by_piece.values():
            if owner is region and slot.flags & SLOT_LOG:
                self._note(slot, region)

    def _note(self, slot: Any, region: Region) -> None:
        bits = ffi.new("uint64_t[]", -(-slot.size // (64 * PAGE)))
        log = ffi.new("emu_kvm_dirty_log *", {"slot": slot.slot, "bitmap": bits})
        checked(
            lib.emu_kvm_ioctl(self._vm, lib.EMU_KVM_GET_DIRTY_LOG, log),
            f"tell which pages of {region.name} were written",
            "track it again",
        )
        offset = slot.host - int(ffi.cast("uintptr_t", region.host))
        lib.emu_region_mark_pages(region.pointer, offset, bits, len(bits))

    def _take_next(self) -> int:
        self._next += 1
        return self._next - 1
