"""The block device, request by request, as virtio 1.2, section 5.2 says."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import emu.block
from emu.virtio.blk import VirtioBlk
from emu.virtio.mmio import VirtioMmio
from tests.emu.conftest import BASE, Bench
from tests.emu.virtio_driver import NEEDS_RESET, RAM, RAM_SIZE, WRITE, Driver, Queue

SIZE = 1 << 20
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2
F_RO, F_FLUSH, F_CONFIG_WCE, F_DISCARD, F_WRITE_ZEROES = 1 << 5, 1 << 9, 1 << 11, 1 << 13, 1 << 14


class Disk:
    """A driver of one disk."""

    def __init__(self, driver: Driver, features: int) -> None:
        self.driver = driver
        self.queue: Queue
        (self.queue,) = driver.start(features)
        self.header = driver.memory(4096)
        self.data = driver.memory(0x10000)

    def request(self, kind: int, sector: int, out: bytes = b"", room: int = 0) -> tuple[int, bytes]:
        """Does one request; returns its status and what was read."""
        space = self.driver.space
        space.load(self.header, struct.pack("<IIQB", kind, 0, sector, 0xFF))
        space.load(self.data, out)
        descs = [(self.header, 16, 0)]
        if out:
            descs.append((self.data, len(out), 0))
        if room:
            descs += [(self.data, room // 2, WRITE), (self.data + room // 2, room - room // 2, WRITE)]
        descs.append((self.header + 16, 1, WRITE))
        head = self.queue.put(descs)
        self.queue.kick()
        assert self.queue.wait() == (head, room + 1)
        return space.peek(self.header + 16, 1)[0], space.peek(self.data, room)


class Disks:
    """Attaches a disk of random bytes to the bench: disk(features, ...) is its driver."""

    def __init__(self, bench: Bench, path: Path) -> None:
        self.bench = bench
        self.path = path
        self.devices: list[VirtioBlk] = []
        path.write_bytes(os.urandom(SIZE))
        bench.space.add_ram("ram", RAM, RAM_SIZE)

    def __call__(
        self, features: int = F_FLUSH | F_DISCARD | F_WRITE_ZEROES, *, serial: str = "", **options: Any
    ) -> Disk:
        image = emu.block.open(self.path, format="raw", **options)
        self.devices.append(VirtioBlk(image, serial=serial))
        self.bench.attach(VirtioMmio(self.devices[-1]))
        return Disk(Driver(self.bench.space, BASE, self.bench.irq), features)


@pytest.fixture
def disk(bench: Bench, tmp_path: Path) -> Iterator[Disks]:
    disks = Disks(bench, tmp_path / "disk")
    yield disks
    for device in disks.devices:
        device.close()


def test_capacity_and_limits_are_in_the_configuration(disk) -> None:
    driver = disk().driver
    assert driver.config(0, 4) | driver.config(4, 4) << 32 == SIZE // 512
    assert driver.config(12, 4) == 254
    assert driver.config(20, 4) == 512
    assert driver.config(32, 1) == 1
    assert driver.config(34, 2) == 1


def test_sectors_are_read_and_written_in_the_image(disk) -> None:
    made = disk()
    before = disk.path.read_bytes()
    for sector, count in ((0, 1), (5, 8), (SIZE // 512 - 16, 16)):
        status, data = made.request(IN, sector, room=512 * count)
        assert (status, data) == (OK, before[512 * sector : 512 * (sector + count)])
    new = os.urandom(4096)
    assert made.request(OUT, 3, new)[0] == OK
    assert made.request(FLUSH, 0)[0] == OK
    assert disk.path.read_bytes() == before[:1536] + new + before[1536 + 4096 :]


@pytest.mark.parametrize(
    ("kind", "sector", "size"),
    [
        (IN, SIZE // 512, 512),
        (IN, SIZE // 512 - 1, 1024),
        (IN, 0, 513),
        (IN, 2**64 - 1, 512),
        (IN, 2**55, 512),
        (OUT, SIZE // 512 - 1, 1024),
        (OUT, 2**64 - 2, 1024),
        (OUT, 0, 100),
    ],
)
def test_what_lies_outside_the_disk_is_an_error(disk, kind, sector, size) -> None:
    made = disk()
    before = disk.path.read_bytes()
    out, room = (b"\xaa" * size, 0) if kind == OUT else (b"", size)
    assert made.request(kind, sector, out, room)[0] == IOERR
    assert disk.path.read_bytes() == before


def test_the_serial_number_is_what_was_given(disk) -> None:
    assert disk(serial="disk-0815").request(GET_ID, 0, room=20) == (OK, b"disk-0815".ljust(20, b"\0"))


def test_what_the_device_does_not_know_is_unsupported(disk) -> None:
    made = disk()
    for kind in (2, 3, 10, 99):
        assert made.request(kind, 0)[0] == UNSUPP


def test_ranges_are_zeroed_and_discarded(disk) -> None:
    made = disk(discard=True)
    before = disk.path.read_bytes()
    ranges = struct.pack("<QIIQII", 4, 8, 1, 100, 1, 0)
    assert made.request(WRITE_ZEROES, 0, ranges)[0] == OK
    after = disk.path.read_bytes()
    assert after == before[:2048] + bytes(4096) + before[6144:51200] + bytes(512) + before[51712:]
    assert made.request(DISCARD, 0, struct.pack("<QII", 8, 8, 0))[0] == OK
    assert made.request(DISCARD, 0, struct.pack("<QII", 8, 8, 1))[0] == UNSUPP
    assert made.request(WRITE_ZEROES, 0, struct.pack("<QII", 8, 8, 2))[0] == UNSUPP
    for wrong in (struct.pack("<QII", SIZE // 512, 1, 0), struct.pack("<QII", 0, 2**32 - 1, 0), b"123"):
        assert made.request(WRITE_ZEROES, 0, wrong)[0] == IOERR


def test_a_disk_that_is_read_only_says_so_and_stays_as_it_is(disk) -> None:
    made = disk(F_RO, read_only=True)
    before = disk.path.read_bytes()
    assert made.driver.offered() & (F_RO | F_DISCARD | F_WRITE_ZEROES) == F_RO
    assert made.request(OUT, 0, bytes(512))[0] == IOERR
    assert made.request(WRITE_ZEROES, 0, struct.pack("<QII", 0, 1, 0))[0] == UNSUPP
    assert disk.path.read_bytes() == before


def test_the_driver_turns_the_write_cache_off_and_a_reset_on(disk) -> None:
    made = disk(F_FLUSH | F_CONFIG_WCE)
    made.driver.write(0x120, 0, 1)
    assert made.driver.config(32, 1) == 0
    assert made.request(OUT, 0, bytes(512))[0] == OK
    made.driver.write(0x120, 5, 1)
    assert made.driver.config(32, 1) == 1
    made.driver.write(0x120, 0, 1)
    made.driver.write(0x70, 0)
    assert made.driver.config(32, 1) == 1


def test_capacity_is_not_the_drivers_to_write(disk) -> None:
    made = disk()
    made.driver.write(0x100, 1, 4)
    assert made.driver.config(0, 4) == SIZE // 512


@pytest.mark.parametrize("descs", [[(RAM, 15, 0), (RAM, 1, WRITE)], [(RAM, 16, 0)], [(RAM, 512, WRITE)]])
def test_a_request_without_header_or_status_breaks_the_device(disk, descs) -> None:
    made = disk()
    made.queue.put(descs)
    made.queue.kick()
    made.driver.until(lambda: made.driver.read(0x70) & NEEDS_RESET)
    assert "header" in disk.devices[0].fault


def test_header_and_status_may_be_cut_anywhere(disk) -> None:
    made = disk()
    space = made.driver.space
    space.load(made.header, struct.pack("<IIQ", IN, 0, 2))
    descs = [
        (made.header, 3, 0),
        (made.header + 3, 13, 0),
        (made.data, 100, WRITE),
        (made.data + 100, 413, WRITE),
    ]
    made.queue.put(descs)
    made.queue.kick()
    assert made.queue.wait()[1] == 513
    assert space.peek(made.data, 513) == disk.path.read_bytes()[1024:1536] + b"\0"


def test_a_new_size_of_the_image_is_told(disk) -> None:
    made = disk()
    disk.devices[0].image.resize(2 * SIZE)
    disk.devices[0].resized()
    made.driver.until(lambda: made.driver.read(0x60) & 2)
    assert made.driver.config(0, 4) == 2 * SIZE // 512
    assert made.request(IN, SIZE // 512, room=512) == (OK, bytes(512))
