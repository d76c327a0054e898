"""Buses behind root ports: their numbers, windows, interrupts; Linux finds devices there."""

import random
import re

import pytest

from accel.errors import DeviceError
from emu import Machine
from emu.devices.native import lib
from emu.devices.pci import PciFunction, settle
from emu.devices.pci_bridge import PciBridge
from emu.virtio.pci import VirtioPci
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.qtest import Qtest
from tests.emu.test_pci import COMMAND, ECAM, MEMORY, WINDOW, Card, Pci

PRIMARY, MEMORY_WINDOW, PREFETCHABLE, CONTROL, RESET = 0x18, 0x20, 0x24, 0x3E, 0x40
QEMU_ECAM = 0x40_1000_0000


class Behind:
    """Two ports, the second in slot 2, with a card behind each; behind the first another port and a card."""

    def __init__(self, bench):
        self.cards = [Card() for _ in range(3)]
        first, second, self.inner = (PciBridge(name, hotplug=False) for name in ("first", "second", "inner"))
        first.plug(self.cards[0])
        first.plug(self.inner)
        self.inner.plug(self.cards[1])
        second.plug(self.cards[2])
        self.pci = Pci(bench, first, second)
        self.space = self.pci.space
        self.number(0, 1, 1, 2)
        self.number(0, 2, 3, 3)
        self.number(1, 1, 2, 2)

    def at(self, bus, slot):
        return ECAM + (bus << 20) + (slot << 15)

    def read(self, bus, slot, at, width=4):
        return self.space.read(self.at(bus, slot) + at, width)

    def write(self, bus, slot, at, value, width=4):
        self.space.write(self.at(bus, slot) + at, width, value)

    def number(self, bus, slot, secondary, subordinate):
        self.write(bus, slot, PRIMARY, bus | secondary << 8 | subordinate << 16)

    def open(self, bus, slot, first, last, at=MEMORY_WINDOW):
        self.write(bus, slot, at, first >> 16 | last & 0xFFF0_0000)
        self.write(bus, slot, COMMAND, MEMORY, 2)


@pytest.fixture
def behind(bench):
    return Behind(bench)


def test_functions_are_found_by_the_numbers_their_buses_have(behind):
    assert [behind.read(bus, 0, 0) for bus in (1, 2, 3)] == [0x5678_1234] * 3
    assert behind.read(1, 1, 0) == behind.read(0, 1, 0) == behind.read(0, 2, 0) == 0x000C_1B36
    assert [behind.read(bus, slot, 0) for bus, slot in ((2, 1), (3, 1), (4, 0), (15, 0))] == [0xFFFF_FFFF] * 4
    behind.number(0, 2, 9, 9)
    assert [behind.read(bus, 0, 0) for bus in (3, 9)] == [0xFFFF_FFFF, 0x5678_1234]
    # A bus whose port's range leaves it out is not reached, nor one without a number.
    behind.number(0, 1, 1, 1)
    assert behind.read(2, 0, 0) == 0xFFFF_FFFF
    behind.number(0, 1, 0, 0)
    assert behind.read(1, 0, 0) == 0xFFFF_FFFF


def test_a_region_is_seen_where_every_window_on_the_way_is_open(behind):
    at = WINDOW + 0x10_0000
    seen = lambda: behind.space.read(at + 5, 1) == 0x05  # noqa: E731
    behind.write(2, 0, 0x10, at)
    behind.write(2, 0, COMMAND, MEMORY, 2)
    assert not seen()
    behind.open(1, 1, at, at)
    assert not seen()
    behind.open(0, 1, WINDOW, at)
    assert seen()
    behind.write(0, 1, COMMAND, 0, 2)
    assert not seen()
    behind.write(0, 1, COMMAND, MEMORY, 2)
    assert seen()
    behind.open(1, 1, at + 0x10_0000, at)  # closed: it ends before it begins
    assert not seen()
    behind.open(1, 1, at, at, PREFETCHABLE)
    assert seen()
    behind.write(1, 1, PREFETCHABLE + 4, 1)  # above 4 GiB, and ends below
    assert not seen()


def test_a_reset_of_the_bus_behind_takes_its_devices_back(behind):
    behind.write(2, 0, 0x10, WINDOW)
    behind.write(0, 1, CONTROL, RESET, 2)
    assert behind.read(2, 0, 0) == 0xFFFF_FFFF  # the port on the way has lost its numbers
    behind.write(0, 1, CONTROL, 0, 2)
    behind.number(1, 1, 2, 2)
    assert behind.read(2, 0, 0x10) == 0
    behind.write(2, 0, 0x10, WINDOW)
    assert behind.read(2, 0, 0x10) == WINDOW


def test_pins_turn_by_one_wire_with_each_slot_on_the_way(behind):
    levels = []
    for card in behind.cards:
        lib.emu_pci_pull(card.native, 1)
        levels.append([line.level for line in behind.pci.wires])
        lib.emu_pci_pull(card.native, 0)
    # Slot 0 behind slot 1; slot 0 behind slot 1 behind slot 1; slot 0 behind slot 2.
    assert levels == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]


def test_the_state_comes_back(behind):
    behind.open(0, 1, WINDOW, WINDOW)
    behind.open(1, 1, WINDOW, WINDOW)
    behind.write(2, 0, 0x10, WINDOW)
    behind.write(2, 0, COMMAND, MEMORY, 2)
    saved = behind.pci.bus.save()
    behind.pci.bus.power_on()
    assert behind.space.read(WINDOW + 5, 1) == 0xFF
    behind.pci.bus.load(saved)
    assert behind.space.read(WINDOW + 5, 1) == 0x05
    assert behind.pci.bus.save() == saved


def test_places_that_cannot_be_had_are_told():
    def function(place):
        made = PciFunction(1, 2, 3)
        made.place = place
        return made

    for places, words in (
        ([(0, 0)], "is taken"),
        ([(1, 1)], "no function 0"),
        ([(32, 0)], "no place"),
        ([(1, 8)], "no place"),
        ([None] * 32, "32 slots"),
    ):
        with pytest.raises(DeviceError, match=words):
            settle([function(place) for place in places], {(0, 0): PciFunction(1, 2, 3)})


@pytest.fixture
def theirs():
    made = Qtest("aarch64", "-M", "virt", "-device", "pcie-root-port,id=p,bus=pcie.0,addr=1,chassis=1,port=8")
    yield made
    made.close()


def test_a_ports_header_takes_what_qemus_takes(theirs, bench):
    """What firmware and systems write while they number buses and open windows; ours has none of ports."""
    pci = Pci(bench, PciBridge("p"))
    for at in (*range(0, 0x10, 4), 0x18, *range(0x20, 0x30, 4), 0x3C):
        for value in (0xFFFF_FFFF, 0x1234_5678, 0):
            # Not bus master, error reports, the bus' reset and the latency timer, which PCI Express has not.
            given = value & {4: 2, 0x3C: 0xFF}.get(at, 0xFFFF_FFFF)
            theirs.write(QEMU_ECAM + (1 << 15) + at, given)
            pci.write(at, given)
            masks = {4: 2, 8: 0xFFFF_FF00, 0xC: 0xFF_0000, 0x18: 0xFF_FFFF, 0x3C: 0xFFFF}
            mask = masks.get(at, 0xFFFF_FFFF)
            assert pci.read(at) & mask == theirs.read(QEMU_ECAM + (1 << 15) + at) & mask, (
                hex(at),
                hex(value),
            )


@pytest.mark.parametrize("seed", range(3))
def test_random_writes_to_ports_do_no_harm(behind, seed):
    dice = random.Random(seed)
    for _ in range(2000):
        bus, slot = dice.choice([(0, 1), (0, 2), (1, 1), (1, 0), (2, 0), (3, 0)])
        behind.write(bus, slot, dice.randrange(0, 0x70, 4), dice.choice((0, 1, 0x1000, dice.getrandbits(32))))
    behind.pci.bus.power_on()
    behind.number(0, 1, 1, 2)
    assert behind.read(1, 0, 0) == 0x5678_1234


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", r"\b(\d+) +MSI +\d+ +Edge +virtio0-input"),
        (",gic-version=3", r"\b(\d+) +ITS-MSI +\d+ +Edge +virtio0-input"),
    ],
)
def test_linux_uses_a_device_behind_a_port(options, wanted):
    ports = [PciBridge(f"pci.{n}", port=7 + n, chassis=n) for n in (1, 2, 3)]
    for number, port in enumerate(ports):
        port.place = (1, number)
    ports[1].plug(VirtioPci(VirtioRng()))
    modules = ("virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio-rng")
    script = "ls /sys/bus/pci/devices\nhead -c 64 /dev/hwrng | wc -c | sed 's/^/GOT /'\ncat /proc/interrupts"
    line = Screen()
    with Machine(
        f"virt{options}", accel="tcg", ram=256 << 20, kernel=image(), serial=line, pci=ports,
        initrd=initrd(script, modules), append="console=ttyAMA0 quiet",
    ) as machine:  # fmt: skip
        assert machine.run(timeout=300).reason == "guest-shutdown", line.text
    assert re.findall(r"0000:\w\w:\w\w\.\d", line.text) == [
        *("0000:00:00.0", "0000:00:01.0", "0000:00:01.1", "0000:00:01.2", "0000:02:00.0"),
    ]
    assert "GOT 64" in line.text
    found = re.search(wanted, line.text)
    assert found, line.text
    assert int(found[1]) > 0
