"""bzImages: what the loader takes, and how it refuses what is none."""

from __future__ import annotations

import random
import struct

import pytest

from accel.errors import BadImage
from emu import Machine
from emu.loader.bzimage import SETUP, USABLE, parse_bzimage, zero_page


def made(**fields: int) -> bytearray:
    """A kernel of a page behind one sector of set-up."""
    image = bytearray(2 * 512 + 4096)
    image[SETUP] = 1
    image[0x201] = 0x264 - 0x202
    image[0x202:0x206] = b"HdrS"
    values = {"version": 0x20F, "flags": 1, "address": 0x100_0000, "room": 0x2000, "words": 2047, **fields}
    struct.pack_into("<H", image, 0x206, values["version"])
    struct.pack_into("<I", image, 0x22C, 0x7FFF_FFFF)
    struct.pack_into("<H", image, 0x236, values["flags"])
    struct.pack_into("<I", image, 0x238, values["words"])
    struct.pack_into("<Q", image, 0x258, values["address"])
    struct.pack_into("<I", image, 0x260, values["room"])
    return image


def test_a_kernel_is_taken_apart():
    kernel = parse_bzimage(bytes(made()))
    assert (kernel.entry, kernel.room, len(kernel.kernel)) == (0x100_0200, 0x2000, 4096)
    assert (kernel.command_line, kernel.initrd_limit) == (2047, 0x8000_0000)


def test_the_zero_page_has_the_header_and_what_the_machine_is():
    kernel = parse_bzimage(bytes(made()))
    page = zero_page(
        kernel,
        command_line=0x2_0000,
        initrd=(0x1_2345_6000, 77),
        rsdp=0xE_0000,
        memory=[(0, 0x9_F000, USABLE), (0x10_0000, 0x700_0000, USABLE)],
    )
    assert page[0x202:0x206] == b"HdrS"
    assert struct.unpack_from("<Q", page, 0x70) == (0xE_0000,)
    assert struct.unpack_from("<II", page, 0x218) == (0x2345_6000, 77)
    assert struct.unpack_from("<I", page, 0xC0) == (1,)
    assert page[0x1E8] == 2
    assert struct.unpack_from("<QQI", page, 0x2D0 + 20) == (0x10_0000, 0x700_0000, USABLE)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 0x208}, "boot protocol is 2.08"),
        ({"flags": 0}, "without a 64-bit entry"),
        ({"address": 0}, "damaged"),
        ({"address": 0x100_0001}, "damaged"),
        ({"address": 1 << 40}, "damaged"),
        ({"room": 0xFFFF_FFFF}, "damaged"),
    ],
)
def test_a_header_that_lies_is_refused(fields, reason):
    with pytest.raises(BadImage, match=reason):
        parse_bzimage(bytes(made(**fields)))


def test_one_that_ends_early_is_refused_or_none():
    whole = bytes(made())
    for size in range(0, 1024 + 0x201, 7):
        try:
            assert parse_bzimage(whole[:size]) is None
        except BadImage:
            pass


def test_noise_in_the_header_never_gets_past_the_checks():
    generator = random.Random(20)
    for _ in range(3000):
        image = made()
        for _ in range(generator.randrange(1, 9)):
            image[generator.randrange(SETUP, 0x268)] = generator.randrange(256)
        try:
            kernel = parse_bzimage(bytes(image))
        except BadImage:
            continue
        if kernel is not None:
            page = zero_page(kernel, command_line=0, initrd=(0, 0), rsdp=0, memory=[])
            assert len(page) == 4096


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kernel": bytes(made(room=0x1000_0000))}, "give the machine more"),
        ({"kernel": bytes(made(words=10)), "append": "quiet " * 10}, "this kernel takes 10"),
        ({"kernel": bytes(made()), "initrd": bytes(120 << 20)}, "initrd"),
    ],
)
def test_what_does_not_fit_the_machine_is_said(options, reason):
    with (
        Machine("microvm", accel="tcg", ram=128 << 20, **options) as machine,
        pytest.raises(BadImage, match=reason),
    ):
        machine.start()
