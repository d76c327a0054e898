"""A guest that cannot go on is reported: one line, then what its CPU was at, and status 1; a reset is told.

What a report must say is in the guest's own source: the constants it loads, its last instruction's text.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from accel.errors import GuestFault
from emu import Machine
from emu.loader import x86_rom
from tests.conftest import ENGINES, usable
from tests.emu.terminal import Terminal
from tests.guest.bare import words

# By ISA: guests that load constants and then read, or call, where nothing is.
VOID = {
    "aarch64": (
        "d2824680 d2c00601 f9400022  ; mov x0, #0x1234; mov x1, #0x3000000000; ldr x2, [x1]",
        "d2824680 d2c00601 d63f0020  ; blr x1",
    ),
    "arm": (
        "e3a00c12 e3a0140f e5912000  ; mov r0, #0x1200; mov r1, #0xf000000; ldr r2, [r1]",
        "e3a00c12 e3a0140f e12fff31  ; blx r1",
    ),
    "riscv64": (
        "00001537 4000059b 01459593 0005b603  ; lui a0, 1; addiw a1, zero, 1024; slli a1, 20; ld a2, (a1)",
        "00001537 4000059b 01459593 000580e7  ; jalr a1",
    ),
}
EXPECTED = {
    "aarch64": ("x0 0000000000001234", "x1 0000003000000000", "sctlr_el1", "ldr x2, [x1]", "blr x1"),
    "arm": ("r0 00001200", "r1 0f000000", "ttbr0", "ldr r2, [r1]", "blx r1"),
    "riscv64": ("a0 0000000000001000", "a1 0000000040000000", "satp", "ld a2, 0(a1)", "jalr a1"),
}
# Where the code begins, behind instructions of a byte: going back from x86 code ends nowhere else then.
ENTRY, NOPS = 0x8FE0, 0x20
X86 = {
    "undefined": "b8 78 56 34 12  0f 0b  ; mov eax, 0x12345678; ud2",
    "void": "b8 78 56 34 12  48 bb 00 00 00 00 70 00 00 00  ff d3  ; mov rbx, 0x7000000000; call rbx",
    "hole": "b8 78 56 34 12  bb 00 00 00 a0  ff d3  ; mov ebx, 0xa0000000; call rbx",
    "deaf": "fa f4 eb fd  ; cli; hlt; jmp back",
    "spin": "eb fe  ; jmp itself",
}


def rom(name: str) -> bytes:
    """A microvm's firmware that goes to 64-bit mode and does this; there is no IDT."""
    image = bytearray(x86_rom.long_mode(x86_rom.BASE + ENTRY))
    code = b"\x90" * NOPS + words(X86[name])
    image[ENTRY : ENTRY + len(code)] = code
    return bytes(image)


@pytest.fixture(params=list(ENGINES))
def engine(request):
    usable(request.param)
    return request.param


def boot(tmp_path, name: str, engine: str, *options: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "rom").write_bytes(rom(name))
    words = ["-M", "microvm", "--accel", engine, "--firmware", tmp_path / "rom", *options]
    return subprocess.run(
        [sys.executable, "-m", "emu", "boot", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("isa", VOID)
@pytest.mark.parametrize("how", ["read", "call"])
def test_an_access_to_nothing_is_reported(isa, how):
    code = words(VOID[isa][how == "call"], isa)
    with Machine("virt", arch=isa, accel="tcg", firmware=code) as machine:
        with pytest.raises(GuestFault, match=r"^CPU 0 stopped at pc 0x\w+: .*(mapped|memory)") as caught:
            machine.run(timeout=60)
        assert caught.value.cpu == 0
        text = machine.describe(0)
    first, second, control, load, call = EXPECTED[isa]
    for part in (first, second, control):
        assert part in text
    lines = text.splitlines()
    if how == "read":
        (marked,) = [line for line in lines if line.startswith("  >")]
        assert marked.endswith(load)
    else:
        assert any(line.endswith("nothing is mapped there") for line in lines)
        assert any(line.endswith(call) for line in lines)
    assert not any(len(line) > 110 or line != line.rstrip() for line in lines)


def test_an_exception_without_a_handler_shows_where_it_came_from():
    # lui a0, 1; a word of zeros: mtvec is 0, where nothing is
    code = words("00001537 00000000", "riscv64")
    with Machine("virt", arch="riscv64", accel="tcg", firmware=code) as machine:
        with pytest.raises(GuestFault):
            machine.run(timeout=60)
        assert "code at 80000004, where the last exception came from:" in machine.describe(0)


def test_a_triple_fault_ends_a_run_without_reboot(tmp_path, engine):
    done = boot(tmp_path, "undefined", engine, "--no-reboot")
    assert (done.returncode, done.stdout) == (1, "")
    first, *rest = done.stderr.splitlines()
    assert first == "emu: triple fault at pc 0xffff9005 of CPU 0"
    text = "\n".join(rest)
    for part in ("rax 0000000012345678", "rip 00000000ffff9005", "cs 0010", "cr3 00000000ffff0000", "idtr"):
        assert part in text
    assert re.search(r"^ > +ffff9005: 0f 0b +ud2$", text.replace("\n  ", "\n "), re.MULTILINE)
    assert re.search(r"ffff9000: b8 78 56 34 12 +mov eax, 0x12345678\n", text)


def test_a_call_into_the_void_is_reported(tmp_path, engine):
    done = boot(tmp_path, "void", engine, "--no-reboot")
    assert done.returncode == 1
    assert done.stderr.startswith("emu: triple fault at pc 0x7000000000 of CPU 0\n")
    assert "cr2 0000007000000000" in done.stderr
    assert "code at 7000000000: nothing is mapped there\n" in done.stderr
    assert done.stderr.rpartition(" call rbx\n")[1], done.stderr


def test_code_that_is_no_memory_is_reported(tmp_path, engine):
    done = boot(tmp_path, "hole", engine, "--no-reboot")
    assert done.returncode == 1
    assert done.stderr.startswith("emu: CPU 0 stopped at pc 0xa0000000: ")
    assert done.stderr.rpartition(" call rbx\n")[1], done.stderr


def test_a_guest_that_halts_without_interrupts_is_told_once(tmp_path):
    """Where the controllers are the board's; the kernel's own would not tell."""
    (tmp_path / "rom").write_bytes(rom("deaf"))
    terminal = Terminal("-M", "microvm", "--accel", "tcg", "--firmware", str(tmp_path / "rom"))
    try:
        terminal.wait_for(b"the guest is halted with interrupts off", 60)
        terminal.type(b"\x01x")
        assert terminal.ended(60) == 0
    finally:
        terminal.close()
