"""x86-64 in 64-bit mode, with Linux's System V ABI.

`Register.encoding` is (index,) of RDMSR and WRMSR, () for registers that have instructions of their own.
Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3 sections 2.4 and 2.5, volume 4
chapter 2; AMD64 Architecture Programmer's Manual volume 2 section 3.2; System V psABI for AMD64; register
lists of GDB 13.
"""

from __future__ import annotations

from isa.abi import Abi
from isa.arch import Arch, Register
from isa.gdb import Flags, Union, Vector

_CORE = "org.gnu.gdb.i386.core"
_SSE = "org.gnu.gdb.i386.sse"
_LINUX = "org.gnu.gdb.i386.linux"
_AVX = "org.gnu.gdb.i386.avx"
_SEGMENTS = "org.gnu.gdb.i386.segments"

_GENERAL = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15"
_X87_CONTROL = "fctrl fstat ftag fiseg fioff foseg fooff fop"


def _system(name: str, width: int = 64, msr: int | None = None) -> Register:
    return Register(name, width, "system", encoding=() if msr is None else (msr,))


_SELECTORS = tuple(
    Register(name, 32, "general", "int32", feature=_CORE, number=18 + n)
    for n, name in enumerate(("cs", "ss", "ds", "es", "fs", "gs"))
)
_BASES = (
    Register("fs_base", 64, "general", "int", feature=_SEGMENTS, number=58, encoding=(0xC0000100,)),
    Register("gs_base", 64, "general", "int", feature=_SEGMENTS, number=59, encoding=(0xC0000101,)),
)

_TYPES = (
    Flags(
        "i386_eflags", 4,
        ("CF", 0, 0), ("", 1, 1), ("PF", 2, 2), ("AF", 4, 4), ("ZF", 6, 6), ("SF", 7, 7), ("TF", 8, 8),
        ("IF", 9, 9), ("DF", 10, 10), ("OF", 11, 11), ("IOPL", 12, 13), ("NT", 14, 14), ("RF", 16, 16),
        ("VM", 17, 17), ("AC", 18, 18), ("VIF", 19, 19), ("VIP", 20, 20), ("ID", 21, 21),
    ),
    Flags(
        "i386_mxcsr", 4,
        ("IE", 0, 0), ("DE", 1, 1), ("ZE", 2, 2), ("OE", 3, 3), ("UE", 4, 4), ("PE", 5, 5), ("DAZ", 6, 6),
        ("IM", 7, 7), ("DM", 8, 8), ("ZM", 9, 9), ("OM", 10, 10), ("UM", 11, 11), ("PM", 12, 12),
        ("RC", 13, 14), ("FZ", 15, 15),
    ),
    Vector("v8h", "ieee_half", 8), Vector("v4f", "ieee_single", 4), Vector("v2d", "ieee_double", 2),
    Vector("v16i8", "int8", 16), Vector("v8i16", "int16", 8), Vector("v4i32", "int32", 4),
    Vector("v2i64", "int64", 2),
    Union(
        "vec128",
        ("v8_half", "v8h"), ("v4_float", "v4f"), ("v2_double", "v2d"), ("v16_int8", "v16i8"),
        ("v8_int16", "v8i16"), ("v4_int32", "v4i32"), ("v2_int64", "v2i64"), ("uint128", "uint128"),
    ),
)  # fmt: skip

ARCH = Arch(
    "x86_64",
    registers=(
        *(
            Register(
                name,
                64,
                "general",
                "data_ptr" if name in ("rbp", "rsp") else "int64",
                feature=_CORE,
                number=n,
            )
            for n, name in enumerate(_GENERAL.split())
        ),
        Register("rip", 64, "general", "code_ptr", feature=_CORE, number=16, aliases=("pc",)),
        Register("eflags", 32, "general", "i386_eflags", feature=_CORE, number=17, aliases=("rflags",)),
        *_SELECTORS,
        *(Register(f"st{n}", 80, "float", "i387_ext", feature=_CORE, number=24 + n) for n in range(8)),
        *(
            Register(name, 32, "float", "int", feature=_CORE, number=32 + n)
            for n, name in enumerate(_X87_CONTROL.split())
        ),
        *(Register(f"xmm{n}", 128, "vector", "vec128", feature=_SSE, number=40 + n) for n in range(16)),
        Register("mxcsr", 32, "vector", "i386_mxcsr", feature=_SSE, number=56),
        # The number of the interrupted system call, -1 outside one: Linux's, not the CPU's.
        Register("orig_rax", 64, "system", "int", feature=_LINUX, number=57),
        *_BASES,
    ),
    # GDB makes ymm0 to ymm15 of these and of xmm0 to xmm15.
    extensions=tuple(
        Register(f"ymm{n}h", 128, "vector", "uint128", feature=_AVX, number=60 + n) for n in range(16)
    ),
    system_registers=(
        _system("cr0"),
        _system("cr2"),
        _system("cr3"),
        _system("cr4"),
        _system("cr8"),
        _system("xcr0"),
        *(_system(f"dr{n}") for n in (0, 1, 2, 3, 6, 7)),
        *_SELECTORS,
        *_BASES,
        _system("kernel_gs_base", msr=0xC0000102),
        _system("gdtr_base"),
        _system("gdtr_limit", 16),
        _system("idtr_base"),
        _system("idtr_limit", 16),
        _system("ldtr", 16),
        _system("ldtr_base"),
        _system("ldtr_limit", 32),
        _system("tr", 16),
        _system("tr_base"),
        _system("tr_limit", 32),
        _system("efer", msr=0xC0000080),
        _system("star", msr=0xC0000081),
        _system("lstar", msr=0xC0000082),
        _system("cstar", msr=0xC0000083),
        _system("sfmask", msr=0xC0000084),
        _system("tsc_aux", msr=0xC0000103),
        _system("tsc", msr=0x10),
        _system("apic_base", msr=0x1B),
        _system("sysenter_cs", msr=0x174),
        _system("sysenter_esp", msr=0x175),
        _system("sysenter_eip", msr=0x176),
        _system("misc_enable", msr=0x1A0),
        _system("pat", msr=0x277),
    ),
    pc="rip",
    sp="rsp",
    flags="eflags",
    gdb_name="i386:x86-64",
    gdb_types=_TYPES,
    abi=Abi(
        "System V AMD64",
        argument_registers=("rdi", "rsi", "rdx", "rcx", "r8", "r9"),
        return_registers=("rax", "rdx"),
        syscall_number_register="rax",
        syscall_argument_registers=("rdi", "rsi", "rdx", "r10", "r8", "r9"),
        syscall_return_register="rax",
        syscall_clobbers=("rcx", "r11"),
        syscall_instruction=bytes.fromhex("0f05"),  # syscall
        breakpoint_instruction=bytes.fromhex("cc"),  # int3
        stack_alignment=16,
        red_zone=128,
        link_register=None,
        tls_register="fs_base",
        tls_is_set_by="syscall",
        restorer="program",
        char_is_signed=True,
        uname_machine="x86_64",
        platform="x86_64",
        interpreter="/lib64/ld-linux-x86-64.so.2",
    ),
)
