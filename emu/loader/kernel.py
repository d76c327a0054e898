"""A guest's kernel or bare-metal program: an ELF file, or a raw image."""

from __future__ import annotations

from accel.errors import BadImage, MapError
from emu.loader.raw import read_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine

ELF_MAGIC = b"\x7fELF"


def load_kernel(machine: Machine, kernel: str | bytes, base: int) -> int:
    """Puts a kernel into memory and returns its entry point.

    An ELF file goes to its physical addresses; anything else to `base`, where it is entered.  Raises BadImage
    for what cannot be read or does not fit.
    """
    image = read_image(kernel, "kernel")
    try:
        if not image.startswith(ELF_MAGIC):
            machine.memory.load(base, image)
            return base
        from emu.loader.elf import parse

        elf = parse(image)
        for segment in elf.segments:
            if segment.data:
                machine.memory.load(segment.paddr, segment.data)
        return int(elf.entry)
    except MapError as error:
        name = "" if isinstance(kernel, bytes) else f" {kernel}"
        raise BadImage(f"kernel{name}: {error}") from None
