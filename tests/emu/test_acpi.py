"""ACPI tables as ACPICA's own disassembler reads them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from types import SimpleNamespace

import pytest

from emu import Machine
from emu.boards.microvm import Microvm
from emu.boards.pc_tables import ACPI_BASE, acpi_tables, placed_tables
from emu.loader.acpi import eisa_id, integer, loader_files, name_string, package_length


def machine(devices=3):
    return SimpleNamespace(cpus=[0], virtio=[None] * devices)


def at(image, address, size):
    return image[address - ACPI_BASE : address - ACPI_BASE + size]


def tables(image):
    """By signature, found from the root pointer on as a kernel does."""
    (xsdt,) = struct.unpack_from("<Q", image, 24)
    found = {}
    places = [xsdt]
    while places:
        place = places.pop()
        signature, size = struct.unpack("<4sI", at(image, place, 8))
        data = found[signature.decode()] = at(image, place, size)
        if signature == b"XSDT":
            places += struct.unpack(f"<{(size - 36) // 8}Q", data[36:])
        elif signature == b"FACP":
            places += struct.unpack_from("<QQ", data, 132)
    return found


def test_every_table_sums_to_zero():
    image = placed_tables(Microvm(), machine())
    assert image[:8] == b"RSD PTR "
    assert sum(image[:20]) & 0xFF == sum(image[:36]) & 0xFF == 0
    found = tables(image)
    assert sorted(found) == ["APIC", "DSDT", "FACP", "FACS", "XSDT"]
    for signature, data in found.items():
        assert signature == "FACS" or sum(data) & 0xFF == 0


@pytest.mark.parametrize("devices", [0, 8])
def test_acpica_reads_them_without_a_complaint(devices, tmp_path):
    iasl = shutil.which("iasl")
    if iasl is None:
        pytest.skip("iasl is not installed (Debian: acpica-tools)")
    for signature, data in tables(placed_tables(Microvm(), machine(devices))).items():
        if signature == "XSDT":
            continue
        file = tmp_path / f"{signature.lower()}.dat"
        file.write_bytes(data)
        done = subprocess.run([iasl, "-d", file.name], cwd=tmp_path, capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert not any(word in said.lower() for word in ("error", "warning", "invalid", "unknown")), said
    source = (tmp_path / "dsdt.dsl").read_text()
    assert source.count('"LNRO0005"') == devices
    assert "S5 System State" in source
    done = subprocess.run(
        [iasl, "-oa", "-p", "again", "dsdt.dsl"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "0 Errors" in done.stdout + done.stderr
    assert (tmp_path / "again.aml").read_bytes()[36:] == tables(placed_tables(Microvm(), machine(devices)))[
        "DSDT"
    ][36:]


def test_firmware_that_follows_the_loaders_script_has_the_same_tables():
    files = loader_files(*acpi_tables(Microvm(), machine()))
    memory = {name: bytearray(data) for name, data in files.items()}
    # The second file's address is what the test chooses; where the first one lies nobody is told.
    base = {"etc/acpi/tables": ACPI_BASE + 64}
    script = files["etc/table-loader"]
    allocated = []
    for at in range(0, len(script), 128):
        entry = script[at : at + 128]
        (command,) = struct.unpack_from("<I", entry)
        name = entry[4:60].rstrip(b"\0").decode()
        if command == 1:
            allocated.append((name, *struct.unpack_from("<IB", entry, 60)))
        elif command == 2:
            target = entry[60:116].rstrip(b"\0").decode()
            offset, width = struct.unpack_from("<IB", entry, 116)
            value = int.from_bytes(memory[name][offset : offset + width], "little") + base[target]
            memory[name][offset : offset + width] = value.to_bytes(width, "little")
        else:
            assert command == 3
            offset, start, size = struct.unpack_from("<III", entry, 60)
            assert memory[name][offset] == 0
            memory[name][offset] = -sum(memory[name][start : start + size]) & 0xFF
    assert [(name, zone) for name, _, zone in allocated] == [("etc/acpi/tables", 1), ("etc/acpi/rsdp", 2)]
    whole = bytes(memory["etc/acpi/rsdp"]).ljust(64, b"\0") + memory["etc/acpi/tables"]
    assert whole == placed_tables(Microvm(), machine())


@pytest.mark.parametrize(
    ("size", "encoded"),
    [(0, "01"), (62, "3f"), (63, "4104"), (4093, "4fff"), (4094, "810001"), (70000, "831711")],
)
def test_lengths_count_themselves(size, encoded):
    assert package_length(size).hex() == encoded


def test_names_and_numbers_are_in_their_shortest_form():
    assert name_string("\\_SB_.COM1").hex() == "5c2e5f53425f434f4d31"
    assert [integer(value).hex() for value in (0, 1, 2, 0x100, 0x1_0000)] == [
        *("00", "01", "0a02", "0b0001", "0c00000100"),
    ]
    assert eisa_id("PNP0501").hex() == "0c41d00501"


def test_acpica_reads_a_pci_bus_with_its_windows_and_interrupts(tmp_path):
    iasl = shutil.which("iasl")
    if iasl is None:
        pytest.skip("iasl is not installed (Debian: acpica-tools)")
    with Machine("pc", accel="tcg", ram=256 << 20, kernel=b"\xf4") as made:
        dsdt = tables(placed_tables(made.board, made))["DSDT"]
    (tmp_path / "dsdt.dat").write_bytes(dsdt)
    for words in (("-d", "dsdt.dat"), ("-oa", "-p", "again", "dsdt.dsl")):
        done = subprocess.run([iasl, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "0 Errors, 0 Warnings" in done.stdout + done.stderr, done.stdout
    assert (tmp_path / "again.aml").read_bytes()[36:] == dsdt[36:]
    source = (tmp_path / "dsdt.dsl").read_text()
    for found in ("WordBusNumber (ResourceProducer", "DWordMemory (ResourceProducer", "0x10000000", "_PRT"):
        assert found in source
