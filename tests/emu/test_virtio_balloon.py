"""The memory balloon (virtio 1.2, section 5.5): pages go back to the host, statistics come from the guest."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator

import pytest

from emu.virtio.balloon import VirtioBalloon
from emu.virtio.mmio import VirtioMmio
from tests.emu.conftest import BASE, Bench
from tests.emu.virtio_driver import EVENT_IDX, RAM, RAM_SIZE, WRITE, Driver

STATS_VQ, DEFLATE_ON_OOM, PAGE_POISON, REPORTING = 1 << 1, 1 << 2, 1 << 4, 1 << 5
PAGE = 4096


class Guest:
    """A balloon, its driver, and the RAM it takes from."""

    def __init__(self, bench: Bench) -> None:
        self.ram = bench.space.add_ram("ram", RAM, RAM_SIZE)
        self.balloon = VirtioBalloon()
        self.transport = bench.attach(VirtioMmio(self.balloon))
        self.driver = Driver(bench.space, BASE, bench.irq)

    def held(self) -> int:
        """Bytes of the RAM's memfd that the host keeps."""
        return os.fstat(self.ram.fd).st_blocks * 512


@pytest.fixture
def guest(bench: Bench) -> Iterator[Guest]:
    made = Guest(bench)
    yield made
    made.balloon.close()


def test_inflated_pages_are_the_hosts_again(guest: Guest) -> None:
    driver = guest.driver
    queues = driver.start(STATS_VQ | EVENT_IDX, queues=3)
    pages = driver.memory(PAGE)
    first = driver.memory(64 * PAGE)
    driver.space.load(first, b"\xaa" * (64 * PAGE))
    numbers = [(first >> 12) + n for n in (9, 8, 7, 20, 21, 63, 0)]
    # Among them some that are nothing's: they are passed over.
    driver.space.load(pages, struct.pack("<10I", *numbers, 0, 0xFFFF_FFFF, (RAM + RAM_SIZE) >> 12))
    before = guest.held()
    queues[0].put([(pages, 16, 0), (pages + 16, 24, 0)])
    queues[0].kick()
    queues[0].wait()
    assert before - guest.held() == 7 * PAGE
    assert guest.balloon.freed == 7 * PAGE
    for number in range(64):
        wanted = 0 if (first >> 12) + number in numbers else 0xAA
        assert driver.space.peek(first + number * PAGE, PAGE) == bytes([wanted]) * PAGE
    queues[1].put([(pages, 28, 0)])
    queues[1].kick()
    queues[1].wait()


def test_the_target_is_told_and_what_was_given_is_counted(guest: Guest) -> None:
    guest.driver.start(0, queues=2)
    guest.balloon.target = 5 << 20
    assert guest.driver.config(0, 4) == (5 << 20) // PAGE
    assert guest.driver.read(0x60) == 2
    guest.driver.write(0x104, 77)
    guest.driver.write(0x100, 1)
    assert (guest.balloon.actual, guest.balloon.target) == (77 * PAGE, 5 << 20)
    guest.driver.write(0x70, 0)
    assert (guest.balloon.actual, guest.balloon.target) == (0, 5 << 20)


def test_statistics_are_asked_for_and_unknown_tags_passed_over(guest: Guest) -> None:
    driver = guest.driver
    queue = driver.start(STATS_VQ, queues=3)[2]
    buffer = driver.memory(PAGE)

    def send(*stats: tuple[int, int]) -> None:
        data = b"".join(struct.pack("<HQ", *stat) for stat in stats)
        driver.space.load(buffer, data)
        queue.put([(buffer, len(data), 0)])
        queue.kick()

    started = int(time.time())
    assert guest.balloon.stats == {"last-update": 0}
    send((0, 1), (5, 2**40), (0xFFFF, 3), (15, 9), (16, 4))
    driver.until(lambda: guest.balloon.stats["last-update"])
    assert queue.get() is None
    guest.balloon.poll(1000)
    queue.wait()
    send((5, 7), (9, 8))
    driver.until(lambda: "stat-htlb-pgfail" in guest.balloon.stats)
    stats = guest.balloon.stats
    assert started <= stats.pop("last-update") <= time.time()
    assert stats == {"stat-swap-in": 1, "stat-total-memory": 7, "stat-htlb-pgfail": 8}


@pytest.mark.parametrize("poison", [0, 0xAAAA_AAAA])
@pytest.mark.parametrize("number", [3, 4])
def test_reported_pages_are_the_hosts_unless_the_guest_fills_them(guest: Guest, poison, number) -> None:
    driver = guest.driver
    queues = driver.start(STATS_VQ | REPORTING | PAGE_POISON, queues=5)
    driver.write(0x10C, poison)
    first = driver.memory(64 * PAGE)
    driver.space.load(first, b"\xaa" * (64 * PAGE))
    before = guest.held()
    queues[number].put([(first, 32 * PAGE, WRITE), (first + 40 * PAGE + 1, 2 * PAGE, WRITE)])
    queues[number].kick()
    assert queues[number].wait()[1] == 0
    assert before - guest.held() == (0 if poison else 33 * PAGE)


def test_a_restored_balloon_still_has_the_buffer_for_statistics(guest: Guest) -> None:
    driver = guest.driver
    queue = driver.start(STATS_VQ, queues=3)[2]
    buffer = driver.memory(PAGE)
    driver.space.load(buffer, struct.pack("<HQ", 4, 1234))
    queue.put([(buffer, 10, 0)])
    queue.kick()
    driver.until(lambda: guest.balloon.stats["last-update"])
    saved = guest.transport.save()
    guest.transport.power_on()
    guest.transport.load(saved)
    assert guest.balloon.stats["stat-free-memory"] == 1234
    guest.balloon.poll(1)
    queue.wait()
