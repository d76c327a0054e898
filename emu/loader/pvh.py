"""PVH: kernels in ELF files that are entered in 32-bit protected mode, as Linux' vmlinux and Xen's guests.

Source: Xen's docs/misc/pvh.pandoc (the boot ABI), public/elfnote.h, public/arch-x86/hvm/start_info.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from accel.errors import BadImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.loader.elf import Elf

NOTE = (b"Xen", 18)  # XEN_ELFNOTE_PHYS32_ENTRY
MAGIC, VERSION = 0x336E_C578, 1
HEADER, MODULE, RANGE = "<IIIIQQQQII", "<QQQQ", "<QQII"


def pvh_entry(elf: Elf) -> int | None:
    """The physical address where the kernel is entered; None for what is entered in another way.

    Raises BadImage for an entry that is none.
    """
    for name, kind, description in elf.notes():
        if (name, kind) != NOTE:
            continue
        if len(description) not in (4, 8):
            raise BadImage(f"its PVH entry has {len(description)} bytes, not 4 or 8; it is damaged")
        entry = int.from_bytes(description, "little")
        if not any(part.paddr <= entry < part.paddr + len(part.data) for part in elf.segments):
            raise BadImage(f"its PVH entry, {entry:#x}, lies in none of its segments; it is damaged")
        return entry
    return None


def start_info(
    at: int, *, command_line: int, initrd: tuple[int, int], rsdp: int, memory: Iterable[tuple[int, int, int]]
) -> bytes:
    """What the kernel is told of its machine by, for the address `at`: the structure and what it points to.

    command_line: its address; initrd: address and size, which may be 0; rsdp: the address of ACPI's, or 0;
    memory: the map, as (base, size, type as in e820).
    """
    ranges = b"".join(struct.pack(RANGE, *entry, 0) for entry in memory)
    modules = struct.pack(MODULE, *initrd, 0, 0) if initrd[1] else b""
    modules_at = at + struct.calcsize(HEADER)
    ranges_at = modules_at + len(modules)
    header = struct.pack(
        HEADER,
        *(MAGIC, VERSION, 0, 1 if modules else 0, modules_at if modules else 0, command_line, rsdp),
        *(ranges_at, len(ranges) // struct.calcsize(RANGE), 0),
    )
    return header + modules + ranges
