"""The ELF parser and loader: hostile files are refused, good ones read as readelf reads them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import BadImage
from emu.loader.elf import Elf, parse

SOURCES = ["emu/native/elf.c", "emu/linux/native/load.c", "emu/linux/native/umem.c", "emu/linux/native/abi.c"]


def test_a_program_is_read_as_readelf_reads_it(isa, build):
    if shutil.which("readelf") is None:
        pytest.skip("no readelf to compare with")
    path = build("echo", isa)
    image = parse(Path(path).read_bytes())
    text = subprocess.run(["readelf", "-hlW", path], capture_output=True, text=True, check=True).stdout
    entry = re.search(r"Entry point address:\s+(\w+)", text)
    assert entry is not None
    assert image.entry == int(entry[1], 16)
    loads = [line.split() for line in text.splitlines() if line.strip().startswith("LOAD")]
    assert [(s.vaddr, s.paddr, len(s.data), s.memsz) for s in image.segments] == [
        (int(words[2], 16), int(words[3], 16), int(words[4], 16), int(words[5], 16)) for words in loads
    ]


def test_200_thousand_mutated_files_neither_crash_nor_deceive(sanitized, build):
    """EMU_FUZZ_CASES in the environment sets how many; parser and loader run under ASan and UBSan."""
    fuzzer = sanitized("fuzz_elf", *SOURCES)
    cases = os.environ.get("EMU_FUZZ_CASES", "200000")
    done = subprocess.run(
        [fuzzer, cases, "1", build("echo", "native")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]


def read(image: bytes) -> Elf | None:
    """The parsed image; None where it was refused, in one line."""
    try:
        return parse(image)
    except BadImage as error:
        if "\n" in str(error) or error.status != 126:
            raise
        return None


def header(klass: int, order: str) -> bytes:
    """A 64-bit or 32-bit header with room for hypothesis to fill in."""
    return b"\x7fELF" + bytes((klass, 1 if order == "little" else 2, 1)) + bytes(9)


@settings(max_examples=2000, deadline=None)
@given(
    klass=st.sampled_from([1, 2]),
    order=st.sampled_from(["little", "big"]),
    fields=st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3),
    headers=st.lists(
        st.tuples(
            st.sampled_from([1, 3, 6, 0x6474E551]), st.lists(st.integers(0, 2**20), min_size=6, max_size=6)
        ),
        max_size=6,
    ),
    tail=st.binary(max_size=300),
)
def test_made_up_headers_are_refused_or_true(klass, order, fields, headers, tail):
    wide = klass == 2
    word = 8 if wide else 4

    def number(value: int, width: int) -> bytes:
        return (value % (1 << 8 * width)).to_bytes(width, order)

    size = 64 if wide else 52
    image = header(klass, order) + number(2, 2) + number(183, 2) + number(1, 4)
    image += number(fields[0], word) + number(size, word) + number(0, word) + number(0, 4)
    image += number(size, 2) + number(56 if wide else 32, 2) + number(len(headers), 2) + bytes(6)
    for kind, (flags, offset, vaddr, filesz, memsz, align) in headers:
        if wide:
            image += number(kind, 4) + number(flags, 4)
            image += b"".join(
                number(value, 8) for value in (offset % 400, vaddr, vaddr, filesz % 200, memsz, align)
            )
        else:
            image += number(kind, 4)
            image += b"".join(
                number(value, 4) for value in (offset % 400, vaddr, vaddr, filesz % 200, memsz, flags, align)
            )
    whole = image + tail
    found = read(whole)
    if found is None:
        return
    end = -1
    for segment in found.segments:
        assert len(segment.data) <= segment.memsz
        assert segment.data in whole
        assert segment.vaddr > end
        end = segment.vaddr + segment.memsz - 1
        assert end < 1 << (64 if wide else 32)


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=400).map(lambda tail: b"\x7fELF\2\1\1" + tail) | st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_one_line(image):
    read(image)
