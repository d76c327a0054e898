"""Debian's kernel with a busybox as a guest: what it runs is a shell script."""

import ctypes
import struct
from pathlib import Path

import pytest

from accel.errors import Unavailable
from emu.backends.chardev import Chardev
from emu.images import busybox
from emu.samples.debian import unpacked


def package(name: str) -> Path:
    """The folder of a Debian package for arm64."""
    try:
        return unpacked(name, "arm64")
    except Unavailable as error:
        pytest.skip(str(error))


def image(architecture: str = "arm64") -> bytes:
    """The kernel."""
    try:
        return busybox.kernel(architecture=architecture).read_bytes()
    except Unavailable as error:
        pytest.skip(str(error))


def vmlinux() -> bytes:
    """What amd64's kernel is before it is compressed: an ELF file, by the offsets of the boot header."""
    packed = image("amd64")
    offset, size = struct.unpack_from("<II", packed, 0x248)
    start = (packed[0x1F1] + 1) * 512 + offset
    data = packed[start : start + size - 4]  # the size it has unpacked is behind it
    assert data[:4] == bytes.fromhex("02214c18"), "the kernel is not in LZ4 any more"
    try:
        lz4 = ctypes.CDLL("liblz4.so.1")
    except OSError:
        pytest.skip("liblz4, which unpacks the kernel, is not installed")
    block, parts, at = ctypes.create_string_buffer(8 << 20), [], 4
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        piece = data[at + 4 : at + 4 + length]
        done = lz4.LZ4_decompress_safe(piece, block, len(piece), len(block))
        assert done > 0
        parts.append(block.raw[:done])
        at += 4 + length
    return b"".join(parts)


def initrd(script: str, modules: tuple[str, ...] | None = (), architecture: str = "arm64") -> bytes:
    """An initial RAM disk that inserts modules (None: all), runs `script` and switches the machine off."""
    try:
        return busybox.initrd(script, modules=modules, architecture=architecture)
    except Unavailable as error:
        pytest.skip(str(error))


class Screen(Chardev):
    """A serial line's end: keeps what the guest sends, and wakes the machine, which asks its `until` then."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()

    def send(self, data: memoryview) -> int:
        self.sent += data
        if self._loop is not None:
            self._loop.wake()
        return len(data)

    @property
    def text(self) -> str:
        return self.sent.decode(errors="replace").replace("\r", "")

    def type(self, keys: bytes) -> None:
        assert self.front is not None
        with self.front.lock:
            assert self.front.room() >= len(keys)
            self.front.receive(keys)
