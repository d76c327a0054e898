"""What KVM refuses at CPL0, done by others: as the host's own CPU does it."""

from __future__ import annotations

import random
import struct
import threading
from pathlib import Path

import pytest

from accel.api import ExitKind
from accel.crossings import Crossings
from accel.kvm.device import emulates_cpl0
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from isa.arch import find
from tests.conftest import Engine, usable
from tests.guest.x86 import Case, Guest

DOUBLES = [0x3FF8_0000_0000_0000_4004_0000_0000_0000 + n for n in range(16)]
OSXSAVE = 1 << 18

# Instructions that a KVM which emulates kernel mode refuses: what /proc/cpuinfo calls them, code, registers.
# r14 points to data; ymm and zmm are folded into xmm.
REFUSED = {
    "addpd": ("sse2", "66 0f 58 c1", {}),
    "addps from memory": ("sse", "41 0f 58 06", {}),
    "addsd from memory": ("sse2", "f2 41 0f 58 46 08", {}),
    "paddd": ("sse2", "66 0f fe c1", {}),
    "pand mmx": ("mmx", "41 0f 6f 06 41 0f db 46 08 41 0f 7f 46 10 0f 77", {}),
    "pmovmskb": ("sse2", "66 0f d7 c1", {}),
    "movmskpd to r15": ("sse2", "66 44 0f 50 f9", {}),
    "cvtsi2sd": ("sse2", "f2 48 0f 2a c0", {"rax": 12345}),
    "cvttsd2si": ("sse2", "f2 4c 0f 2c f9", {}),
    "cvtps2pd from memory": ("sse2", "41 0f 5a 06", {}),
    "cmpltpd": ("sse2", "66 0f c2 c1 01", {}),
    "shufps": ("sse", "0f c6 c1 1b", {}),
    "psrldq": ("sse2", "66 0f 73 d8 03", {}),
    "psrlw by memory": ("sse2", "66 41 0f d1 06", {}),
    "ucomisd": ("sse2", "66 0f 2e c1", {}),
    "fld1 and fldz": ("fpu", "d9 e8 d9 ee de c1 41 dd 1e", {}),
    "fild, fsqrt, fstp tbyte": ("fpu", "41 df 2e d9 fa 41 db 7e 10", {}),
    "fcomi sets flags": ("fpu", "d9 e8 d9 ee db f1 dd d8 dd d8", {}),
    "fnstsw ax": ("fpu", "db e3 d9 e8 df e0 dd d8", {}),
    "fwait": ("fpu", "9b", {}),
    "popcnt": ("popcnt", "f3 48 0f b8 c3", {"rbx": 0xF0F0}),
    "popcnt of 16 bits from memory": ("popcnt", "66 f3 41 0f b8 46 03", {"rax": -1}),
    "crc32": ("sse4_2", "f2 48 0f 38 f1 c3", {"rax": 7, "rbx": 0x1234_5678_9ABC}),
    "crc32 of a byte in memory": ("sse4_2", "f2 41 0f 38 f0 46 05", {"rax": 7}),
    "pshufb": ("ssse3", "66 0f 38 00 c1", {}),
    "pcmpistri": ("sse4_2", "66 0f 3a 63 c1 0c", {}),
    "pextrb to memory": ("sse4_1", "66 41 0f 3a 14 46 07 03", {}),
    "pinsrq": ("sse4_1", "66 48 0f 3a 22 c3 01", {"rbx": 77}),
    "roundsd": ("sse4_1", "66 0f 3a 0b c1 03", {}),
    "aesenc": ("aes", "66 0f 38 dc c1", {}),
    "pclmulqdq": ("pclmulqdq", "66 0f 3a 44 c1 11", {}),
    "sha256rnds2": ("sha_ni", "0f 38 cb c1", {}),
    "cmpxchg16b that fails": ("cx16", "f0 49 0f c7 0e", {"rax": 1, "rdx": 2}),
    "cmpxchg16b that stores": ("cx16", "f0 49 0f c7 0e", {"rbx": 1, "rcx": 2, "rax": 0x1B1A_1918_1716_1514,
                               "rdx": 0x2322_2120_1F1E_1D1C}),
    "ldmxcsr and stmxcsr": ("sse", "68 c0 1f 00 00 0f ae 14 24 0f 58 c1 41 0f ae 1e 58", {}),
    "mulx": ("bmi2", "c4 e2 fb f6 cb", {"rdx": 1 << 63, "rbx": 6}),
    "mulx from memory to r15 and r14's place": ("bmi2", "c4 42 fb f6 3e", {"rdx": 1 << 63}),
    "mulx with rsp": ("bmi2", "49 89 e0 bc 06 00 00 00 c4 62 b3 f6 d4 c4 62 db f6 de 4c 89 c4",
                      {"rdx": 1 << 63, "rsi": 9}),
    "mulx to rsp": ("bmi2", "49 89 e0 c4 e2 e3 f6 e6 48 89 e0 4c 89 c4", {"rdx": 1 << 63, "rsi": 9}),
    "popcnt from memory to rsp": ("popcnt", "49 89 e0 f3 49 0f b8 66 08 48 89 e1 4c 89 c4", {}),
    "popcnt of rsp to itself": ("popcnt", "49 89 e0 f3 48 0f b8 e4 48 89 e1 4c 89 c4 31 c9", {}),
    "crc32 of ah": ("sse4_2", "f2 0f 38 f0 cc", {"rax": 0x1234, "rcx": 7}),
    "crc32 of spl": ("sse4_2", "49 89 e0 66 bc 56 34 f2 40 0f 38 f0 cc 4c 89 c4", {"rcx": 7}),
    "andn": ("bmi1", "c4 c2 e0 f2 06", {"rbx": 0xFF00}),
    "blsr": ("bmi1", "c4 e2 f8 f3 cb", {"rbx": 0xFF00}),
    "shlx": ("bmi2", "c4 e2 f1 f7 c3", {"rbx": 0xFF00, "rcx": 3}),
    "rorx": ("bmi2", "c4 e3 fb f0 c3 05", {"rbx": 0xFF00}),
    "adcx": ("adx", "66 48 0f 38 f6 c3", {"rax": -1, "rbx": 1}),
    "vaddpd": ("avx", "c5 f5 58 c1 c4 e3 7d 19 c2 01", {}),
    "vaddps from memory": ("avx", "c4 c1 74 58 06 c4 e3 7d 19 c2 01", {}),
    "vmovups to memory": ("avx", "c4 c1 7c 11 4e 03", {}),
    "vpaddb": ("avx2", "c5 f5 fc c1 c4 e3 7d 39 c2 01", {}),
    "vpbroadcastb": ("avx2", "c4 c2 7d 78 46 05", {}),
    "vfmadd231pd": ("fma", "c4 e2 f5 b8 c1", {}),
    "vcvtph2ps": ("f16c", "c4 c2 7d 13 06", {}),
    "vcvtps2ph to memory": ("f16c", "c4 c3 7d 1d 46 04 00", {}),
    "vzeroupper": ("avx", "c5 f8 77", {}),
    "vpaddd zmm": ("avx512f", "62 f1 75 48 fe c1 62 f3 7d 48 3b c2 01", {}),
    "vpaddq from a broadcast": ("avx512f", "62 d1 f5 58 d4 46 01", {}),
    "vmovdqu64 and its scaled displacement": ("avx512f", "62 d1 fe 48 6f 46 ff", {}),
    "vpmovqb to memory": ("avx512f", "62 d2 7e 48 32 06", {}),
    "kmovw and kortestw": ("avx512f", "c5 f8 92 c8 c5 f8 98 c9 c5 f8 93 d9", {"rax": 0x55}),
    "a store under a mask": ("avx512f", "c5 f8 92 c8 62 d1 7e 49 7f 06", {"rax": 0x5A5A}),
    "lar": ("fpu", "31 db 0f 02 c3", {}),
    "verw": ("fpu", "31 db 0f 00 eb", {}),
    "xgetbv": ("avx512f", "31 c9 0f 01 d0", {"rdx": 5}),
    # below the stack, at a multiple of 64
    "xsave and xrstor": ("xsave", "49 89 e0 48 81 ec 00 03 00 00 48 83 e4 c0 b8 03 00 00 00 31 d2 0f ae 24 24"
                         "66 0f ef c0 66 0f ef c9 0f ae 2c 24 48 8b 8c 24 00 02 00 00 48 83 e1 02"
                         "4c 89 c4", {}),
    "fxsave and fxrstor": ("fxsr", "49 89 e0 48 81 ec 00 03 00 00 48 83 e4 c0 0f ae 04 24 66 0f ef c0"
                           "0f ae 0c 24 4c 89 c4", {}),
}  # fmt: skip


def host_has(flag: str) -> bool:
    text = Path("/proc/cpuinfo").read_text()
    return flag in next(line for line in text.splitlines() if line.startswith("flags")).split()


class Counted(Guest):
    """Has AVX switched on, as far as the host has it, and counts crossings."""

    crossings: Crossings

    def started(self, machine) -> None:
        wide = 0xE7 if host_has("avx512f") else 7 if host_has("avx") else 3
        machine.vcpu.set(cr4=OSXSAVE, xcr0=wide)

    def ended(self, machine) -> None:
        self.crossings = machine.vcpu.crossings()


class Moving(Engine):
    """kvm, whose vCPU a companion keeps after a while."""

    def open(self, arch, memory, ports=None, **options):
        return super().open(arch, memory, ports, moves=True, **options)


@pytest.fixture(params=[Engine, Moving], ids=["each", "moving"])
def kernel(request) -> Counted:
    usable("kvm")
    return Counted(request.param("kvm"), kernel=True)


def test_what_kvm_refuses_ends_as_on_the_host_cpu(kernel, host_cpu):
    kinds = {name: refused for name, refused in REFUSED.items() if host_has(refused[0])}
    data = bytes(range(256))
    cases = [
        Case(bytes.fromhex(code), {name: value & (1 << 64) - 1 for name, value in registers.items()},
             vectors=DOUBLES, data=data[0x94:] + data[:0x94])
        for _, code, registers in kinds.values()
    ]  # fmt: skip
    wrong = {}
    for name, ours, theirs in zip(kinds, kernel.run(cases), host_cpu.run(cases), strict=True):
        if difference := ours.difference(theirs):
            wrong[name] = difference
    assert not wrong
    assert bool(kernel.crossings) == emulates_cpl0()


CODE, STACK, PAGES = 0x40_0000, 0x50_0000, 0x60_0000
CODE64, DATA64 = 8, 16


class Kernel:
    """64-bit code at CPL0 under kvm: 2 MiB mapped one to one four times, the last in pages of 4 KiB.

    The page at PAGES + 0x1000 is not there, the one at PAGES + 0x3000 read-only.  An exception halts.
    """

    def __init__(self, code: bytes, *, moves: bool = False, **registers: int) -> None:
        self.memory = AddressSpace()
        self.ports = AddressSpace("ports", 1 << 16)
        self.memory.add_ram("ram", 0, 8 << 20)
        load = self.memory.load
        load(0x1000, struct.pack("<Q", 0x2003))
        load(0x2000, struct.pack("<Q", 0x3003))
        load(0x3000, struct.pack("<4Q", 0x83, 1 << 21 | 0x83, 2 << 21 | 0x83, 0x4003))
        flags = {PAGES + 0x1000: 0, PAGES + 0x3000: 1}
        pages = [PAGES + 0x1000 * n for n in range(512)]
        load(0x4000, struct.pack("<512Q", *(page | flags.get(page, 3) for page in pages)))
        load(0x5000, struct.pack("<3Q", 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF))
        for vector in range(32):
            stub = 0x9000 + 16 * vector
            load(stub, b"\xb0" + bytes([vector]) + b"\xf4")  # mov al, vector; hlt
            load(0x8000 + 16 * vector, struct.pack("<HHBBHII", stub, CODE64, 0, 0x8E, 0, 0, 0))
        load(CODE, code)
        self.kvm = KvmAccelerator(find("x86_64"), self.memory, self.ports, moves=moves)
        self.vcpu = self.kvm.vcpu(0)
        self.started(**registers)

    def started(self, **registers: int) -> None:
        """Everything of the CPU as it is at first."""
        flat = {"base": 0, "limit": 0xFFFF_FFFF}
        segments = {"cs": (CODE64, 0xA09B), **dict.fromkeys(("ss", "ds", "es", "fs", "gs"), (DATA64, 0xC093))}
        self.vcpu.set(cr3=0x1000, cr4=0x620 | OSXSAVE, cr0=0x8001_0033, efer=0xD00, dr7=0x400)
        for name, (selector, attributes) in segments.items():
            parts = {f"{name}_{part}": value for part, value in flat.items()}
            self.vcpu.set(**{name: selector, f"{name}_attr": attributes}, **parts)
        self.vcpu.set(gdtr_base=0x5000, gdtr_limit=23, idtr_base=0x8000, idtr_limit=511)
        self.vcpu.set(**{"rip": CODE, "rsp": STACK, "eflags": 2, **registers})

    def run(self):
        exit = self.vcpu.run()
        self.crossings = self.vcpu.crossings()
        return exit

    def exception(self) -> tuple[int, int, int]:
        """Vector, error code (0 if there is none) and where."""
        (rax, rsp) = self.vcpu.get("rax", "rsp")
        words = struct.unpack("<6Q", self.memory.peek(rsp, 48))
        has_error = rsp == STACK - 48
        return rax & 0xFF, words[0] if has_error else 0, words[1] if has_error else words[0]

    def close(self) -> None:
        self.kvm.close()
        self.memory.close()
        self.ports.close()


@pytest.fixture
def made():
    usable("kvm")
    machines: list[Kernel] = []

    def make(code: str, moves: bool = False, **registers: int) -> Kernel:
        machines.append(Kernel(bytes.fromhex(code), moves=moves, **registers))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


@pytest.mark.parametrize(
    ("name", "code", "address", "expected"),
    [
        ("a load from a page that is not there", "660ffe07", PAGES + 0x1000, (14, 0)),
        ("a store to one", "f20f1107 0fae1f", PAGES + 0x1FF0, (14, 2)),
        ("a store to a read-only page", "0fae1f", PAGES + 0x3000, (14, 3)),
        ("a store that begins in the page before", "dd1f", PAGES + 0x2FFC, (14, 3)),
        ("cmpxchg16b out of alignment", "480fc70f", PAGES + 8, (13, 0)),
        ("paddd out of alignment", "660ffe07", PAGES + 8, (13, 0)),
        ("an address that is none", "660ffe07", 1 << 63, (13, 0)),
    ],
)
def test_what_the_instruction_raises_the_guest_gets(made, name, code, address, expected):
    machine = made(code + "f4", rdi=address & ~7 if name.startswith("a load") else address)
    assert machine.run().kind == ExitKind.HALT
    vector, error, where = machine.exception()
    assert (vector, error) == expected
    assert where - CODE in (0, 4)  # the store's second instruction is the one that KVM refuses
    if vector == 14:
        pages = {PAGES + 0x1000, PAGES + 0x3000}
        assert machine.vcpu.get("cr2")[0] & ~0xFFF in pages


def test_switched_off_units_raise_what_the_manual_says(made):
    for cr0, cr4, code, vector in (
        (8, 0, "660ffec1", 7),  # CR0.TS
        (4, 0, "660ffec1", 6),  # CR0.EM
        (8, 0, "9b", 7),  # with MP
        (0, 0x200, "660ffec1", 6),  # CR4.OSFXSR
        (0, OSXSAVE, "c5f458c1", 6),
    ):
        machine = made(code + "f4")
        before = machine.vcpu.get("cr0", "cr4")
        machine.vcpu.set(cr0=before[0] | cr0, cr4=before[1] & ~cr4)
        assert machine.run().kind == ExitKind.HALT
        assert machine.exception()[0] == vector, (code, cr0, cr4)


def test_a_masked_exception_sets_its_flag_and_an_unmasked_one_is_raised(made):
    # ldmxcsr [rdi]; divsd xmm0,xmm1; stmxcsr [rdi]; hlt
    for mask, vector in ((0x1F80, None), (0x1D80, 19)):
        machine = made("0fae17 f20f5ec1 0fae1f f4", rdi=PAGES, xmm0=0x3FF0 << 48, xmm1=0)
        machine.memory.load(PAGES, struct.pack("<I", mask))
        machine.vcpu.set(cr4=machine.vcpu.get("cr4")[0] | 0x400)
        assert machine.run().kind == ExitKind.HALT
        if vector is None:
            assert machine.memory.peek(PAGES, 4) == struct.pack("<I", mask | 4)
        else:
            assert machine.exception()[0] == vector
            assert machine.vcpu.get("mxcsr", "xmm0") == (mask | 4, 0x3FF0 << 48)


def test_memory_operands_across_pages_are_read_and_written_whole(made):
    # movups would be KVM's own: paddd of unaligned memory by AVX, and a store of 10 bytes
    machine = made("d9e8 db3f f4", rdi=PAGES + 0x4FFB)
    machine.memory.load(PAGES + 0x4FF0, b"\xee" * 32)
    assert machine.run().kind == ExitKind.HALT
    one = (0x3FFF << 64 | 1 << 63).to_bytes(10, "little")
    assert machine.memory.peek(PAGES + 0x4FF0, 32) == b"\xee" * 11 + one + b"\xee" * 11


def test_memory_that_is_a_device_is_accessed_as_one(made):
    machine = made("d9e8 dd1f f4", rdi=PAGES + 0x4000)
    told = []
    machine.memory.load(0x4000 + 8 * 4, struct.pack("<Q", 0x1000_0003))
    machine.memory.add_io("device", 0x1000_0000, 0x1000).ops(None, lambda *access: told.append(access))
    assert machine.run().kind == ExitKind.HALT
    assert told == [(0, 8, 0x3FF0 << 48)]


def test_every_refusal_is_counted_with_its_name(made):
    # mov ecx,5; popcnt eax,ecx; fldz; fstp st0; loop
    machine = made("b905000000 f30fb8c1 d9ee ddd8 e2f6 f4")
    assert machine.run().kind == ExitKind.HALT
    if not emulates_cpl0():
        pytest.skip("this host's KVM does not emulate kernel mode: it refuses nothing")
    assert machine.crossings.host == sum(machine.crossings.kinds.values())
    assert machine.crossings.kinds["popcnt"] == machine.crossings.kinds["fldz"] == 5
    assert "5 popcnt" in "\n".join(machine.crossings.lines())


# At CPL0: what KVM that emulates it refuses; code, registers, what they are then.
SYSTEM = {
    "rdtscp": ("0f01f9", {}, {"rcx": 77}),
    "xgetbv": ("0f01d0", {"rcx": 0}, {"rax": 3, "rdx": 0}),
    "xsetbv": ("0f01d1 0f01d0", {"rcx": 0, "rax": 1, "rdx": 0}, {"rax": 1}),
    "verw of data": ("66b81000 0f00e8 9c58", {}, {"rax": 0x42}),
    "verw of code": ("66b80800 0f00e8 9c58", {}, {"rax": 0x02}),
    "lar": ("66b81000 0f02c8", {}, {"rcx": 0xC0_9300}),
    "lsl": ("66b81000 0f03c8", {}, {"rcx": 0xFFFF_FFFF}),
    "stac and clac": ("0f01cb 9c58 0f01ca 9c5b", {}, {"rax": 0x4_0002, "rbx": 2}),
    "invpcid of everything": ("660f388207", {"rax": 2, "rdi": PAGES}, {"rax": 2}),
    "xsave": ("0fae27 488b8700020000 83e002", {"rax": 3, "rdx": 0, "rdi": PAGES}, {"rax": 2}),
}
# ... and what they raise: the vector and its error code.
RAISED = {
    "int3": ("cc", {}, (3, 0)),
    "xgetbv of none": ("0f01d0", {"rcx": 7}, (13, 0)),
    "xsetbv without x87": ("0f01d1", {"rcx": 0, "rax": 2, "rdx": 0}, (13, 0)),
    "xsave at an odd place": ("0fae27", {"rdi": PAGES + 8}, (13, 0)),
    "xrstor of a header that is none": ("0fae2f", {"rax": 3, "rdx": 0, "rdi": PAGES}, (13, 0)),
    "xrstor from nowhere": ("0fae2f", {"rax": 3, "rdx": 0, "rdi": PAGES + 0x1000}, (14, 0)),
    "invpcid of no kind": ("660f388207", {"rax": 4, "rdi": PAGES}, (13, 0)),
    "ud2": ("0f0b", {}, (6, 0)),
    "monitor": ("0f01c8", {"rax": PAGES, "rcx": 0, "rdx": 0}, (6, 0)),
}
# A CPU has them or has them not; where KVM emulates kernel mode they are done although CPUID says no.
HIDDEN = {"rdtscp", "stac and clac", "invpcid of everything", "invpcid of no kind"}


def started(made, name, code, registers) -> Kernel:
    if not emulates_cpl0() and name in HIDDEN:
        pytest.skip("this host's KVM refuses nothing, and its CPU may lack the instruction")
    machine = made(code + "f4", **registers)
    machine.memory.load(
        PAGES, b"\0" * 512 + b"\0" * 8 + b"\1" * 8 if name.startswith("xrstor") else bytes(576)
    )
    machine.vcpu.set(tsc_aux=77, xcr0=3, xmm0=1)
    return machine


@pytest.mark.parametrize("name", SYSTEM)
def test_instructions_of_an_operating_system(made, name):
    code, registers, expected = SYSTEM[name]
    machine = started(made, name, code, registers)
    assert machine.run().kind == ExitKind.HALT
    assert machine.vcpu.get("rip") == (CODE + len(bytes.fromhex(code)) + 1,)
    assert dict(zip(expected, machine.vcpu.get(*expected), strict=True)) == expected


@pytest.mark.parametrize("name", RAISED)
def test_instructions_of_an_operating_system_that_raise(made, name):
    code, registers, expected = RAISED[name]
    machine = started(made, name, code, registers)
    assert machine.run().kind == ExitKind.HALT
    assert machine.exception() == (*expected, CODE + (name == "int3"))


ANY = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r14", "r15")


@pytest.mark.parametrize("moves", [False, True])
def test_any_bytes_at_all_leave_the_process_alone(made, moves):
    fuzz(made("f4", moves), 400, 1 + moves)


def fuzz(machine: Kernel, times: int, seed: int) -> None:
    """Instructions of all maps with random operands; each ends at its exception or at a budget of exits.

    A guest may go round for ever, which a kick must end.

    python -c "from tests.accel.test_crossing import *; fuzz(Kernel(b''), 20000, 3)" has more of them.
    """
    chance, over = random.Random(seed), threading.Event()

    def kick() -> None:
        while not over.wait(0.5):
            machine.vcpu.kick()

    kicker = threading.Thread(target=kick)
    kicker.start()
    try:
        _fuzz(machine, times, chance)
    finally:
        over.set()
        kicker.join()


def _fuzz(machine: Kernel, times: int, chance: random.Random) -> None:
    prefixes = ["", "66", "f3", "f2", "48", "6648", "f0", "67", "6467", "4f"]
    # Not 0F 01: a KVM that emulates kernel mode never returns from VMCALL.
    starts = ["0f", "0f38", "0f3a", "c5", "c4", "62", "d8", "d9", "db", "dd", "df", "0fae", "0fc7"]
    for _ in range(times):
        code = bytes.fromhex(chance.choice(prefixes) + chance.choice(starts)) + chance.randbytes(12)
        machine.memory.load(CODE, code + b"\xf4" * 16)
        values = (PAGES, PAGES + 0x2FF8, 1 << 63, chance.getrandbits(64))
        registers = {name: chance.choice(values) for name in ANY}
        machine.started(**registers)
        machine.vcpu.run(budget=20)


def test_a_guest_that_keeps_asking_stays_with_a_companion_until_its_registers_are_wanted(made):
    # mov ecx,100; popcnt eax,ecx; addsd xmm0,xmm1; dec ecx; jne; mov dx,0x10; out dx,al; and again
    again = "b964000000 f30fb8c1 f20f58c1 ffc9 75f4 66ba1000 ee"
    machine = made(again + again + "f4", moves=True, xmm0=0, xmm1=0x3FF0 << 48)
    told = []
    machine.ports.add_io("port", 0x10, 1).ops(None, lambda *access: told.append(access))
    assert machine.run().kind == ExitKind.HALT
    if not emulates_cpl0():
        pytest.skip("this host's KVM does not emulate kernel mode: it refuses nothing")
    assert machine.vcpu.get("xmm0", "rcx", "rax") == (0x4069 << 48, 0, 1)
    assert told == [(0, 1, 1), (0, 1, 1)]
    assert machine.crossings.kinds.get("popcnt", 0) < 100  # none on a host that is slow to take the first one
    machine.vcpu.set(rip=CODE)
    assert machine.run().kind == ExitKind.HALT
    assert machine.vcpu.get("xmm0") == (0x4079 << 48,)
    assert machine.crossings.stays == 2


# mov ecx,40; popcnt eax,ecx; dec ecx; jne: the companion keeps the vCPU then, where KVM emulates
ASKS = "b928000000 f30fb8c1 ffc9 75f8"


@pytest.mark.parametrize("moves", [False, True])
def test_the_trap_flag_is_heeded_behind_what_others_do(made, moves):
    # pushf; or dword [rsp], 0x100; popf; then each kind of them
    for code, length in (("f30fb8c1", 4), ("0f01d0", 3), ("c5f458c1", 4), ("f20f58c1", 4)):
        machine = made(ASKS + "9c 810c2400010000 9d" + code + "90 f4", moves=moves)
        if not host_has("avx") and code.startswith("c5"):
            continue
        machine.vcpu.set(xcr0=7 if host_has("avx") else 3)
        assert machine.run().kind == ExitKind.HALT
        assert machine.exception() == (1, 0, CODE + len(bytes.fromhex(ASKS)) + 9 + length), code
        assert machine.vcpu.get("dr6")[0] & 0x4000, code


@pytest.mark.parametrize("moves", [False, True])
def test_debug_registers_and_the_task_priority_are_the_guests_wherever_it_is(made, moves):
    # mov eax, PAGES; mov dr0,rax; mov rbx,dr0; mov eax,5; mov cr8,rax; mov rsi,cr8; mov edi,16; mov cr8,rdi
    code = "b800006000 0f23c0 0f21c3 b805000000 440f22c0 440f20c6 bf10000000 440f22c7"
    machine = made(ASKS + code + "f4", moves=moves)
    machine.vcpu.set(dr1=0x1234)
    assert machine.run().kind == ExitKind.HALT
    assert machine.exception()[0] == 13  # 16 is no priority
    assert machine.vcpu.get("dr0", "dr1", "rbx", "cr8", "rsi") == (PAGES, 0x1234, PAGES, 5, 5)


def test_a_debuggers_step_is_one_instruction_whoever_does_it(made):
    machine = made("90 f30fb8c1 0f01d0 90 f4", moves=True, rcx=0)
    for length in (1, 4, 3, 1):
        (before,) = machine.vcpu.get("rip")
        assert machine.vcpu.step().kind == ExitKind.DEBUG
        assert machine.vcpu.get("rip") == (before + length,)
    machine = made(ASKS + ASKS + "90 f4", moves=True)
    stop = CODE + 2 * len(bytes.fromhex(ASKS))
    machine.vcpu.debug([stop])
    exit = machine.vcpu.run()
    assert (exit.kind, exit.pc) == (ExitKind.DEBUG, stop)


def test_code_that_changes_under_kvm_is_not_stale_for_the_companion(made):
    # mov ecx,40; popcnt eax,ecx; dec ecx; jne; mov eax,1; hlt: the companion translates the last of it
    machine = made("b928000000 f30fb8c1 ffc9 75f8 b801000000 f4", moves=True)
    for value in (1, 2, 3):
        machine.memory.load(CODE + 14, struct.pack("<I", value))
        machine.vcpu.set(rip=CODE)
        assert machine.run().kind == ExitKind.HALT
        assert machine.vcpu.get("rax") == (value,)
        # mov byte [CODE + 14], 9 by KVM, and back
        machine.memory.load(PAGES, bytes.fromhex("c604250e004000") + bytes([value + 1]) + b"\xf4")
        machine.vcpu.set(rip=PAGES)
        assert machine.run().kind == ExitKind.HALT
        machine.vcpu.set(rip=CODE)
        assert machine.run().kind == ExitKind.HALT
        assert machine.vcpu.get("rax") == (value + 1,)
