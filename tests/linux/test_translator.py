"""The translator's own doings: addresses, interruptions, what it keeps, what it shows."""

from __future__ import annotations

import os
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


def test_code_may_be_written_while_other_threads_run_it(translated):
    assert translated("rewriting", 400).stdout == "wrong 0\nthrough 600\n"


def test_no_thread_sees_what_the_architecture_forbids(translated):
    lines = translated("litmus", 30).stdout.splitlines()
    assert len(lines) == 51
    wrong = [line for line in lines if not line.endswith((": forbidden, seen 0 times", ": right"))]
    assert not wrong


FLUSHED = {**os.environ, "PYTHONPATH": str(ROOT), "EMU_CODE_ROOM": "1"}


@pytest.mark.parametrize("words", [("litmus", "10"), ("code",), ("again", "5")])
def test_where_there_is_hardly_any_room_translations_are_dropped_and_the_program_goes_on(words, build):
    name, *arguments = words
    program = build(name, "aarch64")
    usual = emulate("--engine", "translator", "--stats", program, *arguments)
    little = emulate("--engine", "translator", "--stats", program, *arguments, env=FLUSHED)
    assert (little.returncode, little.stdout) == (usual.returncode, usual.stdout)
    counts = [int(re.findall(r"(\d+) instructions of the guest", run.stderr)[-1]) for run in (usual, little)]
    assert counts[0] < counts[1]


def qemu(*words):
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("no qemu-aarch64 (qemu-user) to compare with")
    return subprocess.run(["qemu-aarch64", *words], capture_output=True, text=True, timeout=60).stdout


def test_a_handler_finds_registers_as_they_were_and_can_have_the_instruction_made_again(build, tmp_path):
    theirs = qemu(build("precise", "aarch64"), "no")
    assert theirs.count("\n") == 534
    # qemu writes vector registers one after the other, which the architecture leaves open.
    theirs = re.sub(r" changed v\d+", "", theirs)
    assert emulate("--engine", "translator", build("precise", "aarch64"), "no").stdout == theirs
    shutil.copy(build("precise", "aarch64"), tmp_path / "precise")
    assert emulate("--engine", "translator", "--root", tmp_path, "/precise", "no").stdout == theirs


def test_dc_zva_faults_as_a_whole(translated):
    lines = [line for line in translated("precise").stdout.splitlines() if line.startswith("zero_block")]
    assert len(lines) == 6
    assert sum(": 1 faults, code 2 at 64, instruction 0, x9 +0, x19 +0 " in line for line in lines) == 4
    assert sum(": 0 faults" in line for line in lines) == 2


def test_what_is_ordered_or_atomic_wants_to_be_aligned(build):
    """The CPU has no FEAT_LSE2.  qemu lets LDAPR pass, and STXR where nothing is reserved."""
    program = build("unaligned", "aarch64")
    ours = [" ".join(line.split()) for line in emulate("--engine", "translator", program).stdout.splitlines()]
    theirs = [" ".join(line.split()) for line in qemu(program).splitlines()]
    lenient = re.compile("ldaprh?|stxrh? w3,")
    assert [line for line in ours if not lenient.match(line)] == [
        line for line in theirs if not lenient.match(line)
    ]
    for line in filter(lenient.match, ours):  # as the same without a reservation, or with one more promise
        assert re.sub("stxr(h?) w3,", r"stlr\1", line.replace("ldapr", "ldar")) in theirs


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
    program = build("identity", "aarch64")
    for text in (emulate("--engine", "translator", program).stdout, qemu(program)):
        values = {name: int(value, 16) for name, value in map(str.split, text.splitlines())}
        assert values["AT_HWCAP"] & (FP | ASIMD) == FP | ASIMD
        for (word, register), rules in HWCAPS.items():
            for bit, shift, least in rules:
                there = (values[register] >> shift & 15) >= least
                assert (values[word] >> bit & 1) == there, (text, word, bit)


def test_arithmetic_in_each_mode_of_fpcr_is_as_in_qemu(build, translated):
    theirs = qemu(build("modes", "aarch64"))
    assert theirs.count("\n") == 16
    assert translated("modes").stdout == theirs
