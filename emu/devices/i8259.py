"""8259A: the PC's programmable interrupt controller, one or two in cascade.

Source: Intel 8259A data sheet (231468); the edge/level control registers at 4D0h are the PIIX's (82371SB data
sheet, 2.5.4).
"""

from __future__ import annotations

from collections.abc import Callable

from accel.irq import IrqLine
from emu.device import Device, Irq, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.devices.apic import LocalApic

# ICW1
NEEDS_ICW4, SINGLE, LEVEL, ICW1 = 0x01, 0x02, 0x08, 0x10
# OCW3
READ_ISR, READ, POLL, OCW3 = 0x01, 0x02, 0x04, 0x08
# ICW4
AUTO_EOI, FULLY_NESTED = 0x02, 0x10
SPURIOUS = 7


class I8259(Device):
    """One 8259A.  `slaves` are chips whose output is one of its inputs, by input."""

    size = 2
    width = 1
    state = (
        *("levels", "irr", "isr", "imr", "elcr", "base", "expected", "wants_icw4", "auto_eoi", "nested"),
        *("special_mask", "read_isr", "poll", "rotation", "rotate_auto"),
    )

    output = Irq()

    COMMAND = Reg(0, state=False)
    DATA = Reg(1, state=False)

    def __init__(self) -> None:
        super().__init__()
        self.slaves: dict[int, I8259] = {}
        self.told: Callable[[], None] | None = None  # called after every change of what is requested
        self.elcr = 0
        self.levels = 0
        self._inputs = [self._make_input(number) for number in range(8)]
        self._clear()

    def _clear(self) -> None:
        self.irr = self.isr = self.imr = self.base = 0
        self.expected = 0  # the ICW that the next write of DATA is; 0 for OCW1
        self.wants_icw4 = self.auto_eoi = self.nested = 0
        self.special_mask = self.read_isr = self.poll = 0
        self.rotation = 0  # the input of highest priority
        self.rotate_auto = 0

    def _make_input(self, number: int) -> IrqLine:
        line = IrqLine()
        line.connect(lambda level: self._input(number, level))
        return line

    def line(self, number: int) -> IrqLine:
        """Input 0 to 7."""
        return self._inputs[number]

    def reset(self) -> None:
        self._clear()
        self.elcr = 0
        self._update()

    def restored(self) -> None:
        self._update()

    # -- registers ----------------------------------------------------------

    def read_COMMAND(self) -> int:
        if self.poll:
            self.poll = 0
            number = self._best()
            if number is None:
                return SPURIOUS
            self._take(number)
            return 0x80 | number
        return self.isr if self.read_isr else self.irr

    def read_DATA(self) -> int:
        return self.imr

    def write_COMMAND(self, value: int) -> None:
        if value & ICW1:
            levels = self.levels & self.elcr
            self._clear()
            self.irr = levels
            self.wants_icw4 = value & NEEDS_ICW4
            self.expected = 2
            self.single = value & SINGLE
        elif value & OCW3:
            if value & READ:
                self.read_isr = value & READ_ISR
            if value & 0x40:
                self.special_mask = value & 0x20
            self.poll = value & POLL
        else:
            self._end_of_interrupt(value)
        self._update()

    def write_DATA(self, value: int) -> None:
        if self.expected == 2:
            self.base = value & 0xF8
            self.expected = 3
        elif self.expected == 3:
            self.expected = 4 if self.wants_icw4 else 0
        elif self.expected == 4:
            self.auto_eoi = value & AUTO_EOI
            self.nested = value & FULLY_NESTED
            self.expected = 0
        else:
            self.imr = value
        self._update()

    def _end_of_interrupt(self, value: int) -> None:
        """OCW2: R, SL, EOI in bits 7 to 5, the level below."""
        rotate, specific, eoi = value & 0x80, value & 0x40, value & 0x20
        number = value & 7
        if eoi:
            if not specific:
                served = self._highest(self.isr)
                if served is None:
                    return
                number = served
            self.isr &= ~(1 << number)
            if rotate:
                self.rotation = number + 1 & 7
        elif specific and rotate:
            self.rotation = number + 1 & 7
        elif not specific:
            self.rotate_auto = rotate

    # -- interrupts ------------------------------------------------------------

    def _input(self, number: int, level: int) -> None:
        with self.lock:
            bit = 1 << number
            if level:
                if self.elcr & bit or not self.levels & bit:
                    self.irr |= bit
                self.levels |= bit
            else:
                self.levels &= ~bit
                # The 8259 wants the request to stay until it is acknowledged.
                self.irr &= ~bit
            self._update()

    def _highest(self, bits: int) -> int | None:
        for n in range(8):
            number = n + self.rotation & 7
            if bits >> number & 1:
                return number
        return None

    def _order(self, number: int | None) -> int:
        return 8 if number is None else number - self.rotation & 7

    def _best(self) -> int | None:
        """The request that gets through, or None."""
        request = self._highest(self.irr & ~self.imr)
        if request is None:
            return None
        serving = self.isr & ~self.imr if self.special_mask else self.isr
        limit = self._order(self._highest(serving))
        # A cascaded chip's more urgent request passes its own input's service in special fully nested mode.
        if self.nested and request in self.slaves and self._order(request) == limit:
            return request
        return request if self._order(request) < limit else None

    def _take(self, number: int) -> None:
        bit = 1 << number
        if not self.elcr & bit:
            self.irr &= ~bit
        if self.auto_eoi:
            if self.rotate_auto:
                self.rotation = number + 1 & 7
        else:
            self.isr |= bit
        self._update()

    def vector(self) -> int:
        """What the CPU would read in an acknowledge cycle now; nothing changes."""
        number = self._best()
        if number is None:
            return self.base | SPURIOUS
        return self.slaves[number].vector() if number in self.slaves else self.base | number

    def acknowledge(self) -> int:
        """The CPU's acknowledge cycle; returns the vector."""
        with self.lock:
            number = self._best()
            if number is None:
                return self.base | SPURIOUS
            self._take(number)
            if number in self.slaves:
                return self.slaves[number].acknowledge()
            return self.base | number

    def taken(self, number: int) -> None:
        """The CPU's acknowledge cycle was for this input; with the lock held."""
        if number != SPURIOUS or self.irr >> SPURIOUS & 1:
            self._take(number)
        else:
            self._update()

    def _update(self) -> None:
        self.output.set(self._best() is not None)
        if self.told is not None:
            self.told()


class Elcr(Device):
    """The edge/level control registers of both chips: a bit is one for a level-triggered input."""

    size = 2
    width = 1

    ELCR1 = Reg(0, write=0xF8)
    ELCR2 = Reg(1, write=0xDE)

    def __init__(self, master: I8259, slave: I8259) -> None:
        super().__init__()
        self.master = master
        self.slave = slave

    def write_ELCR1(self, value: int) -> None:
        self.master.elcr = int(self.ELCR1)

    def write_ELCR2(self, value: int) -> None:
        self.slave.elcr = int(self.ELCR2)


class Pics:
    """The PC's two chips as one InterruptController: lines 0 to 15, the second chip at line 2."""

    CASCADE = 2

    def __init__(self) -> None:
        self.master = I8259()
        self.slave = I8259()
        self.elcr = Elcr(self.master, self.slave)
        # One lock for all: an acknowledge goes from the first chip to the second, requests the other way.
        self.slave.lock = self.elcr.lock = self.master.lock
        self.master.slaves[self.CASCADE] = self.slave
        self.slave.connect(self.master.line(self.CASCADE))
        self._offer: Callable[[int], None] | None = None
        self.master.told = self._drive
        self._offered = 0  # what stands at INTR: a vector + 1

    def line(self, number: int) -> IrqLine:
        """Input 0 to 15."""
        return self.master.line(number) if number < 8 else self.slave.line(number - 8)

    def connect_apic(self, apic: LocalApic) -> None:
        """Connects INTR to the first CPU's local APIC, LINT0."""
        self._offer = apic.external
        apic.acknowledged(self._taken)

    def _drive(self) -> None:
        """Offers the CPU the vector of the best request: a better one may come while INTR is high."""
        offer = self.master.vector() + 1 if self.master.output.level else 0
        if offer != self._offered and self._offer is not None:
            self._offered = offer
            self._offer(offer)

    def _taken(self, vector: int) -> None:
        with self.master.lock:
            self._offered = -1  # whatever stands there now, it is said again
            # What has come since, or gone, is not what the CPU has taken.
            number, behind = vector - self.master.base, vector - self.slave.base
            if number in range(8) and number != self.CASCADE:
                self.master.taken(number)
            elif behind in range(8):
                self.slave.output.set(0)  # for the cycle; what else it has is another edge
                self.master.taken(self.CASCADE)
                self.slave.taken(behind)
            else:
                self.master.taken(SPURIOUS)
