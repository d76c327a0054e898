"""PCI: configuration space, BARs, interrupts by pin and message, and virtio devices behind it."""

import random
import re

import pytest

from accel.irq import IrqLine
from emu import Machine
from emu.devices.gicv2 import Gicv2
from emu.devices.gicv2m import Gicv2m
from emu.devices.native import lib
from emu.devices.pci import PciDevice, PciFunction
from emu.devices.pci_ecam import PciEcam
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.qtest import Qtest

ECAM, WINDOW, SIZE = 0x3F00_0000, 0x1000_0000, 0x2EFF_0000
V2M, DOORBELL, FIRST = 0x0802_0000, 0x0802_0040, 80
COMMAND, STATUS, CAPABILITIES, PIN = 4, 6, 0x34, 0x3D
MEMORY, PIN_DISABLED = 2, 0x400
MSIX = 0x11


class Card(PciDevice):
    """BAR 0 of 32 bits, BAR 2 of 64, BAR 1 with a table of three messages."""

    def __init__(self):
        super().__init__(0x1234, 0x5678, 0xFF0000, revision=7, subsystem=(0xAAAA, 0xBBBB), vectors=3)
        self.add_bar(0, 0x1000)
        self.add_bar(2, 0x10_0000, wide=True, prefetchable=True)
        self.written = []

    def served(self, bar, region):
        region.ops(lambda offset, width: bar.index << 4 | offset & 15, self.note)

    def note(self, offset, width, value):
        self.written.append((offset, width, value))


class Pci:
    """A bus with functions in slots 1 and up, its wires, and a GICv2m behind it."""

    def __init__(self, bench, *functions):
        self.space = bench.space
        self.wires = [IrqLine() for _ in range(4)]
        self.gic = Gicv2()
        bench.bus.attach("gic", self.gic, 0x0800_0000)
        self.frame = Gicv2m(self.gic, V2M)
        bench.bus.attach("v2m", self.frame, V2M)
        self.told = []
        for number, line in enumerate(self.frame.lines):
            line.connect(lambda level, number=number: self.told.append(number) if level else None)
        placed = {(0, 0): PciFunction(0x1B36, 8, 0x060000)}
        placed |= {(number, 0): one for number, one in enumerate(functions, 1)}
        self.bus = PciEcam(placed, ((WINDOW, SIZE),))
        self.bus.wire(self.wires, self.frame.msi)
        bench.bus.attach("pci", self.bus, ECAM)
        self.bus.power_on()

    def read(self, at, width=4, slot=1):
        return self.space.read(ECAM + (slot << 15) + at, width)

    def write(self, at, value, width=4, slot=1):
        self.space.write(ECAM + (slot << 15) + at, width, value)

    def capability(self, kind, slot=1):
        at = self.read(CAPABILITIES, 1, slot)
        while at and self.read(at, 1, slot) != kind:
            at = self.read(at + 1, 1, slot)
        return at

    def seen(self, *bars, slot=1):
        """Places 32-bit BARs, and turns memory on."""
        for index, base in bars:
            self.write(0x10 + 4 * index, base, slot=slot)
        self.write(COMMAND, MEMORY, 2, slot)


@pytest.fixture
def pci(bench):
    return Pci(bench, Card(), Card())


def test_identification_is_read_at_every_width_and_not_written(pci):
    for at in (0, 8, 0x2C):
        pci.write(at, 0xFFFF_FFFF)
    assert pci.read(0) == 0x5678_1234
    assert pci.read(0, 8) == 0x0010_0000_5678_1234
    assert [pci.read(n, 1) for n in range(4)] == [0x34, 0x12, 0x78, 0x56]
    assert pci.read(8) == 0xFF00_0007
    assert pci.read(0x2C) == 0xBBBB_AAAA
    assert pci.read(PIN, 1) == 1


def test_nobody_answers_where_no_function_is(pci):
    for slot in (3, 31, 32, 511):
        assert pci.read(0, slot=slot) == 0xFFFF_FFFF
        pci.write(0, 0, slot=slot)
    assert pci.read(0x100) == 0
    assert pci.space.read(WINDOW + 0x5000, 4) == 0xFFFF_FFFF


def test_a_bar_tells_its_size(pci):
    for index in range(6):
        pci.write(0x10 + 4 * index, 0xFFFF_FFFF)
    assert [pci.read(0x10 + 4 * n) for n in range(6)] == [
        *(0xFFFF_F000, 0xFFFF_F000, 0xFFF0_000C, 0xFFFF_FFFF, 0, 0),
    ]


def test_a_region_is_where_its_bar_says_while_memory_is_on(pci):
    pci.seen((0, WINDOW + 0x3000))
    assert pci.space.read(WINDOW + 0x3005, 1) == 0x05
    pci.write(0x18, WINDOW + 0x20_0000)
    pci.write(0x1C, 0)
    assert pci.space.read(WINDOW + 0x20_0007, 1) == 0x27
    pci.write(0x10, WINDOW + 0x8000)
    assert pci.space.read(WINDOW + 0x3005, 1) == 0xFF
    assert pci.space.read(WINDOW + 0x8005, 1) == 0x05
    pci.write(COMMAND, 0, 2)
    assert pci.space.read(WINDOW + 0x8005, 1) == 0xFF
    assert pci.space.read(WINDOW + 0x20_0007, 1) == 0xFF


@pytest.mark.parametrize("base", [0, 0x0800_0000, ECAM, WINDOW - 0x1000, WINDOW + SIZE, 0xFFFF_F000])
def test_a_region_is_not_seen_outside_the_bridges_window(pci, base):
    before = [(piece.base, piece.region.name) for piece in pci.space.flat()]
    pci.seen((0, base), (1, base))
    pci.write(0x18, base & 0xFFF0_0000)
    pci.write(0x1C, 1)
    assert [(piece.base, piece.region.name) for piece in pci.space.flat()] == before


def test_two_regions_may_be_put_at_one_place(pci):
    for slot in (1, 2):
        pci.seen((0, WINDOW), (1, WINDOW), slot=slot)
    pci.space.write(WINDOW, 4, 1)
    assert sum(len(pci.bus.functions[slot, 0].written) for slot in (1, 2)) <= 1
    for slot in (1, 2):
        pci.write(COMMAND, 0, 2, slot)
    assert pci.space.read(WINDOW, 4) == 0xFFFF_FFFF


def test_pins_share_a_wire_and_can_be_disabled(bench):
    cards = [Card() for _ in range(5)]
    pci = Pci(bench, *cards)
    wire = pci.wires[1]  # INTA# of slots 1 and 5
    for card in (cards[0], cards[4]):
        lib.emu_pci_pull(card.native, 1)
    assert [line.level for line in pci.wires] == [0, 1, 0, 0]
    assert pci.read(STATUS, 2) & 8
    lib.emu_pci_pull(cards[0].native, 0)
    assert wire.level == 1
    assert not pci.read(STATUS, 2) & 8
    pci.write(COMMAND, PIN_DISABLED, 2, slot=5)
    assert wire.level == 0
    assert pci.read(STATUS, 2, slot=5) & 8
    pci.write(COMMAND, 0, 2, slot=5)
    assert wire.level == 1
    pci.bus.power_on()
    assert wire.level == 0


@pytest.fixture
def messages(pci):
    """The first card with its table at the window's start, vector n sending interrupt 10 + n."""
    pci.seen((1, WINDOW))
    for vector in range(3):
        pci.space.write(WINDOW + 16 * vector, 8, DOORBELL)
        pci.space.write(WINDOW + 16 * vector + 8, 4, FIRST + 10 + vector)
        pci.space.write(WINDOW + 16 * vector + 12, 4, 0)
    pci.control = pci.capability(MSIX) + 2
    return pci


def notify(pci, vector):
    return lib.emu_pci_notify(pci.bus.functions[1, 0].native, vector)


def test_a_message_is_an_edge_of_the_interrupt_it_names(messages):
    assert notify(messages, 1) == 0  # MSI-X is not on: the pin's turn
    messages.write(messages.control, 0x8000, 2)
    assert messages.read(messages.control, 2) == 0x8002
    for vector in (1, 1, 2, 3, 200):
        assert notify(messages, vector) == 1
    assert messages.told == [11, 11, 12]


@pytest.mark.parametrize("whole", [False, True])
def test_a_masked_message_waits(messages, whole):
    messages.write(messages.control, 0xC000 if whole else 0x8000, 2)
    if not whole:
        messages.space.write(WINDOW + 16 + 12, 4, 1)
    for _ in range(3):
        notify(messages, 1)
    assert messages.told == []
    assert messages.space.read(WINDOW + 0x800, 8) == 2
    if whole:
        messages.write(messages.control, 0x8000, 2)
    else:
        messages.space.write(WINDOW + 16 + 12, 4, 0)
    assert messages.told == [11]
    assert messages.space.read(WINDOW + 0x800, 8) == 0


def test_messages_that_name_nothing_are_dropped(messages):
    messages.write(messages.control, 0x8000, 2)
    for address, data in ((DOORBELL + 4, FIRST), (0, FIRST), (DOORBELL, FIRST - 1), (DOORBELL, FIRST + 64)):
        messages.space.write(WINDOW, 8, address)
        messages.space.write(WINDOW + 8, 4, data)
        notify(messages, 0)
    assert messages.told == []


def test_the_frame_of_messages_answers_like_qemus(pci):
    theirs = Qtest("aarch64", "-M", "virt")
    for at in (0, 4, 8, 0xC, 0x40):
        assert theirs.read(V2M + at) == pci.space.read(V2M + at, 4), hex(at)
    theirs.close()
    pci.space.write(DOORBELL, 4, FIRST + 63)
    pci.space.write(DOORBELL, 2, FIRST)
    assert pci.told == [63]


def test_the_state_comes_back(messages):
    messages.write(messages.control, 0xC000, 2)
    notify(messages, 2)
    saved = messages.bus.save()
    assert eval(repr(saved)) == saved
    messages.bus.power_on()
    assert messages.space.read(WINDOW + 8, 4) == 0xFFFF_FFFF
    messages.bus.load(saved)
    assert messages.bus.save() == saved
    assert messages.space.read(WINDOW + 8, 4) == FIRST + 10
    messages.write(messages.control, 0x8000, 2)
    assert messages.told == [12]


# -- virtio -------------------------------------------------------------------------


@pytest.fixture
def rng():
    """A machine with an entropy device on its PCI bus, paused."""
    with Machine("virt,virtio=pci", accel="tcg", virtio=[VirtioRng()]) as machine:
        machine.start()
        machine.pause()
        yield machine


class Config:
    """Configuration space of slot 1, and its BARs, in a machine of ours or QEMU's."""

    def __init__(self, read, write):
        self.space_read = read
        self.space_write = write

    def read(self, at, width=4):
        return self.space_read(ECAM + (1 << 15) + at, width)

    def write(self, at, value, width=4):
        self.space_write(ECAM + (1 << 15) + at, value, width)

    def structures(self):
        """Kind of structure: address, after BARs 1 and 4 are placed."""
        for at, base in ((0x14, WINDOW), (0x20, WINDOW + 0x4000), (0x24, 0)):
            self.write(at, base)
        self.write(COMMAND, 6, 2)
        found, at = {}, self.read(CAPABILITIES, 1)
        while at:
            kind = "msix" if self.read(at, 1) == MSIX else self.read(at + 3, 1)
            if kind == "msix" or self.read(at, 1) == 9:
                found[kind] = at if kind in ("msix", 5) else WINDOW + 0x4000 + self.read(at + 8)
            at = self.read(at + 1, 1)
        return found


def test_a_virtio_functions_registers_answer_like_qemus(rng):
    device = "virtio-rng-pci,addr=1,disable-legacy=on"
    process = Qtest("aarch64", "-M", "virt,highmem=off", "-device", device)
    theirs = Config(process.read, process.write)
    ours = Config(rng.memory.read, lambda address, value, width: rng.memory.write(address, width, value))
    both = (theirs, ours)
    for at in (0, 8, 0x2C, 0x3D):
        assert theirs.read(at, 1 if at == 0x3D else 4) == ours.read(at, 1 if at == 0x3D else 4), hex(at)
    for at in (0x14, 0x20, 0x24):
        answers = []
        for one in both:
            one.write(at, 0xFFFF_FFFF)
            answers.append(one.read(at))
        assert answers[0] == answers[1], hex(at)
    places = [one.structures() for one in both]
    # QEMU gives a device without configuration a structure for it (kind 4) as well.
    assert places[0].keys() - {4} == places[1].keys() == {1, 2, 3, 5, "msix"}
    assert theirs.read(places[0]["msix"] + 2, 2) == ours.read(places[1]["msix"] + 2, 2)

    def same(at, width):
        answers = [one.space_read(place[1] + at, width) for one, place in zip(both, places, strict=True)]
        assert answers[0] == answers[1], (hex(at), width, [hex(n) for n in answers])

    def put(at, width, value):
        for one, place in zip(both, places, strict=True):
            one.space_write(place[1] + at, value, width)

    layout = dict.fromkeys((0, 8, 12, *range(32, 56, 4)), 4)
    layout |= dict.fromkeys((0x10, 0x12, 0x16, 0x1A, 0x1C, 0x1E), 2) | {0x14: 1}
    random_values = random.Random(1)
    for at, width in layout.items():
        same(at, width)
    put(0, 4, 1)
    assert ours.space_read(places[1][1] + 4, 4) == 1  # VIRTIO_F_VERSION_1; QEMU can reset single queues, too
    for status in (1, 3):
        put(0x14, 1, status)
    for at in (0x20, 0x24, 0x28, 0x2C, 0x30, 0x34):
        put(at, 4, random_values.getrandbits(32))
    for vector in (0, 1, 2, 0xFFFF):
        put(0x10, 2, vector)
        put(0x1A, 2, vector)
        for at, width in layout.items():
            same(at, width)
    put(0x16, 2, 1)
    for at in (0x18, 0x1C):
        same(at, 2)
    put(0x14, 1, 0)
    put(0x16, 2, 0)
    for at, width in layout.items():
        if at not in (0, 8):  # the selectors of features, which QEMU keeps
            same(at, width)
    process.close()


def test_registers_are_reached_through_configuration_space_too(rng):
    ours = Config(rng.memory.read, lambda address, value, width: rng.memory.write(address, width, value))
    window = ours.structures()[5]
    ours.write(window + 4, 4, 1)
    ours.write(window + 8, 0x12)  # num_queues
    ours.write(window + 12, 2)
    assert ours.read(window + 16, 2) == 1
    ours.write(window + 8, 0x14)
    ours.write(window + 12, 1)
    ours.write(window + 16, 3, 1)
    assert ours.read(window + 16, 1) == 3
    ours.write(window + 8, 0x4000)
    ours.write(window + 16, 0, 1)
    assert rng.virtio[0].status == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_hostile_driver_takes_nothing_down(rng, seed):
    """Any write to configuration space, the message table and the structures, at every width."""
    dice = random.Random(seed)
    ours = Config(rng.memory.read, lambda address, value, width: rng.memory.write(address, width, value))
    for _ in range(4000):
        width = dice.choice((1, 2, 4, 8))
        value = dice.choice((0, 1, 0xFF, (1 << 8 * width) - 1, dice.getrandbits(8 * width)))
        where = dice.random()
        if where < 0.05:
            ours.structures()
        elif where < 0.3:
            at = dice.randrange(0x101)
            ours.write(at & -width, value, width)
            ours.read(at & -width, width)
        else:
            at = (
                WINDOW
                + dice.choice((0, 0x800, 0x4000, 0x4000, 0x5000, 0x6000, 0x7000))
                + dice.randrange(0x48)
            )
            rng.memory.write(at, width, value)
            assert 0 <= rng.memory.read(at, width) < 1 << 8 * width
    bus = rng.bus.attached["pci"].device
    saved = bus.save()
    bus.load(saved)
    assert bus.save()["state"] == saved["state"]


@pytest.mark.parametrize(
    ("options", "append", "wanted"),
    [
        ("", "", r"\b(\d+) +MSI +\d+ +Edge +virtio0-input"),
        ("", "pci=nomsi", r"\b(\d+) +GIC-0 +36 +Level +virtio0"),
        (",gic-version=3", "", r"\b(\d+) +ITS-MSI +\d+ +Edge +virtio0-input"),
        (",gic-version=3,its=off", "", r"\b(\d+) +MSI +\d+ +Edge +virtio0-input"),
    ],
)
def test_linux_uses_a_virtio_device_on_the_bus(options, append, wanted):
    modules = ("virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio-rng")
    script = (
        "for f in /sys/bus/pci/devices/*; do echo FUNCTION $(cat $f/vendor $f/device); done\n"
        "head -c 64 /dev/hwrng | od -An -t x1 | tr -d '\\n'; echo\ncat /proc/interrupts"
    )
    line = Screen()
    with Machine(
        f"virt,virtio=pci{options}", accel="tcg", ram=256 << 20, kernel=image(), serial=line,
        initrd=initrd(script, modules), append=f"console=ttyAMA0 quiet {append}", virtio=[VirtioRng()],
    ) as machine:  # fmt: skip
        assert machine.run(timeout=300).reason == "guest-shutdown", line.text
    assert re.findall("FUNCTION (.*)", line.text) == ["0x1b36 0x0008", "0x1af4 0x1044"]
    assert re.search("( [0-9a-f]{2}){64}\n", line.text)
    found = re.search(wanted, line.text)
    assert found, line.text
    assert int(found[1]) > 0
