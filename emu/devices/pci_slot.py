"""The slot behind a port of PCI Express: what can be plugged in while the guest runs, and is pulled out then.

Slot is the registers and their interrupt; it lives in the port's configuration space.  A card comes with
presence detect changed.  It goes in steps: whoever wants it pressed the attention button, the guest lets go
of the device and powers the slot off, and only then it is pulled.

Source: PCI Express Base Specification 3.0, sections 6.7 and 7.8.9 to 7.8.11.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.devices.pci import PciFunction

# Where the registers are in the capability: capabilities, control, status; and the link's.
SLOT, SLOT_CONTROL, SLOT_STATUS = 0x14, 0x18, 0x1A
LINK, LINK_STATUS = 0x0C, 0x12
# A button, a power controller, two indicators; it is hot-pluggable; and no command takes time.
CAPABLE = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 18
# Of the link: that it is up can be seen, and is.
REPORTS_ACTIVE, LINK_ACTIVE = 1 << 20, 1 << 13
# Bits of the status register; those but PRESENT are events, cleared by writing 1.
BUTTON, PRESENCE_CHANGED, PRESENT, LINK_CHANGED = 1 << 0, 1 << 3, 1 << 6, 1 << 8
EVENTS = 0x011F
# Control: its writable bits, among them an enable bit for each of the low events, and for the link's.
WRITABLE, LOW_EVENTS, LINK_ENABLE = 0x17FB, 0x1F, 1 << 12
INTERRUPTS, POWER_OFF = 1 << 5, 1 << 10
# The power indicator's states.
INDICATOR, ON, BLINKS, OFF = 3 << 8, 1 << 8, 2 << 8, 3 << 8
ATTENTION_OFF = 3 << 6


class Slot:
    """The registers of a slot, at `at` in the configuration space of `port`."""

    def __init__(self, port: PciFunction, at: int) -> None:
        self._port = port
        self._at = at
        port.put(at + SLOT, port.get(at + SLOT, 4) | CAPABLE, 4)
        port.put(at + LINK, port.get(at + LINK, 4) | REPORTS_ACTIVE, 4)
        port.masks[at + SLOT_CONTROL : at + SLOT_CONTROL + 2] = WRITABLE.to_bytes(2, "little")

    @property
    def control(self) -> int:
        return self._port.get(self._at + SLOT_CONTROL, 2)

    @property
    def status(self) -> int:
        return self._port.get(self._at + SLOT_STATUS, 2)

    @property
    def powered(self) -> bool:
        """Whether what is in it answers."""
        return not self.control & POWER_OFF

    @property
    def off(self) -> bool:
        """The guest has let go of what is in it: without power, and the indicator says so."""
        return not self.powered and self.control & INDICATOR == OFF

    @property
    def blinks(self) -> bool:
        """The guest is about to power it on or off."""
        return self.control & INDICATOR == BLINKS

    @property
    def interrupts(self) -> bool:
        """Whether it wants an interrupt: an event whose bit is enabled."""
        control, status = self.control, self.status
        events = status & control & LOW_EVENTS or (status & LINK_CHANGED and control & LINK_ENABLE)
        return bool(control & INTERRUPTS and events)

    def reset(self, occupied: bool) -> None:
        """As after power-on: what is in it has power."""
        control = ATTENTION_OFF | (ON if occupied else OFF | POWER_OFF)
        self._port.put(self._at + SLOT_CONTROL, control, 2)
        present = PRESENT if occupied else 0
        self._port.put(self._at + SLOT_STATUS, present, 2)
        self._settle_link()
        self._port.put(self._at + SLOT_STATUS, present, 2)  # how the link came to be is no event

    def press(self) -> None:
        """Presses the attention button."""
        self._event(BUTTON)

    def put(self, occupied: bool) -> None:
        """Something was plugged in, or pulled out."""
        self._port.put(self._at + SLOT_STATUS, self.status & ~PRESENT | PRESENT * occupied, 2)
        self._event(PRESENCE_CHANGED)
        self._settle_link()

    def written(self, at: int, width: int, value: int, before: int) -> None:
        """The guest wrote configuration space; before: what control was.

        Events are cleared by ones, and the link follows the power.
        """
        status, cleared = self._at + SLOT_STATUS, 0
        for n, byte in enumerate(value.to_bytes(width, "little")):
            if status <= at + n < status + 2:
                cleared |= byte << 8 * (at + n - status)
        self._port.put(status, self.status & ~(cleared & EVENTS), 2)
        if self.control != before:
            self._settle_link()

    def _event(self, bits: int) -> None:
        self._port.put(self._at + SLOT_STATUS, self.status | bits, 2)

    def _settle_link(self) -> None:
        """The link is up where something is that has power."""
        at = self._at + LINK_STATUS
        now = self._port.get(at, 2)
        wanted = now & ~LINK_ACTIVE | LINK_ACTIVE * bool(self.status & PRESENT and self.powered)
        if wanted != now:
            self._port.put(at, wanted, 2)
            self._event(LINK_CHANGED)
