"""The board pc: Linux, SeaBIOS and a bare machine find its PCI bus and what is on it."""

from __future__ import annotations

import pytest

from emu import Machine
from emu.drive import open_drive
from emu.net import open_net
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.net import VirtioNet
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd

PATIENCE = 300
ADDRESS, DATA = 0xCF8, 0xCFC
# Configuration registers.
COMMAND, BAR1, INTERRUPT_LINE, PIRQ = 0x04, 0x14, 0x3C, 0x60


def booted(script: str, *, accel: str = "tcg", append: str = "", virtio=()) -> str:
    """What Debian's kernel prints, which runs a script and ends."""
    screen = Screen()
    with Machine(
        "pc",
        accel=accel,
        ram=256 << 20,
        kernel=image("amd64"),
        initrd=initrd(script, None, "amd64"),
        append=f"console=ttyS0 quiet {append}",
        serial=screen,
        virtio=virtio,
    ) as guest:
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
    ("append", "chip"), [("pci=nomsi", "IO-APIC"), ("pci=nomsi noapic", "XT-PIC"), ("acpi=off", "MSI")]
)
def test_without_messages_interrupts_come_by_wire(append, chip, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    script = "dd if=/dev/vda of=/dev/null bs=4096 count=32 2> /dev/null; cat /proc/interrupts; poweroff -f"
    screen = Screen()
    with Machine(
        "pc",
        accel="tcg",
        ram=256 << 20,
        kernel=image("amd64"),
        initrd=initrd(script, None, "amd64"),
        append=f"console=ttyS0 quiet {append}",
        serial=screen,
        virtio=[VirtioRng(), open_drive(f"{disk},format=raw")],
    ) as guest:
        guest.run(timeout=PATIENCE, until=lambda: "ERR:" in screen.text)
    lines = [line.split() for line in screen.text.splitlines() if "virtio" in line and ":" in line]
    used = [line for line in lines if line[0][:-1].isdigit() and int(line[1]) > 0]
    assert used, screen.text
    assert all(chip in line[2] for line in used), screen.text
    assert "nobody cared" not in screen.text
