"""System calls give a guest what Linux gives: the same source, run natively, is the oracle."""

import pytest

from tests.linux.programs import BUILDS, build, emulated, native

PARTS = (
    *("status", "locks", "descriptors", "readiness", "sockets", "clocks", "processes", "ipc"),
    *("terminals", "hostile"),
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", BUILDS)
def test_a_guest_sees_what_a_native_program_sees(name, part):
    outcome = emulated(build("calls", name), part)
    assert outcome == native("calls", part)
    assert ": NO" not in outcome.output


@pytest.mark.parametrize("name", BUILDS)
def test_numbers_beyond_the_table_do_not_exist(name):
    outcome = emulated(build("numbers", name))
    assert outcome.status == 0
    assert set(outcome.output.splitlines()) == {"ENOSYS"}


@pytest.mark.parametrize(
    ("name", "machine"),
    [("aarch64", "aarch64"), ("arm", "armv7l"), ("riscv64", "riscv64"), ("x86_64", "x86_64")],
)
def test_uname_names_the_guests_machine(name, machine):
    assert emulated(build("numbers", name), "machine").output == machine + "\n"


@pytest.mark.parametrize("name", BUILDS)
def test_random_calls_with_random_arguments_end_nothing(name):
    outcome = emulated(build("fuzz", name), "2026", "20000")
    assert outcome.output == "20000 calls\n"
    assert outcome.status == 0


@pytest.mark.parametrize("name", BUILDS)
def test_code_that_the_kernel_reads_over_other_code_is_the_code_that_runs(name):
    assert emulated(build("overlay", name)).output == "5\n6\n"
