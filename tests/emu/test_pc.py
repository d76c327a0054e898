"""The board pc: Linux, SeaBIOS and a bare machine find its PCI bus and what is on it."""

from __future__ import annotations

import pytest

from accel.errors import BadImage, DeviceError
from emu import Machine
from emu.backends.chardev import MemoryChardev
from emu.boards.pc import Pc
from emu.devices.pci_host import ENABLE
from emu.drive import open_drive
from emu.net import open_net
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.net import VirtioNet
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.test_seabios import BOOT_SECTOR, firmware
from tests.guest.bare import words

PATIENCE = 300
ADDRESS, DATA = 0xCF8, 0xCFC
# Configuration registers.
COMMAND, BAR1, INTERRUPT_LINE, PIRQ = 0x04, 0x14, 0x3C, 0x60


def linux(script: str, screen: Screen, *, accel: str = "tcg", append: str = "", virtio=()) -> Machine:
    """Debian's kernel, which runs a script."""
    return Machine(
        "pc",
        accel=accel,
        ram=256 << 20,
        kernel=image("amd64"),
        initrd=initrd(script, None, "amd64"),
        append=f"console=ttyS0 quiet {append}",
        serial=screen,
        virtio=virtio,
    )


def booted(script: str, **options) -> str:
    """What it prints until it has switched the machine off."""
    screen = Screen()
    with linux(script, screen, **options) as guest:
        result = guest.run(timeout=PATIENCE)
    assert result.reason == "guest-shutdown", screen.text[-2000:]
    assert not any(word in screen.text for word in ("BUG:", "WARNING", "nobody cared")), screen.text
    return screen.text


def interrupts(text: str) -> dict[str, list[str]]:
    """Lines of /proc/interrupts of one CPU: the words by the last one's name."""
    found = map(str.split, text.splitlines())
    return {each[-1]: each[:-1] for each in found if len(each) > 3 and each[0].endswith(":")}


def test_linux_finds_its_devices_by_pci_and_powers_off(tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(b"from outside".ljust(1 << 20, b"\0"))
    end = open_net("user")
    assert end is not None
    script = """
head -c 12 /dev/vda; echo
echo from inside | dd of=/dev/vda bs=512 seek=1 conv=notrunc 2> /dev/null
sync
head -c 16 /dev/hwrng | wc -c
cat /sys/bus/virtio/drivers/virtio_balloon/*/status
ip -o -4 address show dev eth0
cat /proc/interrupts
cut -f 1-2 /proc/bus/pci/devices
dmesg | grep -iE 'bug:|warning|unstable|pci.*(failed|no .*(space|compatible))'
"""
    devices = [VirtioRng(), VirtioBalloon(), open_drive(f"{disk},format=raw"), VirtioNet(*end)]
    text = booted(script, virtio=devices)
    assert disk.read_bytes()[512:523] == b"from inside"
    lines = text.splitlines()
    for line in ("from outside", "16", "0x0000000f"):
        assert line in lines, text
    assert any("10.0.2.15/24" in line for line in lines), text
    functions = [line for line in lines if len(line) == 13 and line[4] == "\t"]
    assert functions == [
        *("0000\t80861237", "0008\t80867000", "000b\t80867113"),
        *("0010\t1af41044", "0018\t1af41045", "0020\t1af41042", "0028\t1af41041"),
    ], text
    # A message for each queue.
    given = interrupts(text)
    assert {name for name, each in given.items() if "PCI-MSI" in each} >= {
        *("virtio0-input", "virtio2-req.0", "virtio3-input.0", "virtio3-output.0"),
    }, text
    assert int(given["virtio2-req.0"][1]) > 0


@pytest.mark.parametrize(
    ("append", "chip"), [("pci=nomsi", "IO-APIC"), ("pci=nomsi noapic", "XT-PIC"), ("acpi=off", "XT-PIC")]
)
def test_without_messages_interrupts_come_by_the_wires(append, chip, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    script = "dd if=/dev/vda of=/dev/null bs=4096 count=32 2> /dev/null; cat /proc/interrupts; reboot -f"
    screen = Screen()
    devices = [VirtioRng(), open_drive(f"{disk},format=raw")]
    with linux(script, screen, append=append, virtio=devices) as guest:
        assert guest.run(timeout=PATIENCE).reason == "guest-reset", screen.text[-2000:]
    lines = [line.split() for line in screen.text.splitlines() if "virtio" in line]
    assert [(line[0], line[2]) for line in lines] == [("10:", chip), ("11:", chip)], screen.text
    assert all(int(line[1]) > 0 for line in lines), screen.text
    assert "nobody cared" not in screen.text


def test_without_a_kernel_seabios_boots_a_disk_by_pci(accel, tmp_path):
    firmware("bios-256k.bin")
    sector = words(BOOT_SECTOR).ljust(510, b"\0") + b"\x55\xaa"
    # Blanks behind: the last characters are on their way to the line when the machine ends.
    disk = tmp_path / "disk"
    disk.write_bytes((sector + b"from the second sector" + b" " * 40).ljust(1 << 20, b"\0"))
    debug, line = MemoryChardev(), MemoryChardev()
    drive = open_drive(f"{disk},format=raw")
    with Machine("pc", accel=accel.name, debugcon=debug, serial=line, virtio=[drive]) as machine:
        result = machine.run(timeout=PATIENCE)
    assert (result.reason, result.code) == ("guest-shutdown", 0x43), debug.text[-2000:]
    for found in ("Using pmtimer", "found virtio-blk at 00:02.0", "using modern (1.0) virtio mode"):
        assert found in debug.text
    assert "from the second sector" in line.text


def test_without_seabios_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(Pc, "default_firmware", "/nowhere/bios.bin")
    with pytest.raises(BadImage, match=r"bios\.bin: not there.*install seabios"):
        Machine("pc", accel="tcg")
    Machine("pc", accel="tcg", kernel=b"\xf4").close()


# -- as a program at CPL 0 sees it ----------------------------------------------------


class Bare:
    """A machine that does nothing, and accesses as its CPU's."""

    def __init__(self, machine: Machine) -> None:
        assert machine.ports is not None
        self.ports = machine.ports.space
        self.memory = machine.memory

    def read(self, slot: int, at: int, width: int, bus: int = 0) -> int:
        self.ports.write(ADDRESS, 4, ENABLE | bus << 16 | slot << 11 | at & 0xFC)
        return self.ports.read(DATA + at % 4, width)

    def write(self, slot: int, at: int, width: int, value: int) -> None:
        self.ports.write(ADDRESS, 4, ENABLE | slot << 11 | at & 0xFC)
        self.ports.write(DATA + at % 4, width, value)


@pytest.fixture
def bare(request):
    with Machine("pc", accel="tcg", kernel=b"\xf4", virtio=[VirtioRng(), VirtioRng()]) as machine:
        machine.power_on()
        yield machine, Bare(machine)


def test_a_bar_is_seen_where_the_bus_is_and_nowhere_else(bare):
    _, guest = bare
    assert [guest.read(slot, 0, 4) for slot in (0, 1, 2, 3, 4)] == [
        *(0x1237_8086, 0x7000_8086, 0x1044_1AF4, 0x1044_1AF4, 0xFFFF_FFFF),
    ]
    assert guest.read(2, 0, 4, bus=1) == 0xFFFF_FFFF
    guest.write(2, COMMAND, 2, 2)
    # The table's first vector is masked.
    for base, seen in ((0xFEB0_0000, True), (0x8000_0000, True), (0xFEC0_0000, False), (0x10_0000, False)):
        guest.write(2, BAR1, 4, base)
        assert (guest.memory.read(base + 12, 4) == 1) == seen, hex(base)
    guest.write(2, BAR1, 4, 0xFEBF_F000)
    assert guest.memory.read(0xFEBF_F00C, 4) == 1


def test_the_wires_go_where_the_isa_bridge_says(bare):
    machine, guest = bare
    lines = {number: machine.board.line(number) for number in (5, 10, 11)}

    def levels() -> list[int]:
        return [line.level for line in lines.values()]

    # As firmware leaves them: slot 2 has the second wire, slot 3 the third.
    assert guest.read(1, PIRQ, 4) == 0x0B0B_0A0A
    assert [guest.read(slot, INTERRUPT_LINE, 1) for slot in (2, 3)] == [10, 11]
    wires = machine.board.isa.wires
    wires[1].set(1)
    assert levels() == [0, 1, 0]
    wires[2].set(1)
    assert levels() == [0, 1, 1]
    for number in (1, 2):
        guest.write(1, PIRQ + number, 1, 5)
    assert levels() == [1, 0, 0]
    wires[1].set(0)
    assert levels() == [1, 0, 0]  # the other wire pulls it
    guest.write(1, PIRQ + 2, 1, 0x80)
    assert levels() == [0, 0, 0]
    guest.write(1, PIRQ + 2, 1, 2)  # a reserved one
    assert levels() == [0, 0, 0]
    guest.write(1, PIRQ + 2, 1, 11)
    saved = machine.board.isa.save()
    guest.write(1, PIRQ + 2, 1, 10)
    machine.board.isa.load(saved)
    assert levels() == [0, 0, 1]


def test_a_legacy_transport_or_too_many_functions_are_refused():
    for options, says in (
        ({"virtio": [VirtioRng()], "force_legacy": True}, "no legacy transport"),
        ({"virtio": [VirtioRng() for _ in range(31)]}, "32 slots"),
    ):
        with pytest.raises(DeviceError, match=says):
            Machine("pc", accel="tcg", kernel=b"\xf4", **options)
