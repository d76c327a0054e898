"""A machine as an ELF core file: its memory by physical addresses, and a thread for every CPU.

GDB and crash read it.  Sources: System V gABI, chapters 4 and 5; include/uapi/linux/elfcore.h and each ISA's
asm/ptrace.h of Linux 6.1, whose struct elf_prstatus a CPU's note is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from isa.arch import Arch, find

PT_LOAD, PT_NOTE = 1, 4
NT_PRSTATUS, NT_FPREGSET, NT_ARM_VFP = 1, 2, 0x400
ET_CORE = 4
# Readable, writable, executable: what the guest's page tables say is in the memory itself.
RWX = 7
# How far program headers' numbers go (e_phnum is 16 bits).
MOST_RANGES = 60_000

Range = tuple[int, int]  # physical address, bytes

# struct user_regs_struct and its kin: registers in their order, "" for one that the CPU has not.
GENERAL = {
    "aarch64": [*(f"x{n}" for n in range(31)), "sp", "pc", "cpsr"],
    "arm": [*(f"r{n}" for n in range(13)), "sp", "lr", "pc", "cpsr", ""],
    "riscv64": ["pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1",
                *(f"a{n}" for n in range(8)), *(f"s{n}" for n in range(2, 12)), "t3", "t4", "t5", "t6"],
    "x86_64": ["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
               "rdi", "", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"],
}  # fmt: skip
# Vectors behind them: registers in the note's order, and how wide each stands there.
VECTORS = {"aarch64": (NT_FPREGSET, [f"v{n}" for n in range(32)], 16)}


def _read(vcpu: Any, name: str) -> int:
    """A register's value; 0 for one that this CPU does not have or show."""
    if not name:
        return 0
    try:
        (value,) = vcpu.get(name)
    except (KeyError, ValueError):
        return 0
    return int(value)


def _note(owner: str, kind: int, content: bytes) -> bytes:
    name = owner.encode() + b"\0"
    head = struct.pack("<III", len(name), len(content), kind)
    return head + name + bytes(-len(name) % 4) + content + bytes(-len(content) % 4)


def notes(arch: str, vcpus: Iterable[Any]) -> bytes:
    """What the file says of CPUs that stand still: each as a thread, numbered from 1."""
    word = find(arch).bits // 8
    made = bytearray()
    for number, vcpu in enumerate(vcpus, 1):
        mask = (1 << 8 * word) - 1
        general = b"".join((_read(vcpu, name) & mask).to_bytes(word, "little") for name in GENERAL[arch])
        # Signals (none), then process, parent, group and session, then four times of two words.
        head = bytes(16 + 2 * word) + struct.pack("<IIII", number, 0, 0, 0) + bytes(8 * word)
        made += _note("CORE", NT_PRSTATUS, head + general + bytes(word))
        if arch in VECTORS:
            kind, names, width = VECTORS[arch]
            wide = b"".join(_read(vcpu, name).to_bytes(width, "little") for name in names)
            control = struct.pack("<IIQ", _read(vcpu, "fpsr"), _read(vcpu, "fpcr"), 0)
            made += _note("CORE", kind, wide + control)
    return bytes(made)


def head(arch_name: str, noted: bytes, ranges: list[Range]) -> bytes:
    """All of the file before the memory, which follows range by range without gaps."""
    arch: Arch = find(arch_name)
    wide = arch.bits == 64
    ident = b"\x7fELF" + bytes((arch.elf_class, arch.elf_data, 1)) + bytes(9)
    form = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    size, each = (64, 56) if wide else (52, 32)
    count = 1 + len(ranges)
    made = bytearray(ident)
    made += struct.pack(form, ET_CORE, arch.elf_machine, 1, 0, size, 0, 0, size, each, count, 0, 0, 0)
    offset = size + each * count

    def segment(kind: int, at: int, length: int) -> bytes:
        if wide:
            flags = RWX if kind == PT_LOAD else 0
            return struct.pack("<IIQQQQQQ", kind, flags, offset, at, at, length, length, 0)
        return struct.pack("<IIIIIIII", kind, offset, at, at, length, length, RWX * (kind == PT_LOAD), 0)

    made += segment(PT_NOTE, 0, len(noted))
    offset += len(noted)
    for at, length in ranges:
        made += segment(PT_LOAD, at, length)
        offset += length
    return bytes(made) + noted
