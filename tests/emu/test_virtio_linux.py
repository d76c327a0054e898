"""Debian's arm64 kernel drives the virtio devices: what its own drivers say is right."""

from __future__ import annotations

import hashlib
import os
import re

import pytest

import emu.block
from emu import Machine
from emu.virtio.blk import VirtioBlk
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd

# Seconds for a guest to boot, do its work and switch itself off; it takes about ten.
PATIENCE = 300


def guest(script: str, modules: tuple[str, ...], devices, *, force_legacy: bool = False, **options) -> str:
    """Boots Linux with these virtio devices, runs the script and returns what it printed after its mark."""
    screen = Screen()
    ram = initrd(f"echo BEGIN\n{script}\necho END", ("virtio_mmio", *modules))
    with Machine(
        "virt",
        arch="aarch64",
        ram=256 << 20,
        kernel=image(),
        initrd=ram,
        append="console=ttyAMA0 quiet",
        serial=screen,
        virtio=devices,
        force_legacy=force_legacy,
        **options,
    ) as machine:
        result = machine.run(timeout=PATIENCE)
    assert result.reason == "guest-shutdown", screen.text[-2000:]
    found = re.search(r"^BEGIN\n(.*)^END$", screen.text, re.DOTALL | re.MULTILINE)
    assert found, screen.text[-2000:]
    return found[1]


@pytest.mark.parametrize("force_legacy", [False, True])
def test_disks_and_entropy(tmp_path, force_legacy):
    for name, size in (("a", 8), ("b", 1)):
        (tmp_path / name).write_bytes(os.urandom(size << 20))
    disks = [
        VirtioBlk(emu.block.open(tmp_path / "a", format="raw"), serial="first"),
        VirtioBlk(emu.block.open(tmp_path / "b", format="raw", read_only=True), serial="second"),
    ]
    before = (tmp_path / "a").read_bytes()
    script = """
cat /sys/block/vda/serial; echo; cat /sys/block/vda/size /sys/block/vdb/ro /sys/block/vda/queue/write_cache
sha256sum /dev/vda /dev/vdb
dd if=/dev/vda of=/tmp/part bs=64k skip=3 count=20 2>/dev/null
dd if=/tmp/part of=/dev/vda bs=4k seek=1024 conv=notrunc,fsync 2>/dev/null
dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null && echo written
cat /sys/class/misc/hw_random/rng_current
dd if=/dev/hwrng bs=64 count=4 2>/dev/null | wc -c
"""
    text = guest(script, ("virtio_blk", "virtio-rng"), [*disks, VirtioRng()], force_legacy=force_legacy)
    part = before[3 << 16 : 23 << 16]
    assert text.split("\n")[:-1] == [
        "first",
        str(8 << 11),
        "1",
        "write back",
        f"{hashlib.sha256(before).hexdigest()}  /dev/vda",
        f"{hashlib.sha256((tmp_path / 'b').read_bytes()).hexdigest()}  /dev/vdb",
        "virtio_rng.0",
        "256",
    ]
    assert (tmp_path / "a").read_bytes() == before[: 4 << 20] + part + before[(4 << 20) + len(part) :]
