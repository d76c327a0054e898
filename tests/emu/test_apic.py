"""The PC's APICs, register by register as Intel's manuals describe them; the engine's part is the test's."""

from __future__ import annotations

import time

import pytest

from accel.native import ffi as core_ffi
from accel.native import lib as core
from emu.devices.apic import INPUTS, IoApic, LocalApic
from emu.devices.i8259 import Pics
from emu.devices.native import ffi, lib

ID, VERSION, TPR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
TIMER, LINT0, INITIAL, CURRENT, DIVIDE = 0x320, 0x350, 0x380, 0x390, 0x3E0
MASKED, LEVEL = 1 << 16, 1 << 15
ILLEGAL = 0x40


class Vcpu:
    """What stands at the CPU: the vector it is offered, what else it is told, who hears that it took it."""

    def __init__(self) -> None:
        self.offer = 0
        self.told = []
        self._input = core_ffi.callback("void(void *, uint32_t, int)", self._hear)

    def _hear(self, opaque, number, level) -> None:
        if number == lib.EMU_APIC_INTR:
            self.offer = level
        else:
            self.told.append((number, level))

    def input(self):
        return self._input, core_ffi.NULL

    def accepted(self, function, opaque):
        """The test calls it itself."""


class Cpu:
    """A CPU with a local APIC that is enabled, and the I/O APIC; `beside` another one of the same machine."""

    def __init__(self, cpus=1, beside=None) -> None:
        self.vcpu = Vcpu()
        self.number = 0 if beside is None else beside.number + 1
        self.apic = LocalApic(cpus) if beside is None else beside.apic
        self.io = IoApic(self.apic)
        self.apic.connect_cpu(self)
        self[SVR] = 0x1FF

    def __getitem__(self, at):
        value = ffi.new("uint64_t *")
        core.emu_cpu_enter(self.number)
        lib.emu_apic_read_local(self.apic.pointer, at, 4, value)
        core.emu_cpu_enter(0)
        return value[0]

    def __setitem__(self, at, value):
        core.emu_cpu_enter(self.number)
        lib.emu_apic_write_local(self.apic.pointer, at, 4, value)
        core.emu_cpu_enter(0)

    def bits(self, at):
        """The vectors of ISR, TMR or IRR."""
        return [n for n in range(256) if self[at + (n // 32) * 16] >> n % 32 & 1]

    def take(self):
        """The CPU takes what it is offered; the vector."""
        vector = self.vcpu.offer - 1
        assert vector >= 0
        lib.emu_apic_accepted(self.apic.pointer, self.number, vector)
        return vector

    def route(self, number, low, destination=0):
        for at, value in ((0x11 + 2 * number, destination << 24), (0x10 + 2 * number, low)):
            lib.emu_apic_write_io(self.apic.pointer, 0, 4, at)
            lib.emu_apic_write_io(self.apic.pointer, 0x10, 4, value)

    def routed(self, number):
        value = ffi.new("uint64_t *")
        lib.emu_apic_write_io(self.apic.pointer, 0, 4, 0x10 + 2 * number)
        lib.emu_apic_read_io(self.apic.pointer, 0x10, 4, value)
        return value[0]

    def send(self, vector, mode=0, shorthand=1):
        self[ICR] = shorthand << 18 | mode << 8 | vector


@pytest.fixture
def cpu():
    made = Cpu()
    yield made
    made.apic.close()


def test_after_reset_it_is_disabled_and_lets_the_older_controllers_through(cpu):
    lib.emu_apic_reset(cpu.apic.pointer)
    assert (cpu[ID], cpu[VERSION] & 0xFF, cpu[SVR], cpu[DFR]) == (0, 0x14, 0xFF, 0xFFFF_FFFF)
    assert (cpu[TIMER], cpu[LINT0]) == (MASKED, 0x700)
    cpu.send(0x50)
    assert (cpu.vcpu.offer, cpu.bits(IRR)) == (0, [])
    cpu.apic.external(0x21)
    assert cpu.vcpu.offer == (0x20 | 0x100) + 1


def test_the_highest_vector_is_offered_and_served_until_its_end(cpu):
    cpu.send(0x41)
    cpu.send(0x95)
    assert cpu.bits(IRR) == [0x41, 0x95]
    assert cpu.take() == 0x95
    assert (cpu.bits(ISR), cpu.bits(IRR), cpu[PPR]) == ([0x95], [0x41], 0x90)
    assert cpu.vcpu.offer == 0
    cpu.send(0x9F)  # of the same class: it waits
    assert cpu.vcpu.offer == 0
    cpu.send(0xA0)
    assert cpu.take() == 0xA0
    cpu[EOI] = 0
    assert cpu.bits(ISR) == [0x95]
    cpu[EOI] = 0
    assert cpu.take() == 0x9F


def test_the_task_priority_holds_back_its_class_and_those_below(cpu):
    cpu[TPR] = 0x50
    cpu.send(0x5F)
    assert cpu.vcpu.offer == 0
    cpu.send(0x60)
    assert cpu.take() == 0x60
    cpu[EOI] = 0
    assert cpu.vcpu.offer == 0
    cpu[TPR] = 0x40
    assert cpu.take() == 0x5F


def test_a_level_is_delivered_again_after_its_end_as_long_as_it_stands(cpu):
    cpu.route(16, LEVEL | 0x71)
    line = cpu.io.line(16)
    line.set(1)
    assert cpu.take() == 0x71
    assert cpu.bits(TMR) == [0x71]
    assert cpu.routed(16) >> 14 & 1
    cpu[EOI] = 0
    assert cpu.take() == 0x71
    line.set(0)
    cpu[EOI] = 0
    assert cpu.vcpu.offer == 0
    assert not cpu.routed(16) >> 14 & 1


def test_an_edge_is_delivered_once_also_when_it_came_while_masked(cpu):
    cpu.route(4, MASKED | 0x34)
    cpu.io.line(4).pulse()
    assert cpu.vcpu.offer == 0
    cpu.route(4, 0x34)
    assert cpu.take() == 0x34
    cpu[EOI] = 0
    assert cpu.vcpu.offer == 0


def test_destinations_are_physical_or_logical(cpu):
    cpu[LDR] = 0x02 << 24
    for destination, logical, comes in (
        (0, 0, True),
        (3, 0, False),
        (0xFF, 0, True),
        (2, 1, True),
        (4, 1, False),
    ):
        cpu.route(5, logical << 11 | 0x60, destination)
        cpu.io.line(5).pulse()
        assert bool(cpu.vcpu.offer) == comes
        if comes:
            cpu.take()
            cpu[EOI] = 0


def test_a_message_is_an_interrupt(cpu):
    lib.emu_apic_message(cpu.apic.pointer, 0, 0xFEE0_0000, 0x4055)
    assert cpu.take() == 0x55
    cpu[EOI] = 0
    lib.emu_apic_message(cpu.apic.pointer, 0, 0xFEE0_5000, 0x4055)  # somebody else's
    lib.emu_apic_message(cpu.apic.pointer, 0, 0x1000, 0x4055)
    assert cpu.vcpu.offer == 0


def test_vectors_below_16_are_an_error_that_is_told(cpu):
    cpu.send(5)
    assert cpu[ESR] == 0
    cpu[ESR] = 0
    assert cpu[ESR] & ILLEGAL
    cpu[ESR] = 0
    assert cpu[ESR] == 0


@pytest.mark.parametrize("periodic", [False, True])
def test_the_timer_counts_down_and_interrupts(cpu, periodic):
    cpu[DIVIDE] = 0xB
    cpu[TIMER] = periodic << 17 | 0xEC
    cpu[INITIAL] = lib.EMU_APIC_HZ // 100
    assert 0 < cpu[CURRENT] <= cpu[INITIAL]
    for _ in range(3 if periodic else 1):
        end = time.monotonic() + 30
        while not cpu.vcpu.offer and time.monotonic() < end:
            time.sleep(0.001)
        assert cpu.take() == 0xEC
        cpu[EOI] = 0
    if not periodic:
        assert cpu[CURRENT] == 0
    cpu[INITIAL] = 0
    assert cpu[CURRENT] == 0


def test_a_disabled_apic_masks_its_own_and_lets_the_older_ones_through(cpu):
    cpu[LINT0] = MASKED
    cpu.apic.external(0x31)
    assert cpu.vcpu.offer == 0
    cpu[SVR] = 0xFF
    assert cpu[TIMER] & MASKED
    assert cpu.take() == 0x130


def test_the_8259s_stand_behind_lint0_and_hear_that_their_vector_was_taken(cpu):
    pics = Pics()
    pics.connect_apic(cpu.apic)
    for chip, base in ((pics.master, 0x20), (pics.slave, 0x28)):
        chip.write_COMMAND(0x11)
        for value in (base, 4 if chip is pics.master else 2, 1, 0):
            chip.write_DATA(value)
    cpu[LINT0] = 0x700
    pics.line(3).set(1)
    assert cpu.take() & 0xFF == 0x23
    assert pics.master.isr == 1 << 3
    cpu.send(0x80)  # its own come first
    assert cpu.take() == 0x80


def test_each_cpu_has_its_own_registers_and_interrupts_find_theirs():
    first = Cpu(cpus=3)
    second = Cpu(beside=first)
    third = Cpu(beside=second)
    assert [cpu[ID] >> 24 for cpu in (first, second, third)] == [0, 1, 2]
    first[ICR_HIGH] = 2 << 24
    first.send(0x70, shorthand=0)
    assert [cpu.vcpu.offer for cpu in (first, second, third)] == [0, 0, 0x71]
    assert third.take() == 0x70
    third.send(0x71, shorthand=3)  # all but itself
    assert [cpu.vcpu.offer for cpu in (first, second, third)] == [0x72, 0x72, 0]
    second.take()
    third[EOI] = second[EOI] = 0
    second.route(4, 1 << 8 | 0x90, 0xFF)  # the lowest priority; the first has one of 7 waiting alone
    first.take()
    third[TPR] = 0x80
    second.io.line(4).pulse()
    assert second.take() == 0x90
    first.apic.close()


def test_init_resets_the_local_apic_and_starts_come_with_their_vector():
    first = Cpu(cpus=2)
    second = Cpu(beside=first)
    second.vcpu.told.clear()
    second.send(0x55)
    first[ICR_HIGH] = 1 << 24
    first[ICR] = 0xC500  # INIT, asserted
    assert (second.vcpu.offer, second[SVR], second[ID]) == (0, 0xFF, 1 << 24)
    first[ICR] = 0x8500  # de-asserted: nothing
    first[ICR] = 0x0609  # start-up
    heard = [told for told in second.vcpu.told if told[0] != lib.EMU_APIC_PRIORITY]
    assert heard == [(lib.EMU_APIC_INIT, 1), (lib.EMU_APIC_START, 9)]
    first.apic.close()


def test_cr8_and_the_task_priority_are_one(cpu):
    cpu[TPR] = 0x35
    assert cpu.vcpu.told[-1] == (lib.EMU_APIC_PRIORITY, 0x35)
    lib.emu_apic_prioritized(cpu.apic.pointer, 0, 3)
    assert cpu[TPR] == 0x35  # CR8 says no more of it than this
    lib.emu_apic_prioritized(cpu.apic.pointer, 0, 9)
    assert cpu[TPR] == 0x90
    cpu.send(0x95)
    assert cpu.vcpu.offer == 0
    lib.emu_apic_prioritized(cpu.apic.pointer, 0, 2)
    assert cpu.take() == 0x95


def test_switched_off_by_its_base_register_it_is_gone_and_comes_back_as_after_reset(cpu):
    cpu.send(0x66)
    lib.emu_apic_enabled(cpu.apic.pointer, 0, 0)
    assert (cpu.vcpu.offer, cpu[SVR], cpu[VERSION]) == (0, 0, 0)
    cpu.apic.external(0x21)
    assert cpu.take() == 0x120
    lib.emu_apic_message(cpu.apic.pointer, 0, 0xFEE0_0000, 0x4055)
    lib.emu_apic_enabled(cpu.apic.pointer, 0, 1)
    assert (cpu[SVR], cpu.bits(IRR)) == (0xFF, [])


def test_the_state_is_kept_and_goes_on_elsewhere(cpu):
    cpu.route(7, LEVEL | 0x44)
    cpu.io.line(7).set(1)
    cpu.take()
    cpu.send(0x91)
    cpu[INITIAL] = 0xFFFF_FFFF
    other = Cpu()
    other.apic.contents = cpu.apic.contents
    assert (other.bits(ISR), other.bits(IRR)) == ([0x44], [0x91])
    assert 0xF000_0000 < other[CURRENT] <= 0xFFFF_FFFF
    assert other.take() == 0x91
    assert other.routed(7) == cpu.routed(7)
    other.apic.close()


def test_inputs_are_24(cpu):
    with pytest.raises(Exception, match="lines 0 to 23"):
        cpu.io.line(INPUTS)
