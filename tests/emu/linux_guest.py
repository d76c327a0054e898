"""Debian's arm64 kernel with a busybox as a guest: what it runs is a shell script."""

import gzip
import lzma
from pathlib import Path

import pytest

from accel.errors import Unavailable
from emu.backends.chardev import Chardev
from emu.loader.cpio import Archive
from emu.samples.debian import current, unpacked

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
. /script
poweroff -f
"""


def package(name: str) -> Path:
    """The folder of a Debian package for arm64."""
    try:
        return unpacked(name, "arm64")
    except Unavailable as error:
        pytest.skip(str(error))


def linux() -> Path:
    """The folder of the kernel's package."""
    try:
        return package(current("linux-image-arm64", "arm64"))
    except Unavailable as error:
        pytest.skip(str(error))


def image() -> bytes:
    """The kernel."""
    return next(linux().glob("boot/vmlinuz-*")).read_bytes()


def initrd(script: str, modules: tuple[str, ...] = ()) -> bytes:
    """An initial RAM disk that inserts modules and runs `script`, then switches the machine off."""
    archive = Archive()
    archive.file("bin/busybox", (package("busybox-static") / "bin/busybox").read_bytes(), 0o755)
    for name in ("proc", "sys", "dev", "tmp"):
        archive.folder(name)
    archive.device("dev/console", "c", 5, 1)
    lines = []
    for name in modules:
        found = next(file for end in ("", ".xz") for file in linux().rglob(f"{name}.ko{end}"))
        data = found.read_bytes()
        archive.file(f"modules/{name}.ko", lzma.decompress(data) if found.suffix == ".xz" else data)
        lines.append(f"insmod /modules/{name}.ko")
    archive.file("init", INIT.encode(), 0o755)
    archive.file("script", "\n".join([*lines, script, ""]).encode())
    return gzip.compress(archive.data(), 1)


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
