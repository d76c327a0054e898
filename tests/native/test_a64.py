"""Random A64 instructions do what they do in Unicorn and in qemu; EMU_FUZZ_A64 says how many are tried.

fuzz_a64.c says how a failing case, which is printed, is run again.
"""

from __future__ import annotations

import os
import random
import runpy
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = int(os.environ.get("EMU_FUZZ_A64", "100000"))
WORDS = CASES // 25
NO_ENGINE = 77


@pytest.fixture(scope="module")
def fuzzer():
    if os.uname().machine != "x86_64":
        pytest.skip(f"the translator makes x86-64 code and this host is {os.uname().machine}")
    try:
        return runpy.run_path(str(HERE / "fuzz_a64.py"))["build"]()
    except LookupError as error:
        pytest.skip(str(error))


def run(fuzzer, cases, *options, **environment):
    command = [str(fuzzer), "-n", str(cases), *options]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )
    if done.returncode == NO_ENGINE:
        pytest.skip(done.stdout.strip())
    print(done.stdout)  # with the seed
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_single_instructions_are_as_in_unicorn(fuzzer):
    run(fuzzer, CASES)


def test_single_instructions_where_guest_addresses_are_not_host_addresses(fuzzer):
    run(fuzzer, CASES // 5, "--based")


def test_single_instructions_on_a_host_with_nothing_but_what_is_required(fuzzer):
    without = "avx,avx2,bmi1,bmi2,lzcnt,popcnt,fma,f16c,aes,pclmul,sha,sse42,adx"
    run(fuzzer, CASES // 3, EMU_HOST_WITHOUT=without)


def test_sequences_leave_what_they_leave_in_unicorn(fuzzer):
    run(fuzzer, CASES // 3, "--sequences")


def test_sequences_where_guest_addresses_are_not_host_addresses(fuzzer):
    run(fuzzer, CASES // 10, "--sequences", "--based")


def test_single_instructions_where_fpcr_has_no_more_than_a_rounding_mode(fuzzer):
    """Else all code is what the rarer modes want, as soon as one of them has been on."""
    run(fuzzer, CASES // 2, "--usual")


def test_sequences_where_fpcr_has_no_more_than_a_rounding_mode(fuzzer):
    run(fuzzer, CASES // 3, "--sequences", "--usual")


def test_sequences_in_a_confined_guest(fuzzer):
    run(fuzzer, CASES // 10, "--sequences", "--confined")


def test_single_instructions_are_as_in_qemu(tmp_path):
    if os.uname().machine != "x86_64":
        pytest.skip(f"the translator makes x86-64 code and this host is {os.uname().machine}")
    qemu = runpy.run_path(str(HERE / "a64_qemu.py"))
    try:
        guest = qemu["build"](tmp_path)
    except LookupError as error:
        pytest.skip(str(error))
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    some = qemu["words"]([], WORDS, random.Random(seed))
    assert not qemu["differences"](guest, some, seed)
