"""Firmware: an image in a ROM."""

from __future__ import annotations

from emu.loader.raw import read_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import Region
    from emu.loader.raw import Image


def fill_rom(rom: Region, firmware: Image, *, at_end: bool = False) -> None:
    """Puts firmware at the start of a ROM, or so that it ends with it, as x86's reset vector wants it.

    Raises BadImage when it is no file or larger than the ROM.
    """
    image = read_image(firmware, "firmware", rom.size)
    start = rom.size - len(image) if at_end else 0
    rom.buffer[start : start + len(image)] = image
