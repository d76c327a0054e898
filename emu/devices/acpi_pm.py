"""The PC's ACPI registers: power button, sleep, the timer, reset; and events that the board's methods serve.

Source: ACPI 6.4, 4.8 (fixed hardware), 4.8.3.6 (reset register), 4.8.4.1 (general-purpose events).  The
machine is always in ACPI mode.
"""

from __future__ import annotations

from emu.device import Context, Device, Irq, Reg

HZ = 3_579_545
POWER_BUTTON = 1 << 8
SCI_ENABLED = 1
SLEEP = 1 << 13
SOFT_OFF = 5  # the board's _S5 says so


class AcpiPm(Device):
    """PM1 event and control, the timer of 32 bits, and the reset register, in 16 ports."""

    size = 16
    width = 2

    irq = Irq()

    STATUS = Reg(0x0, w1c=0xFFFF)
    ENABLE = Reg(0x2, write=0xFFFF)
    CONTROL = Reg(0x4, reset=SCI_ENABLED, write=0x1C00)
    TIMER = Reg(0x8, 4, state=False)
    RESET = Reg(0xC, 1, state=False)

    def __init__(self) -> None:
        super().__init__()
        self._others = False

    def realize(self, context: Context) -> None:
        self.machine = context

    def others(self, wanted: bool) -> None:
        """Whether general-purpose events want the interrupt, which is common to all."""
        with self.lock:
            self._others = wanted
            self._drive()

    def press(self) -> None:
        """The power button."""
        with self.lock:
            self.STATUS = self.STATUS | POWER_BUTTON
            self._drive()

    def _drive(self) -> None:
        self.irq.set(self._others or self.STATUS & self.ENABLE & POWER_BUTTON != 0)

    def restored(self) -> None:
        self._drive()

    def write_STATUS(self, value: int) -> None:
        self._drive()

    def write_ENABLE(self, value: int) -> None:
        self._drive()

    def write_CONTROL(self, value: int) -> None:
        if value & SLEEP and value >> 10 & 7 == SOFT_OFF:
            self.machine.shutdown(0)

    def read_TIMER(self) -> int:
        return self.machine.clock.now() * HZ // 1_000_000_000 & 0xFFFF_FFFF

    def write_RESET(self, value: int) -> None:
        if value == 1:
            self.machine.reset()


class AcpiEvents(Device):
    """General-purpose events 0 to 15, in 4 ports; their interrupt is that of `pm`."""

    size = 4
    width = 2

    STATUS = Reg(0x0, w1c=0xFFFF)
    ENABLE = Reg(0x2, write=0xFFFF)

    def __init__(self, pm: AcpiPm) -> None:
        super().__init__()
        self._pm = pm

    def tell(self, event: int) -> None:
        """An event has happened; from any thread."""
        with self.lock:
            self.STATUS = self.STATUS | 1 << event
            self._drive()

    def _drive(self) -> None:
        self._pm.others(self.STATUS & self.ENABLE != 0)

    def reset(self) -> None:
        self._drive()

    def restored(self) -> None:
        self._drive()

    def write_STATUS(self, value: int) -> None:
        self._drive()

    def write_ENABLE(self, value: int) -> None:
        self._drive()
