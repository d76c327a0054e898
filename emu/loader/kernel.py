"""A guest's kernel or bare-metal program: an ELF file, Linux' own format, or a raw image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from accel.errors import BadImage, MapError
from accel.memory import IO
from emu.loader.raw import WrongFile, read_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.loader.arm64_image import Arm64Image
    from emu.loader.elf import Elf
    from emu.loader.raw import Image
    from emu.machine import Machine

ELF_MAGIC = b"\x7fELF"
# A kernel's file, with all that debuggers want to know of it.
LARGEST = 4 << 30
# What boards have besides RAM that an ELF file may fill.
ROM_MOST = 64 << 20


class Loaded:
    """entry: where a kernel is entered; end: the first address behind what it uses."""

    __slots__ = ("end", "entry")

    def __init__(self, entry: int, end: int) -> None:
        self.entry = entry
        self.end = end


@contextmanager
def naming(kernel: Image) -> Iterator[None]:
    """Puts the file's name before what is wrong with it."""
    try:
        yield
    except WrongFile:
        raise  # names the file itself
    except (BadImage, MapError) as error:
        name = "" if isinstance(kernel, bytes) else f" {kernel}"
        raise BadImage(f"kernel{name}: {error}") from None


def load_kernel(machine: Machine, kernel: Image, base: int) -> Loaded:
    """Puts a kernel into memory.

    An ELF file goes to its physical addresses; an arm64 Linux kernel from a multiple of 2 MiB on, which is
    RAM's first on its board; anything else to `base`, where it is entered.  Raises BadImage for what cannot
    be read or does not fit.
    """
    image = read_image(kernel, "kernel", LARGEST)
    with naming(kernel):
        if not image.startswith(ELF_MAGIC):
            if machine.board.arch == "aarch64":
                from emu.loader.arm64_image import parse_arm64

                linux = parse_arm64(image)
                if linux is not None:
                    return _load_arm64(machine, linux)
            machine.memory.load(base, image)
            return Loaded(base, base + len(image))
        from emu.loader.elf import parse

        elf = parse(image)
        check_arch(machine.board.arch, elf)
        load_elf(machine, elf)
        end = max((segment.paddr + segment.memsz for segment in elf.segments), default=base)
        return Loaded(elf.physical(elf.entry), end)


def load_elf(machine: Machine, elf: Elf, taken: Iterable[tuple[int, int, str]] = ()) -> None:
    """Puts the segments of an ELF file to their physical addresses.

    taken: where none may lie, as (base, size, what is there).  Raises BadImage or MapError for what does not
    fit.
    """
    # Segments may lie over each other, but a file with more than memory holds would keep us busy for long.
    size = sum(len(segment.data) for segment in elf.segments)
    if size > machine.ram + ROM_MOST:
        raise BadImage(f"its segments have {size:#x} bytes, and the machine {machine.ram:#x}; it is damaged")
    for segment in elf.segments:
        for base, room, what in taken:
            if segment.paddr < base + room and base < segment.paddr + segment.memsz:
                raise BadImage(
                    f"its segment of {segment.memsz:#x} bytes at {segment.paddr:#x} lies over {what} at"
                    f" {base:#x}; link it elsewhere"
                )
        _room(machine, segment.paddr, segment.memsz)
    for segment in elf.segments:
        machine.memory.load(segment.paddr, segment.data)
        if machine.restarted:
            _zero(machine, segment.paddr + len(segment.data), segment.memsz - len(segment.data))


def _load_arm64(machine: Machine, linux: Arm64Image) -> Loaded:
    from emu.loader.arm64_image import ALIGN

    # The first 2 MiB are left to the device tree.
    at = machine.board.ram_base + ALIGN + linux.text_offset
    _room(machine, at, linux.room)
    machine.memory.load(at, linux.data)
    if machine.restarted:
        _zero(machine, at + len(linux.data), linux.room - len(linux.data))
    return Loaded(at, at + linux.room)


def check_arch(arch: str, elf: Elf) -> None:
    """Raises BadImage for a file that is for other CPUs."""
    from isa.arch import UnknownArch, by_elf

    try:
        found = by_elf(elf.machine, elf.elf_class, elf.data).name
    except UnknownArch as error:
        raise BadImage(str(error)) from None
    if found != arch:
        raise BadImage(f"it is for {found}, and this board is {arch}; use --arch {found}")


def _room(machine: Machine, address: int, size: int) -> None:
    """Raises MapError unless there is memory from `address` on for all of a segment."""
    end = address + size
    while address < end:
        piece = machine.memory.find(address) if address < 1 << 64 else None
        if piece is None or piece.region.kind == IO:
            raise MapError(
                f"a segment of {size:#x} bytes does not fit: no memory at {address:#x};"
                " give the machine more or load elsewhere"
            )
        address = piece.base + piece.size


def _zero(machine: Machine, address: int, size: int) -> None:
    """Zeros up to the segment's size what an earlier boot may have left there; new RAM is zero untouched."""
    zeros = bytes(min(size, 1 << 20))
    while size:
        piece = zeros[:size]
        machine.memory.load(address, piece)
        address += len(piece)
        size -= len(piece)
