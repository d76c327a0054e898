"""Reading a guest's memory without touching its devices, by physical and by virtual addresses."""

from __future__ import annotations

from typing import Any

from emu.machine import ADDRESS_SPACE
from emu.monitor.command import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine

PAGE = 4096


def physical(machine: Machine, address: int, size: int) -> bytes:
    """Bytes of RAM or ROM.  Raises CommandError where there is something else, or nothing."""
    found = b"" if address + size > ADDRESS_SPACE else machine.memory.peek(address, size)
    if len(found) < size:
        raise CommandError(f"no memory at {address + len(found):#x}; `info mtree` tells where there is some")
    return found


def virtual(machine: Machine, vcpu: Any, address: int, size: int) -> bytes:
    """Bytes at virtual addresses of a vCPU that stands still.  Raises CommandError."""
    found = bytearray()
    while len(found) < size:
        at = (address + len(found)) & ((1 << 64) - 1)
        length = min(size - len(found), PAGE - at % PAGE)
        place = vcpu.translate(at)
        if place is None:
            raise CommandError(f"no page is mapped at {at:#x}")
        found += physical(machine, place, length)
    return bytes(found)
