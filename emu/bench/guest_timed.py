"""Linux programs that measure themselves: what it costs to start them is not in their figures.

A program is a listing for each ISA (emu.samples) between a begin and an end.  Both ask the kernel for the
thread's CPU time and for the clock; the end writes the four times and a result, which is the same for
every ISA and engine, on standard output.  A body finds how often it is to do its work in x20 or r12,
leaves its result in x19 or rbx, and the stack as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from emu.bench.work import Failed, Sample
from emu.samples import from_bytes, from_words
from emu.samples.elf import executable
from isa.arch import find

BEGIN = {
    "aarch64": """
d10143ff    sub   sp, sp, #80
d2800060    mov   x0, #3
910003e1    mov   x1, sp
d2800e28    mov   x8, #113
d4000001    svc   #0
d2800020    mov   x0, #1
910043e1    add   x1, sp, #16
d4000001    svc   #0
""",
    "x86_64": """
4883ec50      sub     rsp, 80
b8e4000000    mov     eax, 228
bf03000000    mov     edi, 3
4889e6        mov     rsi, rsp
0f05          syscall
b8e4000000    mov     eax, 228
bf01000000    mov     edi, 1
488d742410    lea     rsi, [rsp+16]
0f05          syscall
""",
}
END = {
    "aarch64": """
d2800020    mov   x0, #1
9100c3e1    add   x1, sp, #48
d2800e28    mov   x8, #113
d4000001    svc   #0
d2800060    mov   x0, #3
910083e1    add   x1, sp, #32
d4000001    svc   #0
f90023f3    str   x19, [sp, #64]
d2800020    mov   x0, #1
910003e1    mov   x1, sp
d2800902    mov   x2, #72
d2800808    mov   x8, #64
d4000001    svc   #0
d2800000    mov   x0, #0
d2800bc8    mov   x8, #94
d4000001    svc   #0
""",
    "x86_64": """
b8e4000000    mov     eax, 228
bf01000000    mov     edi, 1
488d742430    lea     rsi, [rsp+48]
0f05          syscall
b8e4000000    mov     eax, 228
bf03000000    mov     edi, 3
488d742420    lea     rsi, [rsp+32]
0f05          syscall
48895c2440    mov     [rsp+64], rbx
b801000000    mov     eax, 1
bf01000000    mov     edi, 1
4889e6        mov     rsi, rsp
ba48000000    mov     edx, 72
0f05          syscall
b8e7000000    mov     eax, 231
31ff          xor     edi, edi
0f05          syscall
""",
}
ISAS = tuple(BEGIN)


def code(isa: str, listing: str) -> bytes:
    """The machine code of a listing."""
    return from_words(listing) if isa == "aarch64" else from_bytes(listing)


def number(isa: str, register: int, value: int) -> bytes:
    """Instructions that load 32 bits into x`register`, or on x86-64 into ebx (3) or r12d (12)."""
    if isa == "aarch64":
        moves = (0xD280_0000 | (value & 0xFFFF) << 5, 0xF2A0_0000 | (value >> 16) << 5)  # movz, movk
        return b"".join(struct.pack("<I", move | register) for move in moves)
    prefix = b"\x41" if register >= 8 else b""
    return prefix + bytes((0xB8 | register & 7,)) + struct.pack("<I", value)  # mov r32, imm32


COUNTER = {"aarch64": 20, "x86_64": 12}


def write_program(path: Path, isa: str, body: bytes, count: int) -> None:
    """An executable that runs `body` with `count` in its counter."""
    whole = number(isa, COUNTER[isa], count) + code(isa, BEGIN[isa]) + body + code(isa, END[isa])
    path.write_bytes(executable(find(isa), whole))
    path.chmod(0o755)


def read_times(output: bytes) -> tuple[Sample, bytes]:
    """What a program took by its own account, and its result.  Raises Failed."""
    if len(output) != 72:
        raise Failed(f"wrote {len(output)} bytes instead of its times")
    cpu0, cpu0_ns, wall0, wall0_ns, cpu1, cpu1_ns, wall1, wall1_ns = struct.unpack_from("<8q", output)
    took = ((cpu1 - cpu0) * 10**9 + cpu1_ns - cpu0_ns, (wall1 - wall0) * 10**9 + wall1_ns - wall0_ns)
    return Sample(took[0] / 1e9, took[1] / 1e9), output[64:]


def bodies(listings: Mapping[str, str]) -> dict[str, bytes]:
    """Machine code by ISA."""
    return {isa: code(isa, listing) for isa, listing in listings.items()}
