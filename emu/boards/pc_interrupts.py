"""A PC's interrupt controllers: the board's own, the kernel's, or both together; and who takes each line.

    kernel   PICs, I/O APIC, local APICs and the 8254 are the engine's; the board's own stand there in silence
    split    local APICs are the engine's; the board's I/O APIC and PICs use them
    board    all are the board's own

Lines 0 to 15 end at the PICs and the I/O APIC, the timer's at another input of that; 16 to 23 there alone.
"""

from __future__ import annotations

from typing import Any

from accel.irq import IrqLine
from emu.devices.apic import IO_BASE, LOCAL_BASE, IoApic, LocalApic
from emu.devices.i8254 import I8254, PortB
from emu.devices.i8259 import Pics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.api import Accelerator
    from emu.machine import Cpu, Machine

ISA_LINES, PIT_LINE, PIT_INPUT = 16, 0, 2


class PcInterrupts:
    """The controllers of one machine; made before its CPUs."""

    def __init__(self, engine: Accelerator, cpus: int) -> None:
        self.pics = Pics()
        self.apic = LocalApic(cpus)
        self.io_apic = IoApic(self.apic)
        self.pics.connect_apic(self.apic)
        self.kernel: Any = engine.irqchip("pc")
        local = engine.irqchip("lapic")
        if local is not None:
            self.apic.leave_to(local)
        self.who = "kernel" if self.kernel is not None else "board" if local is None else "split"
        self._lines: dict[int, IrqLine] = {}

    def connect_cpu(self, cpu: Cpu) -> None:
        """Gives the next CPU its interrupts."""
        if self.who != "kernel":
            self.apic.connect_cpu(cpu)

    def start_cpu(self, index: int, vcpu: Any) -> None:
        """The first CPU starts by itself, the others when it tells them to; the kernel sees to its own."""
        if self.who == "board" and index != 0:
            vcpu.park()

    def line(self, number: int) -> IrqLine:
        """Line 0 to 23; the same object each time."""
        if number not in self._lines:
            line = IrqLine()
            self._end(number, line)
            self._lines[number] = line
        return self._lines[number]

    def _end(self, number: int, line: IrqLine) -> None:
        if self.kernel is not None:
            if number != PIT_LINE:  # that is the kernel's own timer's
                self.kernel.wire(number, line)
        elif number >= ISA_LINES:
            self.io_apic.wire(number, line)
        else:
            old = self.pics.line(number)
            new = self.io_apic.line(PIT_INPUT if number == PIT_LINE else number)

            def drive(level: int) -> None:
                old.set(level)
                new.set(level)

            line.connect(drive)

    def attach(self, machine: Machine) -> None:
        """Puts the board's own where every PC has them; what the kernel has never comes to them."""
        ports = machine.ports
        assert ports is not None
        ports.attach("pic0", self.pics.master, 0x20)
        ports.attach("pic1", self.pics.slave, 0xA0)
        ports.attach("elcr", self.pics.elcr, 0x4D0)
        timer = I8254()
        ports.attach("pit", timer, 0x40, irq=PIT_LINE)
        ports.attach("port-b", PortB(timer), 0x61, priority=1)
        machine.bus.attach("apic", self.apic, LOCAL_BASE)
        machine.bus.attach("io-apic", self.io_apic, IO_BASE)
