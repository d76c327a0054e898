"""PL061: Arm's PrimeCell general-purpose input and output, eight pins.

Source: ARM PrimeCell General Purpose Input/Output (PL061) Technical Reference Manual (DDI 0190B), chapters 2
and 3.
"""

from __future__ import annotations

from emu.device import Context, Device, Irq, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.loader.fdt import Node

PINS = 8
ALL = 0xFF
# GPIODATA: the address bits 9 to 2 say which pins an access is about (TRM, 3.3.1).
DATA_END = 0x400
# How long a key is held, in ns: longer than drivers wait for contacts that bounce.
PRESS = 100_000_000


class Pl061(Device):
    """A PL061; `level` holds what the board drives its pins with."""

    compatible = "arm,pl061 arm,primecell"
    node_name = "pl061"
    state = ("level", "output", "edges", "pressed", "release")

    irq = Irq()

    DIR = Reg(0x400, write=ALL)
    IS = Reg(0x404, write=ALL)
    IBE = Reg(0x408, write=ALL)
    IEV = Reg(0x40C, write=ALL)
    IE = Reg(0x410, write=ALL)
    RIS = Reg(0x414, state=False)
    MIS = Reg(0x418, state=False)
    IC = Reg(0x41C)
    AFSEL = Reg(0x420, write=ALL)
    PeriphID0 = Reg(0xFE0, reset=0x61)
    PeriphID1 = Reg(0xFE4, reset=0x10)
    PeriphID2 = Reg(0xFE8, reset=0x04)
    PeriphID3 = Reg(0xFEC, reset=0x00)
    PCellID0 = Reg(0xFF0, reset=0x0D)
    PCellID1 = Reg(0xFF4, reset=0xF0)
    PCellID2 = Reg(0xFF8, reset=0x05)
    PCellID3 = Reg(0xFFC, reset=0xB1)

    def __init__(self) -> None:
        super().__init__()
        self.level = self.output = self.edges = self.pressed = 0

    def realize(self, context: Context) -> None:
        self.now = context.clock.now
        self.release = self.timer(self._released)

    def reset(self) -> None:
        self.output = self.edges = self.pressed = 0
        self.level = 0

    def restored(self) -> None:
        self._update()

    def fdt(self, node: Node) -> None:
        node["gpio-controller"] = True
        node["#gpio-cells"] = 2
        node["interrupt-controller"] = True
        node["#interrupt-cells"] = 2

    # -- what the board does ------------------------------------------------------

    def drive(self, pin: int, level: int) -> None:
        """Sets what comes in at a pin; from any thread."""
        with self.lock:
            before = self._pins()
            self.level = self.level & ~(1 << pin) | (level & 1) << pin
            self._sense(before)

    def press(self, pin: int) -> None:
        """Presses a key at a pin: high, and low again after a moment of the guest's time; from any thread."""
        with self.lock:
            self.pressed |= 1 << pin
            self.drive(pin, 1)
            self.release.arm(self.now() + PRESS)

    def _released(self) -> None:
        for pin in range(PINS):
            if self.pressed >> pin & 1:
                self.drive(pin, 0)
        self.pressed = 0

    # -- registers ------------------------------------------------------------------

    def read(self, offset: int, width: int) -> int:
        return self._pins() & offset >> 2 if offset < DATA_END and not offset & 3 else 0

    def write(self, offset: int, width: int, value: int) -> None:
        if offset < DATA_END and not offset & 3:
            before = self._pins()
            mask = offset >> 2 & ALL
            self.output = self.output & ~mask | value & mask
            self._sense(before)

    def write_DIR(self, value: int) -> None:
        self._update()

    write_IS = write_IBE = write_IEV = write_IE = write_DIR

    def write_IC(self, value: int) -> None:
        self.edges &= ~value
        self._update()

    def _pins(self) -> int:
        direction = int(self.DIR)
        return self.level & ~direction & ALL | self.output & direction

    def _sense(self, before: int) -> None:
        """Remembers edges of inputs, as IBE and IEV choose them (TRM, 3.3.3 to 3.3.5)."""
        now = self._pins()
        changed = (now ^ before) & ~int(self.DIR) & ~int(self.IS)
        chosen = self.IBE | ~(now ^ int(self.IEV))
        self.edges |= changed & chosen & ALL
        self._update()

    def _update(self) -> None:
        inputs = ~int(self.DIR) & ALL
        levels = ~(self._pins() ^ int(self.IEV)) & int(self.IS) & inputs
        self.RIS = self.edges & ~int(self.IS) | levels
        self.MIS = self.RIS & self.IE
        self.irq.set(int(self.MIS != 0))
