"""The slots of a PC's PCI bus: what comes and goes in them while the guest runs, by methods of the board's.

The registers say which slots something was plugged into, and which are to be emptied; an event has the
board's method look at them.  The guest lets go of a device and writes its slot's bit to EJECT.

Source: QEMU's docs/specs/acpi_pci_hotplug.rst.  There is one bus, number 0.
"""

from __future__ import annotations

from typing import ClassVar

from accel.errors import DeviceError
from emu.device import Context, Device
from emu.devices.acpi_pm import AcpiEvents
from emu.devices.pci import SLOTS, PciBus, PciFunction
from emu.devices.pci_bridge import PciBridge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Registers, of 32 bits; all but BUS are of the bus that BUS names.
UP, DOWN, EJECT, REMOVABLE, BUS, INDEX = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14
# The event that has the board's method look at them.
EVENT = 1


class AcpiSlots(Device):
    """The registers, and the slots of `bus`; what is in `fixed` ones stays there.

    up, down: those that something was plugged into, and those whose guest was asked to let go; by bit.  gone:
    called, in whatever thread, with what was in a slot when the guest has let go of it.
    """

    size = 0x18
    state: ClassVar[tuple[str, ...]] = ("up", "down", "selected")
    # Nanoseconds after which the guest may be asked again: it hears nothing before its ACPI is up.
    patience = 1_000_000

    def __init__(self, bus: PciBus, events: AcpiEvents, fixed: set[int]) -> None:
        super().__init__()
        self.lock = bus.lock  # what is in the slots changes with them
        self.bus = bus
        self.fixed = fixed
        self.gone: Callable[[list[PciFunction]], None] = lambda functions: None
        self._events = events
        self.up = self.down = self.selected = 0

    # -- for who plugs in and pulls out ------------------------------------------------

    @property
    def there(self) -> dict[tuple[int, int], PciFunction]:
        """What is on the bus."""
        return self.bus.functions

    def plugged(self) -> list[PciFunction]:
        """What is in the slots that are not fixed."""
        return [one for (slot, _), one in sorted(self.bus.functions.items()) if self._removable(slot)]

    def insert(self, function: PciFunction, context: Context) -> None:
        """Plugs a function in, where it wants or in the first free slot, and tells the guest.

        Raises DeviceError.
        """
        taken = {slot for slot, _ in self.bus.functions}
        if function.place is None:
            free = [slot for slot in range(SLOTS) if slot not in taken]
            if not free:
                raise DeviceError(f"all {SLOTS} slots of the bus are taken; pull something out first")
            function.place = (free[0], 0)
        slot, number = function.place
        if number or not 0 <= slot < SLOTS:
            raise DeviceError(
                f"PCI: nothing is plugged in at {slot:#x}.{number:#x}; give one of the slots 0x2 to 0x1f"
            )
        if slot in taken:
            raise DeviceError(f"PCI: slot {slot:#x} is taken; choose another, or leave addr out")
        function.realize(self.bus, function.place, context)
        function.reset()
        self.bus.functions[function.place] = function
        self.up |= 1 << slot
        self._events.tell(EVENT)

    def eject(self, function: PciFunction) -> None:
        """Asks the guest to let go of what is in a function's slot."""
        assert function.place is not None
        self.down |= 1 << function.place[0]
        self._events.tell(EVENT)

    @property
    def busy(self) -> bool:
        """Whether the guest must not be asked now."""
        return False

    def _removable(self, slot: int) -> bool:
        there = [one for (place, _), one in self.bus.functions.items() if place == slot]
        return slot not in self.fixed and not any(isinstance(one, PciBridge) for one in there)

    def _let_go(self, slot: int) -> None:
        self.down &= ~(1 << slot)
        self.up &= ~(1 << slot)
        if not self._removable(slot):
            return
        places = [place for place in sorted(self.bus.functions) if place[0] == slot]
        functions = [self.bus.functions.pop(place) for place in places]
        for one in functions:
            one.reset()
        if functions:
            self.gone(functions)

    # -- for the guest --------------------------------------------------------------------

    def reset(self) -> None:
        for slot in range(SLOTS):
            if self.down >> slot & 1:
                self._let_go(slot)  # the guest that was asked is no more
        self.up = self.down = self.selected = 0

    def read(self, offset: int, width: int) -> int:
        if width != 4:
            return 0
        if offset == BUS:
            return self.selected
        if offset == REMOVABLE:
            return sum(1 << slot for slot in range(SLOTS) if self.selected or self._removable(slot))
        if self.selected:
            return 0
        if offset == UP:
            told, self.up = self.up, 0
            return told
        return self.down if offset == DOWN else 0

    def write(self, offset: int, width: int, value: int) -> None:
        if width != 4:
            return
        if offset == BUS:
            self.selected = value
        elif offset == EJECT and value and not self.selected:
            self._let_go((value & -value).bit_length() - 1)
