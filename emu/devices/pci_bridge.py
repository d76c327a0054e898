"""A bridge from one PCI bus to another: what is plugged in behind it is on a bus of its own.

The guest gives the bus a number and the bridge the ranges of memory that it forwards.  There is no window of
ports.  What is in the slot behind may come and go while the guest runs (pci_slot.py).

Sources: PCI-to-PCI Bridge Architecture Specification 1.2, chapter 3; PCI Express Base Specification 3.0,
section 7.8 (the capability of a root port).
"""

from __future__ import annotations

from typing import Any

from accel.errors import DeviceError
from emu.device import Context
from emu.devices.native import lib
from emu.devices.pci import COMMAND, MEMORY, Bus, PciDevice, PciFunction, settle
from emu.devices.pci_slot import LINK, LINK_ACTIVE, LINK_STATUS, PRESENT, SLOT, SLOT_STATUS, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# QEMU's generic root port, whose numbers guests know.
ROOT_PORT = (0x1B36, 0x000C, 0x060400)
SECONDARY, SUBORDINATE = 0x19, 0x1A
WINDOW, PREFETCHABLE_WINDOW, BASE_UPPER, LIMIT_UPPER = 0x20, 0x24, 0x28, 0x2C
CONTROL, SECONDARY_RESET = 0x3E, 1 << 6
EXPRESS, EXPRESS_SIZE = 0x10, 0x3C
# The window's granule, and what of its registers are address bits.
GRANULE, ADDRESS_BITS = 1 << 20, 0xFFF0


class PciBridge(PciDevice):
    """A root port of PCI Express, and the bus behind it.

    name: of that bus; port, chassis: the numbers of its slot; hotplug: whether something may be plugged into
    that, or pulled out, while the guest runs.

    gone: called, in whatever thread, when the guest has let go of what was in the slot, with that.
    """

    msix_bar = 0
    # Nanoseconds of the guest's time in which it is not asked again.
    patience = 5_000_000_000

    def __init__(self, name: str, *, port: int = 0, chassis: int = 0, hotplug: bool = True) -> None:
        super().__init__(*ROOT_PORT, header=1, vectors=1 if hotplug else 0)
        self.name = name
        self.functions: dict[tuple[int, int], PciFunction] = {}
        self.slot: Slot | None = None
        self.gone: Callable[[list[PciFunction]], None] = lambda functions: None
        self._device = 0
        self._wanted = False  # whoever plugged it in wants back what is in the slot
        self._interrupts = False
        # The three bus numbers, the latency timer; windows; bus control: parity, SERR#, master abort, reset.
        for at in (0x18, SECONDARY, SUBORDINATE, *range(BASE_UPPER, BASE_UPPER + 8)):
            self.masks[at] = 0xFF
        for at in (WINDOW, WINDOW + 2, PREFETCHABLE_WINDOW, PREFETCHABLE_WINDOW + 2):
            self.put(at, 0 if at < PREFETCHABLE_WINDOW else 1, 2)  # 1: of 64 bits
            self.masks[at : at + 2] = ADDRESS_BITS.to_bytes(2, "little")
        self.masks[CONTROL] = 0x43
        self.masks[COMMAND + 1] = 0x05
        at = self._describe_port(port, chassis)
        if hotplug:
            self.slot = Slot(self, at)
        self.initial = bytes(self.config)

    def _describe_port(self, port: int, chassis: int) -> int:
        """The capability: version 2, a root port with a slot, in which something is; returns where it is."""
        body = bytearray(EXPRESS_SIZE - 2)
        link = 1 | 1 << 4  # 2.5 GT/s, one lane
        for offset, value, width in (
            (2, 2 | 4 << 4 | 1 << 8, 2),
            (4, 1 << 15, 4),  # errors are told by role
            (LINK, link | port << 24, 4),
            (LINK_STATUS, link | LINK_ACTIVE, 2),
            (SLOT, chassis << 19, 4),
            (SLOT_STATUS, PRESENT, 2),
        ):
            body[offset - 2 : offset - 2 + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
        return self.add_capability(EXPRESS, bytes(body), {6: 0xFF, 7: 0x7F, 14: 0xC3}) - 2

    def plug(self, function: PciFunction) -> None:
        """Puts a function on the bus behind, before the machine is built."""
        settle([function], self.functions)

    # -- the slot, while the guest runs --------------------------------------------------

    @property
    def there(self) -> dict[tuple[int, int], PciFunction]:
        """What is on the bus behind."""
        return self.functions

    def plugged(self) -> list[PciFunction]:
        """What is in the slot."""
        return list(self.functions.values())

    @property
    def busy(self) -> bool:
        """Whether the guest must not be asked now."""
        return self.slot is not None and self.slot.blinks

    def insert(self, function: PciFunction, context: Context) -> None:
        """Plugs a function in, and tells the guest.  Raises DeviceError."""
        assert self.slot is not None
        if function.place not in (None, (0, 0)):
            raise DeviceError(f"{self.name}: a slot has one place, 0x0.0x0; leave addr out")
        if self.functions:
            raise DeviceError(f"{self.name}: the slot is taken; choose another port")
        function.place = (0, 0)
        function.realize(self, function.place, context)
        function.reset()
        self.functions[function.place] = function
        self._wanted = False
        # With a button, systems wait for that before they look (6.7.1.7), and Linux for nothing else.
        self.slot.put(True)
        self.slot.press()
        self.moved()
        self._settle()

    def eject(self, function: PciFunction) -> None:
        """Asks the guest to let go of what is in the slot; where it has no power that goes at once."""
        assert self.slot is not None
        self._wanted = True
        if self.slot.off:
            self._let_go()
        else:
            self.slot.press()
        self._settle()

    def _let_go(self) -> None:
        """Pulls out what is in the slot."""
        assert self.slot is not None
        functions = list(self.functions.values())
        for one in functions:
            one.reset()
        self.functions.clear()
        self._wanted = False
        self.slot.put(False)
        self.gone(functions)

    def _settle(self) -> None:
        """Tells the guest of the slot's events: a message when there is one and was none, or the pin."""
        wanted = self.slot is not None and self.slot.interrupts
        if wanted and not self._interrupts:
            lib.emu_pci_notify(self.native, 0)
        self._interrupts = wanted
        lib.emu_pci_pull(self.native, wanted)

    # -- the bus behind --------------------------------------------------------------

    @property
    def number(self) -> int:
        return self.config[SECONDARY]

    @property
    def last(self) -> int:
        """The highest number of a bus behind it."""
        return self.config[SUBORDINATE]

    @property
    def wires(self) -> Any:
        return self._on.wires

    @property
    def msi(self) -> Any:
        return self._on.msi

    @property
    def msi_opaque(self) -> Any:
        return self._on.msi_opaque

    @property
    def live(self) -> bool:
        """Whether what is behind it has power."""
        return self.slot is None or self.slot.powered

    def wire_of(self, device: int) -> int:
        return self._on.wire_of(self._device + device)

    def rank(self) -> int:
        return self._on.rank()

    def forwards(self, base: int, size: int) -> bool:
        if not self.live or not self.get(COMMAND, 2) & MEMORY or not self._on.forwards(base, size):
            return False
        return any(first <= base and base + size <= end for first, end in self._windows())

    def _windows(self) -> list[tuple[int, int]]:
        """First and end of what is forwarded: without side effects or with; empty where the guest says so."""
        found = []
        for at, upper in ((WINDOW, False), (PREFETCHABLE_WINDOW, True)):
            first = (self.get(at, 2) & ADDRESS_BITS) << 16
            last = (self.get(at + 2, 2) & ADDRESS_BITS) << 16
            if upper:
                first |= self.get(BASE_UPPER, 4) << 32
                last |= self.get(LIMIT_UPPER, 4) << 32
            found.append((first, last + GRANULE))
        return found

    @property
    def _on(self) -> Bus:
        assert self._bus is not None
        return self._bus

    # -- as a function ------------------------------------------------------------------

    def realize(self, bus: Bus, place: tuple[int, int], context: Context) -> None:
        super().realize(bus, place, context)
        self._device = place[0]
        for at, one in self.functions.items():
            one.realize(self, at, context)

    def write(self, at: int, width: int, value: int) -> None:
        slot = self.slot
        before, had_power, was_off = (slot.control, slot.powered, slot.off) if slot else (0, True, False)
        super().write(at, width, value)
        if slot is not None:
            slot.written(at, width, value, before)
            if slot.off and not was_off and self.functions:
                self._let_go()
            elif had_power and not slot.powered:
                self._reset_bus()
        if self.get(CONTROL, 2) & SECONDARY_RESET:
            self._reset_bus()
        self._move_bus()
        self._settle()

    def moved(self) -> None:
        super().moved()
        self._move_bus()

    def _move_bus(self) -> None:
        for one in self.functions.values():
            one.moved()

    def _reset_bus(self) -> None:
        for one in self.functions.values():
            one.reset()

    def reset(self) -> None:
        super().reset()
        self._interrupts = False
        if self.slot is not None:
            if self._wanted:
                self._let_go()  # the guest that was asked is no more
            self.slot.reset(bool(self.functions))
        self._reset_bus()
        self._move_bus()

    def save_own(self) -> Any:
        behind = [[*place, self.functions[place].save()] for place in sorted(self.functions)]
        return [self._wanted, behind]

    def load_own(self, own: Any) -> None:
        wanted, behind = own
        states = {(device, number): state for device, number, state in behind}
        if states.keys() != self.functions.keys():
            raise DeviceError(
                f"{self.name}: the saved machine had {len(states)} PCI functions in this slot, and this one"
                f" has {len(self.functions)}; plug in, or leave out, the same devices first"
            )
        self._wanted = bool(wanted)
        for place, state in states.items():
            self.functions[place].load(state)
        self._interrupts = self.slot is not None and self.slot.interrupts
        self._move_bus()

    def pause(self) -> None:
        for one in self.functions.values():
            one.pause()

    def resume(self) -> None:
        for one in self.functions.values():
            one.resume()

    def close(self) -> None:
        for one in self.functions.values():
            one.close()
