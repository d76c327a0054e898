"""ACPI tables, and the little AML that describes devices which cannot be found otherwise.

Source: Advanced Configuration and Power Interface Specification 6.4, chapters 5 (tables), 6.4 (resources) and
20 (AML).

    ssdt = scope("\\\\_SB_", device("COM1", name("_HID", eisa_id("PNP0501"))))
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

OEM, OEM_TABLE, CREATOR = b"EMU   ", b"EMU     ", b"EMU "


def checksum(data: bytes) -> int:
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


def resources(*descriptors: bytes) -> bytes:
    """What _CRS is: descriptors and the end tag (6.4.2.9)."""
    return buffer(b"".join(descriptors) + b"\x79\0")


def ports(base: int, size: int) -> bytes:
    """A range of x86 ports (6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 1, base, base, 1, size)


def isa_interrupt(number: int) -> bytes:
    """One of the sixteen, edge-triggered (6.4.2.1)."""
    return struct.pack("<BH", 0x22, 1 << number)


def memory32(base: int, size: int) -> bytes:
    """A range of memory below 4 GiB, writable (6.4.3.4)."""
    return struct.pack("<BHBII", 0x86, 9, 1, base, size)


def interrupt(number: int, *, edge: bool = False) -> bytes:
    """An input of the I/O APIC, active high, not shared with another device (6.4.3.6)."""
    return struct.pack("<BHBBI", 0x89, 6, 1 | edge << 1, 1, number)
