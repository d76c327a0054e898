"""System calls give a guest what Linux gives: the same source, run natively, is the oracle."""

import pytest

from tests.linux.programs import GUESTS, emulated, native

PARTS = (
    *("status", "locks", "descriptors", "readiness", "sockets", "clocks", "processes", "ipc"),
    *("terminals", "hostile"),
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("guest", GUESTS)
def test_a_guest_sees_what_a_native_program_sees(guest, part):
    outcome = emulated("calls", guest, part)
    assert outcome == native("calls", part)
    assert ": NO" not in outcome.output


@pytest.mark.parametrize("guest", GUESTS)
def test_numbers_beyond_the_table_do_not_exist(guest):
    outcome = emulated("numbers", guest)
    assert outcome.status == 0
    assert set(outcome.output.splitlines()) == {"ENOSYS"}


@pytest.mark.parametrize(
    ("guest", "machine"),
    [("aarch64", "aarch64"), ("arm", "armv7l"), ("riscv64", "riscv64"), ("x86_64", "x86_64")],
)
def test_uname_names_the_guests_machine(guest, machine):
    assert emulated("numbers", guest, "machine").output == machine + "\n"


@pytest.mark.parametrize("guest", GUESTS)
def test_code_that_the_kernel_reads_over_other_code_is_the_code_that_runs(guest):
    assert emulated("overlay", guest).output == "5\n6\n"
