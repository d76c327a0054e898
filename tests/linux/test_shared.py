"""Processes that share memory, where each one's atomic instructions are atomic for all; threads that fork."""

import pytest

from tests.linux.programs import GUESTS, emulated, native


@pytest.mark.parametrize("guest", GUESTS)
def test_atomic_instructions_of_several_processes_lose_nothing(guest):
    outcome = emulated("shared", guest)
    assert outcome == native("shared")
    assert ": NO" not in outcome.output


@pytest.mark.parametrize("guest", GUESTS)
def test_threads_that_fork_at_once_and_their_children_come_to_an_end(guest):
    assert emulated("forks", guest) == native("forks")
