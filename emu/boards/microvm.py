"""microvm: a small x86-64 PC whose virtio devices are found by MMIO; without disks or screen besides.

Enough of the i440FX's configuration space is there for firmware that was built for QEMU's pc to find its way.
Where ACPI does not tell of virtio devices the kernel's command line does.
"""

from __future__ import annotations

from typing import ClassVar

from emu.board import Slots
from emu.boards.pc_base import PcBoard
from emu.devices.pci_host import PciHost
from emu.devices.piix3 import Piix3, host_bridge
from emu.loader.acpi import device, integer, interrupt, memory32, name, resources, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine


class Microvm(PcBoard):
    """The board; see the module."""

    slots: ClassVar[Slots] = Slots(0xFEB0_0000, 0x200, irq=16, count=8)
    virtio = slots

    def host_bridge(self, machine: Machine) -> PciHost:
        return PciHost({(0, 0): host_bridge(), (1, 0): Piix3({})})

    def inputs(self) -> tuple[int, ...]:
        return tuple(range(self.slots.irq, self.slots.irq + self.slots.count))

    def _places(self, machine: Machine) -> list[tuple[int, int]]:
        """Address and interrupt of each virtio device."""
        slots = self.slots
        return [(slots.base + n * slots.step, slots.irq + n) for n in range(len(machine.virtio))]

    def namespace(self, machine: Machine) -> list[bytes]:
        return [
            device(
                f"VR{number:02X}",
                name("_HID", string("LNRO0005")),
                name("_UID", integer(number)),
                name("_CCA", integer(1)),
                name("_CRS", resources(memory32(base, self.slots.step), interrupt(irq))),
            )
            for number, (base, irq) in enumerate(self._places(machine))
        ]

    def announced(self, machine: Machine) -> list[str]:
        step = self.slots.step
        return [f"virtio_mmio.device={step:#x}@{base:#x}:{irq}" for base, irq in self._places(machine)]
