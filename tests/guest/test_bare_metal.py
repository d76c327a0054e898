"""A few instructions on a bare machine: every accelerator, every ISA, the same answers."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from accel.api import ExitKind
from accel.errors import AccelError
from accel.memory import Register
from tests.guest import bodies
from tests.guest.bare import ACCUMULATOR, CODE, CODE64, DEVICE, RAM, RESULT, words

PATIENCE = 60  # seconds until a guest that does not end is stopped: a kick from a timer


@pytest.fixture
def run():
    """run(machine, body): one run to an exit, kicked if it takes for ever."""

    def run(machine, body):
        watchdog = threading.Timer(PATIENCE, machine.vcpu.kick)
        watchdog.start()
        try:
            return machine.run(body)
        finally:
            watchdog.cancel()

    return run


# ---- the device ----------------------------------------------------------------------------------------


def test_stores_reach_the_hook_with_offset_width_and_value(bare, run):
    machine, seen = bare(), []
    machine.device.ops(None, lambda o, w, v: seen.append((o, w, v)))
    assert run(machine, bodies.STORES).kind == ExitKind.HALT
    wide = [] if bare.isa == "arm" else [(0x30, 8, 0x4444_4444_5555_5555)]
    assert seen == [(0, 1, 0x11), (0x10, 2, 0x2222), (0x20, 4, 0x3333_3333), *wide]


def test_what_the_hook_answers_lands_in_the_register_and_no_more(bare, run):
    machine, seen = bare(), []

    def read(offset, width):
        seen.append((offset, width))
        return 0x8182_8384_8586_8788

    machine.device.ops(read, None)
    assert run(machine, bodies.LOADS).kind == ExitKind.HALT
    widths = (1, 2, 4) if bare.isa == "arm" else (1, 2, 4, 8)
    assert seen == [(0x10 * n, width) for n, width in enumerate(widths)]
    for n, width in enumerate(widths):
        assert machine.result(8 * n) == 0x8182_8384_8586_8788 & ((1 << (8 * width)) - 1)


def test_a_hooked_register_answers_what_the_guest_asks(bare, run):
    machine, told = bare(), []
    machine.device.registers([Register(0, 4, read_hook=True), Register(4, 4, write_hook=True)])
    machine.device.ops(lambda o, w: 41, lambda o, w, v: told.append((o, w, v)))
    assert run(machine, bodies.COPY).kind == ExitKind.HALT
    assert told == [(4, 4, 42)]
    assert machine.vcpu.get(ACCUMULATOR[bare.isa]) == (42,)


def test_a_register_without_hooks_is_served_in_c(bare, run):
    machine = bare()
    (live,) = machine.device.registers([Register(0, 4, reset=7, write_mask=0xFFFF_FFFF)])
    machine.device.ops(lambda o, w: pytest.fail("entered Python"), lambda o, w, v: pytest.fail("wrote"))
    assert run(machine, bodies.COUNT).kind == ExitKind.HALT
    assert live.value == 107


def test_a_guest_write_rings_a_doorbell_and_runs_no_hook(bare, run):
    import os

    machine = bare()
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        machine.device.doorbell(0, fd, width=4)
        machine.device.ops(lambda o, w: 5, lambda o, w, v: pytest.fail("a hook ran"))
        assert run(machine, bodies.COUNT).kind == ExitKind.HALT
        assert os.eventfd_read(fd) == 100
    finally:
        os.close(fd)


def test_a_device_that_is_not_there_reads_all_ones_or_faults(bare, run):
    """x86's bus answers ones; the others may take an abort, but nobody may crash or hang."""
    machine = bare()
    machine.load(bodies.COPY)
    machine.memory.place(machine.device, DEVICE + 0x10_0000)
    watchdog = threading.Timer(5, machine.vcpu.kick)
    watchdog.start()
    exit = machine.vcpu.run()
    watchdog.cancel()
    if bare.isa == "x86_64":
        assert exit.kind == ExitKind.HALT
        assert machine.vcpu.get("rax") == (0,)
    else:
        assert exit.kind in (ExitKind.HALT, ExitKind.FAULT, ExitKind.KICKED)


@pytest.mark.isas("x86_64")
def test_an_access_across_two_devices_reaches_both(bare, run):
    machine, seen = bare(), []
    machine.device.ops(lambda o, w: seen.append(("first", o, w)) or 0x1111_1111_1111_1111, None)
    second = machine.memory.add_io("second", DEVICE + 0x1000, 0x1000)
    second.ops(lambda o, w: seen.append(("second", o, w)) or 0x2222_2222_2222_2222, None)
    assert run(machine, bodies.CROSS).kind == ExitKind.HALT
    assert machine.result() == 0x2222_2222_2222_1111
    assert {name for name, _, _ in seen} == {"first", "second"}
    # tcg reads the two aligned words around the access, kvm its bytes alone
    assert all(offset % width == 0 for _, offset, width in seen)


@pytest.mark.isas("x86_64")
def test_ports_take_and_give_every_width_and_strings(bare, run):
    machine, wrote, asked = bare(), [], []
    out = machine.ports.add_io("out", 0x500, 8)
    out.ops(None, lambda o, w, v: wrote.append((o, w, v)))
    post = machine.ports.add_io("post", 0x80, 1)
    post.ops(None, lambda o, w, v: wrote.append(("post", w, v)))
    answers = iter([0xA1, 0xB2B2, 0xC3C3_C3C3, 0x61, 0x62, 0x63])
    into = machine.ports.add_io("in", 0x510, 4)
    into.ops(lambda o, w: asked.append((o, w)) or next(answers), None)
    assert run(machine, bodies.PORTS).kind == ExitKind.HALT
    assert asked == [(0, 1), (0, 2), (0, 4), (0, 1), (0, 1), (0, 1)]
    assert [machine.result(4 * n, 4) for n in range(3)] == [0xA1, 0xB2B2, 0xC3C3_C3C3]
    assert machine.result(12, 3) == 0x636261
    assert wrote == [
        (0, 1, 0x11),
        (0, 2, 0x2222),
        (0, 4, 0x3333_3333),
        ("post", 1, 0x44),
        *((2, 1, byte) for byte in (0xA1, 0, 0, 0)),
    ]


@pytest.mark.isas("x86_64")
def test_a_port_nobody_has_reads_all_ones(bare, run):
    machine = bare()
    code = bytes.fromhex("66ba1005 ed f4")  # mov dx, 0x510; in eax, dx; hlt
    assert run(machine, code).kind == ExitKind.HALT
    assert machine.vcpu.get("rax") == (0xFFFF_FFFF,)


# ---- ends ----------------------------------------------------------------------------------------------


def test_waiting_for_an_interrupt_is_halt(bare, run):
    machine = bare()
    exit = run(machine, bodies.HALT)
    assert exit.kind == ExitKind.HALT
    assert exit.pc in (CODE[bare.isa], CODE[bare.isa] + (1 if bare.isa == "x86_64" else 4))


HANDLER_AT = {"x86_64": 0x1000, "aarch64": 0xA80, "arm": 0x118, "riscv64": 0x1000}
# line and level of Vcpu.interrupt(): vector 0x40, IRQ, IRQ, the external interrupt
ASSERT = {"x86_64": (0, 0x41), "aarch64": (0, 1), "arm": (0, 1), "riscv64": (11, 1)}
# a wait for an interrupt, and nothing
WAIT = {"x86_64": "f4", "aarch64": "d503207f", "arm": "e320f003", "riscv64": "10500073"}
NOTHING = {"x86_64": "90", "aarch64": "d503201f", "arm": "e320f000", "riscv64": "00000013"}


def interruptible(machine) -> list[int]:
    """Places the handler; returns the list of what it will have written.  Its write lowers the line."""
    served: list[int] = []
    isa = machine.isa

    def write(offset, width, value):
        served.append(value)
        machine.vcpu.interrupt(ASSERT[isa][0], 0)

    machine.device.ops(None, write)
    handler = CODE[isa] + HANDLER_AT[isa]
    machine.memory.load(handler, words(bodies.HANDLER[isa], isa))
    if isa == "x86_64":
        gate = struct.pack("<HHBBHQ", handler & 0xFFFF, CODE64, 0, 0x8E, handler >> 16, 0)
        machine.memory.load(0x8000 + 16 * 0x40, gate)
        machine.memory.load(0x10_2000, struct.pack("<HQ", 0xFFF, 0x8000))
    return served


def test_an_interrupt_wakes_a_waiting_guest_and_its_handler_runs_once(bare, run):
    machine = bare()
    served = interruptible(machine)
    assert run(machine, bodies.INTERRUPT).kind == ExitKind.HALT
    assert served == []
    machine.vcpu.interrupt(*ASSERT[bare.isa])
    assert machine.vcpu.run().kind == ExitKind.HALT
    assert served == [0x77]


def test_an_interrupt_from_another_thread_is_taken_by_a_busy_guest(bare, run):
    """It spins with interrupts open instead of waiting."""
    machine, isa = bare(), bare.isa
    served = interruptible(machine)
    body = words(bodies.INTERRUPT[isa], isa).replace(words(WAIT[isa], isa), words(NOTHING[isa], isa))
    timer = threading.Timer(0.2, machine.vcpu.interrupt, ASSERT[isa])
    timer.start()
    assert run(machine, body).kind == ExitKind.HALT
    timer.join()
    assert served == [0x77]


@pytest.mark.isas("x86_64")
def test_a_triple_fault_is_shutdown(bare, run):
    assert run(bare(), bodies.TRIPLE_FAULT).kind == ExitKind.SHUTDOWN


def test_a_kick_from_another_thread_ends_a_busy_guest(bare):
    machine, running = bare(), threading.Event()
    machine.device.ops(None, lambda o, w, v: running.set())
    machine.load(bodies.SPIN)
    machine.attach()

    def kick():
        assert running.wait(PATIENCE)
        machine.vcpu.kick()

    thread = threading.Thread(target=kick)
    thread.start()
    try:
        assert machine.vcpu.run().kind == ExitKind.KICKED
    finally:
        running.set()
        thread.join()
    # and it goes on where it was
    threading.Timer(0.05, machine.vcpu.kick).start()
    assert machine.vcpu.run().kind == ExitKind.KICKED


def test_a_kick_before_the_run_is_not_lost(bare, run):
    machine = bare()
    machine.vcpu.kick()
    assert run(machine, bodies.SPIN).kind == ExitKind.KICKED


def test_kicks_do_not_disturb_what_the_guest_computes(bare):
    """Many kicks at any instruction: nothing runs twice and nothing is lost."""
    machine, stop = bare(), threading.Event()
    (live,) = machine.device.registers([Register(0, 4, write_mask=0xFFFF_FFFF)])
    machine.load(bodies.COUNT)
    machine.attach()

    def kick():
        while not stop.wait(0.0002):
            machine.vcpu.kick()

    thread = threading.Thread(target=kick)
    thread.start()
    try:
        kicked = 0
        while (exit := machine.vcpu.run()).kind == ExitKind.KICKED:
            kicked += 1
            assert kicked < 100_000
    finally:
        stop.set()
        thread.join()
    assert exit.kind == ExitKind.HALT
    assert live.value == 100


class Mistake(Exception):
    pass


@pytest.mark.parametrize("direction", ["read", "write"])
def test_what_a_hook_raises_comes_out_of_run(bare, run, direction, capfd):
    machine = bare()

    def fail(*_):
        raise Mistake("in the device")

    machine.device.ops(
        fail if direction == "read" else lambda o, w: 1, fail if direction == "write" else None
    )
    with pytest.raises(Mistake, match="in the device"):
        run(machine, bodies.COPY)
    assert capfd.readouterr().err == ""


@pytest.mark.isas("x86_64")
def test_what_a_port_hook_raises_comes_out_of_run(bare, run):
    machine = bare()

    def fail(*_):
        raise Mistake

    machine.ports.add_io("port", 0x510, 4).ops(fail, fail)
    with pytest.raises(Mistake):
        run(machine, bytes.fromhex("66ba1005 ed f4"))


def test_a_budget_ends_a_guest_that_does_not(bare):
    machine = bare()
    if not machine.accelerator.caps.instruction_budget:
        pytest.skip(f"{bare.engine} cannot count instructions")
    machine.load(bodies.SPIN)
    machine.attach()
    assert machine.vcpu.run(budget=1000).kind == ExitKind.BUDGET
    assert machine.vcpu.run(budget=1000).kind == ExitKind.BUDGET


# ---- state ---------------------------------------------------------------------------------------------


def general(machine) -> dict[str, int]:
    """Names and widths of the registers that a program can hold any number in."""
    special = {machine.arch.pc, machine.arch.flags, "zero", "cpsr"}
    wanted = {}
    for register in machine.arch.registers:
        selector = register.name in ("cs", "ss", "ds", "es", "fs", "gs")
        if register.group == "general" and register.name not in special and not selector:
            wanted[register.name] = register.width
    return wanted


def test_registers_come_back_as_they_were_set(bare):
    machine, chance = bare(), random.Random(7)
    registers = general(machine)
    for _ in range(20):
        values = {name: chance.getrandbits(width) for name, width in registers.items()}
        if "fs_base" in values:  # an address must be canonical
            values |= {name: chance.getrandbits(47) for name in ("fs_base", "gs_base")}
        values[machine.arch.pc] = CODE[bare.isa] + 4 * chance.getrandbits(8)
        machine.vcpu.set(**values)
        assert dict(zip(values, machine.vcpu.get(*values), strict=True)) == values


def test_vector_registers_come_back_as_they_were_set(bare):
    machine, chance = bare(), random.Random(8)
    wanted = [
        r for r in machine.arch.registers if r.name.rstrip("0123456789") in ("xmm", "v", "d", "f", "ft")
    ]
    values = {r.name: chance.getrandbits(r.width) for r in wanted}
    assert values
    machine.vcpu.set(**values)
    assert dict(zip(values, machine.vcpu.get(*values), strict=True)) == values


def test_a_register_nobody_knows_is_a_key_error(bare):
    machine = bare()
    with pytest.raises(KeyError):
        machine.vcpu.get("nonesuch")
    with pytest.raises(KeyError):
        machine.vcpu.set(nonesuch=1)


def test_a_saved_state_is_plain_values_and_loads_again(bare, run):
    machine = bare()
    assert run(machine, bodies.SUM).kind == ExitKind.HALT
    state = machine.vcpu.save()
    plain(state)
    registers = [*general(machine), machine.arch.pc]
    before = machine.vcpu.get(*registers)
    machine.vcpu.set(**dict.fromkeys(general(machine), 0))
    machine.vcpu.load(state)
    assert machine.vcpu.get(*registers) == before


def plain(value) -> None:
    """Nothing but numbers, texts, bytes and containers of them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            assert isinstance(key, (str, int)), key
            plain(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            plain(inner)
    else:
        assert value is None or isinstance(value, (int, str, bytes, float)), type(value)


def test_a_guest_saved_half_way_ends_in_another_machine(bare):
    """Saved while it counts, loaded with its memory into a fresh machine of the same engine."""
    half_way(bare, bare)


def test_a_guest_saved_under_one_accelerator_ends_under_the_other(accel):
    from tests.conftest import ENGINES, Engine, Machines, usable

    (other,) = set(ENGINES) - {accel.name}
    usable(other)
    first, second = Machines(accel, "x86_64"), Machines(Engine(other), "x86_64")
    try:
        half_way(first, second)
    finally:
        first.close()
        second.close()


def half_way(first, second) -> None:
    isa = first.isa
    machine = first()
    machine.device.registers([Register(0, 4, write_mask=0xFFFF_FFFF, write_hook=True)])
    machine.device.ops(None, lambda o, w, v: machine.vcpu.kick() if v == 50 else None)
    assert machine.run(bodies.COUNT).kind == ExitKind.KICKED
    reached = machine.memory.read(DEVICE, 4)
    assert reached in (50, 51)
    state = machine.vcpu.save()
    content = bytes(machine.ram.buffer)

    heir = second()
    heir.ram.buffer[:] = content
    (live,) = heir.device.registers([Register(0, 4, write_mask=0xFFFF_FFFF, reset=reached)])
    heir.attach()
    heir.vcpu.load(state)
    watchdog = threading.Timer(PATIENCE, heir.vcpu.kick)
    watchdog.start()
    assert heir.vcpu.run().kind == ExitKind.HALT
    watchdog.cancel()
    assert live.value == 100
    assert heir.vcpu.get(ACCUMULATOR[isa]) == (100,)


def test_a_closed_vcpu_refuses_and_a_late_kick_does_nothing(bare):
    machine = bare()
    vcpu, register = machine.vcpu, ACCUMULATOR[bare.isa]
    machine.close()
    vcpu.kick()
    vcpu.interrupt(0, 0)
    for call in (
        vcpu.run,
        vcpu.save,
        lambda: vcpu.get(register),
        lambda: vcpu.set(**{register: 1}),
        lambda: vcpu.load({register: 1}),
    ):
        with pytest.raises(AccelError, match="closed"):
            call()


# ---- memory that changes under the guest ---------------------------------------------------------------


def test_a_guest_cannot_write_rom_and_its_owner_is_told(bare, run):
    machine, told = bare(), []
    rom = machine.memory.add_ram("flash", 0x2000_0000, 0x1000, readonly=True)
    rom.buffer[0] = 0x77
    rom.ops(None, lambda o, w, v: told.append((o, w, v)))
    assert run(machine, bodies.OVERWRITE).kind == ExitKind.HALT
    assert machine.result(0, 4) == 0x77
    assert told == [(0, 1, 0x5A)]


def test_a_guest_write_to_rom_that_nobody_serves_is_dropped(bare, run):
    machine = bare()
    rom = machine.memory.add_ram("rom", 0x2000_0000, 0x1000, readonly=True)
    rom.buffer[0] = 0x77
    assert run(machine, bodies.OVERWRITE).kind == ExitKind.HALT
    assert machine.result(0, 4) == 0x77
    assert rom.buffer[0] == 0x77


@pytest.mark.parametrize("kind", ["ram", "io"])
def test_a_region_that_a_hook_moves_is_at_its_new_place_at_once(bare, run, kind):
    machine = bare()
    if kind == "ram":
        window = machine.memory.add_ram("window", 0x2000_0000, 0x1000)
        window.buffer[0:4] = (1234).to_bytes(4, "little")
    else:
        window = machine.memory.add_io("window", 0x2000_0000, 0x1000)
        live = window.registers([Register(0, 4, reset=1234), Register(4, 4, write_mask=0xFFFF_FFFF)])
    machine.device.ops(None, lambda o, w, v: machine.memory.move(window, 0x2100_0000))
    machine.memory.freeze()
    assert run(machine, bodies.FOLLOW).kind == ExitKind.HALT
    assert machine.result(0, 4) == 1234
    assert machine.result(4, 4) == 1234
    stored = int.from_bytes(window.buffer[4:8], "little") if kind == "ram" else live[1].value
    assert stored == 1235


def test_a_device_that_another_thread_replaces_is_seen_by_a_running_guest(bare):
    machine, polled = bare(), threading.Event()
    machine.device.registers([Register(0, 4, read_hook=True)])
    machine.device.ops(lambda o, w: polled.set() or 1, None)
    machine.load(bodies.POLL)
    machine.attach()
    second = machine.memory.new_io("second", 0x1000, priority=1)
    second.registers([Register(0, 4, reset=2)])

    def replace():
        assert polled.wait(PATIENCE)
        machine.memory.place(second, DEVICE)

    thread = threading.Thread(target=replace)
    thread.start()
    watchdog = threading.Timer(PATIENCE, machine.vcpu.kick)
    watchdog.start()
    try:
        assert machine.vcpu.run().kind == ExitKind.HALT
    finally:
        watchdog.cancel()
        polled.set()
        thread.join()
    assert machine.result(0, 4) == 2


def test_ram_that_the_host_fills_while_the_guest_stands_is_seen(bare, run):
    """A loader, DMA: the guest's data changes behind the engine's back."""
    machine = bare()
    machine.device.ops(lambda o, w: 0, None)
    window = machine.memory.add_ram("window", 0x2000_0000, 0x1000)
    window.buffer[0:4] = (1).to_bytes(4, "little")

    def write(offset, width, value):
        machine.memory.move(window, 0x2100_0000)
        window.buffer[0:4] = (99).to_bytes(4, "little")

    machine.device.ops(None, write)
    assert run(machine, bodies.FOLLOW).kind == ExitKind.HALT
    assert (machine.result(0, 4), machine.result(4, 4)) == (1, 99)


def test_memory_is_where_the_map_says(bare, run):
    machine = bare()
    assert run(machine, bodies.SUM).kind == ExitKind.HALT
    width = 4 if bare.isa == "arm" else 8
    total = sum(range(100_001)) & ((1 << (8 * width)) - 1)
    assert machine.result(0, width) == total
    assert machine.ram.buffer[RESULT[bare.isa] - RAM[bare.isa]] == total & 0xFF


# ---- cost ----------------------------------------------------------------------------------------------

BIG = """
import sys
from tests.conftest import Engine
from tests.guest.bare import Bare
machine = Bare(Engine(sys.argv[1]), sys.argv[2])
machine.memory.add_ram("high", 4 << 30, 4 << 30)
line = []
machine.device.ops(lambda o, w: 0, lambda o, w, v: line.append((o, v)))
from tests.guest import bodies
assert machine.run(bodies.STORES).kind.name == "HALT"
assert len(line) >= 3
machine.close()
print(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
"""


def test_a_guest_of_4_gib_that_prints_a_line_stays_under_80_mib(bare):
    """RAM is reserved, not touched: the peak resident size of a whole process that runs one."""
    done = subprocess.run(
        [sys.executable, "-c", BIG, bare.engine.name, bare.isa],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80 * 1024
