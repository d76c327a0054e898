"""What programs see of memory, code that changes, signals, children: the same as on the host itself."""

from __future__ import annotations

import re

import pytest

from tests.conftest import usable
from tests.linux.conftest import ROOT, emulate, native


@pytest.mark.parametrize("name", ["memory", "kick"])
def test_a_program_prints_what_it_prints_on_the_host(name, guest, build):
    isa, accel = guest
    done = emulate(build(name, isa), accel=accel)
    assert done.stderr == ""
    assert done.stdout == native(build(name, "native")).stdout
    assert done.returncode == 0


def test_code_that_changes_runs_as_it_was_written_last(guest, build):
    isa, accel = guest
    lines = emulate(build("code", isa), accel=accel).stdout.splitlines()
    expected = native(build("code", "native")).stdout.splitlines()
    if guest == ("x86_64", "tcg"):
        # Nothing tells the engine of a store through another address: x86 has no instruction for it.
        lines = [line for line in lines if not line.startswith("two addresses")]
        expected = [line for line in expected if not line.startswith("two addresses")]
    assert lines == expected


def test_what_another_thread_has_allowed_meanwhile_is_no_fault(guest, build):
    isa, accel = guest
    done = emulate(build("toggle", isa), "3000", accel=accel)
    assert (done.stdout, done.stderr) == (native(build("toggle", "native"), "3000").stdout, "")


def test_children_are_born_replaced_and_reaped_as_on_the_host(guest, build):
    isa, accel = guest

    def output(done, echo):
        assert done.stderr == ""
        text = done.stdout.replace(echo, "ECHO")
        return re.sub(r"emu-spawn-\w+", "FOLDER", text)

    echo, there = build("echo", isa), build("echo", "native")
    ours = output(emulate(build("spawn", isa), echo, accel=accel), echo)
    assert ours == output(native(build("spawn", "native"), there), there)


def test_a_programs_successor_runs_its_own_code_at_the_same_addresses(guest, build):
    isa, accel = guest

    def chain(isa):
        one, two = (build("successor", isa, "-static", "-no-pie", f"-DANSWER={n}") for n in (1, 2))
        where = "-Wl,-Ttext-segment=0x20000000"
        third = build("successor", isa, "-static", "-no-pie", "-DANSWER=3", "-DELSEWHERE", where)
        return one, "0", two, one, one, third, two, third

    done, expected = emulate(*chain(isa), accel=accel), native(*chain("native"))
    assert (done.stdout, done.stderr, done.returncode) == (expected.stdout, "", 3)


def test_a_program_can_be_replaced_by_one_of_another_isa(build):
    # spawn's children are of the second ISA, its own image of the first
    done = emulate(build("spawn", "aarch64"), build("echo", "riscv64"))
    assert "fork and exec: exit 3" in done.stdout
    assert "script: exit 3" in done.stdout


def test_a_program_under_kvm_can_be_replaced_by_a_foreign_one(build):
    usable("kvm")
    done = emulate(build("spawn", "x86_64"), build("echo", "aarch64"), accel="kvm")
    assert "fork and exec: exit 3" in done.stdout
    assert "vfork and exec: exit 1" in done.stdout


def test_a_program_can_run_the_hosts_own(build):
    done = emulate(build("spawn", "aarch64"), build("echo", "native"))
    assert "fork and exec: exit 3" in done.stdout
    assert "vfork and exec: exit 1" in done.stdout


def test_faults_are_exact(guest, build):
    isa, accel = guest
    flags = ("-static", "-O1", "-marm") if isa == "arm" else ("-static", "-O1")
    ours = emulate(build("faults", isa, *flags), accel=accel).stdout.splitlines()
    theirs = native(build("faults", "native", "-static", "-O1")).stdout.splitlines()
    if isa == "x86_64":
        assert ours == theirs
        return
    assert ours[:6] == theirs[:6]
    # ILL_ILLOPC and TRAP_BRKPT, where x86 has ILL_ILLOPN and no address (arch/*/kernel/traps.c)
    assert ours[6:] == [
        "undefined: signal 4 code 1 pc exact address right",
        "breakpoint: signal 5 code 1 pc exact address right",
    ]


@pytest.mark.parametrize("kind", ["-static", "-static-pie"])
def test_a_program_starts_as_linux_starts_it(kind, isa, build):
    environ = {"PYTHONPATH": str(ROOT), "A": "1", "EMPTY": ""}
    path, there = build("start", isa, kind), build("start", "native", kind)
    done = emulate(path, "two words", "", "three", env=environ)
    expected = native(there, "two words", "", "three", env=environ)
    assert done.stderr == ""
    assert done.stdout.replace(path, "SELF") == expected.stdout.replace(there, "SELF")


def test_encodings_that_the_library_takes_for_impossible_are_illegal_instructions(build):
    # some of these made libunicorn abort the process, and talk on the guest's stdout
    done = emulate(build("random", "aarch64"), 1, 20000)
    assert (done.stdout, done.stderr, done.returncode) == ("end\n", "", 0)
