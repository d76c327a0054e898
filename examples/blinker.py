"""A light that blinks: a device with its registers, interrupt and timer.  See blinker_machine.py."""

from emu import Device, Irq, Reg

MILLISECOND = 1_000_000


class Blinker(Device):
    """CTRL.enable makes it blink every CTRL.period ms; COUNT counts, and each time asks for an interrupt."""

    compatible = "emu,blinker"
    size = 0x1000
    state = ("tick",)
    irq = Irq()

    CTRL = Reg(0x00, write=0xFF1, fields={"enable": 0, "period": (11, 4)})
    COUNT = Reg(0x04)
    STATUS = Reg(0x08, w1c=1, fields={"blinked": 0})
    SCRATCH = Reg(0x0C, reset=0x1234, write=0xFFFF)

    def realize(self, context):
        self.clock = context.clock
        self.tick = self.timer(self.blink)

    def write_CTRL(self, value):
        if value.enable:
            self.tick.arm(self.clock.now() + value.period * MILLISECOND)
        else:
            self.tick.cancel()

    def write_STATUS(self, value):
        self.irq.set(self.STATUS.blinked)

    def blink(self):
        self.COUNT += 1
        self.STATUS.blinked = 1
        self.irq.set(1)
        self.tick.arm(self.clock.now() + self.CTRL.period * MILLISECOND)
