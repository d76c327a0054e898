"""PLIC: RISC-V's platform-level interrupt controller, for device interrupts.

A source is level-triggered: it pends while its line is high and it is not claimed.  Each hart has two
contexts, machine and supervisor mode.  Source: RISC-V Platform-Level Interrupt Controller Specification
1.0.0.
"""

from __future__ import annotations

from accel.irq import IrqLine
from emu.device import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Cpu

PENDING, ENABLE, CONTEXT = 0x1000, 0x2000, 0x20_0000
ENABLE_STRIDE, CONTEXT_STRIDE = 0x80, 0x1000
# mip bits of a hart's contexts: machine external, supervisor external
INPUTS = (11, 9)
PRIORITY_MASK = 7


class Plic(Device):
    """A PLIC; sources: interrupts 1 to sources-1; harts: with two contexts each."""

    size = 0x60_0000
    state = ("levels", "claimed", "priority", "enable", "threshold")

    def __init__(self, sources: int, harts: int) -> None:
        super().__init__()
        self.sources = sources
        self.levels = 0
        self.claimed = 0
        self.priority = [0] * sources
        self.enable = [0] * (2 * harts)
        self.threshold = [0] * (2 * harts)
        self.cpus: list[Cpu] = []
        self._inputs: dict[int, IrqLine] = {}

    def connect_cpu(self, cpu: Cpu) -> None:
        """Connects the next hart."""
        self.cpus.append(cpu)

    def line(self, number: int) -> IrqLine:
        """Input `number`, the same object each time."""
        if number not in self._inputs:
            line = self._inputs[number] = IrqLine()
            line.connect(lambda level: self._input(number, level))
        return self._inputs[number]

    def reset(self) -> None:
        self.levels = self.claimed = 0
        for table in (self.priority, self.enable, self.threshold):
            table[:] = [0] * len(table)
        self._update()

    def restored(self) -> None:
        self._update()

    def read(self, offset: int, width: int) -> int:
        word = offset & ~3
        if word < PENDING:
            return self.priority[word // 4] if word // 4 < self.sources else 0
        if word < ENABLE:
            return (self.levels & ~self.claimed) >> 8 * (word - PENDING) & 0xFFFF_FFFF
        if word < CONTEXT:
            context, at = divmod(word - ENABLE, ENABLE_STRIDE)
            return self.enable[context] >> 8 * at & 0xFFFF_FFFF if context < len(self.enable) else 0
        context, at = divmod(word - CONTEXT, CONTEXT_STRIDE)
        if context >= len(self.enable):
            return 0
        if at == 0:
            return self.threshold[context]
        return self._claim(context) if at == 4 else 0

    def write(self, offset: int, width: int, value: int) -> None:
        word = offset & ~3
        if word < PENDING:
            if 0 < word // 4 < self.sources:
                self.priority[word // 4] = value & PRIORITY_MASK
        elif word < ENABLE:
            return
        elif word < CONTEXT:
            context, at = divmod(word - ENABLE, ENABLE_STRIDE)
            if context < len(self.enable):
                mask = 0xFFFF_FFFF << 8 * at & (1 << self.sources) - 2
                self.enable[context] = self.enable[context] & ~mask | value << 8 * at & mask
        else:
            context, at = divmod(word - CONTEXT, CONTEXT_STRIDE)
            if context < len(self.enable) and at == 0:
                self.threshold[context] = value & PRIORITY_MASK
            elif context < len(self.enable) and at == 4 and value < self.sources:
                self.claimed &= ~(1 << value)
        self._update()

    def _input(self, number: int, level: int) -> None:
        with self.lock:
            self.levels = self.levels & ~(1 << number) | level << number
            self._update()

    def _best(self, context: int) -> int:
        """The source to claim: highest priority, then lowest number; 0 for none."""
        waiting = self.levels & ~self.claimed & self.enable[context]
        best = 0
        highest = 0
        while waiting:
            number = (waiting & -waiting).bit_length() - 1
            waiting &= waiting - 1
            if self.priority[number] > highest:
                best, highest = number, self.priority[number]
        return best

    def _claim(self, context: int) -> int:
        number = self._best(context)
        if number:
            self.claimed |= 1 << number
            self._update()
        return number

    def _update(self) -> None:
        for hart, cpu in enumerate(self.cpus):
            for mode, line in enumerate(INPUTS):
                context = 2 * hart + mode
                best = self._best(context)
                cpu.interrupt(line, int(bool(best) and self.priority[best] > self.threshold[context]))
