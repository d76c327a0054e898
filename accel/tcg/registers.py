"""Where Unicorn keeps the registers that `isa` names.

A place is (id, code...): a UC_*_REG_* number of unicorn 2.1.4's headers, or one of uc.h's emu_uc_place with
the encoding that isa gives for the register.  tests/accel/test_tcg_registers.py compares the numbers with the
constants of the unicorn package.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isa.arch import Arch

SYSTEM, SEGMENT, DESCRIPTORS, STATUS, INSIDE = -1, -2, -3, -4, -5

# uc.h's emu_uc_inside, in its order.
INSIDE_X86_64 = ("event", "shadow", "nmi_blocked", "nmi_pending", "tsc", "xcr0")
# MSRs that Unicorn has and isa does not name: MTRRs (Intel SDM vol. 4, 2.1), machine check, SVM's host area.
UNNAMED_MSRS = (
    *range(0x200, 0x210),
    *(0x250, 0x258, 0x259),
    *range(0x268, 0x270),
    *(0x2FF, 0x17A, 0xC001_0117),
)

Place = tuple[int, ...]


def _numbered(prefix: str, count: int, first: int) -> dict[str, Place]:
    return {f"{prefix}{n}": (first + n,) for n in range(count)}


def _aarch64() -> dict[str, Place]:
    return {
        **_numbered("x", 29, 199),
        "x29": (1,),
        "x30": (2,),
        "sp": (4,),
        "pc": (260,),
        "cpsr": (STATUS,),
        **_numbered("v", 32, 228),
        "fpcr": (291,),
        "fpsr": (292,),
    }


def _arm() -> dict[str, Place]:
    return {
        **_numbered("r", 13, 66),
        "sp": (12,),
        "lr": (10,),
        "pc": (11,),
        "cpsr": (3,),
        **_numbered("d", 32, 14),
        "fpscr": (6,),
        "FPEXC": (4,),
        "spsr": (13,),  # of the present mode
    }


def _riscv64(arch: Arch) -> dict[str, Place]:
    places: dict[str, Place] = {"pc": (190,), "priv": (191,)}
    general = [r for r in arch.registers if r.group == "general" and r.name != "pc"]
    floats = [r for r in arch.registers if r.group == "float" and not r.encoding]
    places.update({register.name: (1 + n,) for n, register in enumerate(general)})
    places.update({register.name: (158 + n,) for n, register in enumerate(floats)})
    return places


def _x86_64() -> dict[str, Place]:
    names = ["rax", "rbp", "rbx", "rcx", "rdi", "rdx", "rip", "rsi", "rsp"]
    numbers = (35, 36, 37, 38, 39, 40, 41, 43, 44)
    places: dict[str, Place] = {name: (n,) for name, n in zip(names, numbers, strict=True)}
    places.update({f"r{n}": (106 + n - 8,) for n in range(8, 16)})
    places.update({f"xmm{n}": (122 + n,) for n in range(16)})
    places.update({f"cr{n}": (STATUS, 50 + n) for n in (0, 2, 3, 4, 8)})
    places.update({f"dr{n}": (66 + n,) for n in (0, 1, 2, 3, 6)})
    places["dr7"] = (STATUS, 73)
    places.update({f"st{n}": (114 + n,) for n in range(8)})
    places.update(
        {
            "eflags": (STATUS, 253),
            "fctrl": (246,),
            "fstat": (31,),
            "ftag": (247,),
            "fioff": (254,),
            "fiseg": (255,),
            "fooff": (256,),
            "foseg": (257,),
            "fop": (258,),
            "mxcsr": (249,),
            "fs_base": (250,),
            "gs_base": (251,),
        }
    )
    # A segment's parts: selector, base, limit in bytes, access rights (Intel SDM vol. 3, table 25-2).
    for n, name in enumerate(["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"]):
        places[name] = (SEGMENT, n, 0)
        for part, suffix in enumerate(["base", "limit", "attr"], 1):
            places.setdefault(f"{name}_{suffix}", (SEGMENT, n, part))
    for n, name in enumerate(["gdtr", "idtr"]):
        places[f"{name}_base"] = (DESCRIPTORS, n, 1)
        places[f"{name}_limit"] = (DESCRIPTORS, n, 2)
    places.update({name: (INSIDE, n) for n, name in enumerate(INSIDE_X86_64)})
    places.update({f"msr_{index:x}": (SYSTEM, index) for index in UNNAMED_MSRS})
    return places


def places(arch: Arch) -> dict[str, Place]:
    """By the register's canonical name, for every register of `arch` that Unicorn has."""
    if arch.name == "aarch64":
        found = _aarch64()
    elif arch.name == "arm":
        found = _arm()
    elif arch.name == "riscv64":
        found = _riscv64(arch)
    else:
        found = _x86_64()
    for register in (*arch.registers, *arch.system_registers):
        if arch.name == "arm" and register.encoding[:1] == (10,):
            continue  # VFP's identification: coprocessor 10 is none to Unicorn, which prints a warning
        # VMRS's registers are no coprocessor registers to Unicorn.
        if register.name not in found and register.encoding and register.encoding[0] != 10:
            found[register.name] = (SYSTEM, *register.encoding)
    return found
