"""A PCI Express host bridge: configuration space in memory, 4 KiB a function, 1 MiB a bus.

Source: PCI Express Base Specification 3.0, section 7.2.2 (ECAM).
"""

from __future__ import annotations

from emu.device import Context
from emu.devices.pci import CONFIG_SIZE, PciBus, PciFunction

BUS_SIZE = 1 << 20


class PciEcam(PciBus):
    """The bridge, with room for 16 buses.

    What no function answers in its windows reads all ones and takes writes, as on a bus where nobody claims
    an access.
    """

    size = 16 * BUS_SIZE

    def realize(self, context: Context) -> None:
        for number, (base, size) in enumerate(self.windows):
            nobody = context.memory.add_io(f"{self.name}-window{number}", base, size, priority=-1)
            nobody.ops(lambda offset, width: (1 << 8 * width) - 1, None)
        super().realize(context)

    def read(self, offset: int, width: int) -> int:
        function = self._at(offset)
        if function is None:
            return (1 << 8 * width) - 1
        at = offset & 0xFFF
        # There are no extended capabilities behind the first 256 bytes.
        return function.read(at, width) if at < CONFIG_SIZE else 0

    def write(self, offset: int, width: int, value: int) -> None:
        function = self._at(offset)
        if function is not None and offset & 0xFFF < CONFIG_SIZE:
            function.write(offset & 0xFFF, width, value)

    def _at(self, offset: int) -> PciFunction | None:
        return self.at(offset // BUS_SIZE, offset >> 15 & 31, offset >> 12 & 7)
