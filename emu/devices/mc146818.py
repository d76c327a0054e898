"""MC146818: the PC's real-time clock and its battery-backed memory.

Time is the host's, in BCD and 24 hours as every PC has it.  Source: Motorola MC146818A data sheet; memory
sizes as SeaBIOS and U-Boot read them for QEMU's machines (registers 15h to 18h, 30h, 34h, 35h, 5Bh to 5Dh).
"""

from __future__ import annotations

import time

from emu.device import Context, Device, Irq, Reg

SECOND = 1_000_000_000
SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR = 0, 2, 4, 6, 7, 8, 9
A, B, C, D, CENTURY = 10, 11, 12, 13, 0x32
# B
SET, PIE, AIE, UIE, BINARY, HOURS24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
# C
IRQF, PF, AF, UF = 0x80, 0x40, 0x20, 0x10


class Mc146818(Device):
    """The clock; ram: bytes of RAM below and above 4 GiB that its memory tells firmware of."""

    size = 2
    width = 1
    state = ("cmos", "offset", "periodic", "second")

    irq = Irq()

    INDEX = Reg(0, write=0x7F)
    DATA = Reg(1, state=False)

    def __init__(self, ram_low: int = 0, ram_high: int = 0) -> None:
        super().__init__()
        self.ram_low = ram_low
        self.ram_high = ram_high
        self.cmos = bytearray(128)
        self.offset = 0

    def realize(self, context: Context) -> None:
        self.now = context.clock.now
        self.offset = int(time.time()) + context.ahead - self.now() // SECOND
        self.periodic = self.timer(self._period)
        self.second = self.timer(self._second)
        kib = self.ram_low >> 10
        self._word(0x15, 640)
        self._word(0x17, min(max(0, kib - 1024), 0xFFFF))
        self._word(0x30, min(max(0, kib - 1024), 0xFFFF))
        self._word(0x34, max(0, self.ram_low - (16 << 20)) >> 16)
        self._word(0x5B, self.ram_high >> 16 & 0xFFFF)
        self.cmos[0x5D] = self.ram_high >> 32 & 0xFF

    def _word(self, at: int, value: int) -> None:
        self.cmos[at : at + 2] = value.to_bytes(2, "little")

    def reset(self) -> None:
        self.cmos[A] = 0x26
        self.cmos[B] = HOURS24
        self.cmos[C] = 0
        self.cmos[D] = 0x80

    # -- registers ----------------------------------------------------------

    def read_DATA(self) -> int:
        at = int(self.INDEX)
        if at <= YEAR or at == CENTURY:
            if not self.cmos[B] & SET:
                self._fetch()
        elif at == C:
            value = self.cmos[C]
            self.cmos[C] = 0
            self.irq.set(0)
            return value
        return self.cmos[at]

    def write_DATA(self, value: int) -> None:
        at = int(self.INDEX)
        if at in (C, D):
            return
        if at <= YEAR or at == CENTURY:
            if not self.cmos[B] & SET:
                self._fetch()
            self.cmos[at] = value
            if not self.cmos[B] & SET:
                self._store()
            return
        was, self.cmos[at] = self.cmos[at], value & 0x7F if at == A else value
        if at == B and was & SET and not value & SET:
            self._store()
        if at in (A, B):
            self._schedule()

    # -- time ----------------------------------------------------------------

    def _coded(self, value: int) -> int:
        return value if self.cmos[B] & BINARY else value // 10 << 4 | value % 10

    def _decoded(self, at: int) -> int:
        value = self.cmos[at]
        return value if self.cmos[B] & BINARY else (value >> 4) * 10 + (value & 15)

    def _fetch(self) -> None:
        t = time.gmtime(self.offset + self.now() // SECOND)
        hour = t.tm_hour
        afternoon = 0
        if not self.cmos[B] & HOURS24:
            hour, afternoon = (hour + 11) % 12 + 1, 0x80 if hour >= 12 else 0
        for at, value in (
            (SECONDS, t.tm_sec),
            (MINUTES, t.tm_min),
            (HOURS, hour),
            (WEEKDAY, (t.tm_wday + 1) % 7 + 1),
            (DAY, t.tm_mday),
            (MONTH, t.tm_mon),
            (YEAR, t.tm_year % 100),
            (CENTURY, t.tm_year // 100 % 100),
        ):
            self.cmos[at] = self._coded(value)
        self.cmos[HOURS] |= afternoon

    def _store(self) -> None:
        from calendar import timegm

        afternoon = not self.cmos[B] & HOURS24 and self.cmos[HOURS] & 0x80
        self.cmos[HOURS] &= 0x7F
        hour = self._decoded(HOURS)
        if not self.cmos[B] & HOURS24:
            hour = hour % 12 + (12 if afternoon else 0)
        year = self._decoded(CENTURY) * 100 + self._decoded(YEAR)
        parts = (
            year,
            self._decoded(MONTH),
            self._decoded(DAY),
            hour,
            self._decoded(MINUTES),
            self._decoded(SECONDS),
        )
        try:
            self.offset = timegm(parts) - self.now() // SECOND
        except (ValueError, OverflowError):
            pass  # a date that is none, half written; the clock keeps its own

    # -- interrupts -------------------------------------------------------------

    def _rate(self) -> int:
        """The periodic interrupt's period in ns, 0 for none: 32768 Hz divided by 2^(RS-1)."""
        rs = self.cmos[A] & 15
        if not rs:
            return 0
        return (1 << (rs + 6 if rs < 3 else rs - 1)) * SECOND // 32768

    def _schedule(self) -> None:
        rate = self._rate()
        if self.cmos[B] & PIE and rate:
            self.periodic.arm(self.now() + rate)
        else:
            self.periodic.cancel()
        if self.cmos[B] & (UIE | AIE):
            self.second.arm((self.now() // SECOND + 1) * SECOND)
        else:
            self.second.cancel()
        self._raise(0)

    def _period(self) -> None:
        self._raise(PF)
        self.periodic.arm(self.now() + max(self._rate(), 1))

    def _second(self) -> None:
        self._fetch()
        alarm = all(self.cmos[at + 1] >= 0xC0 or self.cmos[at + 1] == self.cmos[at] for at in (0, 2, 4))
        self._raise(UF | (AF if alarm else 0))
        self.second.arm((self.now() // SECOND + 1) * SECOND)

    def _raise(self, flags: int) -> None:
        self.cmos[C] |= flags
        if self.cmos[C] & self.cmos[B] & (PF | AF | UF):
            self.cmos[C] |= IRQF
            self.irq.set(1)
