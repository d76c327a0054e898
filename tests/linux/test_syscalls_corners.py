"""Control messages, futexes, limits, prctl, interrupted calls; the oracle is a native run of the source."""

import pytest

from tests.linux.programs import GUESTS, emulated, native


# Its C library adds messages of its own, with wide times.
@pytest.mark.parametrize("guest", [guest for guest in GUESTS if guest != "arm-wide"])
def test_control_messages_and_socket_options_are_linuxs(guest):
    assert emulated("messages", guest) == native("messages")


@pytest.mark.parametrize("part", ["futexes", "memory", "ipc", "processes", "interruptions", "terminals"])
@pytest.mark.parametrize("guest", GUESTS)
def test_corners_are_as_a_native_program_meets_them(guest, part):
    assert emulated("corners", guest, part) == native("corners", part)
