"""PL031: Arm's PrimeCell real-time clock, seconds since 1970.

Source: ARM PrimeCell Real Time Clock (PL031) Technical Reference Manual, r1p3, chapter 3.
"""

from __future__ import annotations

import time

from emu.device import Context, Device, Irq, Reg

SECOND = 1_000_000_000


class Pl031(Device):
    """A PL031 that starts at the host's time, UTC."""

    compatible = "arm,pl031 arm,primecell"
    node_name = "pl031"
    state = ("offset", "alarm")

    irq = Irq()

    DR = Reg(0x000, state=False)
    MR = Reg(0x004, write=0xFFFF_FFFF)
    LR = Reg(0x008, write=0xFFFF_FFFF)
    CR = Reg(0x00C, reset=1)
    IMSC = Reg(0x010, write=1)
    RIS = Reg(0x014)
    MIS = Reg(0x018, state=False)
    ICR = Reg(0x01C)
    PeriphID0 = Reg(0xFE0, reset=0x31)
    PeriphID1 = Reg(0xFE4, reset=0x10)
    PeriphID2 = Reg(0xFE8, reset=0x04)
    PeriphID3 = Reg(0xFEC, reset=0x00)
    PCellID0 = Reg(0xFF0, reset=0x0D)
    PCellID1 = Reg(0xFF4, reset=0xF0)
    PCellID2 = Reg(0xFF8, reset=0x05)
    PCellID3 = Reg(0xFFC, reset=0xB1)

    def realize(self, context: Context) -> None:
        self.now = context.clock.now
        self.offset = int(time.time()) + context.ahead - self.now() // SECOND
        self.alarm = self.timer(self._matched)

    def reset(self) -> None:
        """The count goes on: it is battery-backed, and set to the host's time at power-on."""

    def restored(self) -> None:
        self._update()

    def read_DR(self) -> int:
        return self.offset + self.now() // SECOND & 0xFFFF_FFFF

    def write_LR(self, value: int) -> None:
        self.offset = value - self.now() // SECOND
        self._set_alarm()

    def write_MR(self, value: int) -> None:
        self._set_alarm()

    def write_IMSC(self, value: int) -> None:
        self._update()

    def write_ICR(self, value: int) -> None:
        self.RIS &= ~value
        self._update()

    def _set_alarm(self) -> None:
        ticks = self.MR - self.offset - self.now() // SECOND & 0xFFFF_FFFF
        if ticks == 0:
            self._matched()
        else:
            self.alarm.arm((self.now() // SECOND + ticks) * SECOND)

    def _matched(self) -> None:
        self.RIS = 1
        self._update()

    def _update(self) -> None:
        self.MIS = self.RIS & self.IMSC
        self.irq.set(self.MIS)
