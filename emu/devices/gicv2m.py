"""GICv2m: a frame that turns messages (MSI) into interrupts of a GIC that knows none.

What it does is in C (native/gicv2m.c): messages come from the threads of devices.  Source: Arm Server Base
System Architecture (DEN0029B), appendix E.
"""

from __future__ import annotations

from typing import Any

from emu.device import Device
from emu.devices.gic import FIRST_SPI, Gic
from emu.devices.native import cast, ffi, function, lib, opaque


class Gicv2m(Device):
    """A frame for the board's interrupts `first` to first+count-1; base: the address that messages name."""

    # Its node is the controller's child: the board describes it.
    compatible = ""

    def __init__(self, gic: Gic, base: int, first: int = 48, count: int = 64) -> None:
        super().__init__()
        self.lines = [gic.line(first + n) for n in range(count)]
        pointers = [cast("emu_irq *", line.pointer) for line in self.lines]
        made = lib.emu_gicv2m_new(base, FIRST_SPI + first, count, pointers)
        if made == ffi.NULL:
            raise MemoryError(self.name)
        self.pointer = ffi.gc(made, lib.emu_gicv2m_free)

    def native(self) -> tuple[Any, Any, Any]:
        read = function("emu_gicv2m_read", "emu_read_fn")
        write = function("emu_gicv2m_write", "emu_write_fn")
        return read, write, opaque(self.pointer)

    @property
    def msi(self) -> tuple[str, Any]:
        """What PciBus.wire takes."""
        return "emu_gicv2m_message", self.pointer
