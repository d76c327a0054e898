"""Devices by which a guest ends its machine, with an exit code.

SifiveTest is RISC-V virt's (SiFive test finisher: Linux' Documentation/devicetree/bindings/riscv, QEMU's
hw/misc/sifive_test).  DebugExit is the x86 boards' (isa-debug-exit).
"""

from __future__ import annotations

from emu.device import Context, Device, Reg

FAIL, PASS, RESET = 0x3333, 0x5555, 0x7777


class SifiveTest(Device):
    """A write of PASS ends the machine with 0, FAIL with the code in bits 31 to 16; RESET resets it."""

    compatible = "sifive,test1 sifive,test0 syscon"
    node_name = "test"

    FINISHER = Reg(0)

    def realize(self, context: Context) -> None:
        self.machine = context

    def write_FINISHER(self, value: int) -> None:
        status, code = value & 0xFFFF, value >> 16
        if status == PASS:
            self.machine.shutdown(0)
        elif status == FAIL:
            self.machine.shutdown(code or 1)
        elif status == RESET:
            self.machine.reset()


class DebugExit(Device):
    """A write of n ends the machine with 2n+1: never 0, so that a crash is not taken for success."""

    size = 4

    EXIT = Reg(0)

    def realize(self, context: Context) -> None:
        self.machine = context

    def write_EXIT(self, value: int) -> None:
        self.machine.shutdown(value << 1 & 0xFF | 1)
