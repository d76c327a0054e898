"""Kernels for PCs that lie: bzImages and ELF files of a page, with fields that nobody expects."""

import random
import struct
from collections.abc import Iterator

from emu.loader.bzimage import SETUP
from emu.samples.elf import executable
from isa.arch import find
from tests.emu.pvh_guest import EM_386, EM_X86_64, kernel, note

LOOP = b"\xeb\xfe"
RAM = 16 << 20
# Where something is: tables and what a kernel is told, RAM's end, the boot ROM, 4 GiB, the last address.
PLACES = (0, 0x1_0000, 0x2_0000, 0xE_0000, 0xF_0000, 0x10_0000, RAM, 0xFFFF_0000, 1 << 32, 1 << 48, 1 << 64)


def bzimage() -> bytes:
    """One whose kernel, a page, loops at its 64-bit entry."""
    image = bytearray(2 * 512 + 0x200) + LOOP.ljust(4096, b"\xf4")
    image[SETUP] = 1
    image[0x201] = 0x264 - 0x202
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x20F)
    struct.pack_into("<I", image, 0x22C, 0x7FFF_FFFF)
    struct.pack_into("<H", image, 0x236, 1)
    struct.pack_into("<I", image, 0x238, 2047)
    struct.pack_into("<Q", image, 0x258, 0x10_0000)
    struct.pack_into("<I", image, 0x260, 0x2000)
    return bytes(image)


def files() -> list[tuple[bytes, range]]:
    """Sound files, each with the bytes that are worth changing."""
    notes = note(b"GNU", 3, bytes(20)) + note()
    made = [kernel(LOOP.ljust(64, b"\xf4"), notes=notes, kind=kind) for kind in (EM_X86_64, EM_386)]
    headers = [range(64 + 2 * 56), range(52 + 2 * 32)]
    found = [(image, span) for image, span in zip(made, headers, strict=True)]
    found += [(image, range(len(image) - len(notes), len(image))) for image in made]
    found.append((executable(find("x86-64"), LOOP, 0x40_0000), range(64 + 56)))
    found.append((bzimage(), range(SETUP, 0x268)))
    return found


def mutated(rng: random.Random, data: bytes, span: range) -> bytes:
    """Fields set to what nobody expects, mostly where the fields are; now and then an end cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        width = rng.choice((1, 2, 4, 4, 8, 8))
        at = rng.choice(span) & -min(width, 4) if rng.random() < 0.9 else rng.randrange(len(changed))
        near = rng.choice((rng.choice(PLACES), len(data), 1 << 8 * width - 1, 1 << 8 * width))
        value = rng.choice((near, near, near + rng.randrange(-64, 64), rng.getrandbits(8 * width)))
        changed[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    if rng.random() < 0.1:
        del changed[rng.randrange(1, len(changed)) :]
    return bytes(changed[: len(data)])


def damaged(seed: int, cases: int) -> Iterator[bytes]:
    """So many files; those cut at every byte of what their fields are in come first."""
    rng, sound = random.Random(seed), files()
    cut = (image[: at + 1] for image, span in sound for at in range(span.stop))
    for _, image in zip(range(cases // 2), cut, strict=False):
        yield image
    for _ in range(cases):
        yield mutated(rng, *rng.choice(sound))
