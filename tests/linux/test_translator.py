"""The translator's own doings: addresses, interruptions, what it keeps, what it shows."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.linux.conftest import HERE, ROOT, emulate


@pytest.fixture
def translated(build):
    """translated(name, *words): a guest program of that name under the translator."""

    def translated(name, *words, options=()):
        return emulate("--engine", "translator", *options, build(name, "aarch64"), *words)

    return translated


TAGS = """\
42
0x8: SIGSEGV at 0x8
0x7fff12345678: SIGSEGV at 0x7fff12345678
0x41414141414141: SIGSEGV at 0x41414141414141
"""


def test_a_tag_in_a_pointer_is_ignored_and_other_wild_pointers_fault_where_they_point(translated):
    assert translated("tags").stdout == TAGS


def test_a_confined_program_reaches_no_memory_but_its_own(build, tmp_path):
    shutil.copy(build("tags", "aarch64"), tmp_path / "tags")
    done = emulate("--engine", "translator", "--root", tmp_path, "/tags")
    # Bits beyond its address space are taken off, wherever they come from.
    assert done.stdout.splitlines()[0] == "42"
    assert re.findall(r"SIGSEGV at (0x[0-9a-f]+)", done.stdout) == ["0x8", "0x3fff12345678", "0x14141414141"]


def test_a_loop_that_no_branch_back_closes_can_be_interrupted(tmp_path):
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("no aarch64-linux-gnu-gcc to build the program with")
    program = tmp_path / "circle"
    subprocess.run(
        [compiler, "-nostdlib", "-static", str(HERE / "guests/circle.S"), "-o", str(program)], check=True
    )
    command = [sys.executable, "-m", "emu", "--engine", "translator", str(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as guest:
        assert guest.stdout is not None
        assert guest.stdout.read(1) == b"r"
        guest.terminate()
        assert guest.wait(60) == -signal.SIGTERM


def test_what_is_translated_is_shown_beside_the_guests_code(translated, tmp_path):
    dump = tmp_path / "code.txt"
    assert translated("echo", "a", options=("--dump-code", dump)).stdout.endswith("\na\n")
    text = dump.read_text()
    assert re.search(r"^block [0-9a-f]+, \d+ instructions, \d+ bytes$", text, re.MULTILINE)
    assert re.search(r"^ *[0-9a-f]+  svc #0$", text, re.MULTILINE)
    assert re.search(r"^ {8,}[0-9a-f]+  mov ", text, re.MULTILINE)


def test_a_program_that_is_executed_again_is_not_translated_again(build, tmp_path):
    dump = tmp_path / "code.txt"
    done = emulate("--engine", "translator", "--dump-code", dump, build("again", "aarch64"), "9")
    assert done.stdout.split() == ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]
    blocks = re.findall(r"^block ([0-9a-f]+),", dump.read_text(), re.MULTILINE)
    assert len(blocks) < 1.2 * len(set(blocks))


def test_code_that_is_written_anew_is_asked_again_for_the_flags_that_it_wants(translated):
    assert translated("patched").stdout == "7\n0 1\n"


# Linux, Documentation/arm64/elf_hwcaps.rst: the bit, the register and the field's place, its least value.
HWCAPS = {
    ("AT_HWCAP", "ID_AA64ISAR0_EL1"): {
        (3, 4, 1), (4, 4, 2), (5, 8, 1), (6, 12, 1), (7, 16, 1), (8, 20, 2), (12, 28, 1), (17, 32, 1),
        (20, 44, 1), (21, 12, 2), (23, 48, 1), (27, 52, 1),
    },
    ("AT_HWCAP", "ID_AA64ISAR1_EL1"): {
        (13, 12, 1), (14, 16, 1), (15, 20, 1), (16, 0, 1), (26, 20, 2), (29, 36, 1),
    },
    ("AT_HWCAP", "ID_AA64PFR0_EL1"): {(9, 16, 1), (10, 20, 1)},
    ("AT_HWCAP2", "ID_AA64ISAR0_EL1"): {(7, 52, 2)},
    ("AT_HWCAP2", "ID_AA64ISAR1_EL1"): {(0, 0, 2), (8, 32, 1)},
}  # fmt: skip
FP, ASIMD = 1, 2


def test_hwcaps_and_id_registers_tell_the_same_as_they_do_in_qemu(build):
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("no qemu-aarch64 (qemu-user) to check the rules with")
    program = build("identity", "aarch64")
    qemu = subprocess.run(["qemu-aarch64", program], capture_output=True, text=True, timeout=60)
    for text in (emulate("--engine", "translator", program).stdout, qemu.stdout):
        values = {name: int(value, 16) for name, value in map(str.split, text.splitlines())}
        assert values["AT_HWCAP"] & (FP | ASIMD) == FP | ASIMD
        for (word, register), rules in HWCAPS.items():
            for bit, shift, least in rules:
                there = (values[register] >> shift & 15) >= least
                assert (values[word] >> bit & 1) == there, (text, word, bit)


def test_arithmetic_in_each_mode_of_fpcr_is_as_in_qemu(build, translated):
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("no qemu-aarch64 (qemu-user) to compare with")
    command = ["qemu-aarch64", build("modes", "aarch64")]
    qemu = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert qemu.stdout.count("\n") == 16
    assert translated("modes").stdout == qemu.stdout
