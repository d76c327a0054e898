"""AArch64, the 64-bit state of the Arm A-profile, little endian, with Linux's LP64 ABI.

`Register.encoding` is (op0, op1, CRn, CRm, op2) of MRS and MSR. Sources: Arm Architecture Reference Manual
(DDI 0487), AArch64 System Register Descriptions; Procedure Call Standard AAPCS64; register lists of GDB 13;
arch/arm64/include/uapi/asm of Linux 6.1.
"""

from __future__ import annotations

from isa.abi import Abi
from isa.arch import Arch, Register
from isa.gdb import Flags, Union, Vector

_CORE = "org.gnu.gdb.aarch64.core"
_FPU = "org.gnu.gdb.aarch64.fpu"


def _system(name: str, op0: int, op1: int, crn: int, crm: int, op2: int, width: int = 64) -> Register:
    return Register(name, width, "system", encoding=(op0, op1, crn, crm, op2))


_FPSR = Register("fpsr", 32, "float", "int", feature=_FPU, number=66, encoding=(3, 3, 4, 4, 1))
_FPCR = Register("fpcr", 32, "float", "int", feature=_FPU, number=67, encoding=(3, 3, 4, 4, 0))

_TYPES = (
    Flags(
        "cpsr_flags", 4,
        ("SP", 0, 0), ("EL", 2, 3), ("nRW", 4, 4), ("F", 6, 6), ("I", 7, 7), ("A", 8, 8), ("D", 9, 9),
        ("BTYPE", 10, 11), ("SSBS", 12, 12), ("IL", 20, 20), ("SS", 21, 21), ("PAN", 22, 22), ("UAO", 23, 23),
        ("DIT", 24, 24), ("TCO", 25, 25), ("V", 28, 28), ("C", 29, 29), ("Z", 30, 30), ("N", 31, 31),
    ),
    Vector("v2d", "ieee_double", 2), Vector("v2u", "uint64", 2), Vector("v2i", "int64", 2),
    Vector("v4f", "ieee_single", 4), Vector("v4u", "uint32", 4), Vector("v4i", "int32", 4),
    Vector("v8f", "ieee_half", 8), Vector("v8u", "uint16", 8), Vector("v8i", "int16", 8),
    Vector("v16u", "uint8", 16), Vector("v16i", "int8", 16),
    Vector("v1u", "uint128", 1), Vector("v1i", "int128", 1),
    Union("vnd", ("f", "v2d"), ("u", "v2u"), ("s", "v2i")),
    Union("vns", ("f", "v4f"), ("u", "v4u"), ("s", "v4i")),
    Union("vnh", ("f", "v8f"), ("u", "v8u"), ("s", "v8i")),
    Union("vnb", ("u", "v16u"), ("s", "v16i")),
    Union("vnq", ("u", "v1u"), ("s", "v1i")),
    Union("aarch64v", ("d", "vnd"), ("s", "vns"), ("h", "vnh"), ("b", "vnb"), ("q", "vnq")),
)  # fmt: skip

ARCH = Arch(
    "aarch64",
    registers=(
        *(Register(f"x{n}", 64, feature=_CORE, number=n) for n in range(29)),
        Register("x29", 64, feature=_CORE, number=29, aliases=("fp",)),
        Register("x30", 64, feature=_CORE, number=30, aliases=("lr",)),
        Register("sp", 64, "general", "data_ptr", feature=_CORE, number=31),
        Register("pc", 64, "general", "code_ptr", feature=_CORE, number=32),
        Register("cpsr", 32, "general", "cpsr_flags", feature=_CORE, number=33, aliases=("pstate",)),
        *(Register(f"v{n}", 128, "vector", "aarch64v", feature=_FPU, number=34 + n) for n in range(32)),
        _FPSR,
        _FPCR,
    ),
    system_registers=(
        _FPSR,
        _FPCR,
        # EL0
        _system("TPIDR_EL0", 3, 3, 13, 0, 2),
        _system("TPIDRRO_EL0", 3, 3, 13, 0, 3),
        _system("NZCV", 3, 3, 4, 2, 0),
        _system("DAIF", 3, 3, 4, 2, 1),
        _system("CTR_EL0", 3, 3, 0, 0, 1),
        _system("DCZID_EL0", 3, 3, 0, 0, 7),
        _system("CNTFRQ_EL0", 3, 3, 14, 0, 0),
        _system("CNTPCT_EL0", 3, 3, 14, 0, 1),
        _system("CNTVCT_EL0", 3, 3, 14, 0, 2),
        _system("CNTP_TVAL_EL0", 3, 3, 14, 2, 0),
        _system("CNTP_CTL_EL0", 3, 3, 14, 2, 1),
        _system("CNTP_CVAL_EL0", 3, 3, 14, 2, 2),
        _system("CNTV_TVAL_EL0", 3, 3, 14, 3, 0),
        _system("CNTV_CTL_EL0", 3, 3, 14, 3, 1),
        _system("CNTV_CVAL_EL0", 3, 3, 14, 3, 2),
        _system("PMCR_EL0", 3, 3, 9, 12, 0),
        _system("PMCCNTR_EL0", 3, 3, 9, 13, 0),
        _system("PMUSERENR_EL0", 3, 3, 9, 14, 0),
        # EL1: exceptions
        _system("SP_EL0", 3, 0, 4, 1, 0),
        _system("SP_EL1", 3, 4, 4, 1, 0),
        _system("SPSel", 3, 0, 4, 2, 0),
        _system("CurrentEL", 3, 0, 4, 2, 2),
        _system("VBAR_EL1", 3, 0, 12, 0, 0),
        _system("ELR_EL1", 3, 0, 4, 0, 1),
        _system("SPSR_EL1", 3, 0, 4, 0, 0),
        _system("ESR_EL1", 3, 0, 5, 2, 0),
        _system("FAR_EL1", 3, 0, 6, 0, 0),
        _system("AFSR0_EL1", 3, 0, 5, 1, 0),
        _system("AFSR1_EL1", 3, 0, 5, 1, 1),
        _system("ISR_EL1", 3, 0, 12, 1, 0),
        # EL1: control and translation
        _system("SCTLR_EL1", 3, 0, 1, 0, 0),
        _system("ACTLR_EL1", 3, 0, 1, 0, 1),
        _system("CPACR_EL1", 3, 0, 1, 0, 2),
        _system("TTBR0_EL1", 3, 0, 2, 0, 0),
        _system("TTBR1_EL1", 3, 0, 2, 0, 1),
        _system("TCR_EL1", 3, 0, 2, 0, 2),
        _system("MAIR_EL1", 3, 0, 10, 2, 0),
        _system("AMAIR_EL1", 3, 0, 10, 3, 0),
        _system("PAR_EL1", 3, 0, 7, 4, 0),
        _system("CONTEXTIDR_EL1", 3, 0, 13, 0, 1),
        _system("TPIDR_EL1", 3, 0, 13, 0, 4),
        _system("CNTKCTL_EL1", 3, 0, 14, 1, 0),
        _system("CSSELR_EL1", 3, 2, 0, 0, 0),
        # EL1: debug
        _system("MDSCR_EL1", 2, 0, 0, 2, 2),
        _system("OSLAR_EL1", 2, 0, 1, 0, 4),
        _system("OSLSR_EL1", 2, 0, 1, 1, 4),
        _system("OSDLR_EL1", 2, 0, 1, 3, 4),
        # EL1: identification
        _system("MIDR_EL1", 3, 0, 0, 0, 0),
        _system("MPIDR_EL1", 3, 0, 0, 0, 5),
        _system("REVIDR_EL1", 3, 0, 0, 0, 6),
        _system("ID_AA64PFR0_EL1", 3, 0, 0, 4, 0),
        _system("ID_AA64PFR1_EL1", 3, 0, 0, 4, 1),
        _system("ID_AA64DFR0_EL1", 3, 0, 0, 5, 0),
        _system("ID_AA64ISAR0_EL1", 3, 0, 0, 6, 0),
        _system("ID_AA64ISAR1_EL1", 3, 0, 0, 6, 1),
        _system("ID_AA64MMFR0_EL1", 3, 0, 0, 7, 0),
        _system("ID_AA64MMFR1_EL1", 3, 0, 0, 7, 1),
        _system("ID_AA64MMFR2_EL1", 3, 0, 0, 7, 2),
        _system("CLIDR_EL1", 3, 1, 0, 0, 1),
        _system("CCSIDR_EL1", 3, 1, 0, 0, 0),
        # EL2
        _system("SP_EL2", 3, 6, 4, 1, 0),
        _system("VBAR_EL2", 3, 4, 12, 0, 0),
        _system("ELR_EL2", 3, 4, 4, 0, 1),
        _system("SPSR_EL2", 3, 4, 4, 0, 0),
        _system("ESR_EL2", 3, 4, 5, 2, 0),
        _system("FAR_EL2", 3, 4, 6, 0, 0),
        _system("HCR_EL2", 3, 4, 1, 1, 0),
        _system("SCTLR_EL2", 3, 4, 1, 0, 0),
        _system("TTBR0_EL2", 3, 4, 2, 0, 0),
        _system("TCR_EL2", 3, 4, 2, 0, 2),
        _system("VTTBR_EL2", 3, 4, 2, 1, 0),
        _system("VTCR_EL2", 3, 4, 2, 1, 2),
        _system("MAIR_EL2", 3, 4, 10, 2, 0),
        _system("CNTHCTL_EL2", 3, 4, 14, 1, 0),
        _system("CNTVOFF_EL2", 3, 4, 14, 0, 3),
    ),
    pc="pc",
    sp="sp",
    flags="cpsr",
    gdb_name="aarch64",
    gdb_types=_TYPES,
    abi=Abi(
        "AAPCS64",
        argument_registers=tuple(f"x{n}" for n in range(8)),
        return_registers=("x0", "x1"),
        syscall_number_register="x8",
        syscall_argument_registers=tuple(f"x{n}" for n in range(6)),
        syscall_return_register="x0",
        syscall_instruction=bytes.fromhex("010000d4"),  # svc #0
        breakpoint_instruction=bytes.fromhex("000020d4"),  # brk #0
        stack_alignment=16,
        link_register="x30",
        tls_register="TPIDR_EL0",
        tls_is_set_by="register",
        restorer="either",
        char_is_signed=False,
        uname_machine="aarch64",
        platform="aarch64",
        interpreter="/lib/ld-linux-aarch64.so.1",
    ),
)
