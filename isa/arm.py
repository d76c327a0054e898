"""Arm, the 32-bit state of the A-profile (Armv7-A with VFPv3 and Advanced SIMD), little endian, Linux EABI.

`Register.encoding` is (coprocessor, opc1, CRn, CRm, opc2) of MRC and MCR; VMRS's registers are coprocessor
10, opc1 7, their number in CRn. Sources: Arm Architecture Reference Manual Armv7-A (DDI 0406C), VMRS
and section B3.17; Procedure Call Standard AAPCS; register lists of GDB 13;
arch/arm/include/uapi/asm of Linux 6.1.
"""

from __future__ import annotations

from isa.abi import Abi
from isa.arch import Arch, Register

_CORE = "org.gnu.gdb.arm.core"
_VFP = "org.gnu.gdb.arm.vfp"
_NAMES = {9: ("sb",), 10: ("sl",), 11: ("fp",), 12: ("ip",)}


def _cp15(name: str, opc1: int, crn: int, crm: int, opc2: int) -> Register:
    return Register(name, 32, "system", encoding=(15, opc1, crn, crm, opc2))


_FPSCR = Register("fpscr", 32, "float", "int", feature=_VFP, number=58, encoding=(10, 7, 1, 0, 0))

ARCH = Arch(
    "arm",
    # 16..24 are the FPA registers of old cores, which no EABI program has; GDB keeps their numbers free.
    registers=(
        *(
            Register(f"r{n}", 32, "general", "uint32", feature=_CORE, number=n, aliases=_NAMES.get(n, ()))
            for n in range(13)
        ),
        Register("sp", 32, "general", "data_ptr", feature=_CORE, number=13, aliases=("r13",)),
        Register("lr", 32, "general", "int", feature=_CORE, number=14, aliases=("r14",)),
        Register("pc", 32, "general", "code_ptr", feature=_CORE, number=15, aliases=("r15",)),
        Register("cpsr", 32, "general", "int", feature=_CORE, number=25),
        *(Register(f"d{n}", 64, "float", "ieee_double", feature=_VFP, number=26 + n) for n in range(32)),
        _FPSCR,
    ),
    system_registers=(
        _FPSCR,
        Register("FPSID", 32, "system", encoding=(10, 7, 0, 0, 0)),
        Register("MVFR1", 32, "system", encoding=(10, 7, 6, 0, 0)),
        Register("MVFR0", 32, "system", encoding=(10, 7, 7, 0, 0)),
        Register("FPEXC", 32, "system", encoding=(10, 7, 8, 0, 0)),
        # thread pointers: user read/write, user read-only, privileged
        _cp15("TPIDRURW", 0, 13, 0, 2),
        _cp15("TPIDRURO", 0, 13, 0, 3),
        _cp15("TPIDRPRW", 0, 13, 0, 4),
        _cp15("CONTEXTIDR", 0, 13, 0, 1),
        _cp15("FCSEIDR", 0, 13, 0, 0),
        # control and translation
        _cp15("SCTLR", 0, 1, 0, 0),
        _cp15("ACTLR", 0, 1, 0, 1),
        _cp15("CPACR", 0, 1, 0, 2),
        _cp15("TTBR0", 0, 2, 0, 0),
        _cp15("TTBR1", 0, 2, 0, 1),
        _cp15("TTBCR", 0, 2, 0, 2),
        _cp15("DACR", 0, 3, 0, 0),
        _cp15("PRRR", 0, 10, 2, 0),
        _cp15("NMRR", 0, 10, 2, 1),
        _cp15("PAR", 0, 7, 4, 0),
        # exceptions
        _cp15("VBAR", 0, 12, 0, 0),
        _cp15("ISR", 0, 12, 1, 0),
        _cp15("DFSR", 0, 5, 0, 0),
        _cp15("IFSR", 0, 5, 0, 1),
        _cp15("ADFSR", 0, 5, 1, 0),
        _cp15("AIFSR", 0, 5, 1, 1),
        _cp15("DFAR", 0, 6, 0, 0),
        _cp15("IFAR", 0, 6, 0, 2),
        # generic timer
        _cp15("CNTFRQ", 0, 14, 0, 0),
        _cp15("CNTKCTL", 0, 14, 1, 0),
        _cp15("CNTP_TVAL", 0, 14, 2, 0),
        _cp15("CNTP_CTL", 0, 14, 2, 1),
        _cp15("CNTV_TVAL", 0, 14, 3, 0),
        _cp15("CNTV_CTL", 0, 14, 3, 1),
        # identification and caches
        _cp15("MIDR", 0, 0, 0, 0),
        _cp15("CTR", 0, 0, 0, 1),
        _cp15("MPIDR", 0, 0, 0, 5),
        _cp15("ID_PFR0", 0, 0, 1, 0),
        _cp15("ID_PFR1", 0, 0, 1, 1),
        _cp15("ID_DFR0", 0, 0, 1, 2),
        _cp15("ID_MMFR0", 0, 0, 1, 4),
        _cp15("ID_ISAR0", 0, 0, 2, 0),
        _cp15("CCSIDR", 1, 0, 0, 0),
        _cp15("CLIDR", 1, 0, 0, 1),
        _cp15("CSSELR", 2, 0, 0, 0),
    ),
    pc="pc",
    sp="sp",
    flags="cpsr",
    gdb_name="arm",
    gdb_types=(),
    abi=Abi(
        "AAPCS",
        argument_registers=("r0", "r1", "r2", "r3"),
        return_registers=("r0", "r1"),
        syscall_number_register="r7",
        syscall_argument_registers=("r0", "r1", "r2", "r3", "r4", "r5", "r6"),
        syscall_return_register="r0",
        syscall_instruction=bytes.fromhex("000000ef"),  # svc #0
        short_syscall_instruction=bytes.fromhex("00df"),  # Thumb svc #0
        # The undefined instructions that arch/arm/kernel/ptrace.c claims as breakpoints.
        breakpoint_instruction=bytes.fromhex("f001f0e7"),
        short_breakpoint_instruction=bytes.fromhex("01de"),
        aligned_pairs=True,
        stack_alignment=8,
        link_register="lr",
        tls_register="TPIDRURO",
        tls_is_set_by="syscall",
        restorer="either",
        char_is_signed=False,
        uname_machine="armv7l",
        platform="v7l",
        interpreter="/lib/ld-linux-armhf.so.3",
    ),
)
