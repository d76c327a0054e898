"""emu diff: differences that were planted are found at their instruction, and none where there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from accel.errors import EmuError
from emu.diff import compare, lockstep
from emu.machine import Machine
from emu.samples import checksum
from emu.samples.elf import executable
from isa.arch import find
from tests.accel.test_tcg_debug import AT
from tests.conftest import usable
from tests.emu.pvh_guest import BASE, kernel
from tests.emu.test_gdb_machine import counting_board
from tests.guest.bare import CODE, RESULT, words

# xor eax, eax; cpuid; mov esi, eax; rdtsc; jmp to it
ASKS = kernel(words("31 c0 0f a2 89 c6 0f 31 eb fe"))


def pair(isa="aarch64"):
    return Machine(counting_board(isa), accel="tcg"), Machine(counting_board(isa), accel="tcg")


@pytest.mark.parametrize("isa", ["aarch64", "arm", "riscv64", "x86_64"])
def test_a_register_that_a_hook_changes_is_found_at_the_instruction_that_makes_it_differ(isa):
    """The guest counts, stores, loads and begins again: the hook comes before the fifth store."""
    one, two = pair(isa)
    counter = {"aarch64": "x2", "arm": "r2", "riscv64": "a2", "x86_64": "rcx"}[isa]
    times = []

    def plant(hit):
        times.append(hit.registers[counter])
        if len(times) == 5:
            hit.registers[counter] = 0x1234

    with one, two:
        two.on_address(CODE[isa] + AT[isa][1], plant)
        found = lockstep(one, two, count=1000)
        difference = found.difference
        assert not found
        assert difference is not None
        assert difference.address == CODE[isa] + AT[isa][1]
        assert len(times) == 5
        assert difference.before[counter] == times[4]
        assert (difference.first, difference.second) == ({counter: times[4]}, {counter: 0x1234})
        assert difference.text.split()[0] in ("str", "sd", "mov")
        assert [at for at, _ in difference.trail][-3:] == [CODE[isa] + AT[isa][n] for n in (2, 3, 0)]
        assert f"differ at instruction {difference.number}" in str(found)


def test_machines_are_compared_from_where_hooks_have_stopped_them():
    at = CODE["aarch64"] + 8
    one, two = pair()
    with one, two:
        for machine in (one, two):
            times = []
            machine.on_address(at, lambda hit: (times.append(0), len(times) == 7 and hit.stop()))  # noqa: B023
            assert machine.run(timeout=60).reason == "hook"
        assert lockstep(one, two, count=100)
        two.cpus[0].registers["x2"] += 1
        found = lockstep(one, two, count=100)
        assert found.difference is not None
        assert (found.difference.number, found.difference.why) == (0, "they begin differently")


def test_memory_that_differs_is_found_at_the_end():
    one, two = pair()
    with one, two:
        two.on_address(CODE["aarch64"] + 8, lambda hit: hit.memory.write(RESULT["aarch64"] + 4096, b"x"))
        found = lockstep(one, two, count=100)
        assert found.difference is not None
        assert f"memory differs at {RESULT['aarch64'] + 4096:#x}: 00 00" in found.difference.why


def test_machines_that_are_the_same_are_so():
    one, two = pair()
    with one, two:
        found = lockstep(one, two, count=500, everything=True)
        assert found, str(found)
        assert (found.count, found.names) == (500, ("tcg", "tcg"))


def test_kvm_and_tcg_are_the_same_for_a_guest_that_prints_and_ends():
    usable("kvm")
    with (
        Machine("microvm", accel="kvm", kernel=kernel(), ram=4 << 20) as one,
        Machine("microvm", accel="tcg", kernel=kernel(), ram=4 << 20) as two,
    ):
        found = lockstep(one, two)
        assert found, str(found)
        assert (found.end, found.count > 40) == ("guest-shutdown", True)
        assert one.console.text == two.console.text != ""


def test_a_guest_that_asks_which_cpu_it_is_on_is_told_different_things(tmp_path):
    """The command, its JSON and its status."""
    usable("kvm")
    (tmp_path / "guest").write_bytes(ASKS)

    def diff(*options):
        command = [sys.executable, "-m", "emu", "diff", "--kernel", tmp_path / "guest", "-m", "4", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = diff()
    assert (done.returncode, done.stderr) == (1, "")
    assert f"> {BASE + 2:#x}  cpuid    (0f a2)" in done.stdout
    told = json.loads(diff("--json").stdout)
    assert (told["same"], told["difference"]["address"], told["difference"]["code"]) == (
        False,
        BASE + 2,
        "0fa2",
    )
    first, second = told["difference"]["first"], told["difference"]["second"]
    assert {"rbx", "rcx", "rdx"} & set(first) == {"rbx", "rcx", "rdx"} & set(second)
    done = diff("--adopt", "cpuid,rdtsc")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(": it does nothing any more\n")


def arm64(*instructions):
    return executable(find("aarch64"), b"".join(word.to_bytes(4, "little") for word in instructions))


@pytest.fixture
def program(tmp_path):
    def program(data):
        path = tmp_path / "program"
        path.write_bytes(data)
        path.chmod(0o755)
        return str(path)

    return program


def test_a_program_is_the_same_and_only_the_first_one_writes(program, tmp_path):
    (tmp_path / "input").write_bytes(b"hello")
    with open(tmp_path / "input", "rb") as given, open(tmp_path / "output", "wb") as taken:
        found = compare([program(checksum.program())], stdin=given, stdout=taken)
    assert found, str(found)
    assert found.end == "it has ended with status 0"
    assert found.names == ("translator", "unicorn")
    assert (tmp_path / "output").read_bytes() == b"aarch64 3610a686\n"


def test_a_program_of_debian_s_is_the_same_in_every_instruction_of_its_c_library_s_start():
    """Its C library asks for the CPU, random bytes and its own id."""
    from accel.errors import Unavailable
    from emu.samples.debian import unpacked

    try:
        busybox = str(unpacked("busybox-static", "arm64") / "bin" / "busybox")
    except Unavailable as error:
        pytest.skip(str(error))
    found = compare([busybox, "echo"], count=17_000)
    assert found, str(found)


def test_both_run_to_a_function_before_they_are_compared(tmp_path):
    import shutil

    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("no aarch64-linux-gnu-gcc to build a program with")
    source = Path(__file__).parent.parent / "linux/guests/scale.c"
    command = ["aarch64-linux-gnu-gcc", "-O1", "-w", "-static", "-pthread", source, "-o", tmp_path / "scale"]
    subprocess.run(command, check=True, timeout=60)
    with open("/dev/null", "wb") as nothing:
        found = compare([str(tmp_path / "scale"), "3"], start="text", stdout=nothing)
        assert found, str(found)
        assert found.end == "it has ended with status 0"
        with pytest.raises(EmuError, match="has no function 'nosuch'"):
            compare([str(tmp_path / "scale")], start="nosuch", stdout=nothing)
        with pytest.raises(EmuError, match="has exited before it came to"):
            compare([str(tmp_path / "scale")], start="abort", stdout=nothing)
    one, two = pair()
    with one, two:
        found = lockstep(one, two, start=CODE["aarch64"] + 8, count=50)
        assert found, str(found)
        assert one.cpus[0].registers["x2"] == two.cpus[0].registers["x2"] > 10


def test_a_program_that_reads_the_time_by_itself_differs_there(program):
    # mov x1, #1; mrs x0, cntvct_el0; add x2, x0, x1; mov x8, #94; mov x0, #0; svc #0
    path = program(arm64(0xD2800021, 0xD53BE040, 0x8B010002, 0xD2800BC8, 0xD2800000, 0xD4000001))
    found = compare([path])
    assert found.difference is not None
    assert (found.difference.number, found.difference.text) == (2, "mrs x0, cntvct_el0")
    assert set(found.difference.first) == {"x0"}
    found = compare([path], adopt=["mrs"])
    assert found, str(found)
    assert (found.count, found.end) == (6, "it has ended with status 0")


def test_what_cannot_be_compared_is_an_error(program):
    one, _ = pair()
    with (
        one,
        Machine(counting_board("arm"), accel="tcg") as other,
        pytest.raises(EmuError, match="cannot be compared"),
    ):
        lockstep(one, other)
    one, two = pair()
    with one, two, pytest.raises(EmuError, match="rax is no register that is compared"):
        lockstep(one, two, ignore=["rax"])
    for words_, text in (
        (["diff"], "nothing to compare"),
        (["diff", "--engine", "unicorn,unicorn", "--kernel", "x"], "--engine is for programs"),
        (["diff", "--accel", "kvm,tcg", "./program"], "--accel is for machines"),
        (["diff", "--accel", "kvm", "./program"], "are not two of kvm, tcg"),
        (["diff", "./nosuch"], "nosuch"),
    ):
        command = [sys.executable, "-m", "emu", *words_]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (2, 127), done
        assert text in done.stderr
        assert done.stderr.count("\n") == 1
