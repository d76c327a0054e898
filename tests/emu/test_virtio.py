"""Virtio's queues and transport, driven as a guest's kernel drives them (virtio 1.2, chapters 2 to 4)."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from emu.virtio.device import VirtioDevice
from emu.virtio.mmio import VirtioMmio
from emu.virtio.rng import VirtioRng
from emu.virtio.scripted import Scripted
from tests.emu.conftest import BASE, Bench
from tests.emu.virtio_driver import (
    DRIVER_OK,
    EVENT_IDX,
    FEATURES_OK,
    INDIRECT_DESC,
    NEEDS_RESET,
    RAM,
    RAM_SIZE,
    VERSION_1,
    WRITE,
    Driver,
)

Make = Callable[..., Driver]


@pytest.fixture
def drive(bench: Bench) -> Iterator[Make]:
    """drive(device) attaches a virtio device and gives its driver."""
    made: list[VirtioMmio] = []
    bench.space.add_ram("ram", RAM, RAM_SIZE)

    def attach(device: VirtioDevice, *, legacy: bool = False) -> Driver:
        transport = VirtioMmio(device, force_legacy=legacy)
        transport.name = f"slot{len(made)}"
        bench.attach(transport, base=BASE + 0x200 * len(made))
        made.append(transport)
        return Driver(bench.space, BASE + 0x200 * (len(made) - 1), bench.irq, legacy=legacy)

    yield attach
    for transport in made:
        transport.close()


class Upper(Scripted):
    """Gives back in capitals what it is sent."""

    kind, device_id, queues = "upper", 63, 1
    seen: list[object]

    def __init__(self) -> None:
        self.seen = []
        super().__init__(struct.pack("<HBB", 0x1234, 5, 6))

    def handle(self, queue: int) -> None:
        for chain in self.chains(queue):
            chain.give(chain.write(chain.read().upper()))

    def start(self) -> None:
        self.seen.append("start")

    def reset(self) -> None:
        self.seen.append("reset")


def test_identification_is_as_the_standard_says(drive: Make) -> None:
    driver = drive(VirtioRng())
    assert [driver.read(at) for at in (0, 4, 8)] == [0x7472_6976, 2, 4]
    assert driver.offered() & (INDIRECT_DESC | EVENT_IDX | VERSION_1) == INDIRECT_DESC | EVENT_IDX | VERSION_1
    legacy = drive(VirtioRng(), legacy=True)
    assert legacy.read(4) == 1
    assert legacy.offered() >> 32 == 0


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("features", [0, EVENT_IDX, INDIRECT_DESC, EVENT_IDX | INDIRECT_DESC])
def test_a_chain_goes_to_the_device_and_comes_back(drive: Make, features: int, legacy: bool) -> None:
    driver = drive(Upper(), legacy=legacy)
    (queue,) = driver.start(features, size=8)
    buffer, table = driver.memory(4096), driver.memory(4096)
    for number in range(40):
        words = b"hello %d from the guest" % number
        driver.space.load(buffer, words[:7])
        driver.space.load(buffer + 0x100, words[7:])
        descs = [(buffer, 7, 0), (buffer + 0x100, len(words) - 7, 0)]
        descs += [(buffer + 0x200, 5, WRITE), (buffer + 0x300, 1000, WRITE)]
        queue.want_event()
        head = queue.put(descs, indirect=table if features & INDIRECT_DESC else None)
        queue.kick()
        assert queue.wait() == (head, len(words))
        got = driver.space.peek(buffer + 0x200, 5) + driver.space.peek(buffer + 0x300, len(words) - 5)
        assert got == words.upper()
        assert driver.acknowledge() in (0, 1)
    assert driver.edges[:2] == [1, 0]


def test_interrupts_come_only_where_the_driver_wants_them(drive: Make) -> None:
    driver = drive(Upper())
    (queue,) = driver.start(0)
    buffer = driver.memory(4096)
    driver.space.load(queue.avail, struct.pack("<H", 1))  # VIRTQ_AVAIL_F_NO_INTERRUPT
    for _ in range(5):
        queue.put([(buffer, 4, 0), (buffer + 64, 4, WRITE)])
        queue.kick()
        queue.wait()
    assert driver.edges == []
    driver.space.load(queue.avail, struct.pack("<H", 0))
    queue.put([(buffer, 4, 0), (buffer + 64, 4, WRITE)])
    queue.kick()
    queue.wait()
    driver.until(lambda: driver.edges == [1])


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_notifications_are_on_again_after_the_device_was_held(drive: Make, features: int) -> None:
    """A driver that rings only where it is asked to, while somebody holds the device again and again."""
    device = Upper()
    driver = drive(device)
    (queue,) = driver.start(features)
    buffer = driver.memory(4096)
    done = threading.Event()

    def hold() -> None:
        while not done.is_set():
            with device.held():
                pass

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        for _ in range(1500):
            queue.put([(buffer, 4, 0), (buffer + 64, 4, WRITE)])
            queue.kick_if_wanted(features)
            queue.wait()
    finally:
        done.set()
        holder.join()


def test_an_acknowledgement_that_leaves_a_cause_gives_a_new_edge(drive: Make) -> None:
    device = Upper()
    driver = drive(device)
    (queue,) = driver.start(0)
    buffer = driver.memory(4096)
    queue.put([(buffer, 4, 0), (buffer + 64, 4, WRITE)])
    queue.kick()
    queue.wait()
    driver.until(lambda: driver.edges == [1])
    device.set_config(b"\x99")
    assert driver.read(0x60) == 3
    assert driver.edges == [1]
    driver.write(0x64, 1)
    assert driver.edges == [1, 0, 1]
    driver.write(0x64, 2)
    assert driver.edges == [1, 0, 1, 0]
    assert driver.config(0, 1) == 0x99


def test_configuration_is_read_at_any_width_and_its_generation_counts(drive: Make) -> None:
    device = Upper()
    driver = drive(device)
    assert [driver.config(0, 1), driver.config(0, 2), driver.config(2, 2), driver.config(0, 4)] == [
        0x34, 0x1234, 0x0605, 0x06051234,
    ]  # fmt: skip
    assert driver.config(4, 4) == 0xFFFF_FFFF
    before = driver.read(0xFC)
    device.set_config(b"\x77", 1)
    assert driver.read(0xFC) != before
    assert driver.config(0, 2) == 0x7734


def test_features_that_the_device_has_not_are_refused(drive: Make) -> None:
    driver = drive(Upper())
    for features in (1 << 5 | VERSION_1, 0):
        driver.write(0x70, 0)
        driver.write(0x70, 3)
        for half in (0, 1):
            driver.write(0x24, half)
            driver.write(0x20, features >> 32 * half & 0xFFFF_FFFF)
        driver.write(0x70, 3 | FEATURES_OK)
        assert driver.read(0x70) == 3


@pytest.mark.parametrize(
    ("descs", "why"),
    [
        ([(0x1000, 4, WRITE)], "not in RAM"),
        ([(RAM + RAM_SIZE - 2, 4, WRITE)], "not in RAM"),
        ([(RAM, 4, WRITE), (RAM, 4, 0)], "after one to write"),
        ([(2**64 - 2, 4, 0)], "not in RAM"),
        ([(RAM, 16, 4)], "indirect"),
        ([(RAM, 2**32 - 1, 0)], "not in RAM"),
    ],
)
def test_a_broken_chain_breaks_the_device_until_reset(drive: Make, descs, why) -> None:
    device = Upper()
    driver = drive(device)
    (queue,) = driver.start(0)
    queue.put(descs)
    queue.kick()
    assert driver.interrupt.wait(10)
    assert driver.read(0x70) & NEEDS_RESET
    assert driver.read(0x60) & 2
    assert why in device.fault
    driver.acknowledge()
    (queue,) = driver.start(0)
    assert device.fault == ""
    buffer = driver.memory(4096)
    queue.put([(buffer, 4, 0), (buffer + 64, 4, WRITE)])
    queue.kick()
    queue.wait()


def test_a_loop_of_descriptors_ends(drive: Make) -> None:
    device = Upper()
    driver = drive(device)
    (queue,) = driver.start(0)
    buffer = driver.memory(4096)
    queue.put([(buffer, 4, 0), (buffer, 4, 0)])
    driver.space.load(queue.desc + 16, struct.pack("<QIHH", buffer, 4, 1, 0))
    queue.kick()
    assert driver.interrupt.wait(10)
    assert "loop" in device.fault


def test_a_paused_device_rests_and_a_restored_one_goes_on(drive: Make, bench: Bench) -> None:
    driver = drive(Upper())
    transport = bench.bus.devices()[-1]
    (queue,) = driver.start(EVENT_IDX)
    buffer = driver.memory(4096)
    driver.space.load(buffer, b"abcd")
    queue.put([(buffer, 4, 0), (buffer + 64, 4, WRITE)])
    queue.kick()
    queue.wait()
    transport.pause()
    queue.put([(buffer, 4, 0), (buffer + 128, 4, WRITE)])
    queue.kick()
    saved = transport.save()
    assert queue.get() is None
    transport.power_on()
    assert driver.read(0x70) == 0
    transport.load(saved)
    assert driver.read(0x70) & DRIVER_OK
    assert transport.save() == saved
    transport.resume()
    queue.wait()
    assert driver.space.peek(buffer + 128, 4) == b"ABCD"


def test_a_failure_of_a_device_in_python_is_told_to_the_machine(drive: Make) -> None:
    told: list[BaseException] = []

    class Failing(Upper):
        def handle(self, queue: int) -> None:
            raise ZeroDivisionError

        def failed(self, error: BaseException) -> None:
            told.append(error)

    driver = drive(Failing())
    (queue,) = driver.start(0)
    buffer = driver.memory(4096)
    queue.put([(buffer, 4, 0)])
    queue.kick()
    assert driver.interrupt.wait(10)
    assert driver.read(0x70) & NEEDS_RESET
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_entropy_fills_buffers_and_is_not_the_same_twice(drive: Make) -> None:
    driver = drive(VirtioRng())
    (queue,) = driver.start(0)
    buffer = driver.memory(8192)
    seen = set()
    for _ in range(4):
        queue.put([(buffer, 100, WRITE), (buffer + 4096, 28, WRITE)])
        queue.kick()
        assert queue.wait()[1] == 128
        seen.add(driver.space.peek(buffer, 100) + driver.space.peek(buffer + 4096, 28))
    assert len(seen) == 4


def test_entropy_beyond_the_rate_comes_with_the_next_portion(drive: Make) -> None:
    driver = drive(VirtioRng(rate=16 * 100))
    (queue,) = driver.start(0)
    buffer = driver.memory(4096)
    for _ in range(3):
        queue.put([(buffer, 1000, WRITE)])
    queue.kick()
    assert [queue.wait()[1] for _ in range(3)] == [100, 100, 100]
