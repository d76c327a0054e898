"""Bare-metal guests for four architectures that print a line on a 16550 UART and switch their machine off.

All say it the way a driver does: wait until the transmitter is free (LSR bit 5), then write the character.
The board around them is the smallest there can be: memory, the UART and the part that ends the machine, both
the same for every architecture and every accelerator.
"""

from __future__ import annotations

from typing import Any, ClassVar

from emu.board import Board, Part
from emu.devices.test_exit import SifiveTest
from emu.devices.uart16550 import Uart16550
from emu.samples import from_bytes, from_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine

# x1, r1 or a1: the next character; x2, r2, a2: the UART at 0x10000000.  The message follows the code.
AARCH64 = """
10000181    adr    x1, message
d2a20002    mov    x2, #0x10000000
          next:
38401423    ldrb   w3, [x1], #1
340000a3    cbz    w3, stop
          ready:
39401444    ldrb   w4, [x2, #5]
362fffe4    tbz    w4, #5, ready
39000043    strb   w3, [x2]
17fffffb    b      next
          stop:
528aaaa3    mov    w3, #0x5555
d2a00204    mov    x4, #0x100000
b9000083    str    w3, [x4]
          end:
14000000    b      end
          message:
"""

ARM = """
e28f1030    adr    r1, message
e3a02201    mov    r2, #0x10000000
          next:
e4d13001    ldrb   r3, [r1], #1
e3530000    cmp    r3, #0
0a000004    beq    stop
          ready:
e5d24005    ldrb   r4, [r2, #5]
e3140020    tst    r4, #0x20
0afffffc    beq    ready
e5c23000    strb   r3, [r2]
eafffff7    b      next
          stop:
e3053555    movw   r3, #0x5555
e3a04601    mov    r4, #0x100000
e5843000    str    r3, [r4]
          end:
eafffffe    b      end
          message:
"""

RISCV64 = """
00000597    auipc  a1, 0
04058593    addi   a1, a1, 64
10000637    lui    a2, 0x10000
          next:
0005c683    lbu    a3, 0(a1)
00158593    addi   a1, a1, 1
00068c63    beqz   a3, stop
          ready:
00564703    lbu    a4, 5(a2)
02077713    andi   a4, a4, 0x20
fe070ce3    beqz   a4, ready
00d60023    sb     a3, 0(a2)
fe5ff06f    j      next
          stop:
000056b7    lui    a3, 0x5
55568693    addi   a3, a3, 0x555
00100737    lui    a4, 0x100
00d72023    sw     a3, 0(a4)
          end:
0000006f    j      end
          message:
"""

# In real mode, the UART at port 0x3f8.  SI: the next character, in the segment of the code.
X86_64 = """
be2900          mov    si, offset message
              next:
2eac            lodsb  al, cs:[si]
84c0            test   al, al
7412            jz     stop
88c4            mov    ah, al
bafd03          mov    dx, 0x3fd
              ready:
ec              in     al, dx
a820            test   al, 0x20
74fb            jz     ready
88e0            mov    al, ah
baf803          mov    dx, 0x3f8
ee              out    dx, al
ebe8            jmp    next
              stop:
66b855550000    mov    eax, 0x5555
ba0406          mov    dx, 0x604
66ef            out    dx, eax
              end:
f4              hlt
ebfd            jmp    end
              message:
"""

# At the reset vector, 16 bytes below the end of the segment: to its begin.
X86_64_RESET = """
e90d00          jmp    .-0xfff0
"""

RESET_SEGMENT = 0xFFFF_0000
CODE_BASE = 0x4000_0000


class Greeter(Board):
    """A board whose CPU greets as soon as it is switched on; `code` is its program."""

    code: ClassVar[bytes]
    default_ram = 1 << 20
    ram_base = CODE_BASE
    parts = (
        Part("uart", Uart16550, 0x1000_0000, serial=0),
        Part("test", SifiveTest, 0x10_0000),
    )

    def message(self) -> bytes:
        """What the guest says, NUL-terminated."""
        return f"Greetings from {self.arch}, by way of a 16550.\n\0".encode()

    def load(self, machine: Machine) -> None:
        machine.memory.load(self.ram_base, self.code + self.message())

    def start_cpu(self, machine: Machine, index: int, vcpu: Any) -> None:
        vcpu.set(pc=self.ram_base)


class GreeterAarch64(Greeter):
    arch = "aarch64"
    code = from_words(AARCH64)


class GreeterArm(Greeter):
    arch = "arm"
    code = from_words(ARM)


class GreeterRiscv64(Greeter):
    arch = "riscv64"
    code = from_words(RISCV64)


class GreeterX86(Greeter):
    """Its program lies at the end of the first 4 GiB, where the CPU looks for it after reset."""

    arch = "x86_64"
    code = from_bytes(X86_64)
    ports = True
    ram_base = 0
    parts = (
        Part("uart", Uart16550, 0x3F8, serial=0, ports=True),
        Part("test", SifiveTest, 0x604, ports=True),
    )

    def memory(self, machine: Machine) -> None:
        super().memory(machine)
        machine.memory.add_ram("rom", RESET_SEGMENT, 0x1_0000, readonly=True)

    def load(self, machine: Machine) -> None:
        machine.memory.load(RESET_SEGMENT, self.code + self.message())
        machine.memory.load(RESET_SEGMENT + 0xFFF0, from_bytes(X86_64_RESET))

    def start_cpu(self, machine: Machine, index: int, vcpu: Any) -> None:
        """The reset state is all it needs."""


BOARDS = {board.arch: board for board in (GreeterX86, GreeterAarch64, GreeterArm, GreeterRiscv64)}


def greeting(arch: str, accel: str = "auto", timeout: float = 30) -> str:
    """Runs the guest of an architecture to its end and returns what it printed.

    Raises an EmuError where `accel` cannot run it, GuestFault if it was not done within `timeout` seconds.
    """
    from accel.errors import GuestFault
    from emu.backends.chardev import MemoryChardev
    from emu.machine import Machine as Built

    said = MemoryChardev()
    board = BOARDS[arch]()
    with Built(board, accel=accel, serial=said) as machine:
        result = machine.run(timeout=timeout)
    if result.reason != "guest-shutdown" or result.code:
        raise GuestFault(f"the {arch} sample ended by {result.reason} {result.code} {result.text}")
    return said.text
