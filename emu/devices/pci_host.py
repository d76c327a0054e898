"""A PCI host bridge's configuration ports: mechanism 1, and the reset control register inside it.

Source: PCI Local Bus Specification 3.0, section 3.2.2.3; Intel 82371SB (PIIX3) data sheet for CF9h.
"""

from __future__ import annotations

from emu.device import Context, Device

ADDRESS, DATA, RESET_CONTROL = 0, 4, 1
ENABLE = 1 << 31


class PciFunction:
    """A function's configuration space: 256 bytes, of which `writable` ones take what is written."""

    def __init__(
        self, vendor: int, device: int, class_code: int, *, header: int = 0, writable: tuple[range, ...] = ()
    ) -> None:
        self.config = bytearray(256)
        self.config[0:2] = vendor.to_bytes(2, "little")
        self.config[2:4] = device.to_bytes(2, "little")
        self.config[9:12] = class_code.to_bytes(3, "little")
        self.config[0x0E] = header
        self.initial = bytes(self.config)
        # The command register: I/O, memory, bus master; and the interrupt line.
        self.masks = bytearray(256)
        self.masks[4] = 0x07
        self.masks[0x3C] = 0xFF
        for places in writable:
            for at in places:
                self.masks[at] = 0xFF

    def reset(self) -> None:
        """Back to the state after power-on."""
        self.config[:] = self.initial

    def read(self, at: int, width: int) -> int:
        """Bytes of the configuration space."""
        return int.from_bytes(self.config[at : at + width], "little")

    def write(self, at: int, width: int, value: int) -> None:
        """Changes what may be changed."""
        for n, byte in enumerate(value.to_bytes(width, "little")):
            mask = self.masks[at + n]
            self.config[at + n] = self.config[at + n] & ~mask | byte & mask


class PciHost(Device):
    """Ports CF8h to CFFh over the functions of bus 0, by (device, function)."""

    size = 8
    state = ("address", "saved")

    def __init__(self, functions: dict[tuple[int, int], PciFunction]) -> None:
        super().__init__()
        self.functions = functions
        self.address = 0

    @property
    def saved(self) -> list[bytes]:
        """All configuration spaces, for snapshots."""
        return [bytes(self.functions[place].config) for place in sorted(self.functions)]

    @saved.setter
    def saved(self, spaces: list[bytes]) -> None:
        for place, config in zip(sorted(self.functions), spaces, strict=True):
            self.functions[place].config[:] = config

    def realize(self, context: Context) -> None:
        self.machine = context

    def reset(self) -> None:
        self.address = 0
        for function in self.functions.values():
            function.reset()

    def _selected(self) -> PciFunction | None:
        if not self.address & ENABLE or self.address >> 16 & 0xFF:
            return None
        return self.functions.get((self.address >> 11 & 31, self.address >> 8 & 7))

    def read(self, offset: int, width: int) -> int:
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
            if value & 4:
                self.machine.reset()
        elif offset >= DATA:
            function = self._selected()
            if function is not None:
                function.write((self.address & 0xFC) + offset - DATA, width, value)
