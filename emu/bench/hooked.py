"""A machine with a device whose register is a Python method: python -m emu.bench.hooked ISA ACCEL FIRMWARE.

Its guest reads the register again and again (guest_access); it runs until it is killed.
"""

from __future__ import annotations

import sys

from emu.bench.guest_access import DEVICE
from emu.device import Device, Reg
from emu.machine import Machine

BOARDS = {"aarch64": "virt", "x86_64": "microvm"}


class Hooked(Device):
    """Counts how often VALUE is read."""

    VALUE = Reg(0)
    state = ("reads",)
    reads = 0

    def read_VALUE(self) -> int:
        self.reads += 1
        return self.reads & 0xFFFF_FFFF


def main() -> None:
    """The command line in this module's first lines."""
    isa, accel, firmware = sys.argv[1:]
    devices = [(Hooked(), DEVICE)]
    with Machine(
        BOARDS[isa], arch=isa, accel=accel, firmware=firmware, serial="stdio", devices=devices
    ) as machine:
        machine.run()


if __name__ == "__main__":
    main()
