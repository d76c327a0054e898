"""Linux' kernel image for x86, bzImage, entered in 64-bit mode.

Source: Linux' Documentation/arch/x86/boot.rst (the setup header, the 64-bit boot protocol) and zero-page.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from accel.errors import BadImage

SETUP = 0x1F1  # where the setup header begins, in the image as in the zero page
HEADER = b"HdrS"
OLDEST = 0x20C  # the protocol that tells of a 64-bit entry
KERNEL_64 = 1  # of xloadflags
ENTRY_64 = 0x200
LOADED_HIGH = 1
OTHER_LOADER = 0xFF
NORMAL_VIDEO = 0xFFFF
# What a header may ask for: one that lies must not send us out of any guest's memory.
LIMIT = 1 << 30
E820_MOST = 128
USABLE, RESERVED = 1, 2


class BzImage:
    """kernel: what is loaded, to `address`; room: bytes it wants there; initrd_limit: the first address that
    the initial RAM disk may not have; command_line: bytes it may be long, without its end."""

    __slots__ = ("address", "command_line", "header", "initrd_limit", "kernel", "room")

    address: int
    command_line: int

    def __init__(self, image: bytes) -> None:
        (sectors,) = struct.unpack_from("<B", image, SETUP)
        self.header = image[SETUP : 0x202 + image[0x201]]
        self.kernel = image[((sectors or 4) + 1) * 512 :]
        (limit,) = struct.unpack_from("<I", image, 0x22C)
        self.initrd_limit = limit + 1
        (self.command_line,) = struct.unpack_from("<I", image, 0x238)
        (self.address,) = struct.unpack_from("<Q", image, 0x258)
        (room,) = struct.unpack_from("<I", image, 0x260)
        self.room = max(room, len(self.kernel))

    @property
    def entry(self) -> int:
        """Where it is entered in 64-bit mode, RSI pointing to the zero page."""
        return self.address + ENTRY_64


def parse_bzimage(image: bytes) -> BzImage | None:
    """The kernel in `image`; None for what is no bzImage.  Raises BadImage for one that is broken or old."""
    if len(image) < 0x268 or image[0x202:0x206] != HEADER:
        return None
    (version,) = struct.unpack_from("<H", image, 0x206)
    (flags,) = struct.unpack_from("<H", image, 0x236)
    if version < OLDEST or not flags & KERNEL_64:
        raise BadImage(
            f"its boot protocol is {version >> 8}.{version & 0xFF:02}, without a 64-bit entry;"
            " use an x86-64 kernel"
        )
    kernel = BzImage(image)
    if len(kernel.kernel) <= ENTRY_64 or len(kernel.header) < 0x264 - SETUP:
        raise BadImage("it ends within its header; it is damaged")
    if kernel.address % 4096 or not 0x10_0000 <= kernel.address < LIMIT or kernel.room > LIMIT:
        raise BadImage(f"its header asks for {kernel.room:#x} bytes at {kernel.address:#x}; it is damaged")
    return kernel


def zero_page(
    kernel: BzImage,
    *,
    command_line: int,
    initrd: tuple[int, int],
    rsdp: int,
    memory: Iterable[tuple[int, int, int]],
) -> bytes:
    """The 4 KiB that the kernel is told of its machine by.

    command_line: its address; initrd: address and size; rsdp: the address of ACPI's; memory: the map, as
    (base, size, USABLE or RESERVED).
    """
    page = bytearray(4096)
    page[SETUP : SETUP + len(kernel.header)] = kernel.header
    entries = list(memory)[:E820_MOST]
    struct.pack_into("<Q", page, 0x070, rsdp)
    struct.pack_into("<II", page, 0x0C0, initrd[0] >> 32, initrd[1] >> 32)
    struct.pack_into("<I", page, 0x0C8, command_line >> 32)
    page[0x1E8] = len(entries)
    struct.pack_into("<H", page, 0x1FA, NORMAL_VIDEO)
    page[0x210] = OTHER_LOADER
    page[0x211] |= LOADED_HIGH
    struct.pack_into("<II", page, 0x218, initrd[0] & 0xFFFF_FFFF, initrd[1] & 0xFFFF_FFFF)
    struct.pack_into("<I", page, 0x228, command_line & 0xFFFF_FFFF)
    for number, entry in enumerate(entries):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * number, *entry)
    return bytes(page)
