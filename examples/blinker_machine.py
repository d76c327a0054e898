"""Attaches the Blinker to a board and runs a bare-metal guest that waits for three blinks.

    python examples/blinker_machine.py [ARCH [ACCEL]]        ARCH: aarch64, arm, riscv64 or x86_64

The same device runs under every accelerator and on every board; only the guest's instructions differ.
"""

import sys

from blinker import Blinker

from accel.errors import EmuError
from emu import Machine
from emu.devices.test_exit import SifiveTest

BLINKER, EXIT = 0x0B00_0000, 0x0B00_1000
BOARDS = {"aarch64": "virt", "arm": "virt", "riscv64": "virt", "x86_64": "microvm"}


def words(*numbers: int) -> bytes:
    """Instructions of 32 bits."""
    return b"".join(number.to_bytes(4, "little") for number in numbers)


# Each switches the Blinker on (CTRL = enable, 1 ms), waits until COUNT is 3, switches it off, and ends the
# machine with COUNT as its exit code.
GUESTS = {
    "aarch64": words(
        0xD2A16001,  # mov  x1, #0x0b000000
        0x52800222,  # mov  w2, #0x11
        0xB9000022,  # str  w2, [x1]            CTRL
        0xB9400423,  # ldr  w3, [x1, #4]        COUNT
        0x71000C7F,  # cmp  w3, #3
        0x54FFFFC3,  # b.lo .-8
        0xB900003F,  # str  wzr, [x1]
        0x52866662,  # mov  w2, #0x3333
        0x2A034042,  # orr  w2, w2, w3, lsl #16
        0x91400424,  # add  x4, x1, #0x1000
        0xB9000082,  # str  w2, [x4]            exit
        0x14000000,  # b    .
    ),
    "arm": words(
        0xE3A0140B,  # mov  r1, #0x0b000000
        0xE3A02011,  # mov  r2, #0x11
        0xE5812000,  # str  r2, [r1]            CTRL
        0xE5913004,  # ldr  r3, [r1, #4]        COUNT
        0xE3530003,  # cmp  r3, #3
        0x3AFFFFFC,  # blo  .-8
        0xE3A02000,  # mov  r2, #0
        0xE5812000,  # str  r2, [r1]
        0xE3032333,  # movw r2, #0x3333
        0xE1822803,  # orr  r2, r2, r3, lsl #16
        0xE2814A01,  # add  r4, r1, #0x1000
        0xE5842000,  # str  r2, [r4]            exit
        0xEAFFFFFE,  # b    .
    ),
    "riscv64": words(
        0x0B0002B7,  # lui  t0, 0xb000
        0x01100313,  # li   t1, 0x11
        0x0062A023,  # sw   t1, 0(t0)           CTRL
        0x00300393,  # li   t2, 3
        0x0042AE03,  # lw   t3, 4(t0)           COUNT
        0xFE7E6EE3,  # bltu t3, t2, .-4
        0x0002A023,  # sw   zero, 0(t0)
        0x010E1E13,  # slli t3, t3, 16
        0x00003EB7,  # lui  t4, 3
        0x333E8E93,  # addi t4, t4, 0x333
        0x01DE6E33,  # or   t3, t3, t4
        0x00001F37,  # lui  t5, 1
        0x005F0F33,  # add  t5, t5, t0
        0x01CF2023,  # sw   t3, 0(t5)           exit
        0x0000006F,  # j    .
    ),
    "x86_64": b"".join(
        (
            b"\xbb\x00\x00\x00\x0b",  # mov  ebx, 0x0b000000
            b"\xc7\x03\x11\x00\x00\x00",  # mov  dword [rbx], 0x11      CTRL
            b"\x8b\x43\x04",  # mov  eax, [rbx+4]           COUNT
            b"\x83\xf8\x03",  # cmp  eax, 3
            b"\x72\xf8",  # jb   .-6
            b"\xc7\x03\x00\x00\x00\x00",  # mov  dword [rbx], 0
            b"\xc1\xe0\x10",  # shl  eax, 16
            b"\x0d\x33\x33\x00\x00",  # or   eax, 0x3333
            b"\x89\x83\x00\x10\x00\x00",  # mov  [rbx+0x1000], eax      exit
            b"\xf4",  # hlt
            b"\xeb\xfd",  # jmp  .-1
        )
    ),
}


def main(arch: str = "aarch64", accel: str = "auto") -> int:
    """Runs the guest and tells how often the light blinked."""
    if arch not in GUESTS:
        sys.exit(f"there is no guest for {arch!r}; use {', '.join(GUESTS)}")
    blinker = Blinker()
    with Machine(
        BOARDS[arch],
        arch=arch,
        accel=accel,
        kernel=GUESTS[arch],
        devices=[(blinker, BLINKER, 5), (SifiveTest(), EXIT)],
    ) as machine:
        result = machine.run(timeout=30)
        print(
            f"{arch} under {machine.accel.caps.name}: {result.reason}, the light blinked {result.code} times"
        )
        return 0 if result.code >= 3 else 1


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except EmuError as error:
        sys.exit(str(error))
