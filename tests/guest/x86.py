"""Sequences of x86-64 instructions in user mode: as a guest of any accelerator, and on the host's own CPU.

Every engine runs the same bytes at the same addresses, from AREA on: a case loads all registers from its
block, runs, stores them back, and jumps to AREA.  There a guest has an undefined instruction, whose handler
starts the next case, and the host's process a return to ctypes.  So registers, flags, vectors and memory can
be compared byte by byte.  (Not `int n`: hosts with a paravirtual KVM take some vectors for themselves.)

    block of a case, 0x800 bytes:  0x000 rax rcx rdx rbx rsp rbp rsi rdi r8-r15   0x080 flags
                                   0x100 xmm0-xmm15   0x200 data (r14 points to its middle)   0x300 stack
"""

from __future__ import annotations

import ctypes
import struct

from accel.api import ExitKind
from tests.guest.bare import CODE64, TSS, USER_CODE, USER_DATA, Bare, words

AREA, AREA_SIZE = 0x7000_0000, 16 << 20
CODE, CODE_STEP = AREA + 0x1_0000, 0x800
BLOCKS, BLOCK_SIZE = AREA + 0x80_0000, 0x800
MOST = 4000  # cases in one run
REGISTERS = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))]
FLAGS, VECTORS, DATA, DATA_SIZE, STACK_TOP = 0x80, 0x100, 0x200, 0x100, 0x780
ARITHMETIC_FLAGS = 0x8D5  # CF PF AF ZF SF OF

# In the guest's low memory, where bare.py keeps its own tables too.
IDT, NEXT, FAULT, FAULT_STACK, IDTR, CASES = 0x8000, 0x9_0000, 0x9_0008, 0x9_0010, 0x9_0020, 0x9_1000
STUBS = 0x10_1000
SUPERVISOR = """
    0f 01 1c 25 20 00 09 00  ; lidt [0x90020]
    66 b8 30 00              ; mov ax, 0x30
    0f 00 d8                 ; ltr ax
    48 8b 1c 25 00 00 09 00  ; mov rbx, [0x90000]         NEXT_CASE
    48 8b 03                 ; mov rax, [rbx]
    48 83 c3 08              ; add rbx, 8
    48 89 1c 25 00 00 09 00  ; mov [0x90000], rbx
    48 85 c0                 ; test rax, rax
    74 13                    ; je +19
    bc 00 00 0e 00           ; mov esp, 0xe0000
    6a 23                    ; push 0x23                  ss
    68 00 00 0d 00           ; push 0xd0000               rsp
    6a 02                    ; push 2                     rflags
    6a 2b                    ; push 0x2b                  cs
    50                       ; push rax                   rip
    48 cf                    ; iretq
    f4                       ; hlt
"""
ENTER_USER = "6a 23"
NEXT_CASE = 0x10_000F
UNDEFINED = 6
assert (DATA, USER_CODE, USER_DATA, TSS) == (0x200, 0x2B, 0x23, 0x30)

LEAVE_GUEST = "0f 0b  ; ud2"
LEAVE_HOST = """
    48 b8 00 02 00 70 00 00 00 00  ; mov rax, AREA + 0x200
    48 8b 20                       ; mov rsp, [rax]
    0f ae 50 08                    ; ldmxcsr [rax + 8]  a case's rounding and flushing are not the process's
    db e3 d9 68 0c                 ; fninit; fldcw [rax + 12]
    41 5f 41 5e 41 5d 41 5c 5d 5b  ; pop r15, r14, r13, r12, rbp, rbx
    fc                             ; cld
    c3                             ; ret
"""
ENTER_HOST = """
    53 55 41 54 41 55 41 56 41 57  ; push rbx, rbp, r12, r13, r14, r15
    48 b8 00 02 00 70 00 00 00 00  ; mov rax, AREA + 0x200
    48 89 20                       ; mov [rax], rsp
    0f ae 58 08                    ; stmxcsr [rax + 8]
    d9 78 0c                       ; fnstcw [rax + 12]
    ff e7                          ; jmp rdi
"""


class Fault(Exception):
    """A case raised an exception of the CPU."""


class Case:
    """Instructions with what they start from.  Registers that are not named are 0; r14 points to the data."""

    def __init__(
        self,
        code: bytes,
        registers: dict[str, int] | None = None,
        *,
        flags: int = 0,
        vectors: list[int] | None = None,
        data: bytes = b"",
    ) -> None:
        self.code = code
        self.registers = dict(registers or {})
        self.flags = flags
        self.vectors = vectors or [0] * 16
        self.data = data.ljust(DATA_SIZE, b"\0")

    def block(self, base: int) -> bytes:
        values = {"r14": base + DATA + DATA_SIZE // 2, "rsp": base + STACK_TOP, **self.registers}
        out = bytearray(BLOCK_SIZE)
        struct.pack_into("<16Q", out, 0, *(values.get(name, 0) for name in REGISTERS))
        struct.pack_into("<Q", out, FLAGS, self.flags | 2)
        for n, vector in enumerate(self.vectors):
            out[VECTORS + 16 * n : VECTORS + 16 * n + 16] = vector.to_bytes(16, "little")
        out[DATA : DATA + DATA_SIZE] = self.data
        return bytes(out)

    def text(self, base: int) -> bytes:
        """The whole program of the case whose block is at `base`."""
        out = b"\x48\xb8" + struct.pack("<Q", base)  # mov rax, base
        for n in range(16):
            out += bytes(
                [*([0x44] if n > 7 else []), 0x0F, 0x10, 0x80 | (n & 7) << 3]
            )  # movups xmmN, [rax + d]
            out += struct.pack("<I", VECTORS + 16 * n)
        out += b"\x48\x8d\xa0" + struct.pack("<I", STACK_TOP)  # lea rsp, [rax + d]
        out += b"\xff\xb0" + struct.pack("<I", FLAGS) + b"\x9d"  # push [rax + d]; popf
        for n in (*range(1, 4), *range(5, 16)):
            out += _move(0x8B, n)
        out += b"\x48\x8b\x00" + self.code  # mov rax, [rax]
        out += b"\x48\xa3" + struct.pack("<Q", base)  # mov [base], rax
        out += b"\x48\xb8" + struct.pack("<Q", base)
        for n in range(1, 16):
            out += _move(0x89, n)
        out += b"\x48\x8d\xa0" + struct.pack("<I", STACK_TOP)
        out += b"\x9c\x8f\x80" + struct.pack("<I", FLAGS)  # pushf; pop [rax + d]
        for n in range(16):
            out += bytes([*([0x44] if n > 7 else []), 0x0F, 0x11, 0x80 | (n & 7) << 3])
            out += struct.pack("<I", VECTORS + 16 * n)
        out += b"\x48\xb9" + struct.pack("<Q", AREA) + b"\xff\xe1"  # mov rcx, AREA; jmp rcx
        assert len(out) <= CODE_STEP
        return out


def _move(opcode: int, register: int) -> bytes:
    """mov between a register and [rax + 8 * register]."""
    return bytes([0x48 | (register > 7) << 2, opcode, 0x40 | (register & 7) << 3, 8 * register])


class Outcome:
    """What a case left behind."""

    def __init__(self, block: bytes) -> None:
        self.registers = dict(zip(REGISTERS, struct.unpack_from("<16Q", block), strict=True))
        (self.flags,) = struct.unpack_from("<Q", block, FLAGS)
        self.vectors = [
            int.from_bytes(block[VECTORS + 16 * n : VECTORS + 16 * n + 16], "little") for n in range(16)
        ]
        self.data = block[DATA : DATA + DATA_SIZE]

    def difference(self, other: Outcome, flags: int = ARITHMETIC_FLAGS) -> str:
        """What differs, one line each; "" if nothing does."""
        lines = [
            f"{name}: {value:#018x} / {other.registers[name]:#018x}"
            for name, value in self.registers.items()
            if value != other.registers[name]
        ]
        lines += [
            f"xmm{n}: {value:#034x} / {other.vectors[n]:#034x}"
            for n, value in enumerate(self.vectors)
            if value != other.vectors[n]
        ]
        if (self.flags ^ other.flags) & flags:
            lines.append(f"flags: {self.flags & flags:#x} / {other.flags & flags:#x}")
        if self.data != other.data:
            lines.append(f"data: {self.data.hex()} / {other.data.hex()}")
        return "\n".join(lines)


class Guest:
    """Runs cases as a guest's user mode, or as its kernel's, under an accelerator."""

    def __init__(self, engine, *, kernel: bool = False) -> None:
        self.engine = engine
        self.kernel = kernel

    def run(self, cases: list[Case]) -> list[Outcome]:
        """All of them in one machine, one after the other."""
        assert len(cases) <= MOST
        machine = Bare(self.engine, "x86_64")
        try:
            return self._run(machine, cases)
        finally:
            machine.close()

    def started(self, machine: Bare) -> None:
        """For those that want to change the machine before its cases."""

    def ended(self, machine: Bare) -> None:
        """For those that want to look at the machine after its cases."""

    def _run(self, machine: Bare, cases: list[Case]) -> list[Outcome]:
        memory = machine.memory
        memory.add_ram("area", AREA, AREA_SIZE)
        memory.load(AREA, words(LEAVE_GUEST))
        entries = _place(cases, memory.load)
        memory.load(CASES, struct.pack(f"<{len(cases) + 1}Q", *entries, 0))
        memory.load(NEXT, struct.pack("<Q", CASES))
        memory.load(FAULT, struct.pack("<I", 0xFFFF_FFFF))
        memory.load(IDTR, struct.pack("<HQ", 0xFFF, IDT))
        for vector in range(32):
            stub, code = STUBS + 0x40 * vector, b""
            if vector == UNDEFINED:
                # cmp dword [rsp], AREA; je NEXT_CASE
                code = b"\x81\x3c\x24" + struct.pack("<I", AREA)
                code += b"\x0f\x84" + struct.pack("<i", NEXT_CASE - (stub + len(code) + 6))
            # mov dword [FAULT], vector; mov [FAULT_STACK], rsp; hlt
            code += b"\xc7\x04\x25" + struct.pack("<II", FAULT, vector)
            code += b"\x48\x89\x24\x25" + struct.pack("<I", FAULT_STACK) + b"\xf4"
            memory.load(stub, code)
            memory.load(IDT + 16 * vector, _gate(stub))
        supervisor = words(SUPERVISOR)
        if self.kernel:
            at = supervisor.index(words(ENTER_USER))
            supervisor = supervisor[:at] + b"\xff\xe0" + supervisor[at + 2 :]  # jmp rax
        self.started(machine)
        exit = machine.run(supervisor)
        self.ended(machine)
        assert exit.kind == ExitKind.HALT, exit
        vector = memory.read(FAULT, 4)
        if vector != 0xFFFF_FFFF:
            frame = memory.read(FAULT_STACK, 8)
            saved = struct.unpack("<6Q", memory.peek(frame, 48))
            where = next(word for word in saved if AREA <= word < AREA + AREA_SIZE)
            number, offset = divmod(where - CODE, CODE_STEP)
            raise Fault(f"exception {vector} in case {number} at +{offset:#x}: {disassemble(cases[number])}")
        return [Outcome(memory.peek(BLOCKS + BLOCK_SIZE * n, BLOCK_SIZE)) for n in range(len(cases))]


class Host:
    """Runs cases on the host's own CPU, in this process: the oracle."""

    def run(self, cases: list[Case]) -> list[Outcome]:
        """All of them, one after the other.  They must be of the kind that faults nowhere."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        fixed_noreplace, private_anonymous = 0x10_0000, 0x22
        got = libc.mmap(AREA, AREA_SIZE, 7, fixed_noreplace | private_anonymous, -1, 0)
        assert got == AREA, f"{AREA:#x} is taken in this process"
        try:
            ctypes.memmove(AREA, words(LEAVE_HOST), len(words(LEAVE_HOST)))
            ctypes.memmove(AREA + 0x100, words(ENTER_HOST), len(words(ENTER_HOST)))
            enter = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(AREA + 0x100)
            for entry in _place(cases, lambda address, data: ctypes.memmove(address, data, len(data))):
                enter(entry)
            return [Outcome(ctypes.string_at(BLOCKS + BLOCK_SIZE * n, BLOCK_SIZE)) for n in range(len(cases))]
        finally:
            libc.munmap(ctypes.c_void_p(AREA), ctypes.c_size_t(AREA_SIZE))


def _place(cases: list[Case], load) -> list[int]:
    entries = []
    for n, case in enumerate(cases):
        entry, block = CODE + CODE_STEP * n, BLOCKS + BLOCK_SIZE * n
        load(entry, case.text(block))
        load(block, case.block(block))
        entries.append(entry)
    return entries


def _gate(address: int) -> bytes:
    return struct.pack(
        "<HHBBHII", address & 0xFFFF, CODE64, 0, 0x8E, address >> 16 & 0xFFFF, address >> 32, 0
    )


def disassemble(case: Case) -> str:
    """The instructions under test, for messages."""
    import capstone

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return "; ".join(f"{i.mnemonic} {i.op_str}".strip() for i in engine.disasm(case.code, 0))
