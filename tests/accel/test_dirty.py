"""Which pages of RAM a guest and devices write: the same under every accelerator, exactly those."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from accel.api import ExitKind
from accel.errors import MapError
from accel.memory import AddressSpace
from isa.arch import find
from tests.conftest import Engine

CODE, TABLE, PAGES = 0x7000, 0x6000, 256
HIGH = 0x10_0000
# mov si,0x6000; next: lodsw; cmp ax,-1; je end; mov es,ax; inc byte es:[0x7ff]; jmp next; end: hlt; jmp start
STORES = "be0060 ad 83f8ff 7409 8ec0 26fe06ff07 ebf1 f4 ebeb"
# The same by a word that lies in two pages: inc word es:[0xfff].
ACROSS = "be0060 ad 83f8ff 7409 8ec0 26ff06ff0f ebf1 f4 ebeb"
# The same read: cmp byte es:[0x7ff],0; nop
LOADS = "be0060 ad 83f8ff 740b 8ec0 26803eff0700 90 ebef f4 ebe9"


class Guest:
    def __init__(self, accel: Engine) -> None:
        self.memory = AddressSpace()
        self.ram = self.memory.add_ram("ram", 0, PAGES * 4096)
        self.engine = accel.open(find("x86_64"), self.memory, AddressSpace("ports", 1 << 16))
        self.vcpu = self.engine.vcpu(0)

    def run(self, code: str, pages: list[int]) -> None:
        self.memory.load(CODE, bytes.fromhex(code))
        self.memory.load(TABLE, b"".join(struct.pack("<H", page << 8) for page in pages) + b"\xff\xff")
        self.vcpu.set(cs=0, cs_base=0, ds=0, ds_base=0, rip=CODE)
        assert self.vcpu.run().kind == ExitKind.HALT

    def written(self) -> set[int]:
        bits = self.engine.dirty(self.ram)
        assert len(bits) == PAGES // 8
        return {n for n in range(PAGES) if bits[n // 8] >> n % 8 & 1}


@pytest.fixture
def guest(accel: Engine) -> Iterator[Guest]:
    made = Guest(accel)
    if not made.engine.caps.dirty_log:
        pytest.skip("this library is not known well enough to tell what it writes")
    yield made
    made.engine.close()
    made.memory.close()


OWN = {CODE >> 12, TABLE >> 12}


def test_exactly_the_pages_that_a_guest_writes_are_told_each_time_anew(guest: Guest) -> None:
    random = Random(3)
    guest.run(STORES, [0x10, 0x11])
    guest.engine.track(guest.ram)
    for _ in range(20):
        pages = sorted(random.sample(range(0x10, 0xA0), random.randrange(0, 30)))
        guest.run(STORES, pages)
        assert guest.written() - OWN == set(pages)
    guest.vcpu.set(rip=CODE)
    assert guest.vcpu.run().kind == ExitKind.HALT
    assert guest.written() == set(pages)
    assert guest.written() == set()


def test_reading_is_not_writing_and_a_word_across_two_pages_is_both(guest: Guest) -> None:
    guest.engine.track(guest.ram)
    guest.written()
    guest.run(LOADS, [0x20, 0x21, 0x22])
    assert guest.written() <= OWN
    guest.run(ACROSS, [0x30, 0x40])
    assert guest.written() - OWN == {0x30, 0x31, 0x40, 0x41}


def test_code_that_writes_into_its_own_page_is_told_too(guest: Guest) -> None:
    guest.engine.track(guest.ram)
    guest.run(STORES, [7])
    guest.written()
    for _ in range(3):
        guest.vcpu.set(rip=CODE)
        assert guest.vcpu.run().kind == ExitKind.HALT
        assert guest.written() == {7}


def test_what_devices_write_is_told_as_well(guest: Guest) -> None:
    guest.engine.track(guest.ram)
    guest.memory.load(0x50FF0, bytes(0x20))
    guest.memory.write(0x60000, 4, 1)
    guest.ram.buffer[0x70000] = 1
    guest.memory.written(0x70000, 1)
    assert guest.written() == {0x50, 0x51, 0x60, 0x70}


def test_a_region_that_moves_keeps_its_notes_and_one_not_tracked_has_none(accel: Engine) -> None:
    memory = AddressSpace()
    memory.add_ram("ram", 0, 0x1_0000)
    window = memory.add_ram("window", 0x2_0000, 0x1_0000)
    other = memory.add_ram("other", 0x4_0000, 0x1_0000)
    with_ports: Any = AddressSpace("ports", 1 << 16)
    engine = accel.open(find("x86_64"), memory, with_ports)
    vcpu = engine.vcpu(0)
    engine.track(window)
    memory.load(CODE, bytes.fromhex(STORES))

    def run(*pages: int) -> None:
        memory.load(TABLE, b"".join(struct.pack("<H", page << 8) for page in pages) + b"\xff\xff")
        vcpu.set(cs=0, cs_base=0, ds=0, ds_base=0, rip=CODE)
        assert vcpu.run().kind == ExitKind.HALT

    run(0x21, 0x41)
    memory.move(window, 0x6_0000)
    run(0x62, 0x42)
    assert engine.dirty(window) == bytes([0b110, 0])
    assert engine.dirty(other) == bytes(2)
    engine.track(window, False)
    run(0x63)
    assert engine.dirty(window) == bytes(2)
    with pytest.raises(MapError, match="it is no RAM"):
        engine.track(memory.add_io("device", 0x8_0000, 16))
    engine.close()
    memory.close()
