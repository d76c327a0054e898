"""A made-up driver: it sets a virtio-mmio device up and uses its queues, as a guest's kernel does.

Rings and buffers lie in RAM of the bench's map; a request waits for the device's thread by its interrupt.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Sequence

from accel.irq import IrqLine
from accel.memory import AddressSpace

RAM, RAM_SIZE = 0x4000_0000, 0x40_0000
NEXT, WRITE, INDIRECT = 1, 2, 4
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 64
INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
# What no test takes: a device that has not answered by then hangs.
PATIENCE = 20.0


class Queue:
    """One virtqueue of the driver's; buffers are of the area behind its rings."""

    def __init__(self, driver: Driver, number: int, size: int, at: int) -> None:
        self.driver = driver
        self.number = number
        self.size = size
        self.desc = at
        self.avail = at + 16 * size
        self.used = (
            (self.avail + 6 + 2 * size + 0xFFF) & ~0xFFF if driver.legacy else self.avail + 8 + 2 * size
        )
        self.used = (self.used + 3) & ~3
        self.added = self.seen = 0
        self.free = 0

    def put(self, descs: Sequence[tuple[int, int, int]], *, indirect: int | None = None) -> int:
        """Makes a chain of (address, length, flags) available; indirect: the address of a table for it."""
        space = self.driver.space
        head = self.free
        table = b""
        for i, (address, length, flags) in enumerate(descs):
            last = i == len(descs) - 1
            following = i + 1 if indirect is not None else (head + i + 1) % self.size
            table += struct.pack(
                "<QIHH", address, length, flags | (0 if last else NEXT), 0 if last else following
            )
        if indirect is not None:
            space.load(indirect, table)
            table = struct.pack("<QIHH", indirect, len(table), INDIRECT, 0)
        for i in range(0, len(table), 16):
            space.load(self.desc + 16 * ((head + i // 16) % self.size), table[i : i + 16])
        self.free = (head + len(table) // 16) % self.size
        space.load(self.avail + 4 + 2 * (self.added % self.size), struct.pack("<H", head))
        self.added += 1
        space.load(self.avail + 2, struct.pack("<H", self.added & 0xFFFF))
        return head

    def kick(self) -> None:
        """Rings the doorbell."""
        self.driver.write(0x50, self.number)

    def kick_if_wanted(self, features: int) -> None:
        """Rings the doorbell for the chain that was put last, unless the device says that it need not."""
        if features & EVENT_IDX:
            event = self.driver.space.peek(self.used + 4 + 8 * self.size, 2)
            wanted = int.from_bytes(event, "little") == (self.added - 1) & 0xFFFF
        else:
            wanted = self.driver.space.peek(self.used, 2) == b"\0\0"
        if wanted:
            self.kick()

    def used_index(self) -> int:
        return int(struct.unpack("<H", self.driver.space.peek(self.used + 2, 2))[0])

    def get(self) -> tuple[int, int] | None:
        """The next used element: (head, length), or None."""
        if self.used_index() == self.seen & 0xFFFF:
            return None
        data = self.driver.space.peek(self.used + 4 + 8 * (self.seen % self.size), 8)
        self.seen += 1
        head, length = struct.unpack("<II", data)
        return head, length

    def want_event(self) -> None:
        """With event indices: an interrupt for the next used element."""
        self.driver.space.load(self.avail + 4 + 2 * self.size, struct.pack("<H", self.seen & 0xFFFF))

    def wait(self) -> tuple[int, int]:
        """Waits for the next used element."""
        end = time.monotonic() + PATIENCE
        while (found := self.get()) is None:
            assert not self.driver.read(0x70) & NEEDS_RESET, "the device needs a reset"
            assert time.monotonic() < end, "the device does not answer"
            self.driver.interrupt.wait(0.01)
            self.driver.interrupt.clear()
        return found


class Driver:
    """A virtio-mmio device as a guest uses it."""

    def __init__(self, space: AddressSpace, base: int, irq: IrqLine, *, legacy: bool = False) -> None:
        self.space = space
        self.base = base
        self.legacy = legacy
        self.interrupt = threading.Event()
        self.edges: list[int] = []
        irq.connect(self._told)
        self.next = RAM
        self.queues: list[Queue] = []

    def _told(self, level: int) -> None:
        self.edges.append(level)
        if level:
            self.interrupt.set()

    def read(self, offset: int, width: int = 4) -> int:
        return self.space.read(self.base + offset, width)

    def write(self, offset: int, value: int, width: int = 4) -> None:
        self.space.write(self.base + offset, width, value)

    def config(self, offset: int, size: int) -> int:
        return self.read(0x100 + offset, size)

    def memory(self, size: int, align: int = 4096) -> int:
        """Guest RAM that nobody uses yet."""
        at = (self.next + align - 1) & -align
        self.next = at + size
        assert self.next <= RAM + RAM_SIZE
        return at

    def offered(self) -> int:
        self.write(0x14, 0)
        low = self.read(0x10)
        self.write(0x14, 1)
        return low | self.read(0x10) << 32

    def start(self, features: int, queues: int = 1, size: int = 16) -> list[Queue]:
        """Initialization as section 3.1.1 orders it; returns the queues."""
        self.write(0x70, 0)
        self.write(0x70, ACKNOWLEDGE)
        self.write(0x70, ACKNOWLEDGE | DRIVER)
        if not self.legacy:
            features |= VERSION_1
        for half in (0, 1):
            self.write(0x24, half)
            self.write(0x20, features >> 32 * half & 0xFFFF_FFFF)
        ready = ACKNOWLEDGE | DRIVER
        if self.legacy:
            self.write(0x28, 4096)
        else:
            ready |= FEATURES_OK
            self.write(0x70, ready)
            assert self.read(0x70) & FEATURES_OK, "the device does not want these features"
        self.queues = []
        for number in range(queues):
            self.write(0x30, number)
            size_here = min(size, self.read(0x34))
            queue = Queue(self, number, size_here, self.memory(0x4000))
            self.space.load(queue.desc, bytes(0x4000))
            self.write(0x38, size_here)
            if self.legacy:
                self.write(0x3C, 4096)
                self.write(0x40, queue.desc >> 12)
            else:
                for offset, value in ((0x80, queue.desc), (0x90, queue.avail), (0xA0, queue.used)):
                    self.write(offset, value & 0xFFFF_FFFF)
                    self.write(offset + 4, value >> 32)
                self.write(0x44, 1)
            self.queues.append(queue)
        self.write(0x70, ready | DRIVER_OK)
        return self.queues

    def until(self, holds: Callable[[], object]) -> None:
        """Waits until something holds."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, "that does not come"
            time.sleep(0.001)

    def acknowledge(self) -> int:
        """Reads and acknowledges what the interrupt was for."""
        causes = self.read(0x60)
        self.write(0x64, causes)
        return causes
