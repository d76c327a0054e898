"""Processes that share memory: each one's atomic instructions are atomic for all."""

import pytest

from tests.linux.programs import GUESTS, emulated, native


@pytest.mark.parametrize("guest", GUESTS)
def test_atomic_instructions_of_several_processes_lose_nothing(guest):
    outcome = emulated("shared", guest)
    assert outcome == native("shared")
    assert ": NO" not in outcome.output
