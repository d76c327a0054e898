"""GICv2: Arm's Generic Interrupt Controller, distributor and CPU interface, for one CPU.

The distributor is at the device's base, the CPU interface 64 KiB above it.  Interrupts 0 to 15 are
software's, 16 to 31 the CPU's own (its timers), from 32 on the board's.  Without the Security Extensions.
Source: ARM Generic Interrupt Controller Architecture Specification, version 2.0 (IHI 0048B.b), chapters 3
and 4.
"""

from __future__ import annotations

from accel.irq import IrqLine
from emu.device import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Cpu

CPU_INTERFACE = 0x1_0000
FIRST_SPI = 32
SPURIOUS = 1023
IDLE = 0xFF
# A GIC of 32 priorities: the low three bits of each are not there.
PRIORITY_MASK = 0xF8
WORD = 0xFFFF_FFFF
# GICD_CTLR.EnableGrp0 and GICC_CTLR.EnableGrp0; GICC_CTLR.EOImodeNS
ENABLE = 1
EOI_MODE = 1 << 9
# PIDR and CIDR of Arm's GICv2, from offset 0xfd0 of the distributor on.
IDS = (4, 0, 0, 0, 0x90, 0xB4, 0x2B, 0, 0x0D, 0xF0, 0x05, 0xB1)


class Gicv2(Device):
    """A GICv2 with `spis` interrupts of the board."""

    size = 0x2_0000
    version = 1
    state = (
        *("distributor", "interface", "mask", "binary_point", "priority", "nested"),
        *("levels", "latched", "enabled", "active", "edge"),
    )

    def __init__(self, spis: int = 256) -> None:
        super().__init__()
        self.interrupts = FIRST_SPI + spis
        self.priority = bytearray(self.interrupts)
        self.cpu: Cpu | None = None
        self.nested: list[int] = []
        self._inputs: dict[int, IrqLine] = {}
        self._clear()

    def _clear(self) -> None:
        self.distributor = self.interface = self.mask = self.binary_point = 0
        self.levels = self.latched = self.active = 0
        self.enabled = self.edge = 0xFFFF  # software interrupts are always both
        self.priority[:] = bytes(self.interrupts)
        self.nested.clear()

    def connect_cpu(self, cpu: Cpu) -> None:
        """Gives the CPU its IRQ input."""
        self.cpu = cpu

    def line(self, number: int) -> IrqLine:
        """The board's interrupt `number`, 0 first; the same object each time."""
        return self.input(FIRST_SPI + number)

    def input(self, number: int) -> IrqLine:
        """The input of interrupt ID `number`, 16 or more; the same object each time."""
        if number not in self._inputs:
            line = self._inputs[number] = IrqLine()
            line.connect(lambda level: self._input(number, level))
        return self._inputs[number]

    def wire(self, number: int, line: IrqLine) -> None:
        """Ends a line that is somebody else's, a CPU's timer's, at the input of interrupt ID `number`."""
        line.connect(lambda level: self._input(number, level))

    def reset(self) -> None:
        levels = self.levels
        self._clear()
        self.levels = levels  # wires are not ours to reset
        self._update()

    def restored(self) -> None:
        self._update()

    # -- accesses -----------------------------------------------------------

    def read(self, offset: int, width: int) -> int:
        at = offset & (CPU_INTERFACE - 1)
        if offset >= CPU_INTERFACE:
            return self._read_interface(at & ~3) >> 8 * (at & 3)
        if 0x400 <= at < 0x800:
            first = at - 0x400
            return int.from_bytes(self.priority[first : first + width].ljust(width, b"\0"), "little")
        return self._read_distributor(at & ~3) >> 8 * (at & 3)

    def write(self, offset: int, width: int, value: int) -> None:
        at = offset & (CPU_INTERFACE - 1)
        if offset >= CPU_INTERFACE:
            self._write_interface(at & ~3, value)
        elif 0x400 <= at < 0x800:
            for n, byte in enumerate(value.to_bytes(width, "little")):
                if at - 0x400 + n < self.interrupts:
                    self.priority[at - 0x400 + n] = byte & PRIORITY_MASK
        else:
            self._write_distributor(at & ~3, value)
        self._update()

    def _read_distributor(self, at: int) -> int:
        if at == 0x000:
            return self.distributor
        if at == 0x004:
            return self.interrupts // 32 - 1  # one CPU
        if at == 0x008:
            return 0x0200_043B  # IIDR: Arm
        shift = 8 * (at & 0x7F)  # bit per interrupt
        if 0x100 <= at < 0x200:
            return self.enabled >> shift & WORD
        if 0x200 <= at < 0x300:
            return self._pending() >> shift & WORD
        if 0x300 <= at < 0x400:
            return self.active >> shift & WORD
        if 0xC00 <= at < 0xD00:
            word = 0
            for n in range(16):
                word |= (self.edge >> (at - 0xC00) * 4 + n & 1) << 2 * n + 1
            return word
        if 0xF20 <= at < 0xF30:
            return int.from_bytes(bytes(self.latched >> at - 0xF20 + n & 1 for n in range(4)), "little")
        if 0xFD0 <= at < 0x1000:
            return IDS[(at - 0xFD0) // 4]
        return 0

    def _write_distributor(self, at: int, value: int) -> None:
        bits = value << 8 * (at & 0x7F) & (1 << self.interrupts) - 1
        if at == 0x000:
            self.distributor = value & ENABLE
        elif 0x100 <= at < 0x180:
            self.enabled |= bits
        elif 0x180 <= at < 0x200:
            self.enabled &= ~bits | 0xFFFF
        elif 0x200 <= at < 0x280:
            self.latched |= bits & ~0xFFFF
        elif 0x280 <= at < 0x300:
            self.latched &= ~bits | 0xFFFF
        elif 0x300 <= at < 0x380:
            self.active |= bits
        elif 0x380 <= at < 0x400:
            self.active &= ~bits
        elif 0xC04 <= at < 0xD00:
            for n in range(16):
                bit = 1 << (at - 0xC00) * 4 + n
                self.edge = self.edge | bit if value >> 2 * n + 1 & 1 else self.edge & ~bit
        elif at == 0xF00:
            # SGIR: to the listed CPUs, to all others, or to this one; there is one CPU.
            target = value >> 24 & 3
            if target == 2 or (target == 0 and value >> 16 & 1):
                self.latched |= 1 << (value & 15)
        elif 0xF10 <= at < 0xF30:
            for n in range(4):
                if value >> 8 * n & 1:
                    bit = 1 << (at & 15) + n
                    self.latched = self.latched | bit if at >= 0xF20 else self.latched & ~bit

    def _read_interface(self, at: int) -> int:
        if at == 0x00:
            return self.interface
        if at == 0x04:
            return self.mask
        if at == 0x08:
            return self.binary_point
        if at == 0x0C:
            return self._acknowledge()
        if at == 0x14:
            return self._running()
        if at == 0x18:
            return self._best()[0]
        return 0x0202_043B if at == 0xFC else 0  # IIDR: Arm, GICv2

    def _write_interface(self, at: int, value: int) -> None:
        if at == 0x00:
            self.interface = value & (ENABLE | EOI_MODE)
        elif at == 0x04:
            self.mask = value & PRIORITY_MASK
        elif at == 0x08:
            self.binary_point = value & 7
        elif at == 0x10 and self.nested:
            number = value & 0x3FF
            if number < self.interrupts:
                self.nested.pop()
                if not self.interface & EOI_MODE:
                    self.active &= ~(1 << number)
        elif at == 0x1000 and value & 0x3FF < self.interrupts:
            self.active &= ~(1 << (value & 0x3FF))

    # -- what is taken ---------------------------------------------------------

    def _input(self, number: int, level: int) -> None:
        with self.lock:
            bit = 1 << number
            if level:
                self.levels |= bit
                self.latched |= bit & self.edge
            else:
                self.levels &= ~bit
            self._update()

    def _pending(self) -> int:
        return self.latched | self.levels & ~self.edge

    def _running(self) -> int:
        return self.nested[-1] if self.nested else IDLE

    def _best(self) -> tuple[int, int]:
        """The pending interrupt of highest priority (the lowest number), and its priority."""
        best, highest = SPURIOUS, IDLE + 1
        if self.distributor & ENABLE and self.interface & ENABLE:
            waiting = self._pending() & self.enabled & ~self.active
            while waiting:
                number = (waiting & -waiting).bit_length() - 1
                waiting &= waiting - 1
                if self.priority[number] < highest:
                    best, highest = number, self.priority[number]
        return best, highest

    def _signalled(self) -> bool:
        """Whether the best one gets through: above the mask, and above what is running in its group."""
        number, priority = self._best()
        if number == SPURIOUS or priority >= self.mask:
            return False
        group = 0xFF << self.binary_point + 1 & 0xFF
        return not self.nested or priority & group < self._running() & group

    def _acknowledge(self) -> int:
        if not self._signalled():
            return SPURIOUS
        number, priority = self._best()
        self.active |= 1 << number
        self.latched &= ~(1 << number)
        self.nested.append(priority)
        self._update()
        return number

    def _update(self) -> None:
        if self.cpu is not None:
            self.cpu.interrupt(0, int(self._signalled()))
