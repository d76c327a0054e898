"""Random system calls end nothing but themselves (tests/guest/linux/fuzz.c).

Each run has another seed, which it prints where it fails.  EMU_FUZZ_CALLS in the environment sets how many
calls a guest makes, EMU_FUZZ_SEED the seed.  All that is promised, 200,000 calls of each kind of guest:

    EMU_FUZZ_CALLS=200000 sh scripts/test tests/linux/test_syscalls_fuzz.py
"""

from __future__ import annotations

import os
import random
import shutil

import pytest

from isa.syscalls import load, places
from tests.linux.programs import BUILDS, GUESTS, build
from tests.linux.test_root import inside

CALLS = int(os.environ.get("EMU_FUZZ_CALLS", "10000"))
SEED = int(os.environ.get("EMU_FUZZ_SEED") or random.SystemRandom().randrange(1 << 30))
LETTERS = {
    **dict.fromkeys(("in", "out", "inout", "ptr", "strv", "any"), "b"),
    **{"fd": "f", "path": "p", "str": "p", "pid": "P", "addr": "a", "size": "s"},
}


def table(abi: str) -> str:
    """A line for each call: number, name, and a letter for each register that it takes."""
    wide = abi != "arm"
    lines = []
    for number, call in load(abi).items():
        registers = {
            register: LETTERS.get(argument.kind, "n")
            for argument, where in zip(call.arguments, places(call, wide, not wide), strict=True)
            for register in where
        }
        letters = "".join(registers.get(i, "n") for i in range(max(registers, default=0) + 1))
        lines.append(f"{number} {call.name} {letters}\n")
    return "".join(lines)


@pytest.mark.parametrize("guest", GUESTS)
def test_random_calls_with_random_arguments_end_nothing(guest, tmp_path):
    name = GUESTS[guest][0]
    shutil.copy(build("fuzz", name), tmp_path / "program")
    (tmp_path / "table").write_text(table(name if name in ("aarch64", "riscv64", "x86_64") else "arm"))
    done = inside(tmp_path, guest, str(SEED), str(CALLS), "/table", timeout=120 + CALLS / 100)
    again = f"seed {SEED}: EMU_FUZZ_SEED={SEED} EMU_FUZZ_CALLS={CALLS} makes the same calls again"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{CALLS} calls\n", ""), again


@pytest.mark.parametrize("build_name", BUILDS)
def test_the_table_has_a_line_for_every_call(build_name):
    abi = "arm" if build_name.startswith("arm") else build_name
    lines = table(abi).splitlines()
    assert len(lines) == len(load(abi))
    assert all(len(line.split()) == 3 and len(line.split()[2]) <= 6 for line in lines)
