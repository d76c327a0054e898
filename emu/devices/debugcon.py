"""The debug port of PC firmware: what is written goes to the host, and a read tells that it is there.

Bochs has it at E9h; SeaBIOS and EDK2 write to 402h.  Source: QEMU's hw/char/debugcon.c; SeaBIOS'
docs/Debugging.md.
"""

from __future__ import annotations

from emu.device import Context, Device, Reg

PORTS = (0xE9, 0x402)
HERE = 0xE9


class Debugcon(Device):
    """One byte; characters are dropped while the host takes none."""

    size = 1
    width = 1

    DATA = Reg(0, reset=HERE)

    def realize(self, context: Context) -> None:
        self.chardev = context.chardev

    def write_DATA(self, value: int) -> None:
        if not self.chardev.full:
            self.chardev.write(bytes([value & 0xFF]))
