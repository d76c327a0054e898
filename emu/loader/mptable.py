"""Tables of CPUs and interrupts for kernels that know no ACPI, or are told not to use it.

Source: Intel MultiProcessor Specification 1.4, chapter 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from emu.loader.acpi import checksum

PROCESSOR, BUS, IO_APIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)
# Kinds of interrupts.
INT, NMI, EXT_INT = 0, 1, 3
ENABLED, BOOT_CPU = 1, 2
LOCAL_VERSION, IO_VERSION = 0x14, 0x11
ISA, ALL = 0, 0xFF


def mp_table(
    at: int, *, local_apic: int, io_apic: int, cpus: int, interrupts: Iterable[tuple[int, int, int]]
) -> bytes:
    """The floating pointer and the configuration table, for the address `at`.

    interrupts: those that are connected, as (ISA's number, the I/O APIC's input, polarity and trigger mode).
    """
    entries = [
        struct.pack(
            "<BBBBII8x", PROCESSOR, cpu, LOCAL_VERSION, ENABLED | (0 if cpu else BOOT_CPU), 0x600, 0x201
        )
        for cpu in range(cpus)
    ]
    entries.append(struct.pack("<BB6s", BUS, ISA, b"ISA   "))
    entries.append(struct.pack("<BBBBI", IO_APIC, cpus, IO_VERSION, ENABLED, io_apic))
    for source, target, flags in interrupts:
        entries.append(struct.pack("<BBHBBBB", IO_INTERRUPT, INT, flags, ISA, source, cpus, target))
    for kind, pin in ((EXT_INT, 0), (NMI, 1)):
        entries.append(struct.pack("<BBHBBBB", LOCAL_INTERRUPT, kind, 0, ISA, 0, ALL, pin))
    body = b"".join(entries)
    head = struct.pack(
        "<4sHBB8s12sIHHIHBx",
        *(b"PCMP", 44 + len(body), 4, 0, b"EMU     ", b"microvm     "),
        *(0, 0, len(entries), local_apic, 0, 0),
    )
    table = bytearray(head + body)
    table[7] = checksum(table)
    pointer = bytearray(struct.pack("<4sIBBB5x", b"_MP_", at + 16, 1, 4, 0))
    pointer[10] = checksum(pointer)
    return bytes(pointer + table)
