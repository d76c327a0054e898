"""The console (virtio 1.2, section 5.3): ports between a driver's queues and ends on the host."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

import pytest

from accel.errors import DeviceError
from emu.backends.chardev import LIMIT, Chardev, ChardevError, MemoryChardev
from emu.loop import Loop
from emu.virtio.console import Port, VirtioConsole, open_ports
from emu.virtio.mmio import VirtioMmio
from tests.emu.conftest import BASE, Bench
from tests.emu.virtio_driver import EVENT_IDX, NEEDS_RESET, RAM, RAM_SIZE, WRITE, Driver, Queue

SIZE, MULTIPORT, EMERG_WRITE = 1, 2, 4
READY, ADD, REMOVE, PORT_READY, CONSOLE, RESIZE, OPEN, NAME = range(8)
AGENT = "org.qemu.guest_agent.0"


class End(Chardev):
    """The host's end: takes output while it has room for it, and somebody may be there or not."""

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__()
        self.taken = bytearray()
        self.left = room
        self.here = False
        self.shown: tuple[int, int] | None = None
        self.most = 0
        self.invited = 0

    @property
    def connected(self) -> bool:
        return self.here

    @property
    def window(self) -> tuple[int, int] | None:
        return self.shown

    def write(self, data: bytes) -> None:
        super().write(data)
        self.most = max(self.most, len(self._waiting))

    def send(self, data: memoryview) -> int:
        count = min(len(data), self.left)
        self.taken += data[:count]
        self.left -= count
        return count

    def accept(self) -> None:
        self.invited += 1

    def type(self, data: bytes) -> int:
        """Gives the device what it has room for."""
        assert self.front is not None
        with self.front.lock:
            count = min(self.front.room(), len(data))
            if count:
                self.front.receive(data[:count])
        return count


class Guest:
    """A driver of a console."""

    def __init__(
        self, bench: Bench, *ports: Port, features: int = SIZE | MULTIPORT | EMERG_WRITE, most: int = 0
    ) -> None:
        self.device = VirtioConsole(ports, most=most)
        self.transport = bench.attach(VirtioMmio(self.device))
        self.driver = Driver(bench.space, BASE, bench.irq)
        self.buffers: dict[tuple[int, int], int] = {}
        self.start(features)

    def start(self, features: int) -> None:
        self.driver.next = RAM
        self.queues = self.driver.start(features | EVENT_IDX, queues=2 * (self.device.most + 1))
        self.out = self.driver.memory(0x1_0000)

    def offer(self, queue: Queue, size: int = 256, count: int = 1) -> None:
        for _ in range(count):
            buffer = self.driver.memory(size, 64)
            self.buffers[queue.number, queue.put([(buffer, size, WRITE)])] = buffer
        queue.kick()

    def get(self, queue: Queue) -> bytes:
        head, length = queue.wait()
        return self.driver.space.peek(self.buffers.pop((queue.number, head)), length)

    def send(self, queue: Queue, data: bytes) -> None:
        self.driver.space.load(self.out, data)
        queue.put([(self.out, len(data), 0)])
        queue.kick()

    def control(self, event: int, value: int = 1, number: int = 0) -> None:
        self.send(self.queues[3], struct.pack("<IHH", number, event, value))
        self.queues[3].wait()

    def told(self) -> tuple[int, int, int, bytes]:
        """The device's next message: port, event, value, and what is behind them."""
        data = self.get(self.queues[2])
        return *struct.unpack_from("<IHH", data), data[8:]

    def open(self, number: int) -> None:
        self.control(OPEN, 1, number)


@pytest.fixture
def guest(bench: Bench) -> Iterator[Callable[..., Guest]]:
    made: list[Guest] = []
    bench.space.add_ram("ram", RAM, RAM_SIZE)

    def make(*ports: Port, **options: int) -> Guest:
        made.append(Guest(bench, *ports, **options))
        return made[-1]

    yield make
    for one in made:
        one.transport.close()


def test_the_configuration_has_the_windows_size_and_the_number_of_ports(guest) -> None:
    end = End()
    end.shown = (132, 43)
    made = guest(Port(end, console=True))
    driver = made.driver
    assert driver.offered() & 0xFF == SIZE | MULTIPORT | EMERG_WRITE
    assert [driver.config(0, 2), driver.config(2, 2), driver.config(4, 4)] == [132, 43, 1]
    end.shown = (80, 24)
    end.changed()
    assert [driver.config(0, 2), driver.config(2, 2)] == [80, 24]
    assert driver.read(0x60) & 2


def test_bytes_go_both_ways_in_any_portions(guest) -> None:
    end = End()
    made = guest(Port(end, console=True))
    made.open(0)
    rx, tx = made.queues[:2]
    rng = random.Random(1)
    sent = got = typed = b""
    for _ in range(60):
        data = rng.randbytes(rng.randrange(1, 3000))
        made.send(tx, data)
        assert tx.wait()[1] == 0
        sent += data
        data = rng.randbytes(rng.randrange(1, 300))
        assert end.type(data) == len(data)
        typed += data
        while len(got) < len(typed):
            made.offer(rx, rng.randrange(1, 200))
            got += made.get(rx)
        made.driver.next = RAM + 0x10_0000
    end.close()
    assert (end.taken, got) == (sent, typed)


def test_emergency_writes_need_no_driver(guest) -> None:
    end = End()
    made = guest(Port(end, console=True))
    made.driver.write(0x70, 0)
    for character in b"oops\n":
        made.driver.write(0x108, character)
    assert end.taken == b"oops\n"
    assert made.driver.config(8, 4) == 0


def test_ports_are_announced_named_and_opened(guest) -> None:
    ends = [End(), End(), End()]
    ends[1].here = True
    made = guest(Port(ends[1], name=AGENT), Port(ends[0], console=True), Port(ends[2], name="other"))
    assert made.driver.config(4, 4) == 3
    made.offer(made.queues[2], count=12)
    made.control(READY)
    assert [made.told() for _ in range(3)] == [(n, ADD, 1, b"") for n in range(3)]
    for number in range(3):
        made.control(PORT_READY, 1, number)
    wanted = [(0, CONSOLE, 1, b""), (0, OPEN, 1, b"")]
    wanted += [(1, NAME, 1, AGENT.encode()), (1, OPEN, 1, b""), (2, NAME, 1, b"other")]
    assert [made.told() for _ in wanted] == wanted
    for here in (True, False):
        ends[2].here = here
        ends[2].changed()
        assert made.told() == (2, OPEN, int(here), b"")
    ends[0].shown = (100, 50)
    ends[0].changed()
    assert made.told() == (0, RESIZE, 1, struct.pack("<HH", 100, 50))
    port = made.device.ports[1]
    assert not port.opened
    made.open(1)
    assert port.opened
    for number, end in ((1, ends[1]), (2, ends[2])):
        made.send(made.queues[2 * number + 3], b"from %d\n" % number)
        made.queues[2 * number + 3].wait()
        assert end.taken == b"from %d\n" % number


def test_messages_wait_for_buffers(guest) -> None:
    made = guest(Port(End(), name="a"), Port(End(), name="b"))
    made.control(READY)
    for number in (1, 2):
        made.control(PORT_READY, 1, number)
    for wanted in (b"a", b"b"):
        made.offer(made.queues[2])
        assert made.told()[3] == wanted


def test_input_waits_until_the_guest_opens_the_port(guest) -> None:
    end = End()
    made = guest(Port(end, name="a"))
    queue = made.queues[4]
    made.offer(queue)
    assert end.type(b"early") == 0
    before = end.invited
    made.open(1)
    made.driver.until(lambda: end.invited > before)
    assert end.type(b"now") == 3
    assert made.get(queue) == b"now"
    assert end.type(b"unread") == 6
    made.control(OPEN, 0, 1)
    assert end.type(b"late") == 0
    made.open(1)
    made.driver.until(lambda: end.type(b"again"))
    made.offer(queue)
    assert made.get(queue) == b"again"


def test_a_host_that_types_without_end_is_held(guest) -> None:
    end = MemoryChardev()
    made = guest(Port(end, console=True))
    made.open(0)
    rx = made.queues[0]
    with Loop() as loop:
        end.open(loop)
        typed = random.Random(2).randbytes(50_000)
        end.type(typed)
        for _ in range(10):
            loop.step(0)
        assert len(end._typed) == len(typed) - made.device.ports[0].state().count
        assert made.device.ports[0].state().count <= 4096
        got = b""
        while len(got) < len(typed):
            made.offer(rx, 4096)
            made.driver.until(lambda: loop.step(0) or rx.used_index() != rx.seen)
            got += made.get(rx)
            made.driver.next = RAM + 0x10_0000
        assert got == typed
        end.close()


def test_a_guest_that_writes_without_end_is_held(guest) -> None:
    end = End(room=0)
    made = guest(Port(end, console=True))
    tx = made.queues[1]
    data = random.Random(3).randbytes(0x10_0000)
    at = made.driver.memory(len(data))
    made.driver.space.load(at, data)
    for n in range(4):
        tx.put([(at + n * 0x4_0000, 0x4_0000, 0)])
    tx.kick()
    made.driver.until(lambda: end.full)
    for room in (1, 1000, 70_000, 0x20_0000):
        end.left = room
        # As the host's descriptor would, when it takes bytes again.
        end.unblock()
        made.driver.until(lambda: end.full or tx.used_index() == 4)
    assert end.most < LIMIT + 0x8000
    end.unblock()
    made.driver.until(lambda: tx.used_index() == 4)
    end.close()
    assert end.taken == data


def test_a_full_end_does_not_stop_another(guest) -> None:
    stuck, free = End(room=0), End()
    made = guest(Port(stuck, name="a"), Port(free, name="b"))
    for _ in range(6):
        made.send(made.queues[5], bytes(0x8000))
    made.driver.until(lambda: stuck.full)
    for n in range(4):
        made.send(made.queues[7], b"%d\n" % n)
        made.queues[7].wait()
    assert free.taken == b"0\n1\n2\n3\n"


def test_a_driver_that_knows_no_ports_has_the_console(guest) -> None:
    end = End()
    made = guest(Port(end, console=True), Port(End(), name="a"), features=0)
    made.send(made.queues[1], b"hello\n")
    made.queues[1].wait()
    made.offer(made.queues[0])
    assert end.type(b"typed") == 5
    assert made.get(made.queues[0]) == b"typed"
    made.send(made.queues[3], struct.pack("<IHH", 0, READY, 1))
    made.send(made.queues[5], b"nobody's")
    assert end.taken == b"hello\n"


def test_a_restored_console_goes_on_where_it_was(guest) -> None:
    ends = [End(), End(room=0)]
    made = guest(Port(ends[0], console=True), Port(ends[1], name="a"))
    made.control(READY)
    made.control(PORT_READY, 1, 1)
    made.open(0)
    assert ends[0].type(b"not read yet") == 12
    data = bytes(range(256)) * 0x180
    at = made.driver.memory(2 * len(data))
    made.driver.space.load(at, data + data)
    made.queues[5].put([(at, 2 * len(data), 0)])
    made.queues[5].kick()
    made.driver.until(lambda: ends[1].full)
    made.transport.pause()
    saved = made.transport.save()
    assert eval(repr(saved)) == saved
    made.transport.power_on()
    assert made.device.ports[0].state().open == 0
    made.transport.load(saved)
    assert made.transport.save() == saved
    made.transport.resume()
    made.offer(made.queues[0])
    assert made.get(made.queues[0]) == b"not read yet"
    made.offer(made.queues[2], count=2)
    assert [made.told()[:2] for _ in range(2)] == [(0, ADD), (1, NAME)]
    ends[1].left = 1 << 30
    ends[1].unblock()
    made.queues[5].wait()
    ends[1].close()
    assert ends[1].taken == data + data


def test_ports_come_and_go_while_a_driver_runs(guest) -> None:
    made = guest(Port(End(), name="kept"), most=4)
    device, control = made.device, made.queues[2]
    assert made.driver.config(4, 4) == 4
    made.offer(control, count=2)
    device.add(Port(End(), name="early"))
    assert control.get() is None  # it is not ready
    made.control(READY)
    assert [made.told() for _ in range(2)] == [(n, ADD, 1, b"") for n in (1, 2)]
    for _ in range(3):
        end = End()
        late = Port(end, name="late")
        made.offer(control, count=3)
        device.add(late)
        assert (late.number, made.told()) == (3, (3, ADD, 1, b""))
        made.control(PORT_READY, 1, 3)
        assert made.told() == (3, NAME, 1, b"late")
        made.open(3)
        assert late.opened
        made.send(made.queues[9], b"heard\n")
        made.queues[9].wait()
        assert end.type(b"typed") == 5
        device.remove(late)
        assert made.told() == (3, REMOVE, 1, b"")
        assert (end.taken, end.front, late.opened) == (b"heard\n", None, False)
        # Whoever has it open yet in the guest writes to nobody.
        made.send(made.queues[9], b"unheard\n")
        made.queues[9].wait()
        made.control(OPEN, 0, 3)
        late.receive(b"lost")
        late.drained()
        late.changed()
    assert sorted(device.ports) == [1, 2]
    assert not made.driver.read(0x70) & NEEDS_RESET


def test_what_waited_for_a_port_that_goes_is_given_back(guest) -> None:
    end = End(room=0)
    made = guest(Port(end, name="a"))
    made.control(READY)
    made.open(1)
    for _ in range(6):
        made.send(made.queues[5], bytes(0x8000))
    made.driver.until(lambda: end.full)
    made.device.remove(made.device.ports[1])
    made.driver.until(lambda: made.queues[5].used_index() == 6)


def test_a_driver_without_buffers_hears_of_ends_before_beginnings(guest) -> None:
    made = guest(Port(End(), name="a"), most=3)
    made.offer(made.queues[2])
    made.control(READY)
    assert made.told()[:2] == (1, ADD)
    unheard = Port(End(), name="b")
    made.device.add(unheard)
    made.device.remove(unheard)
    made.device.remove(made.device.ports[1])
    made.device.add(Port(End(), name="c"))
    made.device.remove(made.device.ports[1])
    made.device.add(Port(End(), name="d"))
    made.offer(made.queues[2], count=3)
    assert [made.told()[:2] for _ in range(2)] == [(1, REMOVE), (1, ADD)]
    assert made.queues[2].get() is None


def test_ports_that_cannot_be_are_refused(guest) -> None:
    made = guest(Port(End(), name="a"), most=3)
    for port, why in (
        (Port(End(), name="a"), "same name"),
        (Port(End(), name="b", number=1), "port 1 is there"),
        (Port(End(), name="b", number=3), "it has 3"),
        (Port(End(), name="b", number=0), "for a console"),
        (made.device.ports[1], "same name"),
    ):
        with pytest.raises(DeviceError, match=why):
            made.device.add(port)
    with pytest.raises(DeviceError, match="none of its ports"):
        made.device.remove(Port(End(), name="a"))
    made.device.add(Port(End(), console=True))
    made.device.add(Port(End(), name="b", number=2))
    with pytest.raises(DeviceError, match="it has 3"):
        made.device.add(Port(End(), console=True))
    assert sorted(made.device.ports) == [0, 1, 2]
    for most in (-1, 32):
        with pytest.raises(DeviceError, match="1 to 31"):
            VirtioConsole(most=most)


def test_a_restored_console_wants_the_same_ports(guest) -> None:
    made = guest(Port(End(), name="a"), Port(End(), name="b"), most=5)
    made.offer(made.queues[2], count=2)
    made.control(READY)
    made.told()
    made.told()
    made.device.remove(made.device.ports[1])
    late = Port(End(), name="late", number=4)
    made.device.add(late)
    made.transport.pause()
    saved = made.transport.save()
    made.device.remove(late)
    with pytest.raises(DeviceError, match="had the ports 2, 4, and this one has 2"):
        made.transport.load(saved)
    made.device.add(late)
    made.transport.power_on()
    made.transport.load(saved)
    made.transport.resume()
    made.offer(made.queues[2], count=3)
    assert [made.told()[:2] for _ in range(2)] == [(1, REMOVE), (4, ADD)]
    assert made.queues[2].get() is None


def test_ports_that_come_and_go_at_random_do_no_harm(guest) -> None:
    dice = random.Random(5)
    made = guest(Port(End(), name="kept"), most=6)
    made.control(READY)
    for step in range(1500):
        here = [port for port in made.device.ports.values() if port.name != "kept"]
        if here and dice.random() < 0.3:
            made.device.remove(dice.choice(here))
        elif len(here) < 4 and dice.random() < 0.5:
            made.device.add(Port(End(room=dice.choice((0, 1 << 30))), name=f"n{step}"))
        number = dice.randrange(8)
        made.control(dice.randrange(10), dice.randrange(3), number)
        if number < 6:
            queue = made.queues[2 * number + 3 if number else 1]
            queue.put([(made.out, dice.randrange(1, 5000), 0)])
            queue.kick()
        for port in made.device.ports.values():
            port.chardev.type(bytes(dice.randrange(50)))
        if step % 20 == 0:
            made.transport.power_on()
            made.start(SIZE | MULTIPORT)
            made.offer(made.queues[2], count=dice.randrange(8))
            made.control(READY)
    assert not made.driver.read(0x70) & NEEDS_RESET
    assert made.device.ports[1].name == "kept"


@pytest.mark.parametrize(
    ("queue", "descs", "why"),
    [
        (3, [(RAM, 7, 0)], "shorter than its header"),
        (2, [(RAM, 9, WRITE)], "no room for one"),
        (0, [(RAM, 16, 0)], "has no room"),
    ],
)
def test_broken_buffers_break_the_device(guest, queue, descs, why) -> None:
    end = End()
    made = guest(Port(end, console=True), Port(End(), name="a name"))
    made.open(0)
    made.queues[queue].put(descs)
    made.queues[queue].kick()
    if queue == 2:
        made.control(PORT_READY, 1, 1)
    else:
        end.type(b"x")
    made.driver.until(lambda: made.driver.read(0x70) & NEEDS_RESET)
    assert why in made.device.fault


def test_what_the_standard_does_not_know_is_passed_over(guest) -> None:
    made = guest(Port(End(), console=True), Port(End(), name="a"))
    for number, event, value in ((2, PORT_READY, 1), (2**32 - 1, OPEN, 1), (0, 77, 1), (1, ADD, 1)):
        made.control(event, value, number)
    made.control(READY, 0)
    assert made.queues[2].get() is None
    assert not made.driver.read(0x70) & NEEDS_RESET


def test_a_failure_of_the_hosts_end_is_told_to_the_machine(guest) -> None:
    class Failing(End):
        def write(self, data: bytes) -> None:
            raise ZeroDivisionError

    made = guest(Port(Failing(), console=True))
    told: list[BaseException] = []
    made.device.failed = told.append
    made.send(made.queues[1], b"x")
    made.driver.until(lambda: made.driver.read(0x70) & NEEDS_RESET)
    assert [type(error) for error in told] == [ZeroDivisionError]


@pytest.mark.parametrize(
    ("consoles", "channels", "why"),
    [
        ([], ["no-end"], "NAME=END"),
        ([], ["=null"], "NAME=END"),
        ([], ["a=null", "a=null"], "same name"),
        ([], ["a=what"], "no serial line is called"),
        ([], ["a/b=null"], "no /"),
        ([], ["x" * 256 + "=null"], "255 bytes"),
        (["null"], [f"{n}=null" for n in range(31)], "31"),
    ],
)
def test_words_that_make_no_ports_are_refused(consoles, channels, why) -> None:
    with pytest.raises((DeviceError, ChardevError), match=why):
        open_ports(consoles, channels)
