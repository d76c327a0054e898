"""Signals reach a guest as on Linux: the same source, run natively, is the oracle."""

import signal

import pytest

from tests.linux.programs import GUESTS, emulated, native

PARTS = (
    *("basics", "masks", "stacks", "interrupted", "waits", "faults", "registers", "children"),
    *("timers", "flood", "jumps", "rain", "endings", "inherited"),
)

DEADLY = (signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT, signal.SIGALRM)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("guest", GUESTS)
def test_a_guest_sees_what_a_native_program_sees(guest, part):
    outcome = emulated("signals", guest, part)
    assert outcome == native("signals", part)
    assert ": NO" not in outcome.output


@pytest.mark.parametrize(
    "sig", [signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT, signal.SIGALRM]
)
@pytest.mark.parametrize("guest", GUESTS)
def test_a_signal_that_kills_the_guest_is_seen_by_its_parent(guest, sig):
    assert emulated("frames", guest, "die", str(int(sig))).status == -sig


@pytest.mark.parametrize("guest", GUESTS)
def test_a_handler_finds_and_changes_the_interrupted_registers(guest):
    outcome = emulated("frames", guest, "context")
    assert outcome.output == "skipped the instruction, result 42\nmask of the context restored\n"
    assert outcome.status == 0


@pytest.mark.parametrize("guest", GUESTS)
def test_a_frame_that_fits_nowhere_kills(guest):
    assert emulated("frames", guest, "nowhere").status == -signal.SIGSEGV


@pytest.mark.parametrize("guest", GUESTS)
def test_a_frame_that_the_guest_spoiled_kills_only_the_guest(guest):
    assert emulated("frames", guest, "spoiled").status == -signal.SIGSEGV
