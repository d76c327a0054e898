"""A PC's tables: ACPI's, and Intel's MP tables for kernels without ACPI."""

from __future__ import annotations

import struct

from emu.boards.pc_interrupts import PIT_INPUT
from emu.devices.acpi_pm import SOFT_OFF, AcpiEvents
from emu.devices.apic import IO_BASE, LOCAL_BASE
from emu.loader.acpi import (
    Tables,
    argument,
    both,
    call,
    device,
    eisa_id,
    facs,
    integer,
    io_address,
    isa_interrupt,
    local,
    locked,
    madt,
    method,
    mutex,
    name,
    name_string,
    notify,
    package,
    port_words,
    ports,
    resources,
    rsdp,
    scope,
    shift_left,
    store,
    table,
    when,
)
from emu.loader.mptable import mp_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.boards.pc_base import PcBoard
    from emu.machine import Machine

# Where PCs have ROMs: ACPI's, and Intel's old ones.
ACPI_BASE, MP_BASE, TABLES_SIZE = 0xE_0000, 0xF_0000, 0x2_0000
PM_BASE = 0x600
SCI = 9
# General-purpose events, and the slots of a PCI bus where devices come and go; as QEMU's PIIX4 has them.
EVENTS_BASE, SLOTS_BASE = 0xAFE0, 0xAE00
# Of an interrupt: active high, level-triggered.
ACTIVE_HIGH_LEVEL = 0xD


def acpi_tables(board: PcBoard, machine: Machine) -> tuple[Tables, int]:
    """The tables, and where among them the XSDT is."""
    tables = Tables()
    facs_at = tables.add(facs(), summed=False)
    dsdt_at = tables.add(table(b"DSDT", 2, _namespace(board.namespace(machine), board.events())))
    overrides = [(0, PIT_INPUT, 0), *((line, line, ACTIVE_HIGH_LEVEL) for line in board.level_lines)]
    madt_at = tables.add(madt(LOCAL_BASE, len(machine.cpus), IO_BASE, overrides))
    to_facs, to_dsdt = ((36, 4), (132, 8)), ((40, 4), (140, 8))
    pointers = [(*place, facs_at) for place in to_facs] + [(*place, dsdt_at) for place in to_dsdt]
    fadt_at = tables.add(table(b"FACP", 6, _fadt(bool(board.events()))), pointers)
    root = table(b"XSDT", 1, bytes(16))
    return tables, tables.add(root, [(36, 8, fadt_at), (44, 8, madt_at)])


def placed_tables(board: PcBoard, machine: Machine) -> bytes:
    """All tables as they are at ACPI_BASE, the root pointer first."""
    tables, root = acpi_tables(board, machine)
    first = ACPI_BASE + Tables.ALIGN
    whole = rsdp(first + root).ljust(Tables.ALIGN, b"\0") + tables.placed(first)
    assert len(whole) <= MP_BASE - ACPI_BASE
    return whole


def mp_tables(board: PcBoard, machine: Machine) -> bytes:
    """The tables for a kernel without ACPI, as they are at MP_BASE."""
    flags = dict.fromkeys(board.level_lines, ACTIVE_HIGH_LEVEL)
    interrupts = [(n, n or PIT_INPUT, flags.get(n, 0)) for n in range(16) if n != PIT_INPUT]
    interrupts += [(number, number, ACTIVE_HIGH_LEVEL) for number in board.inputs()]
    return mp_table(
        MP_BASE,
        local_apic=LOCAL_BASE,
        io_apic=IO_BASE,
        cpus=len(machine.cpus),
        interrupts=interrupts,
    )


def _fadt(events: bool) -> bytes:
    """The fixed description (ACPI 6.4, 5.2.9) without its header and its pointers.

    events: whether there are general-purpose ones.
    """
    body = bytearray(276 - 36)

    def put(offset: int, form: str, *values: int) -> None:
        struct.pack_into("<" + form, body, offset - 36, *values)

    put(46, "H", SCI)
    put(56, "I", PM_BASE)
    put(64, "I", PM_BASE + 4)
    put(76, "I", PM_BASE + 8)
    put(88, "BBBB", 4, 2, 0, 4)
    if events:
        put(80, "I", EVENTS_BASE)
        put(92, "B", AcpiEvents.size)
        body[220 - 36 : 232 - 36] = io_address(EVENTS_BASE, AcpiEvents.size)
    put(96, "HH", 0xFFFF, 0xFFFF)  # no C2, no C3
    put(108, "B", 0x32)  # the clock's century
    put(109, "H", 1)  # devices of the ISA bus; no keyboard controller
    # WBINVD works; no sleep button; the timer has 32 bits; there is a reset register.
    put(112, "I", 1 << 0 | 1 << 5 | 1 << 8 | 1 << 10)
    body[116 - 36 : 128 - 36] = io_address(PM_BASE + 12, 1)
    put(128, "B", 1)
    for offset, port, width in ((148, PM_BASE, 4), (172, PM_BASE + 4, 2), (208, PM_BASE + 8, 4)):
        body[offset - 36 : offset - 24] = io_address(port, width)
    return bytes(body)


def slot_methods(slots: list[int]) -> list[bytes]:
    """A PCI bus' terms for slots where devices come and go: a device for each, and what serves their event.

    The event's method tells the system of those that are new (1, a device check) and of those that are to be
    ejected (3, an eject request).
    """
    new, leaving = local(0), local(1)
    terms = [
        port_words("PCST", SLOTS_BASE, "PCIU", "PCID", "PCEJ", "PCRM", "PCBN"),
        mutex("PCLK"),
        method(
            "EJCT",
            locked(
                "PCLK",
                store(integer(0), name_string("PCBN")),
                shift_left(integer(1), argument(0), name_string("PCEJ")),
            ),
            arguments=1,
        ),
    ]
    told = []
    for slot in slots:
        path, bit = f"S{slot:02X}_", integer(1 << slot)
        terms.append(
            device(
                path,
                name("_ADR", integer(slot << 16)),
                name("_SUN", integer(slot)),
                method("_EJ0", call("EJCT", integer(slot)), arguments=1),
            )
        )
        told += [when(both(new, bit), notify(path, 1)), when(both(leaving, bit), notify(path, 3))]
    look = locked(
        "PCLK",
        store(integer(0), name_string("PCBN")),
        store(name_string("PCIU"), new),
        store(name_string("PCID"), leaving),
    )
    terms.append(method("PCNT", look, *told))
    return terms


def _namespace(more: list[bytes], events: list[bytes]) -> bytes:
    """The DSDT's terms: serial lines, the clock, what the board has besides, switching off, events."""
    terms = []
    for number, (base, irq) in enumerate(((0x3F8, 4), (0x2F8, 3))):
        terms.append(
            device(
                f"COM{number + 1}",
                name("_HID", eisa_id("PNP0501")),
                name("_UID", integer(number)),
                name("_CRS", resources(ports(base, 8), isa_interrupt(irq))),
            )
        )
    terms.append(
        device(
            "RTC", name("_HID", eisa_id("PNP0B00")), name("_CRS", resources(ports(0x70, 2), isa_interrupt(8)))
        )
    )
    off = package(integer(SOFT_OFF), integer(0), integer(0), integer(0))
    return scope("\\_SB", *terms, *more) + name("\\_S5", off) + scope("\\_GPE", *events)
