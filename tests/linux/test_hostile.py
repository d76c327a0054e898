"""What a program does to itself is its own problem: it ends as it would natively, and nobody else notices."""

import pytest

from tests.linux.programs import GUESTS, emulated, native


@pytest.mark.parametrize("guest", GUESTS)
def test_a_program_that_harms_itself_ends_as_natively(guest):
    outcome = emulated("harm", guest)
    assert outcome == native("harm")
    assert len(outcome.output.splitlines()) > 40
