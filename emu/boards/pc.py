"""pc: an x86-64 PC with Intel's i440FX and PIIX3, as QEMU's board of that name, and virtio devices by PCI.

What guests and libvirt need of it: the PCI bus behind ports CF8h to CFFh, its four interrupt wires through
the PIIX3 to the interrupts 10 and 11, and ACPI tables that tell of both.  Devices come and go in the slots
of the bus while the guest runs, by ACPI.  There are no IDE disks and no screen.  Without a kernel or firmware
it starts Debian's SeaBIOS.
"""

from __future__ import annotations

from emu.boards.pc_base import FOUR_GIB, PcBoard
from emu.boards.pc_tables import EVENTS_BASE, PM_BASE, SCI, SLOTS_BASE, slot_methods
from emu.devices.acpi_pm import AcpiEvents
from emu.devices.acpi_slots import EVENT, AcpiSlots
from emu.devices.apic import IO_BASE
from emu.devices.pci import INTERRUPT_LINE, INTERRUPT_PIN, SLOTS, PciFunction, settle
from emu.devices.pci_host import PORTS, PciHost
from emu.devices.piix3 import ROUTABLE, Piix3, host_bridge, power_management
from emu.loader.acpi import (
    address_space,
    call,
    device,
    eisa_id,
    integer,
    method,
    name,
    package,
    ports,
    resources,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine

# What firmware connects the four wires to.
WIRES = (10, 10, 11, 11)
# Before the bus' ports, and behind them.
CONFIGURATION = 0xCF8
# Behind the last address that guests put something at.
ADDRESSES = 1 << 40


class Pc(PcBoard):
    """The board; see the module."""

    default_firmware = "/usr/share/seabios/bios-256k.bin"
    level_lines = (SCI, *sorted(set(WIRES)))
    virtio_by_pci = True

    def host_bridge(self, machine: Machine) -> PciHost:
        self.isa = Piix3({number: self.line(number) for number in ROUTABLE})
        functions: dict[tuple[int, int], PciFunction] = {
            (0, 0): host_bridge(),
            (1, 0): self.isa,
            (1, 3): power_management(PM_BASE, SCI),
        }
        self.own_slots = {slot for slot, _ in functions}
        settle(self.pci_functions(machine), functions)
        above = FOUR_GIB + self.high
        self.pci = PciHost(functions, (self._window(), (above, ADDRESSES - above)))
        self.pci.wire(self.isa.wires, self.controllers.apic.msi)
        return self.pci

    def build(self, machine: Machine) -> None:
        super().build(machine)
        if self.acpi:
            assert machine.ports is not None
            events = AcpiEvents(self.pm)
            machine.ports.attach("acpi-events", events, EVENTS_BASE)
            machine.ports.attach("acpi-slots", AcpiSlots(self.pci, events, self.own_slots), SLOTS_BASE)

    def events(self) -> list[bytes]:
        return [method(f"_E{EVENT:02X}", call("\\_SB.PCI0.PCNT"))]

    def _window(self) -> tuple[int, int]:
        """Base and size of what the bus has of the memory below 4 GiB: all behind RAM, to the I/O APIC."""
        return self.low, IO_BASE - self.low

    def _irq(self, slot: int, pin: int) -> int:
        return WIRES[(self.pci.wire_of(slot) + pin) % 4]

    def load(self, machine: Machine) -> None:
        super().load(machine)
        if not self.firmware(machine):
            # As firmware leaves it, for kernels that believe it.
            self.isa.route(WIRES)
            self.controllers.by_level(set(WIRES))
            for (slot, _), function in self.pci.functions.items():
                pin = function.get(INTERRUPT_PIN, 1)
                if pin and function is not self.isa:
                    function.put(INTERRUPT_LINE, self._irq(slot, pin - 1), 1)

    def namespace(self, machine: Machine) -> list[bytes]:
        base, size = self._window()
        windows = resources(
            address_space("bus", 0, 0x100),
            ports(CONFIGURATION, PORTS),
            address_space("ports", 0, CONFIGURATION),
            address_space("ports", CONFIGURATION + PORTS, 0x1_0000 - CONFIGURATION - PORTS),
            address_space("memory", 0xA_0000, 0x2_0000),
            address_space("memory", base, size),
        )
        routes = [
            package(integer(slot << 16 | 0xFFFF), integer(pin), integer(0), integer(self._irq(slot, pin)))
            for slot in range(1, 32)
            for pin in range(4)
        ]
        slots = [slot for slot in range(SLOTS) if slot not in self.own_slots]
        taken = resources(ports(SLOTS_BASE, AcpiSlots.size), ports(EVENTS_BASE, AcpiEvents.size))
        return [
            device(
                "PCI0",
                name("_HID", eisa_id("PNP0A03")),
                name("_UID", integer(0)),
                name("_CRS", windows),
                name("_PRT", package(*routes)),
                *slot_methods(slots),
                device("PHPR", name("_HID", eisa_id("PNP0C02")), name("_CRS", taken)),
            )
        ]
