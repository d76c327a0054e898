"""Devices that come and go while the guest runs: slots of PCI Express ports, by registers and with Linux."""

import random

import pytest

from accel.errors import DeviceError
from emu import Machine
from emu.devices.pci_bridge import PciBridge
from emu.devices.pci_slot import BUTTON, LINK_ACTIVE, LINK_CHANGED, PRESENCE_CHANGED, PRESENT
from emu.virtio.rng import VirtioRng
from tests.emu.qtest import Qtest
from tests.emu.steered import SPINNING
from tests.emu.test_pci import CAPABILITIES, COMMAND, ECAM, MEMORY, WINDOW, Card, Pci

QEMU_ECAM = 0x40_1000_0000
EXPRESS, MSIX = 0x10, 0x11
CONTROL, STATUS, LINK_STATUS = 0x18, 0x1A, 0x12
BUSES = 0x18
# Control: button, presence, link are enabled with interrupts; indicators, power.
ENABLED = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 12
ON, BLINKS, OFF, POWER_OFF = 1 << 8, 2 << 8, 3 << 8, 1 << 10


def capability(read, kind):
    """Where a capability is in configuration space."""
    at = read(CAPABILITIES, 1)
    while read(at, 1) != kind:
        at = read(at + 1, 1)
        assert at, hex(kind)
    return at


class Port:
    """A port on bus 0, with bus 1 behind, as a guest sees it."""

    def __init__(self, bench):
        self.port = PciBridge("p")
        self.pci = Pci(bench, self.port)
        self.space, self.gone = self.pci.space, []
        self.port.gone = lambda port, functions: self.gone.append(functions)
        self.at = capability(self.pci.read, EXPRESS)
        self.pci.write(BUSES, 1 << 8 | 1 << 16)

    def insert(self, card):
        with self.space.thawed():
            self.port.insert(card, self.pci.bus.context)

    @property
    def status(self):
        return self.pci.read(self.at + STATUS, 2)

    @property
    def control(self):
        return self.pci.read(self.at + CONTROL, 2)

    @control.setter
    def control(self, value):
        self.pci.write(self.at + CONTROL, value, 2)

    @property
    def link(self):
        return bool(self.pci.read(self.at + LINK_STATUS, 2) & LINK_ACTIVE)

    def acknowledge(self):
        self.pci.write(self.at + STATUS, 0xFFFF, 2)

    def card(self):
        """The card's identity, as the guest reads it."""
        return self.space.read(ECAM + (1 << 20), 4)


@pytest.fixture
def port(bench):
    return Port(bench)


def test_a_card_comes_and_goes_in_the_steps_of_the_standard(port):
    assert (port.control & (OFF | POWER_OFF), port.status, port.link) == (OFF | POWER_OFF, 0, False)
    port.control = ENABLED | OFF | POWER_OFF
    card = Card()
    port.insert(card)
    assert port.status == BUTTON | PRESENCE_CHANGED | PRESENT
    assert port.pci.wires[1].level == 1
    assert (port.link, port.card()) == (False, 0xFFFF_FFFF)  # it has no power yet
    port.acknowledge()
    assert (port.status, port.pci.wires[1].level) == (PRESENT, 0)
    port.control = ENABLED | ON
    assert (port.status, port.link, port.card()) == (PRESENT | LINK_CHANGED, True, 0x5678_1234)
    port.acknowledge()

    port.port.eject()
    assert (port.status, port.pci.wires[1].level) == (PRESENT | BUTTON, 1)
    assert port.card() == 0x5678_1234
    port.acknowledge()
    port.control = ENABLED | BLINKS
    assert port.gone == []
    port.control = ENABLED | OFF | POWER_OFF
    assert port.gone == [[card]]
    assert (port.status, port.link) == (PRESENCE_CHANGED | LINK_CHANGED, False)
    assert port.card() == 0xFFFF_FFFF
    # The slot is as before, and takes another.
    port.acknowledge()
    port.insert(Card())
    port.control = ENABLED | ON
    assert port.card() == 0x5678_1234


def test_a_message_is_sent_when_there_is_an_event_and_was_none(port):
    pci, at = port.pci, capability(port.pci.read, MSIX)
    pci.write(0x10, WINDOW)
    pci.write(COMMAND, MEMORY, 2)
    for offset, value in ((0, 0x0802_0040), (4, 0), (8, 80), (12, 0)):
        pci.space.write(WINDOW + offset, 4, value)
    pci.write(at + 2, 0x8000, 2)
    port.insert(Card())
    assert pci.told == []  # nothing is enabled
    port.control = ENABLED | OFF | POWER_OFF
    assert len(pci.told) == 1
    port.control = ENABLED | ON  # the link is another event, and the first one waits still
    assert len(pci.told) == 1
    port.acknowledge()
    port.port.eject()
    assert len(pci.told) == 2
    assert [line.level for line in pci.wires] == [0] * 4


def test_a_slot_without_power_gives_its_card_back_at_once(port):
    port.insert(Card())
    port.port.eject()
    assert len(port.gone) == 1
    assert not port.status & PRESENT


def test_the_guest_may_let_go_by_itself(port):
    port.insert(Card())
    port.control = ON
    port.control = OFF | POWER_OFF
    assert len(port.gone) == 1


def test_power_that_goes_and_comes_resets_the_card(port):
    port.insert(Card())
    port.control = ON
    port.space.write(ECAM + (1 << 20) + 0x10, 4, WINDOW)
    port.control = ON | POWER_OFF
    assert port.card() == 0xFFFF_FFFF
    port.control = ON
    assert port.space.read(ECAM + (1 << 20) + 0x10, 4) == 0
    assert port.gone == []


def test_a_slot_takes_one_card_at_one_place(port):
    port.insert(Card())
    with pytest.raises(DeviceError, match="taken"):
        port.insert(Card())
    port.port.eject()
    card = Card()
    card.place = (1, 0)
    with pytest.raises(DeviceError, match="one place"):
        port.insert(card)


def test_a_reset_takes_what_was_asked_for_and_keeps_the_others(port):
    port.insert(Card())
    port.pci.bus.power_on()
    assert (port.control & (OFF | POWER_OFF), port.status, port.link) == (ON, PRESENT, True)
    port.control = ON
    port.port.eject()
    port.pci.bus.power_on()
    assert len(port.gone) == 1
    assert (port.control & (OFF | POWER_OFF), port.status, port.link) == (OFF | POWER_OFF, 0, False)


def test_the_state_comes_back_and_of_another_slot_is_refused(port):
    port.insert(Card())
    port.control = ENABLED | ON
    port.space.write(ECAM + (1 << 20) + 0x10, 4, WINDOW)
    port.port.eject()
    saved = port.pci.bus.save()
    port.acknowledge()
    port.control = ENABLED | BLINKS
    port.pci.bus.load(saved)
    assert port.pci.bus.save() == saved
    assert (port.pci.wires[1].level, port.status & BUTTON) == (1, BUTTON)
    port.control = ENABLED | OFF | POWER_OFF
    with pytest.raises(DeviceError, match="plug in"):
        port.pci.bus.load(saved)


def test_a_slots_control_takes_what_qemus_takes(port):
    theirs = Qtest(
        "aarch64", "-M", "virt", "-device", "pcie-root-port,id=p,bus=pcie.0,addr=1,chassis=1,port=8"
    )
    try:
        place = QEMU_ECAM + (1 << 15)
        at = capability(lambda at, width: theirs.read(place + (at & ~3)) >> 8 * (at & 3) & 0xFF, EXPRESS)
        for value in (0, ENABLED, OFF | POWER_OFF, ENABLED | ON, 0x07FF, 0x17FF):
            theirs.write(place + at + CONTROL, value)
            port.control = value
            # QEMU's has no enable bits for power faults and the link.
            assert theirs.read(place + at + CONTROL) & 0x07F9 == port.control & 0x07F9, hex(value)
    finally:
        theirs.close()


@pytest.mark.parametrize("seed", range(3))
def test_random_writes_to_a_slot_do_no_harm(port, seed):
    dice = random.Random(seed)
    cards = 0
    for _ in range(3000):
        if dice.random() < 0.01:
            if port.port.functions:
                port.port.eject()
            else:
                port.insert(Card())
                cards += 1
        width = dice.choice((1, 2, 4))
        at = dice.choice((0x10, port.at + CONTROL & ~3, dice.randrange(0, 0x100, 4)))
        port.pci.write(at + dice.randrange(0, 4, width), dice.getrandbits(8 * width), width)
        port.space.write(ECAM + (1 << 20) + dice.randrange(0, 0x100, 4), 4, dice.getrandbits(32))
    assert len(port.gone) + len(port.port.functions) == cards > 0
    port.pci.bus.power_on()
    if not port.port.functions:
        port.insert(Card())
    port.control = ON
    port.pci.write(BUSES, 1 << 8 | 1 << 16)
    assert port.card() == 0x5678_1234


def test_what_cannot_be_plugged_or_pulled_is_told():
    fixed, hot = PciBridge("fixed", hotplug=False), PciBridge("hot")
    with Machine("virt", arch="aarch64", accel="tcg", kernel=SPINNING, pci=[fixed, hot]) as machine:
        device = VirtioRng()
        for name in ("fixed", "nothing"):
            with pytest.raises(DeviceError, match="there is hot"):
                machine.plug(device, name)
        with pytest.raises(DeviceError, match="not behind a port"):
            machine.unplug(device)
        assert machine.plug(device, hot).device is device
        with pytest.raises(DeviceError, match="taken"):
            machine.plug(VirtioRng(), "hot")
        # It is there from the beginning, for a guest that has not begun.
        machine.power_on()
        assert hot.slot is not None
        assert hot.slot.powered
