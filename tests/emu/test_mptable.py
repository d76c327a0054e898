"""Intel's MP tables: well formed, and saying what the board has."""

import struct
from types import SimpleNamespace

import pytest

from emu.boards.microvm import Microvm
from emu.boards.pc_tables import MP_BASE, mp_tables
from emu.devices.apic import IO_BASE, LOCAL_BASE

SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}


@pytest.mark.parametrize("cpus", [1, 16])
def test_the_tables_say_what_the_board_has(cpus):
    image = mp_tables(Microvm(), SimpleNamespace(cpus=[None] * cpus))
    assert image[:4] == b"_MP_"
    assert (sum(image[:16]) & 0xFF, image[8], image[11]) == (0, 1, 0)
    (at,) = struct.unpack_from("<I", image, 4)
    table = image[at - MP_BASE :]
    size, count, local = (
        struct.unpack_from(form, table, place)[0] for form, place in (("<H", 4), ("<H", 34), ("<I", 36))
    )
    assert (table[:4], len(table), sum(table) & 0xFF, local) == (b"PCMP", size, 0, LOCAL_BASE)
    entries, place = [], 44
    while place < size:
        entries.append(table[place : place + SIZES[table[place]]])
        place += len(entries[-1])
    assert (place, len(entries)) == (size, count)
    kinds = {kind: [entry for entry in entries if entry[0] == kind] for kind in SIZES}
    assert [(entry[1], entry[3]) for entry in kinds[0]] == [(n, 3 if n == 0 else 1) for n in range(cpus)]
    assert [entry[2:] for entry in kinds[1]] == [b"ISA   "]
    assert [(entry[1], struct.unpack_from("<I", entry, 4)[0]) for entry in kinds[2]] == [(cpus, IO_BASE)]
    # ISA's interrupt to the I/O APIC's input: the timer is at 2, where the cascade's would be.
    wired = {entry[5]: (entry[7], struct.unpack_from("<H", entry, 2)[0]) for entry in kinds[3]}
    slots = range(Microvm.virtio.irq, Microvm.virtio.irq + Microvm.virtio.count)
    level = 0xD  # active high, level-triggered
    assert wired == {
        **{n: (n, 0) for n in range(16) if n != 2},
        **{n: (n, level) for n in slots},
        0: (2, 0),
        9: (9, level),
    }
    assert [(entry[1], entry[6], entry[7]) for entry in kinds[4]] == [(3, 0xFF, 0), (1, 0xFF, 1)]
