"""8042: the PC's keyboard controller with neither keyboard nor mouse, and port 92h beside it.

What is left are the pins that PCs have long used for other things: the CPU's reset and A20.  The board has no
gate for A20; it reads as open and stays so.  A device that is not there is told of at once (FEh and the
status' time-out bit), so that nobody waits for it.

Source: IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
Controller" and "System Control Port A".
"""

from __future__ import annotations

from emu.device import Context, Device, Irq, Reg

# The status register: output full, self test passed, last write was a command, not locked, output is the
# auxiliary device's, time-out.
OUTPUT, TESTED, COMMAND, UNLOCKED, AUXILIARY, TIME_OUT = 0x01, 0x04, 0x08, 0x10, 0x20, 0x40
# The command byte: interrupts, keyboard and auxiliary device off.
IRQ_1, IRQ_12, KEYBOARD_OFF, AUXILIARY_OFF = 0x01, 0x02, 0x10, 0x20
# The output port, whose other pins are high or not connected.
NO_RESET, A20, PINS = 0x01, 0x02, 0xCF
RESEND, PASSED = 0xFE, 0x55
# Commands that answer without changing anything, and those that switch a bit of the command byte.
ANSWERS = {0xA9: 0x00, 0xAB: 0x00, 0xC0: 0x80, 0xD0: PINS}
SWITCHES = {
    0xA7: (AUXILIARY_OFF, True),
    0xA8: (AUXILIARY_OFF, False),
    0xAD: (KEYBOARD_OFF, True),
    0xAE: (KEYBOARD_OFF, False),
}
READ_BYTE, SELF_TEST, PULSE = 0x20, 0xAA, 0xF0
# Commands that the next byte written to the data port belongs to.
WRITE_BYTE, WRITE_OUTPUT, ECHO, ECHO_AUXILIARY, TO_AUXILIARY = 0x60, 0xD1, 0xD2, 0xD3, 0xD4
TAKING = (WRITE_BYTE, WRITE_OUTPUT, ECHO, ECHO_AUXILIARY, TO_AUXILIARY)


class I8042(Device):
    """Data at 60h, commands and status at 64h; the ports between are others'."""

    size = 5
    width = 1
    state = ("byte", "command")

    irq = Irq()
    auxiliary = Irq()

    DATA = Reg(0)
    STATUS = Reg(4, reset=UNLOCKED)

    def __init__(self) -> None:
        super().__init__()
        self.byte = self.command = 0

    def realize(self, context: Context) -> None:
        self.machine = context

    def reset(self) -> None:
        self.byte = IRQ_1 | IRQ_12
        self.command = 0

    def read(self, offset: int, width: int) -> int:
        return (1 << 8 * width) - 1

    def read_DATA(self) -> int:
        self._status(OUTPUT | AUXILIARY | TIME_OUT, 0)
        return self.DATA

    def write_DATA(self, value: int) -> None:
        self._status(COMMAND, 0)
        command, self.command = self.command, 0
        if command == WRITE_BYTE:
            self.byte = value
            self._drive()
        elif command == WRITE_OUTPUT:
            if not value & NO_RESET:
                self.machine.reset()
        elif command in (ECHO, ECHO_AUXILIARY):
            self._answer(value, AUXILIARY if command == ECHO_AUXILIARY else 0)
        else:
            self._answer(RESEND, TIME_OUT | (AUXILIARY if command == TO_AUXILIARY else 0))

    def write_STATUS(self, value: int) -> None:
        self._status(0, COMMAND)
        self.command = value if value in TAKING else 0
        if value in ANSWERS:
            self._answer(ANSWERS[value])
        elif value in SWITCHES:
            bit, on = SWITCHES[value]
            self.byte = self.byte | bit if on else self.byte & ~bit
        elif value == READ_BYTE:
            self._answer(self.byte)
        elif value == SELF_TEST:
            self._status(0, TESTED)
            self._answer(PASSED)
        elif value >= PULSE and not value & NO_RESET:
            self.machine.reset()

    def _answer(self, value: int, why: int = 0) -> None:
        self.DATA = value
        self._status(AUXILIARY | TIME_OUT, OUTPUT | why)

    def _status(self, clear: int, set: int) -> None:
        self.STATUS = self.STATUS & ~clear | set
        self._drive()

    def _drive(self) -> None:
        full, other = self.STATUS & OUTPUT, self.STATUS & AUXILIARY
        self.irq.set(int(bool(full and not other and self.byte & IRQ_1)))
        self.auxiliary.set(int(bool(full and other and self.byte & IRQ_12)))

    def restored(self) -> None:
        self._drive()


class Port92(Device):
    """System control port A: A20 at bit 1, and at bit 0 a reset when it goes from 0 to 1."""

    size = 1
    width = 1
    state = ("last",)

    CONTROL = Reg(0, reset=A20, write=0xFD)

    def __init__(self) -> None:
        super().__init__()
        self.last = 0

    def realize(self, context: Context) -> None:
        self.machine = context

    def reset(self) -> None:
        self.last = 0

    def write_CONTROL(self, value: int) -> None:
        rises, self.last = value & ~self.last & NO_RESET, value
        if rises:
            self.machine.reset()
