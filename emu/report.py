"""What a CPU was at when its guest could not go on: registers by name, and the instructions around its pc.

It only looks: memory through the guest's own tables, where they lead to RAM or ROM.
"""

from __future__ import annotations

from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.api import Vcpu
    from accel.memory import AddressSpace
    from isa.arch import Arch

# What says how the CPU sees memory, and what its last exception was.
CONTROL = {
    "x86_64": "cr0 cr2 cr3 cr4 cr8 efer",
    "aarch64": "SCTLR_EL1 TCR_EL1 TTBR0_EL1 TTBR1_EL1 VBAR_EL1 ESR_EL1 FAR_EL1 ELR_EL1 SPSR_EL1",
    "arm": "SCTLR TTBCR TTBR0 TTBR1 VBAR DFSR DFAR IFSR IFAR",
    "riscv64": "priv satp mstatus mtvec mepc mcause mtval sstatus stvec sepc scause stval",
}
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "ldtr", "tr")
LINK = {"aarch64": "x30", "arm": "lr", "riscv64": "ra"}
EXCEPTION = {"aarch64": "ELR_EL1", "riscv64": "mepc"}  # where the last one came from
WIDTH = 100
BEFORE, FROM, STACK = 6, 4, 4
LONGEST = 15
# x86's, in CR0 and EFER; in a code segment's attributes; Arm's in CPSR.
PE, LMA = 1 << 0, 1 << 10
LONG, BIG = 1 << 13, 1 << 14
THUMB, AARCH32 = 1 << 5, 1 << 4


def describe(vcpu: Vcpu, arch: Arch, memory: AddressSpace) -> str:
    """Several lines, for the end of an error message; the CPU is not running."""
    cpu = CpuView(vcpu, arch, memory)
    return "".join(f"  {line}".rstrip() + "\n" for line in cpu.registers() + cpu.code())


class CpuView:
    """A CPU that stands still, as a person looks at it."""

    def __init__(self, vcpu: Vcpu, arch: Arch, memory: AddressSpace) -> None:
        self.vcpu = vcpu
        self.arch = arch
        self.memory = memory
        self.values: dict[str, int] = {}

    def get(self, name: str) -> int | None:
        """A register, as it was at the first look; None for one that the engine does not have."""
        if name not in self.values:
            try:
                self.values[name] = self.vcpu.get(name)[0]
            except LookupError:
                return None
        return self.values[name]

    # -- registers ---------------------------------------------------------------

    def registers(self) -> list[str]:
        general = [register.name for register in self.arch.registers if register.group == "general"]
        if self.arch.name == "x86_64":
            general = [name for name in general if name[:2] not in SEGMENTS]
        lines = self._block(general)
        if self.arch.name == "x86_64":
            lines += self._segments()
        return lines + self._block(CONTROL[self.arch.name].split())

    def _block(self, names: list[str]) -> list[str]:
        cells = []
        for name in names:
            value = self.get(name)
            if value is not None:
                cells.append(f"{name.lower():>{max(map(len, names))}} {value:0{self._digits(name)}x}")
        across = max(1, (WIDTH + 2) // (max(map(len, cells), default=WIDTH) + 2))
        return ["  ".join(cells[n : n + across]) for n in range(0, len(cells), across)]

    def _digits(self, name: str) -> int:
        if name == "priv":  # RISC-V's privilege level is no register of the manual's
            return 1
        return min(self.arch.register(name).width, self.arch.bits) // 4

    def _segments(self) -> list[str]:
        cells = []
        for name in SEGMENTS:
            selector, base, limit, attributes = (
                self.get(f"{name}{part}") or 0 for part in ("", "_base", "_limit", "_attr")
            )
            cells.append(f"{name:>4} {selector:04x} base {base:016x} limit {limit:08x} {attributes:05x}")
        for name in ("gdtr", "idtr"):
            base, limit = (self.get(f"{name}_{part}") or 0 for part in ("base", "limit"))
            cells.append(f"{name:>4}      base {base:016x} limit {limit:08x}      ")
        return ["  ".join(cells[n : n + 2]) for n in range(0, len(cells), 2)]

    # -- memory ------------------------------------------------------------------

    def peek(self, address: int, size: int) -> bytes:
        """What lies there, as far as RAM or ROM goes."""
        found = b""
        while len(found) < size:
            at = address + len(found) & (1 << self.arch.bits) - 1
            physical = self.vcpu.translate(at)
            if physical is None:
                break
            part = min(size - len(found), 4096 - at % 4096)
            got = self.memory.peek(physical, part)
            found += got
            if len(got) < part:
                break
        return found

    def base(self, segment: str) -> int:
        """What is added to an offset in a segment of x86's."""
        if self.arch.name != "x86_64" or self._bits() == 64:
            return 0
        return self.get(f"{segment}_base") or 0

    def _bits(self) -> int:
        """Of x86 code, as the code segment says."""
        attributes = self.get("cs_attr") or 0
        if (self.get("efer") or 0) & LMA and attributes & LONG:
            return 64
        return 32 if (self.get("cr0") or 0) & PE and attributes & BIG else 16

    # -- code --------------------------------------------------------------------

    def code(self) -> list[str]:
        pc = self.get(self.arch.pc) or 0
        at = self.base("cs") + pc
        lines = []
        decoder, step = self.decoder()
        if not self.peek(at, 1):
            lines.append(f"code at {pc:x}: nothing is mapped there")
            caller = self._caller()
            before = [] if caller is None else self._before(decoder, step, caller)
            if before:
                lines.append(f"code before {caller:x}, where it may have been called from:")
                return lines + before + self._stack()
            cause = self.get(EXCEPTION[self.arch.name]) if self.arch.name in EXCEPTION else None
            if cause is not None and self.peek(cause, 1):
                lines.append(f"code at {cause:x}, where the last exception came from:")
                lines += self._around(decoder, step, cause)
            return lines + self._stack()
        lines.append(f"code at {pc:x}:" if at == pc else f"code at {pc:x} ({at:x}):")
        return lines + self._around(decoder, step, at) + self._stack()

    def _around(self, decoder: Any, step: int, at: int) -> list[str]:
        after = self.listing(decoder, self.peek(at, FROM * LONGEST), at, FROM, ">")
        return self._before(decoder, step, at) + after

    def decoder(self) -> tuple[Any, int]:
        """Capstone for the CPU's present mode, and what instructions are aligned to."""
        import capstone as cs

        status = self.get("cpsr") or 0
        if self.arch.name == "x86_64":
            modes = {16: cs.CS_MODE_16, 32: cs.CS_MODE_32, 64: cs.CS_MODE_64}
            return cs.Cs(cs.CS_ARCH_X86, modes[self._bits()]), 1
        if self.arch.name == "riscv64":
            return cs.Cs(cs.CS_ARCH_RISCV, cs.CS_MODE_RISCV64 | cs.CS_MODE_RISCVC), 2
        if self.arch.name == "aarch64" and not status & AARCH32:
            return cs.Cs(cs.CS_ARCH_ARM64, cs.CS_MODE_LITTLE_ENDIAN), 4
        thumb = bool(status & THUMB)
        return cs.Cs(cs.CS_ARCH_ARM, cs.CS_MODE_THUMB if thumb else cs.CS_MODE_ARM), 2 if thumb else 4

    def _before(self, decoder: Any, step: int, at: int) -> list[str]:
        """The instructions that end there, from the farthest place where decoding leads to it."""
        for back in range(BEFORE * (4 if step > 1 else LONGEST // 3), 0, -step):
            data = self.peek(at - back, back)
            if len(data) == back and sum(size for _, size, _, _ in decoder.disasm_lite(data, 0)) == back:
                return self.listing(decoder, data, at - back, None, " ")[-BEFORE:]
        return []

    def listing(self, decoder: Any, data: bytes, at: int, count: int | None, mark: str) -> list[str]:
        lines = []
        for address, size, name, operands in decoder.disasm_lite(data, at, count or 0):
            code = data[address - at : address - at + size].hex(" ")
            lines.append(f"{mark}{address:{self.arch.bits // 4}x}: {code:<23} {name} {operands}".rstrip())
            mark = " "
        if not lines and data:
            size = 4 if self.arch.name != "x86_64" else LONGEST
            lines.append(f"{mark}{at:{self.arch.bits // 4}x}: {data[:size].hex(' ')} (no instruction)")
        return lines

    def _caller(self) -> int | None:
        """Where a call would go back to: by the link register, or on x86 by the stack's top."""
        if self.arch.name in LINK:
            return (self.get(LINK[self.arch.name]) or 0) & ~1
        size = self._bits() // 8
        data = self.peek(self.base("ss") + (self.get("rsp") or 0), size)
        return self.base("cs") + int.from_bytes(data, "little") if len(data) == size else None

    def _stack(self) -> list[str]:
        """The words at the stack pointer."""
        size, sp = self.arch.bits // 8, self.get(self.arch.sp) or 0
        data = self.peek(self.base("ss") + sp, STACK * size)
        if len(data) < size:
            return [f"stack at {sp:x}: nothing is mapped there"]
        values = [int.from_bytes(data[n : n + size], "little") for n in range(0, len(data) - size + 1, size)]
        return [f"stack at {sp:x}: " + " ".join(f"{value:0{2 * size}x}" for value in values)]
