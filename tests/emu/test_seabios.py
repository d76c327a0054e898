"""SeaBIOS on microvm: to its end without a disk, and from a disk by its boot sector."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu import Machine
from emu.backends.chardev import MemoryChardev
from emu.drive import open_drive
from tests.guest.bare import words

FOLDER = Path("/usr/share/seabios")
PATIENCE = 300
# Reads the second sector to 7E00h by BIOS, prints what is there, and ends the machine.
BOOT_SECTOR = """
    31 c0        ; xor ax, ax
    8e d8        ; mov ds, ax
    8e c0        ; mov es, ax
    8e d0        ; mov ss, ax
    bc 00 7c     ; mov sp, 0x7c00
    b8 01 02     ; mov ax, 0x201
    bb 00 7e     ; mov bx, 0x7e00
    b9 02 00     ; mov cx, 2
    b6 00        ; mov dh, 0
    cd 13        ; int 0x13
    72 15        ; jc fail
    be 00 7e     ; mov si, 0x7e00
    ac           ; lodsb
    84 c0        ; test al, al
    74 09        ; je +9
    b4 0e        ; mov ah, 0xe
    bb 07 00     ; mov bx, 7
    cd 10        ; int 0x10
    eb f2        ; jmp -14
    b0 21        ; mov al, 0x21
    eb 02        ; jmp +2
    b0 22        ; fail: mov al, 0x22
    e6 f4        ; out 0xf4, al
    f4           ; hlt
"""


def firmware(name: str) -> str:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{path} is not there; install seabios")
    return str(path)


def test_without_a_disk_it_says_so_on_both_ends(accel):
    debug, line = MemoryChardev(), MemoryChardev()
    with Machine(
        "microvm", accel=accel.name, firmware=firmware("bios-256k.bin"), debugcon=debug, serial=line
    ) as machine:
        result = machine.run(timeout=PATIENCE, until=lambda: "No bootable device" in debug.text)
    assert result.reason == "until", debug.text[-2000:]
    assert debug.text.startswith("SeaBIOS (version ")
    for found in ("Found QEMU fw_cfg", "(via xsdt)", "ACPI: no PS/2 keyboard", "Found 2 serial ports"):
        assert found in debug.text
    assert "SeaBIOS (version " in line.text


@pytest.mark.parametrize("name", ["bios-256k.bin", "bios-microvm.bin"])
def test_it_boots_a_disk_by_its_boot_sector(accel, name, tmp_path):
    sector = words(BOOT_SECTOR).ljust(510, b"\0") + b"\x55\xaa"
    # Blanks behind: the last characters are on their way to the line when the machine ends.
    text = b"from the second sector" + b" " * 40
    disk = tmp_path / "disk"
    disk.write_bytes((sector + text).ljust(1 << 20, b"\0"))
    debug, line = MemoryChardev(), MemoryChardev()
    drive = open_drive(f"{disk},format=raw")
    with Machine(
        "microvm",
        accel=accel.name,
        firmware=firmware(name),
        debugcon=debug,
        serial=line,
        virtio=[drive],
    ) as machine:
        result = machine.run(timeout=PATIENCE)
    assert (result.reason, result.code) == ("guest-shutdown", 0x43), debug.text[-2000:]
    assert "ACPI: virtio-mmio device VR00" in debug.text
    assert "from the second sector" in line.text
