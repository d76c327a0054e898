"""Stops for a debugger in a whole machine on Unicorn: at addresses, at accesses, after one instruction."""

from __future__ import annotations

import pytest

from accel.api import ExitKind
from tests.accel.test_tcg_machine import COUNTER, ISAS, LOOP, POINTER
from tests.conftest import Engine
from tests.guest.bare import CODE, RESULT, Bare, words

# add 1 to the counter; store it where the pointer points; load it from there; back to the beginning.
COUNT = {
    "aarch64": "91000442 f9000022 f9400023 17fffffd",
    "arm": "e2822001 e5812000 e5913000 eafffffb",
    "riscv64": "00160613 00c5b023 0005b683 ff5ff06f",
    "x86_64": "48 ff c1 48 89 0b 48 8b 13 eb f5",
}
AT = dict.fromkeys(ISAS, (0, 4, 8, 12)) | {"x86_64": (0, 3, 6, 9)}


@pytest.fixture(params=ISAS)
def machine(request):
    isa = request.param
    bare = Bare(Engine("tcg"), isa)
    bare.attach()
    if isa == "x86_64":
        bare.load(words("f4"))
        assert bare.vcpu.run().kind == ExitKind.HALT
        bare.vcpu.set(rip=CODE[isa])
    bare.load(words(COUNT[isa], isa))
    bare.vcpu.set(**{POINTER[isa]: RESULT[isa], COUNTER[isa]: 0})
    yield bare
    bare.close()


def test_a_step_executes_one_instruction_wherever_blocks_end(machine):
    vcpu, isa = machine.vcpu, machine.isa
    assert vcpu.run(budget=400).kind == ExitKind.BUDGET  # translated as blocks, and not at their ends
    (count,) = vcpu.get(COUNTER[isa])
    assert count == 100
    for turn in range(3):
        for number, offset in enumerate(AT[isa]):
            assert vcpu.get("pc" if isa != "x86_64" else "rip")[0] == CODE[isa] + offset
            assert vcpu.get(COUNTER[isa])[0] == 100 + turn + (number > 0)
            assert vcpu.step().kind == ExitKind.DEBUG


def test_a_breakpoint_stops_before_its_instruction_also_in_the_middle_of_a_translated_block(machine):
    vcpu, isa = machine.vcpu, machine.isa
    vcpu.run(budget=400)
    address = CODE[isa] + AT[isa][2]
    vcpu.debug([address])
    for turn in range(1, 4):
        exit = vcpu.run()
        assert (exit.kind, exit.pc) == (ExitKind.DEBUG, address)
        assert vcpu.stopped_by(exit)[0] == "breakpoint"
        assert vcpu.get(COUNTER[isa])[0] == 100 + turn
        vcpu.step()
    vcpu.debug()
    assert vcpu.run(budget=40).kind == ExitKind.BUDGET


def test_a_watchpoint_stops_before_the_access_and_tells_its_address(machine):
    vcpu, isa = machine.vcpu, machine.isa
    vcpu.run(budget=400)
    vcpu.debug([], [(RESULT[isa], 4, "w")])
    exit = vcpu.run()
    assert (exit.kind, exit.pc) == (ExitKind.DEBUG, CODE[isa] + AT[isa][1])
    assert vcpu.stopped_by(exit) == ("w", RESULT[isa])
    assert machine.memory.read(RESULT[isa], 4) == 100
    vcpu.step()
    assert machine.memory.read(RESULT[isa], 4) == 101
    vcpu.debug([], [(RESULT[isa], 4, "r")])
    exit = vcpu.run()
    assert (exit.kind, exit.pc) == (ExitKind.DEBUG, CODE[isa] + AT[isa][2])
    assert vcpu.stopped_by(exit) == ("r", RESULT[isa])
    vcpu.debug([], [(RESULT[isa] + 64, 8, "rw")])
    assert vcpu.run(budget=400).kind == ExitKind.BUDGET


def test_a_step_of_a_jump_to_itself_ends(machine):
    vcpu, isa = machine.vcpu, machine.isa
    machine.load(words(LOOP[isa], isa))
    for _ in range(3):
        assert vcpu.step().kind == ExitKind.DEBUG
        assert vcpu.get("pc" if isa != "x86_64" else "rip")[0] == CODE[isa]
