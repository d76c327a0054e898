"""The ITS and LPIs of a GICv3 (IHI 0069H, chapter 5): commands, tables in RAM, messages that arrive.

QEMU's is asked the same: which LPIs are pending after random commands.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from accel.memory import AddressSpace
from emu.devices.gic_its import GicIts
from emu.devices.gicv3 import Gicv3, Gicv3Redistributors
from emu.devices.native import ffi, lib
from tests.emu.conftest import Bench
from tests.emu.qtest import Qtest
from tests.emu.test_devices import Cpu

RAM, RAM_SIZE = 0x4000_0000, 0x100_0000
ITS, REDISTRIBUTORS, DISTRIBUTOR = 0x0808_0000, 0x080A_0000, 0x0800_0000
QUEUE, DEVICES, COLLECTIONS, ITT, CONFIGURATION, PENDING = (RAM + n * 0x10_0000 for n in range(1, 7))
TRANSLATER = ITS + 0x1_0040
VALID = 1 << 63
MOVI, INT, CLEAR, SYNC, MAPD, MAPC, MAPTI, MAPI, INV, INVALL, MOVALL, DISCARD = (
    *(1, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15),
)
FIRST, BITS = 8192, 14
NONE = 1023


class Its:
    """An ITS and two CPUs' redistributors through reads and writes of memory, whosesoever they are."""

    def __init__(self, read: Any, write: Any, *, indirect: bool = False) -> None:
        self.read, self.write = read, write
        self.at = 0
        write(ITS + 0x80, VALID | QUEUE | 15, 8)
        write(ITS + 0x100, VALID | DEVICES | 7 | (1 << 62 if indirect else 0), 8)
        write(ITS + 0x108, VALID | COLLECTIONS | 3, 8)
        if indirect:
            write(DEVICES, VALID | (DEVICES + 0x8000), 8)
        for cpu in range(2):
            base = REDISTRIBUTORS + cpu * 0x2_0000
            write(base + 0x70, CONFIGURATION | BITS - 1, 8)
            write(base + 0x78, 1 << 62 | (PENDING + cpu * 0x1_0000), 8)
            write(base, 1, 4)
        write(ITS, 1, 4)

    def command(self, kind: int, device: int = 0, low: int = 0, high: int = 0, more: int = 0, last: int = 0):
        """Puts one into the queue: the first word's kind and device, the second's halves, the others."""
        for n, word in enumerate((kind | device << 32, low | high << 32, more, last)):
            self.write(QUEUE + self.at + 8 * n, word, 8)
        self.at = (self.at + 32) % 0x1_0000
        self.write(ITS + 0x88, self.at, 8)
        assert self.read(ITS + 0x90, 8) == self.at

    def device(self, device: int, bits: int, table: int, valid: bool = True) -> None:
        self.command(MAPD, device, bits - 1, 0, (VALID if valid else 0) | table)

    def collection(self, number: int, cpu: int, valid: bool = True) -> None:
        self.command(MAPC, 0, 0, 0, (VALID if valid else 0) | cpu << 16 | number)

    def event(self, device: int, event: int, lpi: int, collection: int) -> None:
        self.command(MAPTI, device, event, lpi, collection)


class Guest(Its):
    """Ours, with the CPUs' interfaces."""

    def __init__(self, bench: Bench, **options: bool) -> None:
        self.space: AddressSpace = bench.space
        if "ram" not in [piece.region.name for piece in self.space.flat()]:
            self.space.add_ram("ram", RAM, RAM_SIZE)
        self.gic = Gicv3(cpus=2)
        self.cpus = [Connected(), Connected()]
        for cpu in self.cpus:
            self.gic.connect_cpu(cpu)
        self.its = GicIts(self.gic, ITS)
        bench.bus.attach("gic", self.gic, DISTRIBUTOR)
        bench.bus.attach("redistributors", Gicv3Redistributors(self.gic, 2), REDISTRIBUTORS)
        bench.bus.attach("its", self.its, ITS)
        self.gic.power_on()
        self.its.power_on()
        self.space.write(DISTRIBUTOR, 4, 3)
        for cpu in range(2):
            self.system(cpu, 4, 6, 0, 0xF8)
            self.system(cpu, 12, 12, 7, 1)
        super().__init__(
            self.space.read,
            lambda address, value, width=4: self.space.write(address, width, value),
            **options,
        )

    def system(self, cpu: int, crn: int, crm: int, op2: int, value: int | None = None) -> int:
        code = 3 << 14 | crn << 7 | crm << 3 | op2
        if value is not None:
            lib.emu_gic_write_system(self.gic._interfaces[cpu], code, value)
            return 0
        out = ffi.new("uint64_t *")
        lib.emu_gic_read_system(self.gic._interfaces[cpu], code, out)
        return int(out[0])

    def take(self, cpu: int = 0) -> int:
        """Acknowledges an interrupt and ends it."""
        number = self.system(cpu, 12, 12, 0)
        if number != NONE:
            self.system(cpu, 12, 12, 1, number)
        return number

    def message(self, device: int, event: int, address: int = TRANSLATER) -> None:
        lib.emu_gic_its_message(self.its.msi[1], device, address, event)

    def configure(self, lpi: int, priority: int, enabled: bool = True) -> None:
        self.space.load(CONFIGURATION + lpi - FIRST, bytes([priority | enabled]))

    def pending(self, cpu: int) -> set[int]:
        words = struct.unpack_from("<1024Q", self.its.lpis[cpu], 24)
        return {64 * n + bit for n, word in enumerate(words) for bit in range(64) if word >> bit & 1}


class Connected(Cpu):
    def __init__(self) -> None:
        super().__init__()
        self.inputs = {0: 0, 1: 0}

    def system_registers(self, read: Any, write: Any, opaque: Any) -> None:
        """The engine's part; the test calls the functions itself."""


@pytest.fixture(params=[False, True], ids=["flat", "indirect"])
def guest(bench: Bench, request: pytest.FixtureRequest) -> Guest:
    """A device 8 with two events, the first of CPU 0, the second of CPU 1."""
    made = Guest(bench, indirect=request.param)
    made.device(8, 4, ITT)
    for cpu in range(2):
        made.collection(cpu, cpu)
        made.event(8, cpu, FIRST + 1 + cpu, cpu)
        made.configure(FIRST + 1 + cpu, 0xA0)
    return made


def test_a_message_is_an_interrupt_of_the_cpu_that_its_collection_names(guest: Guest) -> None:
    for cpu in (1, 0, 1):
        guest.message(8, cpu)
        assert [one.inputs[0] for one in guest.cpus] == [int(n == cpu) for n in range(2)]
        assert guest.take(1 - cpu) == NONE
        assert guest.take(cpu) == FIRST + 1 + cpu
        assert guest.take(cpu) == NONE
        assert [one.inputs[0] for one in guest.cpus] == [0, 0]


@pytest.mark.parametrize(
    "message", [(9, 0), (8, 2), (8, 16), (8, 2**32 - 1), (1 << 16, 0), (8, 0, TRANSLATER + 4)]
)
def test_messages_that_lead_nowhere_are_dropped(guest: Guest, message: tuple[int, ...]) -> None:
    guest.message(*message)
    assert guest.pending(0) | guest.pending(1) == set()


def test_nothing_is_pending_after_a_reset(guest: Guest) -> None:
    guest.message(8, 0)
    guest.gic.power_on()
    guest.space.write(DISTRIBUTOR, 4, 3)
    for group in (6, 7):
        guest.system(0, 12, 12, group, 1)
    guest.system(0, 4, 6, 0, 0xF8)
    assert guest.cpus[0].inputs == {0: 0, 1: 0}
    assert (guest.system(0, 12, 8, 2), guest.system(0, 12, 12, 2)) == (NONE, NONE)


def test_a_cpus_own_write_is_no_message(guest: Guest) -> None:
    guest.space.write(TRANSLATER, 4, 0)
    assert guest.pending(0) == set()


def test_the_highest_priority_comes_first_and_an_invalidation_tells_of_changes(guest: Guest) -> None:
    for event, priority in ((4, 0x80), (5, 0x40), (6, 0xC0)):
        guest.event(8, event, FIRST + 100 + event, 0)
        guest.configure(FIRST + 100 + event, priority)
        guest.message(8, event)
    guest.configure(FIRST + 106, 0x20)
    guest.command(INV, 8, 6)
    guest.configure(FIRST + 105, 0x40, enabled=False)
    guest.command(INVALL, more=0)
    assert [guest.take() for _ in range(3)] == [FIRST + 106, FIRST + 104, NONE]
    guest.configure(FIRST + 105, 0x40)
    guest.command(INV, 8, 5)
    assert guest.cpus[0].inputs[0] == 1
    assert guest.take() == FIRST + 105


def test_an_lpi_waits_while_another_of_its_priority_runs_and_is_never_active(guest: Guest) -> None:
    guest.message(8, 0)
    number = guest.system(0, 12, 12, 0)
    guest.message(8, 0)
    assert guest.cpus[0].inputs[0] == 0
    assert guest.system(0, 12, 11, 3) == 0xA0
    guest.system(0, 12, 12, 1, number)
    assert guest.cpus[0].inputs[0] == 1
    assert guest.take() == number


def test_events_move_are_cleared_and_discarded(guest: Guest) -> None:
    guest.command(INT, 8, 0)
    assert guest.pending(0) == {FIRST + 1}
    guest.command(MOVI, 8, 0, 0, 1)
    assert (guest.pending(0), guest.pending(1)) == (set(), {FIRST + 1})
    guest.command(INT, 8, 1)
    guest.command(MOVALL, more=1 << 16, last=0)
    assert (guest.pending(0), guest.pending(1)) == ({FIRST + 1, FIRST + 2}, set())
    guest.message(8, 0)
    assert guest.pending(1) == {FIRST + 1}
    guest.command(CLEAR, 8, 0)
    assert guest.pending(1) == set()
    guest.message(8, 0)
    guest.command(DISCARD, 8, 0)
    guest.message(8, 0)
    assert guest.pending(1) == set()
    guest.device(8, 4, ITT, valid=False)
    guest.message(8, 1)
    guest.device(8, 4, ITT)
    guest.collection(1, 1, valid=False)
    guest.message(8, 1)
    assert guest.pending(1) == set()


def test_pending_lpis_are_in_ram_while_they_are_switched_off(guest: Guest) -> None:
    guest.message(8, 0)
    guest.write(REDISTRIBUTORS, 0, 4)
    assert guest.space.peek(PENDING + 1024, 1) == b"\x02"
    guest.message(8, 0)
    assert guest.take() == NONE
    guest.write(REDISTRIBUTORS + 0x78, PENDING, 8)
    guest.write(REDISTRIBUTORS, 1, 4)
    assert guest.take() == FIRST + 1
    assert guest.read(REDISTRIBUTORS + 0x78, 8) == PENDING


def test_what_is_in_use_does_not_change(guest: Guest) -> None:
    places = [ITS + 0x80, ITS + 0x100, ITS + 0x108, REDISTRIBUTORS + 0x70, REDISTRIBUTORS + 0x78]
    before = [guest.read(place, 8) for place in places]
    for place in places:
        guest.write(place, 0xFFFF_FFFF_FFFF_FFFF, 8)
    assert [guest.read(place, 8) for place in places] == before


def test_a_queue_outside_ram_stalls(guest: Guest) -> None:
    guest.write(ITS, 0, 4)
    guest.write(ITS + 0x80, VALID | 0x1000, 8)
    guest.write(ITS, 1, 4)
    guest.write(ITS + 0x88, 32, 8)
    assert guest.read(ITS + 0x90, 8) == 1


def test_the_state_comes_back(guest: Guest) -> None:
    guest.message(8, 0)
    guest.message(8, 1)
    saved = guest.its.save(), guest.gic.save()
    assert eval(repr(saved)) == saved
    guest.gic.power_on()
    guest.its.power_on()
    assert guest.pending(0) == set()
    guest.gic.load(saved[1])
    guest.its.load(saved[0])
    assert (guest.its.save(), guest.gic.save()) == saved
    assert (guest.take(0), guest.take(1)) == (FIRST + 1, FIRST + 2)
    guest.message(8, 0)
    assert guest.take() == FIRST + 1


@pytest.mark.parametrize("seed", range(3))
def test_a_hostile_guest_takes_nothing_down(bench: Bench, seed: int) -> None:
    """Any commands, any tables anywhere, any registers at every width."""
    rng = random.Random(seed)
    guest = Guest(bench)
    places = (
        QUEUE,
        DEVICES,
        COLLECTIONS,
        ITT,
        CONFIGURATION,
        PENDING,
        RAM + RAM_SIZE - 0x1000,
        0,
        ITS,
        1 << 51,
    )

    def number() -> int:
        return rng.choice((0, 1, 8, 0xFFFF, rng.getrandbits(16), rng.getrandbits(32)))

    for _ in range(4000):
        where = rng.random()
        if where < 0.5:
            words = rng.choice((0, VALID)) | rng.choice(places) | number() << rng.choice((0, 16))
            words |= rng.choice((0, 1 << 62, 0x300))
            for n, word in enumerate(
                (rng.randrange(17) | number() << 32, number() | number() << 32, words, words)
            ):
                guest.space.load(QUEUE + guest.at + 8 * n, struct.pack("<Q", word & 2**64 - 1))
            guest.at = (guest.at + 32) % 0x1_0000
            guest.write(ITS + 0x88, guest.at | rng.choice((0, 0, 1)), 8)
        elif where < 0.7:
            guest.message(number(), number())
        elif where < 0.75:
            guest.space.load(rng.choice(places[:6]) + rng.randrange(0x2000), rng.randbytes(64))
        elif where < 0.85:
            guest.take(rng.randrange(2))
        else:
            base = rng.choice((ITS, ITS, ITS + 0x1_0000, REDISTRIBUTORS, REDISTRIBUTORS + 0x2_0000))
            at = (
                base + rng.choice((0, 8, 0x70, 0x78, 0x80, 0x88, 0x90, 0x100, 0x108, 0x40)) + rng.randrange(8)
            )
            value = rng.choice((0, 1, rng.getrandbits(64), VALID | rng.choice(places) | rng.getrandbits(10)))
            width = rng.choice((1, 2, 4, 8))
            guest.write(at, value & (1 << 8 * width) - 1, width)
            assert 0 <= guest.read(at, width) < 1 << 8 * width
    saved = guest.its.save()
    guest.its.load(saved)


# -- QEMU's -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_random_commands_leave_the_same_pending_as_qemus(bench: Bench, seed: int) -> None:
    qemu = Qtest("aarch64", "-M", "virt,gic-version=3", "-smp", "2", "-m", "32")
    rng = random.Random(seed)
    try:
        ours, theirs = Guest(bench), Its(qemu.read, qemu.write)

        def both(what: str, *words: Any) -> None:
            for its in (ours, theirs):
                getattr(its, what)(*words)

        for n in range(4):
            both("collection", n, n % 2)
            both("device", n, 3, ITT + n * 0x1000)
        for _ in range(150):
            kind = rng.choice(
                (MAPTI, MAPTI, MAPI, MOVI, INT, INT, INT, CLEAR, DISCARD, MOVALL, MAPD, MAPC, SYNC)
            )
            device, event = rng.randrange(5), rng.choice((*range(8), 8, FIRST + 3))
            collection = rng.choice((0, 1, 2, 3, 3, 9))
            if kind == MAPTI:
                both(
                    "event", device, event, rng.choice((FIRST + rng.randrange(64), 5, 1 << BITS)), collection
                )
            elif kind == MOVALL:
                both("command", MOVALL, 0, 0, 0, rng.randrange(2) << 16, rng.randrange(2) << 16)
            elif kind == MAPD:
                if rng.random() < 0.2:
                    both("device", device, rng.choice((3, 14)), ITT + device * 0x2_0000, rng.random() < 0.7)
            elif kind == MAPC:
                both("collection", collection, rng.choice((0, 1, 1, 7)), rng.random() < 0.9)
            else:
                both("command", kind, device, event, 0, collection)
            pending = [
                {
                    8 * at + bit
                    for at in range(1024, 1040)
                    for bit in range(8)
                    if qemu.read(PENDING + cpu * 0x1_0000 + at, 1) >> bit & 1
                }
                for cpu in range(2)
            ]
            what = f"command {kind:#x} device {device} event {event} collection {collection}"
            assert [ours.pending(0), ours.pending(1)] == pending, what
    finally:
        qemu.close()


@pytest.mark.parametrize("seed", range(2))
def test_registers_answer_like_qemus(bench: Bench, seed: int) -> None:
    qemu = Qtest("aarch64", "-M", "virt,gic-version=3", "-smp", "2", "-m", "32")
    rng = random.Random(seed)
    guest = Guest(bench)
    guest.gic.power_on()
    guest.its.power_on()
    # Not the size of an event's entry, the bits of a collection's number, nor who shares tables.
    # QEMU keeps bits that are none.
    known = {ITS + 8: 0xFFFF_FF0F, ITS + 12: 0, ITS + 0x80: 0xB8EF_FFFF_FFFF_FCFF, ITS + 0x84: 0xB8EF_FFFF}
    for cpu in range(2):
        base = REDISTRIBUTORS + cpu * 0x2_0000
        for at, bits in (
            (8, 0xFFFF_FFFF_FCFF_FFFF),
            (0x70, 0x070F_FFFF_FFFF_FF9F),
            (0x78, 0x070F_FFFF_FFFF_0F80),
        ):
            known |= {base + at: bits, base + at + 4: bits >> 32}
    places = [ITS + at for at in (0, 8, 0x80, 0x90, 0x100, 0x108, 0x110, 0x138, 0xFFE8)]
    places += [REDISTRIBUTORS + cpu * 0x2_0000 + at for cpu in range(2) for at in (0, 8, 0x70, 0x78)]
    try:
        for _ in range(300):
            place = rng.choice(places)
            width = rng.choice((4, 8)) if place & 0xFFF not in (0, 0xFE8) else 4
            place += 4 * (width == 4 and place & 0xFFF not in (0, 0xFE8) and rng.random() < 0.5)
            if rng.random() < 0.5:
                mask = known.get(place, (1 << 8 * width) - 1)
                theirs, ours = qemu.read(place, width) & mask, guest.read(place, width) & mask
                assert theirs == ours, f"{place:#x} of {width}: QEMU {theirs:#x}, ours {ours:#x}"
            elif place & 0xFFFF and place & 0xFFF8 != 0x90:  # GITS_CREADR is read-only
                value = rng.getrandbits(8 * width)
                qemu.write(place, value, width)
                guest.write(place, value, width)
    finally:
        qemu.close()
