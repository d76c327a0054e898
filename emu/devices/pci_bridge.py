"""A bridge from one PCI bus to another: what is plugged in behind it is on a bus of its own.

The guest gives the bus a number and the bridge the ranges of memory that it forwards.  There is no window of
ports.

Sources: PCI-to-PCI Bridge Architecture Specification 1.2, chapter 3; PCI Express Base Specification 3.0,
section 7.8 (the capability of a root port).
"""

from __future__ import annotations

from typing import Any

from emu.device import Context
from emu.devices.pci import (
    CAPABILITIES,
    COMMAND,
    FIRST_CAPABILITY,
    HAS_CAPABILITIES,
    INTERRUPT_PIN,
    MEMORY,
    STATUS,
    Bus,
    PciFunction,
    settle,
)

# QEMU's generic root port, whose numbers guests know.
ROOT_PORT = (0x1B36, 0x000C, 0x060400)
SECONDARY, SUBORDINATE = 0x19, 0x1A
WINDOW, PREFETCHABLE_WINDOW, BASE_UPPER, LIMIT_UPPER = 0x20, 0x24, 0x28, 0x2C
CONTROL, SECONDARY_RESET = 0x3E, 1 << 6
EXPRESS = 0x10
# The window's granule, and what of its registers are address bits.
GRANULE, ADDRESS_BITS = 1 << 20, 0xFFF0


class PciBridge(PciFunction):
    """A root port of PCI Express, and the bus behind it.

    name: of that bus; port, chassis: the numbers of its slot.
    """

    def __init__(self, name: str, *, port: int = 0, chassis: int = 0) -> None:
        super().__init__(*ROOT_PORT, header=1)
        self.name = name
        self.functions: dict[tuple[int, int], PciFunction] = {}
        self._parent: Bus | None = None
        self._slot = 0
        # The three bus numbers, the latency timer; windows; bus control: parity, SERR#, master abort, reset.
        for at in (0x18, SECONDARY, SUBORDINATE, *range(BASE_UPPER, BASE_UPPER + 8)):
            self.masks[at] = 0xFF
        for at in (WINDOW, WINDOW + 2, PREFETCHABLE_WINDOW, PREFETCHABLE_WINDOW + 2):
            self.put(at, 0 if at < PREFETCHABLE_WINDOW else 1, 2)  # 1: of 64 bits
            self.masks[at : at + 2] = ADDRESS_BITS.to_bytes(2, "little")
        self.masks[CONTROL] = 0x43
        self.masks[COMMAND + 1] = 0x05
        self.put(INTERRUPT_PIN, 1, 1)
        self._describe_port(port, chassis)
        self.initial = bytes(self.config)

    def _describe_port(self, port: int, chassis: int) -> None:
        """The capability: version 2, a root port whose slot never changes."""
        at = FIRST_CAPABILITY
        link = 1 | 1 << 4  # 2.5 GT/s, one lane
        for offset, value, width in (
            (0, EXPRESS, 2),
            (2, 2 | 4 << 4 | 1 << 8, 2),
            (4, 1 << 15, 4),  # errors are told by role
            (12, link | port << 24, 4),
            (18, link | 1 << 13, 2),  # the link is up
            (20, chassis << 19, 4),
            (26, 1 << 6, 2),  # something is plugged in
        ):
            self.put(at + offset, value & (1 << 8 * width) - 1, width)
        self.masks[at + 8 : at + 10] = b"\xff\x7f"
        self.masks[at + 16] = 0xC3
        self.put(CAPABILITIES, at, 1)
        self.put(STATUS, HAS_CAPABILITIES, 2)

    def plug(self, function: PciFunction) -> None:
        """Puts a function on the bus behind, before the machine is built."""
        settle([function], self.functions)

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

    def wire_of(self, device: int) -> int:
        return self._on.wire_of(self._slot + device)

    def rank(self) -> int:
        return self._on.rank()

    def forwards(self, base: int, size: int) -> bool:
        if not self.get(COMMAND, 2) & MEMORY or not self._on.forwards(base, size):
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
        assert self._parent is not None
        return self._parent

    # -- as a function ------------------------------------------------------------------

    def realize(self, bus: Bus, place: tuple[int, int], context: Context) -> None:
        self._parent = bus
        self._slot = place[0]
        for at, one in self.functions.items():
            one.realize(self, at, context)

    def write(self, at: int, width: int, value: int) -> None:
        super().write(at, width, value)
        if self.get(CONTROL, 2) & SECONDARY_RESET:
            self._reset_bus()
        self.moved()

    def moved(self) -> None:
        for one in self.functions.values():
            one.moved()

    def _reset_bus(self) -> None:
        for one in self.functions.values():
            one.reset()

    def reset(self) -> None:
        super().reset()
        self._reset_bus()
        self.moved()

    def save(self) -> Any:
        return [bytes(self.config), [self.functions[place].save() for place in sorted(self.functions)]]

    def load(self, saved: Any) -> None:
        config, behind = saved
        self.config[:] = config
        for place, state in zip(sorted(self.functions), behind, strict=True):
            self.functions[place].load(state)
        self.moved()

    def pause(self) -> None:
        for one in self.functions.values():
            one.pause()

    def resume(self) -> None:
        for one in self.functions.values():
            one.resume()

    def close(self) -> None:
        for one in self.functions.values():
            one.close()
