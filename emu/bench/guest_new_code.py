"""Code that is run once: what is measured is how fast it is translated.

Steps of an addition, a shift and a rotation, each with its own numbers, and a branch after every fourth; the
result is that of expected().
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

STEPS = 20_000
_MASK = (1 << 64) - 1


def _steps(steps: int) -> Iterator[tuple[int, int, int, bool]]:
    """What to add, how far to shift and to rotate, and whether a branch follows."""
    numbers = random.Random(8)
    for step in range(steps):
        yield numbers.randrange(1, 4096), numbers.randrange(1, 64), numbers.randrange(1, 64), step % 4 == 3


def expected(steps: int = STEPS) -> int:
    """The program's result."""
    value = 1
    for add, shift, rotate, _ in _steps(steps):
        value = (value + add) & _MASK
        value ^= value >> shift
        value = (value >> rotate | value << (64 - rotate)) & _MASK
    return value


def aarch64(steps: int = STEPS) -> bytes:
    """The body of a program (guest_timed), its value in x19."""
    code = [0xD280_0033]  # mov x19, #1
    for add, shift, rotate, branch in _steps(steps):
        code.append(0x9100_0273 | add << 10)  # add x19, x19, #add
        code.append(0xCA53_0273 | shift << 10)  # eor x19, x19, x19, lsr #shift
        code.append(0x93D3_0273 | rotate << 10)  # ror x19, x19, #rotate
        if branch:
            code.append(0xB400_0033)  # cbz x19, the next one
    return struct.pack(f"<{len(code)}I", *code)


def x86_64(steps: int = STEPS) -> bytes:
    """The same, its value in rbx."""
    code = bytearray(b"\xbb\x01\x00\x00\x00")  # mov ebx, 1
    for add, shift, rotate, branch in _steps(steps):
        code += b"\x48\x81\xc3" + struct.pack("<I", add)  # add rbx, add
        code += b"\x48\x89\xd8"  # mov rax, rbx
        code += b"\x48\xc1\xe8" + bytes((shift,))  # shr rax, shift
        code += b"\x48\x31\xc3"  # xor rbx, rax
        code += b"\x48\xc1\xcb" + bytes((rotate,))  # ror rbx, rotate
        if branch:
            code += b"\x48\x85\xdb\x74\x00"  # test rbx, rbx; jz to the next one
    return bytes(code)
