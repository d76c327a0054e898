"""Goldfish RTC: nanoseconds since 1970, with an alarm; RISC-V virt's clock.

Source: Android emulator's docs/GOLDFISH-VIRTUAL-HARDWARE.TXT, "Goldfish real-time clock".
"""

from __future__ import annotations

import time

from emu.device import Context, Device, Irq, Reg

LOW = 0xFFFF_FFFF


class GoldfishRtc(Device):
    """A Goldfish RTC that starts at the host's time, UTC."""

    compatible = "google,goldfish-rtc"
    node_name = "rtc"
    state = ("offset", "latched", "pending", "alarm")

    irq = Irq()

    TIME_LOW = Reg(0x00, state=False)
    TIME_HIGH = Reg(0x04, state=False)
    ALARM_LOW = Reg(0x08, write=LOW)
    ALARM_HIGH = Reg(0x0C, write=LOW)
    IRQ_ENABLED = Reg(0x10, write=1)
    CLEAR_ALARM = Reg(0x14)
    ALARM_STATUS = Reg(0x18)
    CLEAR_INTERRUPT = Reg(0x1C)

    def realize(self, context: Context) -> None:
        self.now = context.clock.now
        self.offset = time.time_ns() + context.ahead * 1_000_000_000 - self.now()
        self.latched = 0
        self.pending = 0
        self.alarm = self.timer(self._ring)

    def reset(self) -> None:
        self.latched = self.pending = 0

    def read_TIME_LOW(self) -> int:
        """Latches the high half."""
        now = self.offset + self.now()
        self.latched = now >> 32
        return now & LOW

    def read_TIME_HIGH(self) -> int:
        return self.latched

    def write_TIME_LOW(self, value: int) -> None:
        """Sets the time; the high half was written before."""
        self.offset = (self.latched << 32 | value) - self.now()

    def write_TIME_HIGH(self, value: int) -> None:
        self.latched = value

    def write_ALARM_LOW(self, value: int) -> None:
        """Sets the alarm; the high half was written before."""
        due = (int(self.ALARM_HIGH) << 32 | value) - self.offset
        if due <= self.now():
            self._ring()
        else:
            self.ALARM_STATUS = 1
            self.alarm.arm(due)

    def write_CLEAR_ALARM(self, value: int) -> None:
        self.ALARM_STATUS = 0
        self.alarm.cancel()

    def write_IRQ_ENABLED(self, value: int) -> None:
        self._update()

    def write_CLEAR_INTERRUPT(self, value: int) -> None:
        self.pending = 0
        self._update()

    def _ring(self) -> None:
        self.ALARM_STATUS = 0
        self.pending = 1
        self._update()

    def _update(self) -> None:
        self.irq.set(self.pending and self.IRQ_ENABLED)
