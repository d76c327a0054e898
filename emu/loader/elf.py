"""ELF files for machines: what goes where, and where it starts.

The C parser (emu/native/elf.c) checks every offset, size and count against the file.
"""

from __future__ import annotations

from accel.errors import BadImage
from emu.native import ffi, lib


class Segment:
    """Bytes for memory: `data` at physical address paddr (virtual address vaddr), zeros up to memsz bytes."""

    __slots__ = ("data", "memsz", "paddr", "vaddr")

    def __init__(self, vaddr: int, paddr: int, memsz: int, data: bytes) -> None:
        self.vaddr = vaddr
        self.paddr = paddr
        self.memsz = memsz
        self.data = data


class Elf:
    """A parsed file: its segments, entry point (virtual address), machine, class and data encoding as numbers
    of the ELF header."""

    __slots__ = ("data", "elf_class", "entry", "machine", "segments")

    def __init__(self, machine: int, elf_class: int, data: int, entry: int, segments: list[Segment]) -> None:
        self.machine = machine
        self.elf_class = elf_class
        self.data = data
        self.entry = entry
        self.segments = segments

    def physical(self, address: int) -> int:
        """The physical address of a virtual one; the same where no segment holds it."""
        for segment in self.segments:
            if segment.vaddr <= address < segment.vaddr + segment.memsz:
                return segment.paddr + address - segment.vaddr
        return address


def parse(image: bytes) -> Elf:
    """The segments and entry of an ELF file.  Raises BadImage for what is no valid one."""
    out = ffi.new("emu_elf *")
    text = ffi.new("char[256]")
    if lib.emu_elf_parse_bytes(ffi.from_buffer(image), len(image), out, text, 256) != 0:
        raise BadImage(ffi.string(text).decode(errors="replace"))
    segments = [
        Segment(load.vaddr, load.paddr, load.memsz, image[load.offset : load.offset + load.filesz])
        for load in out.load[0 : out.loads]
    ]
    return Elf(out.machine, out.elf_class, out.data, out.entry, segments)
