"""Mappings at the edges of the address space and of RLIMIT_AS, and a program of 4 GiB: as natively."""

import shutil
import struct
import sys

import pytest

from tests.linux.programs import GUESTS, build, emulated, native, run

WIDE = [name for name in GUESTS if not name.startswith("arm")]
# Programs of the host's have all below the last page before 2^47; those of emu all below 2^46.
HOSTS_END, END = (1 << 47) - 4096, 1 << 46
ADDRESS, LENGTH = 1 << 36, 4 << 30
PT_LOAD, PT_GNU_STACK, PF_R = 1, 0x6474E551, 4


@pytest.mark.parametrize("guest", WIDE)
def test_what_cannot_be_mapped_is_refused_as_natively(guest):
    outcome = emulated("edges", guest, str(END))
    assert outcome == native("edges", str(HOSTS_END))
    assert outcome.status == 0
    assert outcome.output.count("ENOMEM") > 40


def sparse(program, image):
    """The program with a segment of 4 GiB more, of which the file has three bytes and holes."""
    shutil.copy(program, image)
    start = (image.stat().st_size + 65535) & ~65535
    with image.open("r+b") as file:
        header = file.read(64)
        (table,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        kinds = [struct.unpack_from("<I", file.read(size))[0] for _ in range(count)]
        # The stack's permissions can be done without; what is loaded must be in order, and this is the last.
        last = max(index for index, kind in enumerate(kinds) if kind == PT_LOAD)
        file.seek(table)
        entries = [file.read(size) for _ in range(count)]
        segment = struct.pack("<IIQQQQQQ", PT_LOAD, PF_R, start, ADDRESS, ADDRESS, LENGTH, LENGTH, 65536)
        entries.pop(kinds.index(PT_GNU_STACK))
        entries.insert(last + 1, segment)
        file.seek(table)
        file.write(b"".join(entries))
        for offset, value in ((0, 1), (LENGTH // 2, 2), (LENGTH - 1, 3)):
            file.seek(start + offset)
            file.write(bytes([value]))
    return image


@pytest.mark.parametrize("guest", WIDE)
def test_a_program_of_4_gib_runs_and_takes_no_more_than_it_touches(guest, tmp_path):
    name, accel = GUESTS[guest]
    program = sparse(build("edges", name), tmp_path / "program")
    words = [program, "image", hex(ADDRESS), hex(LENGTH)]
    outcome = run([sys.executable, "-m", "emu", "--accel", accel, *words])
    assert (outcome.output, outcome.status) == ("first 1, middle 2, last 3\n", 0)
    assert program.stat().st_blocks * 512 < 16 << 20
    if name == "x86_64":
        assert outcome == run(words)
