"""RISC-V RV64GC, little endian, with Linux's LP64D ABI.

`Register.encoding` is (number,) of the CSR instructions. GDB numbers a CSR 65 more than that. Sources: The
RISC-V Instruction Set Manual, volume I (version 20191213) chapter 25 for names of the general registers,
volume II (version 20211203) tables 2.2 to 2.6 for CSRs, Sstc for stimecmp; RISC-V ELF psABI; register
lists of GDB 13; arch/riscv/include/uapi/asm of Linux 6.1.
"""

from __future__ import annotations

from isa.abi import Abi
from isa.arch import Arch, Register
from isa.gdb import Union

_CPU = "org.gnu.gdb.riscv.cpu"
_FPU = "org.gnu.gdb.riscv.fpu"
_CSR = "org.gnu.gdb.riscv.csr"
_FIRST_FLOAT = 33
_FIRST_CSR = 65

_INTEGER = (
    "zero ra sp gp tp t0 t1 t2 fp s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
)
_FLOAT = (
    "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 "
    "fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11"
)
_POINTERS = {"ra": "code_ptr", "sp": "data_ptr", "gp": "data_ptr", "tp": "data_ptr", "fp": "data_ptr"}


def _float_csr(name: str, number: int) -> Register:
    return Register(name, 32, "float", "int", feature=_FPU, number=_FIRST_CSR + number, encoding=(number,))


def _csr(name: str, number: int) -> Register:
    return Register(name, 64, "system", "int", feature=_CSR, number=_FIRST_CSR + number, encoding=(number,))


_FLOAT_CSRS = (_float_csr("fflags", 0x001), _float_csr("frm", 0x002), _float_csr("fcsr", 0x003))

ARCH = Arch(
    "riscv64",
    registers=(
        *(
            Register(
                name,
                64,
                "general",
                _POINTERS.get(name, "int"),
                feature=_CPU,
                number=n,
                aliases=(f"x{n}", "s0") if name == "fp" else (f"x{n}",),
            )
            for n, name in enumerate(_INTEGER.split())
        ),
        Register("pc", 64, "general", "code_ptr", feature=_CPU, number=32),
        *(
            Register(
                name, 64, "float", "riscv_double", feature=_FPU, number=_FIRST_FLOAT + n, aliases=(f"f{n}",)
            )
            for n, name in enumerate(_FLOAT.split())
        ),
        *_FLOAT_CSRS,
    ),
    system_registers=(
        *_FLOAT_CSRS,
        # unprivileged counters
        _csr("cycle", 0xC00),
        _csr("time", 0xC01),
        _csr("instret", 0xC02),
        # supervisor
        _csr("sstatus", 0x100),
        _csr("sie", 0x104),
        _csr("stvec", 0x105),
        _csr("scounteren", 0x106),
        _csr("senvcfg", 0x10A),
        _csr("sscratch", 0x140),
        _csr("sepc", 0x141),
        _csr("scause", 0x142),
        _csr("stval", 0x143),
        _csr("sip", 0x144),
        _csr("stimecmp", 0x14D),
        _csr("satp", 0x180),
        # machine
        _csr("mvendorid", 0xF11),
        _csr("marchid", 0xF12),
        _csr("mimpid", 0xF13),
        _csr("mhartid", 0xF14),
        _csr("mstatus", 0x300),
        _csr("misa", 0x301),
        _csr("medeleg", 0x302),
        _csr("mideleg", 0x303),
        _csr("mie", 0x304),
        _csr("mtvec", 0x305),
        _csr("mcounteren", 0x306),
        _csr("menvcfg", 0x30A),
        _csr("mcountinhibit", 0x320),
        _csr("mscratch", 0x340),
        _csr("mepc", 0x341),
        _csr("mcause", 0x342),
        _csr("mtval", 0x343),
        _csr("mip", 0x344),
        # physical memory protection: RV64 has the even configuration registers only
        _csr("pmpcfg0", 0x3A0),
        _csr("pmpcfg2", 0x3A2),
        *(_csr(f"pmpaddr{n}", 0x3B0 + n) for n in range(16)),
        # machine counters
        _csr("mcycle", 0xB00),
        _csr("minstret", 0xB02),
    ),
    pc="pc",
    sp="sp",
    flags=None,
    gdb_name="riscv:rv64",
    gdb_types=(Union("riscv_double", ("float", "ieee_single"), ("double", "ieee_double")),),
    abi=Abi(
        "RISC-V LP64D",
        argument_registers=tuple(f"a{n}" for n in range(8)),
        return_registers=("a0", "a1"),
        syscall_number_register="a7",
        syscall_argument_registers=tuple(f"a{n}" for n in range(6)),
        syscall_return_register="a0",
        syscall_instruction=bytes.fromhex("73000000"),  # ecall
        breakpoint_instruction=bytes.fromhex("73001000"),  # ebreak
        short_breakpoint_instruction=bytes.fromhex("0290"),  # c.ebreak
        stack_alignment=16,
        link_register="ra",
        tls_register="tp",
        tls_is_set_by="register",
        restorer="vdso",
        char_is_signed=False,
        uname_machine="riscv64",
        platform=None,
        interpreter="/lib/ld-linux-riscv64-lp64d.so.1",
    ),
)
