"""An ABI names registers that exist; its instruction bytes and strings are those of the cross tools."""

from __future__ import annotations

import platform
import shutil
import subprocess

import pytest

from isa import arch

ALL = [arch.find(name) for name in arch.names()]
each_arch = pytest.mark.parametrize("a", ALL, ids=lambda a: a.name)

COMPILERS = {
    "aarch64": "aarch64-linux-gnu-gcc",
    "arm": "arm-linux-gnueabihf-gcc",
    "riscv64": "riscv64-linux-gnu-gcc",
    "x86_64": "x86_64-linux-gnu-gcc",
}


def compiler(a: arch.Arch) -> str:
    path = shutil.which(COMPILERS[a.name])
    if path is None:
        pytest.skip(f"{COMPILERS[a.name]} is not installed")
    return path


@each_arch
def test_every_register_that_the_abi_names_exists(a):
    abi = a.abi
    named = [
        *abi.argument_registers,
        *abi.return_registers,
        *abi.syscall_argument_registers,
        *abi.syscall_clobbers,
    ]
    named += [abi.syscall_number_register, abi.syscall_return_register, abi.tls_register]
    named += [abi.link_register] if abi.link_register else []
    for name in named:
        assert a.register(name).name == name


@each_arch
def test_arguments_do_not_share_registers_with_each_other_or_the_number(a):
    used = [*a.abi.syscall_argument_registers, a.abi.syscall_number_register]
    assert len(used) == len(set(used))
    assert len(a.abi.syscall_argument_registers) >= 6


@each_arch
def test_words_of_a_closed_set_are_members_of_it(a):
    assert a.abi.restorer in ("program", "vdso", "either")
    assert a.abi.tls_is_set_by in ("register", "syscall")
    assert a.abi.stack_alignment in (8, 16)
    assert a.abi.aligned_pairs == (a.bits == 32)


@each_arch
def test_instruction_bytes_are_those_the_assembler_makes(a, tmp_path):
    lines = {
        "aarch64": ("svc #0", "", "brk #0", ""),
        "arm": ("svc #0", "svc #0", ".inst 0xe7f001f0", ".inst.n 0xde01"),
        "riscv64": ("ecall", "", "ebreak", "c.ebreak"),
        "x86_64": ("syscall", "", "int3", ""),
    }[a.name]
    forms = (
        a.abi.syscall_instruction,
        a.abi.short_syscall_instruction,
        a.abi.breakpoint_instruction,
        a.abi.short_breakpoint_instruction,
    )
    for index, (line, form) in enumerate(zip(lines, forms, strict=True)):
        assert bool(line) == bool(form)
        if not line:
            continue
        prologue = {"arm": ".thumb\n" if index % 2 else ".arm\n", "riscv64": ".option norvc\n"}.get(
            a.name, ""
        )
        if a.name == "riscv64" and index % 2:
            prologue = ".option rvc\n"
        (tmp_path / "a.S").write_text(f"{prologue}{line}\n")
        subprocess.run([compiler(a), "-c", "a.S", "-o", "a.o"], cwd=tmp_path, check=True)
        objcopy = compiler(a).replace("gcc", "objcopy")
        subprocess.run([objcopy, "-O", "binary", "-j", ".text", "a.o", "a.bin"], cwd=tmp_path, check=True)
        assert (tmp_path / "a.bin").read_bytes()[: len(form)] == form, line


@each_arch
def test_the_sign_of_char_and_the_width_of_long_are_the_compiler_s(a):
    done = subprocess.run(
        [compiler(a), "-E", "-dM", "-xc", "/dev/null"], capture_output=True, text=True, check=True
    )
    assert ("__CHAR_UNSIGNED__" not in done.stdout) == a.abi.char_is_signed
    assert f"#define __SIZEOF_LONG__ {a.bits // 8}\n" in done.stdout


@each_arch
def test_a_program_is_linked_to_the_interpreter_that_the_abi_names(a, tmp_path):
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    subprocess.run([compiler(a), "a.c", "-o", "a.out"], cwd=tmp_path, check=True)
    assert a.abi.interpreter.encode() + b"\0" in (tmp_path / "a.out").read_bytes()


def test_the_machine_name_of_this_host_is_the_one_its_abi_has():
    try:
        a = arch.find(platform.machine())
    except arch.UnknownArch:
        pytest.skip(f"no architecture for a {platform.machine()} host")
    assert a.abi.uname_machine == platform.machine()
