"""The ROM that takes an x86 CPU from its reset vector to where a kernel wants to be entered.

It is 64 KiB and ends at 4 GiB.  Source: Intel SDM volume 3, sections 9.8.5, 9.9.1 and 3.4.5.
"""

from __future__ import annotations

import struct

SIZE = 64 << 10
BASE = (1 << 32) - SIZE
STACK = 0x7C00
# Null, code and data of 32 bits, all accessed, and a task state of 68h bytes at 0.
FLAT = struct.pack("<QQQQ", 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x0000_8900_0000_0067)


def long_mode(entry: int, argument: int = 0) -> bytes:
    """A ROM with page tables, a GDT, and code from the reset vector to `entry` in 64-bit mode.

    `argument` is in RSI then.  Paging is identity below 4 GiB; segments are where Linux wants them: 10h code,
    18h data; 8 is code too.  The tables are in the ROM, with the accessed and dirty bits set, so that nothing
    has to be written there.
    """
    base = BASE
    rom = bytearray(SIZE)
    present = 0x63  # present, writable, accessed, dirty
    # One PML4, one table of pointers, four directories of 2 MiB pages.
    struct.pack_into("<Q", rom, 0x0000, base + 0x1000 | present)
    for n in range(4):
        struct.pack_into("<Q", rom, 0x1000 + 8 * n, base + 0x2000 + 0x1000 * n | present)
    for n in range(4 * 512):
        struct.pack_into("<Q", rom, 0x2000 + 8 * n, n << 21 | present | 0x80)
    gdt, gdtr, code = 0x8000, 0x8030, 0x8040
    # Null, 64-bit code twice, data; accessed, for the same reason.
    code64, data64 = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
    struct.pack_into("<QQQQ", rom, gdt, 0, code64, code64, data64)
    struct.pack_into("<HI", rom, gdtr, 0x1F, base + gdt)
    long_mode = code + 0x40
    start = b"".join(
        (
            b"\xfa",  # cli
            b"\x2e\x66\x0f\x01\x16" + struct.pack("<H", gdtr),  # lgdtl cs:[gdtr]
            b"\x66\xb8" + struct.pack("<I", base),  # mov eax, the PML4
            b"\x0f\x22\xd8",  # mov cr3, eax
            b"\x66\xb8\x20\x06\x00\x00",  # mov eax, PAE | OSFXSR | OSXMMEXCPT
            b"\x0f\x22\xe0",  # mov cr4, eax
            b"\x66\xb9\x80\x00\x00\xc0",  # mov ecx, EFER
            b"\x0f\x32",  # rdmsr
            b"\x80\xcc\x01",  # or ah, LME
            b"\x0f\x30",  # wrmsr
            b"\x66\xb8\x33\x00\x00\x80",  # mov eax, PG | NE | ET | MP | PE
            b"\x0f\x22\xc0",  # mov cr0, eax
            b"\x66\xea" + struct.pack("<IH", base + long_mode, 0x10),  # ljmpl 10h:long_mode
        )
    )
    assert len(start) <= long_mode - code
    rom[code : code + len(start)] = start
    inside = b"".join(
        (
            b"\xb8\x18\x00\x00\x00",  # mov eax, the data segment
            b"\x8e\xd8\x8e\xc0\x8e\xd0",  # mov ds, es, ss
            b"\x8e\xe0\x8e\xe8",  # mov fs, gs
            b"\xbc" + struct.pack("<I", STACK),  # mov esp, STACK
            b"\xbe" + struct.pack("<I", argument),  # mov esi, the argument
            b"\x48\xb8" + struct.pack("<Q", entry),  # mov rax, entry
            b"\xff\xe0",  # jmp rax
        )
    )
    rom[long_mode : long_mode + len(inside)] = inside
    _vector(rom, code)
    return bytes(rom)


def protected_mode(entry: int, argument: int, gdt: int) -> bytes:
    """A ROM with code from the reset vector to `entry` in 32-bit protected mode, without paging.

    `argument` is in EBX then; gdt: where in RAM the table FLAT is, in which the CPU marks its task as busy.
    """
    rom = bytearray(SIZE)
    gdtr, code, inside_at = 0x100, 0x108, 0x140
    struct.pack_into("<HI", rom, gdtr, len(FLAT) - 1, gdt)
    start = b"".join(
        (
            b"\xfa",  # cli
            b"\x2e\x66\x0f\x01\x16" + struct.pack("<H", gdtr),  # lgdtl cs:[gdtr]
            b"\x66\xb8\x11\x00\x00\x00",  # mov eax, ET | PE
            b"\x0f\x22\xc0",  # mov cr0, eax
            b"\x66\xea" + struct.pack("<IH", BASE + inside_at, 8),  # ljmpl 8:inside
        )
    )
    rom[code : code + len(start)] = start
    inside = b"".join(
        (
            b"\xb8\x10\x00\x00\x00",  # mov eax, the data segment
            b"\x8e\xd8\x8e\xc0\x8e\xd0",  # mov ds, es, ss
            b"\x8e\xe0\x8e\xe8",  # mov fs, gs
            b"\xb8\x18\x00\x00\x00",  # mov eax, the task
            b"\x0f\x00\xd8",  # ltr ax
            b"\xbc" + struct.pack("<I", STACK),  # mov esp, STACK
            b"\xbb" + struct.pack("<I", argument),  # mov ebx, the argument
            b"\xb8" + struct.pack("<I", entry),  # mov eax, entry
            b"\xff\xe0",  # jmp eax
        )
    )
    rom[inside_at : inside_at + len(inside)] = inside
    _vector(rom, code)
    return bytes(rom)


def _vector(rom: bytearray, code: int) -> None:
    """At the reset vector: jmp near, in 16-bit code."""
    rom[0xFFF0:0xFFF3] = b"\xe9" + struct.pack("<H", code - 0xFFF3 & 0xFFFF)
