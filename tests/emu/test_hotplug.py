"""Devices that come and go while the guest runs: slots of PCI Express ports, by registers and with Linux."""

import random
import socket
import time

import pytest

import emu.block
from accel.errors import DeviceError, EmuError
from emu import Machine
from emu.devices.pci_bridge import PciBridge
from emu.devices.pci_slot import BUTTON, LINK_ACTIVE, LINK_CHANGED, PRESENCE_CHANGED, PRESENT
from emu.inventory import Folder
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.qtest import Qtest
from tests.emu.steered import SPINNING, steered
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
        self.port.gone = lambda functions: self.gone.append(functions)
        self.at = capability(self.pci.read, EXPRESS)
        self.pci.write(BUSES, 1 << 8 | 1 << 16)

    def insert(self, card):
        with self.space.thawed():
            self.port.insert(card, self.pci.bus.context)

    def eject(self):
        self.port.eject(self.port.plugged()[0])

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

    port.eject()
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
    port.eject()
    assert len(pci.told) == 2
    assert [line.level for line in pci.wires] == [0] * 4


def test_a_slot_without_power_gives_its_card_back_at_once(port):
    port.insert(Card())
    port.eject()
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
    port.eject()
    card = Card()
    card.place = (1, 0)
    with pytest.raises(DeviceError, match="one place"):
        port.insert(card)


def test_a_reset_takes_what_was_asked_for_and_keeps_the_others(port):
    port.insert(Card())
    port.pci.bus.power_on()
    assert (port.control & (OFF | POWER_OFF), port.status, port.link) == (ON, PRESENT, True)
    port.control = ON
    port.eject()
    port.pci.bus.power_on()
    assert len(port.gone) == 1
    assert (port.control & (OFF | POWER_OFF), port.status, port.link) == (OFF | POWER_OFF, 0, False)


def test_the_state_comes_back_and_of_another_slot_is_refused(port):
    port.insert(Card())
    port.control = ENABLED | ON
    port.space.write(ECAM + (1 << 20) + 0x10, 4, WINDOW)
    port.eject()
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
                port.eject()
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
        with pytest.raises(DeviceError, match="not where one can be pulled out"):
            machine.unplug(device)
        assert machine.plug(device, hot).device is device
        with pytest.raises(DeviceError, match="taken"):
            machine.plug(VirtioRng(), "hot")
        # It is there from the beginning, for a guest that has not begun.
        machine.power_on()
        assert hot.slot is not None
        assert hot.slot.powered


def test_a_saved_machine_wants_the_same_devices_in_its_slots(tmp_path):
    def machine():
        return Machine(
            "virt", arch="aarch64", accel="tcg", ram=32 << 20, kernel=SPINNING, pci=[PciBridge("hot")]
        )

    with machine() as first:
        first.power_on()
        device = VirtioRng()
        first.plug(device, "hot")
        first.unplug(device)
        first.plug(VirtioRng(), "hot")
        port = first.hotplug.sockets()["hot"]
        first.save(tmp_path / "saved")
        state = port.save()
    with machine() as second:
        with pytest.raises(EmuError):
            second.load(tmp_path / "saved")
        second.plug(VirtioRng(), "hot")
        second.load(tmp_path / "saved")
        assert second.hotplug.sockets()["hot"].save() == state


# -- by monitors ---------------------------------------------------------------------------------


def write(path, size=1 << 20):
    path.write_bytes(bytes(size))
    return str(path)


@pytest.fixture
def spinning(tmp_path):
    """A guest that does nothing, with a port that is hot-pluggable and one that is not."""
    ports = [PciBridge("fixed", hotplug=False), PciBridge("hot"), PciBridge("other")]
    with steered(tmp_path, pci=ports) as machine:
        yield machine.client(), tmp_path


def test_what_cannot_be_is_told_in_qemus_words(spinning):
    client, _ = spinning
    assert client.error("device_add", driver="nothing") == "'nothing' is not a valid device model name"
    for bus, wanted in (
        ("nothing", "Bus 'nothing' not found"),
        ("pcie.0", "Bus 'pcie.0' does not support hotplugging"),
        ("fixed", "Bus 'fixed' does not support hotplugging"),
    ):
        assert client.error("device_add", driver="virtio-rng-pci", bus=bus) == wanted
    wanted = "Device 'pcie-root-port' does not support hotplugging"
    assert client.error("device_add", driver="pcie-root-port", bus="hot") == wanted
    assert client.error("device_add", driver="virtio-rng-device") == (
        "Bus 'virtio-mmio-bus.31' does not support hotplugging"
    )
    assert "drive is missing" in client.error("device_add", driver="virtio-blk-pci", bus="hot")
    assert "no such" in client.error("device_add", driver="virtio-blk-pci", bus="hot", drive="nothing")
    assert "no such" in client.error("device_add", driver="virtio-net-pci", bus="hot", netdev="nothing")
    assert "colour is not" in client.error("device_add", driver="virtio-rng-pci", bus="hot", colour="red")

    client.ask("device_add", driver="virtio-rng-pci", bus="hot", id="r")
    error = client.error("device_add", driver="virtio-rng-pci", bus="other", id="r")
    assert error == "Duplicate device ID 'r'"
    error = client.error("device_add", driver="virtio-rng-pci", bus="hot", id="s")
    assert error == "PCI: slot 0 function 0 not available for virtio-rng-pci, in use by virtio-rng-pci,id=r"
    assert client.command("device_del", id="nothing")["error"]["class"] == "DeviceNotFound"


def test_a_node_is_in_use_while_a_device_has_it(spinning):
    client, folder = spinning
    file = {"driver": "file", "filename": write(folder / "disk")}
    client.ask("blockdev-add", driver="raw", node_name="d", file=file)
    # What failed leaves the node as it was.
    error = client.error("device_add", driver="virtio-blk-pci", bus="hot", drive="d", serial="x" * 21)
    assert "shorten it" in error
    client.ask("device_add", driver="virtio-blk-pci", bus="hot", drive="d", id="disk")
    assert "in use" in client.error("blockdev-del", node_name="d")
    assert "used by disk" in client.error("device_add", driver="virtio-blk-pci", bus="other", drive="d")
    client.events.clear()
    client.ask("system_reset")  # from now on it has power
    client.ask("device_del", id="disk")
    assert client.error("device_del", id="disk") == "Device disk is already in the process of unplug"
    assert "in use" in client.error("blockdev-del", node_name="d")
    # It answers no button, and a reset takes the device.
    client.ask("system_reset")
    assert client.event("DEVICE_DELETED") == {"path": "/machine/peripheral/disk/virtio-backend"}
    assert client.event("DEVICE_DELETED") == {"device": "disk", "path": "/machine/peripheral/disk"}
    assert client.command("device_del", id="disk")["error"]["class"] == "DeviceNotFound"
    # Into a slot without power, and out of it at once.
    client.ask("device_add", driver="virtio-blk-pci", drive="d", id="again")
    client.ask("device_del", id="again")
    client.event("DEVICE_DELETED")
    client.event("DEVICE_DELETED")
    client.ask("blockdev-del", node_name="d")
    assert client.ask("query-block") == []


def test_a_cables_end_outlives_its_card(spinning):
    client, _ = spinning
    client.ask("netdev_add", type="user", id="n")
    card = {"driver": "virtio-net-pci", "bus": "hot", "netdev": "n"}
    for name in ("one", "two"):
        client.ask("device_add", id=name, **card)
        assert "in use" in client.error("netdev_del", id="n")
        error = client.error("device_add", **{**card, "bus": "other"})
        assert f"netdev=n is used by {name} already" in error
        # The guest has given the slot no power, so the card is out at once.
        if name == "one":
            client.ask("system_reset")
            client.ask("device_del", id=name)
            client.ask("system_reset")
        else:
            client.ask("device_del", id=name)
        client.event("DEVICE_DELETED")
        client.event("DEVICE_DELETED")
    client.ask("netdev_del", id="n")
    assert client.command("netdev_del", id="n")["error"]["class"] == "DeviceNotFound"


def test_people_plug_in_too(spinning):
    client, folder = spinning
    assert client.human(f"drive_add 0 if=none,id=d,format=raw,file={write(folder / 'disk')}") == "OK\n"
    assert client.human("device_add virtio-blk-pci,drive=d,id=disk") == ""
    assert "virtio-blk-pci" in client.human("info qtree")
    assert "not supported" in client.human("netdev_add tin,id=n")
    assert client.human("netdev_add user,id=n") == client.human("netdev_del n") == ""
    assert client.human("device_del disk") == ""
    client.event("DEVICE_DELETED")
    client.event("DEVICE_DELETED")
    # What drive_add has made goes with its disk, as QEMU has it.
    assert client.ask("query-named-block-nodes") == []
    assert "not found" in client.human("device_del disk")


def until_said(screen, word):
    """Waits until the guest has printed a line."""
    end = time.monotonic() + 300
    while f"{word}\n" not in screen.text:
        assert time.monotonic() < end, (word, screen.text[-2000:])
        time.sleep(0.02)


def until(condition):
    """Waits until a condition holds."""
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def chardev(client, folder):
    """A chardev `end` at a socket, to which this is the other end."""
    path = str(folder / "end")
    address = {"type": "unix", "data": {"path": path}}
    client.ask("chardev-add", id="end", backend={"type": "socket", "data": {"addr": address, "wait": False}})
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(100)
    made.connect(path)
    return made


SCRIPT = """
wait_for() { while ! eval "$1"; do usleep 20000; done; }
echo READY
wait_for '[ -b /dev/vda -a -d /sys/class/net/eth0 -a -n "$(cat /sys/class/misc/hw_random/rng_current)" ]'
cat /sys/block/vda/serial; echo; cat /sys/class/net/eth0/address
head -c 64 /dev/hwrng | wc -c
echo written by the guest > /tmp/text
dd if=/tmp/text of=/dev/vda bs=512 count=1 conv=fsync 2>/dev/null
udhcpc -i eth0 -s /etc/udhcpc -q -n > /dev/null 2>&1 && echo LEASE
echo DONE
# A folder, a port of a console that comes later than that, and a balloon.
mkdir -p /mnt
wait_for 'mount -t 9p -o trans=virtio,version=9p2000.L late /mnt 2>/dev/null'
cat /mnt/hello; umount /mnt
wait_for 'grep -q late /sys/class/virtio-ports/*/name 2>/dev/null'
exec 3<> /dev/$(basename $(dirname $(grep -l late /sys/class/virtio-ports/*/name)))
echo ping >&3; read line <&3; echo answer: $line; exec 3>&-
wait_for '[ "$(grep MemTotal /proc/meminfo | tr -dc 0-9)" -lt 190000 ]'
echo MORE
wait_for '[ ! -b /dev/vda -a ! -d /sys/class/net/eth0 ]'
wait_for '! ls /sys/class/virtio-ports /sys/bus/virtio/drivers/9pnet_virtio | grep -q -e vport -e ^virtio'
wait_for '[ "$(grep MemTotal /proc/meminfo | tr -dc 0-9)" -gt 210000 ]'
echo GONE
wait_for '[ -b /dev/vda ]'
head -c 21 /dev/vda
echo 0 > /sys/bus/pci/slots/1/power
echo OVER
"""


def test_linux_finds_devices_uses_them_and_lets_go(tmp_path):
    screen = Screen()
    ports = [PciBridge(f"p{n}", port=n, chassis=n) for n in range(1, 7)]
    modules = (
        *("virtio_pci", "virtio_blk", "virtio_net", "virtio-rng", "virtio_console", "virtio_balloon"),
        *("9pnet_virtio", "9p"),
    )
    (tmp_path / "share").mkdir()
    (tmp_path / "share/hello").write_text("hello from outside\n")
    ram = initrd(SCRIPT, modules)
    emu.block.create(tmp_path / "disk", 4 << 20, format="qcow2")

    with steered(
        tmp_path,
        ram=256 << 20,
        kernel=image(),
        initrd=ram,
        append="console=ttyAMA0 quiet",
        serial=screen,
        pci=ports,
    ) as machine:
        client = machine.client()

        until_said(screen, "READY")
        file = {"driver": "file", "filename": str(tmp_path / "disk")}
        client.ask("blockdev-add", driver="qcow2", node_name="d", file=file)
        client.ask("netdev_add", type="user", id="n")
        disk = {"driver": "virtio-blk-pci", "drive": "d", "serial": "late"}
        client.ask("device_add", bus="p1", id="disk", **disk)
        client.ask(
            "device_add", driver="virtio-net-pci", bus="p2", netdev="n", id="net", mac="52:54:00:00:00:77"
        )
        client.ask("device_add", driver="virtio-rng-pci", bus="p3", id="rng")
        until_said(screen, "DONE")
        text = screen.text.split("READY\n")[1]
        assert text.split("\n")[:5] == ["late", "52:54:00:00:00:77", "64", "LEASE", "DONE"]
        assert client.human("info block") != ""
        assert "in use" in client.error("netdev_del", id="n")

        machine.machine.inventory.folders["f"] = Folder(str(tmp_path / "share"), False)
        folder = {"driver": "virtio-9p-pci", "fsdev": "f", "mount_tag": "late", "bus": "p4", "id": "folder"}
        assert client.message("device_add", folder) == {"return": {}}
        until_said(screen, "hello from outside")
        client.ask("device_add", driver="virtio-serial-pci", bus="p5", id="vs")
        end = chardev(client, tmp_path)
        client.ask("device_add", driver="virtserialport", bus="vs.0", chardev="end", name="late", id="port")
        assert end.recv(100) == b"ping\n"
        end.sendall(b"pong\n")
        until_said(screen, "answer: pong")
        client.ask("device_add", driver="virtio-balloon-pci", bus="p6", id="balloon")
        client.ask("balloon", value=180 << 20)
        until_said(screen, "MORE")
        until(lambda: client.ask("query-balloon")["actual"] == 180 << 20)

        # The guest takes its time; what it does not know of is not asked for again.
        for name in ("disk", "net", "folder", "vs", "balloon"):
            client.ask("device_del", id=name)
            assert client.error("device_del", id=name) == f"Device {name} is already in the process of unplug"
        gone = [client.event("DEVICE_DELETED") for _ in range(11)]
        names = [each["device"] for each in gone if "device" in each]
        assert sorted(names) == ["balloon", "disk", "folder", "net", "port", "vs"]
        assert "No balloon" in client.error("query-balloon")
        end.close()
        until_said(screen, "GONE")
        client.ask("netdev_del", id="n")

        # The same disk again; the guest lets go of it by itself.
        client.ask("device_add", bus="p1", id="disk", **disk)
        until_said(screen, "OVER")
        assert "written by the guest\n" in screen.text
        assert client.event("DEVICE_DELETED") == {"path": "/machine/peripheral/disk/virtio-backend"}
        client.ask("blockdev-del", node_name="d")
    with emu.block.open(tmp_path / "disk") as disk:
        assert disk.read(0, 20) == b"written by the guest"
