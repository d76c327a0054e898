"""Debian's kernel with a busybox as a guest: what it runs is a shell script."""

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
