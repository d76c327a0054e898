"""UART 16550A: the PC's serial port, with FIFOs of 16 bytes.

Characters leave at once, so the transmitter is empty whenever the host takes them.  Registers that share an
address go by the name of the one that is read.  Source: National Semiconductor PC16550D data sheet, section
8.
"""

from __future__ import annotations

from emu.device import Context, Device, Irq, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.loader.fdt import Node

FIFO = 16
TRIGGERS = (1, 4, 8, 14)

# LCR
DLAB = 0x80
# IER
RDA, THRE_EMPTY, LINE_STATUS, MODEM_STATUS = 1, 2, 4, 8
# LSR
DR, OE, THRE, TEMT = 0x01, 0x02, 0x20, 0x40
# IIR: what is pending, by falling priority
IIR_LINE, IIR_DATA, IIR_TIMEOUT, IIR_THRE, IIR_MODEM, IIR_NONE = 0x06, 0x04, 0x0C, 0x02, 0x00, 0x01
# MCR
LOOP = 0x10


class Uart16550(Device):
    """A 16550A; clock: its input in Hz."""

    compatible = "ns16550a"
    node_name = "serial"
    size = 8
    width = 1
    state = ("received", "last", "divisor", "ier", "fcr", "empty_pending", "timed_out", "timeout")

    irq = Irq()

    RBR = Reg(0, state=False)  # read RBR, written THR; DLL while DLAB
    IER = Reg(1, state=False)  # DLM while DLAB
    IIR = Reg(2, state=False)  # written FCR
    LCR = Reg(3, write=0xFF)
    MCR = Reg(4, write=0x1F)
    LSR = Reg(5, reset=THRE | TEMT)
    MSR = Reg(6, reset=0xB0)
    SCR = Reg(7, write=0xFF)

    def __init__(self, clock: int = 1_843_200) -> None:
        super().__init__()
        self.clock = clock
        self.received = bytearray()
        self.last = 0
        self.divisor = 12
        self.ier = 0
        self.fcr = 0
        self.empty_pending = 0
        self.timed_out = 0

    def realize(self, context: Context) -> None:
        self.chardev = context.chardev
        self.chardev.connect(self)
        self.now = context.clock.now
        self.timeout = self.timer(self._character_timeout)

    def reset(self) -> None:
        self.received.clear()
        self.divisor = 12
        self.ier = self.fcr = self.empty_pending = self.timed_out = self.last = 0
        self._hooks()
        self.chardev.accept()

    def restored(self) -> None:
        self._hooks()

    def fdt(self, node: Node) -> None:
        node["clock-frequency"] = self.clock

    # -- registers ----------------------------------------------------------

    def read_RBR(self) -> int:
        if self.LCR & DLAB:
            return self.divisor & 0xFF
        if self.received:
            self.last = self.received.pop(0)
        elif self.fcr & 1:
            self.last = 0
        self.timed_out = 0
        self._received_changed()
        self.chardev.accept()
        return self.last  # without a FIFO the holding register keeps its character

    def write_RBR(self, value: int) -> None:
        if self.LCR & DLAB:
            self.divisor = self.divisor & 0xFF00 | value
        elif self.MCR & LOOP:
            self._loop_back(value)
        else:
            self.chardev.write(value.to_bytes())
            if self.chardev.full:
                self.LSR &= ~(THRE | TEMT)
            self._transmitted()

    def read_IER(self) -> int:
        return self.divisor >> 8 if self.LCR & DLAB else self.ier

    def write_IER(self, value: int) -> None:
        if self.LCR & DLAB:
            self.divisor = self.divisor & 0xFF | value << 8
            return
        if value & ~self.ier & THRE_EMPTY and self.LSR & THRE:
            self.empty_pending = 1
        self.ier = value & 0x0F
        self._update()

    def read_IIR(self) -> int:
        pending = self._pending()
        if pending == IIR_THRE:
            self.empty_pending = 0
            self._update()
        return pending | (0xC0 if self.fcr & 1 else 0)

    def write_IIR(self, value: int) -> None:
        """FCR: FIFO enable, resets, trigger."""
        changed = (value ^ self.fcr) & 1
        if changed or value & 2:
            self.received.clear()
            self.timed_out = 0
        if changed or value & 4:
            self.empty_pending = 1
        self.fcr = value & 0xC9 if value & 1 else 0
        self._received_changed()
        self.chardev.accept()

    def write_MCR(self, value: int) -> None:
        lines = 0xB0
        if value & LOOP:
            # RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD.
            lines = (value & 2) << 3 | (value & 1) << 5 | (value & 0x0C) << 4
        before = self.MSR
        changed = (before ^ lines) & 0xB0 | before & ~lines & 0x40  # RI counts when it ends
        self.MSR = lines | before & 0x0F | changed >> 4
        self._hooks()
        self._update()
        self.chardev.accept()

    def read_LSR(self) -> int:
        """Hooked only while an overrun is to be told; reading it clears it."""
        value = int(self.LSR)
        self.LSR = value & ~OE
        self._hooks()
        self._update()
        return value

    def read_MSR(self) -> int:
        """Hooked only while changes are to be told; reading them clears them."""
        value = int(self.MSR)
        self.MSR = value & 0xF0
        self._hooks()
        self._update()
        return value

    # -- the line ---------------------------------------------------------------

    def room(self) -> int:
        if self.MCR & LOOP:
            return 0
        return (FIFO if self.fcr & 1 else 1) - len(self.received)

    def receive(self, data: bytes) -> None:
        self.received += data
        self._received_changed()

    def drained(self) -> None:
        self.LSR |= THRE | TEMT
        self._transmitted()

    def _loop_back(self, value: int) -> None:
        if len(self.received) < (FIFO if self.fcr & 1 else 1):
            self.received.append(value)
        else:
            if not self.fcr & 1:
                self.received[0] = value  # without a FIFO the new character replaces the old
            self.LSR |= OE
            self._hooks()
        self._received_changed()
        self._transmitted()

    def _transmitted(self) -> None:
        """The holding register is empty again: an edge, even if it was asked to be told before."""
        if self.ier & THRE_EMPTY and self.LSR & THRE:
            self.empty_pending = 0
            self._update()
            self.empty_pending = 1
            self._update()

    def _received_changed(self) -> None:
        if self.received:
            self.LSR |= DR
            if self.ier & RDA and len(self.received) < self._trigger():
                # four characters of ten bits, of sixteen clocks a bit
                self.timeout.arm(self.now() + 640 * max(self.divisor, 1) * 1_000_000_000 // self.clock)
        else:
            self.LSR &= ~DR
            self.timeout.cancel()
        self._update()

    def _character_timeout(self) -> None:
        if self.received:
            self.timed_out = 1
            self._update()

    # -- interrupts ---------------------------------------------------------------

    def _trigger(self) -> int:
        return TRIGGERS[self.fcr >> 6] if self.fcr & 1 else 1

    def _pending(self) -> int:
        if self.ier & LINE_STATUS and self.LSR & OE:
            return IIR_LINE
        if self.ier & RDA and self.received:
            if len(self.received) >= self._trigger():
                return IIR_DATA
            if self.timed_out:
                return IIR_TIMEOUT
        if self.ier & THRE_EMPTY and self.empty_pending:
            return IIR_THRE
        if self.ier & MODEM_STATUS and self.MSR & 0x0F:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        self.irq.set(self._pending() != IIR_NONE)

    def _hooks(self) -> None:
        self.hook("LSR", read=bool(self.LSR & OE))
        self.hook("MSR", read=bool(self.MSR & 0x0F))
