"""ACPI tables, and the little AML that describes devices which cannot be found otherwise.

Source: Advanced Configuration and Power Interface Specification 6.4, chapters 5 (tables), 6.4 (resources) and
20 (AML).

    ssdt = scope("\\\\_SB_", device("COM1", name("_HID", eisa_id("PNP0501"))))
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

OEM, OEM_TABLE, CREATOR = b"EMU   ", b"EMU     ", b"EMU "


def checksum(data: bytes | bytearray) -> int:
    """What makes the sum of all bytes 0."""
    return -sum(data) & 0xFF


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A system description table with its header (5.2.6)."""
    head = struct.pack(
        "<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, OEM, OEM_TABLE, 1, CREATOR, 1
    )
    whole = head + body
    return whole[:9] + bytes([checksum(whole)]) + whole[10:]


def rsdp(xsdt: int) -> bytes:
    """The root pointer (5.2.5.3), with the address of the XSDT."""
    first = struct.pack("<8sB6sBI", b"RSD PTR ", 0, OEM, 2, 0)
    first = first[:8] + bytes([checksum(first)]) + first[9:]
    whole = first + struct.pack("<IQB3x", 36, xsdt, 0)
    return whole[:32] + bytes([checksum(whole)]) + whole[33:]


def io_address(port: int, width: int) -> bytes:
    """A generic address (5.2.3.2) of an x86 port, `width` bytes; 0 for none."""
    return struct.pack("<BBBBQ", 1, 8 * width, 0, min(width, 3), port) if port else bytes(12)


def facs() -> bytes:
    """Firmware's control structure (5.2.10), 64 bytes, without a waking vector."""
    return struct.pack("<4sII", b"FACS", 64, 0) + bytes(20) + bytes([2]) + bytes(31)


def madt(local_apic: int, cpus: int, io_apic: int, overrides: Iterable[tuple[int, int, int]]) -> bytes:
    """The interrupt controllers (5.2.12).  overrides: ISA interrupt, I/O APIC's input, flags (5.2.12.5)."""
    body = struct.pack("<II", local_apic, 1)  # the PC's two 8259s are there too
    for cpu in range(cpus):
        body += struct.pack("<BBBBI", 0, 8, cpu, cpu, 1)
    body += struct.pack("<BBBBII", 1, 12, cpus, 0, io_apic, 0)
    for source, target, flags in overrides:
        body += struct.pack("<BBBBIH", 2, 10, 0, source, target, flags)
    body += struct.pack("<BBBHB", 4, 6, 0xFF, 0, 1)  # LINT1 is NMI, on all of them
    return table(b"APIC", 4, body)


class Tables:
    """Tables that point to each other, wherever their first byte will be.

    add() takes them in an order where what is pointed to comes first, and gives the offset of each.
    """

    ALIGN = 64

    def __init__(self) -> None:
        self.data = bytearray()
        self.pointers: list[tuple[int, int]] = []  # where, and how many bytes
        self.summed: list[tuple[int, int]] = []  # first byte and size of tables with a checksum

    def add(self, made: bytes, pointers: Iterable[tuple[int, int, int]] = (), *, summed: bool = True) -> int:
        """pointers: offset within the table, bytes, and the offset of what it points to."""
        at = len(self.data)
        self.data += made.ljust(-(-len(made) // self.ALIGN) * self.ALIGN, b"\0")
        for offset, width, target in pointers:
            self.data[at + offset : at + offset + width] = target.to_bytes(width, "little")
            self.pointers.append((at + offset, width))
        if summed:
            self.summed.append((at, len(made)))
        return at

    def placed(self, base: int) -> bytes:
        """The bytes for the address `base`."""
        data = bytearray(self.data)
        for at, width in self.pointers:
            value = int.from_bytes(data[at : at + width], "little") + base
            data[at : at + width] = value.to_bytes(width, "little")
        for at, size in self.summed:
            data[at + 9] = 0
            data[at + 9] = checksum(data[at : at + size])
        return bytes(data)


def loader_files(tables: Tables, xsdt: int) -> dict[str, bytes]:
    """The files by which QEMU's machines leave tables to firmware, which places them where it likes.

    Source: QEMU's hw/acpi/bios-linker-loader.c: commands of 128 bytes, that allocate memory for a file, add a
    file's address to a pointer in another, and make a checksum.
    """
    root_file, file = b"etc/acpi/rsdp", b"etc/acpi/tables"
    high, low_rom = 1, 2

    def command(number: int, form: str, *words: object) -> bytes:
        return struct.pack("<I" + form, number, *words).ljust(128, b"\0")

    def allocate(name: bytes, align: int, zone: int) -> bytes:
        return command(1, "56sIB", name, align, zone)

    def point(name: bytes, offset: int, width: int) -> bytes:
        return command(2, "56s56sIB", name, file, offset, width)

    def sum_up(name: bytes, at: int, start: int, size: int) -> bytes:
        return command(3, "56sIII", name, at, start, size)

    script = [allocate(file, Tables.ALIGN, high), allocate(root_file, 16, low_rom)]
    script += [point(file, at, width) for at, width in tables.pointers]
    script += [sum_up(file, at + 9, at, size) for at, size in tables.summed]
    script += [point(root_file, 24, 8), sum_up(root_file, 8, 0, 20), sum_up(root_file, 32, 0, 36)]
    # What firmware sums up is 0 before: U-Boot wants it so.
    data, root = bytearray(tables.data), bytearray(rsdp(xsdt))
    for at, _ in tables.summed:
        data[at + 9] = 0
    root[8] = root[32] = 0
    return {
        "etc/acpi/rsdp": bytes(root),
        "etc/acpi/tables": bytes(data),
        "etc/table-loader": b"".join(script),
    }


# ---- AML ------------------------------------------------------------------------


def package_length(size: int) -> bytes:
    """The encoding of a length that counts itself (20.2.4)."""
    for count in range(4):
        whole = size + count + 1
        if whole < (64 if count == 0 else 1 << 4 + 8 * count):
            break
    if count == 0:
        return bytes([whole])
    return bytes([count << 6 | whole & 15]) + (whole >> 4).to_bytes(count, "little")


def name_string(path: str) -> bytes:
    """A name, with its root prefix if it has one; each part of four characters (20.2.2)."""
    root = b"\\" if path.startswith("\\") else b""
    parts = [part.ljust(4, "_").encode() for part in path.lstrip("\\").split(".") if part]
    if len(parts) <= 1:
        return root + (parts[0] if parts else b"\0")
    if len(parts) == 2:
        return root + b"\x2e" + b"".join(parts)
    return root + b"\x2f" + bytes([len(parts)]) + b"".join(parts)


def integer(value: int) -> bytes:
    """A constant, in the shortest form (20.2.3)."""
    if value in (0, 1):
        return bytes([value])
    for prefix, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4), (0x0E, 8)):
        if value < 1 << 8 * size:
            return bytes([prefix]) + value.to_bytes(size, "little")
    raise ValueError(value)


def string(text: str) -> bytes:
    """A string of ASCII."""
    return b"\x0d" + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """A compressed EISA identifier, as PNP0501 (19.3.4)."""
    letters = [ord(letter) - 0x40 for letter in text[:3]]
    value = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return b"\x0c" + value.to_bytes(4, "big")


def package(*elements: bytes) -> bytes:
    """Elements in one object."""
    body = bytes([len(elements)]) + b"".join(elements)
    return b"\x12" + package_length(len(body)) + body


def buffer(data: bytes) -> bytes:
    """Bytes as an object."""
    body = integer(len(data)) + data
    return b"\x11" + package_length(len(body)) + body


def name(path: str, value: bytes) -> bytes:
    """Gives an object a name."""
    return b"\x08" + name_string(path) + value


def scope(path: str, *terms: bytes) -> bytes:
    """Terms within a place of the namespace."""
    body = name_string(path) + b"".join(terms)
    return b"\x10" + package_length(len(body)) + body


def device(path: str, *terms: bytes) -> bytes:
    """A device with its objects."""
    body = name_string(path) + b"".join(terms)
    return b"\x5b\x82" + package_length(len(body)) + body


def method(path: str, *terms: bytes, arguments: int = 0) -> bytes:
    """A method of so many arguments."""
    body = name_string(path) + bytes([arguments]) + b"".join(terms)
    return b"\x14" + package_length(len(body)) + body


def port_words(path: str, base: int, *names: str) -> bytes:
    """Registers of 32 bits each, from a port on, by name (20.2.5.2): a region of that path and its fields."""
    region = b"\x5b\x80" + name_string(path) + b"\x01" + integer(base) + integer(4 * len(names))
    whole, zeros = 3, 2 << 5  # accessed as words of 32 bits
    body = (
        name_string(path) + bytes([whole | zeros]) + b"".join(name_string(each) + b"\x20" for each in names)
    )
    return region + b"\x5b\x81" + package_length(len(body)) + body


def mutex(path: str) -> bytes:
    """A lock of the guest's."""
    return b"\x5b\x01" + name_string(path) + b"\0"


def locked(path: str, *terms: bytes) -> bytes:
    """Terms while a lock is held."""
    taken = b"\x5b\x23" + name_string(path) + b"\xff\xff"
    return taken + b"".join(terms) + b"\x5b\x27" + name_string(path)


def argument(number: int) -> bytes:
    """An argument of the method's."""
    return bytes([0x68 + number])


def local(number: int) -> bytes:
    """A variable of the method's own."""
    return bytes([0x60 + number])


def store(value: bytes, target: bytes) -> bytes:
    """Puts a value somewhere."""
    return b"\x70" + value + target


def shift_left(value: bytes, by: bytes, target: bytes) -> bytes:
    """Puts a value times a power of two somewhere."""
    return b"\x79" + value + by + target


def both(one: bytes, other: bytes) -> bytes:
    """The bits that both values have."""
    return b"\x7b" + one + other + b"\0"


def when(condition: bytes, *terms: bytes) -> bytes:
    """Terms if the condition is not 0."""
    body = condition + b"".join(terms)
    return b"\xa0" + package_length(len(body)) + body


def notify(path: str, value: int) -> bytes:
    """Tells the system of something about a device (5.6.6)."""
    return b"\x86" + name_string(path) + integer(value)


def call(path: str, *arguments: bytes) -> bytes:
    """Calls a method."""
    return name_string(path) + b"".join(arguments)


def resources(*descriptors: bytes) -> bytes:
    """What _CRS is: descriptors and the end tag (6.4.2.9)."""
    return buffer(b"".join(descriptors) + b"\x79\0")


def ports(base: int, size: int) -> bytes:
    """A range of x86 ports (6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 1, base, base, 1, size)


SPACES = {"memory": (0, 1), "ports": (1, 3), "bus": (2, 0)}  # type and its flags: writable; whole range


def address_space(kind: str, base: int, size: int) -> bytes:
    """A window of a bridge: memory, ports, or bus numbers (6.4.3.5.2, 6.4.3.5.3)."""
    type, flags = SPACES[kind]
    fixed = 1 << 2 | 1 << 3
    tag, form = (0x87, "<BHBBBIIIII") if kind == "memory" else (0x88, "<BHBBBHHHHH")
    length = struct.calcsize(form) - 3
    return struct.pack(form, tag, length, type, fixed, flags, 0, base, base + size - 1, 0, size)


def isa_interrupt(number: int) -> bytes:
    """One of the sixteen, edge-triggered (6.4.2.1)."""
    return struct.pack("<BH", 0x22, 1 << number)


def memory32(base: int, size: int) -> bytes:
    """A range of memory below 4 GiB, writable (6.4.3.4)."""
    return struct.pack("<BHBII", 0x86, 9, 1, base, size)


def interrupt(number: int, *, edge: bool = False) -> bytes:
    """An input of the I/O APIC, active high, not shared with another device (6.4.3.6)."""
    return struct.pack("<BHBBI", 0x89, 6, 1 | edge << 1, 1, number)
