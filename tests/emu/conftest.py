"""A bench: a device on a bus, with a clock that the test moves and a serial line that it reads and types."""

from collections.abc import Iterator

import pytest

from accel.clock import Clock
from accel.irq import IrqLine
from accel.memory import AddressSpace
from emu.backends.chardev import Chardev
from emu.bus import Bus
from emu.device import Context, Device
from tests.emu.terminal import Terminal

BASE = 0x1000


class Line(Chardev):
    """Keeps what the device sends; `stuck` makes the host take nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.accepted = 0

    def write(self, data: bytes) -> None:
        self.sent += data

    def accept(self) -> None:
        self.accepted += 1


class Bench:
    """A device between a guest's accesses and the host's end."""

    def __init__(self) -> None:
        self.space = AddressSpace("bench", 1 << 32)
        self.clock = Clock()
        self.serial = Line()
        self.irq = IrqLine()
        self.edges: list[int] = []
        self.irq.connect(self.edges.append)
        self.ended: list[object] = []
        self.bus = Bus(self.space, self.context, lambda number: self.irq)

    def context(self, chardev: Chardev | None) -> Context:
        return Context(
            self.clock,
            self.space,
            chardev=self.serial,
            shutdown=self.ended.append,
            reset=lambda: self.ended.append("reset"),
        )

    def attach(self, device: Device, *, irq: bool = True, base: int = BASE) -> Device:
        self.bus.attach(device.name, device, base, irq=self.irq if irq else None)
        device.power_on()
        self.edges.clear()
        return device

    def read(self, offset: int, width: int = 4) -> int:
        return self.space.read(BASE + offset, width)

    def write(self, offset: int, value: int, width: int = 4) -> None:
        self.space.write(BASE + offset, width, value)

    def advance(self, ns: int) -> None:
        """Lets time pass, firing each timer at its own time."""
        end = self.clock.now() + ns
        while (due := self.clock.next_deadline()) is not None and due <= end:
            self.clock.restore(max(due, self.clock.now()))
            self.clock.due()
        self.clock.restore(end)

    def type(self, data: bytes) -> int:
        """Gives the device input as far as it has room; returns how much that was."""
        front = self.serial.front
        assert front is not None
        with front.lock:
            count = min(front.room(), len(data))
            if count:
                front.receive(data[:count])
        return count


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.space.close()


@pytest.fixture
def terminal():
    made = []

    def start(*options, **named):
        made.append(Terminal(*options, **named))
        return made[-1]

    yield start
    for one in made:
        one.close()
