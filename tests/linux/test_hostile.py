"""What a program does to itself is its own problem: it ends as it would natively, and nobody else notices."""

import os
import shutil
import sys

import pytest

from tests.linux.programs import GUESTS, build, emulated, native, run
from tests.linux.test_root import inside
from tests.linux.test_syscalls_fuzz import SEED

PIECES = int(os.environ.get("EMU_FUZZ_PIECES", "200"))


@pytest.mark.parametrize("guest", GUESTS)
def test_a_program_that_harms_itself_ends_as_natively(guest):
    outcome = emulated("harm", guest)
    assert outcome == native("harm")
    assert len(outcome.output.splitlines()) > 40


@pytest.mark.parametrize("guest", ["aarch64", "x86_64"])
def test_a_program_can_have_no_more_mappings_than_the_host_has_for_it(guest):
    assert emulated("harm", guest, "has_too_many_mappings") == native("harm", "has_too_many_mappings")


def test_under_the_translator_too():
    words = [sys.executable, "-m", "emu", "--accel", "tcg", "--engine", "translator"]
    assert run([*words, build("harm", "aarch64")]) == native("harm")


@pytest.mark.parametrize("guest", GUESTS)
def test_noise_as_code_ends_nothing_but_itself(guest, tmp_path):
    """EMU_FUZZ_PIECES sets how many pages of noise are jumped into, EMU_FUZZ_SEED which."""
    shutil.copy(build("noise", GUESTS[guest][0]), tmp_path / "program")
    done = inside(tmp_path, guest, str(SEED), str(PIECES), timeout=120 + PIECES)
    again = f"EMU_FUZZ_SEED={SEED} EMU_FUZZ_PIECES={PIECES} makes the same noise again"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{PIECES} pieces\n", ""), again
