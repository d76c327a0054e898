"""CLINT: RISC-V's core-local interruptor, with each hart's software interrupt and timer.

Source: SiFive FU540-C000 manual, chapter 9; RISC-V ACLINT specification 1.0, sections 2 and 3.
"""

from __future__ import annotations

from accel.errors import DeviceError
from emu.device import Context, Device, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.clock import Timer
    from emu.machine import Cpu

MSIP, MTIP = 3, 7
NEVER = (1 << 64) - 1


class Clint(Device):
    """A CLINT of one hart; frequency: mtime's, in Hz."""

    size = 0x1_0000
    state = ("offset", "timer_")

    MSIP0 = Reg(0x0000, write=1)
    MTIMECMP0 = Reg(0x4000, width=8, reset=NEVER, write=NEVER)
    MTIME = Reg(0xBFF8, width=8, state=False)

    timer_: Timer

    def __init__(self, frequency: int) -> None:
        super().__init__()
        if 1_000_000_000 % frequency:
            raise DeviceError(
                f"CLINT: the period of {frequency} Hz is no whole number of ns; choose another frequency"
            )
        self.period = 1_000_000_000 // frequency
        self.offset = 0
        self.cpu: Cpu | None = None

    def connect_cpu(self, cpu: Cpu) -> None:
        """Gives the hart its inputs."""
        self.cpu = cpu

    def realize(self, context: Context) -> None:
        self.now = context.clock.now
        self.timer_ = self.timer(self._reached)

    def reset(self) -> None:
        self.offset = -self.now() // self.period
        self._drive(MSIP, 0)
        self._drive(MTIP, 0)

    def restored(self) -> None:
        self._drive(MSIP, int(self.MSIP0))
        self._drive(MTIP, int(self._time() >= self.MTIMECMP0))

    def read_MTIME(self) -> int:
        return self._time() & NEVER

    def write_MTIME(self, value: int) -> None:
        self.offset = value - self.now() // self.period
        self._compare()

    def write_MTIMECMP0(self, value: int) -> None:
        self._compare()

    def write_MSIP0(self, value: int) -> None:
        self._drive(MSIP, value & 1)

    def _time(self) -> int:
        return self.now() // self.period + self.offset

    def _compare(self) -> None:
        due = int(self.MTIMECMP0)
        if self._time() >= due:
            self.timer_.cancel()
            self._drive(MTIP, 1)
        else:
            self._drive(MTIP, 0)
            # A deadline beyond the clock's range never comes.
            self.timer_.arm(min((due - self.offset) * self.period, 1 << 62))

    def _reached(self) -> None:
        self._compare()

    def _drive(self, line: int, level: int) -> None:
        if self.cpu is not None:
            self.cpu.interrupt(line, level)
