"""Devices that come and go on the board pc, by ACPI: registers beside QEMU's, and Linux lets go of them."""

import random

import pytest

from accel.errors import DeviceError, EmuError
from emu import Machine
from emu.devices.pci_bridge import PciBridge
from emu.inventory import Folder
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.pci import VirtioPci
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.qtest import Qtest
from tests.emu.steered import Client, steered
from tests.emu.test_hotplug import chardev, until_said, write

HALT = b"\xf4"
UP, DOWN, EJECT, REMOVABLE, BUS, INDEX = range(0xAE00, 0xAE18, 4)
STATUS, ENABLE = 0xAFE0, 0xAFE2
SCI = 9


class Ours:
    """The board, whose ports a test accesses as its CPU would."""

    def __init__(self, **options):
        self.machine = Machine("pc", accel="tcg", kernel=HALT, **options)
        self.machine.power_on()
        assert self.machine.ports is not None
        self.ports = self.machine.ports.space
        self.left = []
        self.machine.inventory.gone.append(lambda entry: self.left.append(entry.virtio))

    def read(self, port, width=4):
        return self.ports.read(port, width)

    def write(self, port, value, width=4):
        self.ports.write(port, width, value)

    def add(self, slot):
        function = VirtioPci(VirtioRng())
        function.place = (slot, 0)
        self.machine.plug(function)

    def remove(self, slot):
        self.machine.unplug(self.machine.board.pci.functions[slot, 0])

    def there(self):
        return sorted({slot for slot, _ in self.machine.board.pci.functions})

    def served(self):
        """What was pulled out is freed in the loop's thread."""
        self.machine.loop.step(0)
        return self.left

    def reset(self):
        self.machine.reset()
        self.machine.power_on()

    def close(self):
        self.machine.close()


class Theirs:
    """The same of QEMU's."""

    def __init__(self, folder, *options, board="pc"):
        end = f"unix:{folder}/qemu,server=on,wait=off"
        self.qtest = Qtest("x86_64", "-M", board, "-qmp", end, *options)
        self.read(UP)  # it listens by now
        self.client = Client(folder / "qemu")

    def read(self, port, width=4):
        return int(self.qtest.ask(f"in{'bwl'[width.bit_length() - 1]} {port:#x}"), 16)

    def write(self, port, value, width=4):
        self.qtest.ask(f"out{'bwl'[width.bit_length() - 1]} {port:#x} {value:#x}")

    def add(self, slot):
        self.client.ask("device_add", driver="virtio-rng-pci", bus="pci.0", addr=f"{slot:#x}", id=f"r{slot}")

    def remove(self, slot):
        self.client.ask("device_del", id=f"r{slot}")

    def there(self):
        # Configuration mechanism 1.
        found = []
        for slot in range(32):
            self.write(0xCF8, 1 << 31 | slot << 11)
            if self.read(0xCFC) & 0xFFFF != 0xFFFF:
                found.append(slot)
        return found

    def reset(self):
        self.client.ask("system_reset")

    def close(self):
        self.client.close()
        self.qtest.close()


@pytest.fixture
def pc():
    made = Ours()
    yield made
    made.close()


def test_the_registers_are_as_qemus(tmp_path, pc):
    dice = random.Random(9)
    qemu = Theirs(tmp_path)
    try:
        asked = set()  # QEMU, whose time stands still here, does not ask again
        for _ in range(400):
            kind = dice.choice(("add", "remove", "eject", "write", "write", "read", "read", "reset"))
            slot = dice.randrange(2, 6)
            there = pc.there()
            if kind == "add" and slot not in there:
                pc.add(slot)
                qemu.add(slot)
                asked.discard(slot)
            elif kind == "remove" and slot in there and slot not in asked:
                pc.remove(slot)
                qemu.remove(slot)
                asked.add(slot)
            elif kind == "eject":
                bits = 1 << dice.randrange(7) | dice.choice((0, 1 << slot))
                pc.write(EJECT, bits)
                qemu.write(EJECT, bits)
            elif kind == "write":
                port, width = dice.choice(
                    ((BUS, 4), (STATUS, 2), (ENABLE, 2), (UP, 4), (DOWN, 4), (INDEX, 4))
                )
                value = dice.choice((0, 0, 1, 2, 3, 0xFFFF))
                pc.write(port, value, width)
                qemu.write(port, value, width)
            elif kind == "reset" and dice.random() < 0.2:
                pc.write(BUS, 0)  # which QEMU keeps
                qemu.write(BUS, 0)
                pc.read(UP)
                qemu.read(UP)
                pc.reset()
                qemu.reset()
            else:
                for port, width in (
                    (UP, 4),
                    (DOWN, 4),
                    (EJECT, 4),
                    (REMOVABLE, 4),
                    (BUS, 4),
                    (STATUS, 2),
                    (ENABLE, 2),
                ):
                    assert pc.read(port, width) == qemu.read(port, width), hex(port)
            assert pc.there() == qemu.there()
    finally:
        qemu.close()


def test_an_event_is_an_interrupt_while_it_is_enabled(pc):
    line = pc.machine.board.line(SCI)
    pc.add(5)
    assert (pc.read(STATUS, 2), line.level) == (2, 0)
    pc.write(ENABLE, 2, 2)
    assert line.level == 1
    pc.write(STATUS, 2, 2)
    assert (pc.read(STATUS, 2), line.level) == (0, 0)
    pc.remove(5)
    assert line.level == 1
    # The power button is on the same line.
    pc.write(0x602, 0x100, 2)
    pc.machine.powerdown()
    pc.write(STATUS, 2, 2)
    assert line.level == 1
    pc.write(0x600, 0x100, 2)
    assert line.level == 0


def test_what_the_guest_lets_go_of_is_gone_at_once_and_freed_by_the_loop(pc):
    device = VirtioRng()
    function = pc.machine.plug(device)
    assert function.place == (2, 0)
    pc.machine.unplug(device)
    assert pc.there() == [0, 1, 2]
    pc.write(EJECT, 1 << 2)
    assert pc.there() == [0, 1]
    assert pc.served() == [device]
    assert device.pointer is None
    # What is the board's own stays, whoever asks.
    pc.write(EJECT, 1 << 1)
    pc.write(EJECT, 1 << 0)
    assert pc.there() == [0, 1]


def test_devices_that_were_there_from_the_start_go_too():
    device = VirtioRng()
    pc = Ours(virtio=[device])
    pc.machine.unplug(device)
    pc.write(EJECT, 1 << 2)
    assert pc.served() == [device]
    assert pc.machine.inventory.devices == []
    pc.close()


def test_what_cannot_be_plugged_or_pulled_is_told(pc):
    machine = pc.machine
    with pytest.raises(DeviceError, match=r"there is pci\.0"):
        machine.plug(VirtioRng(), "nothing")
    function = VirtioPci(VirtioRng())
    for place, says in (
        ((1, 0), "slot 0x1 is taken"),
        ((5, 1), "nothing is plugged in at 0x5.0x1"),
        ((32, 0), "0x20.0x0"),
    ):
        function.place = place
        with pytest.raises(DeviceError, match=says):
            machine.plug(function)
    with pytest.raises(DeviceError, match="not where one can be pulled out"):
        machine.unplug(machine.board.isa)
    machine.plug(VirtioBalloon())
    with pytest.raises(DeviceError, match="Only one balloon"):
        machine.plug(VirtioBalloon())
    for _ in range(29):
        machine.plug(VirtioRng())
    with pytest.raises(DeviceError, match="all 32 slots"):
        machine.plug(VirtioRng())


SERIAL = {"driver": "virtio-serial-pci", "id": "vs", "max_ports": 4, "addr": "4"}
PORT = {"driver": "virtserialport", "bus": "vs.0", "id": "late"}
# What both are told to do, one after the other; the answers are compared.
TOLD = [
    *({"driver": "virtio-rng-pci", "id": "r", "addr": "5"}, {"driver": "virtio-rng-pci", "id": "r"}),
    *({"driver": "virtio-rng-pci", "addr": addr} for addr in ("5", "0x5.0", "0x40", "xx", "-1")),
    *({"driver": "virtio-rng-pci", "bus": bus} for bus in ("nothing", "isa.0")),
    *(
        {"driver": driver}
        for driver in ("nothing", "virtio-rng-device", "virtio-serial-device", "isa-serial")
    ),
    *({"driver": "virtio-balloon-pci", "id": name, "addr": "6"} for name in ("b", "c")),
    {"driver": "virtio-balloon-pci", "addr": "7"},
    {"driver": "virtio-9p-pci"},
    {"driver": "virtio-9p-pci", "fsdev": "nothing", "mount_tag": "x"},
    {"driver": "virtio-9p-pci", "fsdev": "f"},
    {"driver": "virtio-9p-pci", "fsdev": "f", "mount_tag": "x", "id": "p9", "addr": "8"},
    SERIAL,
    {"driver": "virtio-rng-pci", "bus": "vs.0"},
    *({**PORT, "bus": bus} for bus in ("nothing.0", "pci.0")),
    {**PORT, "chardev": "nothing"},
    {**PORT, "chardev": "c0", "name": "n0", "id": "p0"},
    {**PORT, "chardev": "c0"},
    {**PORT, "chardev": "c1", "name": "n0"},
    *({**PORT, "chardev": "c1", "nr": number} for number in (0, 1, 4, 9)),
    {**PORT, "chardev": "c1", "name": "n1", "id": "p1"},
    {**PORT, "driver": "virtconsole", "chardev": "c2", "id": "p2"},
    {**PORT, "id": "p3"},
    *(PORT, {**PORT, "driver": "virtconsole"}, {**PORT, "id": "p3"}),
]


def deleted(client, count):
    """The next devices that are told to be gone, be it before a reply or behind one."""
    found = [data for name, data in client.told if name == "DEVICE_DELETED"]
    while len(found) < count:
        found.append(client.event("DEVICE_DELETED"))
    client.told.clear()
    return found


def test_what_cannot_be_is_told_in_qemus_words_and_events_come_in_its_order(tmp_path):
    qemu = Theirs(tmp_path, "-fsdev", f"local,id=f,path={tmp_path},security_model=none")
    with steered(tmp_path, board="pc", arch=None, kernel=HALT, paused=True) as machine:
        machine.machine.inventory.folders["f"] = Folder(str(tmp_path), False)
        ours, theirs = machine.client(), qemu.client
        for client in (ours, theirs):
            for name in ("c0", "c1", "c2"):
                client.ask("chardev-add", id=name, backend={"type": "null", "data": {}})
        for words in TOLD:
            answers = [client.message("device_add", words) for client in (ours, theirs)]
            assert answers[0] == answers[1], words
        # Ports are gone at once, what they ended at is free again; of others the guest is asked, who is none.
        for client in (ours, theirs):
            client.ask("device_del", id="p1")
            assert deleted(client, 1) == [{"device": "p1", "path": "/machine/peripheral/p1"}]
            client.ask("chardev-remove", id="c1")
            client.ask("device_add", **PORT, name="n1")
            for name in ("p9", "vs"):
                client.ask("device_del", id=name)
            client.ask("system_reset")
        told = [deleted(client, 8) for client in (ours, theirs)]
        assert told[0] == told[1]
        for client in (ours, theirs):
            assert {each["label"] for each in client.ask("query-chardev")} >= {"c0", "c2"}
            assert client.command("device_del", id="p0")["error"]["class"] == "DeviceNotFound"
            client.ask("chardev-remove", id="c0")
    qemu.close()


def test_the_board_microvm_says_in_qemus_words_why_there_is_no_way(tmp_path):
    qemu = Theirs(tmp_path, board="microvm")
    with steered(tmp_path, board="microvm", arch=None, kernel=HALT) as machine:
        for words in (
            *({"driver": f"virtio-{kind}-pci"} for kind in ("blk", "net", "rng")),
            *({"driver": "virtio-rng-device", "bus": bus} for bus in ("virtio-mmio-bus.0", "nothing")),
            *({"driver": driver} for driver in ("virtserialport", "isa-serial", "pcie-root-port")),
            {"driver": "virtio-rng-pci", "bus": "pci.0"},
        ):
            answers = [client.message("device_add", words) for client in (machine.client(), qemu.client)]
            assert answers[0] == answers[1], words
        assert machine.client().error("device_add", driver="virtio-rng-device") == (
            "Bus 'virtio-mmio-bus.7' does not support hotplugging"
        )
    qemu.close()


def test_without_acpi_there_is_no_way():
    for board, says in (
        ("pc,acpi=off", "nothing can be plugged in"),
        ("microvm", "board microvm has no PCI bus"),
    ):
        with Machine(board, accel="tcg", kernel=HALT) as machine, pytest.raises(DeviceError, match=says):
            machine.plug(VirtioRng())


def test_a_saved_machine_wants_the_same_devices_in_its_slots(tmp_path):
    first, second = Ours(), Ours()
    first.add(5)
    first.add(7)
    first.remove(7)
    first.write(ENABLE, 2, 2)
    first.machine.save(tmp_path / "saved")
    for slots in ((), (5,), (5, 6)):
        for slot in slots:
            if slot not in second.there():
                second.add(slot)
        with pytest.raises(
            EmuError, match=r"pci 7\.0 is VirtioPci with virtio-rng.*, and here absent|pci 5\.0 is"
        ):
            second.machine.load(tmp_path / "saved")
    second.remove(6)
    second.write(EJECT, 1 << 6)
    second.add(7)
    second.machine.load(tmp_path / "saved")
    ports = (DOWN, UP, STATUS, ENABLE)
    assert [second.read(port, 2 if port >= STATUS else 4) for port in ports] == [1 << 7, 0xA0, 2, 2]
    assert second.machine.board.line(SCI).level == 1
    second.write(EJECT, 1 << 7)
    assert [each.kind for each in second.served()] == ["virtio-rng", "virtio-rng"]
    for each in (first, second):
        each.close()


def test_a_copy_is_plugged_as_the_first_one_is_or_refused():
    first = Ours()
    device = VirtioRng()
    first.machine.plug(device)
    with pytest.raises(EmuError, match=r"pci 2\.0 is VirtioPci with virtio-rng"):
        first.machine.fork()
    with first.machine.fork(plugged=[(VirtioRng(), "pci.0")]) as copy:
        assert copy.ports.space.read(UP, 4) == 1 << 2
    first.close()


@pytest.mark.parametrize("seed", range(2))
def test_random_accesses_do_no_harm(seed):
    dice = random.Random(seed)
    pc = Ours(pci=[PciBridge("p")])
    came = 0
    for _ in range(4000):
        if dice.random() < 0.03:
            slots = [slot for slot in range(3, 32) if slot in pc.there()]
            if slots and dice.random() < 0.5:
                pc.remove(dice.choice(slots))
            elif len(slots) < 28:
                pc.machine.plug(VirtioRng(), "pci.0")
                came += 1
            pc.served()
        base, size = dice.choice(((UP, 0x18), (EJECT, 8), (STATUS, 4), (0xCF8, 8)))
        width = dice.choice((1, 2, 4, 4))
        at = base + dice.randrange(0, size, width)
        if dice.random() < 0.3:
            pc.read(at, width)
        else:
            pc.write(at, dice.choice((0, dice.getrandbits(8 * width), 1 << dice.randrange(8 * width))), width)
    left = [slot for slot in pc.there() if slot > 2]
    assert len(pc.served()) + len(left) == came > 20
    # It works as before.
    pc.write(BUS, 0)
    for slot in left:
        pc.write(EJECT, 1 << slot)
    pc.add(3)
    assert pc.there() == [0, 1, 2, 3]
    pc.close()


SCRIPT = """
wait_for() { while ! eval "$1"; do usleep 20000; done; }
echo READY
wait_for '[ -b /dev/vda -a -d /sys/class/net/eth0 -a -e /sys/bus/pci/devices/0000:00:07.0/driver ]'
cat /sys/block/vda/serial; echo; cat /sys/class/net/eth0/address
ls -d /sys/bus/pci/devices/0000:00:05.0/virtio*/block/vda | cut -d / -f 6
echo written by the guest > /tmp/text
dd if=/tmp/text of=/dev/vda bs=512 count=1 conv=fsync 2>/dev/null
udhcpc -i eth0 -s /etc/udhcpc -q -n > /dev/null 2>&1 && echo LEASE
echo DONE
# A port is there, is used, goes and comes back.
port() {
    wait_for 'grep -q late /sys/class/virtio-ports/*/name 2>/dev/null'
    exec 3<> /dev/$(basename $(dirname $(grep -l late /sys/class/virtio-ports/*/name)))
    echo $1 >&3; read line <&3; echo answer: $line
}
port one
wait_for '! grep -q late /sys/class/virtio-ports/*/name 2>/dev/null'
exec 3>&-; echo LEFT
port two; exec 3>&-
wait_for '[ "$(grep MemTotal /proc/meminfo | tr -dc 0-9)" -lt 190000 ]'
echo MORE
wait_for '[ "$(grep MemTotal /proc/meminfo | tr -dc 0-9)" -gt 210000 -a -z "$(ls /sys/class/virtio-ports)" ]'
wait_for '[ ! -b /dev/vda -a ! -d /sys/class/net/eth0 ]'
echo GONE
wait_for '[ -b /dev/vda ]'
head -c 21 /dev/vda
echo 0 > /sys/bus/pci/slots/9/power
dmesg | grep -iE 'bug:|warning|acpi.*error|failed to assign'
echo OVER
"""


MODULES = (*("virtio_pci", "virtio_blk", "virtio_net", "virtio-rng", "virtio_console", "virtio_balloon"),)


def test_linux_finds_devices_uses_them_and_lets_go(tmp_path):
    screen = Screen()
    ram = initrd(SCRIPT, MODULES, "amd64")
    file = {"driver": "file", "filename": write(tmp_path / "disk")}
    with steered(
        tmp_path,
        board="pc",
        arch=None,
        ram=256 << 20,
        kernel=image("amd64"),
        initrd=ram,
        append="console=ttyS0 quiet",
        serial=screen,
    ) as machine:
        client = machine.client()
        until_said(screen, "READY")
        client.ask("blockdev-add", driver="raw", node_name="d", file=file)
        client.ask("netdev_add", type="user", id="n")
        disk = {"driver": "virtio-blk-pci", "drive": "d", "serial": "late", "bus": "pci.0", "id": "disk"}
        card = {"driver": "virtio-net-pci", "netdev": "n", "id": "net", "mac": "52:54:00:00:00:77"}
        client.ask("device_add", **disk, addr="0x5")
        client.ask("device_add", **card)
        client.ask("device_add", driver="virtio-rng-pci", addr="7", id="rng")
        until_said(screen, "DONE")
        text = screen.text.split("READY\n")[1].split("\n")
        assert text[:5] == ["late", "52:54:00:00:00:77", "0000:00:05.0", "LEASE", "DONE"]
        for addr, wanted in (
            (
                "0x5",
                "PCI: slot 5 function 0 not available for virtio-rng-pci, in use by virtio-blk-pci,id=disk",
            ),
            ("0x1", "PCI: slot 1 function 0 not available for virtio-rng-pci, in use by Piix3"),
            ("0x40", "Property 'virtio-rng-pci.addr' doesn't take value '0x40'"),
            ("xx", "Property 'virtio-rng-pci.addr' doesn't take value 'xx'"),
        ):
            assert client.error("device_add", driver="virtio-rng-pci", addr=addr) == wanted

        assert client.ask("qom-get", path="/machine/peripheral/rng", property="hotplugged") is True
        client.ask("device_add", driver="virtio-serial-pci", id="vs")
        end = chardev(client, tmp_path)
        port = {"driver": "virtserialport", "bus": "vs.0", "chardev": "end", "name": "late", "id": "port"}
        for word in ("one", "two"):
            client.ask("device_add", **port)
            assert end.recv(100) == f"{word}\n".encode()
            end.sendall(f"to {word}\n".encode())
            until_said(screen, f"answer: to {word}")
            if word == "one":
                client.ask("device_del", id="port")
                until_said(screen, "LEFT")
        client.ask("device_add", driver="virtio-balloon-pci", id="balloon")
        client.ask("balloon", value=180 << 20)
        until_said(screen, "MORE")
        client.told.clear()
        for name in ("disk", "net", "vs", "balloon"):
            client.ask("device_del", id=name)
        names = [each.get("device") for each in deleted(client, 9)]
        assert sorted(filter(None, names)) == ["balloon", "disk", "net", "port", "vs"]
        client.ask("chardev-remove", id="end")
        end.close()
        until_said(screen, "GONE")
        client.ask("netdev_del", id="n")

        # The same disk again; the guest lets go of it by itself.
        client.ask("device_add", **disk, addr="0x9")
        until_said(screen, "OVER")
        assert client.event("DEVICE_DELETED") == {"path": "/machine/peripheral/disk/virtio-backend"}
        client.ask("blockdev-del", node_name="d")
    assert "GONE\nwritten by the guest\nOVER\n" in screen.text
