"""The functions of Intel's i440FX and PIIX3, as far as firmware and kernels ask, and PCI's interrupts.

The host bridge and power management are configuration space and nothing else.  The ISA bridge connects the
four wires of the PCI bus to ISA's interrupts.

Sources: Intel 82441FX data sheet (290549); 82371FB/82371SB (PIIX3) data sheet (290550), section 2.2.7
(PIRQRC); 82371AB (PIIX4) data sheet (290562), chapter 7.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from accel.irq import IrqLine
from emu.devices.pci import INTERRUPT_PIN, PciFunction

INTEL = 0x8086
PIRQ, UNROUTED, NUMBER = 0x60, 0x80, 0x0F
# What a wire may be connected to; the other numbers are reserved.
ROUTABLE = (3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15)
# Power management's registers: where its ports are, device B's activation, whether the ports answer.
PM_PORTS, ACTIVATION, PM_ON = 0x40, 0x58, 0x80
SMI_ON = 1 << 25


def host_bridge() -> PciFunction:
    """The i440FX, its PAM and SMRAM registers writable."""
    return PciFunction(INTEL, 0x1237, 0x060000, revision=2, writable=(range(0x50, 0x80),))


def power_management(base: int, irq: int) -> PciFunction:
    """The PIIX4's, whose ports are at `base` whatever is written, and its interrupt `irq`."""
    function = PciFunction(INTEL, 0x7113, 0x068000, revision=3)
    function.put(PM_PORTS, base | 1, 4)
    function.put(PM_ON, 1, 1)
    # There is no system management mode.  Firmware that finds this on takes it as set up already.
    function.put(ACTIVATION, SMI_ON, 4)
    function.put(0x3C, irq, 1)
    function.put(INTERRUPT_PIN, 1, 1)
    function.initial = bytes(function.config)
    return function


class Piix3(PciFunction):
    """The ISA bridge.

    wires: the PCI bus' four; lines: ISA's interrupts by number, ROUTABLE ones.  Several wires may be
    connected to one interrupt.
    """

    def __init__(self, lines: dict[int, IrqLine]) -> None:
        super().__init__(INTEL, 0x7000, 0x060100, header=0x80, writable=(range(0x4C, 0x90),))
        self.put(PIRQ, UNROUTED * 0x0101_0101, 4)
        self.initial = bytes(self.config)
        self._lines = lines
        self._lock = threading.Lock()
        self._driven: set[int] = set()
        self.wires = [IrqLine() for _ in range(4)]
        self._levels = [0, 0, 0, 0]
        for number, wire in enumerate(self.wires):
            wire.connect(partial(self._pull, number))

    def route(self, numbers: tuple[int, ...]) -> None:
        """Connects the wires, as firmware does."""
        for number, irq in enumerate(numbers):
            self.put(PIRQ + number, irq, 1)
        self._drive()

    def _pull(self, number: int, level: int) -> None:
        """A wire's level has changed; in any thread."""
        with self._lock:
            self._levels[number] = level
            self._update()

    def _drive(self) -> None:
        with self._lock:
            self._update()

    def _update(self) -> None:
        wanted = set()
        for level, way in zip(self._levels, self.config[PIRQ : PIRQ + 4], strict=True):
            if level and not way & UNROUTED:
                wanted.add(way & NUMBER)
        for irq in self._driven ^ wanted:
            if irq in self._lines:
                self._lines[irq].set(irq in wanted)
        self._driven = wanted

    def reset(self) -> None:
        super().reset()
        self._drive()

    def write(self, at: int, width: int, value: int) -> None:
        super().write(at, width, value)
        if at < PIRQ + 4 and at + width > PIRQ:
            self._drive()

    def load(self, saved: Any) -> None:
        super().load(saved)
        self._drive()
