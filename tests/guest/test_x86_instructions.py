"""x86-64 instructions under kvm, under tcg and on the host's CPU: one outcome.

EMU_X86_CASES and EMU_X86_SEED in the environment set how many random sequences are tried, and which.
"""

from __future__ import annotations

import os

import pytest

from tests.guest import x86_random
from tests.guest.x86 import Case, Guest, disassemble

ONES = (1 << 64) - 1

# name: instructions, registers before, registers after, flags after (of CF PF AF ZF SF OF)
KNOWN = {
    "add carries out of the top": ("48 01 d8", {"rax": ONES, "rbx": 1}, {"rax": 0}, 0x55),
    "add overflows into the sign": ("01 d8", {"rax": 0x7FFF_FFFF, "rbx": 1}, {"rax": 0x8000_0000}, 0x894),
    "sub borrows": ("48 29 d8", {"rax": 0, "rbx": 1}, {"rax": ONES}, 0x95),
    "a 32-bit result clears the rest": ("89 d8", {"rax": ONES, "rbx": ONES}, {"rax": 0xFFFF_FFFF}, None),
    "a 16-bit result keeps the rest": ("66 89 d8", {"rax": ONES, "rbx": 0}, {"rax": ONES - 0xFFFF}, None),
    "inc keeps the carry": ("f9 48 ff c0", {"rax": 0}, {"rax": 1}, 0x1),
    "adc takes the carry": ("f9 48 11 d8", {"rax": 1, "rbx": 2}, {"rax": 4}, 0x0),
    "mul fills rdx": ("48 f7 e3", {"rax": 1 << 63, "rbx": 4}, {"rax": 0, "rdx": 2}, None),
    "div leaves the remainder": ("48 f7 f3", {"rax": 17, "rdx": 0, "rbx": 5}, {"rax": 3, "rdx": 2}, None),
    "idiv rounds to zero": ("48 f7 fb", {"rax": -17 & ONES, "rdx": ONES, "rbx": 5},
                            {"rax": -3 & ONES, "rdx": -2 & ONES}, None),
    "sar fills with the sign": ("48 c1 f8 04", {"rax": 1 << 63}, {"rax": 0xF800_0000_0000_0000}, None),
    "movsx extends the sign": ("48 0f be c3", {"rbx": 0x80}, {"rax": -128 & ONES}, None),
    "bswap reverses": ("48 0f c8", {"rax": 0x0102_0304_0506_0708}, {"rax": 0x0807_0605_0403_0201}, None),
    "cmpxchg fails and loads": ("0f b1 cb", {"rax": 1, "rbx": 2, "rcx": 3}, {"rax": 2, "rbx": 2}, 0x95),
    "cpuid is there": ("31 c0 31 c9 0f a2 85 c0 0f 95 c0 0f b6 c0 31 db 31 c9 31 d2", {}, {"rax": 1}, None),
    "push and pop go through the stack": ("53 8f c0", {"rbx": 77}, {"rax": 77}, None),
    "rep movsb stops at zero": ("31 c9 4c 89 f6 4c 89 f7 f3 a4 31 f6 31 ff", {"rcx": 9}, {"rcx": 0}, None),
    "cvttsd2si of too much is the indefinite": ("f2 48 0f 2c c0", {"rax": 0}, {"rax": 1 << 63}, None),
}  # fmt: skip


def test_what_the_manual_says_happens(x86):
    huge = [0x7FEF_FFFF_FFFF_FFFF] + [0] * 15
    cases = [Case(bytes.fromhex(code), before, vectors=huge) for code, before, _, _ in KNOWN.values()]
    for name, outcome in zip(KNOWN, x86.run(cases), strict=True):
        _, before, after, flags = KNOWN[name]
        for register, value in {**before, **after}.items():
            assert outcome.registers[register] == value, name
        if flags is not None:
            assert outcome.flags & 0x8D5 == flags, name


def test_a_32_bit_cmpxchg_that_fails_keeps_the_whole_destination(x86):
    if str(getattr(x86, "engine", "")) == "tcg":
        pytest.xfail("Unicorn 2.1.4 clears the upper half of the destination register")
    (outcome,) = x86.run([Case(bytes.fromhex("0fb1d9"), {"rax": 1, "rcx": ONES, "rbx": 3})])
    assert outcome.registers["rcx"] == ONES
    assert outcome.registers["rax"] == 0xFFFF_FFFF


def test_of_two_nans_the_first_comes_out(x86):
    if str(getattr(x86, "engine", "")) == "tcg":
        pytest.xfail("Unicorn 2.1.4 takes the NaN of the larger significand, as x87 does")
    small, large = 0x7FC0_0001, 0x7FC0_0002
    (outcome,) = x86.run([Case(bytes.fromhex("0f58c1"), vectors=[small, large, *[0] * 14])])  # addps
    assert outcome.vectors[0] == small


@pytest.fixture(scope="module")
def random_cases():
    count = int(os.environ.get("EMU_X86_CASES", "600"))
    first = int(os.environ.get("EMU_X86_SEED", "0"))
    return {seed: x86_random.case(seed) for seed in range(first, first + count)}


def test_random_sequences_end_as_on_the_host_cpu(accel, host_cpu, random_cases):
    cases = [case for case, _ in random_cases.values()]
    batches = range(0, len(cases), 2000)
    expected = [outcome for at in batches for outcome in host_cpu.run(cases[at : at + 2000])]
    guest = Guest(accel)
    found = [outcome for at in batches for outcome in guest.run(cases[at : at + 2000])]
    wrong = []
    for (seed, (case, flags)), ours, theirs in zip(random_cases.items(), found, expected, strict=True):
        if difference := ours.difference(theirs, flags):
            wrong.append(f"seed {seed}: {disassemble(case)}\n{accel} / host\n{difference}")
    assert not wrong, f"{len(wrong)} of {len(cases)} differ\n\n" + "\n\n".join(wrong[:5])
