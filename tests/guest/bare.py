"""A bare machine for guest tests: RAM, one device, a few instructions, and any engine under them.

The map is the same for every ISA but for RAM's base: the device's page at DEVICE, RAM of 16 MiB from
RAM[isa], code at CODE[isa], results at RESULT[isa].  An x86-64 guest starts at the reset vector like any x86;
the ROM there goes to long mode with the first 4 GiB mapped one to one, for user mode too.
"""

from __future__ import annotations

import struct

from accel.memory import AddressSpace, Region
from isa import arch

DEVICE = 0x1000_0000
RAM = {"x86_64": 0, "aarch64": 0x8000_0000, "arm": 0x8000_0000, "riscv64": 0x8000_0000}
RAM_SIZE = 16 << 20
CODE = {isa: base + (0x10_0000 if isa == "x86_64" else 0) for isa, base in RAM.items()}
RESULT = {isa: code + 0x8000 for isa, code in CODE.items()}
# the register that each of bodies.py counts or reads in
ACCUMULATOR = {"x86_64": "rax", "aarch64": "x0", "arm": "r0", "riscv64": "a0"}

RESET_BASE = 0xFFFF_0000
# selectors of the table below
CODE64, DATA, USER_DATA, USER_CODE, TSS = 0x18, 0x10, 0x20 | 3, 0x28 | 3, 0x30
# by offset in the ROM
RESET = {
    0xFE00: """
        fa                       ; cli
        2e 66 0f 01 16 00 ff     ; lgdt cs:[0xff00]
        0f 20 c0                 ; mov eax, cr0
        0c 01                    ; or al, 1                  PE
        0f 22 c0                 ; mov cr0, eax
        66 ea 40 fe ff ff 08 00  ; jmp 0x08:0xfffffe40
    """,
    0xFE40: """
        b8 10 00 00 00           ; mov eax, 0x10
        8e d8                    ; mov ds, eax
        8e c0                    ; mov es, eax
        8e d0                    ; mov ss, eax
        0f 20 e0                 ; mov eax, cr4
        0d 20 06 00 00           ; or eax, 0x620             PAE, OSFXSR, OSXMMEXCPT
        0f 22 e0                 ; mov cr4, eax
        b8 00 10 00 00           ; mov eax, 0x1000           page tables
        0f 22 d8                 ; mov cr3, eax
        b9 80 00 00 c0           ; mov ecx, 0xc0000080
        0f 32                    ; rdmsr
        0d 00 01 00 00           ; or eax, 0x100             LME
        0f 30                    ; wrmsr
        0f 20 c0                 ; mov eax, cr0
        0d 02 00 00 80           ; or eax, 0x80000002        PG, MP
        83 e0 fb                 ; and eax, ~4               EM
        0f 22 c0                 ; mov cr0, eax
        ea c0 fe ff ff 18 00     ; jmp 0x18:0xfffffec0
    """,
    0xFEC0: """
        bc 00 00 0f 00           ; mov esp, 0xf0000
        b8 00 00 10 00           ; mov eax, 0x100000
        ff e0                    ; jmp rax
    """,
    0xFF00: "7f 00 00 70 00 00   ; the global descriptor table: 128 bytes at 0x7000",
    0xFFF0: "e9 0d fe            ; jmp 0xfe00",
}


def words(text: str, isa: str = "x86_64") -> bytes:
    """The machine code of a listing: hexadecimal bytes (x86-64) or 32-bit words before each `;`."""
    tokens = [token for line in text.splitlines() for token in line.split(";")[0].split()]
    if isa == "x86_64":
        return bytes(int(token, 16) for token in tokens)
    return b"".join(int(token, 16).to_bytes(4, "little") for token in tokens)


def long_mode_tables() -> dict[int, bytes]:
    """What the reset code relies on, by address: page tables in 2 MiB pages and the descriptors."""
    user = 7  # present, writable, user
    directories = [0x3000 + 0x1000 * gib for gib in range(4)]
    tables = {
        0x1000: struct.pack("<Q", 0x2000 | user),
        0x2000: struct.pack("<4Q", *(base | user for base in directories)),
        0x7000: struct.pack(
            "<8Q",
            0,
            0x00CF_9B00_0000_FFFF,  # code, 32 bits
            0x00CF_9300_0000_FFFF,  # data
            0x00AF_9B00_0000_FFFF,  # code, 64 bits
            0x00CF_F300_0000_FFFF,  # user data
            0x00AF_FB00_0000_FFFF,  # user code, 64 bits
            0x0000_8900_7100_0067,  # task state at 0x7100
            0,
        ),
        # the stack for interrupts from user mode
        0x7100: struct.pack("<IQ", 0, 0xE_0000) + bytes(0x68 - 12),
    }
    for gib, base in enumerate(directories):
        entries = [((gib << 30) + (page << 21)) | 0x80 | user for page in range(512)]
        tables[base] = struct.pack("<512Q", *entries)
    return tables


class Bare:
    """One machine: memory, ports (x86-64), device, vCPU 0.  Declare the device, then run() a body."""

    def __init__(self, engine, isa: str, **options: object) -> None:
        self.engine = engine
        self.isa = isa
        self.arch = arch.find(isa)
        self.memory = AddressSpace("memory")
        self.ports = AddressSpace("ports", 1 << 16) if isa == "x86_64" else None
        self.ram = self.memory.add_ram("ram", RAM[isa], RAM_SIZE)
        if isa == "x86_64":
            rom = self.memory.add_ram("reset", RESET_BASE, 0x1_0000, readonly=True)
            for offset, text in RESET.items():
                code = words(text)
                rom.buffer[offset : offset + len(code)] = code
            for address, data in long_mode_tables().items():
                self.memory.load(address, data)
        self.device: Region = self.memory.new_io("device", 0x1000)
        self.accelerator = None
        self.vcpu = None
        try:
            self.accelerator = engine.open(self.arch, self.memory, self.ports, **options)
            self.vcpu = self.accelerator.vcpu(0)
            if isa != "x86_64":
                self.vcpu.set(pc=CODE[isa])
        except BaseException:
            self.close()
            raise

    def load(self, body: dict[str, str] | bytes) -> None:
        """Places a body where the guest starts; a body without this ISA is the test's mistake."""
        code = body if isinstance(body, bytes) else words(body[self.isa], self.isa)
        self.memory.load(CODE[self.isa], code)

    def attach(self) -> None:
        """Maps the device, if the test has not yet."""
        if not self.device.mapped:
            self.memory.place(self.device, DEVICE)

    def run(self, body: dict[str, str] | bytes):
        """Loads a body, attaches the device and runs the guest to its first exit."""
        self.load(body)
        self.attach()
        return self.vcpu.run()

    def result(self, offset: int = 0, width: int = 8) -> int:
        """What the guest left in its results."""
        data = self.memory.peek(RESULT[self.isa] + offset, width)
        return int.from_bytes(data, "little")

    def close(self) -> None:
        """Frees the engine, then the memory."""
        if self.accelerator is not None:
            self.accelerator.close()
            self.accelerator = None
        self.memory.close()
        if self.ports is not None:
            self.ports.close()
