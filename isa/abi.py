"""The Linux ABI of an architecture: which register holds what, and the few bytes and strings that go with it.

Facts only; layouts of structures are not here (they belong to the conversions of the user-mode runtime).
Sources: the psABI of each architecture, syscall(2), and arch/*/include of Linux 6.1, named in each
architecture's module.
"""

from __future__ import annotations


class Abi:
    """Conventions of one Linux ABI. Register names are names of `Arch.registers` or `Arch.system_registers`.

    name                         of the calling convention, as its document calls itself
    argument_registers           integer and pointer arguments of a function, first to last
    return_registers             integer result, low part first
    syscall_number_register      holds the number of the system call
    syscall_argument_registers   six, or seven on ABIs that have a seventh
    syscall_return_register      the result, or -errno as -4095..-1
    syscall_clobbers             registers that the system-call instruction itself overwrites, not the result
    syscall_instruction          its bytes in memory; `short_syscall_instruction` its 2-byte form, or b""
    breakpoint_instruction       bytes that Linux turns into SIGTRAP; `short_breakpoint_instruction` the
                                 2-byte form, or b""
    aligned_pairs                a 64-bit argument of a system call takes two registers and starts at an even
                                 one; False on 64-bit ABIs, where it takes one
    stack_alignment              of sp at a function's entry before the return address is pushed, and at
                                 process start, bytes
    red_zone                     bytes below sp that a signal frame must leave alone
    link_register                holds the return address; None where the stack does
    tls_register                 the thread pointer
    tls_is_set_by                "register" if a program can write it, "syscall" if only the kernel does it
                                 for a program
    restorer                     where a signal handler returns to: "program" (sa_restorer is required),
                                 "vdso" (the kernel's trampoline; sa_restorer is ignored), "either"
                                 (sa_restorer if given, else the kernel's)
    char_is_signed               plain `char` of C
    uname_machine                `uname -m` of a program of this ABI
    platform                     AT_PLATFORM of the auxiliary vector, None where Linux passes none
    interpreter                  path of glibc's program interpreter
    """

    __slots__ = (
        "aligned_pairs",
        "argument_registers",
        "breakpoint_instruction",
        "char_is_signed",
        "interpreter",
        "link_register",
        "name",
        "platform",
        "red_zone",
        "restorer",
        "return_registers",
        "short_breakpoint_instruction",
        "short_syscall_instruction",
        "stack_alignment",
        "syscall_argument_registers",
        "syscall_clobbers",
        "syscall_instruction",
        "syscall_number_register",
        "syscall_return_register",
        "tls_is_set_by",
        "tls_register",
        "uname_machine",
    )

    def __init__(
        self,
        name: str,
        *,
        argument_registers: tuple[str, ...],
        return_registers: tuple[str, ...],
        syscall_number_register: str,
        syscall_argument_registers: tuple[str, ...],
        syscall_return_register: str,
        syscall_instruction: bytes,
        breakpoint_instruction: bytes,
        stack_alignment: int,
        link_register: str | None,
        tls_register: str,
        tls_is_set_by: str,
        restorer: str,
        char_is_signed: bool,
        uname_machine: str,
        platform: str | None,
        interpreter: str,
        syscall_clobbers: tuple[str, ...] = (),
        short_syscall_instruction: bytes = b"",
        short_breakpoint_instruction: bytes = b"",
        aligned_pairs: bool = False,
        red_zone: int = 0,
    ) -> None:
        self.name = name
        self.argument_registers = argument_registers
        self.return_registers = return_registers
        self.syscall_number_register = syscall_number_register
        self.syscall_argument_registers = syscall_argument_registers
        self.syscall_return_register = syscall_return_register
        self.syscall_clobbers = syscall_clobbers
        self.syscall_instruction = syscall_instruction
        self.short_syscall_instruction = short_syscall_instruction
        self.breakpoint_instruction = breakpoint_instruction
        self.short_breakpoint_instruction = short_breakpoint_instruction
        self.aligned_pairs = aligned_pairs
        self.stack_alignment = stack_alignment
        self.red_zone = red_zone
        self.link_register = link_register
        self.tls_register = tls_register
        self.tls_is_set_by = tls_is_set_by
        self.restorer = restorer
        self.char_is_signed = char_is_signed
        self.uname_machine = uname_machine
        self.platform = platform
        self.interpreter = interpreter

    def __repr__(self) -> str:
        return f"<Abi {self.name}>"
