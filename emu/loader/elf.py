"""ELF files for machines: what goes where, and where it starts.

The C parser (emu/native/elf.c) checks every offset, size and count against the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from accel.errors import BadImage
from emu.native import ffi, lib


class Segment:
    """Bytes for memory: `data` at physical address paddr (virtual address vaddr), zeros up to memsz bytes."""

    __slots__ = ("data", "memsz", "paddr", "vaddr")

    def __init__(self, vaddr: int, paddr: int, memsz: int, data: memoryview) -> None:
        self.vaddr = vaddr
        self.paddr = paddr
        self.memsz = memsz
        self.data = data


class Elf:
    """A parsed file: its segments, entry point (virtual address), machine, class and data encoding as numbers
    of the ELF header; note_segments: bytes and alignment of each."""

    __slots__ = ("data", "elf_class", "entry", "machine", "note_segments", "segments")

    def __init__(
        self,
        machine: int,
        elf_class: int,
        data: int,
        entry: int,
        segments: list[Segment],
        note_segments: list[tuple[memoryview, int]],
    ) -> None:
        self.machine = machine
        self.elf_class = elf_class
        self.data = data
        self.entry = entry
        self.segments = segments
        self.note_segments = note_segments

    def physical(self, address: int) -> int:
        """The physical address of a virtual one; the same where no segment holds it."""
        for segment in self.segments:
            if segment.vaddr <= address < segment.vaddr + segment.memsz:
                return segment.paddr + address - segment.vaddr
        return address

    def notes(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Name, without its end, type and description of each note, up to one that is damaged.

        Source: System V gABI, "Note Section"; those of segments aligned to 8 bytes are padded to that.
        """
        order = "<" if self.data == 1 else ">"
        for data, align in self.note_segments:
            pad = 8 if align == 8 else 4
            at = 0
            while at + 12 <= len(data):
                name_size, size, kind = struct.unpack_from(order + "III", data, at)
                start = at + 12 + name_size + -(12 + name_size) % pad
                if start + size > len(data):
                    break
                name = bytes(data[at + 12 : at + 12 + name_size])
                yield name.rstrip(b"\0"), kind, bytes(data[start : start + size])
                at = start + size + -size % pad


def parse(image: bytes) -> Elf:
    """The segments and entry of an ELF file.  Raises BadImage for what is no valid one."""
    out = ffi.new("emu_elf *")
    text = ffi.new("char[256]")
    if lib.emu_elf_parse_bytes(ffi.from_buffer(image), len(image), out, text, 256) != 0:
        raise BadImage(ffi.string(text).decode(errors="replace"))
    # Views: the segments of a file that lies may all have the same bytes.
    view = memoryview(image)
    segments = [
        Segment(load.vaddr, load.paddr, load.memsz, view[load.offset : load.offset + load.filesz])
        for load in out.load[0 : out.loads]
    ]
    notes = [(view[note.offset : note.offset + note.size], note.align) for note in out.note[0 : out.notes]]
    return Elf(out.machine, out.elf_class, out.data, out.entry, segments, notes)
