"""PL011: Arm's PrimeCell UART, with FIFOs of 16 characters.

Characters leave at once: the transmit FIFO is empty whenever the host takes them.  Source: PrimeCell UART
(PL011) Technical Reference Manual, r1p5, chapter 3.
"""

from __future__ import annotations

from emu.device import Context, Device, Irq, Reg

# Interrupts: bits of IMSC, RIS, MIS and ICR
RX, TX, RT, OE = 1 << 4, 1 << 5, 1 << 6, 1 << 10
ALL = 0x7FF
# DR
DR_OE = 1 << 11
# CR
LBE = 1 << 7
# Receive FIFO levels that interrupt, by IFLS bits 5 to 3: 1/8, 1/4, 1/2, 3/4, 7/8
LEVELS = (2, 4, 8, 12, 14, 14, 14, 14)


class Pl011(Device):
    """A PL011; clock: UARTCLK in Hz."""

    compatible = "arm,pl011 arm,primecell"
    node_name = "pl011"
    size = 0x1000
    state = ("received", "overrun", "timeout")

    irq = Irq()

    DR = Reg(0x000, state=False)
    RSR = Reg(0x004)  # written ECR: clears it
    FR = Reg(
        0x018,
        reset=0x90,
        fields={"CTS": 0, "DSR": 1, "DCD": 2, "BUSY": 3, "RXFE": 4, "TXFF": 5, "RXFF": 6, "TXFE": 7, "RI": 8},
    )
    ILPR = Reg(0x020, write=0xFF)
    IBRD = Reg(0x024, write=0xFFFF)
    FBRD = Reg(0x028, write=0x3F)
    LCR_H = Reg(0x02C, write=0xFF, fields={"BRK": 0, "FEN": 4, "WLEN": (6, 5)})
    CR = Reg(0x030, reset=0x300, write=0xFF87)
    IFLS = Reg(0x034, reset=0x12, write=0x3F)
    IMSC = Reg(0x038, write=ALL)
    RIS = Reg(0x03C)
    MIS = Reg(0x040, state=False)
    ICR = Reg(0x044)
    DMACR = Reg(0x048, write=0x7)
    PeriphID0 = Reg(0xFE0, reset=0x11)
    PeriphID1 = Reg(0xFE4, reset=0x10)
    PeriphID2 = Reg(0xFE8, reset=0x34)  # revision r1p5
    PeriphID3 = Reg(0xFEC, reset=0x00)
    PCellID0 = Reg(0xFF0, reset=0x0D)
    PCellID1 = Reg(0xFF4, reset=0xF0)
    PCellID2 = Reg(0xFF8, reset=0x05)
    PCellID3 = Reg(0xFFC, reset=0xB1)

    def __init__(self, clock: int = 24_000_000) -> None:
        super().__init__()
        self.clock = clock
        self.received = bytearray()
        self.overrun = 0

    def realize(self, context: Context) -> None:
        self.chardev = context.chardev
        self.chardev.connect(self)
        self.now = context.clock.now
        self.timeout = self.timer(self._receive_timeout)

    def reset(self) -> None:
        self.received.clear()
        self.overrun = 0
        self.chardev.accept()

    def restored(self) -> None:
        self.MIS = self.RIS & self.IMSC

    # -- registers ----------------------------------------------------------

    def read_DR(self) -> int:
        if not self.received:
            return 0
        value = self.received.pop(0)
        if self.overrun and not self.received:
            value |= DR_OE
            self.overrun = 0
        self.RSR = value >> 8
        if len(self.received) < self._level():
            self.RIS &= ~RX
        if not self.received:
            self.RIS &= ~RT
        self._received_changed()
        self.chardev.accept()
        return value

    def write_DR(self, value: int) -> None:
        character = value & 0xFF
        if self.CR & LBE:
            if len(self.received) < self._depth():
                self._arrive(bytes([character]))
            else:
                self.overrun = 1
                self.RIS |= OE
        else:
            self.chardev.write(character.to_bytes())
            if self.chardev.full:
                self.FR |= 0x28  # busy, TXFF
                self.FR &= ~0x80
                self._update()
                return
        self.RIS |= TX
        self._update()

    def write_RSR(self, value: int) -> None:
        self.RSR = 0

    def write_LCR_H(self, value: int) -> None:
        self._received_changed()
        self.chardev.accept()

    def write_CR(self, value: int) -> None:
        self.chardev.accept()

    def write_IFLS(self, value: int) -> None:
        self._received_changed()

    def write_IMSC(self, value: int) -> None:
        self._update()

    def write_ICR(self, value: int) -> None:
        self.RIS &= ~(value & ALL)
        self._update()

    # -- the line ---------------------------------------------------------------

    def room(self) -> int:
        return 0 if self.CR & LBE else max(0, self._depth() - len(self.received))

    def receive(self, data: bytes) -> None:
        self._arrive(data)

    def drained(self) -> None:
        self.FR = self.FR & ~0x28 | 0x80
        self.RIS |= TX
        self._update()

    def _arrive(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= self._level():
            self.RIS |= RX
        # 32 bit periods of sixteen clocks, times IBRD + FBRD/64
        divisor = max(64, int(self.IBRD) * 64 + int(self.FBRD))
        self.timeout.arm(self.now() + 32 * 16 * divisor * 1_000_000_000 // (64 * self.clock))
        self._received_changed()

    def _receive_timeout(self) -> None:
        if self.received:
            self.RIS |= RT
            self._update()

    def _received_changed(self) -> None:
        full = len(self.received) >= self._depth()
        self.FR = self.FR & ~0x50 | (0 if self.received else 0x10) | (0x40 if full else 0)
        self._update()

    def _depth(self) -> int:
        return 16 if self.LCR_H.FEN else 1

    def _level(self) -> int:
        return LEVELS[self.IFLS >> 3 & 7] if self.LCR_H.FEN else 1

    def _update(self) -> None:
        self.MIS = self.RIS & self.IMSC
        self.irq.set(self.MIS != 0)
