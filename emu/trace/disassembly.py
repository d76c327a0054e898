"""Instructions as text (capstone's), and the names of registers as engines tell them."""

from __future__ import annotations

from isa.arch import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

THUMB = 0x80  # in a record's bits


def _capstone(isa: str, thumb: bool) -> Any:
    import capstone

    arch, mode = {
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
        "arm": (
            capstone.CS_ARCH_ARM,
            (capstone.CS_MODE_THUMB if thumb else capstone.CS_MODE_ARM) | capstone.CS_MODE_V8,
        ),
        "riscv64": (capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC),
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    }[isa]
    return capstone.Cs(arch, mode)


class Disassembly:
    """One ISA's instructions, each of which is disassembled once."""

    def __init__(self, isa: str) -> None:
        self._isa = isa
        self._engines: dict[bool, Any] = {}
        self._known: dict[tuple[int, bytes, bool], tuple[str, int]] = {}

    def text(self, address: int, code: bytes, thumb: bool = False) -> str:
        """Of the first instruction of `code`."""
        return self.of(address, code, thumb)[0]

    def of(self, address: int, code: bytes, thumb: bool = False) -> tuple[str, int]:
        """The text, and how many bytes it is of."""
        key = (address, code, thumb)
        try:
            return self._known[key]
        except KeyError:
            pass
        if thumb not in self._engines:
            self._engines[thumb] = _capstone(self._isa, thumb)
        found = ".byte " + ", ".join(f"{byte:#04x}" for byte in code), len(code)
        for _, size, name, operands in self._engines[thumb].disasm_lite(code, address, 1):
            found = f"{name} {operands}" if operands else name, size
        if len(self._known) > 1 << 18:
            self._known.clear()
        self._known[key] = found
        return found


class Names:
    """Names of what emu_cpu_state (accel/native/engine.h) holds."""

    def __init__(self, isa: str) -> None:
        arch = find(isa)
        others = {
            "aarch64": ("nzcv", "fpcr", "fpsr", "tpidr_el0", ""),
            "arm": ("cpsr", "fpscr", "", "tpidruro", ""),
            "riscv64": ("", "fcsr", "", "", ""),
            "x86_64": ("eflags", "mxcsr", "", "fs_base", "gs_base"),
        }
        if isa == "x86_64":
            general = [
                "rax",
                "rcx",
                "rdx",
                "rbx",
                "rsp",
                "rbp",
                "rsi",
                "rdi",
                *(f"r{n}" for n in range(8, 16)),
            ]
        elif isa == "aarch64":
            general = [*(f"x{n}" for n in range(31)), "sp"]
        elif isa == "arm":
            general = [*(f"r{n}" for n in range(13)), "sp", "lr"]
        else:
            general = [register.name for register in arch.registers[:32]]
        self.general = general + [f"?{n}" for n in range(len(general), 32)]
        if isa == "riscv64":
            floats = [register.name for register in arch.registers if register.number in range(33, 65)]
            self.vectors = floats
        else:
            prefix = {"x86_64": "xmm", "aarch64": "v", "arm": "q"}[isa]
            self.vectors = [f"{prefix}{n}" for n in range(32)]
        self.half = isa == "riscv64"
        self.others = others[isa]
        self._cache: dict[tuple[int, int], list[tuple[str, int]]] = {}

    def changed(self, mask: int, bits: int) -> list[tuple[str, int]]:
        """The registers of a record's b and bits, in the order of their values; 2: the value is two words."""
        key = (mask, bits)
        found = self._cache.get(key)
        if found is None:
            found = [(self.general[n], 1) for n in range(32) if mask >> n & 1]
            found += [(self.vectors[n], 2) for n in range(32) if mask >> (32 + n) & 1]
            found += [(self.others[n], 1) for n in range(5) if bits >> n & 1]
            if len(self._cache) < 1 << 16:
                self._cache[key] = found
        return found
