"""A PCI host bridge's configuration ports: mechanism 1, and the reset control register inside it; a PC's.

Source: PCI Local Bus Specification 3.0, section 3.2.2.3; Intel 82371SB (PIIX3) data sheet for CF9h.
"""

from __future__ import annotations

from emu.device import Context
from emu.devices.pci import PciBus, PciFunction

ADDRESS, DATA, RESET_CONTROL = 0, 4, 1
PORTS = 8
ENABLE = 1 << 31
# A reset when it goes from 0 to 1.
RESET_CPU = 4


class PciHost(PciBus):
    """Ports CF8h to CFFh."""

    size = PORTS
    version = 2
    state = ("address", "control", *PciBus.state)

    def __init__(
        self, functions: dict[tuple[int, int], PciFunction], windows: tuple[tuple[int, int], ...] = ()
    ) -> None:
        super().__init__(functions, windows)
        self.address = self.control = 0

    def realize(self, context: Context) -> None:
        super().realize(context)
        self.machine = context

    def reset(self) -> None:
        super().reset()
        self.address = self.control = 0

    def _selected(self) -> PciFunction | None:
        if not self.address & ENABLE:
            return None
        return self.at(self.address >> 16 & 0xFF, self.address >> 11 & 31, self.address >> 8 & 7)

    def wire_of(self, device: int) -> int:
        """Slot 1, where the ISA bridge is, begins with the first wire."""
        return (device - 1) % 4

    def read(self, offset: int, width: int) -> int:
        if offset == RESET_CONTROL and width == 1:
            return self.control
        if offset < DATA:
            return self.address >> 8 * offset
        function = self._selected()
        if function is None:
            return (1 << 8 * width) - 1
        return function.read((self.address & 0xFC) + offset - DATA, width)

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == ADDRESS and width == 4:
            self.address = value & 0x80FF_FFFC
        elif offset == RESET_CONTROL and width == 1:
            rises, self.control = value & ~self.control & RESET_CPU, value
            if rises:
                self.machine.reset()
        elif offset >= DATA:
            function = self._selected()
            if function is not None:
                function.write((self.address & 0xFC) + offset - DATA, width, value)
