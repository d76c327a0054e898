"""Linux' kernel image for arm64: as it is, compressed by gzip, or in an EFI zboot wrapper.

Source: Linux' Documentation/arch/arm64/booting.rst, and drivers/firmware/efi/libstub/zboot-header.S for the
wrapper's header.
"""

from __future__ import annotations

import struct
import zlib

from accel.errors import BadImage

# The header's magic number at 56, "ARM\x64".
MAGIC = b"ARM\x64"
GZIP = b"\x1f\x8b"
# A wrapper is a PE file ("MZ") with "zimg" behind; payload's offset and size, and how it is compressed.
ZBOOT = b"zimg"
ALIGN = 2 << 20
# Kernels before 3.17 do not say how much room they want.
ROOM_UNKNOWN = 16 << 20
# What an image may grow to when it is unpacked: a header that lies must not fill the host's memory.
LIMIT = 1 << 30
# What the unpacker of xz may take; packing with -9e asks for 64 MiB there.
XZ_MEMORY = 256 << 20


class Arm64Image:
    """data: the image; text_offset: of its place from a multiple of 2 MiB; room: bytes it wants there."""

    __slots__ = ("data", "room", "text_offset")

    def __init__(self, data: bytes) -> None:
        self.data = data
        offset, room = struct.unpack_from("<QQ", data, 8)
        if room == 0:
            offset, room = 0x8_0000, ROOM_UNKNOWN
        self.text_offset = offset
        self.room = max(room, len(data))


def parse_arm64(image: bytes) -> Arm64Image | None:
    """The kernel in `image`; None for what is no arm64 kernel.  Raises BadImage for one that is broken."""
    if image[:2] == b"MZ" and image[4:8] == ZBOOT:
        image = _unwrap(image)
    if image[:2] == GZIP:
        unpacked = _gunzip(image)
        if unpacked[56:60] != MAGIC:
            return None
        image = unpacked
    if len(image) < 64 or image[56:60] != MAGIC:
        return None
    kernel = Arm64Image(image)
    if kernel.text_offset >= ALIGN or kernel.room > LIMIT:
        raise BadImage(
            f"its header asks for {kernel.room:#x} bytes at offset {kernel.text_offset:#x}; it is damaged"
        )
    return kernel


def _unwrap(image: bytes) -> bytes:
    at, size = struct.unpack_from("<II", image.ljust(64, b"\0"), 8)
    kind = image[24:56].partition(b"\0")[0].decode(errors="replace")
    payload = image[at : at + size]
    if len(payload) != size or size == 0:
        raise BadImage("its zboot header points outside the file; it is damaged")
    if kind == "gzip":
        return _gunzip(payload)
    if kind == "xz":
        import lzma

        unpacker = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
        try:
            unpacked = unpacker.decompress(payload, LIMIT)
        except lzma.LZMAError as error:
            raise BadImage(f"its compressed kernel is damaged ({error})") from None
        return _whole(unpacked, unpacker.eof)
    by = ascii(kind) if kind else "nobody"
    raise BadImage(f"its kernel is compressed by {by}, and emu unpacks gzip and xz; unpack it first")


def _gunzip(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        unpacked = stream.decompress(data, LIMIT)
    except zlib.error as error:
        raise BadImage(f"its compressed kernel is damaged ({error})") from None
    return _whole(unpacked, stream.eof)


def _whole(unpacked: bytes, ended: bool) -> bytes:
    if not ended:
        raise BadImage("its compressed kernel is cut short, or unpacks to more than 1 GiB; it is damaged")
    return unpacked
